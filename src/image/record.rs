//! The manifest of a finished image, as it is read again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::manifest::{self, System};
use crate::changes::Changes;
use crate::error::{Context, Error, Kind, Result};
use crate::inventory::{Ecosystem, Entry, Inventory};

/// `ID`s of os-release(5) whose packages are rpm's.
const RPM: [&str; 11] =
    ["almalinux", "amzn", "centos", "fedora", "ol", "opensuse", "opensuse-leap", "rhel", "rocky", "scientific", "sles"];

/// What the manifest says, as far as it is needed afterwards. What later versions of visabuild have added is not in
/// manifests of earlier ones.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    version: u32,
    /// The template's name.
    pub template: String,
    /// The template's description.
    #[serde(default)]
    pub description: String,
    /// When the image was finished, RFC 3339.
    pub created: String,
    /// The visabuild that made it.
    pub visabuild: String,
    /// Commit of the project.
    pub commit: Option<String>,
    /// The file.
    pub image: File,
    /// What was asked for.
    pub inputs: Inputs,
    /// The system inside.
    #[serde(default)]
    pub os: Option<System>,
    /// Whether any content is past its end of life.
    #[serde(default)]
    pub end_of_life: bool,
    /// What the user should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Installed packages of the system, `name` to `version`.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// All that is installed.
    #[serde(default)]
    inventory: Option<Inventory>,
    /// What is not as in the image before.
    #[serde(default)]
    pub changes: Option<Changes>,
}

/// The file, as the manifest knows it.
#[derive(Debug, Clone, Deserialize)]
pub struct File {
    /// Its name, beside the manifest.
    pub file: String,
    /// Its format, such as `qcow2`.
    #[serde(default)]
    pub format: String,
    /// Its size, bytes.
    pub size: u64,
    /// Size that a guest sees, bytes.
    #[serde(default)]
    pub virtual_size: Option<u64>,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// SHA-512, hexadecimal.
    pub sha512: String,
}

/// What was asked for.
#[derive(Debug, Clone, Deserialize)]
pub struct Inputs {
    /// Fingerprint of the image without its secrets.
    pub seal_fingerprint: String,
    /// Whether root has a password for the console.
    #[serde(default)]
    pub root_password: bool,
}

impl Record {
    /// Reads a manifest; none where there is no file.
    ///
    /// # Errors
    /// It cannot be read, or is no manifest that this visabuild knows (kind usage).
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::usage(format!("cannot read {}", file.display())).because(error)),
        };
        let record: Self =
            serde_json::from_str(&text).context(Kind::Usage, || format!("{} is no manifest", file.display()))?;
        if record.version != manifest::VERSION {
            return Err(Error::usage(format!(
                "{} has the form {}, and this visabuild knows {}",
                file.display(),
                record.version,
                manifest::VERSION
            ))
            .hint("build the image again"));
        }
        Ok(Some(record))
    }

    /// Reads the manifest beside an image of `size` bytes; none of an image that visabuild did not make.
    ///
    /// # Errors
    /// As [`Record::read`], or it is about another image.
    pub fn beside(image: &Path, size: u64) -> Result<Option<Self>> {
        let file = image.with_extension("manifest.json");
        let Some(record) = Self::read(&file)? else { return Ok(None) };
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        if record.image.file != name || record.image.size != size {
            return Err(Error::usage(format!("{} is not the image that {} is about", image.display(), file.display()))
                .hint("build the image again, or take it to a folder without a manifest"));
        }
        Ok(Some(record))
    }

    /// What is installed, and which kinds of packages were looked for: an earlier visabuild listed the system's only.
    pub fn installed(&self) -> (Cow<'_, Inventory>, &'static [Ecosystem]) {
        if let Some(inventory) = &self.inventory {
            return (Cow::Borrowed(inventory), &Ecosystem::ALL);
        }
        let entry = |(name, version): (&String, &String)| Entry {
            name: name.clone(),
            version: version.clone(),
            ..Entry::default()
        };
        let system: Vec<Entry> = self.packages.iter().map(entry).collect();
        if self.os.as_ref().is_some_and(|os| RPM.contains(&os.id.as_str())) {
            return (Cow::Owned(Inventory { rpm: system, ..Inventory::default() }), &[Ecosystem::Rpm]);
        }
        (Cow::Owned(Inventory { debian: system, ..Inventory::default() }), &[Ecosystem::Debian])
    }
}
