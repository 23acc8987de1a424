//! The build host's APT configuration as data: which mirrors it uses and how it reaches them.
//!
//! The mirror of an image is the build host's own unless the user sets one, so that a build works
//! wherever the host can install packages. Parsing is pure; [`read_sources`] and
//! [`Acquire::of_host`] are the only functions that look at the host. `auth.conf` is left alone.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::credentials;
use crate::error::{Error, Kind, Result};
use crate::process::Run;

pub use sources::{Source, parse_deb822, parse_list, read_sources};

mod sources;

/// Where Debian's archive keyring is in every Debian.
pub const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Code names of releases, newest first; what tells a Debian source from a third party's.
const CODE_NAMES: [&str; 8] = ["sid", "duke", "forky", "trixie", "bookworm", "bullseye", "buster", "stretch"];
/// Names that move from release to release. Third parties use them too.
const CLASS_NAMES: [&str; 5] = ["unstable", "testing", "stable", "oldstable", "oldoldstable"];

/// A mirror's URL, with its credentials kept apart.
#[derive(Clone)]
pub struct Mirror {
    url: String,
    credentials: Option<SecretString>,
}

impl Mirror {
    /// Takes `user:password@` out of `url`; a slash at its end goes too.
    ///
    /// # Errors
    /// It is not an HTTP or HTTPS URL (kind usage); the message does not repeat the credentials.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = || {
            Error::usage(format!("`{}` is not the URL of a mirror", credentials::strip(url)))
                .hint("give an http:// or https:// URL, for example http://mirror.example.org/debian")
        };
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad());
        }
        let (stripped, credentials) = credentials::split(url);
        let host = stripped.strip_prefix("http://").or_else(|| stripped.strip_prefix("https://")).ok_or_else(bad)?;
        if host.is_empty() || host.starts_with(['/', ':']) {
            return Err(bad());
        }
        Ok(Self {
            url: stripped.trim_end_matches('/').to_owned(),
            credentials: credentials.map(|text| text.to_owned().into()),
        })
    }

    /// The URL without credentials: what may be shown and what goes into an image.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Protocol, host with port, and directory from a slash on: as debian-installer asks for them.
    pub fn parts(&self) -> (&str, &str, &str) {
        let (protocol, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let directory = rest.find('/').unwrap_or(rest.len());
        (protocol, &rest[..directory], if directory < rest.len() { &rest[directory..] } else { "/" })
    }

    /// `user:password`, still percent-encoded as it was written.
    pub fn credentials(&self) -> Option<&SecretString> {
        self.credentials.as_ref()
    }

    /// The URL with its credentials; never for an argument list or a file that stays.
    pub fn full_url(&self) -> SecretString {
        let Some(credentials) = &self.credentials else { return self.url.clone().into() };
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        format!("{scheme}://{}@{rest}", credentials.expose_secret()).into()
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl PartialEq for Mirror {
    fn eq(&self, other: &Self) -> bool {
        self.full_url().expose_secret() == other.full_url().expose_secret()
    }
}

/// The mirrors of a Debian suite and of its security updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirrors {
    /// The archive itself, with `-updates`.
    pub main: Mirror,
    /// The security archive, where the host has one.
    pub security: Option<Mirror>,
}

impl Mirrors {
    /// The mirrors that `sources` name for Debian; third parties' repositories are passed over.
    ///
    /// # Errors
    /// None of them is Debian's (kind host), as on a host of another distribution.
    pub fn from_sources(sources: &[Source]) -> Result<Self> {
        let main = best(sources, false).ok_or_else(|| {
            Error::host("the APT configuration of this host names no Debian mirror")
                .hint("set `mirror` to the URL of one, for example http://mirror.example.org/debian")
        })?;
        Ok(Self { main: Mirror::parse(&main.uri)?, security: security_mirror(sources)? })
    }

    /// The mirror that the user set, and the host's security mirror if it has one.
    ///
    /// # Errors
    /// `mirror` is not an HTTP or HTTPS URL (kind usage).
    pub fn with_main(mirror: &str, sources: &[Source]) -> Result<Self> {
        Ok(Self { main: Mirror::parse(mirror)?, security: security_mirror(sources)? })
    }

    /// The same for whoever gets there through something that adds the credentials.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        let public = |mirror: &Mirror| Mirror { url: mirror.url.clone(), credentials: None };
        Self { main: public(&self.main), security: self.security.as_ref().map(public) }
    }

    /// Sources of `suite` in deb822 format (sources.list(5)) for a file in an image: no credentials.
    pub fn deb822(&self, suite: &str, components: &[String]) -> String {
        self.paragraphs(suite, components, ARCHIVE_KEYRING, |mirror| mirror.url.clone())
    }

    /// As [`Mirrors::deb822`] with credentials, verified with `keyring`; for a private file that is
    /// removed after use.
    pub fn private_deb822(&self, suite: &str, components: &[String], keyring: &str) -> SecretString {
        self.paragraphs(suite, components, keyring, |mirror| mirror.full_url().expose_secret().to_owned()).into()
    }

    fn paragraphs(&self, suite: &str, components: &[String], keyring: &str, url: impl Fn(&Mirror) -> String) -> String {
        let components = components.join(" ");
        let paragraph = |mirror, suites: String| {
            let uri = url(mirror);
            format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\nSigned-By: {keyring}\n")
        };
        if moving(suite) {
            return paragraph(&self.main, suite.to_owned());
        }
        let mut text = paragraph(&self.main, format!("{suite} {suite}-updates"));
        if let Some(security) = &self.security {
            text.push('\n');
            text.push_str(&paragraph(security, format!("{suite}-security")));
        }
        text
    }
}

