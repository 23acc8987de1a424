//! A client of JupyterLab, as a browser behind the platform's proxy is one.
//!
//! The proxy sends requests on with their path, headers and cookies, so this client sends what a page of
//! `https://<host><base_url>/lab` would: the host's name, its origin, and the cookie against cross-site
//! requests, which a change must carry in a header too.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::http::{Answer, Headers, Http, PATIENCE};
use super::websocket::{Handshake, Opened, Socket, open};
use crate::error::{Context, Error, Kind, Result};

mod contents;
mod kernel;
mod terminal;
#[cfg(test)]
mod tests;

pub use kernel::{Exception, Output};

/// A JupyterLab in a guest.
#[derive(Debug)]
pub struct Jupyter {
    http: Http,
    address: SocketAddr,
    base: String,
    host: String,
    patience: Duration,
    xsrf: OnceCell<String>,
}

impl Jupyter {
    /// The JupyterLab at `address`, a port of this host that is forwarded to the guest, with `base_url`
    /// (`/jupyter/1234`), for a browser that sees it at `https://<host><base_url>`.
    ///
    /// # Errors
    /// `host` cannot be a host's name (kind usage).
    pub fn new(address: SocketAddr, base_url: &str, host: &str) -> Result<Self> {
        Ok(Self {
            http: Http::new(address, host)?,
            address,
            base: base_url.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            patience: PATIENCE,
            xsrf: OnceCell::new(),
        })
    }

    /// As before, but each request, each run and each terminal may take `patience`.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.http = self.http.patience(patience);
        self.patience = patience;
        self
    }

    /// Plain requests to the same port, for paths that are not below the base URL.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Gets `path` (`/api`), which is below the base URL.
    ///
    /// # Errors
    /// As of [`Http::request`].
    pub async fn get(&self, path: &str, headers: &Headers) -> Result<Answer> {
        self.http.request(Method::GET, &self.below(path), headers, None).await
    }

    /// The server's version, from `/api`.
    ///
    /// # Errors
    /// It answers another status than 200, or no version (kind verification); else as of [`Http::request`].
    pub async fn api_version(&self) -> Result<String> {
        let answer = expect("GET /api", self.get("/api", &[]).await?, &[200])?;
        text_at(&json("GET /api", &answer)?, "version", "GET /api")
    }

    /// The page `/lab`, asked for with `headers`.
    ///
    /// # Errors
    /// As of [`Http::request`].
    pub async fn lab(&self, headers: &Headers) -> Result<Answer> {
        self.get("/lab", headers).await
    }

    /// The cookie `_xsrf` that `/lab` sets; asked for once, then remembered.
    ///
    /// # Errors
    /// The page or the cookie is not there (kind verification); else as of [`Http::request`].
    pub async fn xsrf_cookie(&self) -> Result<&str> {
        let cookie = self.xsrf.get_or_try_init(async || {
            let answer = expect("GET /lab", self.lab(&[]).await?, &[200])?;
            let cookie = answer.cookie("_xsrf").map(str::to_owned);
            cookie.ok_or_else(|| Error::new(Kind::Verification, "GET /lab sets no cookie `_xsrf`"))
        });
        Ok(cookie.await?)
    }

    /// Asks for a change as a page of the same site does; `expected` are the statuses that are right.
    async fn change(&self, method: Method, path: &str, body: Option<&Value>, expected: &[u16]) -> Result<Answer> {
        let what = format!("{method} {path}");
        let xsrf = self.xsrf_cookie().await?;
        let mut headers = vec![header("Origin", &self.origin()), header("X-XSRFToken", xsrf), self.cookie(xsrf)];
        if body.is_some() {
            headers.push(header("Content-Type", "application/json"));
        }
        let body = body.map(|body| body.to_string().into_bytes());
        expect(&what, self.http.request(method, &self.below(path), &headers, body).await?, expected)
    }

    /// Opens the WebSocket `path` for a page of `origin`.
    async fn socket(&self, path: &str, origin: &str) -> Result<Opened> {
        let headers = [self.cookie(self.xsrf_cookie().await?)];
        let path = self.below(path);
        let (origin, address, host) = (Some(origin), self.address, self.host.as_str());
        open(&Handshake { address, host, path: &path, origin, headers: &headers }, self.patience).await
    }

    /// Opens the WebSocket `path` for a page of the same site, which must not be refused.
    async fn own_socket(&self, path: &str) -> Result<Socket> {
        match self.socket(path, &self.origin()).await? {
            Opened::Accepted(socket) => Ok(socket),
            Opened::Refused { status, body } => {
                Err(Error::new(Kind::Verification, format!("the WebSocket {path} is refused with {status}"))
                    .because(excerpt(&body)))
            }
        }
    }

    fn below(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn origin(&self) -> String {
        format!("https://{}", self.host)
    }

    fn cookie(&self, xsrf: &str) -> (String, String) {
        header("Cookie", &format!("_xsrf={xsrf}"))
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// `answer`, when its status is one of `expected`.
fn expect(what: &str, answer: Answer, expected: &[u16]) -> Result<Answer> {
    if expected.contains(&answer.status) {
        return Ok(answer);
    }
    let wanted: Vec<_> = expected.iter().map(u16::to_string).collect();
    let message = format!("{what} answers {} instead of {}", answer.status, wanted.join(" or "));
    Err(Error::new(Kind::Verification, message).because(excerpt(&answer.text())))
}

fn json(what: &str, answer: &Answer) -> Result<Value> {
    serde_json::from_slice(&answer.body).context(Kind::Verification, || format!("{what} answers no JSON"))
}

/// The text at `key` of the object `value`.
fn text_at(value: &Value, key: &str, what: &str) -> Result<String> {
    let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Error::new(Kind::Verification, format!("{what} answers no `{key}`")))
}

/// The start of what a server said, for a message.
fn excerpt(text: &str) -> String {
    if text.trim_start().starts_with('<') {
        return "it sends an HTML page".to_owned();
    }
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    if text.is_empty() { "it says nothing about it".to_owned() } else { text }
}
