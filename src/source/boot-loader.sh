#!/bin/sh
# Makes the disk boot by itself: GRUB for BIOS (SeaBIOS) and for UEFI (OVMF), with the modules and
# programs in the places that firmware and cloud look for. Runs as root in the first boot, which
# QEMU started with kernel and initrd given directly. Running it again changes nothing.
set -eu

root=$(findmnt --noheadings --output SOURCE /)
disk=/dev/$(lsblk --noheadings --output PKNAME "$root")
mountpoint -q /boot/efi || mount /boot/efi

grub-install --target=i386-pc "$disk"
# The fallback path \EFI\BOOT, because a new instance's firmware has no boot entries.
grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
update-grub
sync
