//! What a stage fetched, for its layer, the manifest and the user.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::store::Record;
use crate::report::size;

/// A file that a stage fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FetchedFile {
    /// Where it is, without credentials and query.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// The files of one stage.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By URL; the second says whether it came over the network.
    files: BTreeMap<String, (FetchedFile, bool)>,
    /// What was asked for without the network and is not in the cache.
    missed: Vec<String>,
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic elsewhere leaves the lists whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has got a file.
    pub(super) fn add(&self, record: &Record, fetched: bool) {
        let Record { url, size, sha256, .. } = record.clone();
        self.put(url, size, sha256, fetched);
    }

    /// A client has got a file that is not kept.
    pub(super) fn passed(&self, url: &str, size: u64, sha256: String) {
        self.put(url.to_owned(), size, sha256, true);
    }

    fn put(&self, url: String, size: u64, sha256: String, fetched: bool) {
        let file = FetchedFile { url: url.clone(), size, sha256 };
        let mut entries = self.entries();
        let before = entries.files.get(&url).is_some_and(|(_, fetched)| *fetched);
        entries.files.insert(url, (file, fetched || before));
    }

    /// Something was asked for that only the network has.
    pub(super) fn miss(&self, url: String) {
        let mut entries = self.entries();
        if !entries.missed.contains(&url) {
            entries.missed.push(url);
        }
    }

    /// What only the network has.
    pub(super) fn missed(&self) -> Vec<String> {
        self.entries().missed.clone()
    }

    /// All files so far, sorted by URL.
    pub(super) fn files(&self) -> Vec<FetchedFile> {
        self.entries().files.values().map(|(file, _)| file.clone()).collect()
    }

    /// `packages: 214 from the cache, 3 fetched (12 MiB)`; none where nothing was asked for.
    pub(super) fn summary(&self) -> Option<String> {
        let entries = self.entries();
        let fetched: Vec<_> = entries.files.values().filter(|(_, fetched)| *fetched).collect();
        let cached = entries.files.len() - fetched.len();
        let bytes = fetched.iter().map(|(file, _)| file.size).sum();
        let of = if fetched.is_empty() { String::new() } else { format!(" ({})", size(bytes)) };
        (!entries.files.is_empty()).then(|| format!("packages: {cached} from the cache, {} fetched{of}", fetched.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_sorted() {
        let record = |url: &str, size| Record {
            url: url.to_owned(),
            status: 200,
            size,
            sha256: "00".to_owned(),
            base: None,
            content_type: None,
            etag: None,
            last_modified: None,
        };
        let log = Log::default();
        assert_eq!(log.summary(), None);
        log.add(&record("http://m/b", 3 << 20), true);
        log.add(&record("http://m/a", 5), false);
        log.add(&record("http://m/b", 3 << 20), false);
        assert_eq!(log.summary().unwrap(), format!("packages: 1 from the cache, 1 fetched ({})", size(3 << 20)));
        assert_eq!(log.files().iter().map(|file| file.url.as_str()).collect::<Vec<_>>(), ["http://m/a", "http://m/b"]);
        log.miss("http://m/c".to_owned());
        log.miss("http://m/c".to_owned());
        assert_eq!(log.missed(), ["http://m/c"]);
    }
}
