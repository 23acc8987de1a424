//! The build plan: a graph of stages as pure data, with content fingerprints.
//!
//! A plan says everything that will happen and nothing about the machine that it happens on:
//! [`Stage`]s stand in a stable order, parents first, and their fingerprints cover every input that
//! can change the result. Secrets and facts of the host stand in rendered text as placeholders
//! ([`crate::template::Text`]), so neither is hashed. Facts of the host are in [`Host`], apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::source::bootstrap;
use crate::template::post_processor::PostProcessor;
use crate::template::{
    Action, Bootstrap, Builder, CacheRule, ChosenAlternative, Installer, Machine, Provisioner, Resolved, ShellSource,
    Template, Text, Verification,
};

pub use difference::{Detail, Difference, FileChange, How, PartChange, difference, unified};
pub use fingerprint::Fingerprint;
pub use inputs::{InputFile, beside_playbook};
pub use record::{Facts, Part, PartKind, Record, RecordedFile};
pub use text::{Spot, counted};

mod difference;
mod fingerprint;
mod inputs;
mod record;
mod text;

/// Version of the plan's form and of what a fingerprint covers; part of every fingerprint.
pub const VERSION: u32 = 1;

/// Scripts of visabuild itself that shape the result, and so belong to the fingerprints.
#[derive(Debug, Clone, Copy)]
pub struct OwnScripts {
    /// Turns what mmdebstrap makes into the root of a cloud image.
    pub configure: &'static str,
    /// Put the boot loader into the base disk.
    pub boot_loader: &'static str,
    /// Prepares a booted guest for provisioning, and takes that back.
    pub session: &'static str,
    /// Takes the traces of the build out of an image.
    pub seal: &'static str,
}

/// What will be done, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Parents before children.
    pub stages: Vec<Stage>,
}

/// One template's part of the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// The template's name.
    pub name: String,
    /// The stage whose layer this one starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The template's description.
    pub description: String,
    /// The base disk, where there is no parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Virtual size that the disk grows to, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<u64>,
    /// `packer.variables`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Text>,
    /// Which alternatives were chosen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alternatives: BTreeMap<String, ChosenAlternative>,
    /// The provisioners that make the layer.
    pub steps: Vec<Step>,
    /// Fingerprint of the layer.
    pub fingerprint: Fingerprint,
    /// Names of the secrets that the layer's chain uses; see `cache::secrets`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// What is done on the throw-away overlay that becomes the image.
    pub seal: SealPlan,
    /// What is done in the guest when a step has failed; it is in no fingerprint.
    #[serde(skip)]
    pub error_cleanup: Option<Provisioner>,
    /// What the image must keep; it does not shape it, and is in no fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// What is made of the finished image, in chains; it shapes no image, and is in none of its fingerprints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_processors: Vec<Vec<PostStep>>,
    /// The machine as the template asks for it; what it leaves out is sized to the host.
    #[serde(skip)]
    pub machine: Machine,
    /// A step of it, or of a stage that it lies on, is done in every build (`cache: never`).
    #[serde(skip)]
    pub never_kept: bool,
    /// The scripts that its fingerprints cover.
    #[serde(skip)]
    pub scripts: OwnScripts,
}

/// The base disk of a chain.
#[derive(Debug, Clone, Serialize)]
pub struct Base {
    /// How it is made.
    #[serde(flatten)]
    pub source: BaseSource,
    /// The host's files that it reads, sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// Names of the secrets that it uses.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Fingerprint of the base disk.
    pub fingerprint: Fingerprint,
    /// The template has another way to it.
    #[serde(skip)]
    pub was_chosen: bool,
}

/// How a base disk is made.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseSource {
    /// By mmdebstrap.
    Bootstrap(Box<Bootstrap>),
    /// By a distribution's own installer, or it is a ready image.
    Installer(Box<Installer>),
}

impl BaseSource {
    /// `bootstrap` or `installer`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bootstrap(_) => "bootstrap",
            Self::Installer(_) => "installer",
        }
    }

    /// Suites of a package mirror that it needs.
    pub fn suite(&self) -> Option<&str> {
        match self {
            Self::Bootstrap(bootstrap) => Some(&bootstrap.suite),
            Self::Installer(installer) => installer.suite(),
        }
    }

    /// In a few words: `trixie by bootstrap`.
    pub fn summary(&self) -> String {
        match self {
            Self::Bootstrap(bootstrap) => format!("{} base by bootstrap", bootstrap.suite),
            Self::Installer(installer) => format!("base by {}", installer.summary()),
        }
    }
}

