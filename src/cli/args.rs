//! The commands and their options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::bills::{DIFF_HELP, DiffArgs, NoteArgs, SBOM_HELP, SbomArgs};
use super::cache_args::CacheArgs;
use super::cloud_args::{CloudArgs, CloudCommand, PublishArgs};
use super::import::ImportArgs;
use super::look::LookArgs;
use super::packme_args::PackmeArgs;
use super::steps::Skipped;
use crate::engine::Engine;
use crate::image::Compression;
use crate::pipeline::{CheckpointMemory, CheckpointPolicy};
use crate::starter::Starter;
use crate::template::schema::Document;

/// Builds VM images for research platforms: templates in, bootable and sealed qcow2 out.
#[derive(Debug, Parser)]
#[command(name = "visabuild", version, about, long_about = None, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; `build` if nothing is named.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
No command means build: `visabuild -pp key.pub -rp pw` builds every template of config.yml.
Short spellings: -pp PATH, -rp PW, -hp URL, -np HOSTS, -nh (see `visabuild build --help`).
Exit codes: 0 done; 2 the call or a file is wrong; 3 the host cannot do it; 4 the build failed;
5 verification failed; 6 the cloud refused or was not reachable; 130 interrupted; 143 terminated.";

const BUILD_HELP: &str = "\
Short spellings: -pp PATH = --pam-public, -rp PW = --root-password, -hp URL = --http-proxy,
-np HOSTS = --no-proxy, -nh = --not-headless.
Results: OUTPUT/TEMPLATE/TEMPLATE.qcow2, TEMPLATE.manifest.json, build.log, serial.log; after a
failure OUTPUT/TEMPLATE/failure/.";

const VERIFY_HELP: &str = "\
The image is never written to: it is read, and booted through overlays that are thrown away.
Secrets are given as to the build: what is given is looked for on every byte of the disk.
Exit codes: 0 no check failed, and all were made but those that need a value which was not given;
5 one failed or could not be made; 2 the call or a file is wrong; 3 the host cannot do it.";

const WHY_HELP: &str = "\
Each template is compared with what its newest image was made of. Nothing is booted or built.
Secrets need not be given; whether they changed is known only if they are (-rp, -pp).
Exit codes: 0 said, also where nothing changed; 2 the call or a file is wrong; 3 the cache cannot be read.";

const ATTACH_HELP: &str = "\
BUILD is a build's name, its template or the id of its run; it may be left out where one build runs.
A build that verifies has several machines: BUILD/verify-BOOT is one of them.
Without a way, the running builds are listed.
Exit codes: 0 done; 2 several builds are running and none is named, or the one that is named is not
among them; 3 no build is running, or it is not yet where it could be attached to; of `ssh` its own.";

const INIT_HELP: &str = "\
Nothing is overwritten: where a file is there already, nothing is written, and all such files are named (exit 2).
Exit codes: 0 done; 2 the call is wrong, or a file is there already; 3 the folder cannot be written to.";

const SCHEMA_HELP: &str = "\
Editors check and complete a file by it: write it to a file, and name that in a first line such as
# yaml-language-server: $schema=../../.schema/manifest.json (docs/schema.md).";

