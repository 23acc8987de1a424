//! The package cache of one stage: how its guest and the host's own programs get there, and what they fetched.

use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

use super::PackageCache;
use super::log::{FetchedFile, Log};
use super::target::PIP_INDEX;
use crate::error::{Error, Kind};
use crate::event::Events;
use crate::source::apt::Acquire;
use crate::template::Text;

/// The host as a guest sees it: of QEMU's user network and of slirp4netns.
const HOST_OF_GUESTS: &str = "10.0.2.2";

/// Where [`super::APT_METHOD`] is in a guest; `session.sh` removes it.
pub const GUEST_METHOD: &str = "/etc/apt/visabuild-https";

/// How patient clients must be: another visabuild may be fetching the same file, seconds.
const PATIENCE: u32 = 300;

/// The most files that an error names.
const NAMED: usize = 5;

/// Variable that tells scripts the index that the host's pip uses, where `PIP_INDEX_URL` is the cache.
const PUBLIC_PIP_INDEX: &str = "VISABUILD_PIP_INDEX";

/// A running server of one stage. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    pub(super) cache: PackageCache,
    pub(super) address: SocketAddr,
    pub(super) log: Arc<Log>,
    pub(super) events: Events,
    pub(super) template: String,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How an APT on this host gets to its archives.
    #[must_use]
    pub fn acquire(&self, host: &Acquire) -> Acquire {
        let host_name = self.address.ip().to_string();
        // APT's own user is not one that the server answers.
        let method = self.cache.method.display().to_string();
        let sandbox = "APT::Sandbox::User \"root\";\n";
        let configuration = format!("{}{sandbox}", self.apt(&host_name, &method, host.configuration.expose_secret()));
        Acquire {
            http_proxy: Some(self.url(&host_name).into()),
            https_proxy: None,
            configuration: configuration.into(),
        }
    }

    /// The guest's apt.conf(5) out of the one that it would have without a cache.
    pub fn apt_configuration(&self, without: &str) -> String {
        self.apt(HOST_OF_GUESTS, GUEST_METHOD, without)
    }

    fn apt(&self, host: &str, method: &str, without: &str) -> String {
        let is_proxy = |line: &&str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("acquire::http::proxy")
                || line.starts_with("acquire::https::proxy")
                || self.cache.offline && line.starts_with("acquire::retries")
        };
        let mut text: String = without.lines().filter(|line| !is_proxy(line)).map(|line| format!("{line}\n")).collect();
        let url = self.url(host);
        text.push_str(&format!("Acquire::http::Proxy \"{url}\";\nAcquire::http::Timeout \"{PATIENCE}\";\n"));
        text.push_str(&format!("Dir::Bin::Methods::https \"{method}\";\n"));
        if self.cache.offline {
            // What is in the cache may be older than its makers wanted.
            text.push_str("Acquire::Retries \"0\";\nAcquire::Check-Valid-Until \"false\";\n");
        }
        text
    }

    /// The environment of a guest's steps out of the one that it would have without a cache.
    pub fn environment(&self, without: &[(String, Text)]) -> Vec<(String, Text)> {
        let mut environment = without.to_vec();
        for (name, value) in &mut environment {
            if name.eq_ignore_ascii_case("no_proxy") {
                let (masked, plain) = (value.masked().to_owned(), value.plain().to_owned());
                let secrets = value.secrets().clone();
                *value = Text::new(format!("{masked},{HOST_OF_GUESTS}"), format!("{plain},{HOST_OF_GUESTS}"), secrets);
            }
        }
        let before = environment.iter().find(|(name, _)| name == "PIP_INDEX_URL");
        let public_index = before.map_or("", |(_, value)| value.masked()).to_owned();
        let own = self.variables(public_index);
        environment.retain(|(name, _)| !own.iter().any(|(other, _)| name.eq_ignore_ascii_case(other)));
        environment.extend(own.into_iter().map(|(name, value)| (name.to_owned(), Text::public(value))));
        environment
    }

    fn variables(&self, public_index: String) -> Vec<(&'static str, String)> {
        let upstream = &self.cache.fetcher.upstream;
        let server = self.url(HOST_OF_GUESTS);
        let mut variables = Vec::new();
        if upstream.pip.is_some() {
            variables.extend([
                ("PIP_INDEX_URL", format!("{server}{PIP_INDEX}")),
                ("PIP_TRUSTED_HOST", HOST_OF_GUESTS.to_owned()),
                ("PIP_DEFAULT_TIMEOUT", PATIENCE.to_string()),
                (PUBLIC_PIP_INDEX, public_index),
            ]);
        }
        if let Some(registry) = &upstream.npm {
            let port = registry.port().map(|port| format!(":{port}")).unwrap_or_default();
            variables.extend([
                ("npm_config_registry", format!("{server}{}", registry.path())),
                ("npm_config_replace_registry_host", format!("{}{port}", registry.host_str().unwrap_or_default())),
            ]);
        }
        if self.cache.offline {
            variables.extend([
                ("PIP_RETRIES", "0".to_owned()),
                ("npm_config_fetch_retries", "0".to_owned()),
                ("npm_config_audit", "false".to_owned()),
            ]);
        }
        variables
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}", self.address.port())
    }

    /// The files that clients have got so far, sorted by URL.
    pub fn files(&self) -> Vec<FetchedFile> {
        self.log.files()
    }

    /// Says what came from where.
    pub fn tell(&self) {
        if let Some(summary) = self.log.summary() {
            self.events.info(Some(&self.template), summary);
        }
    }

    /// `error` with what only the network has, where that may be its reason.
    pub fn explain(&self, error: Error) -> Error {
        let missed = self.log.missed();
        if missed.is_empty() || matches!(error.kind(), Kind::Interrupted | Kind::Terminated) {
            return error;
        }
        let mut named = missed.iter().take(NAMED).map(|url| format!("  {url}")).collect::<Vec<_>>();
        if missed.len() > NAMED {
            named.push(format!("  and {} more", missed.len() - NAMED));
        }
        let text = format!(
            "with `--offline`, what is not in the package cache cannot be had:\n{}\nbuild once without `--offline`",
            named.join("\n")
        );
        error.hint(text)
    }
}
