//! `visabuild build`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::args::{AcceleratorChoice, BuildArgs, OnError};
use super::ask::{self, Asker, Decision};
use super::build_upload::Upload;
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, cache_folder, guest, packages, print, steps, watch};
use crate::cache::{Abandoned, Cache, WorkFolder, lock_file, try_lock};
use crate::download::{Downloader, Policy};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Events, Level, Redactor, Subscriber};
use crate::image::Compression;
use crate::image::manifest::HostFacts;
use crate::live::Live;
use crate::machine::{self, Accelerator, Display};
use crate::pipeline::{self, Artifact, BuiltKeys, CheckpointPolicy, Results, Settings, Sizes, Target, Verifier};
use crate::plan::{Plan, Stage};
use crate::post_process::{self, Made};
use crate::preflight::accelerator::{self, Request};
use crate::preflight::distribution::Distribution;
use crate::preflight::{self, Finding, State};
use crate::process::Run;
use crate::report::{TemplateLogs, size};
use crate::source::apt::{Acquire, Mirrors};
use crate::source::bootstrap;
use crate::source::keyring::Pinned;
use crate::template::paths::resolved;
use crate::verify::disk::scan::Secret;
use crate::verify::{self, contract::Contract};

/// What a container and the programs of a build in it may need, MiB.
const CONTAINER_MEMORY: u64 = 1024;

/// Builds the selected templates and those they extend.
pub(super) async fn run(mut args: BuildArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    args.project.emulate = args.accel == AcceleratorChoice::Tcg;
    let asker = (args.on_error == OnError::Ask).then(Asker::new).transpose()?;
    let mut live = watch::begin(args.watch).await?;
    let result = loop {
        let result = build(&args, asker.as_ref(), &mut live, environment, signals).await;
        match asker.as_ref().and_then(|asker| asker.take()) {
            Some(decision) if result.is_err() && signals.received().is_none() => {
                if let Decision::Skip(mut skipped) = decision {
                    let step = &mut skipped.step;
                    step.step = steps::original(&args.project.skipped, &step.template, step.step);
                    args.project.skipped.push(skipped);
                }
            }
            _ => break result,
        }
    };
    watch::end(live, &result, signals).await;
    result
}

