//! The `bootstrap` builder: mmdebstrap makes the root file system, mke2fs writes it into a disk.
//!
//! Everything that handles the tree runs in name spaces of its own ([`namespace`]): an ordinary
//! user can do it, and nothing outlives visabuild.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apt::{Acquire, Mirrors, moving};
use super::boot_loader::{self, RootIds};
use super::disk::{self, Layout, ROOT_LABEL};
use super::keyring::{self, Keyring, Pinned};
use super::{namespace, write_private};
use crate::error::{Context, Error, Kind, Result};
use crate::event::Phase;
use crate::process::Run;
use crate::template::Bootstrap;

/// What is done to the tree that mmdebstrap made, natively.
pub const CONFIGURE_SCRIPT: &str = include_str!("configure.sh");
/// ext4 as the oldest supported guest knows it, whatever this host's own defaults are.
pub const MKE2FS_CONFIGURATION: &str = include_str!("mke2fs.conf");

/// What the host provides.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where packages come from.
    pub mirrors: Mirrors,
    /// How APT gets there.
    pub acquire: Acquire,
    /// A keyring to use instead of the host's.
    pub keyring: Option<Pinned>,
    /// A private folder for scratch and results, about 3 GiB; remains of an earlier run in it are removed.
    pub work_dir: PathBuf,
}

/// A disk that boots under BIOS and under UEFI.
#[derive(Debug, Clone)]
pub struct BaseDisk {
    /// A qcow2 without backing file.
    pub disk: PathBuf,
    /// What is installed, by name.
    pub packages: Vec<Package>,
    /// What the suite was verified with.
    pub keyring: String,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Binary package.
    pub name: String,
    /// Debian version.
    pub version: String,
}

/// Makes the disk that `spec` describes in `host.work_dir`.
///
/// # Errors
/// The template asks for something impossible (kind usage), the host cannot do it (kind host),
/// mmdebstrap, mke2fs or qemu-img fail (kind build), or `cancel` fires.
pub async fn build(spec: &Bootstrap, host: &Host, phase: &Phase, cancel: &CancellationToken) -> Result<BaseDisk> {
    check_names(spec)?;
    let layout = Layout::new(spec.disk_size)?;
    namespace::check(cancel).await?;
    let scratch = Scratch::new(&host.work_dir, cancel).await?;
    let result = scratch.build(spec, host, &layout, phase, cancel).await;
    // Also after a cancellation, whose token would stop the removal at once.
    let removed = scratch.remove(&CancellationToken::new()).await;
    let base = result?;
    removed.map(|()| base)
}

/// Removes what an interrupted [`build`] left in `work_dir`. The tree in it may belong to the
/// user's subordinate ids, which an ordinary removal cannot do.
///
/// # Errors
/// It cannot be removed (kind host).
pub async fn clean(work_dir: &Path, cancel: &CancellationToken) -> Result<()> {
    Scratch { folder: scratch_folder(work_dir) }.remove(cancel).await
}

/// Package and suite names go into argument lists of programs that give other characters a
/// meaning: paths, patterns, options, lists. Rules: Debian Policy 5.6.1, with apt's `/suite`,
/// `=version` and `-` at the end.
fn check_names(spec: &Bootstrap) -> Result<()> {
    let plain = |name: &str, also: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
    };
    let package = |name: &str| {
        let end = name.find(['=', '/']).unwrap_or(name.len());
        plain(&name[..end], "+-.:") && name[end..].chars().all(|c| c.is_ascii_alphanumeric() || "=/+-.:~_".contains(c))
    };
    let bad = |what: &str, name: &str| Err(Error::usage(format!("`{name}` is not the name of {what}")));
    if !plain(&spec.suite, "-") {
        return bad("a suite", &spec.suite);
    }
    if spec.variant != "-" && !plain(&spec.variant, "") {
        return bad("an mmdebstrap variant", &spec.variant);
    }
    if let Some(name) = spec.components.iter().find(|name| !plain(name, "-")) {
        return bad("an archive component", name);
    }
    spec.packages.iter().find(|name| !package(name)).map_or(Ok(()), |name| bad("a package", name))
}

fn scratch_folder(work_dir: &Path) -> PathBuf {
    work_dir.join("bootstrap.tmp")
}

