//! SHA-256 and SHA-512 of a file in one pass.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256, Sha512};

use crate::error::{Context, Kind, Result};
use crate::plan::hex;

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
        let mut file = File::open(path).context(Kind::Build, read)?;
        let (mut sha256, mut sha512) = (Sha256::new(), Sha512::new());
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let count = file.read(&mut buffer).context(Kind::Build, read)?;
            if count == 0 {
                return Ok(Self { sha256: hex(&sha256.finalize()), sha512: hex(&sha512.finalize()) });
            }
            sha256.update(&buffer[..count]);
            sha512.update(&buffer[..count]);
            done += count as u64;
            progress(done);
        }
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