impl Base {
    fn new(template: &Template, scripts: OwnScripts) -> Result<Option<Self>> {
        let was_chosen = template.several_builders;
        Ok(match &template.builder {
            Builder::Bootstrap(bootstrap) => Some(Self {
                source: BaseSource::Bootstrap(Box::new(bootstrap.clone())),
                files: Vec::new(),
                secrets: BTreeSet::new(),
                fingerprint: Fingerprint::of("base", &(VERSION, bootstrap, scripts.configure, scripts.boot_loader)),
                was_chosen,
            }),
            Builder::Installer(installer) => {
                let files = inputs::of_installer(installer)?;
                let secrets = installer.texts().flat_map(|text| text.secrets().iter().cloned()).collect();
                // A Debian installer gets the bootstrap's own configuration.
                let own = installer.suite().map(|_| (scripts.configure, bootstrap::MKE2FS_CONFIGURATION));
                // An installer partitions, names disks and network cards and chooses boot loaders by what it finds.
                let hardware = &installer.machine.hardware;
                let seen = (&hardware.disks, &hardware.firmware, &hardware.board);
                let fingerprint = Fingerprint::of("installed base", &(VERSION, installer, &files, own, seen));
                Some(Self { source: BaseSource::Installer(installer.clone()), files, secrets, fingerprint, was_chosen })
            }
            Builder::Qemu(_) => None,
        })
    }
}

/// One provisioner of a stage with what it reads.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The provisioner.
    #[serde(flatten)]
    pub provisioner: Provisioner,
    /// The host's files that it reads, sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// Fingerprint of the disk after this step.
    pub fingerprint: Fingerprint,
    /// A file that it copies is not there yet (`generated: true`), so nobody knows what the step will do.
    #[serde(skip)]
    pub is_unknown: bool,
}

impl Step {
    /// What it says, whatever lies below it and whatever its files hold: the step that an earlier time is about.
    pub fn identity(&self) -> String {
        Fingerprint::of("time", &self.provisioner).short().to_owned()
    }

    /// Says that what it reads is still what it was when the plan was made: what it has done is not what its fingerprint
    /// stands for otherwise.
    ///
    /// # Errors
    /// A file was changed (kind build), or cannot be read any more (kind usage).
    pub fn was_as_planned(&self) -> Result<()> {
        if self.is_unknown {
            return Ok(());
        }
        let now = inputs::of(&self.provisioner)?;
        let Some(changed) = now
            .iter()
            .find(|file| !self.files.contains(file))
            .or_else(|| self.files.iter().find(|file| !now.contains(file)))
        else {
            return Ok(());
        };
        let label = &self.provisioner.label;
        Err(Error::build(format!(
            "`{}` was changed while the build ran, which makes `{label}` another step",
            changed.name
        ))
        .hint("build again: what was done before this step is kept"))
    }

    /// Whether it is done in every build.
    pub fn is_never_kept(&self) -> bool {
        // Whoever looks at the guest at a breakpoint may change it.
        let stops = matches!(self.provisioner.action, Action::Breakpoint(_));
        self.is_unknown || stops || self.provisioner.cache == Some(CacheRule::Never)
    }
}

/// The seal of a stage.
#[derive(Debug, Clone, Serialize)]
pub struct SealPlan {
    /// Root's password, masked; none leaves root locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_password: Option<Text>,
    /// `keep` or `remove`.
    pub ca_certificates: &'static str,
    /// The provisioners that run on the overlay.
    pub steps: Vec<Step>,
    /// Fingerprint of the image without its secrets.
    pub fingerprint: Fingerprint,
    /// Names of the secrets that the image holds.
    pub secrets: BTreeSet<String>,
}

impl SealPlan {
    /// Whether a step of it is done in every build.
    pub fn is_never_kept(&self) -> bool {
        self.steps.iter().any(Step::is_never_kept)
    }

    /// Whether the build host's own certificate authorities stay in the image.
    pub fn keeps_ca_certificates(&self) -> bool {
        self.ca_certificates == "keep"
    }
}

