//! A session with a cloud: one token for one project, the endpoints of its catalogue, and requests
//! that are tried again where that can help.
//!
//! openstack_sdk proves who we are; the requests are ours, because its client knows no client
//! certificate, limits a whole upload to one time, and gives up at the first broken connection.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use openstack_sdk_auth_core::types::ServiceEndpoints;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method as HttpMethod, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Refusal, Unreachable};
use super::login::{Login, Method, is_id};
use super::token::{Token, authenticate};
use crate::error::{Context, Error, Kind, Result};

/// How long to wait, and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer to a small request.
    pub answer: Duration,
    /// For the next byte of an image to be taken.
    pub stall: Duration,
    /// How often a request that may heal is made again.
    pub retries: u32,
    /// For an image to become active after its last byte.
    pub active: Duration,
}

impl Patience {
    /// For the kernel, which gives a connection up when the cloud takes nothing of what it holds. Later than we notice
    /// it ourselves, who know how far the data are.
    pub(super) fn unacknowledged(&self) -> Duration {
        self.stall + Duration::from_secs(5)
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(120),
            retries: 4,
            active: Duration::from_secs(3600),
        }
    }
}

/// A token that ends before this is replaced before an image is sent.
const SOON: Duration = Duration::from_secs(15 * 60);

/// Services that visabuild speaks to, by their types in the catalogue (service-types-authority).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Identity,
    Image,
    Compute,
}

impl Service {
    fn kind(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Image => "image",
            Self::Compute => "compute",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Identity => "Keystone",
            Self::Image => "Glance",
            Self::Compute => "Nova",
        }
    }
}

/// A project, user or domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A session.
#[derive(Debug)]
pub struct Cloud {
    client: Client,
    login: Login,
    token: RwLock<Arc<Token>>,
    patience: Patience,
    cancel: CancellationToken,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    service: Service,
    method: HttpMethod,
    path: String,
    query: Vec<(String, String)>,
    body: Option<(&'static str, Vec<u8>)>,
    headers: HeaderMap,
}

impl Call {
    pub fn new(service: Service, method: HttpMethod, path: impl Into<String>) -> Self {
        Self { service, method, path: path.into(), query: Vec::new(), body: None, headers: HeaderMap::new() }
    }

    pub fn get(service: Service, path: impl Into<String>) -> Self {
        Self::new(service, HttpMethod::GET, path)
    }

    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    pub fn json(self, body: &Json) -> Self {
        self.body("application/json", body)
    }

    pub fn body(mut self, media_type: &'static str, body: &Json) -> Self {
        self.body = Some((media_type, body.to_string().into_bytes()));
        self
    }

    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    body: Vec<u8>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> std::result::Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let cause = format!("its answer is not what this service answers: {error}");
            Failure::Unreachable(Unreachable { cause, may_heal: false })
        })
    }
}

impl Cloud {
    /// Logs in.
    ///
    /// # Errors
    /// A certificate cannot be read (kind usage); the cloud refuses or is not reachable (kind cloud).
    pub async fn connect(login: Login, patience: Patience, cancel: &CancellationToken) -> Result<Self> {
        let client = client(&login, patience)?;
        let token = authenticate(&client, &login, patience, cancel).await?;
        Ok(Self { client, login, token: RwLock::new(token.into()), patience, cancel: cancel.clone() })
    }

    /// The project that the session is for.
    pub fn project(&self) -> Named {
        self.current().project.clone()
    }

    /// Keystone's address.
    pub fn auth_url(&self) -> &str {
        &self.login.auth_url
    }

