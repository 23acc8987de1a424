//! What a transfer has brought so far, kept until the file is complete; also between runs.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::header::{ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

use crate::cache::replace_file;
use crate::error::{Context, Kind, Result};

/// How a server tells one version of a file from another (RFC 9110, section 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Validators {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// The entity tag if it promises the same bytes: a weak one does not (RFC 9110, section 8.8.1).
    pub(super) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }
}

/// What is known of the bytes in a partial file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// A key of the URL that they came from.
    pub(super) url: String,
    pub(super) validators: Validators,
    /// The size of the whole, where the server told it.
    pub(super) total: Option<u64>,
    /// Whether they came in several pieces.
    pub(super) continued: bool,
}

/// A partial file and its record. Who uses it holds the lock of its key.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
}

impl Partial {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The record, if there are bytes that it is about.
    pub(super) fn record(&self) -> Option<Record> {
        let record = serde_json::from_slice(&fs::read(self.record_path()).ok()?).ok()?;
        (self.bytes() > 0).then_some(record)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.record_path();
        let json = serde_json::to_vec(record).context(Kind::Host, || format!("cannot write {}", path.display()))?;
        replace_file(&path, &json, 0o600).context(Kind::Host, || format!("cannot write {}", path.display()))
    }

    /// Removes what is there.
    pub(super) fn discard(&self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.record_path());
    }

    /// Removes the record of bytes that have found their place.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(self.record_path());
    }

    fn record_path(&self) -> PathBuf {
        self.path.with_extension("part.json")
    }
}
