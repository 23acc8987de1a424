//! Which files hold a secret.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::forms::Form;
use super::matcher::Matcher;
use super::shown;
use crate::error::{Kind, Result};
use crate::verify::disk::files::{Entry, EntryKind, Files};
use crate::verify::disk::partitions::Partition;

/// Paths that are told for one secret in one form.
const MOST_PATHS: usize = 20;

/// The files that hold a secret in one form.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding {
    /// Their paths, sorted.
    pub(super) paths: Vec<String>,
    /// How many more there are.
    pub(super) more: u64,
    /// How often it is in all of them.
    pub(super) count: u64,
}

/// By number of the secret and form.
pub(super) type Held = BTreeMap<(usize, Form), Holding>;

/// The root file system and the number of its partition, if it can be read.
pub(super) fn root(disk: &File, partitions: &[Partition]) -> Option<(usize, Files)> {
    let files = Files::among(disk, partitions).ok()?;
    let at = partitions.iter().position(|partition| partition == files.partition())?;
    Some((at, files))
}

/// The search for files.
pub(super) struct Holders<'a> {
    matcher: &'a Matcher,
    /// What is read of one file: no file has more data than the disk, however large its holes are.
    most: u64,
    /// What may still be read of all of them; a damaged file system may show the same data often.
    left: u64,
    done: u64,
    held: Held,
}

impl<'a> Holders<'a> {
    /// A search on a disk that has `bytes` of data.
    pub(super) fn new(matcher: &'a Matcher, bytes: u64) -> Self {
        Self { matcher, most: bytes, left: bytes.saturating_mul(4), done: 0, held: Held::new() }
    }

    /// Searches the content of all `files`, their names, and the targets of links. `tell` gets the bytes
    /// that were read, and may stop it.
    ///
    /// # Errors
    /// What `tell` says. What is damaged is passed over: the search of the disk has seen its bytes.
    pub(super) fn find(mut self, files: &Files, tell: &dyn Fn(u64) -> Result<()>) -> Result<Held> {
        let walked = files.walk(|path, entry| {
            tell(self.done)?;
            match self.look_into(files, path, entry, tell) {
                Err(error) if error.kind() == Kind::Verification => Ok(()),
                other => other,
            }
        });
        match walked {
            Err(error) if error.kind() != Kind::Verification => Err(error),
            _ => Ok(self.held),
        }
    }

    fn look_into(&mut self, files: &Files, path: &Path, entry: &Entry, tell: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let mut counts = self.matcher.count(name);
        if let Some(target) = &entry.target {
            add(&mut counts, self.matcher.count(target.as_os_str().as_bytes()));
        }
        let mut read = Ok(());
        if entry.kind == EntryKind::File && entry.size > 0 {
            let mut stream = self.matcher.stream(0, None);
            let mut most = self.most.min(self.left);
            read = files.read_in_pieces(path, &mut |piece| {
                stream.push(piece, |needle, _| *counts.entry((needle.secret, needle.form)).or_default() += 1);
                self.done += piece.len() as u64;
                self.left = self.left.saturating_sub(piece.len() as u64);
                most = most.saturating_sub(piece.len() as u64);
                tell(self.done)?;
                Ok(most > 0)
            });
        }
        self.note(path, counts);
        read
    }

    fn note(&mut self, path: &Path, counts: BTreeMap<(usize, Form), u64>) {
        for (key, count) in counts {
            let holding = self.held.entry(key).or_default();
            holding.count += count;
            if holding.paths.len() < MOST_PATHS {
                holding.paths.push(shown(path, self.matcher));
            } else {
                holding.more += 1;
            }
        }
    }
}

fn add(counts: &mut BTreeMap<(usize, Form), u64>, more: BTreeMap<(usize, Form), u64>) {
    for (key, count) in more {
        *counts.entry(key).or_default() += count;
    }
}
