//! The working folder of one run, and the leftovers of runs that were killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Cache, lock_file, try_lock};
use crate::error::{Context, Kind, Result};

/// Marks a working folder that the user asked to keep.
pub(super) const KEPT: &str = "kept";

/// A folder for one run's overlays, logs and sockets. It is removed when this value is dropped,
/// and by the next run if this one is killed.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    keep: bool,
    _lock: File,
}

impl WorkFolder {
    /// Makes one, after removing what killed runs left.
    ///
    /// # Errors
    /// The folder cannot be made (kind host).
    pub fn new(cache: &Cache) -> Result<(Self, Abandoned)> {
        let parent = cache.root().join("work");
        let abandoned = remove_abandoned(&parent)?;
        let path = tempfile::Builder::new()
            .prefix("run-")
            .rand_bytes(6)
            .tempdir_in(&parent)
            .context(Kind::Host, || format!("cannot make a folder in {}", parent.display()))?
            .keep();
        let lock = lock_file(&path.join("lock"))?;
        // Waits for who only looks whether it is locked.
        lock.lock().context(Kind::Host, || format!("cannot lock {}", path.display()))?;
        Ok((Self { path, keep: false, _lock: lock }, abandoned))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder for the user to look at; later runs leave it too.
    pub fn keep(&mut self) {
        self.keep = File::create(self.path.join(KEPT)).is_ok();
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Working folders of runs that were killed.
#[derive(Debug, Default)]
pub struct Abandoned {
    /// How many were removed.
    pub removed: usize,
    /// Those that hold files of an ordinary user's subordinate ids, which only a user namespace can
    /// remove (`source::bootstrap::clean`).
    pub left: Vec<PathBuf>,
}

fn remove_abandoned(parent: &Path) -> Result<Abandoned> {
    let mut found = Abandoned::default();
    let entries = fs::read_dir(parent).context(Kind::Host, || format!("cannot read {}", parent.display()))?;
    for folder in entries.flatten().map(|entry| entry.path()) {
        if folder.join(KEPT).exists() {
            continue;
        }
        // A folder without a lock file is being made by somebody, or lost its owner before that.
        let abandoned = match File::open(folder.join("lock")) {
            Ok(lock) => try_lock(&lock)?,
            Err(_) => is_old(&folder),
        };
        if !abandoned {
            continue;
        }
        match remove(&folder) {
            Ok(()) => found.removed += 1,
            Err(_) => found.left.push(folder),
        }
    }
    Ok(found)
}

/// Removes a working folder, its lock last: a folder that cannot be removed stays known as abandoned.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if entry.file_name() != "lock" {
            fs::remove_file(&path)?;
        }
    }
    fs::remove_dir_all(folder)
}

fn is_old(folder: &Path) -> bool {
    let age = fs::metadata(folder).and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_folders_are_removed_and_used_or_kept_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let abandoned = folder.path().join("work/run-abandoned");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join("lock"), "").unwrap();
        let (used, removed) = WorkFolder::new(&cache).unwrap();
        assert_eq!(removed.removed, 1);
        let (mut kept, removed) = WorkFolder::new(&cache).unwrap();
        assert_eq!(removed.removed, 0);
        kept.keep();
        let kept_path = kept.path().to_owned();
        drop(kept);
        let used_path = used.path().to_owned();
        drop(used);
        assert!(!used_path.exists());
        let (_third, removed) = WorkFolder::new(&cache).unwrap();
        assert_eq!(removed.removed, 0);
        assert!(kept_path.exists());
    }
}
