//! Looks for secrets in every byte of a disk.
//!
//! Everything that is allocated in the raw file is looked through: files, free space, journals,
//! swap, gaps and boot areas. A secret that is split over blocks which do not follow each other is
//! found by reading the files of the root file system, if that can be read. Nothing is decompressed or
//! decrypted, base64 in lines is not joined, and hashes are not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Disk;
use super::partitions::Partition;
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Phase, Redactor};

pub use forms::Form;

mod forms;
mod holders;
mod matcher;
mod segments;

use holders::{Held, Holders};
use matcher::{Blocks, Cut, Matcher};

/// Something that must not be in an image.
#[derive(Debug, Clone)]
pub struct Secret {
    /// What the user calls it.
    pub name: String,
    /// What must not be there.
    pub value: SecretString,
}

/// What a scan found. The text around a hit is nowhere in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Where secrets are, in the order of the secrets.
    pub hits: Vec<Hit>,
    /// Names of the secrets that were not looked for: below [`Redactor::SHORTEST`] bytes they would be
    /// found by chance.
    pub too_short: Vec<String>,
    /// How much was looked through, bytes.
    pub bytes: u64,
}

/// A secret in one form in one part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The secret's name.
    pub secret: String,
    /// How it is written there.
    pub form: Form,
    /// The part of the disk, as in `partition 3 (ext4)`.
    pub place: String,
    /// Where it is first, bytes from the disk's start; none if all occurrences are split over blocks
    /// that do not follow each other.
    pub offset: Option<u64>,
    /// How often it is there.
    pub count: u64,
    /// The files that hold it; a name that has the secret itself is left out of its path. None where
    /// files cannot be read.
    pub files: Option<Vec<String>>,
    /// How many more files hold it than are listed.
    pub more_files: u64,
}

/// A line for the user: what, how often, and where to look.
impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        write!(f, "`{}` ({}) {times} in {}", self.secret, self.form, self.place)?;
        if let Some(offset) = self.offset {
            write!(f, ", first at byte {offset} of the disk")?;
        }
        match &self.files {
            None => Ok(()),
            Some(files) if files.is_empty() => {
                f.write_str(": in no file, so in free space, a deleted file, the journal or metadata")
            }
            Some(files) => write!(f, ": {}", files.join(", ")),
        }?;
        if self.more_files > 0 { write!(f, " and {} more files", self.more_files) } else { Ok(()) }
    }
}

/// Looks for `secrets` on `disk`; tells its progress in bytes.
///
/// # Errors
/// The disk cannot be read (kind host), or `cancel` fires.
pub async fn scan(disk: &Disk, secrets: &[Secret], phase: &Phase, cancel: &CancellationToken) -> Result<Findings> {
    let (long, short): (Vec<_>, Vec<_>) =
        secrets.iter().partition(|secret| secret.value.expose_secret().len() >= Redactor::SHORTEST);
    let too_short = short.into_iter().map(|secret| secret.name.clone()).collect();
    if long.is_empty() {
        return Ok(Findings { too_short, ..Findings::default() });
    }
    let values: Vec<_> = long.iter().map(|secret| secret.value.expose_secret()).collect();
    // The thread ends soon when this future is dropped, too.
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    let (progress, mut told) = watch::channel((0, None));
    let job = Job {
        disk: disk.file()?,
        partitions: disk.partitions().to_vec(),
        matcher: Matcher::new(&values)?,
        names: long.iter().map(|secret| secret.name.clone()).collect(),
        cancel: stop,
        progress,
    };
    let mut running = tokio::task::spawn_blocking(move || job.run());
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            Ok(()) = told.changed() => {
                let (done, total) = *told.borrow_and_update();
                phase.progress(done, total, "bytes");
            }
        }
    };
    let findings = ended.context(Kind::Host, || "the search for secrets")??;
    Ok(Findings { too_short, ..findings })
}

/// How often progress is told, bytes.
const STEP: u64 = 8 << 20;

/// What one scan works on, away from the asynchronous threads.
struct Job {
    disk: File,
    partitions: Vec<Partition>,
    matcher: Matcher,
    names: Vec<String>,
    cancel: CancellationToken,
    progress: watch::Sender<(u64, Option<u64>)>,
}

/// A part of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Partition(usize),
    BeforeAll,
    Between,
    AfterAll,
}

/// Number of the secret, its form, and where it is.
type Key = (usize, Form, Part);

/// The first place and the number of occurrences.
type Seen = BTreeMap<Key, (u64, u64)>;

