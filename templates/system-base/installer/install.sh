#!/bin/sh
# What debian-installer runs on its way, as root of its own small system (busybox):
#   install.sh early|partman|late
# early: before its components are loaded. partman: with all of them there, before anything is written to the
# disk. late: with everything installed in /target.
# The folder of this script has what visabuild puts there: configure.sh and mke2fs.conf, both the bootstrap
# builder's, packages, the builder's list, and debian.sources, APT's sources for the installation.
# A failure ends the machine: nobody would answer a question. The serial console then has
# "visabuild: failed", otherwise "visabuild: installed".
set -eu

here=${0%/*}
stage=$1
target=/target

ended() {
  code=$?
  if [ "$code" != 0 ]; then
    {
      tail -n 40 /var/log/syslog
      echo "visabuild: failed: $stage of the installation, exit code $code"
    } >/dev/console 2>&1
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
  fi
}
trap ended EXIT

# Removes all hooks of a folder but the named ones.
keep() {
  folder=$1
  shift
  for hook in "$folder"/*; do
    case " $* " in
      *" ${hook##*/} "*) ;;
      *) rm -f "$hook" ;;
    esac
  done
}

# A program of a few lines.
hook() {
  printf '#!/bin/sh -e\n%s\n' "$2" >"$1"
  chmod 755 "$1"
}

early() {
  # It is run again when the answers come over the network.
  if [ -e "$here/kmod" ]; then
    return
  fi
  # As if partman had loaded what it offers beyond partitions: LVM and encryption.
  mkdir -p /var/lib/partman
  : >/var/lib/partman/loaded-extra
  # Network detection runs depmod twice over the initrd's own modules, whose index is in the initrd: most of a
  # minute under emulation. It is needed when anna has loaded others, partman's disk drivers among them.
  mkdir -p "$here/kmod"
  ln -s /bin/kmod "$here/kmod/depmod"
  rm -f /sbin/depmod
  hook /sbin/depmod "[ ! -e /lib/partman ] || exec $here/kmod/depmod \"\$@\""
}

partman() {
  # The file system's features are the bootstrap builder's, whatever e2fsprogs is newest here.
  cp "$here/mke2fs.conf" /etc/mke2fs.conf
  # No locale of the installer's language is there in the target.
  debconf-set debian-installer/locale C.UTF-8
  debconf-set pkgsel/include "$(cat "$here/packages")"

  # What would install packages or write files that the image is not to have (keyboard, locales, laptop-detect,
  # interfaces, consoles, logs, …). APT needs a name server.
  keep /usr/lib/base-installer.d
  hook /usr/lib/base-installer.d/40visabuild 'cp /etc/resolv.conf /target/etc/resolv.conf'
  keep /usr/lib/post-base-installer.d 01eatmydata-udeb
  keep /usr/lib/pre-pkgsel.d 10eatmydata-udeb
  keep /usr/lib/finish-install.d 07preseed 95umount 97release-dhcp-lease 99reboot
  # Nor what the installer's components have queued for the target (udev, pciutils, …).
  hook /usr/lib/post-base-installer.d/02visabuild 'rm -f /var/lib/apt-install/queue'
  rm -f /lib/partman/finish.d/70aptinstall_* /lib/partman/finish.d/50fstab_removable_media_entries

  # All sources at once instead of apt-setup's generators, which read the package lists for each line anew.
  keep /usr/lib/apt-setup/generators 01setup
  # The generator's own result is an empty file.
  # shellcheck disable=SC2016 # `$1` is what the hook is called with.
  hook /usr/lib/apt-setup/generators/50visabuild '
    : >"$1"
    : >/target/etc/apt/sources.list
    : >/target/etc/apt/sources.list.new
    cp '"$here"'/debian.sources /target/etc/apt/sources.list.d/debian.sources
    echo "Acquire::Languages \"none\";" >/target/etc/apt/apt.conf.d/90visabuild
    in-target apt-get update || in-target apt-get update'
}

# The disk of the root file system, and the number of its partition.
find_root() {
  partition=$(sed -n "s|^\(/dev/[^ ]*\) $target .*|\1|p" /proc/mounts)
  number=${partition##*[!0-9]}
  disk=${partition%"$number"}
  case $disk in
    *[0-9]p) disk=${disk%p} ;;
  esac
}

late() {
  find_root
  # What the installer left for itself.
  if [ -e /usr/bin/eatmydata-install ]; then
    eatmydata-install disable
  fi
  rm -f "$target"/etc/apt/apt.conf "$target"/etc/apt/apt.conf.d/00* "$target"/etc/apt/apt.conf.d/90visabuild \
    "$target"/etc/apt/sources.list~ "$target"/etc/dpkg/dpkg.cfg.d/force-unsafe-io "$target"/etc/kernel-img.conf
  rm -rf "$target"/media/cdrom* "$target"/var/log/installer "$target"/var/cache/debconf/tmp.ci
  # systemd-resolved's, which it does not make where the installer's file is.
  ln -sf ../run/systemd/resolve/stub-resolv.conf "$target/etc/resolv.conf"

  # d-i's own folder, which configure.sh is not to empty.
  umount "$target/run" 2>/dev/null || true
  # pkgsel may have taken them away.
  for folder in dev proc sys; do
    if ! grep -q " $target/$folder " /proc/mounts; then
      mount --bind "/$folder" "$target/$folder"
    fi
  done
  in_target dpkg --purge libtext-iconv-perl
  # By the target's own tools: busybox knows less. As a script's text, because /tmp is emptied.
  in_target sh -c "$(cat "$here/configure.sh")" configure.sh /
  cp "$here/debian.sources" "$target/etc/apt/sources.list.d/debian.sources"
  boot_loader
  # What was downloaded and deleted again takes no room in the image.
  sync
  fstrim "$target" || true
}

# Unlike d-i's in-target without diversions, whose traces dpkg's database would keep.
in_target() {
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 chroot "$target" "$@"
}

# GRUB for BIOS and, where firmware looks on a disk that it does not know, for UEFI.
boot_loader() {
  in_target sfdisk --quiet --no-reread --no-tell-kernel --part-type "$disk" 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B
  in_target sfdisk --quiet --no-reread --no-tell-kernel --part-type "$disk" "$number" \
    4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
  for name in 1:bios 2:EFI "$number:root"; do
    in_target sfdisk --quiet --no-reread --no-tell-kernel --part-label "$disk" "${name%:*}" "${name#*:}"
  done
  in_target grub-install --target=i386-pc --no-floppy "$disk"
  in_target grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
  in_target update-grub
}

"$stage"
if [ "$stage" = late ]; then
  echo "visabuild: installed" >/dev/console
fi