    /// The same session, for what must be brought to its end after a signal.
    pub(super) fn uncancelled(&self) -> Self {
        Self {
            client: self.client.clone(),
            login: self.login.clone(),
            token: RwLock::new(self.current()),
            // The user waits for the prompt.
            patience: Patience {
                answer: self.patience.answer.min(Duration::from_secs(10)),
                retries: 1,
                ..self.patience
            },
            cancel: CancellationToken::new(),
        }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    fn current(&self) -> Arc<Token> {
        // A panic elsewhere does not make the token wrong.
        self.token.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The same user in another project.
    ///
    /// # Errors
    /// As [`Cloud::connect`]; an application credential belongs to one project.
    pub async fn in_project(&self, project: &str) -> Result<Self> {
        let mut login = self.login.clone();
        if login.method == Method::ApplicationCredential {
            return Err(Error::new(Kind::Cloud, "an application credential is for one project only"));
        }
        login.auth.project_id = is_id(project).then(|| project.to_owned());
        login.auth.project_name = (!is_id(project)).then(|| project.to_owned());
        login.project_is_named = false;
        Self::connect(login, self.patience, &self.cancel).await
    }

    /// Whether the catalogue has the service.
    pub(super) fn has(&self, service: Service) -> bool {
        self.endpoint(service).is_ok()
    }

    /// The service's address, with its version and no slash at its end.
    ///
    /// # Errors
    /// The catalogue has no such service in that region or with that interface (kind cloud).
    pub(super) fn endpoint(&self, service: Service) -> Result<Url> {
        let url = match (service, &self.login.image_endpoint) {
            (Service::Identity, _) => identity_url(&self.login.auth_url)?.to_string(),
            (Service::Image, Some(url)) => url.clone(),
            _ => find_endpoint(&self.current().catalog, service, self.login.region.as_deref(), &self.login.interface)
                .map_err(|error| error.context(format!("the project `{}` cannot be used", self.project().name)))?,
        };
        let mut url = url.trim_end_matches('/').to_owned();
        if service == Service::Image && !url.rsplit('/').next().is_some_and(is_version) {
            url.push_str("/v2");
        }
        Url::parse(&url)
            .context(Kind::Cloud, || format!("the catalogue's address of {} is no URL: {url}", service.title()))
    }

    /// Makes the request, again where that may help.
    pub(super) async fn call(&self, call: Call) -> std::result::Result<Answer, Failure> {
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            let failure = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.status() == Some(StatusCode::UNAUTHORIZED) && !renewed {
                renewed = true;
                self.renew().await.map_err(Failure::Ours)?;
                continue;
            }
            if !failure.may_heal() || attempt >= self.patience.retries {
                return Err(failure);
            }
            self.pause(attempt, &failure).await?;
            attempt += 1;
        }
    }

    async fn once(&self, call: &Call) -> std::result::Result<Answer, Failure> {
        let mut request = self.request(call).map_err(Failure::Ours)?.timeout(self.patience.answer);
        if let Some((media_type, body)) = &call.body {
            request = request.header(CONTENT_TYPE, *media_type).body(body.clone());
        }
        let exchange = async {
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?.to_vec();
            if status.is_success() || status == StatusCode::MULTIPLE_CHOICES {
                return Ok(Answer { body });
            }
            Err(Failure::Refused(Refusal::new(status, &headers, &String::from_utf8_lossy(&body))))
        };
        tokio::select! {
            result = exchange => result,
            () = self.cancel.cancelled() => Err(Failure::Ours(cancelled())),
        }
    }

    /// A request with the token, and without a body.
    pub(super) fn request(&self, call: &Call) -> Result<reqwest::RequestBuilder> {
        let mut url = self.endpoint(call.service)?;
        url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), call.path));
        let token = self.current();
        let mut token =
            HeaderValue::from_str(token.secret.expose_secret()).context(Kind::Cloud, || "the token is no header")?;
        token.set_sensitive(true);
        let request = self.client.request(call.method.clone(), url).header("X-Auth-Token", token);
        Ok(request.header(ACCEPT, "application/json").headers(call.headers.clone()).query(&call.query))
    }

    /// Waits before the next try: half a second, doubled each time, or as long as the service says.
    pub(super) async fn pause(&self, attempt: u32, failure: &Failure) -> std::result::Result<(), Failure> {
        let asked = match failure {
            Failure::Refused(refusal) => refusal.retry_after,
            _ => None,
        };
        let pause = asked.unwrap_or_else(|| back_off(attempt));
        self.sleep(pause.min(Duration::from_secs(60))).await
    }

    /// Waits, unless the run is interrupted.
    pub(super) async fn sleep(&self, pause: Duration) -> std::result::Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancel.cancelled() => Err(Failure::Ours(cancelled())),
        }
    }

    /// Logs in anew if the token ends soon: a long upload begins with a fresh one.
    pub(super) async fn freshen(&self) -> Result<()> {
        if self.current().expires > SystemTime::now() + SOON { Ok(()) } else { self.renew().await }
    }

    /// Logs in anew.
    pub(super) async fn renew(&self) -> Result<()> {
        let token = authenticate(&self.client, &self.login, self.patience, &self.cancel).await?;
        *self.token.write().unwrap_or_else(std::sync::PoisonError::into_inner) = token.into();
        Ok(())
    }
}