const IMPORT_HELP: &str = "\
Variables come from PKR_VAR_NAME, *.auto.pkrvars.hcl, --var-file and --var, the last wins.
What visabuild has no counterpart of is listed with file and line, and nothing is written, unless
--partial is given. No file is ever replaced.
Exit codes: 0 written; 2 the call or the Packer project is wrong, or something cannot be imported;
3 a file cannot be written.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new project
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Build templates and the templates they extend
    #[command(after_help = BUILD_HELP)]
    Build(Box<BuildArgs>),
    /// Check config.yml, templates and their files; builds nothing
    Validate(ProjectArgs),
    /// Show what would be built, what is there of it, and how long the rest took last
    Plan(PlanArgs),
    /// Say what a build would do and why: which step is done again, and what changed
    #[command(after_help = WHY_HELP)]
    Why(WhyArgs),
    /// Boot an image as the cloud would, and prove that it keeps its platform's contract
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Print the software bill of materials of an image, as SPDX or CycloneDX
    #[command(after_help = SBOM_HELP)]
    Sbom(SbomArgs),
    /// Print which packages of an image are not as in another one
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Print a release note of an image, as Markdown
    #[command(after_help = SBOM_HELP)]
    ReleaseNote(NoteArgs),
    /// Publish images, and what is done with them in the cloud.
    #[command(flatten)]
    Cloud(CloudCommand),
    /// Look into a running build: its screen, serial console, a shell in its guest
    #[command(after_help = ATTACH_HELP)]
    Attach(AttachArgs),
    /// See what is kept between builds, throw away what is not needed, prove that it is whole
    Cache(CacheArgs),
    /// Write Packer's manifest.json as packme does, for scripts that call packme today; `-r` builds
    #[command(after_help = super::packme_args::HELP, infer_long_args = true)]
    Packme(PackmeArgs),
    /// Make a project of visabuild's out of one of Packer's
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Say whether this host can build, and what is missing
    Doctor(DoctorArgs),
    /// Print the JSON Schema of a project's files
    #[command(after_help = SCHEMA_HELP)]
    Schema {
        /// The file
        #[arg(value_enum, value_name = "FILE", default_value = "manifest")]
        document: Document,
    },
    /// Print a script by which a shell completes words
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of a command
    Man {
        /// The command
        #[arg(value_name = "COMMAND", conflicts_with = "output")]
        name: Option<String>,
        /// Write all pages into this folder instead
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder of the project; it is made if it is not there
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub directory: PathBuf,
    /// What to begin with
    #[arg(long, value_enum, value_name = "KIND", default_value = "visa")]
    pub kind: Starter,
    /// How visabuild was called.
    #[arg(skip)]
    pub program: String,
}

/// Where the project is and what its templates see.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    /// Templates to take, with the templates they extend; none means all
    #[arg(value_name = "TEMPLATE")]
    pub templates: Vec<String>,
    /// Folder with config.yml and templates/
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub directory: PathBuf,
    /// RSA public key (PEM) of the platform, for the PAM module
    #[arg(long, value_name = "PATH", env = "VISA_PAM_PUBLIC_KEY", hide_env_values = true)]
    pub pam_public: Option<PathBuf>,
    /// Accept a key whose tokens are too long to ever log in through XRDP
    #[arg(long)]
    pub accept_key_size: bool,
    /// Root's password for the console of the image
    #[arg(long, value_name = "PW", env = "VISA_ROOT_PASSWORD", hide_env_values = true, conflicts_with = "lock_root")]
    pub root_password: Option<SecretString>,
    /// File whose first line is root's password
    #[arg(long, value_name = "PATH", conflicts_with_all = ["root_password", "lock_root"])]
    pub root_password_file: Option<PathBuf>,
    /// Ship no root password: root stays locked
    #[arg(long)]
    pub lock_root: bool,
    /// Proxy for the build
    #[arg(long, value_name = "URL", env = "VISA_HTTP_PROXY", hide_env_values = true)]
    pub http_proxy: Option<String>,
    /// Hosts that are reached without the proxy, separated by commas
    #[arg(long, value_name = "HOSTS", env = "VISA_NO_PROXY_HOSTS", hide_env_values = true)]
    pub no_proxy: Option<String>,
    /// Package mirror; the build host's own if not set
    #[arg(long, value_name = "URL", env = "VISABUILD_MIRROR", hide_env_values = true)]
    pub mirror: Option<String>,
    /// How the base disk is made, where a template has both ways
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", env = "VISABUILD_BASE")]
    pub base: BaseChoice,
    /// Leave the network alone: what is not in the cache is an error
    #[arg(long, env = "VISABUILD_OFFLINE", action = clap::ArgAction::SetTrue)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Virtual machines are emulated, whatever the host can do.
    #[arg(skip)]
    pub emulate: bool,
    /// Steps that are left out, at the user's word after they had failed.
    #[arg(skip)]
    pub skipped: Vec<Skipped>,
    /// Certificate authority (PEM) that the guest trusts during the build; may be repeated
    #[arg(long, value_name = "PATH")]
    pub ca_cert: Vec<PathBuf>,
    /// Show QEMU's own window
    #[arg(long)]
    pub not_headless: bool,
    /// JSON lines on standard output instead of text
    #[arg(long)]
    pub json: bool,
}

