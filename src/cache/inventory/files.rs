//! Files of the cache: what they take, how old they are, who holds them.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use walkdir::WalkDir;

use super::{Item, ItemKind, Other, State, id};

/// After this long a lock of what is not there is removed, seconds. Who opened it and did not lock it yet must not be
/// left with a file that others do not see.
pub(super) const OLD_LOCK: u64 = 86400;

/// Folders of the cache that are looked into.
const KNOWN: [&str; 6] = ["bases", "layers", "checkpoints", "downloads", "packages", "work"];

/// After this long nobody writes beside a file any more, seconds.
const WRITING: u64 = 60;

/// Files that were counted already: one that has two names takes room once.
#[derive(Default)]
pub(super) struct Seen(BTreeSet<(u64, u64)>);

impl Seen {
    /// What `path` takes on the disk, bytes; nothing if it was counted before.
    pub(super) fn bytes(&mut self, path: &Path) -> u64 {
        let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
        // st_blocks is in units of 512 bytes (stat(2)), whatever the file system's blocks are.
        if self.0.insert((metadata.dev(), metadata.ino())) { metadata.blocks() * 512 } else { 0 }
    }

    /// What everything below `folder` takes, and how many files there are.
    pub(super) fn below(&mut self, folder: &Path) -> (u64, u64) {
        let files = WalkDir::new(folder).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
        files.map(|entry| self.bytes(entry.path())).fold((0, 0), |(all, count), bytes| (all + bytes, count + 1))
    }
}

/// The files of a folder, sorted by name; none if it is not there.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// When a file was last written to, seconds since 1970.
pub(super) fn modified(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| seconds(&metadata))
}

fn seconds(metadata: &Metadata) -> u64 {
    u64::try_from(metadata.mtime()).unwrap_or(0)
}

/// Whether somebody holds a lock on a file, shared or not. One that is not there is not held.
pub(in crate::cache) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// For how long nobody wrote to a file, seconds.
pub(super) fn age(path: &Path) -> u64 {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).map_or(0, |age| age.as_secs())
}

/// For how long a file that was written beside another ([`crate::cache::beside`]) has been left by a process that is
/// gone, seconds; none if it is no such file, or its process may still write.
pub(in crate::cache) fn leftover_age(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_string_lossy();
    let process: u32 = name.strip_prefix('.')?.strip_suffix(".new")?.rsplit_once('.')?.1.parse().ok()?;
    // A process in another name space has another number here: who still writes is told by the time, too.
    let gone = !Path::new("/proc").join(process.to_string()).exists();
    Some(age(path)).filter(|age| gone && *age >= WRITING)
}

/// A leftover of a writer that is gone, or what one writes just now; none if it is neither.
pub(super) fn beside(root: &Path, path: &Path, kind: ItemKind, seen: &mut Seen) -> Option<Item> {
    let name = path.file_name()?.to_string_lossy();
    if !(name.starts_with('.') && name.ends_with(".new")) {
        return None;
    }
    let item = match leftover_age(path) {
        Some(_) => Item::new(kind, id(root, path)?, State::Orphan).because("left by a process that is gone"),
        None => Item::new(kind, id(root, path)?, State::InUse).because("is being written"),
    };
    let (bytes, modified) = (seen.bytes(path), modified(path));
    Some(Item { bytes, created: modified, used: modified, files: vec![path.to_owned()], ..item })
}

/// What is in the cache beside that.
pub(super) fn others(root: &Path, seen: &mut Seen) -> io::Result<Vec<Other>> {
    let paths = list(root)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        (!KNOWN.contains(&name.as_str())).then_some((name, path))
    });
    let mut others: Vec<Other> = paths.map(|(name, path)| other(name, &path, seen)).collect();
    // What is left there: records and locks of downloads, say.
    let known = KNOWN.iter().map(|name| other(format!("{name} (records)"), &root.join(name), seen));
    others.extend(known);
    Ok(others.into_iter().filter(|other| other.bytes > 0).collect())
}

fn other(name: String, path: &Path, seen: &mut Seen) -> Other {
    let (bytes, files) = seen.below(path);
    Other { name, files, bytes }
}
