//! The web server that an installer asks for its answers.
//!
//! It listens on loopback, which guests on QEMU's user network reach at 10.0.2.2, on a port that the kernel chooses.
//! Every request is an event, so that a build's log says whether an installer ever came, and is kept for the failure
//! report. Processes of the host's other users get no answer.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

pub(crate) use self::owner::Guarded;
use super::site::{Entry, Served, Site};
use crate::error::{Context, Kind, Result};
use crate::event::{Event, Events};

mod owner;

/// Bytes that go out at once.
const PIECE: usize = 64 << 10;
/// How many requests are kept: an installer makes some ten, one that runs wild must not fill the memory.
const MOST_REQUESTS: usize = 10_000;
/// The longest path or name of a client that is kept.
const LONGEST_TEXT: usize = 1000;
/// How long running answers may take when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// A request that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// Seconds since the server started.
    pub seconds: f64,
    /// `GET`, say.
    pub method: String,
    /// The path and the query, as they came.
    pub path: String,
    /// What was answered.
    pub status: u16,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Bytes of the body that were sent so far.
    pub bytes: u64,
    /// Whether the whole body was sent.
    pub complete: bool,
}

/// A server that has its address and waits for what to serve: rendered answers may name the address.
#[derive(Debug)]
pub struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundServer {
    /// Takes a port on loopback that the kernel chooses.
    ///
    /// # Errors
    /// There is none (kind host).
    pub async fn bind() -> Result<Self> {
        let failed = || "the web server cannot listen on loopback";
        let listener = TcpListener::bind("127.0.0.1:0").await.context(Kind::Host, failed)?;
        let address = listener.local_addr().context(Kind::Host, failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `site` until it is stopped or dropped; requests are told as events of `template`.
    pub fn serve(self, site: Site, events: &Events, template: &str) -> WebServer {
        let listener = Guarded::new(self.listener, events, template);
        serve(listener, self.address, site, events, template)
    }
}

/// Serves `site` to the connections that `listener` gives out.
fn serve(listener: Guarded, address: SocketAddr, site: Site, events: &Events, template: &str) -> WebServer {
    let log = Arc::new(Log {
        requests: Mutex::default(),
        events: events.clone(),
        template: template.to_owned(),
        started: Instant::now(),
    });
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let shared = Arc::new(Shared { site, log: Arc::clone(&log), kill: kill.clone() });
    let router = Router::new().fallback(answer).with_state(shared);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let task = tokio::spawn(async move {
        // Accepting goes on after every error, so this ends only when it is told to.
        let _ = serving.await;
    });
    WebServer { address, log, stop, kill, task }
}

/// A running server; dropping it ends it at once.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    log: Arc<Log>,
    stop: CancellationToken,
    /// Ends answers that are still running.
    kill: CancellationToken,
    task: JoinHandle<()>,
}

impl WebServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.log.requests().clone()
    }

    /// Takes no more connections, lets running answers end for a moment, and returns all requests.
    pub async fn stop(mut self) -> Vec<Request> {
        self.stop.cancel();
        // What is still running then is cut off with the value.
        let _ = tokio::time::timeout(GRACE, &mut self.task).await;
        self.requests()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.kill.cancel();
        self.task.abort();
    }
}

struct Shared {
    site: Site,
    log: Arc<Log>,
    kill: CancellationToken,
}

#[derive(Debug)]
struct Log {
    requests: Mutex<Vec<Request>>,
    events: Events,
    template: String,
    started: Instant,
}

impl Log {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        // A panic elsewhere leaves the list whole.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the account of a request, whose body has `total` bytes.
    fn begin(self: &Arc<Self>, mut request: Request, total: u64) -> Tally {
        request.complete = total == 0;
        request.seconds = self.started.elapsed().as_secs_f64();
        let mut requests = self.requests();
        let place = (requests.len() < MOST_REQUESTS).then_some(requests.len());
        if place.is_some() {
            requests.push(request.clone());
        }
        Tally { log: Arc::clone(self), place, request, total }
    }
}

/// Counts what is sent of an answer's body; the request is told when it is dropped, which is when the body ends or the
/// client is gone.
struct Tally {
    log: Arc<Log>,
    place: Option<usize>,
    request: Request,
    total: u64,
}

impl Tally {
    fn count(&mut self, bytes: usize) {
        self.request.bytes += bytes as u64;
        self.request.complete = self.request.bytes == self.total;
        let mut requests = self.log.requests();
        if let Some(kept) = self.place.and_then(|place| requests.get_mut(place)) {
            (kept.bytes, kept.complete) = (self.request.bytes, self.request.complete);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Request { method, path, status, user_agent, bytes, .. } = self.request.clone();
        let template = self.log.template.clone();
        self.log.events.emit(Event::Request { template, method, path, status, user_agent, bytes });
    }
}

/// Answers any request.
async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let found = shared.site.find(uri.path());
    let head = method == Method::HEAD;
    let (status, body, media_type) = if !head && method != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, note("only GET and HEAD are answered here\n"), TEXT)
    } else {
        match found {
            Some(entry) => opened(entry).await,
            None => (StatusCode::NOT_FOUND, note("there is nothing at this path\n"), TEXT),
        }
    };
    let (length, pieces) = body;
    let sent = if head { 0 } else { length };
    let tally = shared.log.begin(request(&method, &uri, &headers, status), sent);
    let mut response = Response::new(counted(pieces, head, tally, shared.kill.clone()));
    *response.status_mut() = status;
    let answer = response.headers_mut();
    answer.insert(CONTENT_LENGTH, length.into());
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    // Another build's server may have this port next.
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

type Pieces = BoxStream<'static, io::Result<Bytes>>;

fn note(text: &'static str) -> (u64, Pieces) {
    (text.len() as u64, stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed())
}

/// The content of an entry as it is sent.
async fn opened(entry: &Entry) -> (StatusCode, (u64, Pieces), &'static str) {
    let pieces: Pieces = match &entry.content {
        Served::Memory(bytes) => {
            let pieces = (0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE)));
            stream::iter(pieces.map(Ok).collect::<Vec<_>>()).boxed()
        }
        Served::File { path, .. } => match tokio::fs::File::open(path).await {
            Ok(file) => ReaderStream::with_capacity(file, PIECE).boxed(),
            Err(_) => return (StatusCode::NOT_FOUND, note("the file is not there any more\n"), TEXT),
        },
    };
    (StatusCode::OK, (entry.content.bytes(), pieces), entry.media_type)
}

/// A body that counts what is taken of it.
fn counted(pieces: Pieces, head: bool, mut tally: Tally, kill: CancellationToken) -> Body {
    if head {
        return Body::empty();
    }
    let counted = pieces.map(move |piece| {
        if let Ok(bytes) = &piece {
            tally.count(bytes.len());
        }
        piece
    });
    Body::from_stream(counted.take_until(kill.cancelled_owned()))
}

fn request(method: &Method, uri: &Uri, headers: &HeaderMap, status: StatusCode) -> Request {
    let shortened = |text: &str| text.chars().take(LONGEST_TEXT).collect::<String>();
    let path = uri.path_and_query().map_or_else(|| uri.path(), |whole| whole.as_str());
    let agent = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Request {
        seconds: 0.0,
        method: shortened(method.as_str()),
        path: shortened(path),
        status: status.as_u16(),
        user_agent: agent.map(|agent| shortened(&agent)),
        bytes: 0,
        complete: false,
    }
}

#[cfg(test)]
mod tests;