async fn build(
    args: &BuildArgs,
    asker: Option<&Arc<Asker>>,
    live: &mut Option<Live>,
    environment: &Environment,
    signals: &Signals,
) -> Result<()> {
    packages::check(args)?;
    let mut prepared = Prepared::new(&args.project, environment, false, signals.cancel()).await?;
    let targets = if args.no_verify { BTreeMap::new() } else { targets(&prepared.plan, &args.project.templates)? };
    let upload = Upload::prepare(args, &prepared, environment, signals).await?;
    let breakpoints = ask::breakpoints(&prepared.plan, signals.cancel())?;
    let detection = accelerator::detect();
    let engine = args.engine.or(prepared.engine).unwrap_or_default();
    let accelerator = match engine {
        Engine::Nspawn if targets.is_empty() && !prepared.plan.has_installer() => Accelerator::Tcg,
        // An image is always installed and verified in QEMU.
        Engine::Qemu | Engine::Nspawn => accelerator::choose(request(args.accel), &detection)?,
    };
    let output = output_folder(args.output.clone(), &prepared.root)?;
    let cache = Cache::open(&cache_folder(environment)?)?;
    packages::remember(args, &prepared, &cache);
    let _output_lock = lock_output(&output)?;
    let (mut work, abandoned) = WorkFolder::new(&cache)?;
    let removed = abandoned.removed + clean_up(abandoned, signals.cancel()).await;
    let hidden = prepared.hidden.iter().chain(upload.iter().flat_map(Upload::secrets));
    let events = events(args, hidden, work.path(), live.as_ref());
    if let Some(live) = live {
        live.follow(&events, work.path(), &prepared.plan.stages);
    }
    tell_beginning(&events, args, &prepared, removed);

    let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
    post_process::check(&prepared.plan, &output, search.as_ref())?;
    let (from, until) = steps::of_build(args, &prepared.plan)?;
    let results = Results { from, ..results(args, &prepared, cache.clone(), output.clone()) };
    let verifier = (!targets.is_empty()).then(|| verifier(args, &prepared, targets, accelerator));
    let mut unchanged = match until {
        None => pipeline::unchanged(&prepared.plan, &results, &events)?,
        Some(_) => None,
    };
    if unchanged.is_none()
        && until.is_none()
        && let Some(instead) = &prepared.instead
    {
        unchanged = pipeline::unchanged(instead, &results, &events)?;
        if unchanged.is_some() {
            prepared.bootstrap_instead("the images are there");
        }
    }
    check_verifier(verifier.as_ref(), &prepared.plan, unchanged.as_deref(), &results, environment)?;
    let artifacts = match unchanged {
        Some(artifacts) => {
            if let Some(verifier) = &verifier {
                let surroundings = (work.path(), &events, signals.cancel());
                verifier.verify_unchanged(&prepared.plan, &artifacts, &results, surroundings).await?;
            }
            artifacts
        }
        None => {
            tell_engine(&events, engine, (accelerator, &detection.reason), args, (&prepared.plan, environment));
            events.info(None, format!("base disk: {}", prepared.base));
            check_host(engine, args, &prepared, &results, environment, &events).await?;
            let mut settings =
                settings(args, &prepared, results, verifier, (engine, accelerator), (&events, signals.cancel()))
                    .await?;
            settings.jobs = if breakpoints.is_some() { 1 } else { settings.jobs };
            settings.breakpoints = breakpoints;
            if let Some(asker) = asker {
                settings.ask = Some(asker.ask(signals.cancel()));
                settings.built = asker.built.clone();
                // A step is tried again from the state before it.
                settings.checkpoints = CheckpointPolicy::All;
            }
            if prepared.instead.is_some()
                && let Some(error) =
                    pipeline::refused_installer(&prepared.plan, &settings, &work, &events, signals.cancel()).await?
            {
                prepared.bootstrap_instead(&error.chain().join(": ").replace('\n', ", "));
                events.info(None, format!("base disk: {}", prepared.base));
                settings.facts.base.clone_from(&prepared.base);
            }
            if let Some(until) = until {
                let (plan, cancel) = (&prepared.plan, signals.cancel());
                pipeline::build_until(plan, &until, &settings, &mut work, &events, cancel).await?;
                let number = steps::original(&args.project.skipped, &until.template, until.step) + 1;
                let text = format!("stopped after step {number} as asked; the next build goes on from there");
                events.info(Some(&until.template), text);
                return Ok(());
            }
            pipeline::build(&prepared.plan, &settings, &mut work, &events, signals.cancel()).await?
        }
    };
    let root = std::path::absolute(&prepared.root).unwrap_or_else(|_| prepared.root.clone());
    let (force, id, cancel) = (args.force, Uuid::new_v4(), signals.cancel());
    let run = post_process::Run { root: &root, work: work.path(), force, id, events: &events, cancel };
    let made = post_process::run(&prepared.plan, &output, &run).await?;
    if !args.project.json {
        print(&summary(&artifacts, &made));
    }
    match upload {
        Some(upload) => upload.finish(&artifacts, &cache, &events, (args.project.json, signals.cancel())).await,
        None => Ok(()),
    }
}

pub(super) fn output_folder(output: Option<PathBuf>, root: &Path) -> Result<PathBuf> {
    resolved(&output.unwrap_or_else(|| root.join("builds")))
        .context(Kind::Usage, || "the output folder has no usable name")
}

fn results(args: &BuildArgs, prepared: &Prepared, cache: Cache, output: PathBuf) -> Results {
    Results {
        history: cache.history(&prepared.root),
        cache,
        output,
        force: args.force,
        from: None,
        compression: args.compression.unwrap_or(Compression::Zstd),
        secrets: prepared.secrets.clone(),
    }
}

/// How many templates are built at a time, and how many CPUs each machine has then, where nothing else is said.
fn jobs(
    args: &BuildArgs,
    (engine, accelerator): (Engine, Accelerator),
    memory: u64,
    events: &Events,
) -> (usize, Option<u32>) {
    let memory = if engine == Engine::Qemu { memory } else { CONTAINER_MEMORY };
    let possible = machine::how_many(memory);
    let jobs = match args.jobs.map(usize::from) {
        // One question is asked at a time.
        _ if args.on_error == OnError::Ask => 1,
        Some(jobs) => jobs,
        // Programs in a guest use more than one processor now and then.
        None => (possible / 2).max(1),
    };
    let fitting = machine::how_many_fit(memory).max(1);
    if jobs > fitting {
        let text = format!("{fitting} instead of {jobs} templates at a time: each needs {memory} MiB of memory");
        events.warn(None, text);
    }
    let jobs = jobs.min(fitting);
    let share = jobs > 1 && engine == Engine::Qemu;
    (jobs, share.then(|| machine::cpus_of_one(accelerator, jobs)))
}

