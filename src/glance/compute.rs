//! What Nova knows of an image: whether servers run on it, and whether one comes up (Compute API v2.1).

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::cloud::{Call, Cloud, Service};
use super::failure::Failure;
use super::image::{Image, Visibility};
use crate::error::{Error, Kind, Result};
use crate::event::Phase;

type Answered<T> = std::result::Result<T, Failure>;

/// Whether anything runs on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    /// No server does.
    Free,
    /// Servers do, or nobody can say that none does; as a clause.
    InUse(String),
}

/// How the image is tried.
#[derive(Debug, Clone)]
pub struct BootTest {
    /// Flavour, by name or id; the smallest that fits if none.
    pub flavor: Option<String>,
    /// Network's id; Nova's own choice if none.
    pub network: Option<String>,
    /// How long the server may take.
    pub patience: Duration,
}

#[derive(Deserialize)]
struct Servers {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    fault: Option<Json>,
}

#[derive(Deserialize)]
struct Flavor {
    id: String,
    name: String,
    ram: u64,
    disk: u64,
    vcpus: u64,
}

/// Microversion that lets Nova choose the network (2.37), which also says whether there is one.
const AUTO_NETWORK: &str = "2.37";

/// What a server's console shows once its system is up.
const SIGNS: [&str; 2] = ["login:", "Cloud-init v."];

/// Name of the server that proves that the image boots; the next run finds it by this.
pub(super) fn server_name(image: &str) -> String {
    format!("visabuild-boot-test-{image}")
}

impl Cloud {
    /// Whether servers run on the image, as far as this user may know.
    pub(super) async fn image_use(&self, image: &Image) -> Use {
        if !self.has(Service::Compute) {
            return Use::InUse("the cloud's catalogue has no Nova to ask, so servers may run on it".to_owned());
        }
        let everywhere = self.servers(&[("image", &image.id), ("all_tenants", "1")]).await;
        let (servers, whole) = match everywhere {
            Err(failure) if matches!(failure.status(), Some(StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST)) => {
                (self.servers(&[("image", &image.id)]).await, image.visibility == Visibility::Private)
            }
            other => (other, true),
        };
        match servers {
            Err(failure) => {
                Use::InUse(format!("Nova did not say: {}", failure.explain("asking Nova").chain().join(": ")))
            }
            Ok(servers) if !servers.is_empty() => Use::InUse(match servers.len() {
                1 => format!("the server `{}` runs on it", servers[0].name),
                count => format!("{count} servers run on it"),
            }),
            Ok(_) if !whole => {
                Use::InUse("other projects may run servers on it, and only an administrator sees them".to_owned())
            }
            Ok(_) => Use::Free,
        }
    }

    async fn servers(&self, filters: &[(&str, &str)]) -> Answered<Vec<Server>> {
        let mut call = Call::get(Service::Compute, "servers/detail");
        for (name, value) in filters {
            call = call.query(name, *value);
        }
        self.call(call).await?.json().map(|list: Servers| list.servers)
    }

    /// Takes away the server that a run which is gone has left.
    pub(super) async fn remove_test_server(&self, image: &str) -> Answered<()> {
        if !self.has(Service::Compute) {
            return Ok(());
        }
        let name = server_name(image);
        for server in self.servers(&[("name", &name)]).await? {
            // Nova's filter is a regular expression.
            if server.name == name {
                self.delete_server(&server.id).await?;
            }
        }
        Ok(())
    }

    async fn delete_server(&self, id: &str) -> Answered<()> {
        match self.call(Call::new(Service::Compute, Method::DELETE, format!("servers/{id}"))).await {
            Err(failure) if !failure.is_missing() => Err(failure),
            _ => Ok(()),
        }
    }

