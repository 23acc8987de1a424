//! A stand-in for Nova: as much of the compute API as a client needs that starts a server from an image and looks
//! whether an image is in use. It runs nothing: what becomes of a server is what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::Client;
use serde_json::{Value, json};

use super::fault_proxy::FaultProxy;
use super::server::{Answer, Received, Server};

/// The newest microversion that it claims.
const MICROVERSION: &str = "2.96";
/// From here on a server carries its flavor, not the flavor's id.
const WITH_FLAVOR: u32 = 47;

/// What becomes of a server that is created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is active when it is asked for the second time.
    #[default]
    Active,
    /// It is in error, with this message, when it is asked for the second time.
    Error(String),
    /// It is built for ever.
    Build,
}

/// The stand-in and the proxy through which clients reach it.
#[derive(Debug)]
pub struct Nova {
    /// What clients take for Nova.
    pub proxy: FaultProxy,
    state: Arc<Mutex<State>>,
    server: Server,
}

#[derive(Debug, Default)]
struct State {
    servers: Vec<Machine>,
    fate: Fate,
    created: usize,
}

#[derive(Clone, Debug)]
struct Machine {
    id: String,
    name: String,
    project: String,
    user: String,
    image: Option<String>,
    request: Value,
    fate: Fate,
    looked_at: usize,
    console: String,
}

impl Nova {
    /// Starts it. It asks the Keystone at `keystone` about tokens.
    pub(super) fn start(keystone: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let http = Client::builder().no_proxy().build().unwrap();
        let server = Server::start({
            let state = Arc::clone(&state);
            move |request| {
                let (state, http) = (Arc::clone(&state), http.clone());
                async move { answer(&request, &state, &http, keystone).await }
            }
        });
        Self { proxy: FaultProxy::start(server.address(), tls), state, server }
    }