/// What is verified: the templates that were named, and of the others those that no other extends.
fn targets(plan: &Plan, named: &[String]) -> Result<BTreeMap<String, Target>> {
    let wanted = |stage: &&Stage| !plan.is_parent(&stage.name) || named.contains(&stage.name);
    let mut targets = BTreeMap::new();
    for stage in plan.stages.iter().filter(wanted) {
        let Some(wanted) = &stage.verification else { continue };
        let explained = |error: Error| error.context(format!("`verify` of template `{}`", stage.name));
        let contract = Contract::find(&wanted.contract).map_err(explained)?;
        let selected = contract.choose(&[], &wanted.skip).map_err(explained)?;
        let required = contract.components(wanted.require.iter()).map_err(explained)?;
        targets.insert(stage.name.clone(), Target { source: wanted.contract.clone(), contract, selected, required });
    }
    Ok(targets)
}

fn verifier(
    args: &BuildArgs,
    prepared: &Prepared,
    targets: BTreeMap<String, Target>,
    accelerator: Accelerator,
) -> Verifier {
    let secrets = prepared.hidden.iter().enumerate().map(|(number, value)| Secret {
        name: if number == 0 && prepared.root_password.is_some() { "root password" } else { "credentials" }.to_owned(),
        value: value.clone(),
    });
    Verifier {
        targets,
        root_password: prepared.root_password.clone(),
        secrets: secrets.collect(),
        accelerator,
        cpus: args.cpus,
        memory: verify::LEAST_MEMORY.max(args.memory.unwrap_or_default()),
    }
}

fn tell_engine(
    events: &Events,
    engine: Engine,
    (accelerator, reason): (Accelerator, &str),
    args: &BuildArgs,
    (plan, environment): (&Plan, &Environment),
) {
    match engine {
        Engine::Qemu => events.info(None, format!("accelerator: {accelerator} ({reason})")),
        Engine::Nspawn => events.info(None, "engine: nspawn (containers, at the host's own speed)"),
    }
    if engine == Engine::Nspawn && !plan.has_installer() {
        tell_ignored(events, args);
    }
    if engine == Engine::Qemu && accelerator == Accelerator::Tcg && nspawn_is_possible(environment) {
        events.info(None, "emulation is slow; `--engine nspawn` builds the same at the host's full speed here");
    }
}

/// Options of virtual machines that a container has no use for.
fn tell_ignored(events: &Events, args: &BuildArgs) {
    let given = [
        ("--accel", args.accel != AcceleratorChoice::Auto),
        ("--memory", args.memory.is_some()),
        ("--not-headless", args.project.not_headless),
    ];
    for (option, given) in given {
        if given {
            events.warn(None, format!("`{option}` is for virtual machines: the engine nspawn has no use for it"));
        }
    }
}

fn nspawn_is_possible(environment: &Environment) -> bool {
    let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
    preflight::nspawn::seems_possible(search.as_ref())
}

pub(super) fn request(choice: AcceleratorChoice) -> Request {
    match choice {
        AcceleratorChoice::Auto => Request::Auto,
        AcceleratorChoice::Kvm => Request::Kvm,
        AcceleratorChoice::Tcg => Request::Tcg,
    }
}

/// Two builds into one folder would publish over each other.
fn lock_output(output: &Path) -> Result<fs::File> {
    fs::create_dir_all(output).map_err(|error| {
        Error::host(format!("cannot make the output folder {}", output.display()))
            .because(error)
            .hint("choose another one with --output")
    })?;
    let lock = lock_file(&output.join(".lock"))?;
    if try_lock(&lock)? {
        return Ok(lock);
    }
    Err(Error::host(format!("another visabuild is building into {}", output.display()))
        .hint("wait for it, or choose another folder with --output"))
}

/// Removes what a killed bootstrap of an ordinary user left; returns how many folders.
async fn clean_up(abandoned: Abandoned, cancel: &CancellationToken) -> usize {
    let mut removed = 0;
    for folder in abandoned.left {
        let cleaned = bootstrap::clean(&pipeline::base_folder(&folder), cancel).await;
        // What still cannot be removed is tried again by the next run.
        if cleaned.is_ok() && fs::remove_dir_all(&folder).is_ok() {
            removed += 1;
        }
    }
    removed
}

