//! What is not as in another image of the same template. Pure functions of what their manifests say.

mod order;
mod text;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::image::record::Record;
use crate::inventory::{Ecosystem, Entry, Inventory};
use crate::plan::Difference;

pub use text::text;

/// What changed since the image that another one replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The image before.
    pub previous: Previous,
    /// Packages that are other ones.
    pub packages: PackageChanges,
    /// What was asked for otherwise, where it is still known what the image before was made of.
    #[serde(default)]
    pub inputs: Option<Difference>,
}

/// The image before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// When it was finished, RFC 3339.
    pub created: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// The visabuild that made it.
    pub visabuild: String,
    /// Commit of the project.
    #[serde(default)]
    pub commit: Option<String>,
}

impl Previous {
    /// What `record` says of its image.
    pub fn of(record: &Record) -> Self {
        Self {
            created: record.created.clone(),
            sha256: record.image.sha256.clone(),
            visabuild: record.visabuild.clone(),
            commit: record.commit.clone(),
        }
    }
}

/// Packages that are in one image only, or in another version; each list sorted by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChanges {
    /// In the new one only.
    pub added: Vec<Present>,
    /// In the old one only.
    pub removed: Vec<Present>,
    /// In a later version.
    pub upgraded: Vec<Replaced>,
    /// In an earlier version.
    pub downgraded: Vec<Replaced>,
    /// In another version, of which nobody says whether it is later.
    pub changed: Vec<Replaced>,
    /// Kinds of which one of the images has no whole list: an earlier visabuild listed the system's packages only, and a
    /// very long list is cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<Ecosystem>,
}

/// A package of one image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Present {
    /// Its kind.
    pub ecosystem: Ecosystem,
    /// Its name.
    pub name: String,
    /// The environment or folder that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its version.
    pub version: String,
}

/// A package in two versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replaced {
    /// Its kind.
    pub ecosystem: Ecosystem,
    /// Its name.
    pub name: String,
    /// The environment or folder that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Version in the old image.
    pub old: String,
    /// Version in the new image.
    pub new: String,
}

impl PackageChanges {
    /// Whether no package is another one.
    pub fn is_empty(&self) -> bool {
        let replaced = [&self.upgraded, &self.downgraded, &self.changed];
        self.added.is_empty() && self.removed.is_empty() && replaced.iter().all(|list| list.is_empty())
    }
}

/// Compares the packages of an image with those of a new one, of which the kinds are said that were looked for.
pub fn between(old: &Record, new: (&Inventory, &[Ecosystem])) -> PackageChanges {
    let (before, known) = old.installed();
    compare((&before, known), new)
}

/// Which package is meant: kind, name in its one spelling, where it is.
type Key = (Ecosystem, String, Option<String>);

/// Versions of a package, with its name as it is spelled there.
type Versions<'a> = BTreeMap<Key, (&'a str, BTreeSet<&'a str>)>;

/// Compares two lists of packages, of the kinds that both were looked through for.
pub fn compare(old: (&Inventory, &[Ecosystem]), new: (&Inventory, &[Ecosystem])) -> PackageChanges {
    // What is not in a list that was cut may be there all the same.
    let is_whole =
        |kind: &Ecosystem| !(old.0.is_cut || new.0.is_cut) || !matches!(kind, Ecosystem::Python | Ecosystem::Npm);
    let both: Vec<Ecosystem> = Ecosystem::ALL
        .into_iter()
        .filter(|kind| old.1.contains(kind) && new.1.contains(kind) && is_whole(kind))
        .collect();
    let (before, after) = (versions(old.0, &both), versions(new.0, &both));
    let mut changes = PackageChanges { not_compared: not_compared(old.0, new.0, &both), ..PackageChanges::default() };
    let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let name = after.get(key).or_else(|| before.get(key)).map_or("", |(name, _)| name);
        let (was, is) = (of(&before, key), of(&after, key));
        let (gone, come): (Vec<&str>, Vec<&str>) =
            (was.difference(&is).copied().collect(), is.difference(&was).copied().collect());
        changes.put(key, name, &gone, &come);
    }
    changes
}

impl PackageChanges {
    fn put(&mut self, (ecosystem, _, path): &Key, name: &str, gone: &[&str], come: &[&str]) {
        let (ecosystem, name) = (*ecosystem, name.to_owned());
        if let ([old], [new]) = (gone, come) {
            let list = match order::order(ecosystem, old, new) {
                Some(Ordering::Less) => &mut self.upgraded,
                Some(Ordering::Greater) => &mut self.downgraded,
                _ => &mut self.changed,
            };
            let (old, new) = ((*old).to_owned(), (*new).to_owned());
            list.push(Replaced { ecosystem, name, path: path.clone(), old, new });
            return;
        }
        let present = |version: &&str| {
            let version = (*version).to_owned();
            Present { ecosystem, name: name.clone(), path: path.clone(), version }
        };
        self.added.extend(come.iter().map(present));
        self.removed.extend(gone.iter().map(present));
    }
}

fn of<'a>(versions: &Versions<'a>, key: &Key) -> BTreeSet<&'a str> {
    versions.get(key).map(|(_, list)| list.clone()).unwrap_or_default()
}

fn versions<'a>(inventory: &'a Inventory, kinds: &[Ecosystem]) -> Versions<'a> {
    let mut versions = Versions::new();
    for (kind, entry) in inventory.counted().filter(|(kind, _)| kinds.contains(kind)) {
        let Entry { name, version, path, .. } = entry;
        let key = (kind, kind.normalized(name), path.clone());
        versions.entry(key).or_insert_with(|| (name, BTreeSet::new())).1.insert(version);
    }
    versions
}

/// Kinds of which there is something in one of the lists that cannot be compared.
fn not_compared(old: &Inventory, new: &Inventory, both: &[Ecosystem]) -> Vec<Ecosystem> {
    let is_there = |kind: &Ecosystem| !old.of(*kind).is_empty() || !new.of(*kind).is_empty();
    Ecosystem::ALL.into_iter().filter(|kind| !both.contains(kind) && is_there(kind)).collect()
}

#[cfg(test)]
mod tests;
