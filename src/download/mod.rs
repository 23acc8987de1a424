//! Files from elsewhere (installer images, disk images), fetched into the cache.
//!
//! A file has one or more [`Place`]s, which are tried in their order, and a [`Checksum`], which it must have before
//! it gets its name in the cache; only `none`, said explicitly, does without. What a broken transfer left is
//! continued, by the same run or by a later one. Files are named by their SHA-256 and shared between builds; who uses
//! one holds a shared lock on it. One process downloads a file, the others wait for it.
//!
//! There is no limit on the whole time, because nobody knows how long a gigabyte takes; a connection that brings
//! nothing for [`Policy::stall`] is given up. Credentials in URLs reach the server and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::event::Phase;
use crate::preflight::certificates::Certificate;
use crate::preflight::reach::{self, Failure, Proxy};

pub use checksum::{Checksum, Digest, Signature};
pub use checksum_list::ChecksumList;
pub use place::Place;
pub use store::Stored;

mod checksum;
mod checksum_list;
mod expected;
mod partial;
mod place;
mod retry;
mod store;
mod transfer;

use partial::Partial;
use store::Store;
use transfer::{Outcome, Transfer};

/// A file that is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it can be had; tried in this order.
    pub places: Vec<Place>,
    /// What it must be.
    pub checksum: Checksum,
}

impl Request {
    /// A request for the file at `urls` (http, https, file, or paths relative to `folder`) with a checksum in one of
    /// Packer's forms ([`Checksum::parse`]).
    ///
    /// # Errors
    /// There is no URL, or one of them or the checksum cannot be understood (kind usage).
    pub fn parse<S: AsRef<str>>(urls: &[S], checksum: &str, folder: &Path) -> Result<Self> {
        let places = urls.iter().map(|url| Place::parse(url.as_ref(), folder)).collect::<Result<Vec<_>>>()?;
        if places.is_empty() {
            return Err(Error::usage("no URL says where the file can be had"));
        }
        Ok(Self { places, checksum: Checksum::parse(checksum, folder)? })
    }

    /// What the file is called where it can be had.
    pub fn name(&self) -> String {
        self.places.iter().find_map(Place::file_name).unwrap_or_else(|| "file".to_owned())
    }
}

/// A file that is there and is what was asked for.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is: in the cache, or where the user has it.
    pub path: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Keeps it in the cache; none for the user's own file.
    _in_use: Option<std::fs::File>,
}

impl From<Stored> for Fetched {
    fn from(stored: Stored) -> Self {
        Self { path: stored.path, sha256: stored.sha256, bytes: stored.bytes, _in_use: Some(stored.in_use) }
    }
}

/// How patient a download is.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a connection may bring nothing.
    pub stall: Duration,
    /// How often in a row a place may fail without bringing anything before the next one is tried.
    pub attempts: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(60),
            attempts: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Fetches files into one cache.
#[derive(Debug, Clone)]
pub struct Downloader {
    store: Store,
    client: reqwest::Client,
    policy: Policy,
    offline: bool,
}

/// What the parts of one download share.
#[derive(Clone, Copy)]
struct Task<'a> {
    name: &'a str,
    phase: &'a Phase,
    cancel: &'a CancellationToken,
}

impl Downloader {
    /// A downloader that uses only `proxy`, never the environment, and trusts `authorities` beside the host's own.
    ///
    /// # Errors
    /// The proxy's URL or a certificate cannot be used (kind usage), or the cache's folder cannot be made (kind host).
    pub fn new(cache: &Cache, proxy: &Proxy, authorities: &[Certificate], policy: Policy) -> Result<Self> {
        // Compression that the client undoes by itself would make sizes and ranges wrong.
        let builder = reach::client_builder(proxy, authorities)?.connect_timeout(policy.connect);
        let client = builder
            .no_gzip()
            .no_deflate()
            .no_brotli()
            .no_zstd()
            .build()
            .map_err(|error| Error::usage("preparing downloads").because(error.without_url()))?;
        Ok(Self { store: Store::open(cache)?, client, policy, offline: false })
    }