fn events<'a>(
    args: &BuildArgs,
    hidden: impl Iterator<Item = &'a SecretString>,
    work: &Path,
    live: Option<&'a Live>,
) -> Events {
    let mut subscribers: Vec<Box<dyn Subscriber>> = vec![Box::new(TemplateLogs::new(work))];
    subscribers.extend(live.map(Live::subscriber));
    subscribers.extend(super::subscribers(args.project.json));
    let hidden = hidden.chain(live.map(Live::secret));
    Events::new(subscribers, Redactor::new(hidden.map(ExposeSecret::expose_secret)))
}

fn tell_beginning(events: &Events, args: &BuildArgs, prepared: &Prepared, removed: usize) {
    for skipped in &args.project.skipped {
        let text = format!("step `{}` is skipped: the image is without it", skipped.label);
        events.warn(Some(&skipped.step.template), text);
    }
    if removed > 0 {
        events.info(None, format!("removed the working files of {removed} earlier run(s) that were killed"));
    }
    if let Some(key) = &prepared.key {
        events.info(None, format!("PAM public key: {}", key.summary()));
        for note in &key.notes {
            match note.level {
                Level::Warning => events.warn(None, &note.text),
                _ => events.info(None, &note.text),
            }
        }
    }
    if let Some(password) = prepared.hidden.first()
        && args.project.root_password.is_some()
        && password.expose_secret().len() < Redactor::SHORTEST
    {
        events.warn(None, "the root password is very short, and so cannot be taken out of logs where it appears");
    }
    let mut told = std::collections::BTreeSet::new();
    for (variable, chosen) in prepared.plan.stages.iter().flat_map(|stage| &stage.alternatives) {
        if told.insert(variable) {
            events.info(None, format!("{variable}: {} ({})", chosen.value, chosen.how));
            if let Some(warning) = &chosen.warning {
                events.warn(None, warning);
            }
        }
    }
}

/// What is left to verify can be verified on this host.
fn check_verifier(
    verifier: Option<&Verifier>,
    plan: &Plan,
    unchanged: Option<&[Artifact]>,
    results: &Results,
    environment: &Environment,
) -> Result<()> {
    let Some(verifier) = verifier else { return Ok(()) };
    if unchanged.is_some_and(|artifacts| verifier.have_verified(plan, artifacts, results)) {
        return Ok(());
    }
    super::verify::possible(verifier.targets.values().flat_map(|target| &target.contract.boots), environment)
}

/// Everything cheap is checked before anything slow begins.
async fn check_host(
    engine: Engine,
    args: &BuildArgs,
    prepared: &Prepared,
    results: &Results,
    environment: &Environment,
    events: &Events,
) -> Result<()> {
    let options = super::doctor::options(super::doctor::Facts {
        environment,
        engine,
        other_engines: false,
        installer: prepared.plan.has_installer(),
        accelerator: request(args.accel),
        cache: results.cache.root(),
        output: &results.output,
        proxy: &prepared.proxy,
        mirrors: &prepared.mirrors,
        // Nobody is asked without the network.
        suites: prepared
            .plan
            .stages
            .iter()
            .filter(|_| !args.project.offline)
            .filter_map(|stage| stage.base.as_ref()?.source.suite())
            .map(str::to_owned)
            .collect(),
        pip_index: prepared.pip_index.as_ref().filter(|_| !args.project.offline),
        certificates: &prepared.certificates,
        memory: machine::size_to_host(args.cpus, args.memory).1,
        machines: prepared.plan.stages.iter().map(|stage| stage.machine.clone()).collect(),
        // The bootstrap itself looks for the keyring, where the base is not in the cache.
        keyring: None,
    });
    let mut findings: Vec<Finding> = preflight::doctor::examine(&options).await?;
    findings.extend(preflight::ansible::examine(&prepared.plan, &options.search_path, &Distribution::of_host()));
    for finding in findings.iter().filter(|finding| finding.state == State::Warning) {
        events.warn(None, format!("{}: {}", finding.name, finding.what));
    }
    preflight::check(&findings)
}

