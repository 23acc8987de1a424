//! HTTP requests to a guest, as a reverse proxy sends them on.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};

use crate::error::{Context, Error, Kind, Result};

/// How long an answer may take where nobody says otherwise; an emulated guest is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The longest body that is read, bytes; a guest must not fill the host's memory.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Headers by name, as they are sent; a name may come twice.
pub type Headers = [(String, String)];

/// Sends requests to one port of a guest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    address: SocketAddr,
    host: String,
    patience: Duration,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers, also repeated ones, names in lower case; what is not UTF-8 is replaced.
    pub headers: Vec<(String, String)>,
    /// The body, without transfer encoding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of the header `name` (lower case), in their order.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of the cookie `name`, if the answer sets it.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.header("set-cookie").find_map(|cookie| {
            let (key, value) = cookie.split(';').next()?.split_once('=')?;
            (key.trim() == name).then_some(value.trim())
        })
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    /// Requests to `address`, a port of this host that is forwarded to the guest, with the `Host` header
    /// `host`. Proxies of the environment are not used, redirects not followed, and cookies not kept;
    /// each request has its own connection.
    ///
    /// # Errors
    /// `host` cannot be in a header (kind usage), or the client cannot be made (kind host).
    pub fn new(address: SocketAddr, host: &str) -> Result<Self> {
        let value = HeaderValue::from_str(host).context(Kind::Usage, || format!("`{host}` cannot be a host name"))?;
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .http1_only()
            // A connection that is used again may be closed by the server just then.
            .pool_max_idle_per_host(0)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(HOST, value)]))
            .build()
            .context(Kind::Host, || "preparing HTTP requests")?;
        Ok(Self { client, address, host: host.to_owned(), patience: PATIENCE })
    }

    /// As before, but answers may take `patience`.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a request for `path` (with a query, if there is one) and reads the answer, whatever its status.
    ///
    /// # Errors
    /// `headers` or `path` are no HTTP (kind usage); the connection is refused, reset or closed without an
    /// answer, there is none in time, or it is longer than [`BODY_LIMIT`] (kind verification).
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &Headers,
        body: Option<Vec<u8>>,
    ) -> Result<Answer> {
        if !path.starts_with('/') {
            return Err(Error::usage(format!("`{path}` is not a path")));
        }
        let what = format!("{method} http://{}{path}", self.host);
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.address))
            .headers(header_map(headers)?)
            .timeout(self.patience);
        if let Some(body) = body {
            request = request.body(body);
        }
        match request.send().await {
            Ok(response) => self.read(response, &what).await,
            Err(error) => Err(self.failure(&error, &what)),
        }
    }

    async fn read(&self, mut response: Response, what: &str) -> Result<Answer> {
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error, what))? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(Error::new(
                    Kind::Verification,
                    format!("{what} answers with more than {BODY_LIMIT} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }

    fn failure(&self, error: &reqwest::Error, what: &str) -> Error {
        let why = if error.is_timeout() {
            format!("no complete answer within {} s", self.patience.as_secs_f64())
        } else {
            cause(error)
        };
        Error::new(Kind::Verification, format!("{what} (at {}) failed", self.address)).because(why)
    }
}

/// `headers` as the client wants them.
///
/// # Errors
/// A name or a value cannot be in HTTP (kind usage).
pub(super) fn header_map(headers: &Headers) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || format!("`{name}` cannot be sent as a header");
        map.append(
            HeaderName::from_bytes(name.as_bytes()).context(Kind::Usage, bad)?,
            HeaderValue::from_str(value).context(Kind::Usage, bad)?,
        );
    }
    Ok(map)
}

/// Why there was no answer, in words that do not need the HTTP library's.
fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    let mut next = Some(error);
    while let Some(error) = next {
        innermost = error;
        if let Some(kind) = error.downcast_ref::<io::Error>().map(io::Error::kind) {
            match kind {
                io::ErrorKind::ConnectionRefused => return "the connection was refused".to_owned(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    return CLOSED.to_owned();
                }
                _ => {}
            }
        }
        next = error.source();
    }
    // The library's type for it is not one that reqwest shows.
    match innermost.to_string() {
        text if text.contains("connection closed before message completed") => CLOSED.to_owned(),
        text if text.contains("end of file before message length reached") => CLOSED.to_owned(),
        text => text,
    }
}

