//! The parts of a sparse file that are not holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::matcher::Blocks;
use crate::error::{Context, Kind, Result};
use crate::verify::disk::partitions::read_at;

/// How much is read at once, bytes.
const PIECE: usize = 1 << 20;

/// The parts of `file` with data (lseek(2), SEEK_DATA); a file system that does not know is all data.
pub(super) fn of(file: &File) -> io::Result<Vec<Range<u64>>> {
    let size = file.metadata()?.len();
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is only a hole left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start)).unwrap_or(size).max(start + 1).min(size);
        segments.push(start..at);
    }
    Ok(segments)
}

/// Shows `each` the bytes of `segment` in pieces.
pub(super) fn read(file: &File, segment: &Range<u64>, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; PIECE.min(usize::try_from(segment.end - segment.start).unwrap_or(PIECE))];
    let mut at = segment.start;
    while at < segment.end {
        let length = usize::try_from(segment.end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact_at(&mut buffer[..length], at).context(Kind::Host, || "cannot read the disk")?;
        each(&buffer[..length])?;
        at += length as u64;
    }
    Ok(())
}

/// Shows `each` the `width` bytes before and behind every edge of a block in `segments`, until it says
/// that it is enough.
pub(super) fn edges(
    file: &File,
    segments: &[Range<u64>],
    blocks: &Blocks,
    width: usize,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
) -> Result<()> {
    for segment in segments {
        let mut next = blocks.next(segment.start);
        while let Some(edge) = next.filter(|edge| *edge <= segment.end) {
            let mut around = vec![0; 2 * width];
            let missing = usize::try_from(edge).map_or(0, |edge| width.saturating_sub(edge));
            read_at(file, &mut around[missing..], edge.saturating_sub(width as u64))
                .context(Kind::Host, || "cannot read the disk")?;
            let (before, after) = around.split_at(width);
            if !each(before, after)? {
                return Ok(());
            }
            next = blocks.next(edge + 1);
        }
    }
    Ok(())
}