async fn settings(
    args: &BuildArgs,
    prepared: &Prepared,
    results: Results,
    verifier: Option<Verifier>,
    (engine, accelerator): (Engine, Accelerator),
    (events, cancel): (&Events, &CancellationToken),
) -> Result<Settings> {
    let (cpus, memory) = machine::size_to_host(args.cpus, args.memory);
    let (mirrors, acquire) = network(prepared, cancel).await?;
    let (jobs, cpus_of_one) = jobs(args, (engine, accelerator), memory, events);
    Ok(Settings {
        jobs,
        cpus: cpus_of_one,
        verifier,
        checkpoints: args.checkpoints,
        checkpoint_memory: args.checkpoint_memory,
        built: BuiltKeys::default(),
        ask: None,
        breakpoints: None,
        keep_on_error: args.on_error == OnError::Keep,
        engine,
        accelerator,
        insisted: Sizes { cpus: args.cpus, memory: args.memory },
        display: if args.project.not_headless { Display::Window } else { Display::Headless },
        agent: prepared.agent.clone(),
        environment: guest::environment(&prepared.proxy, prepared.pip_index.as_ref(), prepared.npm_registry.as_ref()),
        certificates: prepared
            .certificates
            .certificates
            .iter()
            .map(|certificate| (certificate.name.clone(), certificate.pem.clone()))
            .collect(),
        apt_configuration: guest::apt_configuration(&prepared.proxy, &acquire),
        facts: HostFacts {
            engine,
            accelerator: (engine == Engine::Qemu).then(|| accelerator.to_string()),
            base: prepared.base.clone(),
            engine_version: engine_version(engine, cancel).await,
            mirror: mirrors.main.url().to_owned(),
            cpus,
            memory: (engine == Engine::Qemu).then_some(memory),
        },
        packages: packages::open(args, prepared, &acquire, &results.cache, events, cancel).await?,
        mirrors,
        acquire,
        downloader: downloader(prepared, &results.cache)?.offline(args.project.offline),
        keyring: args.keyring.clone().zip(args.keyring_sha256.clone()).map(|(path, sha256)| Pinned { path, sha256 }),
        commit: commit(&prepared.root, cancel).await,
        command: args.again.clone(),
        results,
    })
}

/// Where packages come from and how the host gets there; the build's proxy goes before the host's.
async fn network(prepared: &Prepared, cancel: &CancellationToken) -> Result<(Mirrors, Acquire)> {
    let mirrors = match &prepared.mirrors {
        Ok(mirrors) => mirrors.clone(),
        Err(error) => return Err(Error::host(error.chain().join(": ")).hint("name a mirror with --mirror")),
    };
    let mut acquire = Acquire::of_host(cancel).await?;
    if let Some(url) = &prepared.proxy.url {
        acquire.http_proxy = Some(url.clone().into());
        acquire.https_proxy = Some(url.clone().into());
        let lines = format!("Acquire::http::Proxy \"{url}\";\nAcquire::https::Proxy \"{url}\";\n");
        acquire.configuration = format!("{}{lines}", acquire.configuration.expose_secret()).into();
    }
    Ok((mirrors, acquire))
}

/// Fetches installers by the build's own proxy.
fn downloader(prepared: &Prepared, cache: &Cache) -> Result<Downloader> {
    Downloader::new(cache, &prepared.proxy, &prepared.certificates.certificates, Policy::default())
}

async fn engine_version(engine: Engine, cancel: &CancellationToken) -> String {
    let program = match engine {
        Engine::Qemu => "qemu-system-x86_64",
        Engine::Nspawn => "systemd-nspawn",
    };
    let version = Run::new(program, ["--version"]).output(cancel).await.unwrap_or_default();
    version.lines().next().unwrap_or_default().to_owned()
}

/// The project's commit, where it is a git work tree.
async fn commit(root: &Path, cancel: &CancellationToken) -> Option<String> {
    let git = |arguments: &'static [&'static str]| {
        Run::new("git", arguments.iter().copied()).with(|command| {
            command.current_dir(root).stdin(Stdio::null());
        })
    };
    let commit = git(&["rev-parse", "HEAD"]).output(cancel).await.ok()?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).output(cancel).await.ok()?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn summary(artifacts: &[Artifact], made: &[Made]) -> String {
    let name_width = artifacts.iter().map(|artifact| artifact.template.len()).max().unwrap_or(0);
    let line = |name: &str, path: &Path, bytes: u64, unchanged: bool| {
        let note = if unchanged { ", unchanged" } else { "" };
        format!("{name:name_width$}  {}  ({}{note})\n", relative(path).display(), size(bytes))
    };
    let mut text = String::new();
    for artifact in artifacts {
        text += &line(&artifact.template, &artifact.path, artifact.bytes, artifact.unchanged);
        for file in made.iter().filter(|file| file.template == artifact.template) {
            text += &line("", &file.path, file.bytes, file.unchanged);
        }
    }
    text
}

/// `path` as it is shown: below the working directory where it is.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).to_owned()
}
