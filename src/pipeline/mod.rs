//! The build: the only module that knows the order of things.
//!
//! For every stage of the plan, parents first:
//!
//! 1. [`stage`]: is the finished image the one that is asked for? Then nothing is done.
//! 2. [`layer`]: is the stage's layer in the cache? Else its parent's (or the base disk) is
//!    ensured, an overlay is put on it, booted, provisioned, powered off, and kept as the layer.
//! 3. [`seal`]: a throw-away overlay on the layer is booted, gets its secrets, loses the traces of
//!    the build, is powered off, flattened, checked and published with its manifest.
//!
//! What happens to a machine is in [`session`], as states that consume each other:
//! `Prepared → Booted → Connected → Provisioned`, each owning what it must undo. What a failure
//! leaves behind for the user is in [`failure`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::ask::Ask;
use crate::cache::{Cache, History, Secrets, WorkFolder};
use crate::download::Downloader;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::event::Events;
use crate::image::Compression;
use crate::image::manifest::HostFacts;
use crate::machine::{Accelerator, Display};
use crate::package_cache::PackageCache;
use crate::plan::{Plan, Stage};
use crate::provision::Stop;
use crate::source::apt::{Acquire, Mirrors};
use crate::source::keyring::Pinned;
use crate::template::Text;

pub use base::folder as base_folder;
pub use checkpoint::{Memory as CheckpointMemory, Policy as CheckpointPolicy};
pub use failure::FailureClass;
pub use lookup::{ImageState, Miss, StageState, State, look_up};
pub use stage::image_path;
pub use verification::{Target, Verifier};
pub use why::{Built, Explanation, StepState, StepTime, explain, options};

mod base;
mod checkpoint;
mod communicator;
mod engine;
mod failure;
mod guest_scripts;
mod installer;
mod layer;
mod lookup;
mod memory;
mod packages;
mod schedule;
mod seal;
mod session;
mod stage;
mod timings;
mod verification;
mod virtual_machine;
mod why;

/// How the plan is carried out on this host; none of it shapes the content of a layer.
#[derive(Debug)]
pub struct Settings {
    /// Where results go and what they are compared with.
    pub results: Results,
    /// What images must keep before they are published; none publishes them as they are.
    pub verifier: Option<Verifier>,
    /// After which provisioners the disk is kept, to go on from.
    pub checkpoints: CheckpointPolicy,
    /// Whether the guest's memory is kept with it.
    pub checkpoint_memory: CheckpointMemory,
    /// How many stages are built at a time, at least 1.
    pub jobs: usize,
    /// Virtual CPUs of a machine where nothing else is said; none is all that the host has.
    pub cpus: Option<u32>,
    /// What was built by this run, or by those that it goes on from.
    pub built: BuiltKeys,
    /// Who is asked about a step that failed, while its guest runs on; the build fails in any case.
    pub ask: Option<Ask<Question>>,
    /// Who says that a build that stands at a breakpoint may go on.
    pub breakpoints: Option<Ask<Stop>>,
    /// Keep the disk of a failed build.
    pub keep_on_error: bool,
    /// What boots the guests.
    pub engine: Engine,
    /// What runs a virtual machine's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs and MiB of memory that the command line insists on.
    pub insisted: Sizes,
    /// Where the machine's screen is shown.
    pub display: Display,
    /// Socket of the user's SSH agent.
    pub agent: Option<PathBuf>,
    /// Environment of every shell step, in order; may hold the credentials of a proxy.
    pub environment: Vec<(String, Text)>,
    /// The build host's own certificate authorities: file name and PEM.
    pub certificates: Vec<(String, String)>,
    /// apt's configuration for the build; may hold the credentials of a proxy.
    pub apt_configuration: SecretString,
    /// Where packages of the base disk come from.
    pub mirrors: Mirrors,
    /// How the host's APT gets there.
    pub acquire: Acquire,
    /// What guests and the bootstrap get packages through.
    pub packages: Option<PackageCache>,
    /// Fetches what installers need.
    pub downloader: Downloader,
    /// A keyring that verifies them, instead of the host's own.
    pub keyring: Option<Pinned>,
    /// For the manifest.
    pub facts: HostFacts,
    /// For the manifest.
    pub commit: Option<String>,
    /// The command line that does the same again, without secrets; for the report of a failure.
    pub command: String,
}