impl Plan {
    /// Makes the plan of a resolved project: reads the files that provisioners name and computes
    /// the fingerprints.
    ///
    /// # Errors
    /// A provisioner's file cannot be read (kind usage).
    pub fn new(resolved: &Resolved, scripts: OwnScripts, lock_root: bool) -> Result<Self> {
        let mut stages: Vec<Stage> = Vec::with_capacity(resolved.templates.len());
        for template in &resolved.templates {
            let parent = match &template.parent {
                Some(name) => Some(stages.iter().find(|stage| &stage.name == name).ok_or_else(|| {
                    Error::usage(format!("template `{}` stands before its parent `{name}`", template.name))
                })?),
                None => None,
            };
            let stage = Stage::new(template, parent, scripts, lock_root)?;
            stages.push(stage);
        }
        Ok(Self { version: VERSION, stages })
    }

    /// Whether a stage of the plan lies on the one of that name.
    pub fn is_parent(&self, name: &str) -> bool {
        self.stages.iter().any(|stage| stage.parent.as_deref() == Some(name))
    }

    /// Whether `stage` is the one of that name, or lies on it.
    pub fn lies_on(&self, stage: &Stage, name: &str) -> bool {
        stage.name == name
            || stage
                .parent
                .as_deref()
                .and_then(|parent| self.stage(parent))
                .is_some_and(|parent| self.lies_on(parent, name))
    }

    /// Whether an installer runs in a virtual machine, whatever boots the other guests.
    pub fn has_installer(&self) -> bool {
        let installs = |base: &Base| matches!(&base.source, BaseSource::Installer(installer) if !installer.disk_image);
        self.stages.iter().filter_map(|stage| stage.base.as_ref()).any(installs)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The plan as text for people.
    pub fn to_text(&self) -> String {
        text::render(self, &|_, _| String::new())
    }

    /// The same with a note behind each line; an empty one adds nothing.
    pub fn to_text_with(&self, note: &dyn Fn(&Stage, Spot) -> String) -> String {
        text::render(self, note)
    }
}

impl Stage {
    /// The host's files that it reads, but for those that are secrets.
    pub fn files(&self) -> impl Iterator<Item = &InputFile> {
        let steps = self.steps.iter().chain(&self.seal.steps).flat_map(|step| &step.files);
        self.base.iter().flat_map(|base| &base.files).chain(steps)
    }

    /// How many of its steps can come out of the cache: those before the first that is done in every build.
    pub fn steps_that_can_be_kept(&self) -> usize {
        self.steps.iter().position(Step::is_never_kept).unwrap_or(self.steps.len())
    }