    /// Whether the network is left alone: what is not in the cache and on no disk is then an error.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// What it asks with.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The file that `request` wants; downloads it unless the cache has it. Its progress is told to `phase`.
    ///
    /// # Errors
    /// No place has it, each with the reason; it has another checksum; there is no room (kind host); its checksum
    /// list does not name it (kind usage); or `cancel` fires.
    pub async fn fetch(&self, request: &Request, phase: &Phase, cancel: &CancellationToken) -> Result<Fetched> {
        let name = request.name();
        let task = Task { name: &name, phase, cancel };
        match self.expected(request, task).await? {
            Some(digest) => self.fetch_verified(request, &digest, task).await,
            None => self.fetch_unchecked(request, task).await,
        }
    }

    async fn fetch_verified(&self, request: &Request, digest: &Digest, task: Task<'_>) -> Result<Fetched> {
        if let Some(stored) = self.store.get(digest)? {
            return Ok(stored.into());
        }
        let key = digest_key(digest);
        let _lock = self.store.lock(&key, task).await?;
        // Somebody else may have fetched it meanwhile.
        if let Some(stored) = self.store.get(digest)? {
            return Ok(stored.into());
        }
        let mut failures = Vec::new();
        for place in &request.places {
            let fetched = match place {
                Place::File(path) => local_file(path, Some(digest), task).await,
                Place::Http(_) if self.offline => Err(Refusal::offline()),
                Place::Http(url) => self.download(url, &key, Some(digest), task).await,
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                Err(refusal) => failures.push(refusal.of(place)?),
            }
        }
        Err(self.failed(task.name, Some(digest), failures))
    }

    /// Takes the finished file at `path`, which came another way, into the cache, if it is what `digest` says.
    ///
    /// # Errors
    /// It is another file, or cannot be moved (kind host).
    pub async fn adopt(
        &self,
        path: &Path,
        digest: &Digest,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<Fetched> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let task = Task { name: &name, phase, cancel };
        let landed = self.store.land(&Partial::new(path.to_owned()), Some(digest), task).await?;
        let landed = landed.map_err(|wrong| Error::host(format!("`{name}` {wrong}")))?;
        Ok(landed.into())
    }

    /// The file with the checksum `digest`, if the cache has it.
    ///
    /// # Errors
    /// The cache cannot be read (kind host).
    pub fn cached(&self, digest: &Digest) -> Result<Option<Fetched>> {
        Ok(self.store.get(digest)?.map(Fetched::from))
    }