/// The folder that a build works in; gone when the build ends.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    async fn new(work_dir: &Path, cancel: &CancellationToken) -> Result<Self> {
        let scratch = Self { folder: scratch_folder(work_dir) };
        scratch.remove(cancel).await?;
        fs::create_dir_all(&scratch.folder).context(Kind::Host, || format!("making {}", scratch.folder.display()))?;
        Ok(scratch)
    }

    async fn remove(&self, cancel: &CancellationToken) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let arguments = ["-rf".as_ref(), "--one-file-system".as_ref(), "--".as_ref(), self.folder.as_os_str()];
        namespace::run("rm", arguments).kind(Kind::Host).output(cancel).await.map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("root")
    }

    async fn build(
        &self,
        spec: &Bootstrap,
        host: &Host,
        layout: &Layout,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<BaseDisk> {
        let pinned = host.keyring.as_ref();
        let keyring = keyring::find(&spec.suite, &host.mirrors, &host.acquire, pinned, &self.folder, cancel).await?;
        phase.events().info(Some(phase.template()), format!("{} is verified with {}", spec.suite, keyring.origin));
        if host.mirrors.security.is_none() && !moving(&spec.suite) {
            let text = "this host's APT configuration names no security mirror: the image will get no security updates";
            phase.events().warn(Some(phase.template()), text);
        }
        self.make_tree(spec, host, &keyring, phase, cancel).await?;
        boot_loader::check(&self.tree())?;
        self.configure(spec, host, cancel).await?;
        let packages = self.installed_packages()?;
        let disk = self.make_disk(layout, &host.work_dir, cancel).await?;
        Ok(BaseDisk { disk, packages, keyring: keyring.origin })
    }

    async fn make_tree(
        &self,
        spec: &Bootstrap,
        host: &Host,
        keyring: &Keyring,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<()> {
        // Files instead of arguments, because mirrors and proxies may hold credentials.
        let sources = self.path("mmdebstrap.sources");
        let keys = keyring.path.display().to_string();
        let text = host.mirrors.private_deb822(&spec.suite, &spec.components, &keys);
        write_private(&sources, text.expose_secret())?;
        let apt = self.path("mmdebstrap.conf");
        // APT's own user could not read a keyring in this private folder.
        let configuration = format!("{}APT::Sandbox::User \"root\";\n", host.acquire.configuration.expose_secret());
        write_private(&apt, &configuration)?;

        let run = namespace::run("mmdebstrap", mmdebstrap_arguments(spec, &self.tree(), &sources, &apt));
        let mut progress = Progress::default();
        run.with(|command| {
            // Its temporary files go where they are found after a kill.
            command.env("LC_ALL", "C.UTF-8").env("TMPDIR", &self.folder);
        })
        .lines(cancel, |stream, line| {
            phase.output(stream, line);
            if progress.take(line) {
                phase.progress(progress.done, Some(progress.total), "packages");
            }
        })
        .await
        .map_err(|error| error.context(format!("mmdebstrap could not make `{}`", spec.suite)))
    }

    async fn configure(&self, spec: &Bootstrap, host: &Host, cancel: &CancellationToken) -> Result<()> {
        let tree = self.tree();
        let arguments = ["-c".as_ref(), CONFIGURE_SCRIPT.as_ref(), "configure.sh".as_ref(), tree.as_os_str()];
        let configured = namespace::run("sh", arguments).output(cancel).await;
        configured.map_err(|error| error.context("the new root file system could not be configured"))?;
        let sources = tree.join("etc/apt/sources.list.d/debian.sources");
        fs::write(&sources, host.mirrors.deb822(&spec.suite, &spec.components))
            .context(Kind::Host, || format!("writing {}", sources.display()))
    }

    fn installed_packages(&self) -> Result<Vec<Package>> {
        let path = self.tree().join("var/lib/dpkg/status");
        let status = fs::read_to_string(&path).context(Kind::Build, || format!("reading {}", path.display()))?;
        Ok(parse_status(&status))
    }

    async fn make_disk(&self, layout: &Layout, folder: &Path, cancel: &CancellationToken) -> Result<PathBuf> {
        let raw = self.path("disk.raw");
        let ids = RootIds { file_system: Uuid::new_v4(), partition: disk::create(&raw, layout)? };
        boot_loader::install(&self.tree(), ids, cancel).await?;
        boot_loader::Images::read(&self.tree())?.write(&raw, layout)?;
        let configuration = self.path("mke2fs.conf");
        write_private(&configuration, MKE2FS_CONFIGURATION)?;
        namespace::run("mke2fs", mke2fs_arguments(layout, ids.file_system, &self.tree(), &raw))
            .with(|command| {
                command.env("MKE2FS_CONFIG", &configuration);
            })
            .output(cancel)
            .await
            .map_err(|error| error.context("mke2fs could not write the root file system (is the disk too small?)"))?;
        let disk = folder.join("base.qcow2");
        let arguments = ["convert", "-f", "raw", "-O", "qcow2", "-W"].map(AsRef::as_ref);
        let arguments = arguments.into_iter().chain([raw.as_os_str(), disk.as_os_str()]);
        Run::new("qemu-img", arguments).output(cancel).await?;
        Ok(disk)
    }
}

fn mmdebstrap_arguments(spec: &Bootstrap, tree: &Path, sources: &Path, apt: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--verbose".to_owned(),
        // The name spaces make us root, whoever we are.
        "--mode=root".to_owned(),
        "--format=directory".to_owned(),
        "--architectures=amd64".to_owned(),
        format!("--variant={}", spec.variant),
        format!("--aptopt={}", apt.display()),
        // The tree is worth nothing until it is complete.
        "--dpkgopt=force-unsafe-io".to_owned(),
        // configure.sh says why the machine-id must be another.
        "--skip=cleanup/reproducible/machine-id".to_owned(),
    ];
    if !spec.packages.is_empty() {
        arguments.push(format!("--include={}", spec.packages.join(",")));
    }
    arguments.extend([spec.suite.clone(), tree.display().to_string(), sources.display().to_string()]);
    arguments
}

