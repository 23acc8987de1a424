//! A small HTTP server: for what Glance is to download, and for the stand-in of Nova.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::{Body, Framing, Head, header, write_piece};
use super::listener::Listener;

/// A request with its whole body.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// A value of the query, as it stands there.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|item| item.split_once('=')).find(|(key, _)| *key == name).map(|item| item.1)
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn bytes(body: Vec<u8>) -> Self {
        let kind = ("Content-Type".to_owned(), "application/octet-stream".to_owned());
        Self { status: 200, headers: vec![kind], body }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        let kind = ("Content-Type".to_owned(), "application/json".to_owned());
        Self { status, headers: vec![kind], body: body.to_string().into_bytes() }
    }
}

/// A running server. One request per connection.
#[derive(Debug)]
pub struct Server(Listener);

impl Server {
    /// Serves the same bytes on every path.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        let answer = Answer::bytes(bytes);
        Self::start(move |_| std::future::ready(answer.clone()))
    }

    /// Serves what `answer` says.
    pub fn start<F>(answer: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self(Listener::start(move |stream| {
            let answer = Arc::clone(&answer);
            async move {
                // A client that goes away is its own affair.
                let _ = serve(stream, &*answer).await;
            }
        }))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

async fn serve<F: Future<Output = Answer>>(stream: TcpStream, answer: &impl Fn(Received) -> F) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some(head) = Head::read(&mut reader).await? else { return Ok(()) };
    let body = Body::new(head.request_framing()).rest(&mut reader).await?;
    let (method, target) = head.request_line();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let without_body = method == "HEAD";
    let answer = answer(Received { method, path, query, headers: head.headers, body }).await;
    let mut head = Head::response(answer.status);
    head.headers = answer.headers;
    head.set("Content-Length", &answer.body.len().to_string());
    head.set("Connection", "close");
    head.write(&mut writer).await?;
    if !without_body {
        write_piece(&mut writer, Framing::ToEnd, &answer.body).await?;
    }
    writer.shutdown().await
}
