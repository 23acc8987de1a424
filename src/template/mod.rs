//! Projects in packme's form, resolved.
//!
//! A project is a folder with `config.yml` (which templates exist, what extends what),
//! `templates/NAME/manifest.yml` and `templates/NAME/environment.yml`, and optional
//! `packages/NAME/manifest.yml`. [`load`] reads them and keeps file, line and column of every
//! node; [`resolve`] puts parents first, renders every leaf string with tera, checks everything
//! and reports all problems at once.
//!
//! Beside packme's `packer:` node a manifest may have `seal:` (what is done only on the throw-away
//! overlay that becomes the image: secrets) and `alternatives:` (ways to reach the same thing, of
//! which preflight picks the first that is reachable).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Location;

pub use alternatives::{AUTO, Alternatives, Choice};
pub use answers::{AnswerFile, Volume};
pub use cache_rule::CacheRule;
pub use communicator::Communicator;
pub(crate) use config::folders;
pub use hardware::Hardware;
pub use installer::{Installer, Kernel, KernelSource, PACKAGES_FILE};
pub use options::options_page;
pub use project::{Project, load};
pub use provisioner::ansible::{Ansible, Galaxy};
pub use provisioner::shell_local::ShellLocal;
pub use remote::Remote;
pub use resolve::resolve;

mod alternatives;
mod answers;
mod builder;
mod cache_rule;
mod chain;
pub mod communicator;
mod config;
mod environment;
mod facts;
pub(crate) mod fields;
pub mod hardware;
mod installer;
mod jinja;
pub(crate) mod keys;
mod machine;
pub(crate) mod nearest;
mod options;
pub(crate) mod paths;
pub mod post_processor;
pub(crate) mod problems;
mod project;
mod provisioner;
pub mod qemuargs;
mod remote;
pub(crate) mod render;
mod resolve;
pub(crate) mod scalar;
pub mod schema;
mod seal;
mod verification;
pub(crate) mod yaml;

/// A rendered string that may contain secrets and facts of the host.
///
/// `masked` is what is shown, hashed and recorded; it has a placeholder where a secret or a fact of
/// the host stands. `plain` is what is used.
#[derive(Clone)]
pub struct Text {
    masked: String,
    plain: SecretString,
    secrets: BTreeSet<String>,
}

impl Text {
    /// Text with nothing to hide.
    pub fn public(text: impl Into<String>) -> Self {
        let masked = text.into();
        Self { plain: masked.clone().into(), masked, secrets: BTreeSet::new() }
    }

    /// Text whose real form is `plain`, shown as `masked`, made of the named secrets.
    pub fn new(masked: String, plain: String, secrets: BTreeSet<String>) -> Self {
        Self { masked, plain: plain.into(), secrets }
    }

    /// What may be shown, hashed and recorded.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// What is used.
    pub fn plain(&self) -> &str {
        self.plain.expose_secret()
    }

    /// Names of the secret values in it (`root_password`, `pam_public_key`).
    pub fn secrets(&self) -> &BTreeSet<String> {
        &self.secrets
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.masked)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.masked == other.masked && self.plain() == other.plain()
    }
}

impl Eq for Text {}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::public(text)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked)
    }
}

/// A value from outside the project that templates may use by name.
#[derive(Debug, Clone)]
pub enum Value {
    /// Shown and hashed (`vm_name`, a chosen alternative).
    Plain(String),
    /// Never shown, never hashed (`root_password`, `pam_public_key`).
    Secret(SecretString),
    /// The hash of a password: made with a new salt where it is used, otherwise as [`Value::Secret`].
    Hashed(SecretString),
    /// A fact of the host: shown as a placeholder, not hashed (`proxy`, `mirror`, `headless`).
    Host(String),
    /// Known by name but not given; using it is a problem that names the way to give it.
    Missing {
        /// For example `-rp/--root-password PW`.
        option: String,
        /// For example `VISA_ROOT_PASSWORD`.
        variable: String,
    },
}

/// Which builder makes a first disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BaseBuilder {
    /// The bootstrap where there is one.
    #[default]
    PreferBootstrap,
    /// The installer where there is one.
    PreferInstaller,
    /// The distribution's own installer.
    Installer,
    /// mmdebstrap.
    Bootstrap,
}

