//! What is kept between builds, below `$XDG_CACHE_HOME/visabuild`.
//!
//! ```text
//! layers/KEY.json KEY.INSTANCE.qcow2 KEY.lock   one provisioned, unsealed overlay each
//!        KEY.INSTANCE.sum.json                  what its content must be (module `integrity`)
//! checkpoints/…                                 likewise, of stages that were not complete yet; beside the disk the
//!             KEY.INSTANCE.memory and .key        guest's memory and the SSH key that lets a build in again (0600)
//! bases/…                                       likewise, with the kernel and initramfs beside
//! sealed/…                                      what the finished images hold, by HMAC (0600)
//! inputs/…                                      what images were made of, and how long it took (0600)
//! downloads/…                                  files from elsewhere, by checksum (module `download`)
//! packages/…                                  files of package servers, by URL (module `package_cache::store`)
//! work/RUN/                                     a running build's files; its lock is held
//! hmac.key                                      made on this host, never leaves it (0600)
//! ```
//!
//! Files are written beside, synchronised and renamed, so a crash leaves either the old or the new.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};

pub use check::{Broken, Verified, verify};
pub use collect::{Collector, Outcome, Reason, Rules, choose, with_all_on};
pub use history::{History, Share, Times, small_text};
pub(crate) use integrity::digest;
pub use inventory::{Inventory, Item, ItemKind, Other, State};
pub use layers::{BuildLock, Layer, LayerInfo, LayerStore, Linked, SavedGuest, SavedMemory, memory_of};
pub use sealed::{Found, SealedState};
pub use secrets::{SecretTags, Secrets};
pub use work::{Abandoned, WorkFolder};

mod check;
mod collect;
mod history;
mod integrity;
mod inventory;
mod layers;
mod qcow2;
mod sealed;
mod secrets;
mod work;

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache at `root`, making it (0700) if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made (kind host).
    pub fn open(root: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        for folder in [
            "",
            "layers",
            "checkpoints",
            "bases",
            "sealed",
            "work",
            "inputs",
            "inputs/blobs",
            "inputs/records",
            "inputs/times",
        ] {
            let path = root.join(folder);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| {
                Error::host(format!("cannot make the cache folder {}", path.display()))
                    .because(error)
                    .hint("set XDG_CACHE_HOME to a folder on a disk with room that you may write to")
            })?;
        }
        let root = root.canonicalize().context(Kind::Host, || format!("cannot use {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store of provisioned layers.
    pub fn layers(&self) -> LayerStore {
        self.store("layers")
    }

    /// The store of base disks.
    pub fn bases(&self) -> LayerStore {
        self.store("bases")
    }

    /// The store of what stages were before they were complete.
    pub fn checkpoints(&self) -> LayerStore {
        self.store("checkpoints")
    }

    fn store(&self, folder: &str) -> LayerStore {
        LayerStore::new(self.root.join(folder), self.root.join("checkpoints"))
    }
}

/// Writes `bytes` beside `path`, synchronises, and renames: readers see the old or the new file.
///
/// # Errors
/// What the file system says; the old file is then untouched.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path);
    let _ = fs::remove_file(&beside);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// Moves a finished file to `path`, which may be on another file system, replacing it whole.
///
/// # Errors
/// What the file system says; the old file is then untouched.
pub fn publish_file(from: &Path, path: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    if let Err(error) = fs::rename(from, path) {
        if error.kind() != io::ErrorKind::CrossesDevices {
            return Err(error);
        }
        let beside = beside(path);
        let copied = fs::copy(from, &beside)
            .and_then(|_| File::open(&beside)?.sync_all())
            .and_then(|()| fs::rename(&beside, path));
        if let Err(error) = copied {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        let _ = fs::remove_file(from);
    }
    sync_folder(path)
}

/// The name under which a successor of `path` is written, in the same folder.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // A name alone has an empty parent.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens (and makes) a lock file.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .context(Kind::Host, || format!("cannot open the lock {}", path.display()))
}

/// Takes the exclusive lock on `file` if nobody has it.
pub(crate) fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(Error::host("cannot lock a file in the cache").because(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace_file(&path, b"one", 0o600).unwrap();
        replace_file(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("is-a-folder");
        fs::create_dir(&path).unwrap();
        assert!(replace_file(&path, b"x", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
