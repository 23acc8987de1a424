//! Where the file systems of a raw disk are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use gpt::disk::LogicalBlockSize;

use crate::error::{Context, Error, Kind, Result};

pub use content::Content;

mod content;
mod mbr;

/// A partition, or the whole disk where a file system lies on it without a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number as the kernel counts, from 1; none without a partition table.
    pub number: Option<u32>,
    /// Where it begins, bytes from the disk's start.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Its type in the table: a GUID, or a number as in `0x83`; empty without a partition table.
    pub kind: String,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// What is in it.
    pub content: Content,
    /// Label of the file system in it.
    pub label: Option<String>,
}

impl Partition {
    /// The byte after its last, from the disk's start.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    fn new(disk: &File, place: Place, kind: String, name: Option<String>) -> Result<Self> {
        let Place { number, start, length } = place;
        let (content, label) =
            content::recognise(disk, start, length).context(Kind::Host, || "cannot read the disk".to_owned())?;
        Ok(Self { number, start, length, kind, name, content, label })
    }
}

/// As in `partition 3 (ext4, label "root")`.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "partition {number}")?,
            None => f.write_str("the disk, which has no partitions")?,
        }
        match &self.label {
            Some(label) => write!(f, " ({}, label {label:?})", self.content),
            None => write!(f, " ({})", self.content),
        }
    }
}

/// Where a partition is, in bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: Option<u32>,
    start: u64,
    length: u64,
}

/// Sizes of a logical block that are in use.
const SECTORS: [(u64, LogicalBlockSize); 2] = [(512, LogicalBlockSize::Lb512), (4096, LogicalBlockSize::Lb4096)];

/// Finds the partitions of the raw `disk`, by their place on it; empty if there is neither a partition
/// table nor a known file system.
///
/// # Errors
/// The table is damaged (kind verification), or the file cannot be read (kind host).
pub fn find(disk: &File) -> Result<Vec<Partition>> {
    let size = disk.metadata().context(Kind::Host, || "cannot read the disk")?.len();
    let mut partitions = match find_gpt(disk, size)? {
        Some(partitions) => partitions,
        None => find_without_gpt(disk, size)?,
    };
    partitions.sort_by_key(|partition| partition.start);
    Ok(partitions)
}

fn find_gpt(disk: &File, size: u64) -> Result<Option<Vec<Partition>>> {
    for (sector, block) in SECTORS {
        let primary = gpt_header(disk, sector);
        let backup = size.checked_sub(sector).and_then(|last| gpt_header(disk, last / sector * sector));
        // A disk that got another partition table later may still have the backup.
        if primary.is_none() && !(backup.is_some() && mbr::is_protective(disk)) {
            continue;
        }
        // The crate panics on others, which nobody uses.
        if primary.into_iter().chain(backup).find(|header| header.sound).is_some_and(|header| header.entry_size != 128)
        {
            return Err(Error::new(Kind::Verification, "the GPT has entries of a size that is not in use"));
        }
        return read_gpt(disk, block, sector).map(Some);
    }
    Ok(None)
}

/// What matters of a GPT's header (UEFI 5.3.2).
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Bytes.
    entry_size: u32,
    /// Whether its checksum is right.
    sound: bool,
}

/// The header at `offset`, if one is there.
fn gpt_header(disk: &File, offset: u64) -> Option<Header> {
    let mut bytes = [0; 92];
    disk.read_exact_at(&mut bytes, offset).ok()?;
    let number = |at: usize| bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (checksum, entry_size) = (number(16), number(84));
    bytes[16..20].fill(0);
    bytes.starts_with(b"EFI PART").then(|| Header { entry_size, sound: crc32(&bytes) == checksum })
}

/// CRC-32 as in Ethernet, which GPT uses.
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

fn read_gpt(disk: &File, block: LogicalBlockSize, sector: u64) -> Result<Vec<Partition>> {
    let damaged = || "the GPT is damaged";
    let device = disk.try_clone().context(Kind::Host, || "cannot read the disk")?;
    // An image that was made larger has its backup not at its end.
    let config = gpt::GptConfig::new().writable(false).only_valid_headers(false).logical_block_size(block);
    let table = config.open_from_device(Box::new(device)).context(Kind::Verification, damaged)?;
    let used: BTreeMap<_, _> = table.partitions().iter().filter(|(_, entry)| entry.is_used()).collect();
    let partition = |(number, entry): (&u32, &gpt::partition::Partition)| {
        let sectors = entry.last_lba.checked_sub(entry.first_lba).and_then(|sectors| sectors.checked_add(1));
        let place = Option::zip(entry.first_lba.checked_mul(sector), sectors.and_then(|n| n.checked_mul(sector)));
        let (start, length) = place.ok_or_else(|| Error::new(Kind::Verification, damaged()))?;
        let name = Some(entry.name.clone()).filter(|name| !name.is_empty());
        let kind = entry.part_type_guid.guid.to_string();
        Partition::new(disk, Place { number: Some(*number), start, length }, kind, name)
    };
    used.into_iter().map(partition).collect()
}

fn find_without_gpt(disk: &File, size: u64) -> Result<Vec<Partition>> {
    let whole = Place { number: None, start: 0, length: size };
    let whole = Partition::new(disk, whole, String::new(), None)?;
    // A FAT's boot sector has the signature of a partition table; other file systems may be what was
    // on the disk before it was partitioned.
    if whole.content != Content::Fat {
        let table = mbr::read(disk, size).context(Kind::Host, || "cannot read the disk")?;
        if !table.is_empty() {
            return table.into_iter().map(|(place, kind)| Partition::new(disk, place, kind, None)).collect();
        }
    }
    Ok(if whole.content == Content::Unknown { Vec::new() } else { vec![whole] })
}

/// Reads up to `buffer`'s length from `offset`; what is behind the end is left as it is.
pub(super) fn read_at(disk: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match disk.read_at(&mut buffer[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
