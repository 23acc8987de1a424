//! What the web server has: texts in memory, and files of the host.
//!
//! Requests are looked up in this table and never in the file system: no path leads out of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use percent_encoding::percent_decode_str;

use super::media_type;
use crate::error::{Context, Error, Kind, Result};

/// Paths and what is there.
#[derive(Debug, Default, Clone)]
pub struct Site {
    entries: BTreeMap<String, Entry>,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) content: Served,
    pub(super) media_type: &'static str,
}

#[derive(Debug, Clone)]
pub(super) enum Served {
    Memory(Bytes),
    File { path: PathBuf, bytes: u64 },
}

impl Served {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }
}

impl Site {
    /// A site with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file of the host at `path`, over what is there.
    ///
    /// # Errors
    /// The path cannot be asked for, or the file cannot be read (kind usage).
    pub fn add_file(&mut self, path: &str, file: &Path) -> Result<()> {
        let name = name_of(path)?;
        let read = || std::io::Result::Ok((file.canonicalize()?, fs::metadata(file)?.len()));
        let (path, bytes) = read().context(Kind::Usage, || format!("cannot read {}", file.display()))?;
        let media_type = media_type::of(&name, false);
        self.entries.insert(name, Entry { content: Served::File { path, bytes }, media_type });
        Ok(())
    }

    /// Puts `content` at `path` (with or without a slash before it), over what is there.
    ///
    /// # Errors
    /// The path cannot be asked for: it is empty or has `..` in it (kind usage).
    pub fn add(&mut self, path: &str, content: impl Into<Vec<u8>>) -> Result<()> {
        let name = name_of(path)?;
        let content: Vec<u8> = content.into();
        let media_type = media_type::of(&name, is_text(&content));
        self.entries.insert(name, Entry { content: Served::Memory(content.into()), media_type });
        Ok(())
    }

    /// What is at the path of a request, which may be percent-encoded. debian-installer asks for
    /// `/d-i/trixie/./preseed.cfg` when it is given only a host (installation guide, appendix B.2.3), so single dots
    /// and double slashes do not count.
    pub(super) fn find(&self, path: &str) -> Option<&Entry> {
        let decoded = percent_decode_str(path).decode_utf8().ok()?;
        self.entries.get(&normal(&decoded)?)
    }
}

/// `path` without empty parts and single dots; none if it goes up.
fn normal(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

fn name_of(path: &str) -> Result<String> {
    let bad = || Error::usage(format!("`{path}` is not a path on a web server"));
    normal(path).filter(|name| !name.is_empty()).ok_or_else(bad)
}

fn is_text(content: &[u8]) -> bool {
    !content.contains(&0) && std::str::from_utf8(content).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(site: &Site, path: &str) -> Option<String> {
        match &site.find(path)?.content {
            Served::Memory(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            Served::File { path, .. } => Some(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()),
        }
    }

    #[test]
    fn what_is_added_is_found_as_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("binary");
        fs::write(&file, b"\0\x01").unwrap();
        let mut site = Site::new();
        site.add("sub/preseed.cfg", "answers").unwrap();
        site.add_file("/binary", &file).unwrap();
        assert_eq!(text(&site, "/sub/./%70reseed.cfg").unwrap(), "answers");
        assert_eq!(text(&site, "//binary").unwrap(), "\0\u{1}");
        let error = site.add_file("x", &folder.path().join("missing")).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }

    #[test]
    fn a_path_that_goes_up_finds_nothing_and_cannot_be_added() {
        let mut site = Site::new();
        site.add("a/b", "x").unwrap();
        for path in ["/a/../a/b", "/a/%2e%2e/a/b", "/..", "/a/b%00", "/a%2", "/a", "/", ""] {
            assert!(site.find(path).is_none(), "{path}");
        }
        for path in ["../x", "", "/", "a/../b"] {
            assert_eq!(site.add(path, "x").unwrap_err().kind(), Kind::Usage, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_finds_what_is_there_or_nothing(path in "(/|\\.|\\.\\.|a|b|%2e|%2f|%|\u{0}){0,12}") {
            let mut site = Site::new();
            site.add("a/b", "x").unwrap();
            if let Some(entry) = site.find(&path) {
                prop_assert_eq!(entry.content.bytes(), 1);
                prop_assert!(!path.contains(".."));
            }
        }
    }
}
