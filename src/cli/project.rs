//! From options and environment to a plan: everything that is resolved and checked before anything
//! slow begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::args::ProjectArgs;
use super::steps::leave_out;
use super::{Environment, base_disk, cache_folder, packages};
use crate::answers::password;
use crate::cache::Secrets;
use crate::credentials;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{SEAL_SCRIPT, SESSION_SCRIPT};
use crate::package_cache::Choices;
use crate::pam_key::{self, PamKey};
use crate::plan::{OwnScripts, Plan};
use crate::preflight::certificates::{self, Certificates};
use crate::preflight::reach::{Choice, Prober, Proxy};
use crate::preflight::{accelerator, npm, pip};
use crate::source::apt::{self, Mirrors};
use crate::source::{boot_loader, bootstrap};
use crate::template::{self, Alternatives, BaseBuilder, Builder, ChosenAlternative, Inputs, Project, Template, Value};

/// Variables of the environment that are secrets: templates do not see them.
pub(super) const SECRET_VARIABLES: [&str; 4] =
    ["VISA_ROOT_PASSWORD", "OS_PASSWORD", "OS_TOKEN", "OS_APPLICATION_CREDENTIAL_SECRET"];

/// A resolved project with what it was resolved from.
#[derive(Debug)]
pub(super) struct Prepared {
    pub plan: Plan,
    /// The same with bootstrapped base disks, where `plan` has installers that are only preferred.
    pub instead: Option<Plan>,
    /// How base disks are made, and why, for the output and the manifest.
    pub base: String,
    /// What `config.yml` says boots the guests.
    pub engine: Option<Engine>,
    /// The project's folder.
    pub root: PathBuf,
    /// The platform's key, where one was given.
    pub key: Option<PamKey>,
    pub secrets: Secrets,
    /// Names of secrets that templates may use and that are not given.
    pub missing: BTreeSet<String>,
    /// Root's password, where one was given.
    pub root_password: Option<SecretString>,
    /// Texts that must never be shown; root's password first.
    pub hidden: Vec<SecretString>,
    pub proxy: Proxy,
    pub mirrors: Result<Mirrors>,
    pub pip_index: Option<pip::Index>,
    pub npm_registry: Option<pip::Index>,
    pub certificates: Certificates,
    /// Socket of the user's SSH agent.
    pub agent: Option<PathBuf>,
}

impl Prepared {
    /// Resolves and checks everything. `lenient`: secrets need not be given (`validate`, `plan`).
    pub(super) async fn new(
        args: &ProjectArgs,
        environment: &Environment,
        lenient: bool,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let proxy = Proxy { url: given(args.http_proxy.as_ref()), no_proxy: given(args.no_proxy.as_ref()) };
        let certificates = certificates::collect(&certificates::HOST_FOLDERS, &args.ca_cert);
        let mirrors = mirrors(args.mirror.as_deref());
        let password = root_password(args);
        let key = args.pam_public.as_deref().map(|path| pam_key::read(path, args.accept_key_size)).transpose();
        let project = template::load(&args.directory);

        let mut failures = Failures::default();
        let certificates = failures.take(certificates).unwrap_or_default();
        let password = failures.take(password).flatten();
        let key = failures.take(key).flatten();
        let project = failures.take(project);
        let detection = accelerator::detect();
        let mut inputs = inputs(args, environment, &proxy, &mirrors, password.as_ref(), lenient);
        inputs.now = failures.take(now(environment)).unwrap_or_default();
        inputs.base = base_disk::wanted(args, &detection);
        let resolved = match &project {
            Some(project) => {
                let remembered = args.offline.then(|| Remembered::of(args, environment)).flatten();
                let ways =
                    Ways { mirrors: mirrors.as_ref().ok(), proxy: &proxy, certificates: &certificates, remembered };
                failures.take(resolve(project, args, inputs, &ways, cancel).await)
            }
            None => None,
        };
        failures.end()?;
        let resolved = resolved.ok_or_else(|| Error::usage("the project cannot be resolved"))?;
        let engine = project.as_ref().and_then(Project::engine);
        let (mut resolved, mut instead) = resolved;
        for resolved in std::iter::once(&mut resolved).chain(&mut instead) {
            resolved.templates.iter_mut().for_each(|template| leave_out(template, &args.skipped));
        }
        let plan = Plan::new(&resolved, own_scripts(), args.lock_root)?;
        let instead = instead.map(|instead| Plan::new(&instead, own_scripts(), args.lock_root)).transpose()?;
        let pip_index = pip::host_index(environment);
        let npm_registry = npm::host_registry(environment);
        let indexes = pip_index.iter().chain(&npm_registry);
        let hidden = hidden(password.as_ref(), &proxy, mirrors.as_ref().ok(), indexes);
        let root_password = password.clone();
        let missing = not_given(args, password.is_some());
        let secrets = secrets(password, args.pam_public.as_deref())?;
        Ok(Self {
            base: base_disk::reason(&plan, args, &detection),
            plan,
            instead,
            engine,
            root: resolved.root,
            key,
            secrets,
            missing,
            root_password,
            hidden,
            proxy,
            mirrors,
            pip_index,
            npm_registry,
            certificates,
            agent: agent(environment),
        })
    }