/// A reset is not told from a close: which of them the HTTP library sees is chance.
const CLOSED: &str = "the connection was closed without a complete answer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::web::fake;

    fn http(address: SocketAddr) -> Http {
        Http::new(address, "visa.example.org").unwrap()
    }

    #[tokio::test]
    async fn the_host_header_is_the_platforms_and_other_headers_go_along() {
        let (address, mut seen) = fake::http(|_| fake::answer("200 OK", &[], "hello")).await;
        let headers = [("Cookie".to_owned(), "a=1".to_owned()), ("X-Real-IP".to_owned(), "192.0.2.1".to_owned())];
        let answer = http(address).request(Method::PUT, "/a/b?c=d", &headers, Some(b"body".to_vec())).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        let request = seen.recv().await.unwrap();
        assert!(request.starts_with("PUT /a/b?c=d HTTP/1.1\r\n"), "{request}");
        let lower = request.to_lowercase();
        assert_eq!(lower.matches("\r\nhost:").count(), 1, "{request}");
        for line in ["\r\nhost: visa.example.org\r\n", "\r\ncookie: a=1\r\n", "\r\nx-real-ip: 192.0.2.1\r\n"] {
            assert!(lower.contains(line), "{request}");
        }
        assert!(request.ends_with("\r\n\r\nbody"), "{request}");
    }

    #[tokio::test]
    async fn redirects_are_answers_and_repeated_headers_stay() {
        let (address, _seen) = fake::http(|_| {
            fake::answer(
                "302 Found",
                &["Location: /lab", "Set-Cookie: a=1; Path=/", "Set-Cookie: _xsrf=2|x|y; Path=/"],
                "",
            )
        })
        .await;
        let answer = http(address).request(Method::GET, "/", &[], None).await.unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("location").collect::<Vec<_>>(), ["/lab"]);
        assert_eq!(answer.header("set-cookie").count(), 2);
        assert_eq!(answer.cookie("_xsrf"), Some("2|x|y"));
        assert_eq!(answer.cookie("xsrf"), None);
    }

    #[tokio::test]
    async fn cookies_are_not_kept() {
        let (address, mut seen) = fake::http(|_| fake::answer("200 OK", &["Set-Cookie: a=1"], "")).await;
        let http = http(address);
        for _ in 0..2 {
            http.request(Method::GET, "/", &[], None).await.unwrap();
            assert!(!seen.recv().await.unwrap().to_lowercase().contains("\r\ncookie:"));
        }
    }

    async fn failure(address: SocketAddr) -> String {
        let http = http(address).patience(Duration::from_millis(200));
        let error = http.request(Method::GET, "/x", &[], None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Verification);
        assert!(error.to_string().starts_with("GET http://visa.example.org/x (at 127.0.0.1:"), "{error}");
        error.chain()[1].clone()
    }

    #[tokio::test]
    async fn no_answer_is_an_error_that_says_why() {
        let (_socket, refusing) = fake::closed();
        assert_eq!(failure(refusing).await, "the connection was refused");
        assert_eq!(failure(fake::hanging_up().await).await, CLOSED);
        let (short, _seen) = fake::http(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()).await;
        assert_eq!(failure(short).await, CLOSED);
        assert_eq!(failure(fake::reset().await).await, CLOSED);
        let silent = fake::silent().await;
        assert_eq!(failure(silent.local_addr().unwrap()).await, "no complete answer within 0.2 s");
        let (other, _seen) = fake::http(|_| b"SSH-2.0-OpenSSH_10\r\n".to_vec()).await;
        assert!(failure(other).await.contains("invalid HTTP version"));
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_its_end() {
        let (address, _seen) = fake::http(|_| fake::answer("200 OK", &[], &"x".repeat(BODY_LIMIT + 1))).await;
        let error = http(address).request(Method::GET, "/", &[], None).await.unwrap_err();
        assert!(error.to_string().ends_with("answers with more than 8388608 bytes"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_http_is_not_sent() {
        assert_eq!(Http::new("127.0.0.1:1".parse().unwrap(), "a\nb").unwrap_err().kind(), Kind::Usage);
        let http = http("127.0.0.1:1".parse().unwrap());
        let bad = [("a b".to_owned(), String::new())];
        assert_eq!(http.request(Method::GET, "/", &bad, None).await.unwrap_err().kind(), Kind::Usage);
        assert_eq!(http.request(Method::GET, "@evil", &[], None).await.unwrap_err().kind(), Kind::Usage);
    }
}