/// Whether `suite` is Debian's development suite, which has no updates and no security suite.
pub(super) fn moving(suite: &str) -> bool {
    matches!(suite, "sid" | "unstable")
}

fn security_mirror(sources: &[Source]) -> Result<Option<Mirror>> {
    best(sources, true).map(|source| Mirror::parse(&source.uri)).transpose()
}

/// The source that is most surely Debian's; the first of equals.
fn best(sources: &[Source], security: bool) -> Option<&Source> {
    let mut best = None;
    for source in sources {
        let rank = rank(source, security);
        if rank > best.map_or(0, |(rank, _)| rank) {
            best = Some((rank, source));
        }
    }
    best.map(|(_, source)| source)
}

/// How surely `source` is Debian's (security) archive; 0 is not.
fn rank(source: &Source, security: bool) -> u8 {
    let (name, is_security) = match source.suite.strip_suffix("-security").or(source.suite.strip_suffix("/updates")) {
        Some(name) => (name, true),
        None => (source.suite.strip_suffix("-updates").unwrap_or(&source.suite), false),
    };
    if is_security != security || !source.components.iter().any(|component| component == "main") {
        return 0;
    }
    let path = source.uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let signed = source.signed_by.contains("debian-archive");
    let named = matches!(path, "debian" | "debian-security");
    let sure = u8::from(signed) * 4 + u8::from(named) * 2;
    if CODE_NAMES.contains(&name) {
        sure + 1
    } else if CLASS_NAMES.contains(&name) {
        sure
    } else {
        0
    }
}

/// How the host's APT reaches its mirrors: proxies, certificate authorities, retries.
#[derive(Debug, Clone, Default)]
pub struct Acquire {
    /// Proxy for http:// mirrors (may hold credentials).
    pub http_proxy: Option<SecretString>,
    /// Proxy for https:// mirrors (may hold credentials).
    pub https_proxy: Option<SecretString>,
    /// Text in the format of apt.conf(5) that makes another APT reach them the same way.
    pub configuration: SecretString,
}

impl Acquire {
    /// What `apt-config dump` says on this host.
    ///
    /// # Errors
    /// apt-config is missing (kind host) or fails.
    pub async fn of_host(cancel: &CancellationToken) -> Result<Self> {
        let dump = Run::new("apt-config", ["dump"]).kind(Kind::Host).output(cancel).await?;
        Ok(Self::parse(&dump))
    }

