//! Files out of a Debian package: the kernel and initrd of an installer, say.
//!
//! The package is found and fetched by APT with a state of its own, so that the signed index vouches for it:
//! `InRelease` is verified with a keyring that the host trusts ([`super::keyring`]), it has the hash of `Packages`,
//! and that has the hash of the package (apt-secure(8)). APT reaches the mirror as the host's own does. Packages are
//! kept with the other downloads; a version that was fetched once needs no network any more.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::apt::{Acquire, Mirrors};
use super::keyring::{self, Pinned};
use super::write_private;
use crate::download::{Digest, Downloader, Fetched};
use crate::error::{Context, Error, Kind, Result};
use crate::event::Phase;
use crate::process::Run;

pub use archive::extract;

mod archive;

/// The architecture of all images.
const ARCHITECTURE: &str = "amd64";

/// A package and the suite that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// For example `trixie`.
    pub suite: String,
    /// For example `main`.
    pub components: Vec<String>,
    /// For example `debian-installer-13-netboot-amd64`.
    pub package: String,
    /// The newest if none.
    pub version: Option<String>,
}

/// What the host provides.
#[derive(Debug)]
pub struct Host<'a> {
    /// Where packages come from.
    pub mirrors: &'a Mirrors,
    /// How APT gets there.
    pub acquire: &'a Acquire,
    /// A keyring to use instead of the host's.
    pub keyring: Option<&'a Pinned>,
    /// A private folder for APT's state; remains of an earlier run in it do no harm.
    pub work_dir: &'a Path,
}

/// A package that is there.
#[derive(Debug)]
pub struct Package {
    /// Its version.
    pub version: String,
    /// The .deb.
    pub file: Fetched,
}

/// What the index says of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    version: String,
    sha256: String,
}