/// Where results go, and what decides whether one is the image asked for.
#[derive(Debug)]
pub struct Results {
    /// Where layers are kept.
    pub cache: Cache,
    /// What earlier images of the project were made of, and how long that took.
    pub history: History,
    /// Folder of the results, absolute.
    pub output: PathBuf,
    /// Build everything anew.
    pub force: bool,
    /// The step from which on everything is done again.
    pub from: Option<StepReference>,
    /// Compression of the images.
    pub compression: Compression,
    /// Values of the secrets, to know whether they changed.
    pub secrets: Secrets,
}

/// A step of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReference {
    /// The stage's template.
    pub template: String,
    /// Which of its steps, from 0.
    pub step: usize,
}

/// Keys of the layers and base disks that were built at this command's word; with `--force` no others are used. Clones are
/// the same set.
#[derive(Debug, Clone, Default)]
pub struct BuiltKeys(Arc<Mutex<BTreeSet<String>>>);

/// A step that failed while its guest runs.
#[derive(Debug, Clone)]
pub struct Question {
    /// The stage's template.
    pub template: String,
    /// Which of its steps, from 0.
    pub step: usize,
    /// The step's label.
    pub label: String,
    /// What went wrong, in one line.
    pub error: String,
    /// Whether the guest still runs, and can be looked into.
    pub is_running: bool,
}

/// Sizes of a machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory, MiB.
    pub memory: Option<u64>,
}

/// The images of `plan`, if every one is there with nothing changed: nothing needs to be done then,
/// nor even looked at on the host.
///
/// # Errors
/// The cache cannot be read (kind host).
pub fn unchanged(plan: &Plan, results: &Results, events: &Events) -> Result<Option<Vec<Artifact>>> {
    for stage in &plan.stages {
        if results.is_redone(plan, stage) || !results.has(stage)? {
            return Ok(None);
        }
    }
    Ok(Some(plan.stages.iter().map(|stage| stage::unchanged(plan, results, events, stage)).collect()))
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Template name.
    pub template: String,
    /// The qcow2.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether it was there already, with nothing changed.
    pub unchanged: bool,
}

