//! What a request asks for: which URL, how long an answer to it holds, and whether its links must lead back here.
//!
//! APT asks as it asks any proxy, with whole URLs (RFC 9112, section 3.2.2); a host that ends in `.https` is one that
//! is asked by https. pip and npm ask a server:
//!
//! ```text
//! /.pip/simple/NAME/                            a page of pip's index (PEP 503, PEP 691)
//! /.pip/file/sha256-HEX/SCHEME/HOST/PORT/PATH   a file that it links to; `-` for no hash and no port
//! everything else                               npm's registry, at the same path as there
//! ```
//!
//! No part has a `+` or `:`, which pip would encode. npm keeps the URLs of tarballs in lock files, so they stay as the
//! registry says them; npm itself replaces their host with ours (`replace-registry-host`) when it fetches them.

use axum::http::{HeaderMap, Uri, header::ACCEPT};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use super::upstream::Upstream;

/// The path of pip's index here.
pub(super) const PIP_INDEX: &str = "/.pip/simple/";
/// The path of files that the index links to.
const PIP_FILE: &str = "/.pip/file/";

/// What would end a path, and what a link in HTML cannot hold.
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`').add(b'\'');

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Where it is; never with credentials.
    pub(super) url: Url,
    /// Whether its content never changes, so that nobody needs to be asked again.
    pub(super) immutable: bool,
    /// Whether it is of an APT archive.
    pub(super) archive: bool,
    /// Whether it is a page whose links must lead back here.
    pub(super) index_page: bool,
    /// The SHA-256 that it must have, hexadecimal.
    pub(super) sha256: Option<String>,
    /// Which form of it the client takes, where a server has several.
    pub(super) accept: Option<String>,
}

impl Target {
    /// What a request for `uri` means; none where there is nothing.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap, upstream: &Upstream) -> Option<Self> {
        if uri.scheme().is_some() {
            let url = archive(uri)?;
            let immutable = url.path().contains("/pool/") || url.path().contains("/by-hash/");
            let sha256 = url.path().rsplit_once("/by-hash/SHA256/").map(|(_, hash)| hash.to_owned());
            let sha256 = sha256.filter(|hash| is_sha256(hash));
            return Some(Self { url, immutable, archive: true, index_page: false, sha256, accept: None });
        }
        let path = uri.path_and_query()?.as_str();
        if let Some(file) = path.strip_prefix(PIP_FILE) {
            return Self::pip_file(file);
        }
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let page = Self { accept, ..Self::page(Url::parse("http://localhost").ok()?) };
        if let Some(name) = path.strip_prefix(PIP_INDEX) {
            let url = below(upstream.pip.as_ref()?, name)?;
            return Some(Self { url, index_page: true, ..page });
        }
        let registry = upstream.npm.as_ref().filter(|_| !path.starts_with("/.pip"))?;
        let url = registry.join(path).ok().filter(|url| url.origin() == registry.origin())?;
        let tarball = url.path().contains("/-/") && url.path().ends_with(".tgz");
        let accept = page.accept.filter(|_| !tarball);
        Some(Self { url, immutable: tarball, accept, ..Self::page(registry.clone()) })
    }

    fn page(url: Url) -> Self {
        Self { url, immutable: false, archive: false, index_page: false, sha256: None, accept: None }
    }

    /// `sha256-HEX/https/files.example/-/packages/x.whl`
    fn pip_file(file: &str) -> Option<Self> {
        let mut parts = file.splitn(5, '/');
        let (hash, scheme, host) = (parts.next()?, parts.next()?, parts.next()?);
        let (port, path) = (parts.next()?, parts.next()?);
        let host = percent_decode_str(host).decode_utf8().ok()?;
        let port = if port == "-" { String::new() } else { format!(":{}", port.parse::<u16>().ok()?) };
        let url = Url::parse(&format!("{scheme}://{host}{port}/{path}")).ok()?;
        if !matches!(scheme, "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let hash = hash.strip_prefix("sha256-").filter(|hash| is_sha256(hash));
        // The metadata of a wheel (PEP 658) are at its URL with a suffix, and have a hash of their own.
        let sha256 = hash.filter(|_| !url.path().ends_with(".metadata")).map(str::to_owned);
        Some(Self { immutable: hash.is_some(), sha256, ..Self::page(url) })
    }

    /// The name of its entry in the cache.
    pub(super) fn key(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.url.as_str(), self.accept.as_deref().unwrap_or_default()] {
            hash.update(part);
            hash.update([0]);
        }
        crate::checksum::hex(&hash.finalize())
    }

    /// The URL as it may be shown: queries may hold tokens.
    pub(super) fn public_url(&self) -> String {
        public(&self.url)
    }
}

/// `url` without credentials, query and fragment.
pub(super) fn public(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    crate::credentials::strip(url.as_str())
}

/// The path here of a file that an index links to; `hash` is a URL's fragment (`sha256=HEX`).
pub(super) fn pip_file(url: &Url) -> Option<String> {
    let fragment = url.fragment().unwrap_or_default();
    let hash = fragment.strip_prefix("sha256=").map(|rest| rest.split('&').next().unwrap_or(rest));
    let hash = hash.filter(|hash| is_sha256(hash)).map_or_else(|| "-".to_owned(), |hash| format!("sha256-{hash}"));
    let host = url.host_str()?;
    let port = url.port().map_or_else(|| "-".to_owned(), |port| port.to_string());
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{PIP_FILE}{hash}/{}/{host}/{port}{}{query}", url.scheme(), url.path());
    let path = utf8_percent_encode(&path, IN_PATH);
    Some(if fragment.is_empty() { path.to_string() } else { format!("{path}#{fragment}") })
}

/// The URL that APT means: see `apt-https.sh`.
fn archive(uri: &Uri) -> Option<Url> {
    let url = Url::parse(&uri.to_string()).ok().filter(|url| url.scheme() == "http")?;
    let Some(host) = url.host_str().and_then(|host| host.strip_suffix(".https")) else { return Some(url) };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Url::parse(&format!("https://{host}{port}{}{query}", url.path())).ok()
}

/// `path` below `base`, and nowhere else.
fn below(base: &Url, path: &str) -> Option<Url> {
    let url = Url::parse(&format!("{base}{path}")).ok()?;
    (url.origin() == base.origin() && url.path().starts_with(base.path())).then_some(url)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::upstream::Upstreams;
    use super::*;
    use crate::preflight::pip::Index;
    use crate::preflight::reach::Proxy;
    use crate::source::apt::Acquire;

    fn target(uri: &str) -> Option<Target> {
        let index = |url: &str| Index { url: url.into(), origin: String::new() };
        let (pip, npm) = (index("https://index.example/root/simple"), index("https://registry.example/npm/"));
        let upstreams = Upstreams {
            proxy: &Proxy::default(),
            acquire: &Acquire::default(),
            authorities: &[],
            mirrors: None,
            pip_index: Some(&pip),
            npm_registry: Some(&npm),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "application/json".parse().unwrap());
        Target::of(&uri.parse().unwrap(), &headers, &Upstream::new(&upstreams).unwrap())
    }

    #[test]
    fn what_is_asked_for_tells_how_long_it_holds() {
        let hash = "a".repeat(64);
        let wheel = format!("/.pip/file/sha256-{hash}/https/files.example/8443/p/x%2B1.whl");
        for (uri, url, immutable) in [
            ("http://m.example/debian/pool/main/x.deb", "http://m.example/debian/pool/main/x.deb", true),
            ("http://m.example/debian/dists/x/InRelease", "http://m.example/debian/dists/x/InRelease", false),
            ("http://m.example/flat/x.deb", "http://m.example/flat/x.deb", false),
            ("http://m.example.https:8443/pool/x%2b.deb", "https://m.example:8443/pool/x%2b.deb", true),
            ("/.pip/simple/six/", "https://index.example/root/simple/six/", false),
            (&wheel, "https://files.example:8443/p/x%2B1.whl", true),
            ("/.pip/file/-/http/files.example/-/x.zip?t=1", "http://files.example/x.zip?t=1", false),
            ("/npm/@a%2fb", "https://registry.example/npm/@a%2fb", false),
            ("/npm/@a/b/-/b-1.0.0.tgz", "https://registry.example/npm/@a/b/-/b-1.0.0.tgz", true),
        ] {
            let target = target(uri).unwrap();
            assert_eq!((target.url.as_str(), target.immutable), (url, immutable), "{uri}");
        }
        assert_eq!(target(&wheel).unwrap().sha256.as_deref(), Some(hash.as_str()));
        let metadata = target(&format!("{wheel}.metadata")).unwrap();
        assert_eq!((metadata.immutable, metadata.sha256), (true, None));
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for uri in [
            "/.pip/simple/../../secret",
            "/.pip/file/-/file/x/-/etc/passwd",
            "/.pip/file/-/http/joe:pw@x/-/y",
            "/.pip/file/-/http/x/port/y",
            "/.pip/other",
            "ftp://m.example/x",
            "//elsewhere.example/x",
        ] {
            let found = target(uri).map(|target| target.url.to_string());
            assert!(
                found.as_deref().is_none_or(|url| url.starts_with("https://registry.example/")),
                "{uri}: {found:?}"
            );
        }
    }

    #[test]
    fn forms_and_addresses_have_keys_of_their_own() {
        let one = target("/npm/x").unwrap();
        let other = Target { accept: None, ..one.clone() };
        assert_ne!(one.key(), other.key());
        let other = Target { url: Url::parse("https://registry.example/npm/y").unwrap(), ..one.clone() };
        assert_ne!(one.key(), other.key());
        assert_eq!(one.key(), target("/npm/x").unwrap().key());
        let url = Url::parse("https://files.example/x?token=secret#part").unwrap();
        assert_eq!(public(&url), "https://files.example/x");
    }
}
