//! An HTTP/1.1 proxy in front of one service, which breaks what its rules say and writes all requests down. One
//! request per connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::listener::Listener;
use super::relay::{Client, Stream, serve};
use super::rules::{Book, Request, Rule, RuleId};

/// More than any test needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    book: Arc<Book>,
    secure: bool,
    failed_handshakes: Arc<AtomicUsize>,
    listener: Listener,
}

impl FaultProxy {
    /// A proxy for the service at `service`, on a port of the kernel's choice.
    pub fn start(service: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let (book, failed_handshakes) = (Arc::<Book>::default(), Arc::<AtomicUsize>::default());
        let (secure, acceptor) = (tls.is_some(), tls.map(TlsAcceptor::from));
        let listener = Listener::start({
            let (book, failed) = (Arc::clone(&book), Arc::clone(&failed_handshakes));
            move |stream| {
                let (book, failed, acceptor) = (Arc::clone(&book), Arc::clone(&failed), acceptor.clone());
                async move {
                    match accept(stream, acceptor).await {
                        Ok(client) => serve(client, service, &book).await,
                        Err(_) => drop(failed.fetch_add(1, Ordering::SeqCst)),
                    }
                }
            }
        });
        Self { book, secure, failed_handshakes, listener }
    }

    /// Where clients find it, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address())
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Adds a rule; it holds until it is removed.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.book.add(rule)
    }

    pub fn remove(&self, rule: RuleId) {
        self.book.remove(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.book.clear();
    }

    /// All requests so far, in the order in which their heads came.
    pub fn requests(&self) -> Vec<Request> {
        self.book.requests()
    }

    /// Requests of a method whose path and query contain `path`.
    pub fn requests_for(&self, method: &str, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == method && request.path.contains(path));
        requests
    }

    /// Requests before this moment are no longer told.
    pub fn forget_requests(&self) {
        self.book.forget_requests();
    }

    /// TLS handshakes that failed, by a client without certificate or one that does not trust ours.
    pub fn failed_handshakes(&self) -> usize {
        self.failed_handshakes.load(Ordering::SeqCst)
    }

    /// Waits until the rule has applied to a request and its point of the body is reached.
    pub async fn reached(&self, rule: RuleId) {
        self.reached_times(rule, 1).await;
    }

    /// Waits until that has happened `times` times.
    pub async fn reached_times(&self, rule: RuleId, times: usize) {
        let mut reached = self.book.reached(rule);
        let waited = tokio::time::timeout(PATIENCE, reached.wait_for(|reached| *reached >= times)).await;
        assert!(waited.is_ok(), "the rule was not reached; requests: {:#?}", self.requests());
    }

    /// Waits until the requests are as they should be; returns them.
    pub async fn wait_for(&self, wanted: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let mut changes = self.book.changes();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                changes.mark_unchanged();
                let requests = self.requests();
                if wanted(&requests) {
                    return requests;
                }
                changes.changed().await.unwrap();
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not what was waited for: {:#?}", self.requests()))
    }
}

/// Takes the handshake, where there is one.
async fn accept(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> std::io::Result<Client> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let socket = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let secure = acceptor.is_some();
    let stream: Box<dyn Stream> = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        None => Box::new(stream),
    };
    Ok(Client::new(stream, socket, secure))
}