    /// Whether the network is left alone.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// The lock that whoever downloads `name` holds, by [`Downloader::fetch`] or otherwise.
    pub(crate) async fn lock(
        &self,
        digest: &Digest,
        name: &str,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<std::fs::File> {
        self.store.lock(&digest_key(digest), Task { name, phase, cancel }).await
    }

    /// What was noted of `subject` in the role `role`.
    pub(crate) fn noted<T: DeserializeOwned>(&self, role: &str, subject: &str) -> Option<T> {
        self.store.read(&store::key(role, subject))
    }

    /// Notes something of `subject` in the role `role`, for later runs.
    pub(crate) fn note<T: Serialize>(&self, role: &str, subject: &str, note: &T) -> Result<()> {
        self.store.write(&store::key(role, subject), note)
    }

    /// Fetches a file that may be anything. The copy in the cache counts as long as the server says that it is the
    /// same, or does not answer at all.
    async fn fetch_unchecked(&self, request: &Request, task: Task<'_>) -> Result<Fetched> {
        let mut failures = Vec::new();
        for place in &request.places {
            let fetched = match place {
                Place::File(path) => local_file(path, None, task).await,
                Place::Http(_) if self.offline => Err(Refusal::offline()),
                Place::Http(url) => {
                    let key = store::url_key(url);
                    let _lock = self.store.lock(&key, task).await?;
                    self.download(url, &key, None, task).await
                }
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                Err(refusal) => failures.push(refusal.of(place)?),
            }
        }
        let keys = request.places.iter().filter_map(|place| place.url().map(store::url_key));
        for key in keys {
            if let Some((stored, _)) = self.store.unchecked(&key)? {
                let text = format!("`{}` cannot be had now: the copy in the cache is used, unchecked", task.name);
                task.phase.events().warn(Some(task.phase.template()), text);
                return Ok(stored.into());
            }
        }
        Err(self.failed(task.name, None, failures))
    }

    /// Downloads from one URL. The caller holds the lock of `key`.
    async fn download(
        &self,
        url: &reqwest::Url,
        key: &str,
        digest: Option<&Digest>,
        task: Task<'_>,
    ) -> Result<Fetched, Refusal> {
        let known = if digest.is_none() { self.store.unchecked(key)? } else { None };
        let partial = self.store.partial(key);
        let transfer = Transfer {
            client: &self.client,
            policy: &self.policy,
            url,
            partial: &partial,
            checked: digest.is_some(),
            known: known.as_ref().map(|(_, validators)| validators),
            limit: None,
            task,
        };
        let mut anew = false;
        loop {
            let outcome = transfer.run().await?;
            let Outcome::Complete { validators, continued } = outcome else {
                return known.map(|(stored, _)| stored.into()).ok_or_else(|| Refusal::because("answers 304 unasked"));
            };
            match self.store.land(&partial, digest, task).await? {
                Ok(stored) => {
                    if digest.is_none() {
                        self.store.remember(key, &stored, &validators)?;
                    }
                    return Ok(stored.into());
                }
                // The pieces may be of different files: once more, but only once, from the beginning.
                Err(_) if continued && !anew => anew = true,
                Err(wrong) => return Err(Refusal::because(wrong)),
            }
        }
    }

    fn failed(&self, name: &str, digest: Option<&Digest>, failures: Vec<Failure>) -> Error {
        let checksum = digest.map(|digest| format!(" ({digest})")).unwrap_or_default();
        if self.offline {
            return Error::host(format!("`{name}`{checksum} is not in the cache, and the network is left alone"))
                .because(Failures(failures))
                .hint("build once with the network, or name a copy of the file among its URLs");
        }
        Error::host(format!("cannot get `{name}`{checksum}")).because(Failures(failures))
    }
}

/// Why one place did not help, or why nothing can.
#[derive(Debug)]
enum Refusal {
    /// This place did not; the next may.
    Place(String),
    /// No place can help: a full disk, a cancellation.
    Fatal(Error),
}

impl Refusal {
    fn because(cause: impl Into<String>) -> Self {
        Self::Place(cause.into())
    }

    fn offline() -> Self {
        Self::because("not asked, because the network is left alone")
    }

    fn of(self, place: &Place) -> Result<Failure> {
        match self {
            Self::Place(cause) => Ok(Failure { url: place.to_string(), cause }),
            Self::Fatal(error) => Err(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

fn digest_key(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// `url` as what names it: who asks does not matter.
fn credentials_free(url: &str) -> String {
    crate::credentials::strip(url)
}

/// All places and why none of them helped, one a line.
#[derive(Debug)]
struct Failures(Vec<Failure>);

impl std::fmt::Display for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, failure) in self.0.iter().enumerate() {
            let end = if place == 0 { "" } else { "\n" };
            write!(f, "{end}{}: {}", failure.url, failure.cause)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

/// The user's own file, used where it is.
async fn local_file(path: &Path, digest: Option<&Digest>, task: Task<'_>) -> Result<Fetched, Refusal> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(Refusal::because("is no file")),
        Err(error) => return Err(Refusal::because(error.to_string())),
    }
    let sums = store::sums(path, digest, task).await?;
    let sums = sums.map_err(|error| Refusal::because(error.to_string()))?;
    sums.check(digest).map_err(Refusal::because)?;
    Ok(Fetched { path: path.to_owned(), sha256: sums.sha256, bytes: sums.bytes, _in_use: None })
}
