//! Files on their way from a package server into the cache: each once, however many ask for it.
//!
//! Whoever asks first starts a flight, which goes on when the client is gone; whoever else asks meanwhile reads what
//! has come so far and follows. Another visabuild waits for the entry's lock and then finds the file.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::store::{Found, Record, Store};
use super::target::{Target, public};
use super::upstream::Upstream;
use crate::checksum::hex;
use crate::event::Events;
use crate::preflight::reach;
use crate::report::size;

/// Bytes that stay free on the cache's disk: the guests' disks grow there, too.
const RESERVE: u64 = 256 << 20;

/// How far a flight is.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// The server was asked.
    Asked,
    /// So many bytes are in the file.
    Coming(Coming, u64),
    /// It is in the cache; `fetched`, if its bytes came over the network just now.
    Kept { record: Arc<Record>, fetched: bool },
    /// It cannot be kept: everybody asks for themselves.
    Uncached,
    /// It cannot be had.
    Failed(Failure),
}

/// What is known of a file that is coming.
#[derive(Debug, Clone)]
pub(super) struct Coming {
    /// Without size and hash, which are not known yet.
    pub(super) record: Arc<Record>,
    pub(super) file: Arc<File>,
    pub(super) total: Option<u64>,
}

/// Why there is no file.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What the client is answered.
    pub(super) status: StatusCode,
    /// Why, without credentials.
    pub(super) cause: String,
}

impl Failure {
    fn gateway(cause: impl Into<String>) -> State {
        State::Failed(Self { status: StatusCode::BAD_GATEWAY, cause: cause.into() })
    }
}

/// What brings files into one store.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) store: Store,
    pub(super) upstream: Upstream,
    running: Mutex<HashMap<String, watch::Receiver<State>>>,
    /// Nothing more can be kept.
    full: AtomicBool,
    events: Events,
    /// Ends all flights.
    cancel: CancellationToken,
}

impl Fetcher {
    pub(super) fn new(store: Store, upstream: Upstream, events: &Events, cancel: CancellationToken) -> Self {
        let (running, full) = (Mutex::default(), AtomicBool::new(false));
        Self { store, upstream, running, full, events: events.clone(), cancel }
    }

    /// The flight that brings `target`, and whether this call began it.
    pub(super) fn join(self: &Arc<Self>, target: &Target) -> (watch::Receiver<State>, bool) {
        let key = target.key();
        // A panic elsewhere leaves the table whole.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(&key) {
            return (flight.clone(), false);
        }
        let (sender, receiver) = watch::channel(State::Asked);
        running.insert(key.clone(), receiver.clone());
        let flight = Flight { fetcher: Arc::clone(self), target: target.clone(), key, sender };
        let cancel = self.cancel.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = flight.fly() => ended,
                () = cancel.cancelled() => Failure::gateway("visabuild is ending"),
            };
            flight.sender.send_replace(ended);
        });
        (receiver, true)
    }

    /// The entry of `target` as the cache has it.
    pub(super) async fn get(&self, key: String) -> Found {
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || store.get(&key)).await.unwrap_or(Found::Nothing);
        if matches!(found, Found::Broken) {
            self.events.warn(None, "a file in the package cache was not what it had been, and was thrown away");
        }
        found
    }

    /// A request for `target`, by whatever proxy leads there, with the credentials of its server.
    pub(super) fn request(&self, method: Method, target: &Target) -> RequestBuilder {
        let client = self.upstream.client(target.archive);
        let request = client.request(method, target.url.clone()).header(ACCEPT_ENCODING, "identity");
        match self.upstream.authorization(&target.url) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        }
    }

    /// From now on nothing is kept, and that is said once.
    fn give_up_keeping(&self, why: &str) -> State {
        if !self.full.swap(true, Ordering::Relaxed) {
            let folder = self.store.folder().display();
            self.events.warn(None, format!("packages are fetched, but not kept any more in {folder}: {why}"));
        }
        State::Uncached
    }
}