/// Everything from outside the project that resolution depends on.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The command line's values; they win over everything.
    pub values: BTreeMap<String, Value>,
    /// The process environment; it wins over the templates' environment files.
    pub environment: BTreeMap<String, String>,
    /// Which builder makes the first disk, where a template has several.
    pub base: BaseBuilder,
    /// What was chosen for variables with [`Alternatives`]; over everything else for those variables.
    pub choices: BTreeMap<String, ChosenAlternative>,
    /// The time that `cache: daily` goes by, seconds since 1970.
    pub now: u64,
    /// Use a placeholder for a [`Value::Missing`] instead of reporting it, and leave [`AUTO`] where
    /// nothing is chosen (`validate`, `plan`).
    pub lenient: bool,
}

/// The selected templates and all their ancestors, parents first, rendered and checked.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The project folder.
    pub root: PathBuf,
    /// Parents before children; otherwise in the order of `config.yml`.
    pub templates: Vec<Template>,
}

/// One template, rendered.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name in `config.yml`.
    pub name: String,
    /// The template that it extends.
    pub parent: Option<String>,
    /// `packer.description`, masked.
    pub description: String,
    /// `packer.variables`, rendered.
    pub variables: BTreeMap<String, Text>,
    /// Where its disk comes from and on what machine it is provisioned.
    pub builder: Builder,
    /// The template has more than one way to its disk.
    pub several_builders: bool,
    /// `packer.provisioners`, then those of its packages, in order.
    pub provisioners: Vec<Provisioner>,
    /// What is done in the guest when one of them has failed.
    pub error_cleanup: Option<Provisioner>,
    /// What is done on the overlay that becomes the image: the parents' first, then its own.
    pub seal: Seal,
    /// The alternatives chosen for this template and its ancestors, by variable.
    pub alternatives: BTreeMap<String, ChosenAlternative>,
    /// What its image must keep; none where nothing is said.
    pub verification: Option<Verification>,
    /// What is made of its image.
    pub post_processors: Vec<post_processor::Chain>,
}

/// What an image must keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Name of a contract, or its file.
    pub contract: String,
    /// Components that it must have.
    pub require: Vec<String>,
    /// Checks, or areas of checks, that are left out.
    pub skip: Vec<String>,
}

/// Where a template's disk comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Builder {
    /// mmdebstrap makes the root file system and the disk is assembled from it.
    Bootstrap(Bootstrap),
    /// A distribution's own installer makes the disk, or it is a ready image.
    Installer(Box<Installer>),
    /// An overlay on the parent's layer.
    Qemu(Machine),
}

impl Builder {
    /// Its type in a manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bootstrap(_) => "bootstrap",
            Self::Installer(_) => "installer",
            Self::Qemu(_) => "qemu",
        }
    }

    /// The machine to provision on.
    pub fn machine(&self) -> &Machine {
        match self {
            Self::Bootstrap(bootstrap) => &bootstrap.machine,
            Self::Installer(installer) => &installer.machine,
            Self::Qemu(machine) => machine,
        }
    }
}

/// The `bootstrap` builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// Distribution code name (`trixie`).
    pub suite: String,
    /// Archive components (`main`).
    pub components: Vec<String>,
    /// mmdebstrap variant (`important`, `minbase` …).
    pub variant: String,
    /// Packages beside the variant's.
    pub packages: Vec<String>,
    /// Virtual size of the disk, bytes.
    pub disk_size: u64,
    /// The machine of the first boots.
    #[serde(skip)]
    pub machine: Machine,
}

/// What a template says about its machine; what it leaves out is sized to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Memory, MiB.
    pub memory: Option<u64>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Grow the disk to this virtual size, bytes.
    pub disk_size: Option<u64>,
    /// QEMU CPU model.
    pub cpu_model: Option<String>,
    /// How long SSH may take to answer.
    pub ssh_timeout: Option<Duration>,
    /// How long the guest may do nothing that can be seen before SSH answers; zero is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long the guest may take to power off.
    pub shutdown_timeout: Option<Duration>,
    /// Its devices.
    pub hardware: Hardware,
    /// How the build gets in.
    pub communicator: Communicator,
}

/// What is done on the throw-away overlay that becomes the image.
#[derive(Debug, Clone, Default)]
pub struct Seal {
    /// Root's password for the console; none leaves root locked.
    pub root_password: Option<Text>,
    /// Provisioners that put secrets in.
    pub provisioners: Vec<Provisioner>,
    /// Keep the build host's own certificate authorities in the image (`ca_certificates: keep`).
    pub keep_ca_certificates: bool,
}

