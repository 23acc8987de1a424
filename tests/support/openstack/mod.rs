//! A real Keystone and a real Glance on loopback, for one test. Clients reach both through fault proxies only.
//!
//! A test binary includes it by `#[path = "support/openstack/mod.rs"] mod openstack;`. `scripts/test` installs the
//! services; each test has processes, databases, ports and a store of its own, which end with it.
#![allow(dead_code, clippy::unwrap_used)]

mod account;
mod fault_proxy;
mod glance;
mod http;
mod listener;
mod nova;
mod relay;
mod rules;
mod server;
mod services;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use self::services::{Listening, Services};
#[allow(unused_imports)]
pub use self::{
    account::{APPLICATION_CREDENTIAL_SECRET, REGION, password},
    fault_proxy::FaultProxy,
    glance::Content,
    nova::{Fate, Nova},
    rules::{Fault, Outcome, Request, Rule, RuleId},
    server::{Answer, Received, Server},
    services::program,
    tls::Authority,
};

/// How clients reach the services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP.
    #[default]
    None,
    /// HTTPS; the authority is one that nobody knows.
    Server,
    /// HTTPS that also wants a certificate of the client.
    Mutual,
}

/// How a cloud is to be.
#[derive(Debug)]
#[must_use]
pub struct Options {
    tls: Tls,
    keystone_lines: String,
    glance_lines: String,
    image_endpoint: bool,
    compute: bool,
    token_lifetime: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: Tls::None,
            keystone_lines: String::new(),
            glance_lines: String::new(),
            image_endpoint: true,
            compute: false,
            // Keystone's own.
            token_lifetime: Duration::from_secs(3600),
        }
    }
}

impl Options {
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// More lines of glance-api.conf, with their section's title.
    pub fn glance_lines(mut self, lines: &str) -> Self {
        self.glance_lines.push_str(&format!("{lines}\n"));
        self
    }

    /// More lines of keystone.conf, with their section's title.
    pub fn keystone_lines(mut self, lines: &str) -> Self {
        self.keystone_lines.push_str(&format!("{lines}\n"));
        self
    }

    /// The import methods that Glance offers; without this its own choice.
    pub fn import_methods(self, methods: &[&str]) -> Self {
        self.glance_lines(&format!("[DEFAULT]\nenabled_import_methods = [{}]", methods.join(",")))
    }

    /// The seconds after which tokens expire.
    pub fn token_lifetime(mut self, seconds: u32) -> Self {
        self.token_lifetime = Duration::from_secs(seconds.into());
        self.keystone_lines(&format!("[token]\nexpiration = {seconds}\nallow_expired_window = 0"))
    }

    /// Glance asks Keystone for limits; see [`Cloud::set_limit`].
    pub fn limits(self) -> Self {
        self.glance_lines("[DEFAULT]\nuse_keystone_limits = true")
    }

    /// The catalogue names no image service.
    pub fn without_image_endpoint(mut self) -> Self {
        self.image_endpoint = false;
        self
    }

    /// The catalogue names a compute service, which is a stand-in; see [`Cloud::nova`].
    pub fn compute(mut self) -> Self {
        self.compute = true;
        self
    }