    /// Takes the plan that has no installers, for this reason.
    pub(super) fn bootstrap_instead(&mut self, why: &str) {
        if let Some(instead) = self.instead.take() {
            self.plan = instead;
            self.base = format!("bootstrap: {why}");
        }
    }

    /// Facts of the host that stand beside a plan and are not part of its fingerprints.
    pub(super) fn host_facts(&self) -> Json {
        json!({
            "mirror": self.mirrors.as_ref().ok().map(|mirrors| mirrors.main.url().to_owned()),
            "certificates": self.certificates.certificates.iter().map(|one| one.name.clone()).collect::<Vec<_>>(),
            "pip_index": self.pip_index.as_ref().map(pip::Index::public_url),
        })
    }
}

/// The time that a build goes by, seconds since 1970: `SOURCE_DATE_EPOCH` (reproducible-builds.org) where it is set.
pub(super) fn now(environment: &Environment) -> Result<u64> {
    /// The end of the year 9999, the last that dates are written for.
    const LAST: u64 = 253_402_300_799;
    let Some(text) = given(environment.get("SOURCE_DATE_EPOCH")) else {
        return Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    };
    text.trim().parse().ok().filter(|seconds| *seconds <= LAST).ok_or_else(|| {
        Error::usage(format!("SOURCE_DATE_EPOCH is `{text}`, not a number of seconds since 1970"))
            .hint("unset it to go by the clock")
    })
}

/// Names of the secrets that are not given, where they are not left out on purpose.
fn not_given(args: &ProjectArgs, password: bool) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    if !password && !args.lock_root {
        missing.extend(["root_password".to_owned(), password::HASH_VARIABLE.to_owned()]);
    }
    if args.pam_public.is_none() {
        missing.insert("pam_public_key".to_owned());
    }
    missing
}

/// The scripts of visabuild that are part of the fingerprints.
pub(super) fn own_scripts() -> OwnScripts {
    OwnScripts {
        configure: bootstrap::CONFIGURE_SCRIPT,
        boot_loader: boot_loader::SCRIPTS,
        session: SESSION_SCRIPT,
        seal: SEAL_SCRIPT,
    }
}

/// Collects the problems of several checks, to report them together.
#[derive(Default)]
pub(super) struct Failures(Vec<Error>);

impl Failures {
    /// What `result` has, if it is good.
    pub(super) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// # Errors
    /// All that was not good.
    pub(super) fn end(self) -> Result<()> {
        Error::several(self.0).map_or(Ok(()), Err)
    }
}

/// An option that was given and is not empty: `VISA_HTTP_PROXY=` means none.
pub(super) fn given(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).cloned()
}

/// Socket of the user's SSH agent (ssh-agent(1)).
pub(super) fn agent(environment: &Environment) -> Option<PathBuf> {
    given(environment.get("SSH_AUTH_SOCK")).map(PathBuf::from)
}

/// The mirrors of `--mirror`, else of the host's APT configuration.
pub(super) fn mirrors(named: Option<&str>) -> Result<Mirrors> {
    let sources = apt::read_sources(Path::new("/etc/apt"))?;
    match named.filter(|url| !url.is_empty()) {
        Some(url) => Mirrors::with_main(url, &sources),
        None => Mirrors::from_sources(&sources),
    }
}

/// Root's password as it was given.
pub(super) fn root_password(args: &ProjectArgs) -> Result<Option<SecretString>> {
    password(args.root_password.as_ref(), args.root_password_file.as_deref())
}

/// Root's password from the option, the environment, or the first line of a file.
pub(super) fn password(given: Option<&SecretString>, file: Option<&Path>) -> Result<Option<SecretString>> {
    let password = match file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .context(Kind::Usage, || format!("reading the root password from {}", path.display()))?;
            Some(SecretString::from(text.lines().next().unwrap_or("").to_owned()))
        }
        None => given.cloned(),
    };
    match password {
        // chpasswd(8) reads one line of `name:password`.
        Some(text) if text.expose_secret().contains(['\n', '\r']) => {
            Err(Error::usage("the root password has more than one line"))
        }
        Some(text) if text.expose_secret().is_empty() && file.is_some() => {
            Err(Error::usage("the root password file is empty")
                .hint("`--lock-root` ships an image without a root password"))
        }
        other => Ok(other.filter(|text| !text.expose_secret().is_empty())),
    }
}

