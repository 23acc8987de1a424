//! Contracts as data: what a platform demands of an image, in statements that are checked.
//!
//! A contract is a YAML file. Its probes may name facts of the boot that they are made in, as
//! `{{ owner }}`: every key of the boot's metadata, and what [`variables::KNOWN`] lists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checksum::hex;
use crate::error::{Error, Kind, Location, Result, read_to_string};
use sha2::{Digest, Sha256};

pub use probe::{Expect, GUACD, JUPYTER, Login, PamResult, Picture, Presence, Probe, Token, What};

mod probe;
mod probe_keys;
mod read;
pub mod variables;

/// The contracts that visabuild brings along: name and text.
const SHIPPED: [(&str, &str); 2] =
    [("visa", include_str!("../contracts/visa.yml")), ("cloud", include_str!("../contracts/cloud.yml"))];

/// What a check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The image's files and bytes.
    Static,
    /// A booted instance.
    Boot,
    /// A connection from outside.
    Net,
    /// Power cuts, restarts, shutdowns.
    Life,
}

/// A contract.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Its name.
    pub name: String,
    /// SHA-256 of its text, hexadecimal.
    pub sha256: String,
    /// The ports that may be open from outside.
    pub ports: Vec<Port>,
    /// Parts of the platform that an image has or not.
    pub components: Vec<Component>,
    /// How the image is booted, at most once each.
    pub boots: Vec<Boot>,
    /// What must be so.
    pub checks: Vec<Check>,
}

/// A port that is reached from outside the guest.
#[derive(Debug, Clone)]
pub struct Port {
    /// TCP port.
    pub port: u16,
    /// What listens there.
    pub name: String,
    /// What a client says first; nothing where the server speaks first.
    pub greeting: Vec<u8>,
    /// Index of the component that it belongs to.
    pub component: Option<usize>,
}

/// A part of the platform.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// A file of the image (a pattern) that only images with this component have.
    pub file: String,
}

/// How the image is booted.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Its name.
    pub name: String,
    /// UEFI instead of BIOS.
    pub uefi: bool,
    /// How the metadata reach the guest.
    pub source: DataSource,
    /// The guest reaches no network.
    pub restricted: bool,
    /// The boot command.
    pub user_data: Option<String>,
    /// The platform's metadata, in their order.
    pub metadata: Vec<(String, String)>,
    /// Seconds that the guest may take to be up; emulated guests get three times as long.
    pub patience: Duration,
}

/// How metadata reach the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSource {
    /// OpenStack's configuration drive.
    ConfigDrive,
    /// cloud-init's NoCloud seed.
    NoCloud,
}

/// One statement and how it is tested.
#[derive(Debug, Clone)]
pub struct Check {
    /// `GUAC-2`.
    pub id: String,
    /// What must be so.
    pub statement: String,
    /// What it needs.
    pub level: Level,
    /// Index of the boot that it is made in; none for the level static.
    pub boot: Option<usize>,
    /// Id of the check that must have been made before, in the same boot.
    pub after: Option<String>,
    /// Index of the component that it is about.
    pub component: Option<usize>,
    /// Where to look when it fails.
    pub look: Option<String>,
    /// The tests; all must succeed.
    pub probes: Vec<Probe>,
    /// Where it is written.
    pub location: Location,
}