/// Options of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The command line that does the same again, without secrets.
    #[arg(skip)]
    pub again: String,
    /// What the templates see.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// What boots the guests [default: qemu, or the project's]
    #[arg(long, value_enum, value_name = "WHICH", env = "VISABUILD_ENGINE")]
    pub engine: Option<Engine>,
    /// How a virtual machine's processor is made
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto", env = "VISABUILD_ACCEL")]
    pub accel: AcceleratorChoice,
    /// After a failure: remove the machine's disk, keep it to look at, or ask while the guest runs
    #[arg(long, value_enum, value_name = "WHAT", default_value = "cleanup")]
    pub on_error: OnError,
    /// Show the build in a browser: steps, log, requests, the guest's screen; prints the address
    #[arg(long, env = "VISABUILD_WATCH", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub watch: bool,
    /// After which provisioners the disk is kept, so that a later build can go on from there
    #[arg(long, value_enum, value_name = "WHICH", default_value = "costly", env = "VISABUILD_CHECKPOINTS")]
    pub checkpoints: CheckpointPolicy,
    /// Keep the memory of QEMU's guest with the last of them: it goes on in a second instead of booting
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", env = "VISABUILD_CHECKPOINT_MEMORY")]
    pub checkpoint_memory: CheckpointMemory,
    /// Let guests and the bootstrap fetch packages themselves instead of through the package cache
    #[arg(long, env = "VISABUILD_NO_PACKAGE_CACHE", action = clap::ArgAction::SetTrue)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub no_package_cache: bool,
    /// Build everything anew, also what is unchanged
    #[arg(long)]
    pub force: bool,
    /// Do this step, and all that comes after it, again: its number in `visabuild plan`, its label or its script
    #[arg(long, value_name = "[TEMPLATE:]STEP", conflicts_with = "force")]
    pub from: Option<String>,
    /// End after this step: it is kept for later builds, and no image is made
    #[arg(long, value_name = "[TEMPLATE:]STEP", conflicts_with = "upload")]
    pub until: Option<String>,
    /// Build so many templates at a time that do not lie on each other [default: what CPUs and memory allow]
    #[arg(short, long, value_name = "N", env = "VISABUILD_JOBS", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// CPUs of the build machine [default: the template's, or the host's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: Option<u32>,
    /// Memory of a virtual build machine, MiB [default: the template's, or sized to the host]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(512..))]
    pub memory: Option<u64>,
    /// Publish images without verifying them
    #[arg(long)]
    pub no_verify: bool,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Keyring that verifies the distribution, instead of the host's own
    #[arg(long, value_name = "PATH", requires = "keyring_sha256")]
    pub keyring: Option<PathBuf>,
    /// SHA-256 of that keyring file, hexadecimal
    #[arg(long, value_name = "HEX", requires = "keyring")]
    pub keyring_sha256: Option<String>,
    /// Compression of the qcow2: zstd (QEMU 5.1 and newer) or zlib
    #[arg(long, value_name = "TYPE", env = "VISABUILD_COMPRESSION")]
    pub compression: Option<Compression>,
    /// Publish the finished images; cloud, project, quota and names are looked at before the build begins
    #[arg(long)]
    pub upload: bool,
    /// How they are published.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A qcow2 or raw image, or a template whose image is in the results
    #[arg(value_name = "IMAGE|TEMPLATE")]
    pub subject: PathBuf,
    /// Project folder of a template
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub directory: PathBuf,
    /// Folder of the results of a template [default: DIR/builds]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What it must keep: a contract's name, or a file [default: what its manifest says, else visa]
    #[arg(long, value_name = "NAME|FILE")]
    pub contract: Option<String>,
    /// Make these checks only: ids, or areas such as GUAC
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<String>,
    /// Leave these checks out
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Components that the image must have, such as jupyter
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub require: Vec<String>,
    /// The report as JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the report as one HTML file, with pictures of the desktop
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the pictures of the desktop into this folder, as PNG
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Show every check, also those that passed
    #[arg(short, long)]
    pub verbose: bool,
    /// Accept an image that lies on another file (a backing file), which is then read as well
    #[arg(long)]
    pub allow_backing: bool,
    /// Show the verification in a browser: steps, log, the guests' screens; prints the address
    #[arg(long, env = "VISABUILD_WATCH", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub watch: bool,
    /// Keep overlays, metadata and serial logs, and say where
    #[arg(long)]
    pub keep: bool,
    /// Root's password as it was given to the build
    #[arg(long, value_name = "PW", env = "VISA_ROOT_PASSWORD", hide_env_values = true)]
    pub root_password: Option<SecretString>,
    /// File whose first line is root's password
    #[arg(long, value_name = "PATH", conflicts_with = "root_password")]
    pub root_password_file: Option<PathBuf>,
    /// Proxy of the build, whose credentials must not be in the image
    #[arg(long, value_name = "URL", env = "VISA_HTTP_PROXY", hide_env_values = true)]
    pub http_proxy: Option<String>,
    /// File with further secrets that must not be in the image, one a line
    #[arg(long, value_name = "PATH")]
    pub secrets_file: Option<PathBuf>,
    /// How the instance's processor is made
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto", env = "VISABUILD_ACCEL")]
    pub accel: AcceleratorChoice,
    /// CPUs of an instance [default: the host's for the first boot, a share of them for the others]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: Option<u32>,
    /// Boots at a time [default: as many as the host has CPUs and memory for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub jobs: Option<u8>,
    /// Memory of an instance, MiB [default: 3072]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(512..))]
    pub memory: Option<u64>,
}

