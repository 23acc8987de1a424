//! What this host has begun in a cloud and not brought to an end: the next run finds it and takes it
//! away, and nobody else's.
//!
//! A record is written before the first request, and held locked while its run lives. So a record that
//! can be locked belongs to a run that is gone, however it went.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, try_lock};
use crate::error::{Context, Kind, Result};

/// What was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// Keystone's address.
    pub auth_url: String,
    /// The project's id.
    pub project: String,
    /// The id that the image has or was to get.
    pub image: String,
}

/// A record of this run. It stays on disk if the run is killed.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    _lock: File,
}

/// A record of a run that is gone.
#[derive(Debug)]
pub(super) struct Leftover {
    pub begun: Begun,
    entry: PathBuf,
    _lock: File,
}

fn folder(cache: &Cache) -> PathBuf {
    cache.root().join("uploads")
}

impl Entry {
    /// Writes down what is about to begin.
    pub fn begin(cache: &Cache, begun: &Begun) -> Result<Self> {
        let folder = folder(cache);
        let path = folder.join(format!("{}.json", begun.image));
        let fail = || format!("cannot write down in {} what is uploaded", folder.display());
        fs::create_dir_all(&folder).context(Kind::Host, fail)?;
        let json = serde_json::to_vec(begun).context(Kind::Host, fail)?;
        loop {
            let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = opened.context(Kind::Host, fail)?;
            file.lock().context(Kind::Host, fail)?;
            // Before it was locked another run may have taken it for the torn one of a run that is gone.
            if file.metadata().context(Kind::Host, fail)?.nlink() == 0 {
                continue;
            }
            file.write_all(&json).and_then(|()| file.sync_all()).context(Kind::Host, fail)?;
            return Ok(Self { path, _lock: file });
        }
    }

    /// All is brought to its end, or taken back.
    pub fn done(self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Leftover {
    /// It is taken away.
    pub fn done(self) {
        let _ = fs::remove_file(&self.entry);
    }
}

/// What runs that are gone have left in this project.
pub(super) fn leftovers(cache: &Cache, auth_url: &str, project: &str) -> Result<Vec<Leftover>> {
    let folder = folder(cache);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(Kind::Host, || format!("cannot read {}", folder.display())),
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let found = paths.into_iter().filter_map(|path| leftover(&path));
    Ok(found.filter(|left| left.begun.auth_url == auth_url && left.begun.project == project).collect())
}

/// The record of the image, if a run that is gone has left one.
pub(super) fn abandoned(cache: &Cache, image: &str) -> Option<Leftover> {
    leftover(&folder(cache).join(format!("{image}.json")))
}

/// The record, if nobody holds it.
fn leftover(path: &Path) -> Option<Leftover> {
    let file = File::open(path).ok()?;
    if !try_lock(&file).ok()? {
        return None;
    }
    let begun = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match begun {
        Some(begun) => Some(Leftover { begun, entry: path.to_owned(), _lock: file }),
        None => {
            // A run ended while it wrote: nothing was begun yet.
            let _ = fs::remove_file(path);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(image: &str) -> Begun {
        Begun { auth_url: "a".into(), project: "p".into(), image: image.into() }
    }

    #[test]
    fn only_runs_that_are_gone_leave_something() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert!(leftovers(&cache, "a", "p").unwrap().is_empty());
        let lives = Entry::begin(&cache, &begun("1")).unwrap();
        assert!(leftovers(&cache, "a", "p").unwrap().is_empty());
        drop(lives);
        assert!(leftovers(&cache, "other", "p").unwrap().is_empty());
        assert!(abandoned(&cache, "1").is_some() && abandoned(&cache, "2").is_none());
        let mut left = leftovers(&cache, "a", "p").unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].begun, begun("1"));
        left.remove(0).done();
        assert!(leftovers(&cache, "a", "p").unwrap().is_empty());
        Entry::begin(&cache, &begun("2")).unwrap().done();
        assert!(leftovers(&cache, "a", "p").unwrap().is_empty());
    }

    #[test]
    fn a_torn_record_is_nothing_begun() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        fs::create_dir(super::folder(&cache)).unwrap();
        let torn = super::folder(&cache).join("x.json");
        fs::write(&torn, "{\"auth").unwrap();
        assert!(leftovers(&cache, "a", "p").unwrap().is_empty() && !torn.exists());
    }
}