/// Fetches the package into the cache. With a version, or when the index cannot be had, the cache is enough.
///
/// # Errors
/// A name cannot be one (kind usage); the mirror cannot be reached, its index is not signed by a key that the host
/// trusts, or has no such package (kind host), and the cache has not got it either; or `cancel` fires.
pub async fn fetch(
    wanted: &Wanted,
    host: &Host<'_>,
    downloader: &Downloader,
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<Package> {
    wanted.check()?;
    let subject = wanted.to_string();
    let known = downloader.noted::<Entry>("package", &subject);
    let cached = known.as_ref().and_then(|entry| Some((entry, entry.digest()?)));
    let cached = cached.and_then(|(entry, digest)| Some((entry, downloader.cached(&digest).ok()??)));
    let cached = cached.map(|(entry, file)| Package { version: entry.version.clone(), file });
    match cached {
        Some(package) if wanted.version.is_some() || downloader.is_offline() => return Ok(package),
        None if downloader.is_offline() => {
            let error =
                Error::host(format!("the package {subject} is not in the cache, and the network is left alone"));
            return Err(error.hint("build once with the network"));
        }
        _ => {}
    }
    let found = from_mirror(wanted, host, downloader, phase, cancel).await;
    match (found, cached) {
        (Ok((entry, file)), _) => {
            downloader.note("package", &subject, &entry)?;
            Ok(Package { version: entry.version, file })
        }
        (Err(error), Some(package)) if error.kind() == Kind::Host => {
            let because = error.chain().join(": ");
            let text = format!("{subject} {} from the cache is used: {because}", package.version);
            phase.events().warn(Some(phase.template()), text);
            Ok(package)
        }
        (Err(error), _) => Err(error.context(format!("cannot get the package {subject}"))),
    }
}

async fn from_mirror(
    wanted: &Wanted,
    host: &Host<'_>,
    downloader: &Downloader,
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<(Entry, Fetched)> {
    let apt = Apt::new(wanted, host, cancel).await?;
    apt.run(&["-q", "update"]).reported(cancel, phase).await?;
    let uris = apt.run(&["-q", "download", "--print-uris", &wanted.specification()]).output(cancel).await?;
    let entry = uris.lines().find_map(|line| Entry::parse(line, &wanted.package));
    // What apt-get said may hold the mirror's credentials.
    let none = || Error::host(format!("the index tells no SHA-256 of {wanted}"));
    let entry = entry.ok_or_else(none)?;
    let digest = entry.digest().ok_or_else(none)?;
    let _lock = downloader.lock(&digest, &wanted.package, phase, cancel).await?;
    if let Some(file) = downloader.cached(&digest)? {
        return Ok((entry, file));
    }
    // Exactly the version that the index named above.
    let specification = format!("{}={}", wanted.package, entry.version);
    // APT's own progress: apt-get --help is silent about it, apt's README.progress-reporting is not.
    let run = apt.run(&["-q", "-o", "APT::Status-Fd=1", "download", &specification]);
    run.lines(cancel, |stream, line| match percent(line) {
        Some(percent) => phase.progress(percent, Some(100), "percent"),
        None => phase.output(stream, line),
    })
    .await?;
    let file = apt.downloaded()?;
    let file = downloader.adopt(&file, &digest, phase, cancel).await?;
    Ok((entry, file))
}

impl Wanted {
    /// Names go into argument lists and paths (Debian Policy 5.6.1 and 5.6.12).
    fn check(&self) -> Result<()> {
        let made_of = |name: &str, also: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        let bad = |what: &str, name: &str| Err(Error::usage(format!("`{name}` is not the name of {what}")));
        if !made_of(&self.package, "+-.") {
            return bad("a package", &self.package);
        }
        if !made_of(&self.suite, "-") {
            return bad("a suite", &self.suite);
        }
        if let Some(name) = self.components.iter().find(|name| !made_of(name, "-")) {
            return bad("an archive component", name);
        }
        match &self.version {
            Some(version) if !made_of(version, ".+-~:") => bad("a version", version),
            _ => Ok(()),
        }
    }

    fn specification(&self) -> String {
        match &self.version {
            Some(version) => format!("{}={version}", self.package),
            None => self.package.clone(),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.specification(), self.suite)
    }
}

impl Entry {
    /// Reads a line of `apt-get --print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HEX`.
    fn parse(line: &str, package: &str) -> Option<Self> {
        let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut fields = rest.split_ascii_whitespace();
        let name = percent_encoding::percent_decode_str(fields.next()?).decode_utf8().ok()?;
        let (before, _architecture) = name.strip_suffix(".deb")?.rsplit_once('_')?;
        let version = before.strip_prefix(package)?.strip_prefix('_')?.to_owned();
        let sha256 = fields.find_map(|field| field.strip_prefix("SHA256:"))?.to_owned();
        Some(Self { version, sha256 })
    }

    fn digest(&self) -> Option<Digest> {
        Digest::of_length(&self.sha256).filter(|digest| digest.to_string().starts_with("sha256:"))
    }
}

/// The percentage in APT's `dlstatus:ITEM:PERCENT:TEXT`.
fn percent(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    percent.split('.').next()?.parse().ok()
}

/// An APT that knows one suite and changes nothing on the host.
struct Apt {
    configuration: PathBuf,
    folder: PathBuf,
}

impl Apt {
    async fn new(wanted: &Wanted, host: &Host<'_>, cancel: &CancellationToken) -> Result<Self> {
        let root = std::path::absolute(host.work_dir.join("package-apt"))
            .context(Kind::Host, || "cannot use the working folder")?;
        let _ = fs::remove_dir_all(&root);
        let made = ["state/lists/partial", "cache/archives/partial", "download"];
        for path in made.map(|part| root.join(part)) {
            fs::create_dir_all(&path).context(Kind::Host, || format!("making {}", path.display()))?;
        }
        let keyring = keyring::find(&wanted.suite, host.mirrors, host.acquire, host.keyring, &root, cancel).await?;
        let keys = keyring.path.display().to_string();
        let sources = host.mirrors.private_deb822(&wanted.suite, &wanted.components, &keys);
        write_private(&root.join("package.sources"), sources.expose_secret())?;
        write_private(&root.join("status"), "")?;
        let configuration = root.join("package.conf");
        write_private(&configuration, &configuration_text(&root, host.acquire))?;
        Ok(Self { configuration, folder: root.join("download") })
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::new("apt-get", arguments.iter().copied())
            .with(|command| {
                command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C").current_dir(&self.folder);
            })
            .kind(Kind::Host)
    }

    fn downloaded(&self) -> Result<PathBuf> {
        let entries = fs::read_dir(&self.folder).context(Kind::Host, || "reading what apt-get downloaded")?;
        let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        paths
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| Error::host("apt-get downloaded no package, and did not say why"))
    }
}

/// An apt.conf(5) that leaves the host's out: what matters of it is in `acquire`.
fn configuration_text(root: &Path, acquire: &Acquire) -> String {
    let acquire = acquire.configuration.expose_secret();
    let root = root.display();
    format!(
        "{acquire}\
         Dir::Etc::Parts \"/dev/null\";\n\
         Dir::Etc::Main \"/dev/null\";\n\
         Dir::Etc::SourceList \"{root}/package.sources\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::State \"{root}/state\";\n\
         Dir::State::Status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         APT::Architecture \"{ARCHITECTURE}\";\n\
         APT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         APT::Update::Error-Mode \"any\";\n\
         Acquire::Languages \"none\";\n"
    )
}

#[cfg(test)]
mod tests;
