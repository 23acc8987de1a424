//! What the finished image at a path was made of, so that a build with nothing to do is known as
//! such without starting a machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::secrets::SecretTags;
use super::{Cache, replace_file};
use crate::checksum::hex;
use crate::error::{Context, Kind, Result};

/// The state of a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedState {
    /// Fingerprint of the image without its secrets.
    pub fingerprint: String,
    /// Tags of the secrets that it holds.
    pub secrets: SecretTags,
    /// Facts of the host that went into it and may be asked for otherwise (compression).
    pub settings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    state: SealedState,
    /// Size in bytes and modification time in nanoseconds since 1970: the file is still the one
    /// that was written, without reading a gigabyte to know it.
    size: u64,
    modified: i128,
}

/// What is known of the image at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no such file.
    Missing,
    /// The file is not from a build with this cache.
    Unknown,
    /// It was written by something else after it was built.
    Changed,
    /// It was built so, and nothing was changed since.
    Built(SealedState),
}

impl SealedState {
    /// What the file at `image` is.
    pub fn find(cache: &Cache, image: &Path) -> Found {
        let Some(now) = size_and_time(image) else { return Found::Missing };
        let record = fs::read(record_path(cache, image)).ok();
        match record.and_then(|text| serde_json::from_slice::<Record>(&text).ok()) {
            None => Found::Unknown,
            Some(record) if (record.size, record.modified) != now => Found::Changed,
            Some(record) => Found::Built(record.state),
        }
    }

    /// Whether the file at `image` is there, is the one that visabuild wrote, and has this state.
    pub fn is_at(&self, cache: &Cache, image: &Path) -> bool {
        matches!(Self::find(cache, image), Found::Built(state) if state == *self)
    }

    /// Records that the file at `image` has this state.
    ///
    /// # Errors
    /// The record cannot be written (kind host).
    pub fn record(self, cache: &Cache, image: &Path) -> Result<()> {
        let (size, modified) = size_and_time(image).unwrap_or_default();
        let path = record_path(cache, image);
        let json = serde_json::to_vec(&Record { state: self, size, modified })
            .context(Kind::Host, || format!("cannot write {}", path.display()))?;
        replace_file(&path, &json, 0o600).context(Kind::Host, || format!("cannot write {}", path.display()))
    }
}

fn size_and_time(image: &Path) -> Option<(u64, i128)> {
    let metadata = fs::metadata(image).ok()?;
    Some((metadata.len(), i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())))
}

fn record_path(cache: &Cache, image: &Path) -> PathBuf {
    let name = hex(&Sha256::digest(image.as_os_str().as_encoded_bytes()));
    cache.root().join("sealed").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_state_or_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let image = folder.path().join("x.qcow2");
        let state = SealedState { fingerprint: "f".to_owned(), secrets: SecretTags::new(), settings: Vec::new() };
        assert!(!state.is_at(&cache, &image));
        fs::write(&image, "image").unwrap();
        state.clone().record(&cache, &image).unwrap();
        assert!(state.is_at(&cache, &image));
        let other = SealedState { fingerprint: "g".to_owned(), ..state.clone() };
        assert!(!other.is_at(&cache, &image));
        fs::write(&image, "another").unwrap();
        assert!(!state.is_at(&cache, &image));
        fs::remove_file(&image).unwrap();
        assert!(!state.is_at(&cache, &image));
    }
}
