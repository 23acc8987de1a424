//! The servers that packages come from, and how this host reaches them.

use std::time::Duration;

use base64::Engine as _;
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderValue;
use reqwest::{Client, NoProxy, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::credentials;
use crate::error::{Context, Error, Kind, Result};
use crate::preflight::certificates::Certificate;
use crate::preflight::pip::Index;
use crate::preflight::reach::{self, Proxy};
use crate::source::apt::{Acquire, Mirrors};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a connection may bring nothing.
const STALL: Duration = Duration::from_secs(60);

/// What the host says of its package servers.
#[derive(Debug, Clone, Copy)]
pub struct Upstreams<'a> {
    /// The build's proxy, which goes before that of the host's APT.
    pub proxy: &'a Proxy,
    /// How the host's own APT reaches its mirrors.
    pub acquire: &'a Acquire,
    /// Certificate authorities beside the host's own.
    pub authorities: &'a [Certificate],
    /// The mirrors, whose credentials are added to requests.
    pub mirrors: Option<&'a Mirrors>,
    /// pip's index, likewise; without one pip's own default is asked directly.
    pub pip_index: Option<&'a Index>,
    /// npm's registry, likewise.
    pub npm_registry: Option<&'a Index>,
}

/// Clients and addresses, ready to be asked.
#[derive(Debug)]
pub(super) struct Upstream {
    /// For APT's archives.
    apt: Client,
    /// For indexes and registries.
    other: Client,
    /// pip's index, with a slash at its end and without credentials.
    pub(super) pip: Option<Url>,
    /// npm's registry, likewise.
    pub(super) npm: Option<Url>,
    /// Who is let in where.
    credentials: Vec<Credentials>,
}

/// What a server is told.
#[derive(Debug)]
struct Credentials {
    /// Of which only the origin counts.
    server: Url,
    authorization: HeaderValue,
}

impl Upstream {
    /// # Errors
    /// A proxy, a certificate or an URL of the host's configuration cannot be used (kind usage).
    pub(super) fn new(upstreams: &Upstreams<'_>) -> Result<Self> {
        let mut credentials = Vec::new();
        let mirrors = upstreams.mirrors.into_iter();
        for mirror in mirrors.flat_map(|mirrors| std::iter::once(&mirrors.main).chain(&mirrors.security)) {
            address(&mirror.full_url(), &mut credentials)?;
        }
        let mut place = |index: Option<&Index>| index.map(|index| address(&index.url, &mut credentials)).transpose();
        let (pip, npm) = (place(upstreams.pip_index)?, place(upstreams.npm_registry)?);
        let other = client(upstreams.proxy, upstreams.authorities, None)?;
        let apt = if upstreams.proxy.url.is_some() {
            other.clone()
        } else {
            client(&Proxy::default(), upstreams.authorities, Some(upstreams.acquire))?
        };
        Ok(Self { apt, other, pip, npm, credentials })
    }

    /// Who asks for the files of an archive, or else for those of an index.
    pub(super) fn client(&self, archive: bool) -> &Client {
        if archive { &self.apt } else { &self.other }
    }

    /// What the server of `url` wants to be told; the host has it, the guest does not.
    pub(super) fn authorization(&self, url: &Url) -> Option<HeaderValue> {
        let origin = url.origin();
        self.credentials.iter().find(|known| known.server.origin() == origin).map(|known| known.authorization.clone())
    }
}

/// The URL without its credentials, which are kept.
fn address(url: &SecretString, kept: &mut Vec<Credentials>) -> Result<Url> {
    let (public, pair) = credentials::split(url.expose_secret());
    let bad = || format!("`{public}` is not the URL of a package server");
    let slash = if public.ends_with('/') { "" } else { "/" };
    let parsed = Url::parse(&format!("{public}{slash}")).context(Kind::Usage, bad)?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(Error::usage(bad()));
    }
    if let Some(pair) = pair {
        kept.push(Credentials { server: parsed.clone(), authorization: basic(pair)? });
    }
    Ok(parsed)
}

