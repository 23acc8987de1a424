#!/bin/sh
# Puts GRUB for BIOS and for UEFI into a root file system, as grub-install does, which needs the
# disk to be a device. Runs natively, as root of name spaces of its own, which take the mounts along.
#   boot-loader.sh TREE GRUB_CONFIG_SCRIPT ROOT_UUID ROOT_PARTUUID ROOT_PARTITION_NUMBER
# The images for the disk are then /boot/grub/i386-pc/{boot,core}.img and /boot/grub/x86_64-efi/core.efi.
set -eu

root=$1
grub_config=$2
number=$5
shift 2

umask 022
grub=$root/boot/grub
# The partition on whatever disk GRUB was loaded from.
prefix="(,gpt$number)/boot/grub"

# A file of the tree where there is one, into a folder of /boot/grub.
copy() {
  if [ -e "$1" ]; then
    cp "$1" "$grub/$2"
  fi
}

for platform in i386-pc x86_64-efi; do
  from=$root/usr/lib/grub/$platform
  mkdir -p "$grub/$platform"
  cp "$from"/*.mod "$from/modinfo.sh" "$grub/$platform"
  for list in command crypto fs moddep partmap parttool terminal video; do
    copy "$from/$list.lst" "$platform"
  done
done
for file in boot.img efiemu32.o efiemu64.o; do
  copy "$root/usr/lib/grub/i386-pc/$file" i386-pc
done
mkdir -p "$grub/fonts" "$grub/locale"
copy "$root/usr/share/grub/unicode.pf2" fonts
for catalogue in "$root"/usr/share/locale/*/LC_MESSAGES/grub.mo; do
  language=${catalogue#"$root"/usr/share/locale/}
  copy "$catalogue" "locale/${language%%/*}.mo"
done

# A user name space cannot make device nodes, but it can bind those that are there.
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t proc proc "$root/proc"

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot "$root" grub-editenv /boot/grub/grubenv create
# The modules that grub-install chooses for ext4 on a GPT: byte for byte its images.
chroot "$root" grub-mkimage --format=i386-pc --prefix="$prefix" \
  --output=/boot/grub/i386-pc/core.img ext2 part_gpt biosdisk
chroot "$root" grub-mkimage --format=x86_64-efi --prefix="$prefix" \
  --output=/boot/grub/x86_64-efi/core.efi ext2 part_gpt
chroot "$root" sh -c "$grub_config" grub-config.sh "$@"
