//! Files of package servers below `$XDG_CACHE_HOME/visabuild/packages`.
//!
//! ```text
//! KK/KEY        the content, as the server sent it
//! KK/KEY.json   its [`Record`]; modified whenever it is used, so its age is that of the last use
//! KK/KEY.lock   held by whoever fetches it
//! KK/KEY.part   what has come so far; worth nothing once nobody holds the lock
//! apt-https     APT's method for https of builds (`apt-https.sh`)
//! choices.json  which alternatives were reachable (module `choices`)
//! ```
//!
//! KEY is the SHA-256 of the URL and of the form that was asked for, KK its first two digits. An entry counts only
//! while the content has the size and SHA-256 of its record. Whoever removes one holds its lock and removes the record first.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cache::{lock_file, replace_file};
use crate::checksum;
use crate::disk_space;
use crate::error::{Context, Kind, Result};

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it came from, without credentials and query.
    pub url: String,
    /// What the server answered: 200, or 404 and 410, which have no content.
    pub status: u16,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
    /// The address after redirections, which relative links refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Validator of RFC 9110, section 8.8.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Validator of RFC 9110, section 8.8.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// What the cache has under a key.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Something that is not what its record says: it was thrown away.
    Broken,
    /// The content, at its beginning.
    Entry(Record, File),
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).context(Kind::Host, || format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, key: &str, suffix: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(format!("{key}{suffix}"))
    }

    /// The file for what comes of the entry `key`; who writes to it holds the lock.
    pub(super) fn partial(&self, key: &str) -> PathBuf {
        self.path(key, ".part")
    }

    /// Waits until nobody else, in whichever process, fetches the entry `key`.
    pub(super) fn lock(&self, key: &str) -> Result<File> {
        let path = self.path(key, ".lock");
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).context(Kind::Host, || format!("cannot make {}", folder.display()))?;
        let file = lock_file(&path)?;
        file.lock().context(Kind::Host, || format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// The entry `key`, every byte of it compared.
    pub(super) fn get(&self, key: &str) -> Found {
        let path = self.path(key, ".json");
        let Ok(text) = fs::read(&path) else { return Found::Nothing };
        let record = serde_json::from_slice::<Record>(&text).ok();
        let content = record.and_then(|record| Some((verified(&self.path(key, ""), &record).ok()??, record)));
        let Some((file, record)) = content else {
            // Somebody may have replaced it between our looks at its two files.
            if fs::read(&path).is_ok_and(|now| now != text) {
                return self.get(key);
            }
            self.remove(key);
            return Found::Broken;
        };
        if let Ok(file) = File::options().append(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Found::Entry(record, file)
    }

    fn remove(&self, key: &str) {
        let _ = fs::remove_file(self.path(key, ".json"));
        let _ = fs::remove_file(self.path(key, ""));
    }

    /// Makes the partial file, which is complete, the entry `key`. The caller holds its lock.
    pub(super) fn land(&self, key: &str, partial: &File, record: &Record) -> io::Result<()> {
        partial.sync_data()?;
        // In between an old record stands beside the new content, which counts as broken if we die here.
        fs::rename(self.partial(key), self.path(key, ""))?;
        self.write(key, record)
    }

    /// Writes down a refusal, which has no content. The caller holds the lock.
    pub(super) fn refuse(&self, key: &str, record: &Record) -> io::Result<()> {
        File::create(self.path(key, ""))?;
        self.write(key, record)
    }

    fn write(&self, key: &str, record: &Record) -> io::Result<()> {
        replace_file(&self.path(key, ".json"), &serde_json::to_vec(record)?, 0o600)
    }

    /// Bytes that are free for new entries.
    pub(super) fn room(&self) -> u64 {
        disk_space::free(&self.folder).unwrap_or(u64::MAX)
    }
}

/// The file at its beginning, if it is what `record` says.
fn verified(path: &Path, record: &Record) -> io::Result<Option<File>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != record.size {
        return Ok(None);
    }
    let sha256 = checksum::sha256(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((sha256 == record.sha256).then_some(file))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write};
    use std::time::Duration;

    use super::*;

    const KEY: &str = "ab00";

    fn kept(store: &Store, content: &[u8]) -> Record {
        let _lock = store.lock(KEY).unwrap();
        let mut partial = File::create(store.partial(KEY)).unwrap();
        partial.write_all(content).unwrap();
        let record = Record {
            url: "http://mirror.example/pool/x.deb".to_owned(),
            status: 200,
            size: content.len() as u64,
            sha256: checksum::sha256(content).unwrap(),
            base: None,
            content_type: None,
            etag: None,
            last_modified: None,
        };
        store.land(KEY, &partial, &record).unwrap();
        record
    }

    #[test]
    fn an_entry_is_kept_and_its_use_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("packages")).unwrap();
        assert!(matches!(store.get(KEY), Found::Nothing));
        let record = kept(&store, b"content");
        let path = store.path(KEY, ".json");
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let Found::Entry(found, mut file) = store.get(KEY) else { panic!("it is there") };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((found, text.as_str()), (record, "content"));
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > long_ago + Duration::from_secs(500));
        assert!(!store.partial(KEY).exists());
    }

    #[test]
    fn a_flipped_byte_and_a_torn_file_are_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("packages")).unwrap();
        for broken in [&b"contenT"[..], b"cont", b""] {
            kept(&store, b"content");
            fs::write(store.path(KEY, ""), broken).unwrap();
            assert!(matches!(store.get(KEY), Found::Broken));
            assert!(matches!(store.get(KEY), Found::Nothing));
        }
        kept(&store, b"content");
        fs::write(store.path(KEY, ".json"), "{\"url\":").unwrap();
        assert!(matches!(store.get(KEY), Found::Broken));
    }
}