impl Contract {
    /// The contract of this name, or in this file (anything with a `/`, or ending in `.yml` or `.yaml`).
    ///
    /// # Errors
    /// There is none of that name, or every problem of the file (kind usage).
    pub fn find(name: &str) -> Result<Self> {
        let is_file = name.contains('/') || name.ends_with(".yml") || name.ends_with(".yaml");
        if is_file {
            let text = read_to_string(Kind::Usage, Path::new(name))?;
            return Self::parse(Path::new(name), &text);
        }
        match SHIPPED.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => Self::parse(&PathBuf::from(format!("{name}.yml")), text),
            None => {
                let known: Vec<_> = SHIPPED.iter().map(|(name, _)| format!("`{name}`")).collect();
                Err(Error::usage(format!("unknown contract `{name}`"))
                    .hint(format!("known are {}; a file's name ends in .yml or has a `/`", known.join(" and "))))
            }
        }
    }

    /// Reads the text of `file`.
    ///
    /// # Errors
    /// Every problem that it has (kind usage).
    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        let sha256 = hex(&Sha256::digest(text.as_bytes()));
        read::read(file, text, sha256)
    }

    /// The ids of the checks that are to be made: those of `only`, or all, without those of `skip`; with what they come
    /// after, and without what comes after those that are left out.
    ///
    /// # Errors
    /// A pattern matches nothing (kind usage).
    pub fn choose(&self, only: &[String], skip: &[String]) -> Result<BTreeSet<String>> {
        let skipped = self.select(skip)?;
        let all = self.checks.iter().map(|check| check.id.as_str()).collect();
        let wanted = if only.is_empty() { all } else { self.select(only)? };
        let mut chosen: BTreeSet<String> = BTreeSet::new();
        for id in wanted {
            let chain = self.with_those_before(id);
            // What comes after a check that is left out cannot be made.
            if chain.iter().all(|id| !skipped.contains(id)) {
                chosen.extend(chain.into_iter().map(str::to_owned));
            }
        }
        Ok(chosen)
    }

    /// A check, and what must be made before it.
    fn with_those_before<'a>(&'a self, id: &'a str) -> Vec<&'a str> {
        let mut chain = vec![id];
        // A check comes after one that stands before it, so this ends.
        while let Some(before) = chain
            .last()
            .and_then(|id| self.checks.iter().find(|check| check.id == *id))
            .and_then(|check| check.after.as_deref())
        {
            chain.push(before);
        }
        chain
    }

    /// The named components, each once.
    ///
    /// # Errors
    /// The contract has no such component (kind usage).
    pub fn components<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<BTreeSet<String>> {
        let names: BTreeSet<String> = names.cloned().collect();
        let known: Vec<_> = self.components.iter().map(|component| component.name.as_str()).collect();
        match names.iter().find(|name| !known.contains(&name.as_str())) {
            None => Ok(names),
            Some(name) => Err(Error::usage(format!("the contract `{}` has no component `{name}`", self.name))
                .hint(format!("its components are: {}", known.join(", ")))),
        }
    }

    /// The ids of all checks that match `patterns`; a pattern is an id, or an area such as `GUAC`.
    ///
    /// # Errors
    /// A pattern matches nothing (kind usage).
    pub fn select(&self, patterns: &[String]) -> Result<Vec<&str>> {
        let mut selected = Vec::new();
        for pattern in patterns {
            let before = selected.len();
            let ids = self.checks.iter().map(|check| check.id.as_str());
            selected.extend(ids.filter(|id| matches(id, pattern)));
            if selected.len() == before {
                return Err(Error::usage(format!("the contract `{}` has no check `{pattern}`", self.name))
                    .hint("a check is named by its id, such as GUAC-2, or by its area, such as GUAC"));
            }
        }
        Ok(selected)
    }
}

/// `GUAC-2` and `GUAC-2b` are of the area `GUAC`.
fn matches(id: &str, pattern: &str) -> bool {
    id.eq_ignore_ascii_case(pattern) || id.split_once('-').is_some_and(|(area, _)| area.eq_ignore_ascii_case(pattern))
}

impl Boot {
    /// For people: `BIOS, ConfigDrive, no boot command`.
    pub fn description(&self) -> String {
        let firmware = if self.uefi { "UEFI" } else { "BIOS" };
        let source = match self.source {
            DataSource::ConfigDrive => "ConfigDrive",
            DataSource::NoCloud => "NoCloud",
        };
        let command = if self.user_data.is_some() { "boot command" } else { "no boot command" };
        let network = if self.restricted { ", no network" } else { "" };
        format!("{firmware}, {source}, {command}{network}")
    }
}

#[cfg(test)]
mod tests;
