//! How a request of a guest is answered: out of the cache, from a flight, or past the cache.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Extract};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, PROXY_AUTHORIZATION, RANGE, TE, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::stream;
use hyper::ext::ReasonPhrase;
use reqwest::Url;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use super::flight::{Coming, Failure, Fetcher, State};
use super::index_page;
use super::log::Log;
use super::store::{Found, Record};
use super::target::{Target, public};
use crate::checksum::hex;
use crate::preflight::reach;

/// Bytes that go out at once.
const PIECE: usize = 64 << 10;
/// The most of a request's body (npm's audit sends lists) and of an index page.
const MOST: usize = 64 << 20;
/// Headers that are of one connection (RFC 9110, section 7.6.1), or that would make an answer partial.
const OWN: [HeaderName; 8] =
    [HOST, CONNECTION, CONTENT_LENGTH, PROXY_AUTHORIZATION, RANGE, TE, TRANSFER_ENCODING, UPGRADE];

/// What the requests of one stage share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) log: Arc<Log>,
    pub(super) offline: bool,
}

/// Answers any request.
pub(super) async fn answer(Extract(desk): Extract<Arc<Desk>>, request: Request) -> Response {
    desk.answer(request).await
}

impl Desk {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        if request.method() == Method::CONNECT {
            return told(StatusCode::METHOD_NOT_ALLOWED, "the package cache passes no connections on");
        }
        let headers = request.headers();
        let Some(mut target) = Target::of(request.uri(), headers, &self.fetcher.upstream) else {
            return told(StatusCode::NOT_FOUND, "no package server is known for this path");
        };
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if header(CACHE_CONTROL).is_some_and(|value| value.contains("no-cache")) && !self.offline {
            target.immutable = false;
        }
        let own = headers
            .get(AUTHORIZATION)
            .is_none_or(|value| self.fetcher.upstream.authorization(&target.url).is_some_and(|known| known == value));
        match *request.method() {
            // What is for one client only is not kept.
            Method::GET if own => {
                let known = Known { etag: header(IF_NONE_MATCH), last_modified: header(IF_MODIFIED_SINCE) };
                self.get(&target, known).await.unwrap_or(Answer::Past)
            }
            Method::HEAD if own => self.head(&target).await,
            _ => Answer::Past,
        }
        .or_past(&self, &target, request)
        .await
    }

    async fn get(self: &Arc<Self>, target: &Target, known: Known<'_>) -> Option<Answer> {
        let key = target.key();
        if target.immutable || self.offline {
            let found = self.fetcher.get(key.clone()).await;
            if let Found::Entry(record, file) = found {
                return Some(Answer::Is(self.kept(target, &record, file, known, false)));
            }
        }
        if self.offline {
            return Some(Answer::Is(self.missed(target.public_url())));
        }
        let (mut flight, first) = self.fetcher.join(target);
        // The links of a page can be changed only when all of it is there.
        let decided = |state: &State| match state {
            State::Asked => false,
            // Of an empty body nobody would read the end.
            State::Coming(coming, _) => !target.index_page && coming.total != Some(0),
            _ => true,
        };
        let state = flight.wait_for(decided).await.ok()?.clone();
        Some(match state {
            State::Coming(coming, _) => Answer::Is(self.follow(target, &coming, flight, first)),
            State::Kept { fetched, .. } => match self.fetcher.get(key).await {
                Found::Entry(record, file) => Answer::Is(self.kept(target, &record, file, known, fetched && first)),
                Found::Nothing | Found::Broken => Answer::Past,
            },
            State::Failed(failure) => Answer::Is(failed(target, &failure)),
            State::Asked | State::Uncached => Answer::Past,
        })
    }

    async fn head(&self, target: &Target) -> Answer {
        match self.fetcher.get(target.key()).await {
            Found::Entry(record, _) if target.immutable || self.offline => Answer::Is(headed(&record, Body::empty())),
            _ => Answer::Past,
        }
    }

    /// The content as the cache has it.
    fn kept(&self, target: &Target, record: &Record, file: std::fs::File, known: Known<'_>, fetched: bool) -> Response {
        if record.status != 200 {
            let status = StatusCode::from_u16(record.status).unwrap_or(StatusCode::NOT_FOUND);
            return Refusal { status, text: "the package server has no such file", ours: false }.into();
        }
        self.log.add(record, fetched);
        if target.index_page {
            return index(target, record, file);
        }
        if known.is(record) {
            let mut response = headed(record, Body::empty());
            response.headers_mut().remove(CONTENT_LENGTH);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE);
        headed(record, Body::from_stream(pieces))
    }

    /// The content as it comes.
    fn follow(
        self: &Arc<Self>,
        target: &Target,
        coming: &Coming,
        flight: watch::Receiver<State>,
        first: bool,
    ) -> Response {
        let reader = Follower { desk: Arc::clone(self), coming: coming.clone(), flight, first, at: 0 };
        let pieces = stream::try_unfold(reader, Follower::next);
        let mut record = (*coming.record).clone();
        record.url = target.public_url();
        let mut response = headed(&record, Body::from_stream(pieces));
        response.headers_mut().remove(CONTENT_LENGTH);
        if let Some(total) = coming.total {
            response.headers_mut().insert(CONTENT_LENGTH, total.into());
        }
        response
    }

    /// Sends the request on as it is, and its answer back.
    async fn past(&self, target: &Target, request: Request) -> Response {
        if self.offline {
            return self.missed(target.public_url());
        }
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, MOST).await else {
            return told(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
        };
        let mut sent = self.fetcher.request(parts.method.clone(), target);
        let authorized = self.fetcher.upstream.authorization(&target.url).is_some();
        for (name, value) in &parts.headers {
            let is_own =
                OWN.contains(name) || name.as_str() == "accept-encoding" || name.as_str() == "proxy-connection";
            if !(is_own || authorized && name == AUTHORIZATION) {
                sent = sent.header(name, value);
            }
        }
        match sent.body(body).send().await {
            Ok(answer) => self.passed(target, answer, &parts.method).await,
            Err(error) => failed(target, &Failure { status: StatusCode::BAD_GATEWAY, cause: reach::innermost(error) }),
        }
    }

    async fn passed(&self, target: &Target, answer: reqwest::Response, method: &Method) -> Response {
        let (status, headers, base) = (answer.status(), answer.headers().clone(), public(answer.url()));
        let length = answer.content_length().filter(|_| method != Method::HEAD);
        let body = if target.index_page && method == Method::GET {
            let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let page = answer.bytes().await.unwrap_or_default();
            Body::from(Url::parse(&base).map_or(page.to_vec(), |base| index_page::rewritten(&page, media_type, &base)))
        } else if status == StatusCode::OK && method == Method::GET {
            self.counted(target, answer)
        } else {
            Body::from_stream(answer.bytes_stream())
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        for name in [CONTENT_TYPE, ETAG, LAST_MODIFIED] {
            if let Some(value) = headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if let Some(length) = length.filter(|_| !target.index_page) {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        response
    }

    /// The body of an answer, which is in the stage's list when it has passed.
    fn counted(&self, target: &Target, answer: reqwest::Response) -> Body {
        let passing = Passing {
            log: Arc::clone(&self.log),
            url: target.public_url(),
            left: answer.content_length(),
            size: 0,
            hash: Sha256::new(),
        };
        let pieces = stream::try_unfold((answer, passing), async |(mut answer, mut passing)| {
            let Some(bytes) = answer.chunk().await? else {
                passing.end();
                return Ok::<_, reqwest::Error>(None);
            };
            passing.take(&bytes);
            Ok(Some((bytes, (answer, passing))))
        });
        Body::from_stream(pieces)
    }

    fn missed(&self, url: String) -> Response {
        let text = format!("--offline: {url} is not in the package cache");
        self.log.miss(url);
        told(StatusCode::GATEWAY_TIMEOUT, &text)
    }
}

/// A file that is passed on without being kept.
struct Passing {
    log: Arc<Log>,
    url: String,
    /// Bytes that are to come, if the server said so.
    left: Option<u64>,
    size: u64,
    hash: Sha256,
}

impl Passing {
    fn take(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
        // Behind the last byte nobody reads.
        if self.left == Some(self.size) {
            self.end();
        }
    }

    fn end(&self) {
        self.log.passed(&self.url, self.size, hex(&self.hash.clone().finalize()));
    }
}

/// An answer, or that the server has to be asked past the cache.
enum Answer {
    Is(Response),
    Past,
}

impl Answer {
    async fn or_past(self, desk: &Desk, target: &Target, request: Request) -> Response {
        match self {
            Self::Is(response) => response,
            Self::Past => desk.past(target, request).await,
        }
    }
}

/// What the client has already.
#[derive(Clone, Copy)]
struct Known<'a> {
    etag: Option<&'a str>,
    last_modified: Option<&'a str>,
}

impl Known<'_> {
    /// Whether it is this version. Tags go before dates (RFC 9110, section 13.2.2).
    fn is(&self, record: &Record) -> bool {
        match self.etag {
            Some(tag) => record.etag.as_deref() == Some(tag),
            None => self.last_modified.is_some() && record.last_modified.as_deref() == self.last_modified,
        }
    }
}

