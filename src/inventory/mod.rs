//! What is installed in an image: packages of the system, Python distributions, npm packages.
//!
//! [`SCRIPT`] lists it in the guest before the seal, [`Inventory::read`] takes that for what it is: text that packages
//! wrote, which may be broken, long or hostile.

mod licence;
mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use licence::expression;

/// Lists what is installed, for POSIX's sh; says itself in which form.
pub const SCRIPT: &str = include_str!("collect.sh");

/// What is installed, each list sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Packages of dpkg, installed ones only.
    #[serde(default)]
    pub debian: Vec<Entry>,
    /// Packages of rpm, without the keys that it counts as such.
    #[serde(default)]
    pub rpm: Vec<Entry>,
    /// Python distributions, of the system and of environments.
    #[serde(default)]
    pub python: Vec<Entry>,
    /// npm packages below folders `node_modules`, each once for the folder of the outermost.
    #[serde(default)]
    pub npm: Vec<Entry>,
    /// There is more of Python and npm than was listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// One installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its name as its own metadata spell it.
    pub name: String,
    /// Its version; of rpm with epoch and release.
    pub version: String,
    /// Its architecture, in words of dpkg or rpm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The source package, where it has another name; of rpm the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The source package's version, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// dpkg's maintainer, rpm's vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    /// Its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The licence as its own metadata say it; not always an expression of SPDX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The environment (`/opt/jupyter`, `/usr`) or folder that it is installed in, of Python and npm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The package of dpkg or rpm that it came with, of Python and npm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Who a package is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// dpkg
    Debian,
    /// rpm
    Rpm,
    /// Python's package index
    Python,
    /// npm's registry
    Npm,
}

impl Ecosystem {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Debian, Self::Rpm, Self::Python, Self::Npm];

    /// What people call one.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Debian => "Debian package",
            Self::Rpm => "RPM package",
            Self::Python => "Python distribution",
            Self::Npm => "npm package",
        }
    }

    /// What people call several.
    pub fn title(self) -> String {
        format!("{}s", self.noun())
    }

    /// The form of a name in which two spellings of one package are equal: that of the "Names and normalization"
    /// specification of Python's packaging, where runs of `-`, `_` and `.` are one; others spell names one way.
    pub fn normalized(self, name: &str) -> String {
        if self != Self::Python {
            return name.to_owned();
        }
        let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_lowercase()
    }
}

impl Inventory {
    /// The packages of one kind.
    pub fn of(&self, ecosystem: Ecosystem) -> &[Entry] {
        match ecosystem {
            Ecosystem::Debian => &self.debian,
            Ecosystem::Rpm => &self.rpm,
            Ecosystem::Python => &self.python,
            Ecosystem::Npm => &self.npm,
        }
    }

    /// What an SBOM lists: a distribution or module that came with a system package is that package, whose own version
    /// says what was mended in it.
    pub fn counted(&self) -> impl Iterator<Item = (Ecosystem, &Entry)> {
        let all = Ecosystem::ALL.into_iter().flat_map(|kind| self.of(kind).iter().map(move |entry| (kind, entry)));
        all.filter(|(_, entry)| entry.owner.is_none())
    }

    /// Packages of the system, `name` to `version`, as manifests have had them from the beginning: rpm's without epoch.
    pub fn system_packages(&self) -> BTreeMap<String, String> {
        let version = |entry: &Entry| entry.version.clone();
        let debian = self.debian.iter().map(|entry| (entry.name.clone(), version(entry)));
        let without_epoch =
            |entry: &Entry| entry.version.split_once(':').map_or_else(|| version(entry), |(_, rest)| rest.to_owned());
        debian.chain(self.rpm.iter().map(|entry| (entry.name.clone(), without_epoch(entry)))).collect()
    }
}

#[cfg(test)]
mod tests;
