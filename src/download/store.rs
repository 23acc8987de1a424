//! Downloaded files in the cache, named by what they are.
//!
//! ```text
//! downloads/sha256-HEX              a file
//!           sha512-HEX -> sha256-…  the same by another checksum
//!           url-KEY.json            what a URL served last, where no checksum is asked for
//!           list-KEY.json           what a checksum list said last
//!           KEY.part KEY.part.json  the beginning of a file, and where it is from
//!           KEY.lock                held by who downloads it
//! ```

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::checksum::{Digest, Sums};
use super::partial::{Partial, Validators};
use super::{Task, credentials_free};
use crate::cache::{Cache, lock_file, publish_file, replace_file, try_lock};
use crate::checksum::Algorithm;
use crate::error::{Context, Error, Kind, Result};

/// How often a lock is tried that another process holds. The waiting must end with a cancellation, which a thread
/// in flock(2) would not notice.
const LOOK: Duration = Duration::from_millis(200);

/// A file of the store: it stays while this value lives.
#[derive(Debug)]
pub struct Stored {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    pub(super) in_use: File,
}

/// What a URL served last.
#[derive(Serialize, Deserialize)]
struct Served {
    sha256: String,
    validators: Validators,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(super) fn open(cache: &Cache) -> Result<Self> {
        let folder = cache.root().join("downloads");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .context(Kind::Host, || format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The file with the checksum `digest`, if it is there.
    pub(super) fn get(&self, digest: &Digest) -> Result<Option<Stored>> {
        let Ok(path) = self.folder.join(file_name(digest)).canonicalize() else { return Ok(None) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(sha256) = name.strip_prefix("sha256-") else { return Ok(None) };
        let Ok(in_use) = File::open(&path) else { return Ok(None) };
        in_use.lock_shared().context(Kind::Host, || format!("cannot lock {}", path.display()))?;
        // It may have been removed between the opening and the locking.
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(_) => return Ok(None),
        };
        // For `cache gc`, which removes first what nobody used for long.
        let _ = in_use.set_modified(SystemTime::now());
        Ok(Some(Stored { path, sha256: sha256.to_owned(), bytes, in_use }))
    }

    /// Takes the lock of `key`; waits for who holds it.
    pub(super) async fn lock(&self, key: &str, task: Task<'_>) -> Result<File> {
        let lock = lock_file(&self.folder.join(format!("{key}.lock")))?;
        let mut told = false;
        while !try_lock(&lock)? {
            if !told {
                let text = format!("`{}` is being downloaded by another build: waiting for it", task.name);
                task.phase.events().info(Some(task.phase.template()), text);
                told = true;
            }
            tokio::select! {
                () = task.cancel.cancelled() => return Err(cancelled(task.name)),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(lock)
    }

    /// The beginning of a file that may be there.
    pub(super) fn partial(&self, key: &str) -> Partial {
        Partial::new(self.folder.join(format!("{key}.part")))
    }

    /// Gives a complete file its name; if it is not what `digest` says, it is removed and the inner error says what
    /// it is.
    pub(super) async fn land(
        &self,
        partial: &Partial,
        digest: Option<&Digest>,
        task: Task<'_>,
    ) -> Result<Result<Stored, String>> {
        let path = partial.path();
        let sums = sums(path, digest, task).await?.context(Kind::Host, || format!("cannot read {}", path.display()))?;
        if let Err(wrong) = sums.check(digest) {
            partial.discard();
            return Ok(Err(wrong));
        }
        let fail = |error: io::Error| Error::host("cannot keep a download in the cache").because(error);
        // Nobody writes to it any more: every build that wants the file reads this one.
        fs::set_permissions(path, Permissions::from_mode(0o400)).map_err(fail)?;
        let name = format!("sha256-{}", sums.sha256);
        publish_file(path, &self.folder.join(&name)).map_err(fail)?;
        partial.forget();
        if let Some(digest) = digest.filter(|digest| digest.algorithm != Algorithm::Sha256) {
            let alias = self.folder.join(file_name(digest));
            let _ = fs::remove_file(&alias);
            symlink(&name, &alias).map_err(fail)?;
        }
        let found = self.by_sha256(&sums.sha256)?;
        found.map(Ok).ok_or_else(|| Error::host("a download vanished from the cache"))
    }

    /// What a URL without a checksum served last, if it is still there.
    pub(super) fn unchecked(&self, key: &str) -> Result<Option<(Stored, Validators)>> {
        let Some(served) = self.read::<Served>(key) else { return Ok(None) };
        Ok(self.by_sha256(&served.sha256)?.map(|stored| (stored, served.validators)))
    }

    /// Remembers what a URL served.
    pub(super) fn remember(&self, key: &str, stored: &Stored, validators: &Validators) -> Result<()> {
        self.write(key, &Served { sha256: stored.sha256.clone(), validators: validators.clone() })
    }

    /// A record.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.record_path(key)).ok()?).ok()
    }

    /// Writes a record.
    pub(super) fn write<T: Serialize>(&self, key: &str, record: &T) -> Result<()> {
        let path = self.record_path(key);
        let json = serde_json::to_vec(record).context(Kind::Host, || format!("cannot write {}", path.display()))?;
        replace_file(&path, &json, 0o600).context(Kind::Host, || format!("cannot write {}", path.display()))
    }

    fn by_sha256(&self, sha256: &str) -> Result<Option<Stored>> {
        Digest::new(Algorithm::Sha256, sha256).map_or(Ok(None), |digest| self.get(&digest))
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm.name(), digest.hex())
}

/// Names a URL in the store, whatever credentials it is asked with.
pub(super) fn url_key(url: &Url) -> String {
    key("url", url.as_str())
}

/// A name for what belongs to `url`, which may hold credentials, in the role `role`.
pub(super) fn key(role: &str, url: &str) -> String {
    format!("{role}-{}", crate::checksum::hex(&Sha256::digest(credentials_free(url))))
}

/// The sums of the file at `path`, computed on a thread of its own. The inner error is the disk's.
pub(super) async fn sums(path: &Path, digest: Option<&Digest>, task: Task<'_>) -> Result<io::Result<Sums>> {
    let (path, algorithm, cancel) = (path.to_owned(), digest.map(|digest| digest.algorithm), task.cancel.clone());
    let summed = tokio::task::spawn_blocking(move || Sums::of(&path, algorithm, |_| !cancel.is_cancelled())).await;
    let sums = summed.context(Kind::Host, || format!("cannot sum up `{}`", task.name))?;
    match sums {
        Err(_) if task.cancel.is_cancelled() => Err(cancelled(task.name)),
        sums => Ok(sums),
    }
}

/// The user wants no more.
pub(super) fn cancelled(name: &str) -> Error {
    Error::new(Kind::Interrupted, format!("the download of `{name}` was stopped"))
        .hint("what is there of it is kept: the next run continues it")
}