/// Reads a file while it comes.
struct Follower {
    desk: Arc<Desk>,
    coming: Coming,
    flight: watch::Receiver<State>,
    first: bool,
    at: u64,
}

impl Follower {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let at = self.at;
        // The end is held back until the file is known to be right and is in the cache: nothing is read behind it.
        let more = |state: &State| match state {
            State::Coming(coming, done) => *done > at && coming.total != Some(*done),
            _ => true,
        };
        let gone = |_| io::Error::other("the download ended");
        let state = self.flight.wait_for(more).await.map_err(gone)?.clone();
        let there = match &state {
            State::Coming(_, done) => *done,
            State::Kept { record, .. } if self.at >= record.size => {
                self.desk.log.add(record, self.first);
                return Ok(None);
            }
            State::Kept { record, .. } => record.size,
            State::Failed(failure) => return Err(io::Error::other(failure.cause.clone())),
            State::Asked | State::Uncached => return Err(io::Error::other("the download ended")),
        };
        let length = usize::try_from(there - self.at).unwrap_or(PIECE).min(PIECE);
        let (file, at) = (Arc::clone(&self.coming.file), self.at);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at).map(|()| piece)
        });
        let piece = read.await.map_err(io::Error::other)??;
        self.at += piece.len() as u64;
        if let State::Kept { record, .. } = &state
            && self.at == record.size
        {
            self.desk.log.add(record, self.first);
        }
        Ok(Some((Bytes::from(piece), self)))
    }
}

