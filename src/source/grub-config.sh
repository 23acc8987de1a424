#!/bin/sh
# Makes /boot/grub/grub.cfg where no disk is to be seen, with the distribution's own update-grub:
# the same file that it makes in a machine that runs from this disk, so that running it there
# changes nothing. Runs as root inside the root file system (a chroot or a container), with a
# tmpfs as /dev, in a mount name space that ends with it; nothing of it stays in the tree.
#   grub-config.sh ROOT_UUID ROOT_PARTUUID ROOT_PARTITION_NUMBER
set -eu

umask 022
programs=/dev/grub-config
# 10_linux names root by UUID only where udev knows it.
mkdir -p "$programs" /dev/disk/by-uuid
: >"/dev/disk/by-uuid/$1"

# What the real one says about the third partition of a virtio disk, for example. Every path and
# device that it is asked about is on the root file system.
cat >"$programs/grub-probe" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    --target=*) target=${1#*=} ;;
    --target | -t) target=$2 && shift ;;
  esac
  shift
done
case ${target-} in
  device) echo "/dev/vda$ROOT_PARTITION_NUMBER" ;;
  disk) echo /dev/vda ;;
  drive) echo "(hostdisk//dev/vda,gpt$ROOT_PARTITION_NUMBER)" ;;
  fs) echo ext2 ;;
  fs_uuid) echo "$ROOT_UUID" ;;
  partuuid) echo "$ROOT_PARTUUID" ;;
  partmap) echo gpt ;;
  abstraction | compatibility_hint | hints_string | cryptodisk_uuid) ;;
  *)
    echo "grub-probe: visabuild's stand-in does not know the target \`${target-}'" >&2
    exit 1
    ;;
esac
END

# The real one looks for the mount point on the host where root is a folder there.
cat >"$programs/grub-mkrelpath" <<'END'
#!/bin/sh
exec realpath "$1"
END

chmod 755 "$programs"/*
mount --no-mtab --bind "$programs/grub-probe" /usr/sbin/grub-probe
mount --no-mtab --bind "$programs/grub-mkrelpath" /usr/bin/grub-mkrelpath

# Nothing of the caller's environment, whose language would translate the menu; that of a login does.
exec env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  ROOT_UUID="$1" ROOT_PARTUUID="$2" ROOT_PARTITION_NUMBER="$3" sh -c '
    if [ -e /etc/default/locale ]; then
      set -a
      . /etc/default/locale
    fi
    exec update-grub'