impl Cloud {
    /// Projects of that name which the user may see: all of them, or else those with a role of the user's.
    pub(super) async fn find_projects(&self, name: &str) -> std::result::Result<Vec<Named>, Failure> {
        for path in ["projects", "auth/projects"] {
            match self.call(Call::get(Service::Identity, path).query("name", name)).await {
                Ok(answer) => {
                    let list: Json = answer.json()?;
                    let text = |one: &Json, field: &str| one[field].as_str().unwrap_or_default().to_owned();
                    let all = list["projects"].as_array().cloned().unwrap_or_default();
                    let all = all.iter().map(|one| Named { id: text(one, "id"), name: text(one, "name") });
                    // `auth/projects` knows no filter.
                    return Ok(all.filter(|project| project.name == name).collect());
                }
                Err(failure) if failure.status() == Some(StatusCode::FORBIDDEN) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Vec::new())
    }
}

/// The pause before another try: half a second, doubled each time.
pub(super) fn back_off(attempt: u32) -> Duration {
    Duration::from_millis(500 << attempt.min(6))
}

pub(super) fn cancelled() -> Error {
    Error::new(Kind::Interrupted, "interrupted")
}

fn client(login: &Login, patience: Patience) -> Result<Client> {
    let read = |path: &std::path::Path, what: &str| {
        fs::read(path).map_err(|error| Error::usage(format!("cannot read {what} {}", path.display())).because(error))
    };
    let mut builder = Client::builder()
        .user_agent(concat!("visabuild/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .http1_only()
        .connect_timeout(Duration::from_secs(20))
        .tcp_user_timeout(patience.unacknowledged())
        .tls_danger_accept_invalid_certs(login.insecure);
    if let Some(path) = &login.cacert {
        let what = "the cloud's certificate authority";
        let pem = read(path, what)?;
        let all = reqwest::Certificate::from_pem_bundle(&pem)
            .context(Kind::Usage, || format!("{what} {} is no PEM", path.display()))?;
        if all.is_empty() {
            return Err(Error::usage(format!("{} has no certificate", path.display())));
        }
        builder = builder.tls_certs_merge(all);
    }
    if let Some((certificate, key)) = &login.certificate {
        let mut pem = read(certificate, "the client certificate")?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read(key, "the client certificate's key")?);
        }
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| {
            Error::usage(format!("{} is no client certificate", certificate.display()))
                .because(error)
                .hint("certificate and key are PEM; the key may be in the same file or be named by --os-key (OS_KEY)")
        })?;
        builder = builder.identity(identity);
    }
    builder.build().context(Kind::Usage, || "the settings of the connection to the cloud cannot be used")
}

/// `…/v3/`, whether or not the user's address says so.
pub(super) fn identity_url(auth_url: &str) -> Result<Url> {
    let trimmed = auth_url.trim().trim_end_matches('/');
    let base = match trimmed.rsplit_once('/') {
        Some((base, last)) if is_version(last) => base,
        _ => trimmed,
    };
    let url = Url::parse(&format!("{base}/v3/")).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        Error::usage(format!("`{auth_url}` is not the address of Keystone"))
            .hint("it is like https://cloud.example:5000/v3 (OS_AUTH_URL, or `auth_url` in clouds.yaml)")
    })
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
}

fn find_endpoint(
    catalog: &[ServiceEndpoints],
    service: Service,
    region: Option<&str>,
    interface: &str,
) -> Result<String> {
    let error = |message: String| Error::new(Kind::Cloud, message);
    let (name, kind) = (service.title(), service.kind());
    let all: Vec<_> =
        catalog.iter().filter(|entry| entry.service_type == kind).flat_map(|entry| &entry.endpoints).collect();
    if all.is_empty() {
        let with_endpoints = catalog.iter().filter(|entry| !entry.endpoints.is_empty());
        let there: BTreeSet<_> = with_endpoints.map(|entry| entry.service_type.as_str()).collect();
        let there =
            if there.is_empty() { "nothing".to_owned() } else { there.into_iter().collect::<Vec<_>>().join(", ") };
        return Err(error(format!("the cloud's catalogue has no {name} (service type `{kind}`)"))
            .hint(format!("it has {there}; an address can be named by OS_IMAGE_ENDPOINT_OVERRIDE")));
    }
    let here: Vec<_> = all.iter().filter(|one| region.is_none() || one.region.as_deref() == region).collect();
    if here.is_empty() {
        let regions: BTreeSet<_> = all.iter().filter_map(|one| one.region.as_deref()).collect();
        let regions = regions.into_iter().collect::<Vec<_>>().join(", ");
        return Err(error(format!("{name} is not in the region `{}`", region.unwrap_or_default()))
            .hint(format!("it is in {regions} (OS_REGION_NAME, --os-region-name)")));
    }
    here.iter().find(|one| one.interface == interface).map(|one| one.url.clone()).ok_or_else(|| {
        let there: BTreeSet<_> = here.iter().map(|one| one.interface.as_str()).collect();
        error(format!("{name} has no interface `{interface}`"))
            .hint(format!("it has {} (OS_INTERFACE, --os-interface)", there.into_iter().collect::<Vec<_>>().join(", ")))
    })
}