    /// Starts Keystone and Glance side by side; returns when both answer.
    pub async fn start(self) -> Cloud {
        let folder = services::cloud_folder();
        let facts = services::copy_state(folder.path());
        let authority = (self.tls != Tls::None).then(|| Authority::create(&folder.path().join("tls")));
        let server = authority.as_ref().map(|authority| authority.server(self.tls == Tls::Mutual));
        let (keystone_listening, glance_listening) = (Listening::new(), Listening::new());
        let (keystone_address, glance_address) = (keystone_listening.address(), glance_listening.address());
        let keystone = FaultProxy::start(keystone_address, server.clone());
        let glance = FaultProxy::start(glance_address, server.clone());
        let nova = self.compute.then(|| Nova::start(keystone_address, server));
        let endpoints = self.endpoints(keystone_address, &keystone, &glance, nova.as_ref());
        services::write_catalogue(folder.path(), &endpoints);
        self.configure(folder.path(), keystone_address, glance_address, &facts);
        let services = Services::start(folder.path(), keystone_listening, glance_listening);
        // An environment that names a proxy has no say here.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let cloud = Cloud {
            keystone,
            glance,
            nova,
            services,
            tls: self.tls,
            authority,
            facts,
            keystone_address,
            glance_address,
            http,
            token_lifetime: self.token_lifetime,
            admin_token: Mutex::default(),
            folder,
        };
        tokio::join!(cloud.answers(keystone_address, "/v3"), cloud.answers(glance_address, "/"));
        cloud
    }

    /// The catalogue: what clients see are the proxies.
    fn endpoints(
        &self,
        keystone_address: SocketAddr,
        keystone: &FaultProxy,
        glance: &FaultProxy,
        nova: Option<&Nova>,
    ) -> Vec<String> {
        let mut endpoints = vec![
            format!("identity:public={}/v3", keystone.url()),
            // Glance itself asks here whether a token is good.
            format!("identity:internal=http://{keystone_address}/v3"),
        ];
        let image = self.image_endpoint.then(|| ("image", glance.url()));
        let compute = nova.map(|nova| ("compute", nova.endpoint()));
        for (kind, url) in image.into_iter().chain(compute) {
            endpoints.extend(["public", "internal"].map(|interface| format!("{kind}:{interface}={url}")));
        }
        endpoints
    }

    fn configure(&self, folder: &Path, keystone: SocketAddr, glance: SocketAddr, facts: &Value) {
        services::configure(&folder.join("keystone/keystone.conf"), &self.keystone_lines);
        let keystone = format!("http://{keystone}/v3");
        let endpoint = facts["endpoints"]["image:public"].as_str().unwrap();
        let stores = [("file", "store"), ("os_glance_staging_store", "staging"), ("os_glance_tasks_store", "tasks")];
        let stores = stores.map(|(section, name)| {
            format!("[{section}]\nfilesystem_store_datadir = {}\n", folder.join("glance").join(name).display())
        });
        let lines = format!(
            "[DEFAULT]\nworker_self_reference_url = http://{glance}\n\
             [keystone_authtoken]\nauth_url = {keystone}\nwww_authenticate_uri = {keystone}\n\
             [oslo_limit]\nauth_url = {keystone}\nendpoint_id = {endpoint}\n{}{}",
            stores.concat(),
            self.glance_lines
        );
        services::configure(&folder.join("glance/glance-api.conf"), &lines);
    }
}

/// A running cloud with region RegionOne, the domain Default and these accounts:
///
/// | user | roles |
/// |---|---|
/// | `builder` | member in `visa` and `other` |
/// | `reader` | reader in `visa` |
/// | `nobody` | none |
/// | `admin` | admin in `admin` and `visa` |
///
/// `builder` has an application credential for `visa`.
#[derive(Debug)]
pub struct Cloud {
    /// What clients take for Keystone.
    pub keystone: FaultProxy,
    /// What clients take for Glance.
    pub glance: FaultProxy,
    nova: Option<Nova>,
    services: Services,
    tls: Tls,
    authority: Option<Authority>,
    facts: Value,
    keystone_address: SocketAddr,
    glance_address: SocketAddr,
    http: reqwest::Client,
    token_lifetime: Duration,
    /// And when it was made.
    admin_token: Mutex<Option<(Instant, String)>>,
    // The last: services may write as long as they live.
    folder: TempDir,
}

impl Cloud {
    /// An ordinary cloud: no TLS, image service with all its import methods.
    pub async fn start() -> Self {
        Self::options().start().await
    }

    pub fn options() -> Options {
        Options::default()
    }

    /// The stand-in of Nova, of a cloud with [`Options::compute`].
    pub fn nova(&self) -> &Nova {
        self.nova.as_ref().unwrap()
    }

    /// Waits for a service, which has been listening since before it started.
    async fn answers(&self, address: SocketAddr, path: &str) {
        let request = self.http.get(format!("http://{address}{path}")).timeout(fault_proxy::PATIENCE);
        if let Err(error) = request.send().await {
            panic!("a service does not answer: {error:?}");
        }
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn glance_folder(&self) -> PathBuf {
        self.folder.path().join("glance")
    }

    /// Where Glance itself listens, behind its proxy.
    pub fn glance_address(&self) -> SocketAddr {
        self.glance_address
    }

    /// Where Keystone itself listens, behind its proxy.
    pub fn keystone_address(&self) -> SocketAddr {
        self.keystone_address
    }

    /// What `keystone` or `glance` printed.
    pub fn log(&self, service: &str) -> String {
        self.services.log(service)
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }
}