/// One file on its way.
struct Flight {
    fetcher: Arc<Fetcher>,
    target: Target,
    key: String,
    sender: watch::Sender<State>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.fetcher.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Flight {
    async fn fly(&self) -> State {
        let fetcher = &self.fetcher;
        if fetcher.full.load(Ordering::Relaxed) {
            return State::Uncached;
        }
        let (store, key) = (fetcher.store.clone(), self.key.clone());
        let lock = match tokio::task::spawn_blocking(move || store.lock(&key)).await {
            Ok(Ok(lock)) => lock,
            Ok(Err(error)) => return fetcher.give_up_keeping(&error.chain().join(": ")),
            Err(_) => return State::Uncached,
        };
        let known = match fetcher.get(self.key.clone()).await {
            Found::Entry(record, _) if self.target.immutable => {
                return State::Kept { record: Arc::new(record), fetched: false };
            }
            Found::Entry(record, _) => Some(record),
            Found::Nothing | Found::Broken => None,
        };
        let landed = self.ask(known).await;
        if !matches!(landed, State::Kept { .. }) {
            let _ = std::fs::remove_file(fetcher.store.partial(&self.key));
        }
        drop(lock);
        landed
    }

    /// Asks the server, for something newer where something is known.
    async fn ask(&self, known: Option<Record>) -> State {
        let mut request = self.fetcher.request(Method::GET, &self.target);
        if let Some(accept) = &self.target.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(tag) = known.as_ref().and_then(|record| record.etag.as_ref()) {
            request = request.header(IF_NONE_MATCH, tag);
        } else if let Some(date) = known.as_ref().and_then(|record| record.last_modified.as_ref()) {
            request = request.header(IF_MODIFIED_SINCE, date);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return self.stale(known, StatusCode::BAD_GATEWAY, reach::innermost(error)),
        };
        let status = answer.status();
        match (status, known) {
            (StatusCode::NOT_MODIFIED, Some(record)) => State::Kept { record: Arc::new(record), fetched: false },
            (StatusCode::OK, _) => self.receive(answer).await,
            // Without the network, too, it is known then that there is no such file.
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) if !self.target.immutable => self.refused(&answer),
            (status, known) if status.is_server_error() => self.stale(known, status, format!("answers {status}")),
            (status, _) => State::Failed(Failure { status, cause: format!("answers {status}") }),
        }
    }

    /// What was there before counts while the server cannot say whether there is something newer.
    fn stale(&self, known: Option<Record>, status: StatusCode, cause: String) -> State {
        let Some(record) = known else { return State::Failed(Failure { status, cause }) };
        let text = format!("{}: {cause}; what it said last is used", self.target.public_url());
        self.fetcher.events.warn(None, text);
        State::Kept { record: Arc::new(record), fetched: false }
    }

    fn record(&self, answer: &Response) -> Record {
        let text = |headers: &HeaderMap, name: HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let base = public(answer.url());
        let url = self.target.public_url();
        Record {
            status: answer.status().as_u16(),
            size: 0,
            sha256: String::new(),
            base: (base != url).then_some(base),
            url,
            content_type: text(answer.headers(), CONTENT_TYPE),
            etag: text(answer.headers(), ETAG),
            last_modified: text(answer.headers(), LAST_MODIFIED),
        }
    }

    fn refused(&self, answer: &Response) -> State {
        let record = Record { sha256: hex(&Sha256::digest([])), ..self.record(answer) };
        match self.fetcher.store.refuse(&self.key, &record) {
            Ok(()) => State::Kept { record: Arc::new(record), fetched: true },
            Err(error) => self.fetcher.give_up_keeping(&error.to_string()),
        }
    }

    /// Brings the content into the cache, with everybody who waits for it following.
    async fn receive(&self, mut answer: Response) -> State {
        let total = answer.content_length();
        let room = self.fetcher.store.room();
        if total.unwrap_or_default().saturating_add(RESERVE) > room {
            return self.fetcher.give_up_keeping(&format!("{} are free", size(room)));
        }
        let path = self.fetcher.store.partial(&self.key);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => Arc::new(file),
            Err(error) => return self.fetcher.give_up_keeping(&error.to_string()),
        };
        let record = self.record(&answer);
        let coming = Coming { record: Arc::new(record.clone()), file: Arc::clone(&file), total };
        let (mut done, mut hash) = (0, Sha256::new());
        loop {
            self.sender.send_replace(State::Coming(coming.clone(), done));
            let bytes = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Failure::gateway(format!("broke off: {}", reach::innermost(error))),
            };
            hash.update(&bytes);
            let (file, length) = (Arc::clone(&file), bytes.len() as u64);
            let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, done)).await;
            if let Ok(Err(error)) = written {
                self.fetcher.give_up_keeping(&error.to_string());
                // Whoever follows has the beginning already: they ask again, and are not served from the cache then.
                return Failure::gateway("the package cache cannot be written to");
            }
            done += length;
        }
        let record = Record { size: done, sha256: hex(&hash.finalize()), ..record };
        self.land(&file, record, total).await
    }

    async fn land(&self, file: &Arc<File>, record: Record, total: Option<u64>) -> State {
        if let Some(total) = total.filter(|total| *total != record.size) {
            return Failure::gateway(format!("broke off after {} of {total} bytes", record.size));
        }
        if let Some(wanted) = self.target.sha256.as_ref().filter(|wanted| **wanted != record.sha256) {
            let text = format!("has the SHA-256 {}, and not {wanted}", record.sha256);
            self.fetcher.events.warn(None, format!("{} {text}: it is not kept", record.url));
            return Failure::gateway(text);
        }
        let (store, key, file, kept) = (self.fetcher.store.clone(), self.key.clone(), Arc::clone(file), record.clone());
        match tokio::task::spawn_blocking(move || store.land(&key, &file, &kept)).await {
            Ok(Err(error)) => {
                self.fetcher.give_up_keeping(&error.to_string());
                Failure::gateway("the package cache cannot be written to")
            }
            _ => State::Kept { record: Arc::new(record), fetched: true },
        }
    }
}
