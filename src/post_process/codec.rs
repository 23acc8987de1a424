//! Compression on all processors: the stream is cut into pieces that are compressed side by side and written in order.
//!
//! Each piece is a part of its own in the format: a block of one gzip member behind a sync flush (RFC 1951, 3.2.4; the
//! member's CRC is put together from those of the pieces), a BGZF block, or a whole xz stream, bzip2 stream, LZ4 or
//! Zstandard frame, of which every decoder takes several one after another. So the size of the pieces bounds the memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression as Deflate, Crc, FlushCompress, Status};
use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

use crate::machine;
use crate::template::post_processor::Compression;

/// Most pieces at a time.
const MOST: usize = 8;
/// What an xz encoder takes beside its piece, MiB (xz(1), level 6: 94 MiB).
const XZ_MEMORY: u64 = 100;
/// Largest content of a BGZF block, bytes, as bgzip(1) has it: its block stays below 64 KiB.
const BGZF_BLOCK: usize = 0xff00;
/// The empty block that ends a BGZF file (SAM specification, section 4.1.2).
const BGZF_END: [u8; 28] = [
    0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff, 0x06, 0, 0x42, 0x43, 0x02, 0, 0x1b, 0, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A piece, and where its compressed form goes.
type Job = (Vec<u8>, bool, Sender<io::Result<Piece>>);

/// A compressed piece.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// Of its content.
    crc: Crc,
}

/// Compresses what is written to it.
#[derive(Debug)]
pub(super) struct Encoder<W> {
    out: W,
    compression: Compression,
    /// What is not a whole piece yet.
    buffer: Vec<u8>,
    /// Pieces on their way, in order.
    pending: VecDeque<Receiver<io::Result<Piece>>>,
    jobs: Sender<Job>,
    workers: usize,
    /// Of all that was written out.
    crc: Crc,
    has_begun: bool,
}

impl<W: Write> Encoder<W> {
    /// An encoder that writes to `out`; no level is the format's own default.
    pub(super) fn new(out: W, compression: Compression, level: Option<u32>) -> Self {
        let workers = workers(compression);
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work(&queue, compression, level));
        }
        let (buffer, pending, crc) = (Vec::new(), VecDeque::new(), Crc::new());
        Self { out, compression, buffer, pending, jobs, workers, crc, has_begun: false }
    }

    /// Compresses the rest and returns what was written to.
    ///
    /// # Errors
    /// What was written to cannot take it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.compression != Compression::None {
            self.send(true)?;
        }
        while self.take()? {}
        match self.compression {
            Compression::Gzip => {
                self.out.write_all(&self.crc.sum().to_le_bytes())?;
                self.out.write_all(&self.crc.amount().to_le_bytes())?;
            }
            Compression::Bgzf => self.out.write_all(&BGZF_END)?,
            _ => {}
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Gives the piece in the buffer to the workers, and writes what is in the way.
    fn send(&mut self, is_last: bool) -> io::Result<()> {
        if !self.has_begun && self.compression == Compression::Gzip {
            // No flags, no time, no name; unknown system (RFC 1952, 2.3).
            self.out.write_all(&[0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff])?;
        }
        let is_needed = !self.buffer.is_empty() || !self.has_begun || self.compression == Compression::Gzip;
        self.has_begun = true;
        if !is_needed {
            return Ok(());
        }
        while self.pending.len() > self.workers {
            self.take()?;
        }
        let (reply, piece) = mpsc::channel();
        let gone = |_| io::Error::other("the threads that compress have ended");
        self.jobs.send((std::mem::take(&mut self.buffer), is_last, reply)).map_err(gone)?;
        self.pending.push_back(piece);
        Ok(())
    }

    /// Writes the next piece out; says whether there was one.
    fn take(&mut self) -> io::Result<bool> {
        let Some(piece) = self.pending.pop_front() else { return Ok(false) };
        let piece = piece.recv().map_err(|_| io::Error::other("a thread that compresses has ended"))??;
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.bytes)?;
        Ok(true)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.out.write(bytes);
        }
        let size = piece_size(self.compression);
        let count = bytes.len().min(size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == size {
            self.send(false)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn workers(compression: Compression) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from).min(MOST);
    match compression {
        Compression::None => 0,
        Compression::Xz => processors.min(machine::how_many_fit(XZ_MEMORY)).max(1),
        _ => processors,
    }
}