    /// Makes a server of the image, waits until it is up, and takes it away again.
    ///
    /// # Errors
    /// There is no Nova or no flavour that fits, or the server does not come up (kind verification).
    pub(super) async fn boot_test(
        &self,
        image: &Image,
        test: &BootTest,
        needs: (u64, u64),
        phase: &Phase,
    ) -> Result<()> {
        if !self.has(Service::Compute) {
            return Err(Error::new(Kind::Cloud, "the cloud's catalogue has no Nova, which --boot-test needs"));
        }
        let explain = |failure: Failure| failure.explain("trying the image on a server");
        let flavor = self.flavor(test.flavor.as_deref(), needs).await.map_err(explain)?;
        let flavor = flavor.ok_or_else(|| {
            let what = test.flavor.as_deref().map_or_else(
                || format!("with {} GiB of disk and {} MiB of memory", needs.0, needs.1),
                |name| format!("`{name}`"),
            );
            Error::new(Kind::Cloud, format!("there is no flavour {what}")).hint("name one with --boot-flavor")
        })?;
        let networks = match &test.network {
            Some(id) => json!([{"uuid": id}]),
            None => json!("auto"),
        };
        let body = json!({"server": {
            "name": server_name(&image.id), "imageRef": image.id, "flavorRef": flavor.id, "networks": networks,
            "metadata": {"visabuild_boot_test": image.id},
        }});
        let call = Call::new(Service::Compute, Method::POST, "servers")
            .header("x-openstack-nova-api-version", HeaderValue::from_static(AUTO_NETWORK));
        let made: Json = self.call(call.json(&body)).await.and_then(|answer| answer.json()).map_err(explain)?;
        let id = made["server"]["id"].as_str().unwrap_or_default().to_owned();
        phase.events().debug(Some(phase.template()), format!("server {id} of flavour {} is made", flavor.name));
        let result = self.comes_up(&id, test.patience, phase).await;
        let removed = self.delete_server(&id).await;
        result?;
        removed.map_err(|failure| failure.explain(&format!("deleting the server {id}")))
    }

    async fn flavor(&self, named: Option<&str>, (disk, memory): (u64, u64)) -> Answered<Option<Flavor>> {
        #[derive(Deserialize)]
        struct Flavors {
            flavors: Vec<Flavor>,
        }
        let list: Flavors = self.call(Call::get(Service::Compute, "flavors/detail")).await?.json()?;
        let fits = |flavor: &Flavor| match named {
            Some(name) => flavor.name == name || flavor.id == name,
            None => flavor.disk >= disk && flavor.ram >= memory.max(1024),
        };
        Ok(list.flavors.into_iter().filter(fits).min_by_key(|flavor| (flavor.ram, flavor.disk, flavor.vcpus)))
    }

    /// Waits for the server to run, and for its console to show a system where the console can be read.
    async fn comes_up(&self, id: &str, patience: Duration, phase: &Phase) -> Result<()> {
        let explain = |failure: Failure| failure.explain("watching the server");
        let failed = |message: String| Err(Error::new(Kind::Verification, message));
        let started = Instant::now();
        let mut runs = false;
        loop {
            if !runs {
                let answer = self.call(Call::get(Service::Compute, format!("servers/{id}"))).await.map_err(explain)?;
                #[derive(Deserialize)]
                struct One {
                    server: Server,
                }
                let One { server } = answer.json().map_err(explain)?;
                if server.status == "ERROR" {
                    let reason =
                        server.fault.as_ref().and_then(|fault| fault["message"].as_str()).unwrap_or("no reason given");
                    return failed(format!("Nova cannot run a server on the image: {reason}"));
                }
                runs = server.status == "ACTIVE";
            }
            if runs {
                match self.console(id).await {
                    Some(text) if SIGNS.iter().any(|sign| text.contains(sign)) => return Ok(()),
                    Some(_) => {}
                    None => {
                        phase.events().info(
                            Some(phase.template()),
                            "the server is active; its console cannot be read, so nothing more was looked at",
                        );
                        return Ok(());
                    }
                }
            }
            if started.elapsed() > patience {
                let what = if runs { "shows no login on its console" } else { "is not active" };
                return failed(format!("the server {what} after {} s", patience.as_secs()));
            }
            self.sleep(Duration::from_secs(2)).await.map_err(explain)?;
        }
    }

    /// What the server's console shows; none where it cannot be read.
    async fn console(&self, id: &str) -> Option<String> {
        let call = Call::new(Service::Compute, Method::POST, format!("servers/{id}/action"));
        let answer: Json = self.call(call.json(&json!({"os-getConsoleOutput": {}}))).await.ok()?.json().ok()?;
        answer["output"].as_str().map(str::to_owned)
    }
}
