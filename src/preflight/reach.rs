//! Whether a server answers, asked of several at once.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Method, NoProxy, StatusCode};
use serde::Serialize;
use tokio::task::JoinSet;

use super::certificates::Certificate;
use crate::credentials;
use crate::error::{Context, Error, Kind, Result};

/// How long a connection may take, and how long the whole answer.
const CONNECT: Duration = Duration::from_secs(8);
const ANSWER: Duration = Duration::from_secs(20);

/// How requests leave this host.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// The proxy's URL; may hold credentials.
    pub url: Option<String>,
    /// Hosts that are reached without it, separated by commas.
    pub no_proxy: Option<String>,
}

/// One of several ways to the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name (`source`).
    pub name: String,
    /// Places that have what it needs; one that answers is enough.
    pub urls: Vec<String>,
}

/// A place that did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The place, without credentials.
    pub url: String,
    /// Why.
    pub cause: String,
}

/// What became of one choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The first of its places, in their order, that answers; none: it is not reachable.
    pub reachable: Option<String>,
    /// The places that do not, in their order.
    pub failures: Vec<Failure>,
}

/// A client that uses only `proxy`, never the environment, and trusts `authorities` beside the host's own.
///
/// # Errors
/// The proxy's URL or a certificate cannot be used (kind usage).
pub(crate) fn client_builder(proxy: &Proxy, authorities: &[Certificate]) -> Result<ClientBuilder> {
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let mut builder = Client::builder().no_proxy().user_agent(agent);
    if let Some(url) = proxy.url.as_deref().filter(|url| !url.is_empty()) {
        let shown = credentials::strip(url);
        let rule = reqwest::Proxy::all(url).context(Kind::Usage, || format!("`{shown}` is not the URL of a proxy"))?;
        builder = builder.proxy(rule.no_proxy(proxy.no_proxy.as_deref().and_then(NoProxy::from_string)));
    }
    let authorities: Result<Vec<_>, _> =
        authorities.iter().map(|authority| reqwest::Certificate::from_pem(authority.pem.as_bytes())).collect();
    let authorities = authorities.context(Kind::Usage, || "a certificate authority cannot be used")?;
    Ok(builder.tls_certs_merge(authorities))
}

/// Asks servers whether they have something. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    client: Client,
}

impl Prober {
    /// A prober that uses only `proxy`, never the environment, and trusts `authorities` beside the host's own.
    ///
    /// # Errors
    /// The proxy's URL or a certificate cannot be used (kind usage).
    pub fn new(proxy: &Proxy, authorities: &[Certificate]) -> Result<Self> {
        let builder = client_builder(proxy, authorities)?.connect_timeout(CONNECT).timeout(ANSWER);
        Ok(Self { client: builder.build().context(Kind::Usage, || "preparing HTTP requests")? })
    }

    /// Asks whether `url` (http, https or file) is there.
    ///
    /// # Errors
    /// It is not, and why (kind host).
    pub async fn reach(&self, url: &str) -> Result<()> {
        if let Some(path) = url.strip_prefix("file:") {
            return std::fs::metadata(Path::new(path.trim_start_matches("//")))
                .map(drop)
                .context(Kind::Host, || format!("{url} is not there"));
        }
        let shown = credentials::strip(url);
        let status = match self.status(Method::HEAD, url).await {
            // Servers that know no HEAD say so in several ways.
            Ok(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::FORBIDDEN) => {
                self.status(Method::GET, url).await
            }
            other => other,
        };
        match status {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(Error::host(format!("{shown} answers {status}"))),
            Err(error) => Err(Error::host(format!("{shown} is not reachable")).because(cause(error))),
        }
    }

    async fn status(&self, method: Method, url: &str) -> reqwest::Result<StatusCode> {
        // The body, if there is one, is not read: dropping the answer closes the connection.
        self.client.request(method, url).send().await.map(|answer| answer.status())
    }

    /// Asks whether the APT archive at `mirror` has `suite`.
    ///
    /// # Errors
    /// It has not, or does not answer (kind host).
    pub async fn serves_suite(&self, mirror: &str, suite: &str) -> Result<()> {
        let url = format!("{}/dists/{suite}/InRelease", mirror.trim_end_matches('/'));
        self.reach(&url).await.map_err(|error| error.context(format!("the mirror does not serve the suite {suite}")))
    }

