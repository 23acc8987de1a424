//! Which file system is the root, and why none can be read.

use std::cell::OnceCell;
use std::error::Error as StdError;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ext4_view::{Ext4, Ext4Read};

use super::Files;
use crate::error::{Context, Error, Kind, Result};
use crate::verify::disk::partitions::{Content, Partition};

/// What only a system's root has.
const SIGNS: [&str; 3] = ["/etc/os-release", "/usr/lib/os-release", "/sbin/init"];

/// Opens the root file system among `partitions` of the raw `disk`.
pub(super) fn find(disk: &File, partitions: &[Partition]) -> Result<Files> {
    let mut failures = Vec::new();
    for partition in partitions.iter().filter(|partition| partition.content.is_ext()) {
        match open(disk, partition) {
            Ok(Some(files)) => return Ok(files),
            Ok(None) => {}
            Err(error) => failures.push(error),
        }
    }
    // The first that could not be read is what the user wants to know of.
    Err(failures.into_iter().next().unwrap_or_else(|| none(partitions)))
}

fn open(disk: &File, partition: &Partition) -> Result<Option<Files>> {
    let failed = || format!("the file system of {partition} cannot be read");
    let superblock = Superblock::read(disk, partition).map_err(|error| error.context(failed()))?;
    let file = disk.try_clone().context(Kind::Host, failed)?;
    let window = Window { file, start: partition.start, length: partition.length };
    let fs = Ext4::load(Box::new(window)).context(Kind::Verification, failed)?;
    let (partition, users, groups) = (partition.clone(), OnceCell::new(), OnceCell::new());
    let files = Files { fs, partition, superblock, users, groups };
    for sign in SIGNS {
        if files.stat_link(sign)?.is_some() {
            return Ok(Some(files));
        }
    }
    Ok(None)
}

/// What the crate does not tell. Layout: the kernel's Documentation/filesystems/ext4/super.rst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    /// Bytes of a block.
    pub(super) block: u64,
}

impl Superblock {
    /// Reads it, and refuses one that is absurd: the crate allocates by what it claims.
    fn read(disk: &File, partition: &Partition) -> Result<Self> {
        const HAS_64_BITS: u32 = 0x80;
        let mut bytes = [0; 1024];
        let unreadable = || "its superblock cannot be read";
        disk.read_exact_at(&mut bytes, partition.start.saturating_add(1024)).context(Kind::Verification, unreadable)?;
        let number =
            |at: usize| bytes[at..at + 4].iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let high = if number(96) & HAS_64_BITS != 0 { number(0x150) } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(number(4));
        // The largest is 64 KiB.
        let block = Some(number(24)).filter(|exponent| *exponent <= 6).map(|exponent| 1024 << exponent);
        match block {
            Some(block) if blocks.checked_mul(block).is_some_and(|size| size <= partition.length) => {
                Ok(Self { inodes: number(0), block })
            }
            _ => Err(Error::new(Kind::Verification, "it claims to be larger than its partition")),
        }
    }
}

fn none(partitions: &[Partition]) -> Error {
    let error = |text: String| Error::new(Kind::Verification, text);
    let candidates = partitions.iter().filter(|partition| partition.content.can_be_root());
    let Some(root) = candidates.max_by_key(|partition| (!partition.content.is_ext(), partition.length)) else {
        return error("the disk has no file system that a system could be on".to_owned());
    };
    let content = root.content;
    match content {
        Content::Ext2 | Content::Ext3 | Content::Ext4 => {
            error(format!("no file system has one of {}: there is no system on the disk", SIGNS.join(", ")))
        }
        Content::Lvm => error(format!(
            "the root file system is in a logical volume ({root}), which visabuild cannot read without booting"
        )),
        Content::Luks => error(format!("the root file system is encrypted ({root}): it cannot be read")),
        _ => error(format!("the root file system is {content} ({root}), which visabuild cannot read without booting")),
    }
}

/// A partition, as the crate wants to read it.
struct Window {
    file: File,
    start: u64,
    length: u64,
}

impl Ext4Read for Window {
    fn read(&mut self, from: u64, into: &mut [u8]) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let end = from.checked_add(into.len() as u64).filter(|end| *end <= self.length);
        let offset =
            self.start.checked_add(from).filter(|_| end.is_some()).ok_or("a read behind the partition's end")?;
        Ok(self.file.read_exact_at(into, offset)?)
    }
}
