//! Whether a disk of the cache is still what was put there.
//!
//! ```text
//! KEY.INSTANCE.sum.json   size, time of the last change and BLAKE3 of KEY.INSTANCE.qcow2
//! ```
//!
//! Size and time are written when the disk is put; the digest follows from a thread of its own, so nobody waits for it.
//! A build looks at size, time and the qcow2's header, which costs microseconds. Where only the time is another (the
//! cache came out of an archive, say), the digest decides. `cache verify` reads everything.
//!
//! BLAKE3 because it is as fast on processors without instructions for SHA-256, which servers in use still are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::qcow2::Header;
use super::replace_file;

/// What is known of a disk's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    /// Bytes.
    pub(super) size: u64,
    /// When it was last written to, nanoseconds since 1970.
    pub(super) modified: i128,
    /// BLAKE3, hexadecimal; none until it is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blake3: Option<String>,
}

impl Sum {
    /// What is known of `file` without reading it.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Ok(Self { size: metadata.len(), modified, blake3: None })
    }

    /// What was recorded of `disk`, if anything was.
    pub(super) fn recorded(disk: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(sum_path(disk)).ok()?).ok()
    }

    fn record(&self, disk: &Path) -> io::Result<()> {
        replace_file(&sum_path(disk), &serde_json::to_vec(self)?, 0o600)
    }
}

/// Where the sum of `disk` is kept.
pub(super) fn sum_path(disk: &Path) -> PathBuf {
    disk.with_extension("sum.json")
}

/// Records what `disk`, which nobody writes to any more, is; the digest follows.
///
/// # Errors
/// What the file system says.
pub(super) fn seal(disk: &Path, file: &File) -> io::Result<()> {
    Sum::of(file)?.record(disk)?;
    let disk = disk.to_owned();
    // It holds no lock, so the layer can be replaced meanwhile. Where it comes to nothing, `cache verify` does it.
    let digest = move || File::open(&disk).and_then(|file| adopt(&disk, &file));
    std::thread::Builder::new().name("digest".to_owned()).spawn(digest)?;
    Ok(())
}

/// Takes the content of `disk` as it is now for what it shall be.
///
/// # Errors
/// What the file system says, or the file changes meanwhile.
pub(super) fn adopt(disk: &Path, file: &File) -> io::Result<()> {
    let before = Sum::of(file)?;
    let blake3 = Some(digest(disk)?);
    if Sum::of(file)? != before {
        return Err(io::Error::other("it changes while it is read"));
    }
    if !disk.exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Sum { blake3, ..before }.record(disk)
}

/// BLAKE3 of a file, hexadecimal.
///
/// # Errors
/// It cannot be read.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// What is wrong with `disk` as far as it can be told without reading it, unless its time of change calls for that. It
/// must lie on `backing`, or on a file whose name ends like that.
pub(super) fn fault(disk: &Path, file: &File, backing: Option<&str>) -> Option<String> {
    let recorded = Sum::recorded(disk);
    if let Some(recorded) = &recorded
        && let Some(fault) = changed(disk, file, recorded)
    {
        return Some(fault);
    }
    chain_fault(file, backing, recorded.is_some())
}

fn changed(disk: &Path, file: &File, recorded: &Sum) -> Option<String> {
    let now = match Sum::of(file) {
        Ok(now) => now,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    if now.size != recorded.size {
        return Some(format!("has {} bytes instead of {}", now.size, recorded.size));
    }
    if now.modified == recorded.modified {
        return None;
    }
    match (digest(disk), &recorded.blake3) {
        (Ok(digest), Some(known)) if digest == *known => {
            // Next time it is known at once; where that cannot be written, it is read again.
            let _ = Sum { blake3: Some(digest), ..now }.record(disk);
            None
        }
        (Err(error), _) => Some(format!("cannot be read: {error}")),
        _ => Some("was written to after it was put into the cache".to_owned()),
    }
}

/// What is wrong with the file that it lies on.
pub(super) fn chain_fault(file: &File, backing: Option<&str>, known: bool) -> Option<String> {
    let header = match Header::read(file) {
        Ok(Some(header)) => header,
        Ok(None) if known => return None,
        Ok(None) => return Some("is no qcow2".to_owned()),
        Err(error) => return Some(format!("has a torn header: {error}")),
    };
    match (header.backing, backing) {
        (None, None) => None,
        (Some(path), None) => Some(format!("lies on {}, which it should not", path.display())),
        (None, Some(name)) => Some(format!("does not lie on {name}")),
        (Some(path), Some(name)) if !path.to_string_lossy().ends_with(name) => {
            Some(format!("lies on {} instead of {name}", path.display()))
        }
        (Some(path), Some(_)) if !path.exists() => Some(format!("lies on {}, which is not there", path.display())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::qcow2::tests::header;
    use super::*;

    fn disk(folder: &Path, bytes: &[u8]) -> (PathBuf, File) {
        let path = folder.join("k.i.qcow2");
        fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        (path, file)
    }

    #[test]
    fn what_was_put_has_no_fault_and_what_was_cut_or_written_to_has() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = disk(folder.path(), &header(None));
        adopt(&path, &file).unwrap();
        assert_eq!(fault(&path, &file, None), None);
        fs::write(&path, &header(None)[..50]).unwrap();
        assert_eq!(fault(&path, &file, None).unwrap(), "has 50 bytes instead of 104");
        let mut other = header(None);
        other[80] = 1;
        fs::write(&path, &other).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::now() + Duration::from_secs(9))
            .unwrap();
        assert_eq!(fault(&path, &file, None).unwrap(), "was written to after it was put into the cache");
    }

    #[test]
    fn another_time_alone_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = disk(folder.path(), &header(None));
        adopt(&path, &file).unwrap();
        let before = Sum::recorded(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fault(&path, &file, None), None);
        let after = Sum::recorded(&path).unwrap();
        assert_eq!(after.blake3, before.blake3);
        assert_eq!(after.modified, 0);
    }

    #[test]
    fn a_disk_lies_on_its_parent_or_has_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("p.one.qcow2");
        let (_, file) = disk(folder.path(), &header(parent.to_str()));
        let told = |backing| chain_fault(&file, backing, false);
        assert!(told(Some(".one.qcow2")).unwrap().ends_with("which is not there"));
        fs::write(&parent, "").unwrap();
        assert_eq!(told(Some(".one.qcow2")), None);
        assert!(told(Some(".two.qcow2")).unwrap().ends_with("instead of .two.qcow2"));
        assert!(told(None).unwrap().ends_with("which it should not"));
    }
}
