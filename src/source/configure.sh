#!/bin/sh
# Turns what mmdebstrap made into the root of a cloud image. Runs natively, as root of the
# name space that made the tree, with the tree's path as its only argument.
# Everything here is a file: nothing is started, nothing asks the network.
set -eu

root=$1

write() {
  mkdir -p "$root${1%/*}"
  cat >"$root$1"
}

write /etc/fstab <<'END'
LABEL=root / ext4 errors=remount-ro 0 1
LABEL=EFI /boot/efi vfat umask=0077,nofail 0 0
END
mkdir -p "$root/boot/efi"

# The metadata of an instance sets the name; libnss-myhostname resolves whatever it is.
echo localhost | write /etc/hostname
chmod 644 "$root/etc/hostname"
write /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
END

echo LANG=C.UTF-8 | write /etc/default/locale

# Hidden, without delay: Shift (BIOS) or Esc (UEFI) still shows the menu. The last console= is
# /dev/console, which clouds offer as the instance's log.
write /etc/default/grub <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_TIMEOUT_STYLE=hidden
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
END

# Only sources that the platforms have: probing for the others costs seconds in every boot.
# RSA host keys cost seconds of the first boot and every current client knows the other two.
write /etc/cloud/cloud.cfg.d/90-image.cfg <<'END'
datasource_list: [ConfigDrive, OpenStack, NoCloud, None]
growpart: {mode: auto, devices: [/], ignore_growroot_disabled: false}
resize_rootfs: true
ssh_genkeytypes: [ed25519, ecdsa]
END

# Run even where no source is found: a machine without metadata still gets host keys and DHCP.
echo 'policy: search,found=all,maybe=none,notfound=enabled' | write /etc/cloud/ds-identify.cfg

# Names come from DNS; nothing listens for the neighbours' questions.
write /etc/systemd/resolved.conf.d/90-image.conf <<'END'
[Resolve]
LLMNR=no
MulticastDNS=no
END

# Services that only take time in a cloud image: it has no LVM to snapshot for e2scrub, and the
# menu is hidden whether or not the last boot succeeded.
for unit in e2scrub_reap.service e2scrub_all.timer grub-common.service; do
  if [ -e "$root/usr/lib/systemd/system/$unit" ]; then
    chroot "$root" systemctl --quiet disable "$unit"
  fi
done

# It would load the sockets of three hypervisors in every boot to offer SSH over them.
mkdir -p "$root/etc/systemd/system-generators"
ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-ssh-generator"

# Nothing in /usr is newer than the caches in /etc and /var (systemd-update-done.service(8)): the
# first boot need not rebuild them.
chroot "$root" ldconfig
chroot "$root" journalctl --quiet --update-catalog
touch --reference="$root/usr" "$root/etc/.updated" "$root/var/.updated"

# Each machine makes its own. An empty machine-id rather than a missing or `uninitialized` one:
# those make systemd turn on again what a template has disabled (machine-id(5), First Boot Semantics).
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
# systemd-resolved's package has kept the build host's name servers.
rm -f "$root/etc/.resolv.conf.systemd-resolved.bak"

# No password rather than an empty one.
sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow"

# What only mmdebstrap's own run needed; the sources and apt's settings may hold credentials of the
# host. The caller writes new sources.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" \
  "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
  "$root"/var/log/apt/* "$root"/var/log/*.log "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
  "$root"/tmp/* "$root"/run/*
