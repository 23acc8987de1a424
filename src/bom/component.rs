//! What both forms list: packages, each version once, with all places where it is.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::purl::purl;
use super::supplier::Supplier;
use crate::checksum::hex;
use crate::image::record::Record;
use crate::inventory::{Ecosystem, Entry, expression};

/// One package in one version.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub(super) ecosystem: Ecosystem,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) purl: Option<String>,
    /// Letters, digits, `.` and `-`, and no other component's.
    pub(super) id: String,
    pub(super) supplier: Option<Supplier>,
    pub(super) homepage: Option<String>,
    pub(super) licence: Licence,
    /// What it was built from, for people.
    pub(super) source: Option<String>,
    /// Environments and folders, sorted.
    pub(super) places: BTreeSet<String>,
}

/// What is known of a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Licence {
    /// Nothing.
    Unknown,
    /// Its name, which is no expression.
    Named(String),
    /// An expression of SPDX.
    Expression(String),
}

/// The components of an image, sorted by kind, name and version.
pub(super) fn components(record: &Record) -> Vec<Component> {
    let (inventory, _) = record.installed();
    let mut found: BTreeMap<(Ecosystem, String, String, String), Component> = BTreeMap::new();
    for (ecosystem, entry) in inventory.counted() {
        let purl = purl(record.os.as_ref(), ecosystem, entry);
        let architecture = entry.architecture.clone().unwrap_or_default();
        let key = (ecosystem, ecosystem.normalized(&entry.name), entry.version.clone(), architecture);
        let component = found.entry(key).or_insert_with(|| component(ecosystem, entry, purl));
        if component.licence == Licence::Unknown {
            component.licence = licence(entry);
        }
        component.places.extend(entry.path.clone());
    }
    found.into_values().collect()
}

fn component(ecosystem: Ecosystem, entry: &Entry, purl: Option<String>) -> Component {
    let Entry { name, version, architecture, .. } = entry;
    let digest = hex(&Sha256::digest(format!("{ecosystem:?} {name} {version} {architecture:?}"))[..6]);
    let word = |text: &str| -> String {
        let is_plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-');
        text.chars().map(|char| if is_plain(&char) { char } else { '-' }).take(80).collect()
    };
    let kind = format!("{ecosystem:?}").to_lowercase();
    Component {
        ecosystem,
        id: format!("{kind}-{}-{}-{digest}", word(name), word(version)),
        name: name.clone(),
        version: version.clone(),
        purl,
        supplier: entry.supplier.as_deref().and_then(|text| Supplier::parse(ecosystem, text)),
        homepage: entry.homepage.clone(),
        licence: licence(entry),
        source: source(entry),
        places: BTreeSet::new(),
    }
}

fn licence(entry: &Entry) -> Licence {
    let Some(text) = &entry.license else { return Licence::Unknown };
    expression(text).map_or_else(|| Licence::Named(text.clone()), Licence::Expression)
}

fn source(entry: &Entry) -> Option<String> {
    match (&entry.source, &entry.source_version) {
        (None, None) => None,
        (source, version) => {
            let source = source.as_ref().unwrap_or(&entry.name);
            // The name of a source RPM has its version in it.
            let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            Some(format!("{source}{version}"))
        }
    }
}
