//! SHA-256 and SHA-512 of a file in one pass.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checksum::{self, Algorithm};
use crate::error::{Context, Kind, Result};

/// Checksums of a file, hexadecimal; SHA-512 is what Glance computes (`os_hash_value`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checksums {
    /// SHA-256.
    pub sha256: String,
    /// SHA-512.
    pub sha512: String,
}

impl Checksums {
    /// As [`Checksums::of`], on a thread of its own.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn in_background(path: PathBuf) -> Result<Self> {
        let sums = tokio::task::spawn_blocking(move || Self::of(&path, |_| {})).await;
        sums.context(Kind::Build, || "cannot sum up the image")?
    }

    /// Reads the file once; `progress` gets the bytes read so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(path: &Path, mut progress: impl FnMut(u64)) -> Result<Self> {
        let read = || format!("cannot read {}", path.display());
        let file = File::open(path).context(Kind::Build, read)?;
        let sums = checksum::sums(file, &[Algorithm::Sha256, Algorithm::Sha512], |done| {
            progress(done);
            true
        });
        let mut sums = sums.context(Kind::Build, read)?.into_iter();
        let (sha256, sha512) = (sums.next().unwrap_or_default(), sums.next().unwrap_or_default());
        Ok(Self { sha256, sha512 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_vectors_of_fips_180() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let sums = Checksums::of(&path, |_| {}).unwrap();
        assert_eq!(sums.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(sums.sha512.starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