impl Job {
    fn run(&self) -> Result<Findings> {
        let root = holders::root(&self.disk, &self.partitions);
        let blocks = root.as_ref().map(|(_, files)| files.blocks()).map(|(range, size)| Blocks { range, size });
        let (seen, split, bytes) = self.search(blocks.as_ref())?;
        let in_root =
            |(_, _, part): &Key| matches!((part, &root), (Part::Partition(at), Some((root, _))) if at == root);
        let held = match &root {
            Some((_, files)) if split || seen.keys().any(in_root) => {
                Holders::new(&self.matcher, bytes).find(files, &|done| self.tell(done, None))?
            }
            _ => Held::new(),
        };
        Ok(Findings { hits: self.hits(seen, &held, root.map(|(at, _)| at)), too_short: Vec::new(), bytes })
    }

    /// Looks through the whole disk; also says whether a secret is probably split, and how many bytes it
    /// were.
    fn search(&self, blocks: Option<&Blocks>) -> Result<(Seen, bool, u64)> {
        let segments = segments::of(&self.disk).context(Kind::Host, || "cannot read the disk")?;
        let total = segments.iter().map(|segment| segment.end - segment.start).sum();
        let (mut seen, mut cuts, mut done) = (Seen::new(), BTreeSet::new(), 0);
        for segment in &segments {
            let mut stream = self.matcher.stream(segment.start, blocks);
            segments::read(&self.disk, segment, &mut |piece| {
                stream.push(piece, |needle, offset| {
                    let key = (needle.secret, needle.form, self.part(offset));
                    seen.entry(key).or_insert((offset, 0)).1 += 1;
                });
                done += piece.len() as u64;
                self.tell(done, Some(total))
            })?;
            cuts.extend(stream.finish());
        }
        let split = match blocks {
            Some(blocks) if !cuts.is_empty() => self.is_split(&segments, blocks, &cuts)?,
            _ => false,
        };
        Ok((seen, split, total))
    }

    /// Whether there are both sides of a string that is cut.
    fn is_split(&self, segments: &[Range<u64>], blocks: &Blocks, cuts: &BTreeSet<Cut>) -> Result<bool> {
        let mut split = false;
        segments::edges(&self.disk, segments, blocks, self.matcher.longest(), |before, after| {
            split = cuts.iter().any(|cut| cut.is_continued(&self.matcher, before, after));
            self.tell(0, None)?;
            Ok(!split)
        })?;
        Ok(split)
    }

    fn tell(&self, done: u64, total: Option<u64>) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "the search for secrets was stopped"));
        }
        self.progress.send_if_modified(|told| {
            let tells = told.1 != total || done.abs_diff(told.0) >= STEP;
            if tells {
                *told = (done, total);
            }
            tells
        });
        Ok(())
    }

    fn part(&self, offset: u64) -> Part {
        let partitions = &self.partitions;
        let inside = partitions.iter().position(|partition| (partition.start..partition.end()).contains(&offset));
        match inside {
            Some(at) => Part::Partition(at),
            None if partitions.iter().all(|partition| partition.start > offset) => Part::BeforeAll,
            None if partitions.iter().all(|partition| partition.end() <= offset) => Part::AfterAll,
            None => Part::Between,
        }
    }

    fn describe(&self, part: Part) -> String {
        match part {
            Part::Partition(at) => self.partitions[at].to_string(),
            Part::BeforeAll => "the boot area or partition table".to_owned(),
            Part::Between => "a gap between partitions".to_owned(),
            Part::AfterAll => "the disk's end, behind the last partition".to_owned(),
        }
    }

    fn hits(&self, seen: Seen, held: &Held, root: Option<usize>) -> Vec<Hit> {
        let mut all: BTreeMap<Key, (Option<u64>, u64)> =
            seen.into_iter().map(|(key, (offset, count))| (key, (Some(offset), count))).collect();
        if let Some(root) = root {
            // What only reading the files has found is split on the disk.
            for (&(secret, form), files) in held {
                all.entry((secret, form, Part::Partition(root))).or_insert((None, files.count));
            }
        }
        let hit = |((secret, form, part), (offset, count)): (Key, (Option<u64>, u64))| {
            let files = held.get(&(secret, form)).cloned().unwrap_or_default();
            let readable = root.is_some_and(|root| part == Part::Partition(root));
            Hit {
                secret: self.names[secret].clone(),
                form,
                place: self.describe(part),
                offset,
                count,
                more_files: if readable { files.more } else { 0 },
                files: readable.then_some(files.paths),
            }
        };
        all.into_iter().map(hit).collect()
    }
}

/// `path` for the user, without the names that have a secret in them.
fn shown(path: &Path, matcher: &Matcher) -> String {
    use std::os::unix::ffi::OsStrExt;
    let clean = path.ancestors().find(|part| matcher.count(part.as_os_str().as_bytes()).is_empty());
    match clean {
        Some(clean) if clean == path => path.display().to_string(),
        Some(clean) => format!("something in {}", clean.display()),
        None => "something".to_owned(),
    }
}

#[cfg(test)]
mod tests;
