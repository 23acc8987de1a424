//! `TEMPLATE.manifest.json`: what an image is made of, for people, CI and `upload`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Checksums;
use crate::changes::Changes;
use crate::engine::Engine;
use crate::inventory::Inventory;
use crate::os_release::OsRelease;
use crate::package_cache::FetchedFile;
use crate::plan::{Stage, Step};
use crate::template::{ChosenAlternative, Text, Verification};

/// Version of the manifest's form.
pub const VERSION: u32 = 1;

/// The manifest of one image. It holds no secret and nothing that guesses could be tested on.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Template name.
    pub template: String,
    /// The template's description.
    pub description: String,
    /// When the image was finished, RFC 3339, UTC.
    pub created: String,
    /// The visabuild that made it.
    pub visabuild: String,
    /// Commit of the project that the templates came from, with `-dirty` if files differed.
    pub commit: Option<String>,
    /// The file.
    pub image: ImageFile,
    /// Where it started from and every layer up to it, base first.
    pub layers: Vec<LayerRecord>,
    /// Everything that was asked for and can change the result.
    pub inputs: Inputs,
    /// What the image must keep (`visabuild verify`).
    pub verification: Option<Verification>,
    /// Facts of the host that built it; they do not shape the content.
    pub host: HostFacts,
    /// Phase names and wall times in seconds, in order, of this image's own stage and seal.
    pub timings: Vec<Timing>,
    /// What the user should know (content past its end of life, say).
    pub warnings: Vec<String>,
    /// Whether any content is past its end of life; `upload` asks before promoting such an image.
    pub end_of_life: bool,
    /// The system inside, where it says what it is.
    pub os: Option<System>,
    /// What the seal fetched through the package cache, sorted by URL.
    pub seal_fetched: Vec<FetchedFile>,
    /// Installed packages of the system, `name` to `version`.
    pub packages: BTreeMap<String, String>,
    /// All that is installed: packages of the system, Python distributions, npm packages.
    pub inventory: Inventory,
    /// What is not as in the image that this one replaced; none of the first.
    pub changes: Option<Changes>,
}

/// The image file.
#[derive(Debug, Clone, Serialize)]
pub struct ImageFile {
    /// File name, beside the manifest.
    pub file: String,
    /// `qcow2`.
    pub format: String,
    /// `zstd` or `zlib`.
    pub compression: String,
    /// Size that a guest sees, bytes.
    pub virtual_size: u64,
    /// File size, bytes.
    pub size: u64,
    /// SHA-256 and SHA-512.
    #[serde(flatten)]
    pub checksums: Checksums,
}

/// One layer below the image.
#[derive(Debug, Clone, Serialize)]
pub struct LayerRecord {
    /// The template, or `base`.
    pub template: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// What booted it; nothing did for a base.
    pub engine: Option<Engine>,
    /// When it was built, RFC 3339, UTC.
    pub created: String,
    /// Wall time of its building, seconds.
    pub seconds: f64,
    /// Its phases.
    pub timings: Vec<Timing>,
    /// What was fetched for it through the package cache, sorted by URL.
    pub fetched: Vec<FetchedFile>,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Inputs {
    /// Fingerprint of the layer below the image.
    pub fingerprint: String,
    /// Fingerprint of the image without its secrets.
    pub seal_fingerprint: String,
    /// `packer.variables`, masked.
    pub variables: BTreeMap<String, Text>,
    /// Alternatives chosen, by variable.
    pub alternatives: BTreeMap<String, ChosenAlternative>,
    /// Provisioners of the layer with the files that they read.
    pub steps: Vec<Step>,
    /// Provisioners of the seal.
    pub seal_steps: Vec<Step>,
    /// Whether root has a password for the console.
    pub root_password: bool,
    /// `keep` or `remove`.
    pub ca_certificates: String,
    /// Names of the secrets inside.
    pub secrets: Vec<String>,
}

impl Inputs {
    /// What `stage` asks for.
    pub fn of(stage: &Stage) -> Self {
        Self {
            fingerprint: stage.fingerprint.to_string(),
            seal_fingerprint: stage.seal.fingerprint.to_string(),
            variables: stage.variables.clone(),
            alternatives: stage.alternatives.clone(),
            steps: stage.steps.clone(),
            seal_steps: stage.seal.steps.clone(),
            root_password: stage.seal.root_password.is_some(),
            ca_certificates: stage.seal.ca_certificates.to_owned(),
            secrets: stage.seal.secrets.iter().cloned().collect(),
        }
    }
}

/// Facts of the host.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// What booted the image to seal it.
    pub engine: Engine,
    /// `kvm` or `tcg`, of the engine `qemu`.
    pub accelerator: Option<String>,
    /// How the base disk was made, and why so.
    pub base: String,
    /// First line of the engine's `--version`.
    pub engine_version: String,
    /// The package mirror, without credentials.
    pub mirror: String,
    /// CPUs of the build machine.
    pub cpus: u32,
    /// Memory of the build machine, MiB, of the engine `qemu`; a container has no limit of its own.
    pub memory: Option<u64>,
}

/// The system inside, as os-release(5) says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `13`; empty for a release without one.
    pub version: String,
}

impl System {
    /// Out of the text of os-release(5).
    pub fn parse(text: &str) -> Option<Self> {
        let release = OsRelease::parse(text);
        let id = release.get("ID")?;
        Some(Self { id, version: release.get("VERSION_ID").unwrap_or_default() })
    }
}

/// A phase's wall time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timing {
    /// Phase name.
    pub phase: String,
    /// Seconds.
    pub seconds: f64,
}

impl Timing {
    /// Timings out of pairs.
    pub fn list(pairs: &[(String, f64)]) -> Vec<Self> {
        pairs.iter().map(|(phase, seconds)| Self { phase: phase.clone(), seconds: *seconds }).collect()
    }
}

/// This moment as RFC 3339 in UTC, in whole seconds.
pub fn rfc3339_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(1_795_261_800), "2026-11-21T11:50:00Z");
    }

    #[test]
    fn the_system_is_what_os_release_says() {
        let debian = System::parse("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n").unwrap();
        assert_eq!((debian.id.as_str(), debian.version.as_str()), ("debian", "13"));
        assert_eq!(System::parse("ID=arch\n").unwrap().version, "");
        assert_eq!(System::parse(""), None);
    }
}