/// Builds every stage of `plan`, several at a time where [`Settings::jobs`] allows it, and verifies those images that
/// were there already and that nobody has verified. A stage that fails keeps those that lie on it from being built, and
/// no others.
///
/// # Errors
/// What failed (kind build, host or verification), or the signal that ended it. Finished images stay.
pub async fn build(
    plan: &Plan,
    settings: &Settings,
    work: &mut WorkFolder,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Vec<Artifact>> {
    let shared = Shared::default();
    // Whoever was asked has decided about all of it.
    let is_over = || shared.answered.load(Ordering::SeqCst);
    let outcomes = schedule::run(&plan.stages, settings.jobs, is_over, async |stage, ready| {
        let context = Context::new(plan, settings, work, events, cancel, &shared);
        let built = stage::build(&context, stage, ready).await;
        // The report comes at once, while others are still being built.
        built.map_err(|error| failure::report(&context, stage, error.context(format!("building `{}`", stage.name))))
    });
    let outcomes = outcomes.await;
    if settings.keep_on_error && outcomes.iter().any(|(_, outcome)| matches!(outcome, schedule::Outcome::Failed(_))) {
        work.keep();
    }
    let kept = settings.keep_on_error.then(|| failure::how_to_boot(work.path(), settings.engine));
    let artifacts = schedule::finished(outcomes, kept.as_deref())?;
    if let Some(verifier) = &settings.verifier {
        verifier.verify_unchanged(plan, &artifacts, &settings.results, (work.path(), events, cancel)).await?;
    }
    Ok(artifacts)
}

/// Builds what `until` needs, up to and with that step, and keeps it for later builds; no image is made.
///
/// # Errors
/// As [`build`].
pub async fn build_until(
    plan: &Plan,
    until: &StepReference,
    settings: &Settings,
    work: &mut WorkFolder,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<()> {
    let stage = plan.stage(&until.template).ok_or_else(|| Error::usage(format!("no template `{}`", until.template)))?;
    let shared = Shared::default();
    let context = Context::new(plan, settings, work, events, cancel, &shared);
    let built = layer::until(&context, stage, until.step).await;
    built.map_err(|error| {
        let error = failure::report(&context, stage, error.context(format!("building `{}`", stage.name)));
        if !settings.keep_on_error {
            return error;
        }
        work.keep();
        error.hint(schedule::kept(&failure::how_to_boot(work.path(), settings.engine)))
    })
}

/// Why an installer that has another way beside it cannot run: the mirror lacks what it will ask for, say. Looked at is
/// what can be looked at before a machine starts, and only where the base disk is not there yet.
///
/// # Errors
/// What the user has written is wrong, or `cancel` fires.
pub async fn refused_installer(
    plan: &Plan,
    settings: &Settings,
    work: &WorkFolder,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Option<Error>> {
    let shared = Shared::default();
    let context = Context::new(plan, settings, work, events, cancel, &shared);
    for stage in &plan.stages {
        let Some(base) = stage.base.as_ref().filter(|base| base.was_chosen) else { continue };
        match base::can_be_made(&context, stage, base).await {
            Err(error) if error.kind() == Kind::Host => return Ok(Some(error)),
            checked => checked?,
        }
    }
    Ok(None)
}

/// What the stages of a run have in common, beside its settings.
#[derive(Default)]
struct Shared {
    /// Somebody was asked about a step that failed, and has answered.
    answered: AtomicBool,
    /// What gives the SSH keys of this run's boots away, by name.
    traces: Mutex<Vec<(&'static str, SecretString)>>,
    /// Held while a base disk is made: there is one folder for that.
    base: tokio::sync::Mutex<()>,
}

/// Everything that the modules of the pipeline share while they build one stage and what it lies on.
struct Context<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    work: PathBuf,
    events: &'a Events,
    cancel: &'a CancellationToken,
    shared: &'a Shared,
    /// What was seen of the machine that runs or ran last.
    evidence: Mutex<failure::Evidence>,
}

impl<'a> Context<'a> {
    fn new(
        plan: &'a Plan,
        settings: &'a Settings,
        work: &WorkFolder,
        events: &'a Events,
        cancel: &'a CancellationToken,
        shared: &'a Shared,
    ) -> Self {
        let work = work.path().to_owned();
        Self { plan, settings, work, events, cancel, shared, evidence: Mutex::default() }
    }

    /// Whether a base disk from the cache may be used: with `--force`, only one that this run built.
    fn may_reuse(&self, key: &str) -> bool {
        self.settings.built.0.lock().is_ok_and(|built| self.settings.results.may_reuse(key, &built))
    }

    /// Likewise of what `stage` was after so many of its steps.
    fn may_reuse_steps(&self, stage: &Stage, done: usize, key: &str) -> bool {
        let results = &self.settings.results;
        self.settings.built.0.lock().is_ok_and(|built| results.may_reuse_steps(self.plan, stage, done, key, &built))
    }

    fn mark_built(&self, key: &str) {
        if let Ok(mut built) = self.settings.built.0.lock() {
            built.insert(key.to_owned());
        }
    }

    /// Tells what is wrong with something in the cache.
    fn warns<'b>(&'b self, template: &'b str) -> impl Fn(String) + 'b {
        move |text| self.events.warn(Some(template), text)
    }

    fn cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::new(Kind::Interrupted, "stopped")) } else { Ok(()) }
    }
}
