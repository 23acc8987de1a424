//! Finds many byte strings in a stream, and notices those that may be split.
//!
//! The automaton looks for the two halves of each string, and the rest is compared. So a string of
//! which only the bytes up to a block's end, or from a block's start, are there is noticed, too
//! ([`Cut`]): a file's next block may be elsewhere on the disk. Wherever a string is cut, one of its
//! halves is whole. (A string longer than a block may be cut twice; nobody has such secrets.)

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::forms::{self, Form};
use crate::error::{Context, Kind, Result};

/// Where a file system cuts files.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    /// The file system, bytes from the disk's start.
    pub(super) range: Range<u64>,
    /// Bytes of a block.
    pub(super) size: u64,
}

impl Blocks {
    /// The first start of a block at `offset` or behind it.
    pub(super) fn next(&self, offset: u64) -> Option<u64> {
        let inner = offset.saturating_sub(self.range.start).checked_next_multiple_of(self.size)?;
        let start = self.range.start.checked_add(inner)?;
        (start < self.range.end).then_some(start)
    }
}

/// One form of one secret.
pub(super) struct Needle {
    /// The secret's number.
    pub(super) secret: usize,
    /// The form.
    pub(super) form: Form,
    bytes: Vec<u8>,
    /// Length of the first half.
    half: usize,
}

/// What is looked for. No `Debug`: it holds the secrets.
pub(super) struct Matcher {
    needles: Vec<Needle>,
    /// Pattern 2n is the first half of needle n, 2n + 1 the second.
    automaton: AhoCorasick,
    longest: usize,
}

impl Matcher {
    pub(super) fn new(secrets: &[&str]) -> Result<Self> {
        let forms = secrets.iter().enumerate().flat_map(|(secret, value)| {
            forms::of(value).into_iter().map(move |(form, bytes)| {
                let half = bytes.len().div_ceil(2);
                Needle { secret, form, bytes, half }
            })
        });
        let needles: Vec<_> = forms.collect();
        let halves = needles.iter().flat_map(|needle| <[&[u8]; 2]>::from(needle.bytes.split_at(needle.half)));
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .build(halves)
            .context(Kind::Host, || "preparing the search for secrets")?;
        let longest = needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(0);
        Ok(Self { needles, automaton, longest })
    }

    /// Bytes of the longest string.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// How often each form of each secret is in `bytes`.
    pub(super) fn count(&self, bytes: &[u8]) -> BTreeMap<(usize, Form), u64> {
        let mut counts = BTreeMap::new();
        self.stream(0, None).push(bytes, |needle, _| *counts.entry((needle.secret, needle.form)).or_default() += 1);
        counts
    }

    /// A search in bytes that come in pieces, the first at `offset`; strings may be split where a block
    /// of `blocks` begins.
    pub(super) fn stream<'a>(&'a self, offset: u64, blocks: Option<&'a Blocks>) -> Stream<'a> {
        Stream { matcher: self, blocks, start: offset, offset, buffer: Vec::new(), cuts: BTreeSet::new() }
    }
}

/// A search in bytes that come in pieces.
pub(super) struct Stream<'a> {
    matcher: &'a Matcher,
    blocks: Option<&'a Blocks>,
    /// Of the first byte of all.
    start: u64,
    /// Of the buffer's first byte.
    offset: u64,
    /// The end of the pieces before, then the piece.
    buffer: Vec<u8>,
    cuts: BTreeSet<Cut>,
}

/// A string of which one side is at the edge of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cut {
    needle: usize,
    /// How many of its bytes are before the cut.
    at: usize,
    /// Whether the start was seen, and not the end.
    start: bool,
}

impl Cut {
    /// Whether the other side is at the edge between `before` and `after`.
    pub(super) fn is_continued(self, matcher: &Matcher, before: &[u8], after: &[u8]) -> bool {
        let (start, end) = matcher.needles[self.needle].bytes.split_at(self.at);
        if self.start { after.starts_with(end) } else { before.ends_with(start) }
    }
}

impl Stream<'_> {
    /// Searches one more piece; `hit` gets what is found and its offset.
    pub(super) fn push(&mut self, piece: &[u8], mut hit: impl FnMut(&Needle, u64)) {
        // What was at the end may begin a string.
        let kept = self.buffer.len().min(self.matcher.longest.saturating_sub(1));
        let gone = self.buffer.len() - kept;
        self.buffer.drain(..gone);
        self.offset += gone as u64;
        self.buffer.extend_from_slice(piece);
        for found in self.matcher.automaton.find_overlapping_iter(&self.buffer) {
            let (number, second) = (found.pattern().as_usize() / 2, found.pattern().as_usize() % 2 == 1);
            let needle = &self.matcher.needles[number];
            let whole = !second && self.buffer[found.start()..].starts_with(&needle.bytes);
            if whole {
                // What lies in the kept bytes was told before.
                if found.start() + needle.bytes.len() > kept {
                    hit(needle, self.offset + found.start() as u64);
                }
                continue;
            }
            let at =
                if second { self.cut_before(needle, found.start()) } else { self.cut_behind(needle, found.start()) };
            if let Some(at) = at {
                self.cuts.insert(Cut { needle: number, at, start: !second });
            }
        }
    }

    /// What may be split.
    pub(super) fn finish(mut self) -> BTreeSet<Cut> {
        if self.blocks.is_none() {
            return self.cuts;
        }
        let end = &self.buffer[self.buffer.len().saturating_sub(self.matcher.longest)..];
        for found in self.matcher.automaton.find_overlapping_iter(end) {
            let (needle, second) = (found.pattern().as_usize() / 2, found.pattern().as_usize() % 2 == 1);
            let (bytes, there) = (&self.matcher.needles[needle].bytes, &end[found.start()..]);
            if !second && there.len() < bytes.len() && bytes.starts_with(there) {
                self.cuts.insert(Cut { needle, at: there.len(), start: true });
            }
        }
        self.cuts
    }

    /// Where a string is cut whose first half is at `at`, if it goes on right up to a block's end. If that
    /// is not here yet, the next piece or `finish` tells.
    fn cut_behind(&self, needle: &Needle, at: usize) -> Option<usize> {
        let cut = self.block(at + needle.half)?;
        let there = self.buffer.get(at..cut)?;
        (there.len() < needle.bytes.len() && needle.bytes.starts_with(there)).then_some(there.len())
    }

    /// Where a string is cut whose second half is at `at`, if it goes back right to a block's start.
    fn cut_before(&self, needle: &Needle, at: usize) -> Option<usize> {
        let first = &needle.bytes[..needle.half];
        let cut = match at.checked_sub(needle.half) {
            // The whole string was told by its first half.
            Some(start) if self.buffer[start..at] == *first => None,
            Some(start) => self.block(start + 1).filter(|cut| *cut <= at),
            // Nothing is known of what was before all.
            None if self.offset == self.start => self.blocks.map(|_| 0),
            None => None,
        }?;
        let there = &self.buffer[cut..at];
        first.ends_with(there).then_some(needle.half - there.len())
    }

    /// Where in the buffer the first block begins that does not begin before `at`.
    fn block(&self, at: usize) -> Option<usize> {
        let next = self.blocks?.next(self.offset + at as u64)?;
        usize::try_from(next - self.offset).ok()
    }
}