    /// Asks all places of all `choices` at once; the outcomes stand in the order of the choices.
    pub async fn first_reachable(&self, choices: &[Choice]) -> Vec<Outcome> {
        let mut asked = JoinSet::new();
        for (choice, place, url) in places(choices) {
            let (prober, url) = (self.clone(), url.to_owned());
            asked.spawn(async move { ((choice, place), prober.reach(&url).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(place, _)| *place);
        let mut outcomes: Vec<Outcome> = choices
            .iter()
            .map(|choice| Outcome { name: choice.name.clone(), reachable: None, failures: Vec::new() })
            .collect();
        for ((choice, place), answer) in answers {
            let url = &choices[choice].urls[place];
            let outcome = &mut outcomes[choice];
            match answer {
                Ok(()) if outcome.reachable.is_none() => outcome.reachable = Some(url.clone()),
                Ok(()) => {}
                Err(error) => {
                    outcome.failures.push(Failure { url: credentials::strip(url), cause: error.chain().join(": ") });
                }
            }
        }
        outcomes
    }
}

fn places(choices: &[Choice]) -> impl Iterator<Item = (usize, usize, &str)> {
    choices.iter().enumerate().flat_map(|(choice, Choice { urls, .. })| {
        urls.iter().enumerate().map(move |(place, url)| (choice, place, url.as_str()))
    })
}

/// What the network or TLS says, or that nothing came in time.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() { format!("no answer within {} s", ANSWER.as_secs()) } else { innermost(error) }
}

/// The innermost cause: what the network or TLS says, without the URL, which may hold credentials.
pub(crate) fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A server that answers each request line by `answer` with a status; its address.
    async fn server(answer: fn(&str) -> &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let text = String::from_utf8_lossy(&request[..length]).into_owned();
                    let status = answer(text.lines().next().unwrap_or_default());
                    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(reply.as_bytes()).await;
                });
            }
        });
        format!("http://{address}")
    }

    fn plain() -> Prober {
        Prober::new(&Proxy::default(), &[]).unwrap()
    }

    /// An address that refuses as long as its socket, which does not listen, lives.
    fn closed() -> (TcpSocket, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        (socket, url)
    }

    #[tokio::test]
    async fn a_mirror_serves_a_suite_or_says_what_it_answered() {
        let mirror = server(|line| match line.split(' ').nth(1) {
            Some("/debian/dists/trixie/InRelease") => "200 OK",
            _ => "404 Not Found",
        })
        .await;
        plain().serves_suite(&format!("{mirror}/debian/"), "trixie").await.unwrap();
        let error = plain().serves_suite(&format!("{mirror}/debian"), "forky").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(
            error.chain(),
            [
                "the mirror does not serve the suite forky".to_owned(),
                format!("{mirror}/debian/dists/forky/InRelease answers 404 Not Found")
            ]
        );
    }

    #[tokio::test]
    async fn a_server_that_knows_no_head_is_asked_with_get() {
        let url = server(|line| if line.starts_with("GET") { "200 OK" } else { "405 Method Not Allowed" }).await;
        plain().reach(&url).await.unwrap();
    }

    #[tokio::test]
    async fn choices_keep_their_order_and_failures_their_causes() {
        let (good, bad) = (server(|_| "200 OK").await, server(|_| "503 Busy").await);
        let (_socket, dead) = closed();
        let choice = |name: &str, urls: &[&String]| Choice {
            name: name.to_owned(),
            urls: urls.iter().map(|url| (*url).clone()).collect(),
        };
        let choices = [choice("source", &[&bad, &dead]), choice("debian", &[&dead, &good, &good]), choice("none", &[])];
        let outcomes = plain().first_reachable(&choices).await;
        assert_eq!(
            outcomes.iter().map(|outcome| outcome.name.as_str()).collect::<Vec<_>>(),
            ["source", "debian", "none"]
        );
        assert_eq!(outcomes[0].reachable, None);
        assert_eq!(outcomes[0].failures[0].cause, format!("{bad} answers 503 Service Unavailable"));
        assert!(outcomes[0].failures[1].cause.contains("refused"), "{:?}", outcomes[0]);
        assert_eq!(outcomes[1].reachable.as_deref(), Some(good.as_str()));
        assert_eq!(outcomes[1].failures.len(), 1);
        assert_eq!(outcomes[2].reachable, None);
    }

    #[tokio::test]
    async fn requests_go_through_the_proxy_except_where_it_is_left_out() {
        let gateway =
            server(|line| if line.contains("http://visa.example") { "200 OK" } else { "404 Not Found" }).await;
        let proxy =
            |no_proxy: Option<&str>| Proxy { url: Some(gateway.clone()), no_proxy: no_proxy.map(str::to_owned) };
        Prober::new(&proxy(None), &[]).unwrap().reach("http://visa.example/").await.unwrap();
        let direct = server(|_| "200 OK").await;
        Prober::new(&proxy(None), &[]).unwrap().reach(&direct).await.unwrap_err();
        Prober::new(&proxy(Some("127.0.0.1, .example")), &[]).unwrap().reach(&direct).await.unwrap();
        assert_eq!(
            Prober::new(&Proxy { url: Some("::".to_owned()), no_proxy: None }, &[]).unwrap_err().kind(),
            Kind::Usage
        );
    }

    #[tokio::test]
    async fn credentials_do_not_show_and_files_are_looked_for() {
        let (_socket, dead) = closed();
        let error = plain().reach(&dead.replace("http://", "http://joe:secret@")).await.unwrap_err();
        assert!(!error.chain().join(" ").contains("secret"), "{:?}", error.chain());
        let folder = tempfile::tempdir().unwrap();
        plain().reach(&format!("file:{}", folder.path().display())).await.unwrap();
        plain().reach(&format!("file://{}/none", folder.path().display())).await.unwrap_err();
        assert!(plain().reach("not a url").await.unwrap_err().chain()[0].ends_with("is not reachable"));
    }
}
