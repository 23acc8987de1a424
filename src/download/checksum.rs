//! What a file must be: checksums in the forms of Packer's `iso_checksum`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::place::Place;
use crate::error::{Error, Result};
use crate::plan::hex;

/// A hash function; MD5 and SHA-1 because old checksum lists have nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

impl Algorithm {
    /// As checksums name it: `sha256`.
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
        ALGORITHMS.into_iter().find(|algorithm| algorithm.name() == plain)
    }

    fn sum(self) -> Box<dyn Sum> {
        match self {
            Self::Md5 => Box::new(<Md5 as sha2::Digest>::new()),
            Self::Sha1 => Box::new(<Sha1 as sha2::Digest>::new()),
            Self::Sha224 => Box::new(<Sha224 as sha2::Digest>::new()),
            Self::Sha256 => Box::new(<Sha256 as sha2::Digest>::new()),
            Self::Sha384 => Box::new(<Sha384 as sha2::Digest>::new()),
            Self::Sha512 => Box::new(<Sha512 as sha2::Digest>::new()),
        }
    }
}

/// A running sum.
trait Sum {
    fn add(&mut self, bytes: &[u8]);
    fn finish(self: Box<Self>) -> String;
}

impl<D: sha2::Digest> Sum for D {
    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn finish(self: Box<Self>) -> String {
        hex(&self.finalize())
    }
}

/// A checksum with its algorithm; shown as `sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// What it was computed with.
    pub algorithm: Algorithm,
    /// Lower-case hexadecimal digits, as many as the algorithm has.
    hex: String,
}

impl Digest {
    /// Reads `sha256:HEX` or hexadecimal digits alone, whose number tells the algorithm.
    ///
    /// # Errors
    /// It is neither (kind usage).
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some((name, digits)) = text.split_once(':') else {
            return Self::of_length(text).ok_or_else(|| unknown(text));
        };
        let algorithm = Algorithm::named(name).ok_or_else(|| unknown(text))?;
        Self::new(algorithm, digits.trim()).ok_or_else(|| {
            let wanted = algorithm.digits();
            Error::usage(format!("`{text}` is no {name} checksum: it must have {wanted} hexadecimal digits"))
        })
    }

    /// `digits` of `algorithm`, if they are as many as it has.
    pub fn new(algorithm: Algorithm, digits: &str) -> Option<Self> {
        let good = digits.len() == algorithm.digits() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        good.then(|| Self { algorithm, hex: digits.to_ascii_lowercase() })
    }

    /// `digits` of the algorithm that has so many.
    pub fn of_length(digits: &str) -> Option<Self> {
        ALGORITHMS.into_iter().find_map(|algorithm| Self::new(algorithm, digits))
    }

    /// The hexadecimal digits, in lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

fn unknown(text: &str) -> Error {
    Error::usage(format!("`{text}` is no checksum"))
        .hint("give `sha256:HEX` (or sha512, sha1, md5), the URL of a checksum list as `file:URL`, or `none`")
}

/// Who vouches for a checksum list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Where its detached OpenPGP signature is; none if the list is signed in itself (clear-signed).
    pub place: Option<Place>,
    /// A keyring with the key that must have signed it, as gpgv(1) reads it.
    pub keyring: PathBuf,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// Anything: the user said `none`.
    None,
    /// It has this checksum.
    Digest(Digest),
    /// The line of a checksum list that names it says so.
    List {
        /// Where the list is.
        place: Place,
        /// Who must have signed it; nobody needs to if none.
        signature: Option<Signature>,
    },
}

impl Checksum {
    /// Reads `none`, `sha256:HEX` (md5, sha1, sha224, sha384, sha512), digits alone, or `file:` and the URL or path of
    /// a checksum list; relative paths are relative to `folder`. These are the forms of Packer's `iso_checksum`.
    ///
    /// # Errors
    /// It is none of these (kind usage). Nothing at all is an error, too: `none` must be said.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        if text.is_empty() {
            return Err(Error::usage("the checksum of the file is missing")
                .hint("give `sha256:HEX`, or `none` if the file may be anything"));
        }
        let Some(list) = text.strip_prefix("file:") else { return Ok(Self::Digest(Digest::parse(text)?)) };
        // `file:///path` is both Packer's form and a URL; either way it is that path.
        let place = if list.starts_with("//") { text } else { list };
        Ok(Self::List { place: Place::parse(place, folder)?, signature: None })
    }
}