    /// The endpoint in the catalogue.
    pub(super) fn endpoint(&self) -> String {
        format!("{}/v2.1", self.proxy.url())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of servers that are created from now on.
    pub fn servers_become(&self, fate: Fate) {
        self.state().fate = fate;
    }

    /// An active server that somebody else started from an image; returns its id.
    pub fn add_server(&self, name: &str, project_id: &str, image: &str) -> String {
        let request = json!({"name": name, "imageRef": image, "flavorRef": "1"});
        let mut state = self.state();
        let fate = std::mem::take(&mut state.fate);
        let id = state.create(&request, project_id, "somebody-else").id.clone();
        state.fate = fate;
        state.servers.last_mut().unwrap().looked_at = 1;
        id
    }

    /// What a server's console has printed.
    pub fn set_console(&self, id: &str, text: &str) {
        self.state().servers.iter_mut().find(|machine| machine.id == id).unwrap().console = text.to_owned();
    }

    /// The servers that there are, as they were asked for, with their ids.
    pub fn servers(&self) -> Vec<Value> {
        let with_id = |machine: &Machine| {
            let mut request = machine.request.clone();
            request["id"] = json!(machine.id);
            request
        };
        self.state().servers.iter().map(with_id).collect()
    }

    /// How many servers were created, with those that were deleted.
    pub fn created(&self) -> usize {
        self.state().created
    }
}

impl State {
    fn create(&mut self, request: &Value, project: &str, user: &str) -> &Machine {
        self.created += 1;
        let image = request["imageRef"].as_str().or(request["block_device_mapping_v2"][0]["uuid"].as_str());
        self.servers.push(Machine {
            id: uuid::Uuid::new_v4().to_string(),
            name: request["name"].as_str().unwrap_or_default().to_owned(),
            project: project.to_owned(),
            user: user.to_owned(),
            image: image.filter(|image| !image.is_empty()).map(str::to_owned),
            request: request.clone(),
            fate: self.fate.clone(),
            looked_at: 0,
            console: String::new(),
        });
        self.servers.last().unwrap()
    }
}

impl Machine {
    /// The machine as the API shows it.
    fn shown(&self, base: &str, with_flavor: bool) -> Value {
        let status = match &self.fate {
            Fate::Active if self.looked_at > 0 => "ACTIVE",
            Fate::Error(_) if self.looked_at > 0 => "ERROR",
            _ => "BUILD",
        };
        let flavor = if with_flavor { flavor_of_server() } else { json!({"id": "1"}) };
        let mut shown = json!({
            "id": self.id, "name": self.name, "status": status, "tenant_id": self.project, "user_id": self.user,
            "image": self.image.as_ref().map_or(json!(""), |image| json!({"id": image})), "flavor": flavor,
            "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z", "hostId": "", "key_name": null,
            "addresses": {}, "metadata": {}, "progress": 0, "accessIPv4": "", "accessIPv6": "", "config_drive": "",
            "OS-EXT-STS:vm_state": if status == "BUILD" { "building".to_owned() } else { status.to_lowercase() },
            "OS-EXT-STS:task_state": if status == "BUILD" { json!("spawning") } else { Value::Null },
            "OS-EXT-STS:power_state": u8::from(status == "ACTIVE"), "OS-EXT-AZ:availability_zone": "nova",
            "OS-DCF:diskConfig": "MANUAL", "os-extended-volumes:volumes_attached": [],
            "links": [{"rel": "self", "href": format!("{base}/v2.1/servers/{}", self.id)}],
        });
        if let (Fate::Error(message), "ERROR") = (&self.fate, status) {
            shown["fault"] = json!({"code": 500, "message": message, "created": "2026-01-01T00:00:00Z"});
        }
        shown
    }
}

fn flavor_of_server() -> Value {
    json!({"vcpus": 2, "ram": 4096, "disk": 40, "ephemeral": 0, "swap": 0, "original_name": "stub.small",
           "extra_specs": {}})
}

fn flavor(base: &str) -> Value {
    json!({"id": "1", "name": "stub.small", "vcpus": 2, "ram": 4096, "disk": 40, "swap": "", "rxtx_factor": 1.0,
           "OS-FLV-EXT-DATA:ephemeral": 0, "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true,
           "description": null, "extra_specs": {}, "links": [{"rel": "self", "href": format!("{base}/v2.1/flavors/1")}]})
}

fn limits() -> Value {
    json!({"limits": {"rate": [], "absolute": {
        "maxTotalInstances": 10, "totalInstancesUsed": 0, "maxTotalCores": 20, "totalCoresUsed": 0,
        "maxTotalRAMSize": 51200, "totalRAMUsed": 0, "maxTotalKeypairs": 100, "maxServerMeta": 128,
        "maxImageMeta": 128, "maxServerGroups": 10, "maxServerGroupMembers": 10, "totalServerGroupsUsed": 0,
        "maxPersonality": 5, "maxPersonalitySize": 10240, "maxTotalFloatingIps": -1, "totalFloatingIpsUsed": 0,
        "maxSecurityGroups": -1, "maxSecurityGroupRules": -1, "totalSecurityGroupsUsed": 0}}})
}

/// Who asks, as Keystone has it.
struct Caller {
    project: String,
    user: String,
    admin: bool,
}

impl Caller {
    async fn of(request: &Received, http: &Client, keystone: SocketAddr) -> Option<Self> {
        let token = request.header("x-auth-token")?;
        let asked = http.get(format!("http://{keystone}/v3/auth/tokens"));
        let answer = asked.header("x-auth-token", token).header("x-subject-token", token).send().await.ok()?;
        let token: Value = serde_json::from_slice(&answer.error_for_status().ok()?.bytes().await.ok()?).ok()?;
        let token = &token["token"];
        let admin = token["roles"].as_array()?.iter().any(|role| role["name"] == "admin");
        let text = |value: &Value| value["id"].as_str().map(str::to_owned);
        Some(Self { project: text(&token["project"])?, user: text(&token["user"])?, admin })
    }

    fn sees(&self, machine: &Machine, all_projects: bool) -> bool {
        machine.project == self.project || (self.admin && all_projects)
    }
}

fn problem(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({kind: {"code": status, "message": message}}))
}

