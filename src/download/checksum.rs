//! What a file must be: checksums in the forms of Packer's `iso_checksum`.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::place::Place;
use crate::checksum::{self, Algorithm};
use crate::error::{Error, Result};

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
        Algorithm::ALL.into_iter().find_map(|algorithm| Self::new(algorithm, digits))
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
        let other = algorithm.filter(|algorithm| *algorithm != Algorithm::Sha256);
        let algorithms: Vec<_> = std::iter::once(Algorithm::Sha256).chain(other).collect();
        let mut bytes = 0;
        let sums = checksum::sums(File::open(path)?, &algorithms, |done| {
            bytes = done;
            progress(done)
        });
        let mut sums = sums?.into_iter();
        Ok(Self { sha256: sums.next().unwrap_or_default(), bytes, wanted: sums.next() })
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
        for algorithm in Algorithm::ALL {
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
    fn a_file_is_checked_by_any_algorithm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        for algorithm in Algorithm::ALL {
            let sum = checksum::sums(File::open(&path).unwrap(), &[algorithm], |_| true).unwrap().remove(0);
            let digest = Digest::of_length(&sum).unwrap();
            let sums = Sums::of(&path, Some(algorithm), |_| true).unwrap();
            assert_eq!(sums.check(Some(&digest)), Ok(()), "{algorithm:?}");
            assert_eq!(sums.bytes, 3 << 20);
            let other = Digest::new(algorithm, &"0".repeat(algorithm.digits())).unwrap();
            assert!(sums.check(Some(&other)).unwrap_err().contains(digest.hex()));
        }
    }
}