/// `user:password`, percent-encoded as in a URL, as the header of RFC 7617.
fn basic(pair: &str) -> Result<HeaderValue> {
    let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}"))
        .context(Kind::Usage, || "the credentials of a package server cannot be sent")?;
    header.set_sensitive(true);
    Ok(header)
}

/// A client that goes by `proxy`, or as `apt` goes.
fn client(proxy: &Proxy, authorities: &[Certificate], apt: Option<&Acquire>) -> Result<Client> {
    let mut builder = reach::client_builder(proxy, authorities)?.connect_timeout(CONNECT).read_timeout(STALL);
    for rule in apt.map(apt_proxies).transpose()?.into_iter().flatten() {
        builder = builder.proxy(rule);
    }
    // Compression that the client undoes by itself would make sizes and hashes wrong.
    let client = builder.no_gzip().no_deflate().no_brotli().no_zstd().build();
    client.map_err(|error| Error::usage("preparing requests for packages").because(error.without_url()))
}

/// The proxies of apt.conf(5): one for each protocol, and hosts that are reached without.
fn apt_proxies(acquire: &Acquire) -> Result<Vec<reqwest::Proxy>> {
    let mut rules = Vec::new();
    for (protocol, proxy) in [("http", &acquire.http_proxy), ("https", &acquire.https_proxy)] {
        let key = format!("acquire::{protocol}::proxy::");
        let proxy = proxy.as_ref().map(ExposeSecret::expose_secret).filter(|url| *url != "DIRECT");
        let Some(proxy) = proxy else { continue };
        let direct = acquire.configuration.expose_secret().lines().filter_map(|line| {
            let (name, value) = line.strip_suffix("\";")?.split_once(" \"")?;
            let host = name.to_ascii_lowercase().strip_prefix(&key)?.to_owned();
            (value == "DIRECT").then_some(host)
        });
        let direct = direct.collect::<Vec<_>>().join(",");
        let shown = credentials::strip(proxy);
        let rule = if protocol == "http" { reqwest::Proxy::http(proxy) } else { reqwest::Proxy::https(proxy) };
        let rule = rule.map_err(|error| {
            Error::usage(format!("`{shown}`, the proxy of APT's configuration, cannot be used"))
                .because(error.without_url())
        })?;
        rules.push(rule.no_proxy(NoProxy::from_string(&direct)));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_own_server_only() {
        let index = Index { url: "https://joe:s%40cret@index.example/simple".into(), origin: String::new() };
        let (proxy, acquire) = (Proxy::default(), Acquire::default());
        let upstreams = Upstreams {
            proxy: &proxy,
            acquire: &acquire,
            authorities: &[],
            mirrors: None,
            pip_index: Some(&index),
            npm_registry: None,
        };
        let upstream = Upstream::new(&upstreams).unwrap();
        assert_eq!(upstream.pip.as_ref().unwrap().as_str(), "https://index.example/simple/");
        let asked = |url: &str| upstream.authorization(&Url::parse(url).unwrap());
        assert_eq!(asked("https://index.example/packages/x.whl").unwrap(), "Basic am9lOnNAY3JldA==");
        for other in ["http://index.example/", "https://index.example:8443/", "https://files.example/"] {
            assert!(asked(other).is_none(), "{other}");
        }
        assert!(!format!("{upstream:?}").contains("am9l"), "{upstream:?}");
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        let error = address(&"ftp://joe:secret@index.example/".into(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(!error.chain().join(" ").contains("secret"), "{error}");
    }

    #[test]
    fn apts_proxies_are_taken_with_their_exceptions() {
        let acquire = Acquire::parse(
            "Acquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::http::Proxy::near.example \"DIRECT\";\n",
        );
        assert_eq!(apt_proxies(&acquire).unwrap().len(), 1);
        assert!(apt_proxies(&Acquire::default()).unwrap().is_empty());
    }
}
