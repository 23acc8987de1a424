//! `visabuild doctor`.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::args::DoctorArgs;
use super::{Environment, cache_folder, print, project};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::machine;
use crate::preflight::accelerator::Request;
use crate::preflight::certificates::{self, Certificates};
use crate::preflight::doctor::{self, Mirror, Options};
use crate::preflight::pip::Index;
use crate::preflight::reach::Proxy;
use crate::preflight::resources::Need;
use crate::preflight::{check, pip};
use crate::source::apt::{Acquire, Mirrors};
use crate::source::keyring;
use crate::template::Machine;

/// Room that a build of the shipped templates takes in the cache, bytes. Measured: 3.4 GiB of base
/// and layers; the bootstrap's scratch and an overlay that is being sealed come on top.
const CACHE_ROOM: u64 = 7 << 30;

/// Room that the results take, bytes. Measured: 1.7 GiB, and the largest successor beside its
/// predecessor.
const OUTPUT_ROOM: u64 = 3 << 30;

/// The suite that is examined where no project says one.
const SUITE: &str = "trixie";

/// Examines the host; exits 3 where a build cannot succeed.
pub(super) async fn run(args: DoctorArgs, environment: &Environment) -> Result<()> {
    let text = |value: Option<&String>| value.filter(|text| !text.is_empty()).cloned();
    let proxy = Proxy { url: text(args.http_proxy.as_ref()), no_proxy: text(args.no_proxy.as_ref()) };
    let mirrors = project::mirrors(args.mirror.as_deref());
    let certificates = certificates::collect(&certificates::HOST_FOLDERS, &[])?;
    let pip_index = pip::host_index(environment);
    let keyring = keyring(&mirrors, SUITE).await;
    let options = options(Facts {
        environment,
        engine: args.engine.unwrap_or_default(),
        other_engines: true,
        installer: false,
        accelerator: Request::Auto,
        cache: &cache_folder(environment)?,
        output: &args.output,
        proxy: &proxy,
        mirrors: &mirrors,
        suites: vec![SUITE.to_owned()],
        pip_index: pip_index.as_ref(),
        certificates: &certificates,
        memory: machine::size_to_host(None, None).1,
        machines: Vec::new(),
        keyring: Some(keyring),
    });
    let findings = doctor::examine(&options).await?;
    if args.json {
        print(&format!("{:#}\n", doctor::json(&findings)));
    } else {
        print(&doctor::table(&findings));
    }
    check(&findings)
}

/// What the examination needs to know.
pub(super) struct Facts<'a> {
    pub environment: &'a Environment,
    pub engine: Engine,
    pub other_engines: bool,
    /// An installer runs in QEMU, whatever the engine.
    pub installer: bool,
    pub accelerator: Request,
    pub cache: &'a Path,
    pub output: &'a Path,
    pub proxy: &'a Proxy,
    pub mirrors: &'a Result<Mirrors>,
    pub suites: Vec<String>,
    pub pip_index: Option<&'a Index>,
    pub certificates: &'a Certificates,
    /// Memory of the build's guest, MiB.
    pub memory: u64,
    /// The machines of the templates that are built.
    pub machines: Vec<Machine>,
    /// What the archives are verified with, or why there is nothing.
    pub keyring: Option<std::result::Result<String, String>>,
}

/// The examination's options out of facts about this run.
pub(super) fn options(facts: Facts<'_>) -> Options {
    let variable = |name: &str| facts.environment.get(name).cloned().unwrap_or_default();
    let room = |name: &str, path: &Path, bytes| Need { name: name.to_owned(), path: path.to_owned(), bytes };
    let uri = facts.mirrors.as_ref().map(|mirrors| mirrors.main.url().to_owned()).unwrap_or_default();
    let mirror = |suite: &String| Mirror { uri: uri.clone(), suite: suite.clone() };
    let mirrors = if uri.is_empty() { Vec::new() } else { facts.suites.iter().map(mirror).collect() };
    Options {
        search_path: variable("PATH").into(),
        uid: rustix::process::getuid().as_raw(),
        login: variable("USER"),
        engine: facts.engine,
        other_engines: facts.other_engines,
        installer: facts.installer,
        accelerator: facts.accelerator,
        disk: vec![room("cache", facts.cache, CACHE_ROOM), room("output", facts.output, OUTPUT_ROOM)],
        memory: facts.memory,
        cache: facts.cache.to_owned(),
        proxy: facts.proxy.clone(),
        mirrors,
        keyring: facts.keyring,
        alternatives: Vec::new(),
        pip_index: facts.pip_index.map(Index::public_url),
        certificates: facts.certificates.clone(),
        machines: facts.machines,
        agent: super::project::agent(facts.environment),
    }
}

/// Finds the keyring that verifies `suite`, as a build does.
async fn keyring(mirrors: &Result<Mirrors>, suite: &str) -> std::result::Result<String, String> {
    let told = |error: &Error| error.chain().join(": ");
    let mirrors = mirrors.as_ref().map_err(told)?;
    let cancel = CancellationToken::new();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let acquire = Acquire::of_host(&cancel).await.map_err(|error| told(&error))?;
    let found = keyring::find(suite, mirrors, &acquire, None, folder.path(), &cancel).await;
    found.map(|keyring| format!("{suite} is verified with {}", keyring.origin)).map_err(|error| told(&error))
}
