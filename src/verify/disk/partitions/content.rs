//! What a partition holds, by its magic numbers.

use std::fmt;
use std::fs::File;
use std::io;

use super::read_at;

/// What is in a partition. The magic numbers and their places are those of magic(5) and libblkid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// ext2.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// FAT12, FAT16 or FAT32, as an EFI system partition is.
    Fat,
    /// NTFS.
    Ntfs,
    /// A CD's file system.
    Iso9660,
    /// SquashFS.
    Squashfs,
    /// Swap space.
    Swap,
    /// A physical volume of LVM.
    Lvm,
    /// Encrypted by LUKS.
    Luks,
    /// Something else, or nothing, as in GRUB's BIOS boot partition.
    Unknown,
}

impl Content {
    /// Whether it is ext2, ext3 or ext4.
    pub fn is_ext(self) -> bool {
        matches!(self, Self::Ext2 | Self::Ext3 | Self::Ext4)
    }

    /// Whether a Linux system's root file system may be in it.
    pub(in crate::verify::disk) fn can_be_root(self) -> bool {
        self.is_ext()
            || matches!(self, Self::Xfs | Self::Btrfs | Self::Squashfs | Self::Iso9660 | Self::Lvm | Self::Luks)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Fat => "vfat",
            Self::Ntfs => "ntfs",
            Self::Iso9660 => "iso9660",
            Self::Squashfs => "squashfs",
            Self::Swap => "swap",
            Self::Lvm => "LVM",
            Self::Luks => "LUKS",
            Self::Unknown => "no known file system",
        })
    }
}

/// Bytes from a partition's start within which every magic number is.
const LOOKED_AT: usize = 68 << 10;
const EXT: usize = 1024;
const BTRFS: usize = 64 << 10;
/// Pages of the machines whose swap spaces end their first page with the signature.
const PAGES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

/// What is in the partition at `start` of `length` bytes, and its label.
pub(super) fn recognise(disk: &File, start: u64, length: u64) -> io::Result<(Content, Option<String>)> {
    let mut bytes = vec![0; LOOKED_AT];
    let looked_at = usize::try_from(length).map_or(LOOKED_AT, |length| length.min(LOOKED_AT));
    read_at(disk, &mut bytes[..looked_at], start)?;
    let content = content(&bytes);
    Ok((content, label(content, &bytes)))
}

fn content(bytes: &[u8]) -> Content {
    let at = |offset: usize, magic: &[u8]| bytes[offset..].starts_with(magic);
    let swap = |page: &usize| at(page - 10, b"SWAPSPACE2") || at(page - 10, b"SWAP-SPACE");
    // LVM's label may be in any of the first four sectors.
    let lvm = |sector: usize| at(sector * 512, b"LABELONE") && at(sector * 512 + 24, b"LVM2 001");
    // Containers first: what they hold, or held before, may show.
    match () {
        () if at(0, b"LUKS\xba\xbe") => Content::Luks,
        () if (0..4).any(lvm) => Content::Lvm,
        () if PAGES.iter().any(swap) => Content::Swap,
        () if at(0, b"XFSB") => Content::Xfs,
        () if at(BTRFS + 64, b"_BHRfS_M") => Content::Btrfs,
        () if at(EXT + 56, &[0x53, 0xef]) => ext(bytes),
        () if at(0, b"hsqs") => Content::Squashfs,
        () if at(3, b"NTFS    ") => Content::Ntfs,
        () if at(510, &[0x55, 0xaa]) && (at(54, b"FAT1") || at(82, b"FAT32")) => Content::Fat,
        () if at(32769, b"CD001") => Content::Iso9660,
        () => Content::Unknown,
    }
}

/// As libblkid tells them apart (libblkid/src/superblocks/ext.c): ext3 has a journal, ext4 something
/// that ext3 does not understand.
fn ext(bytes: &[u8]) -> Content {
    const JOURNAL: u32 = 4;
    const EXT3_KNOWS: u32 = 2 | 4 | 0x10;
    const EXT3_READS: u32 = 1 | 2 | 4;
    let flags = |offset| number(&bytes[EXT + offset..EXT + offset + 4]);
    let (compatible, incompatible, read_only) = (flags(92), flags(96), flags(100));
    match () {
        () if incompatible & !EXT3_KNOWS != 0 || read_only & !EXT3_READS != 0 => Content::Ext4,
        () if compatible & JOURNAL != 0 => Content::Ext3,
        () => Content::Ext2,
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn label(content: Content, bytes: &[u8]) -> Option<String> {
    let range = match content {
        Content::Ext2 | Content::Ext3 | Content::Ext4 => EXT + 120..EXT + 136,
        Content::Xfs => 108..120,
        Content::Btrfs => BTRFS + 0x12b..BTRFS + 0x22b,
        Content::Fat if bytes[82..].starts_with(b"FAT32") => 71..82,
        Content::Fat => 43..54,
        Content::Swap => 1052..1068,
        _ => return None,
    };
    let text = bytes[range].split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text).trim_end().to_owned();
    Some(text).filter(|text| !text.is_empty() && text != "NO NAME")
}