async fn answer(request: &Received, state: &Mutex<State>, http: &Client, keystone: SocketAddr) -> Answer {
    let scheme = request.header("x-forwarded-proto").unwrap_or("http");
    let base = format!("{scheme}://{}", request.header("host").unwrap_or_default());
    let path: Vec<_> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    let mut answer = match path.as_slice() {
        [] => Answer::json(200, &json!({"versions": [version(&base)]})),
        ["v2.1"] => Answer::json(200, &json!({"version": version(&base)})),
        ["v2.1", rest @ ..] => match Caller::of(request, http, keystone).await {
            Some(caller) => resource(request, rest, &caller, &mut state.lock().unwrap(), &base),
            None => problem(401, "unauthorized", "The request you have made requires authentication."),
        },
        _ => problem(404, "itemNotFound", "The resource could not be found."),
    };
    let microversion = request.header("openstack-api-version").unwrap_or("compute 2.1").to_owned();
    answer.headers.push(("OpenStack-API-Version".to_owned(), microversion));
    answer
}

fn version(base: &str) -> Value {
    json!({"id": "v2.1", "status": "CURRENT", "version": MICROVERSION, "min_version": "2.1",
           "updated": "2013-07-23T11:33:21Z", "media-types": [],
           "links": [{"rel": "self", "href": format!("{base}/v2.1/")}]})
}

fn resource(request: &Received, path: &[&str], caller: &Caller, state: &mut State, base: &str) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", ["servers"] | ["servers", "detail"]) => list(request, caller, state, base),
        ("POST", ["servers"]) => {
            let server = &request.json()["server"];
            if server["flavorRef"].as_str() != Some("1") {
                return problem(400, "badRequest", "Flavor could not be found.");
            }
            let machine = state.create(server, &caller.project, &caller.user);
            let created = json!({"server": {"id": machine.id, "adminPass": "unused", "security_groups": [],
                "OS-DCF:diskConfig": "MANUAL", "links": machine.shown(base, false)["links"]}});
            Answer::json(202, &created)
        }
        (_, ["servers", id, ..]) => {
            let found = state.servers.iter().position(|machine| machine.id == *id && caller.sees(machine, true));
            match found {
                Some(found) => one_server(request, &path[2..], state, found, base),
                None => problem(404, "itemNotFound", &format!("Instance {id} could not be found.")),
            }
        }
        ("GET", ["flavors"] | ["flavors", "detail"]) => Answer::json(200, &json!({"flavors": [flavor(base)]})),
        ("GET", ["flavors", "1"]) => Answer::json(200, &json!({"flavor": flavor(base)})),
        ("GET", ["limits"]) => Answer::json(200, &limits()),
        _ => problem(404, "itemNotFound", "The resource could not be found."),
    }
}

fn list(request: &Received, caller: &Caller, state: &State, base: &str) -> Answer {
    let all_projects = request.query("all_tenants").is_some_and(|value| !["0", "False", "false"].contains(&value));
    if all_projects && !caller.admin {
        return problem(403, "forbidden", "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants");
    }
    let wanted = |machine: &&Machine| {
        let of_image = request.query("image").is_none_or(|image| machine.image.as_deref() == Some(image));
        let of_name = request.query("name").is_none_or(|name| machine.name.contains(name));
        caller.sees(machine, all_projects) && of_image && of_name
    };
    let servers = state.servers.iter().filter(wanted).map(|machine| machine.shown(base, with_flavor(request)));
    Answer::json(200, &json!({"servers": servers.collect::<Vec<_>>()}))
}

fn with_flavor(request: &Received) -> bool {
    let minor = request.header("openstack-api-version").and_then(|version| version.rsplit_once('.')?.1.parse().ok());
    minor.is_some_and(|minor: u32| minor >= WITH_FLAVOR)
}

fn one_server(request: &Received, rest: &[&str], state: &mut State, found: usize, base: &str) -> Answer {
    let machine = &mut state.servers[found];
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let shown = machine.shown(base, with_flavor(request));
            machine.looked_at += 1;
            Answer::json(200, &json!({"server": shown}))
        }
        ("DELETE", []) => {
            state.servers.remove(found);
            Answer { status: 204, headers: Vec::new(), body: Vec::new() }
        }
        ("POST", ["action"]) if !request.json()["os-getConsoleOutput"].is_null() => {
            Answer::json(200, &json!({"output": machine.console}))
        }
        _ => problem(400, "badRequest", "There is no such action"),
    }
}
