//! The old partition table in a disk's first sector, with logical partitions in extended ones.
//!
//! Layout: <https://en.wikipedia.org/wiki/Master_boot_record>, as Linux reads it in
//! block/partitions/msdos.c: 4 entries of 16 bytes at 446, the signature 55 AA at 510.

use std::fs::File;
use std::io;

use super::{Place, read_at};

const SECTOR: u64 = 512;
const TABLE: usize = 446;
/// The type of the entry that covers a disk with a GPT (UEFI 5.2.3).
const PROTECTIVE: u8 = 0xee;
/// Types of a partition that holds others.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Where the chain of logical partitions of a damaged table is cut; Linux numbers no more than 256.
const MOST: usize = 256;

/// One entry; sectors of 512 bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u8,
    start: u64,
    count: u64,
}

/// Whether the first sector says that there is a GPT.
pub(super) fn is_protective(disk: &File) -> bool {
    matches!(entries(disk, 0), Ok(Some(entries)) if entries.iter().any(|entry| entry.kind == PROTECTIVE))
}

/// The partitions of a `disk` of `size` bytes and their types; empty if there is no table.
pub(super) fn read(disk: &File, size: u64) -> io::Result<Vec<(Place, String)>> {
    let Some(primary) = entries(disk, 0)? else { return Ok(Vec::new()) };
    // Boot code without a table looks like one with absurd entries.
    if primary.iter().any(|entry| entry.kind != 0 && entry.start * SECTOR >= size) {
        return Ok(Vec::new());
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(primary).filter(|(_, entry)| entry.kind != 0 && entry.count > 0) {
        if EXTENDED.contains(&entry.kind) {
            read_logical(disk, entry.start, &mut partitions)?;
        } else {
            partitions.push(partition(number, entry, 0));
        }
    }
    Ok(partitions)
}

/// Follows the chain of tables in the extended partition at sector `extended`; each has one
/// partition, relative to itself, and the next table, relative to the extended partition.
fn read_logical(disk: &File, extended: u64, partitions: &mut Vec<(Place, String)>) -> io::Result<()> {
    let mut at = extended;
    for number in 5.. {
        let Some(table) = entries(disk, at)? else { break };
        let is_link = |entry: &&Entry| EXTENDED.contains(&entry.kind) && entry.count > 0;
        if let Some(entry) = table.iter().find(|entry| entry.kind != 0 && entry.count > 0 && !is_link(entry)) {
            partitions.push(partition(number, *entry, at));
        }
        match table.iter().find(is_link) {
            // Forward only: a damaged chain may be a loop.
            Some(next) if extended + next.start > at && partitions.len() < MOST => at = extended + next.start,
            _ => break,
        }
    }
    Ok(())
}

fn partition(number: u32, entry: Entry, base: u64) -> (Place, String) {
    let start = (base + entry.start) * SECTOR;
    (Place { number: Some(number), start, length: entry.count * SECTOR }, format!("0x{:02x}", entry.kind))
}

/// The four entries of the table in `sector`; none if it has no signature or cannot be a table.
fn entries(disk: &File, sector: u64) -> io::Result<Option<[Entry; 4]>> {
    let mut bytes = [0; 512];
    read_at(disk, &mut bytes, sector * SECTOR)?;
    let raw: [&[u8]; 4] = std::array::from_fn(|n| &bytes[TABLE + 16 * n..TABLE + 16 * (n + 1)]);
    // The first byte of an entry is 80 for the partition to boot, and 0 for the others.
    if bytes[510..] != [0x55, 0xaa] || raw.iter().any(|entry| entry[0] & 0x7f != 0) {
        return Ok(None);
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let parse = |raw: &[u8]| Entry { kind: raw[4], start: number(&raw[8..12]), count: number(&raw[12..16]) };
    Ok(Some(raw.map(parse)))
}