/// What templates see from outside the project.
pub(super) fn inputs(
    args: &ProjectArgs,
    environment: &Environment,
    proxy: &Proxy,
    mirrors: &Result<Mirrors>,
    password: Option<&SecretString>,
    lenient: bool,
) -> Inputs {
    let host = |text: Option<&str>| Value::Host(text.unwrap_or_default().to_owned());
    let mirrors = mirrors.as_ref().ok();
    let security = mirrors.and_then(|mirrors| mirrors.security.as_ref()).map(apt::Mirror::url);
    let main = mirrors.map(|mirrors| mirrors.main.parts());
    let mut values = BTreeMap::from([
        ("proxy".to_owned(), host(proxy.url.as_deref())),
        ("no_proxy".to_owned(), host(proxy.no_proxy.as_deref())),
        ("mirror".to_owned(), host(mirrors.map(|mirrors| mirrors.main.url()))),
        ("mirror_protocol".to_owned(), host(main.as_ref().map(|(protocol, ..)| *protocol))),
        ("mirror_host".to_owned(), host(main.as_ref().map(|(_, host, _)| *host))),
        ("mirror_directory".to_owned(), host(main.as_ref().map(|(.., directory)| *directory))),
        ("security_mirror".to_owned(), host(security)),
        ("headless".to_owned(), host(Some(if args.not_headless { "false" } else { "true" }))),
    ]);
    let password = match password {
        Some(password) => Value::Secret(password.clone()),
        None if args.lock_root => Value::Secret(String::new().into()),
        None => missing("-rp/--root-password PW", "VISA_ROOT_PASSWORD"),
    };
    values.insert(password::HASH_VARIABLE.to_owned(), hashed(&password));
    values.insert("root_password".to_owned(), password);
    let key = match &args.pam_public {
        Some(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Value::Secret(path.to_string_lossy().into_owned().into())
        }
        None => missing("-pp/--pam-public PATH", "VISA_PAM_PUBLIC_KEY"),
    };
    values.insert("pam_public_key".to_owned(), key);
    Inputs { values, environment: seen_by_templates(environment), lenient, ..Inputs::default() }
}

/// The process environment without its secrets.
pub(super) fn seen_by_templates(environment: &Environment) -> BTreeMap<String, String> {
    let seen = environment.iter().filter(|(name, _)| !SECRET_VARIABLES.contains(&name.as_str()));
    seen.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A password as installers take it.
fn hashed(password: &Value) -> Value {
    match password {
        Value::Secret(text) => Value::Hashed(text.clone()),
        other => other.clone(),
    }
}

fn missing(option: &str, variable: &str) -> Value {
    Value::Missing { option: option.to_owned(), variable: variable.to_owned() }
}

async fn resolve(
    project: &Project,
    args: &ProjectArgs,
    mut inputs: Inputs,
    ways: &Ways<'_>,
    cancel: &CancellationToken,
) -> Result<(template::Resolved, Option<template::Resolved>)> {
    let alternatives = project.alternatives(&args.templates, &inputs)?;
    for alternative in alternatives {
        let chosen = tokio::select! {
            chosen = choose(&alternative, ways, args.offline) => chosen?,
            () = cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
        };
        inputs.choices.insert(alternative.variable.clone(), chosen);
    }
    let resolved = template::resolve(project, &args.templates, &inputs)?;
    let is_preferred =
        |template: &Template| template.several_builders && matches!(template.builder, Builder::Installer(_));
    if inputs.base != BaseBuilder::PreferInstaller || !resolved.templates.iter().any(is_preferred) {
        return Ok((resolved, None));
    }
    inputs.base = BaseBuilder::PreferBootstrap;
    let instead = template::resolve(project, &args.templates, &inputs)?;
    Ok((resolved, Some(instead)))
}

/// How alternatives are reached, and which were before.
struct Ways<'a> {
    mirrors: Option<&'a Mirrors>,
    proxy: &'a Proxy,
    certificates: &'a Certificates,
    remembered: Option<Remembered>,
}

/// What earlier builds of a project found.
struct Remembered {
    choices: Choices,
    project: String,
}

impl Remembered {
    fn of(args: &ProjectArgs, environment: &Environment) -> Option<Self> {
        let choices = Choices::below(&cache_folder(environment).ok()?);
        Some(Self { choices, project: packages::project_name(&args.directory) })
    }
}