/// Bytes of a piece: what is lost at its borders does not matter, and neither does its memory.
fn piece_size(compression: Compression) -> usize {
    match compression {
        Compression::None => usize::MAX,
        Compression::Gzip => 1 << 20,
        Compression::Bgzf => 16 * BGZF_BLOCK,
        Compression::Lz4 => 4 << 20,
        Compression::Bzip2 => 5 * 900_000,
        Compression::Xz | Compression::Zstd => 8 << 20,
    }
}

fn work(queue: &Mutex<Receiver<Job>>, compression: Compression, level: Option<u32>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((bytes, is_last, reply)) = next else { return };
        let mut crc = Crc::new();
        crc.update(&bytes);
        let piece = compressed(&bytes, compression, level, is_last).map(|bytes| Piece { bytes, crc });
        // Whoever asked has failed meanwhile.
        let _ = reply.send(piece);
    }
}

fn compressed(bytes: &[u8], compression: Compression, level: Option<u32>, is_last: bool) -> io::Result<Vec<u8>> {
    let deflate = level.map_or_else(Deflate::default, Deflate::new);
    match compression {
        Compression::None => Ok(bytes.to_owned()),
        Compression::Gzip => deflated(bytes, deflate, is_last),
        Compression::Bgzf => bgzf(bytes, deflate),
        Compression::Lz4 => {
            let info = FrameInfo::new().block_size(BlockSize::Max4MB).content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len()));
            encoder.write_all(bytes)?;
            Ok(encoder.finish()?)
        }
        Compression::Xz => {
            let mut options = LzmaOptions::new_preset(level.unwrap_or(6))?;
            let most = u32::try_from(piece_size(compression)).unwrap_or(u32::MAX);
            options.dict_size(most.min(dictionary(level.unwrap_or(6))));
            let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc64)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Bzip2 => {
            let level = level.map_or_else(bzip2::Compression::best, bzip2::Compression::new);
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Zstd => {
            let level = level.and_then(|level| i32::try_from(level).ok()).unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
            encoder.include_checksum(true)?;
            encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
            encoder.write_all(bytes)?;
            encoder.finish()
        }
    }
}

/// The dictionary of a level of xz(1), bytes.
fn dictionary(level: u32) -> u32 {
    match level {
        0 => 1 << 18,
        1 => 1 << 20,
        2 => 1 << 21,
        3 | 4 => 1 << 22,
        5 | 6 => 1 << 23,
        7 => 1 << 24,
        8 => 1 << 25,
        _ => 1 << 26,
    }
}

/// Deflated data that end at a whole byte, or the stream.
fn deflated(bytes: &[u8], level: Deflate, is_last: bool) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(level, false);
    let mut out = Vec::with_capacity(bytes.len() / 2 + 1024);
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        // Bytes of one piece.
        #[allow(clippy::cast_possible_truncation)]
        let done = deflate.total_in() as usize;
        let status = deflate.compress_vec(&bytes[done..], &mut out, flush).map_err(io::Error::other)?;
        let is_complete = if is_last {
            status == Status::StreamEnd
        } else {
            deflate.total_in() == bytes.len() as u64 && out.len() < out.capacity()
        };
        if is_complete {
            return Ok(out);
        }
        out.reserve(bytes.len() / 2 + 1024);
    }
}

/// BGZF blocks: gzip members that say their own size.
fn bgzf(bytes: &[u8], level: Deflate) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    for block in bytes.chunks(BGZF_BLOCK) {
        let mut data = deflated(block, level, true)?;
        let size = |data: &[u8]| u16::try_from(data.len() + 25);
        if size(&data).is_err() {
            data = deflated(block, Deflate::none(), true)?;
        }
        let size = size(&data).map_err(io::Error::other)?;
        let mut crc = Crc::new();
        crc.update(block);
        out.extend([0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff, 0x06, 0, 0x42, 0x43, 0x02, 0]);
        out.extend(size.to_le_bytes());
        out.extend(data);
        out.extend(crc.sum().to_le_bytes());
        out.extend(crc.amount().to_le_bytes());
    }
    Ok(out)
}
