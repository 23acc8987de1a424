//! Checksums of files, and how bytes are shown.

use std::fmt::Write as _;
use std::io::{self, Read};

use md5::Md5;
use serde::Serialize;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A hash function; MD5 and SHA-1 because old checksum lists have nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// RFC 1321; broken, finds damage but no attack.
    Md5,
    /// FIPS 180; broken likewise.
    Sha1,
    /// FIPS 180.
    Sha224,
    /// FIPS 180.
    Sha256,
    /// FIPS 180.
    Sha384,
    /// FIPS 180.
    Sha512,
}

impl Algorithm {
    /// All of them, the shortest checksum first.
    pub const ALL: [Self; 6] = [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// As checksums, Packer and the name of the program have it: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a checksum has.
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha224 => 56,
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }

    /// The algorithm of a name in any case, with or without a hyphen (`SHA256`, `sha-256`).
    pub fn named(name: &str) -> Option<Self> {
        let plain = name.to_ascii_lowercase().replace('-', "");
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == plain)
    }

    fn digest(self) -> Box<dyn DynDigest> {
        match self {
            Self::Md5 => Box::<Md5>::default(),
            Self::Sha1 => Box::<Sha1>::default(),
            Self::Sha224 => Box::<Sha224>::default(),
            Self::Sha256 => Box::<Sha256>::default(),
            Self::Sha384 => Box::<Sha384>::default(),
            Self::Sha512 => Box::<Sha512>::default(),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The checksums, hexadecimal and in the order of `algorithms`, of what `source` gives until its end; it is read once.
/// `go_on` gets the bytes read so far and says whether to go on.
///
/// # Errors
/// What reading says; the kind `Interrupted` where it is not to go on.
pub fn sums(
    mut source: impl Read,
    algorithms: &[Algorithm],
    mut go_on: impl FnMut(u64) -> bool,
) -> io::Result<Vec<String>> {
    let mut digests: Vec<_> = algorithms.iter().map(|algorithm| algorithm.digest()).collect();
    let (mut buffer, mut done) = (vec![0; CHUNK], 0);
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(digests.into_iter().map(|digest| hex(&digest.finalize())).collect()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digests.iter_mut().for_each(|digest| digest.update(&buffer[..count]));
        done += count as u64;
        if !go_on(done) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

/// The SHA-256, hexadecimal, of what `source` gives until its end.
///
/// # Errors
/// What reading says.
pub fn sha256(source: impl Read) -> io::Result<String> {
    sums(source, &[Algorithm::Sha256], |_| true).map(|mut sums| sums.swap_remove(0))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn sums_agree_with_coreutils() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![7; 3 << 20];
        std::fs::write(&path, &bytes).unwrap();
        let mut read = Vec::new();
        let sums = sums(bytes.as_slice(), &Algorithm::ALL, |done| {
            read.push(done >> 20);
            true
        });
        assert_eq!(read, [1, 2, 3]);
        for (algorithm, sum) in Algorithm::ALL.into_iter().zip(sums.unwrap()) {
            let told = Command::new(format!("{}sum", algorithm.name())).arg(&path).output().unwrap().stdout;
            assert_eq!(String::from_utf8(told).unwrap().split(' ').next(), Some(sum.as_str()));
            assert_eq!(sum.len(), algorithm.digits());
        }
    }

    #[test]
    fn reading_ends_where_it_is_not_to_go_on() {
        let ended = sums(io::repeat(0), &[Algorithm::Sha256], |done| done < 1 << 22);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