/// The alternative that was reachable when there was a network, else the first that needs none.
fn choose_offline(alternatives: &Alternatives, remembered: Option<&Remembered>) -> Result<ChosenAlternative> {
    let variable = &alternatives.variable;
    let before = remembered.and_then(|before| before.choices.get(&before.project, variable));
    if let Some(choice) = before.as_deref().and_then(|value| alternatives.choice(value)) {
        return Ok(choice.chosen("reachable before"));
    }
    let needs_none = |choice: &&template::Choice| choice.urls.is_empty() && choice.suite.is_none();
    alternatives.choices.iter().find(needs_none).map(|choice| choice.chosen("needs no network")).ok_or_else(|| {
        Error::host(format!(
            "with `--offline`, nobody can be asked which of the alternatives for `{variable}` is there"
        ))
        .hint(format!("build once without `--offline`, or name one with the variable {variable}"))
    })
}

/// The alternative that the user named, else the first that is reachable.
async fn choose(alternatives: &Alternatives, ways: &Ways<'_>, offline: bool) -> Result<ChosenAlternative> {
    if let Some(choice) = alternatives.named.as_deref().and_then(|name| alternatives.choice(name)) {
        return Ok(choice.chosen("named"));
    }
    if offline {
        return choose_offline(alternatives, ways.remembered.as_ref());
    }
    let asked: Vec<Choice> = alternatives.choices.iter().map(|choice| places(choice, ways.mirrors)).collect();
    let outcomes = Prober::new(ways.proxy, &ways.certificates.certificates)?.first_reachable(&asked).await;
    let reachable = |index: &usize| asked[*index].urls.is_empty() || outcomes[*index].reachable.is_some();
    match (0..asked.len()).find(reachable) {
        Some(index) => Ok(alternatives.choices[index].chosen("reachable")),
        None => Err(nothing_reachable(alternatives, &outcomes)),
    }
}

/// The places of which one must answer for a choice to be reachable.
fn places(choice: &template::Choice, mirrors: Option<&Mirrors>) -> Choice {
    let mut urls: Vec<String> = choice.urls.iter().map(|url| url.plain().to_owned()).collect();
    if let (Some(suite), Some(mirrors)) = (&choice.suite, mirrors) {
        urls.push(format!("{}/dists/{suite}/InRelease", mirrors.main.url()));
    }
    Choice { name: choice.value.clone(), urls }
}

fn nothing_reachable(alternative: &Alternatives, outcomes: &[crate::preflight::reach::Outcome]) -> Error {
    let variable = &alternative.variable;
    let causes: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.failures.iter().map(move |failure| format!("{}: {}", outcome.name, failure.cause)))
        .collect();
    Error::host(format!("none of the alternatives for `{variable}` is reachable"))
        .because(causes.join("\n"))
        .hint(format!("set `-hp/--http-proxy` if there is a proxy, or name one with the variable {variable}"))
}

/// What must never be shown: the password, and credentials in URLs.
fn hidden<'a>(
    password: Option<&SecretString>,
    proxy: &Proxy,
    mirrors: Option<&Mirrors>,
    indexes: impl Iterator<Item = &'a pip::Index>,
) -> Vec<SecretString> {
    let mut hidden: Vec<SecretString> = password.into_iter().cloned().collect();
    let urls = proxy.url.iter().cloned().chain(indexes.map(|index| index.url.expose_secret().to_owned()));
    let mut credentials: Vec<String> = urls.filter_map(|url| credentials::split(&url).1.map(str::to_owned)).collect();
    let mirrors = mirrors.into_iter().flat_map(|mirrors| std::iter::once(&mirrors.main).chain(&mirrors.security));
    credentials.extend(mirrors.filter_map(apt::Mirror::credentials).map(|text| text.expose_secret().to_owned()));
    for pair in credentials {
        if let Some((_, password)) = pair.split_once(':') {
            hidden.push(password.to_owned().into());
        }
        hidden.push(pair.into());
    }
    hidden
}

fn secrets(password: Option<SecretString>, key: Option<&Path>) -> Result<Secrets> {
    let mut secrets = Secrets::default();
    if let Some(password) = password {
        // The hash has a new salt each time; what it is made of counts.
        secrets.insert(password::HASH_VARIABLE, password.clone());
        secrets.insert("root_password", password);
    }
    if let Some(path) = key {
        let text = fs::read(path).context(Kind::Usage, || format!("reading {}", path.display()))?;
        secrets.insert("pam_public_key", String::from_utf8_lossy(&text).into_owned().into());
    }
    Ok(secrets)
}