    /// Takes what matters out of the lines of `apt-config dump`.
    pub fn parse(dump: &str) -> Self {
        let mut configuration = String::new();
        let mut acquire = Self::default();
        for line in dump.lines() {
            let Some((key, value)) = line.strip_suffix("\";").and_then(|line| line.split_once(" \"")) else { continue };
            let lower = key.to_ascii_lowercase();
            if value.is_empty() || !["acquire::http", "acquire::retries"].iter().any(|start| lower.starts_with(start)) {
                continue;
            }
            configuration.push_str(line);
            configuration.push('\n');
            match lower.as_str() {
                "acquire::http::proxy" => acquire.http_proxy = Some(value.into()),
                "acquire::https::proxy" => acquire.https_proxy = Some(value.into()),
                _ => {}
            }
        }
        acquire.configuration = configuration.into();
        acquire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Vec<Source> {
        parse_list(text)
    }

    #[test]
    fn mirrors_are_debians_and_not_a_third_partys() {
        let sources = sources(
            "deb http://browser.example.org/deb stable main\n\
             deb http://third.example.org/apt trixie main\n\
             deb http://docker.example.org/linux/debian bookworm stable\n\
             deb http://mirror.example.org/debian/ bookworm main\n\
             deb http://mirror.example.org/debian-security bookworm-security main",
        );
        let mirrors = Mirrors::from_sources(&sources).unwrap();
        assert_eq!(mirrors.main.url(), "http://mirror.example.org/debian");
        assert_eq!(mirrors.security.unwrap().url(), "http://mirror.example.org/debian-security");
    }

    #[test]
    fn a_host_of_another_distribution_is_told_to_set_a_mirror() {
        let sources = sources("deb http://archive.example.org/ubuntu noble main universe");
        let error = Mirrors::from_sources(&sources).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert!(error.hints()[0].starts_with("set `mirror`"), "{:?}", error.hints());
    }

    #[test]
    fn a_signature_by_debians_keyring_outweighs_the_path() {
        let sources = sources(
            "deb http://third.example.org/debian bookworm main\n\
             deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://cache.example.org/deb stable main",
        );
        assert_eq!(Mirrors::from_sources(&sources).unwrap().main.url(), "http://cache.example.org/deb");
    }

    #[test]
    fn credentials_are_shown_nowhere_but_where_they_are_needed() {
        let mirror = Mirror::parse("https://joe:s%40cret@mirror.example.org/debian/").unwrap();
        assert_eq!(mirror.url(), "https://mirror.example.org/debian");
        assert_eq!(format!("{mirror:?}"), "https://mirror.example.org/debian");
        assert_eq!(mirror.full_url().expose_secret(), "https://joe:s%40cret@mirror.example.org/debian");
        let mirrors = Mirrors { main: mirror, security: None };
        assert!(!mirrors.deb822("trixie", &["main".to_owned()]).contains("cret"));
        assert!(mirrors.private_deb822("trixie", &["main".to_owned()], "/k").expose_secret().contains("joe:s%40cret@"));
    }

    #[test]
    fn what_is_no_mirror_is_refused_without_its_password() {
        for bad in ["ftp://joe:secret@mirror.example.org/", "mirror.example.org", "http://", "http:// x", "http://:80"]
        {
            let error = Mirror::parse(bad).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_at_sign_in_the_path_is_no_credential() {
        assert_eq!(credentials::strip("http://mirror.example.org/a@b"), "http://mirror.example.org/a@b");
    }

    #[test]
    fn sources_of_an_image_name_updates_and_security() {
        let mirrors = Mirrors {
            main: Mirror::parse("http://mirror.example.org/debian").unwrap(),
            security: Some(Mirror::parse("http://mirror.example.org/debian-security").unwrap()),
        };
        let components = ["main".to_owned(), "non-free-firmware".to_owned()];
        insta::assert_snapshot!(mirrors.deb822("trixie", &components), @r"
        Types: deb
        URIs: http://mirror.example.org/debian
        Suites: trixie trixie-updates
        Components: main non-free-firmware
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://mirror.example.org/debian-security
        Suites: trixie-security
        Components: main non-free-firmware
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
        ");
    }

    #[test]
    fn proxies_and_certificates_are_taken_from_the_dump() {
        let acquire = Acquire::parse(
            "APT \"\";\nAcquire::http::Proxy \"http://proxy.example.org:3128\";\nAcquire::https::CaInfo \"/etc/ca.pem\";\n\
             Acquire::http::Proxy::mirror.example.org \"DIRECT\";\nAcquire::https \"\";\nDir \"/\";\n",
        );
        assert_eq!(acquire.http_proxy.unwrap().expose_secret(), "http://proxy.example.org:3128");
        assert!(acquire.https_proxy.is_none());
        assert_eq!(
            acquire.configuration.expose_secret(),
            "Acquire::http::Proxy \"http://proxy.example.org:3128\";\nAcquire::https::CaInfo \"/etc/ca.pem\";\n\
             Acquire::http::Proxy::mirror.example.org \"DIRECT\";\n"
        );
    }
}
