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
use std::sync::Mutex;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Secrets, WorkFolder};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::event::{Events, Level};
use crate::image::Compression;
use crate::image::manifest::HostFacts;
use crate::machine::{Accelerator, Display};
use crate::plan::Plan;
use crate::source::apt::{Acquire, Mirrors};
use crate::source::keyring::Pinned;
use crate::template::Text;

pub use base::folder as base_folder;
pub use stage::image_path;
pub use verification::{Target, Verifier};

mod base;
mod engine;
mod failure;
mod layer;
mod seal;
mod session;
mod stage;
mod timings;
mod verification;

/// How the plan is carried out on this host; none of it shapes the content of a layer.
#[derive(Debug)]
pub struct Settings {
    /// Where results go and what they are compared with.
    pub results: Results,
    /// What images must keep before they are published; none publishes them as they are.
    pub verifier: Option<Verifier>,
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
    /// A keyring that verifies them, instead of the host's own.
    pub keyring: Option<Pinned>,
    /// For the manifest.
    pub facts: HostFacts,
    /// For the manifest.
    pub commit: Option<String>,
}

/// Where results go, and what decides whether one is the image asked for.
#[derive(Debug)]
pub struct Results {
    /// Where layers are kept.
    pub cache: Cache,
    /// Folder of the results, absolute.
    pub output: PathBuf,
    /// Build everything anew.
    pub force: bool,
    /// Compression of the images.
    pub compression: Compression,
    /// Values of the secrets, to know whether they changed.
    pub secrets: Secrets,
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
        if !results.has(stage)? {
            return Ok(None);
        }
    }
    Ok(Some(plan.stages.iter().map(|stage| stage::unchanged(results, events, stage)).collect()))
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

/// Builds every stage of `plan`, and verifies those images that were there already and that nobody has verified.
///
/// # Errors
/// The first failure (kind build, host or verification), or the signal that ended it. Finished images stay.
pub async fn build(
    plan: &Plan,
    settings: &Settings,
    work: &mut WorkFolder,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    let (built, traces) = (Mutex::default(), Mutex::default());
    let context = Context { plan, settings, work: work.path().to_owned(), events, cancel, built, traces };
    for stage in &plan.stages {
        match stage::build(&context, stage).await {
            Ok(artifact) => artifacts.push(artifact),
            Err(error) => return Err(give_up(&context, stage, work, error)),
        }
    }
    if let Some(verifier) = &settings.verifier {
        verifier.verify_unchanged(plan, &artifacts, &settings.results, (work.path(), events, cancel)).await?;
    }
    Ok(artifacts)
}

/// Everything that the modules of the pipeline share.
struct Context<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    work: PathBuf,
    events: &'a Events,
    cancel: &'a CancellationToken,
    /// Keys of the layers and bases that this run has built.
    built: Mutex<BTreeSet<String>>,
    /// What gives the SSH keys of this run's boots away, by name.
    traces: Mutex<Vec<(&'static str, SecretString)>>,
}

impl Context<'_> {
    /// Whether a layer from the cache may be used: with `--force`, only one that this run built.
    fn may_reuse(&self, key: &str) -> bool {
        !self.settings.results.force || self.built.lock().is_ok_and(|built| built.contains(key))
    }

    fn mark_built(&self, key: &str) {
        if let Ok(mut built) = self.built.lock() {
            built.insert(key.to_owned());
        }
    }

    fn cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::new(Kind::Interrupted, "stopped")) } else { Ok(()) }
    }
}

fn give_up(context: &Context<'_>, stage: &crate::plan::Stage, work: &mut WorkFolder, error: Error) -> Error {
    // Log first, clean up second: nothing may hide the reason.
    let error = error.context(format!("building `{}`", stage.name));
    let mut error = match failure::report(context, stage, &error) {
        Ok(Some(folder)) => error.hint(format!("log and console are in {}", folder.display())),
        Ok(None) => error,
        Err(problem) => {
            context.events.emit(crate::event::Event::Message {
                level: Level::Warning,
                template: Some(stage.name.clone()),
                text: format!("the failure report could not be written: {problem}"),
            });
            error
        }
    };
    if context.settings.keep_on_error {
        work.keep();
        error = error.hint(format!("the disk is kept: {}", failure::how_to_boot(work.path(), context.settings.engine)));
    }
    error
}