    fn new(template: &Template, parent: Option<&Stage>, scripts: OwnScripts, lock_root: bool) -> Result<Self> {
        let base = Base::new(template, scripts)?;
        let disk_size = match &template.builder {
            Builder::Bootstrap(_) | Builder::Installer(_) => None,
            Builder::Qemu(machine) => machine.disk_size,
        };
        let start = match (&base, parent) {
            (Some(base), _) => &base.fingerprint,
            (None, Some(parent)) => &parent.fingerprint,
            (None, None) => {
                return Err(Error::usage(format!("template `{}` has neither a parent nor a base disk", template.name)));
            }
        };
        // What was chosen counts; how, and what is said about it, does not.
        let chosen: Vec<_> = template.alternatives.iter().map(|(variable, chosen)| (variable, &chosen.value)).collect();
        let start = start.then("stage", &(disk_size, &template.variables, chosen, scripts.session));
        // Of how a build gets in, who works there and what ends it can leave something on the disk.
        let communicator = &template.builder.machine().communicator;
        let start = match (communicator.user(), &communicator.shutdown_command) {
            ("root", None) => start,
            shaping => start.then("communicator", &shaping),
        };
        let steps = plan_steps(&template.provisioners, &start)?;
        let fingerprint = steps.last().map_or(start, |step| step.fingerprint.clone());
        let mut secrets = secrets_of(&steps);
        secrets.extend(base.iter().flat_map(|base| base.secrets.iter().cloned()));
        secrets.extend(communicator.shutdown_command.iter().flat_map(|text| text.secrets().iter().cloned()));
        if let Some(parent) = parent {
            secrets.extend(parent.secrets.iter().cloned());
        }
        let seal = plan_seal(template, &fingerprint, &secrets, scripts, lock_root)?;
        let never_kept = parent.is_some_and(|parent| parent.never_kept) || steps.iter().any(Step::is_never_kept);
        Ok(Self {
            name: template.name.clone(),
            parent: template.parent.clone(),
            description: template.description.clone(),
            base,
            disk_size,
            variables: template.variables.clone(),
            alternatives: template.alternatives.clone(),
            steps,
            fingerprint,
            secrets,
            seal,
            error_cleanup: template.error_cleanup.clone(),
            verification: template.verification.clone(),
            post_processors: post_steps(template)?,
            machine: template.builder.machine().clone(),
            never_kept,
            scripts,
        })
    }
}

fn plan_seal(
    template: &Template,
    layer: &Fingerprint,
    layer_secrets: &BTreeSet<String>,
    scripts: OwnScripts,
    lock_root: bool,
) -> Result<SealPlan> {
    let root_password = if lock_root { None } else { template.seal.root_password.clone() };
    let ca_certificates = if template.seal.keep_ca_certificates { "keep" } else { "remove" };
    let start = layer.then("seal", &(&root_password, ca_certificates, scripts.seal));
    let steps = plan_steps(&template.seal.provisioners, &start)?;
    let fingerprint = steps.last().map_or(start, |step| step.fingerprint.clone());
    let mut secrets = secrets_of(&steps);
    secrets.extend(root_password.iter().flat_map(|text| text.secrets().iter().cloned()));
    secrets.extend(layer_secrets.iter().cloned());
    Ok(SealPlan { root_password, ca_certificates, steps, fingerprint, secrets })
}

/// One post-processor of a stage.
#[derive(Debug, Clone, Serialize)]
pub struct PostStep {
    /// The post-processor.
    #[serde(flatten)]
    pub post_processor: PostProcessor,
    /// The host's files that it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// What it does to what it is given: what it is called does not count.
    pub fingerprint: Fingerprint,
}

fn post_steps(template: &Template) -> Result<Vec<Vec<PostStep>>> {
    let step = |one: &PostProcessor| {
        let files = inputs::of_post_processor(one)?;
        let said = (VERSION, &template.name, &one.processing, one.keep_input_artifact, &files);
        let fingerprint = Fingerprint::of("post-processor", &said);
        Ok(PostStep { post_processor: one.clone(), files, fingerprint })
    };
    template.post_processors.iter().map(|chain| chain.iter().map(step).collect()).collect()
}

fn plan_steps(provisioners: &[Provisioner], start: &Fingerprint) -> Result<Vec<Step>> {
    let mut before = start.clone();
    provisioners
        .iter()
        .map(|provisioner| {
            let files = inputs::of(provisioner)?;
            let fingerprint = before.then("step", &(provisioner, &files));
            before = fingerprint.clone();
            let is_unknown = inputs::is_missing(provisioner);
            Ok(Step { provisioner: provisioner.clone(), files, fingerprint, is_unknown })
        })
        .collect()
}

fn secrets_of(steps: &[Step]) -> BTreeSet<String> {
    steps.iter().flat_map(|step| secrets_in(&step.provisioner)).collect()
}

fn secrets_of_script<'a>(
    source: &'a ShellSource,
    variables: &'a [(String, Text)],
) -> impl Iterator<Item = String> + 'a {
    let lines = match source {
        ShellSource::Inline(lines) => &lines[..],
        ShellSource::Scripts(_) => &[],
    };
    let texts = lines.iter().chain(variables.iter().map(|(_, value)| value));
    texts.flat_map(|text| text.secrets().iter().cloned())
}

fn secrets_in(provisioner: &Provisioner) -> BTreeSet<String> {
    use crate::template::FileSource;
    let mut secrets = BTreeSet::new();
    if let Some(CacheRule::Key(text)) = &provisioner.cache {
        secrets.extend(text.secrets().iter().cloned());
    }
    match &provisioner.action {
        Action::Shell(shell) => {
            secrets.extend(secrets_of_script(&shell.source, &shell.environment_vars));
            secrets.extend(shell.execute_command.secrets().iter().cloned());
        }
        Action::Ansible(ansible) => {
            let texts = ansible.environment_vars.iter().map(|(_, value)| value);
            secrets.extend(texts.flat_map(|text| text.secrets().iter().cloned()));
        }
        Action::Breakpoint(_) => {}
        Action::ShellLocal(local) => secrets.extend(secrets_of_script(&local.source, &local.environment_vars)),
        Action::File(copy) => {
            secrets.extend(copy.destination.secrets().iter().cloned());
            match &copy.source {
                FileSource::Content(text) => secrets.extend(text.secrets().iter().cloned()),
                FileSource::Paths(paths) => {
                    secrets.extend(paths.iter().flat_map(|path| path.secrets.iter().cloned()));
                }
            }
        }
    }
    secrets
}