fn mke2fs_arguments(layout: &Layout, uuid: Uuid, tree: &Path, raw: &Path) -> Vec<String> {
    let kibibytes = (layout.root.end - layout.root.start) / 1024;
    vec![
        "-q".to_owned(),
        "-F".to_owned(),
        "-t".to_owned(),
        "ext4".to_owned(),
        "-L".to_owned(),
        ROOT_LABEL.to_owned(),
        "-U".to_owned(),
        uuid.to_string(),
        "-d".to_owned(),
        tree.display().to_string(),
        "-E".to_owned(),
        format!("offset={}", layout.root.start),
        raw.display().to_string(),
        format!("{kibibytes}k"),
    ]
}

/// Counts packages in the lines of apt and dpkg.
#[derive(Default)]
struct Progress {
    done: u64,
    total: u64,
}

impl Progress {
    /// Whether `line` told something new.
    fn take(&mut self, line: &str) -> bool {
        if let Some(count) = newly_installed(line) {
            self.total += count;
        } else if line.starts_with("Setting up ") {
            self.done += 1;
        } else {
            return false;
        }
        self.done <= self.total
    }
}

/// The count in `0 upgraded, 248 newly installed, 0 to remove …`.
fn newly_installed(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(" newly installed")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Installed packages of a dpkg status file, in its order.
fn parse_status(status: &str) -> Vec<Package> {
    let paragraph = |text: &str| {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let installed = field("Status:")?.ends_with(" installed");
        installed.then_some(Package { name: field("Package:")?, version: field("Version:")? })
    };
    status.split("\n\n").filter_map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(packages: &[&str]) -> Bootstrap {
        Bootstrap {
            suite: "trixie".to_owned(),
            components: vec!["main".to_owned()],
            variant: "minbase".to_owned(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            disk_size: 4 << 30,
            machine: crate::template::Machine::default(),
        }
    }

    #[test]
    fn arguments_name_files_instead_of_mirrors() {
        let arguments =
            mmdebstrap_arguments(&spec(&["sudo", "curl"]), "/w/root".as_ref(), "/w/s".as_ref(), "/w/c".as_ref());
        assert!(arguments.contains(&"--aptopt=/w/c".to_owned()));
        assert_eq!(arguments[arguments.len() - 4..], ["--include=sudo,curl", "trixie", "/w/root", "/w/s"]);
    }

    #[test]
    fn the_file_system_fills_its_partition_and_no_more() {
        let layout = Layout::new(4 << 30).unwrap();
        let arguments = mke2fs_arguments(&layout, Uuid::nil(), "/w/root".as_ref(), "/w/disk".as_ref());
        assert_eq!(
            arguments[11..],
            [format!("offset={}", 102 << 20), "/w/disk".into(), format!("{}k", (4096 - 103) << 10)]
        );
    }

    #[test]
    fn apts_ways_to_name_a_package_are_taken() {
        assert!(
            check_names(&spec(&["g++", "libc6:amd64", "vim=2:9.1+dfsg~1-1", "curl/trixie-backports", "tasksel-"]))
                .is_ok()
        );
    }

    #[test]
    fn progress_counts_what_is_set_up() {
        let mut progress = Progress::default();
        let lines = ["Reading package lists...", "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded."];
        assert_eq!(lines.map(|line| progress.take(line)), [false, true]);
        assert!(progress.take("Setting up sudo (1.9.16p2-3) ..."));
        assert_eq!((progress.done, progress.total), (1, 2));
        assert!(progress.take("Setting up curl (8.14) ...") && !progress.take("Setting up more (1) ..."));
    }

    #[test]
    fn only_installed_packages_are_listed() {
        let status = "Package: sudo\nStatus: install ok installed\nVersion: 1.9\nDescription: x\n Package: y\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let sudo = Package { name: "sudo".to_owned(), version: "1.9".to_owned() };
        assert_eq!(parse_status(status), [sudo]);
    }
}
