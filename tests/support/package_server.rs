//! A server of packages that counts what it is asked, and waits, breaks off or refuses as a test tells it.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use sha2::Digest as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone)]
struct File {
    content: Vec<u8>,
    media_type: String,
}

/// What becomes of the next answer at a path.
enum Act {
    /// After so many bytes it waits for the test.
    Hold(usize, oneshot::Receiver<()>),
    /// It ends after so many bytes.
    BreakOff(usize),
}

#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, File>,
    acts: BTreeMap<String, Act>,
    refused: BTreeMap<String, u16>,
    asked: Vec<String>,
    sent: usize,
    demanded: Option<(String, String)>,
}

pub struct PackageServer {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for PackageServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PackageServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::<Mutex<Shelf>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shelf, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves `content` at `path`, or, as a proxy does, at a whole URL.
    pub fn put(&self, path: &str, content: &[u8]) -> String {
        self.put_as(path, content, "application/octet-stream")
    }

    pub fn put_as(&self, path: &str, content: &[u8], media_type: &str) -> String {
        let file = File { content: content.to_vec(), media_type: media_type.to_owned() };
        self.shelf.lock().unwrap().files.insert(path.to_owned(), file);
        self.url(path)
    }

    /// The next answer waits after so many bytes until the sender is used.
    pub fn hold(&self, path: &str, after: usize) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        self.shelf.lock().unwrap().acts.insert(path.to_owned(), Act::Hold(after, receiver));
        sender
    }

    pub fn break_off(&self, path: &str, after: usize) {
        self.shelf.lock().unwrap().acts.insert(path.to_owned(), Act::BreakOff(after));
    }

    pub fn refuse(&self, path: &str, status: u16) {
        self.shelf.lock().unwrap().refused.insert(path.to_owned(), status);
    }

    /// Whoever asks for what begins with `path` must say this.
    pub fn demand(&self, path: &str, authorization: &str) {
        self.shelf.lock().unwrap().demanded = Some((path.to_owned(), authorization.to_owned()));
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.shelf.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }

    /// How many bodies were sent.
    pub fn sent(&self) -> usize {
        self.shelf.lock().unwrap().sent
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn answer(State(shelf): State<Arc<Mutex<Shelf>>>, request: Request) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let uri = request.uri();
    let path = if uri.scheme().is_some() { uri.to_string() } else { uri.path().to_owned() };
    shelf.asked.push(path.clone());
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some((below, wanted)) = &shelf.demanded
        && path.starts_with(below)
        && header(AUTHORIZATION) != Some(wanted)
    {
        return status(if header(AUTHORIZATION).is_some() { StatusCode::NOT_FOUND } else { StatusCode::UNAUTHORIZED });
    }
    if let Some(refused) = shelf.refused.get(&path) {
        return status(StatusCode::from_u16(*refused).unwrap());
    }
    let Some(File { content, media_type }) = shelf.files.get(&path).cloned() else {
        return status(StatusCode::NOT_FOUND);
    };
    let tag = format!("\"{}\"", sha256(&content));
    if header(IF_NONE_MATCH) == Some(&tag) {
        return status(StatusCode::NOT_MODIFIED);
    }
    shelf.sent += 1;
    let length = content.len();
    let mut response = Response::new(body(content, shelf.acts.remove(&path)));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response.headers_mut().insert(ETAG, tag.parse().unwrap());
    response.headers_mut().insert(CONTENT_TYPE, media_type.parse().unwrap());
    response
}

fn body(content: Vec<u8>, act: Option<Act>) -> Body {
    let content = Bytes::from(content);
    match act {
        None => Body::from(content),
        Some(Act::BreakOff(after)) => {
            let pieces = [Ok(content.slice(..after)), Err(io::Error::other("broken off"))];
            Body::from_stream(stream::iter(pieces))
        }
        Some(Act::Hold(after, opened)) => {
            let rest = content.slice(after..);
            let rest = stream::once(async move {
                opened.await.unwrap();
                io::Result::Ok(rest)
            });
            Body::from_stream(stream::iter([io::Result::Ok(content.slice(..after))]).chain(rest))
        }
    }
}