/// One provisioner with Packer's meaning.
#[derive(Debug, Clone, Serialize)]
pub struct Provisioner {
    /// How it is called in messages: its `name`, or the script or file it is about.
    pub label: String,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Wait this long before it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_before: Option<Duration>,
    /// Give an attempt up after this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Further attempts where it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// What its result depends on beside all this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRule>,
    /// Where the manifest says it.
    #[serde(skip)]
    pub location: Location,
}

/// What a provisioner does.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Action {
    /// Runs commands or scripts in the guest.
    Shell(Shell),
    /// Puts files into the guest.
    File(FileCopy),
    /// Runs commands or scripts on the build host.
    #[serde(rename = "shell-local")]
    ShellLocal(ShellLocal),
    /// Plays playbooks of the host in the guest.
    Ansible(Box<Ansible>),
    /// Stops until somebody says that it may go on.
    Breakpoint(Breakpoint),
}

impl Action {
    /// Its type in a manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Shell(_) => "shell",
            Self::File(_) => "file",
            Self::ShellLocal(_) => "shell-local",
            Self::Ansible(_) => "ansible",
            Self::Breakpoint(_) => "breakpoint",
        }
    }
}

/// The `shell` provisioner.
#[derive(Debug, Clone, Serialize)]
pub struct Shell {
    /// What runs.
    pub source: ShellSource,
    /// First line of an inline script, without `#!`.
    pub inline_shebang: String,
    /// `KEY=VALUE`, in the order given.
    pub environment_vars: Vec<(String, Text)>,
    /// Command line with `{{ .Path }}`, and `{{ .Vars }}` or `{{ .EnvVarFile }}`.
    pub execute_command: Text,
    /// Folder in the guest for scripts.
    pub remote_folder: String,
    /// Name of the script in the guest; a new one each time if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_file: Option<String>,
    /// Whole path of the script in the guest, over the two before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_path: Option<String>,
    /// The script stays in the guest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_clean: bool,
    /// The command may end the connection (a reboot).
    pub expect_disconnect: bool,
    /// Exit codes that mean success.
    pub valid_exit_codes: Vec<u32>,
    /// Wait this long afterwards.
    pub pause_after: Option<Duration>,
    /// Upload scripts as they are instead of turning CRLF into LF.
    pub binary: bool,
}

/// What a shell provisioner runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShellSource {
    /// Lines of one script.
    Inline(Vec<Text>),
    /// Script files on the host, in order.
    Scripts(Vec<HostPath>),
}

/// The `file` provisioner, upload only.
#[derive(Debug, Clone, Serialize)]
pub struct FileCopy {
    /// What is copied.
    pub source: FileSource,
    /// Path in the guest.
    pub destination: Text,
    /// Permission bits to set on files; none keeps the source's.
    pub mode: Option<u32>,
    /// What is copied may be there only when the step begins.
    #[serde(skip)]
    pub generated: bool,
}

/// The `breakpoint` provisioner.
#[derive(Debug, Clone, Serialize)]
pub struct Breakpoint {
    /// What is said when it stops, masked.
    pub note: String,
    /// It does not stop; such a one is in no plan.
    #[serde(skip)]
    pub disable: bool,
}

/// What a file provisioner copies.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSource {
    /// Files and folders on the host. A folder with a trailing slash means its contents.
    Paths(Vec<HostPath>),
    /// Text.
    Content(Text),
}

/// A path on the host, as it is used and as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPath {
    /// The path used, absolute or relative to the working directory.
    #[serde(skip)]
    pub path: PathBuf,
    /// The path shown: masked, relative to the project where it is inside.
    pub shown: String,
    /// The path ended in a slash: contents rather than the folder itself.
    pub contents_only: bool,
    /// Names of the secret values in it; its content is then not in fingerprints.
    pub secrets: BTreeSet<String>,
}

/// An alternative that was chosen for a variable such as `guacd_method`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenAlternative {
    /// The value that the variable got.
    pub value: String,
    /// How it was chosen (`named`, `reachable`).
    pub how: String,
    /// What the user should know about it, also in the manifest.
    pub warning: Option<String>,
    /// The content is past its end of life.
    pub end_of_life: bool,
}
