//! Where a file can be had: a web server or a disk.

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::credentials;
use crate::error::{Error, Result};

/// A URL or a path. Shown, it has neither credentials nor a query, which may be a signature.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// An http or https URL, which may hold credentials (`user:password@`).
    Http(Url),
    /// A file on this host.
    File(PathBuf),
}

impl Place {
    /// Reads an http, https or file URL, or a path; relative paths are relative to `folder`.
    ///
    /// # Errors
    /// It is none of these (kind usage); the message does not repeat credentials.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("http" | "https") => {
                let url = Url::parse(text).map_err(|error| {
                    Error::usage(format!("`{}` is not a URL", credentials::strip(text))).because(error)
                })?;
                Ok(Self::Http(url))
            }
            Some("file") => file_url(text, folder),
            Some(scheme) if text.contains("://") => {
                Err(Error::usage(format!("`{}`: files cannot be had over `{scheme}`", credentials::strip(text)))
                    .hint("give an http://, https:// or file:// URL, or a path"))
            }
            _ if text.is_empty() => Err(Error::usage("a URL or a path is empty")),
            _ => Ok(Self::File(folder.join(text))),
        }
    }

    /// The last part of its path, decoded.
    pub fn file_name(&self) -> Option<String> {
        match self {
            Self::Http(url) => {
                let last = url.path_segments()?.next_back().filter(|last| !last.is_empty())?;
                Some(percent_decode_str(last).decode_utf8_lossy().into_owned())
            }
            Self::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
        }
    }

    /// Its path, decoded: what a checksum list names relative to its own.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Http(url) => decoded(url.path()),
            Self::File(path) => path.clone(),
        }
    }

    pub(super) fn url(&self) -> Option<&Url> {
        match self {
            Self::Http(url) => Some(url),
            Self::File(_) => None,
        }
    }
}

/// RFC 8089: `file:/path`, `file:///path` and `file://localhost/path`; also Packer's `file:path`.
fn file_url(text: &str, folder: &Path) -> Result<Place> {
    let rest = &text["file:".len()..];
    let path = match rest.strip_prefix("//") {
        Some(rest) => match rest.strip_prefix("localhost").unwrap_or(rest) {
            path if path.starts_with('/') => path,
            _ => {
                return Err(Error::usage(format!("`{text}` names a file of another host"))
                    .hint("a path on this host has three slashes: file:///path"));
            }
        },
        None => rest,
    };
    if path.is_empty() {
        return Err(Error::usage(format!("`{text}` names no file")));
    }
    Ok(Place::File(folder.join(decoded(path))))
}

fn decoded(path: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(percent_decode_str(path).collect()))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(&shown(url)),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `url` for people: no credentials, no query, no fragment.
fn shown(url: &Url) -> String {
    let stripped = credentials::strip(url.as_str());
    let end = stripped.find(['?', '#']).unwrap_or(stripped.len());
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}{query}", &stripped[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn place(text: &str) -> Place {
        Place::parse(text, Path::new("/project")).unwrap()
    }

    #[test]
    fn urls_and_paths_are_told_apart() {
        assert_eq!(place("file:///iso/a%20b.iso"), Place::File("/iso/a b.iso".into()));
        assert_eq!(place("file:/iso/a.iso"), Place::File("/iso/a.iso".into()));
        assert_eq!(place("file://localhost/iso/a.iso"), Place::File("/iso/a.iso".into()));
        assert_eq!(place("file:a.iso"), Place::File("/project/a.iso".into()));
        assert_eq!(place("iso/a%20:b.iso"), Place::File("/project/iso/a%20:b.iso".into()));
        assert_eq!(place("/a.iso"), Place::File("/a.iso".into()));
        assert!(matches!(place("HTTPS://mirror.example.org/a.iso"), Place::Http(_)));
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let url = place("https://joe:s%40cret@mirror.example.org/a%20b.iso?token=secret#x");
        assert_eq!(url.to_string(), "https://mirror.example.org/a%20b.iso?…");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.file_name().unwrap(), "a b.iso");
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_without_its_password() {
        for bad in
            ["", "ftp://joe:secret@h/a", "http://joe:secret@:80/", "file://server/share/a.iso", "file:", "s3://b/k"]
        {
            let error = Place::parse(bad, Path::new("/")).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{bad}");
            assert!(!error.chain().concat().contains("secret"), "{error}");
        }
    }
}