/// Options of `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// How to look into it
    #[command(subcommand)]
    pub way: Option<AttachWay>,
}

/// Which build is meant.
#[derive(Debug, Args)]
pub struct BuildName {
    /// A running build: its name, its template or the id of its run
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
}

/// How to look into a running build.
#[derive(Debug, Subcommand)]
pub enum AttachWay {
    /// Print where the screen is, and show it where a VNC viewer and a display are there
    Vnc(BuildName),
    /// Show what the serial console has said and says, until the machine ends or Ctrl-C
    Serial(BuildName),
    /// Log into the guest with the build's own key, or run a command there
    Ssh {
        /// Which build.
        #[command(flatten)]
        build: BuildName,
        /// A command for the guest instead of a shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Write the screen as PNG: to FILE, `-` for standard output [default: BUILD.png]
    #[command(override_usage = "visabuild attach screenshot [BUILD] [FILE]")]
    Screenshot {
        /// A running build, and the file; one word that is no running build and has a `.` or `/`, or is `-`, is the file
        #[arg(value_name = "BUILD|FILE", num_args = 0..=2)]
        words: Vec<String>,
    },
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What the templates see.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Where results are looked for.
    #[command(flatten)]
    pub look: LookArgs,
    /// Form of the plan
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub format: PlanFormat,
}

/// Options of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// What the templates see.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Where results are looked for.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What boots the guests [default: qemu]
    #[arg(long, value_enum, value_name = "WHICH", env = "VISABUILD_ENGINE")]
    pub engine: Option<Engine>,
    /// Package mirror to examine; the build host's own if not set
    #[arg(long, value_name = "URL", env = "VISABUILD_MIRROR", hide_env_values = true)]
    pub mirror: Option<String>,
    /// Proxy for the build
    #[arg(long, value_name = "URL", env = "VISA_HTTP_PROXY", hide_env_values = true)]
    pub http_proxy: Option<String>,
    /// Hosts that are reached without the proxy, separated by commas
    #[arg(long, value_name = "HOSTS", env = "VISA_NO_PROXY_HOSTS", hide_env_values = true)]
    pub no_proxy: Option<String>,
    /// Folder for the results, whose free space is examined
    #[arg(long, value_name = "DIR", default_value = "builds")]
    pub output: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcceleratorChoice {
    /// KVM where it can really run a guest, else emulation
    Auto,
    /// KVM, or fail
    Kvm,
    /// Emulation
    Tcg,
}

/// `--base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BaseChoice {
    /// The installer where KVM works and the mirror has all that it asks for, else bootstrap
    Auto,
    /// The distribution's own installer runs in a virtual machine
    Installer,
    /// mmdebstrap makes the root file system, the disk is assembled from it
    Bootstrap,
}

/// `--on-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Remove the disk; logs, screen and serial console are kept in `failure/`
    Cleanup,
    /// Keep the disk too, and say how to boot it
    Keep,
    /// Ask at the terminal while the guest runs: try the step again, a shell in the guest, skip the step, or give up
    Ask,
}

/// `plan --format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// Packer's JSON of one template, as packme writes it to manifest.json
    Packer,
}