/// Sums of a file, computed in one pass.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) sha256: String,
    pub(super) bytes: u64,
    wanted: Option<String>,
}

impl Sums {
    /// Reads `path` once; `progress` gets the bytes so far and says whether to go on.
    pub(super) fn of(
        path: &Path,
        algorithm: Option<Algorithm>,
        mut progress: impl FnMut(u64) -> bool,
    ) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut sha256 = Algorithm::Sha256.sum();
        let mut other = algorithm.filter(|algorithm| *algorithm != Algorithm::Sha256).map(Algorithm::sum);
        let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Self { sha256: sha256.finish(), bytes, wanted: other.map(Sum::finish) });
            }
            sha256.add(&buffer[..count]);
            if let Some(other) = &mut other {
                other.add(&buffer[..count]);
            }
            bytes += count as u64;
            if !progress(bytes) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }

    /// Whether the file is what was wanted; if not, a sentence that says so.
    pub(super) fn check(&self, digest: Option<&Digest>) -> Result<(), String> {
        let Some(digest) = digest else { return Ok(()) };
        let found = self.wanted.as_ref().unwrap_or(&self.sha256);
        if *found == digest.hex {
            return Ok(());
        }
        let (name, bytes) = (digest.algorithm.name(), self.bytes);
        Err(format!("is another file ({bytes} bytes): its {name} is {found}, and not {}", digest.hex))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Checksum> {
        Checksum::parse(text, Path::new("/project"))
    }

    #[test]
    fn packers_forms_are_understood() {
        let digest = Digest { algorithm: Algorithm::Sha256, hex: EMPTY_SHA256.to_owned() };
        for text in [
            format!("sha256:{}", EMPTY_SHA256.to_uppercase()),
            EMPTY_SHA256.to_owned(),
            format!(" SHA-256: {EMPTY_SHA256} "),
        ] {
            assert_eq!(parse(&text).unwrap(), Checksum::Digest(digest.clone()), "{text}");
        }
        for algorithm in ALGORITHMS {
            let digits = "0a".repeat(algorithm.digits() / 2);
            let Checksum::Digest(named) = parse(&format!("{}:{digits}", algorithm.name())).unwrap() else { panic!() };
            assert_eq!(parse(&digits).unwrap(), Checksum::Digest(named.clone()));
            assert_eq!(named.algorithm, algorithm);
        }
        assert_eq!(parse("none").unwrap(), Checksum::None);
    }

    #[test]
    fn a_list_is_a_url_or_a_path_behind_file() {
        let place = |text| match parse(text).unwrap() {
            Checksum::List { place, signature: None } => place.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(place("file:https://mirror.example.org/SHA256SUMS"), "https://mirror.example.org/SHA256SUMS");
        assert_eq!(place("file:///iso/SHA256SUMS"), "/iso/SHA256SUMS");
        assert_eq!(place("file:/iso/SHA256SUMS"), "/iso/SHA256SUMS");
        assert_eq!(place("file:file:///iso/SHA256SUMS"), "/iso/SHA256SUMS");
        assert_eq!(place("file:SHA256SUMS"), "/project/SHA256SUMS");
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        for bad in ["", " ", "abc", "sha256:00", "sha3:00", &"g".repeat(64), "md5:"] {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
        assert!(parse("").unwrap_err().hints()[0].contains("`none`"));
    }

    #[test]
    fn sums_agree_with_coreutils() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        for algorithm in ALGORITHMS {
            let program = format!("{}sum", algorithm.name());
            let told = std::process::Command::new(program).arg(&path).output().unwrap().stdout;
            let digest = Digest::of_length(String::from_utf8(told).unwrap().split(' ').next().unwrap()).unwrap();
            let sums = Sums::of(&path, Some(algorithm), |_| true).unwrap();
            assert_eq!(sums.check(Some(&digest)), Ok(()), "{algorithm:?}");
            assert_eq!(sums.bytes, 3 << 20);
            let other = Digest::new(algorithm, &"0".repeat(algorithm.digits())).unwrap();
            assert!(sums.check(Some(&other)).unwrap_err().contains(digest.hex()));
        }
    }
}