/// A page whose links lead here.
fn index(target: &Target, record: &Record, mut file: std::fs::File) -> Response {
    let mut page = Vec::new();
    if let Err(error) = io::Read::read_to_end(&mut file, &mut page) {
        return told(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
    }
    let base = record.base.as_deref().and_then(|base| Url::parse(base).ok());
    let media_type = record.content_type.as_deref().unwrap_or("text/html");
    let page = index_page::rewritten(&page, media_type, base.as_ref().unwrap_or(&target.url));
    let length = page.len();
    let mut response = headed(record, Body::from(page));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// An answer with the headers of an entry.
fn headed(record: &Record, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_LENGTH, record.size.into());
    // Nothing of this address may stay in a guest.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let named = [(CONTENT_TYPE, &record.content_type), (ETAG, &record.etag), (LAST_MODIFIED, &record.last_modified)];
    for (name, value) in named {
        if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

fn failed(target: &Target, failure: &Failure) -> Response {
    let text = format!("{} {}", target.public_url(), failure.cause);
    Refusal { status: failure.status, text: &text, ours: failure.status == StatusCode::BAD_GATEWAY }.into()
}

fn told(status: StatusCode, text: &str) -> Response {
    Refusal { status, text, ours: true }.into()
}

/// There is no file.
struct Refusal<'a> {
    status: StatusCode,
    text: &'a str,
    /// Whether the package server has not said so itself.
    ours: bool,
}

impl From<Refusal<'_>> for Response {
    fn from(refusal: Refusal<'_>) -> Self {
        let mut response = Self::new(Body::from(format!("visabuild: {}\n", refusal.text)));
        *response.status_mut() = refusal.status;
        let printable: String = refusal.text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        // Of an answer APT shows the status line only, so the reason has to be there.
        if refusal.ours
            && let Ok(reason) = ReasonPhrase::try_from(printable)
        {
            response.extensions_mut().insert(reason);
        }
        response
    }
}
