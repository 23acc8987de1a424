//! What is in the cache, and what lies on what.
//!
//! It is read from the files themselves, without a catalogue that could disagree with them, and without waiting for
//! anybody: a build may go on meanwhile. So it is a picture of a moment; who acts on it looks again (module `collect`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Cache;
use crate::error::{Context, Kind, Result};
use files::Seen;

mod downloads;
mod files;
mod packages;
mod stores;
mod work;

pub(super) use files::{is_locked, leftover_age};
pub(super) use stores::{Name, backing_in};
pub(super) use work::{is_abandoned, overlays};

/// What something in the cache is, in the order in which it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A base disk.
    Base,
    /// A provisioned disk.
    Layer,
    /// A disk of a stage that was not complete.
    Checkpoint,
    /// A file from elsewhere.
    Download,
    /// An entry of the package cache.
    Package,
    /// The working folder of a run.
    Work,
}

impl ItemKind {
    /// One of them, for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Layer => "layer",
            Self::Checkpoint => "checkpoint",
            Self::Download => "download",
            Self::Package => "package",
            Self::Work => "work folder",
        }
    }
}

/// What can become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A running process holds its lock.
    InUse,
    /// The user asked to keep it (`--on-error keep`).
    Kept,
    /// A build can take it.
    Ready,
    /// The beginning of a download, which the next build goes on with.
    Partial,
    /// What it lies on is not there any more, or was replaced: no build can take it again.
    Stale,
    /// No record names it, or what its record names is not there.
    Orphan,
    /// The working folder of a run that was killed.
    Abandoned,
}

impl State {
    /// Whether nothing can use it any more.
    pub fn is_garbage(self) -> bool {
        matches!(self, Self::Stale | Self::Orphan | Self::Abandoned)
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Kept => "kept",
            Self::Ready => "ready",
            Self::Partial => "partial",
            Self::Stale => "stale",
            Self::Orphan => "orphan",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One thing that is kept or removed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its main file (a disk, mostly) or folder, relative to the cache; identifies it.
    pub id: String,
    /// What it is.
    pub kind: ItemKind,
    /// The template that it was made for.
    pub template: Option<String>,
    /// Its fingerprint (of a layer also what is made of its secrets), or its SHA-256.
    pub fingerprint: Option<String>,
    /// Distinguishes it from others of the same fingerprint.
    pub instance: Option<String>,
    /// What it takes on the disk, bytes.
    pub bytes: u64,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// When a build last took it, seconds since 1970.
    pub used: u64,
    /// What can become of it.
    pub state: State,
    /// Why it is in that state, where that is not evident.
    pub why: Option<String>,
    /// What it lies on: ids.
    pub needs: BTreeSet<String>,
    /// What lies on it: ids.
    pub needed_by: BTreeSet<String>,
    /// Images of the project that were made from it.
    pub results: BTreeSet<String>,
    /// Its files; what makes it valid comes first.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

impl Item {
    /// Something whose main file is `id`, of which nothing else is known yet.
    pub(super) fn new(kind: ItemKind, id: String, state: State) -> Self {
        Self {
            id,
            kind,
            template: None,
            fingerprint: None,
            instance: None,
            bytes: 0,
            created: 0,
            used: 0,
            state,
            why: None,
            needs: BTreeSet::new(),
            needed_by: BTreeSet::new(),
            results: BTreeSet::new(),
            files: Vec::new(),
        }
    }

    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }
}

/// A folder of which only the size is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Files in it.
    pub files: u64,
    /// What they take on the disk, bytes.
    pub bytes: u64,
}

/// What is in the cache.
#[derive(Debug, Clone, Serialize)]
pub struct Inventory {
    /// The cache's folder.
    pub root: PathBuf,
    /// In a stable order: by kind, template, and when it was made.
    pub items: Vec<Item>,
    /// What is not looked into.
    pub others: Vec<Other>,
    /// What all of it takes on the disk, bytes.
    pub bytes: u64,
    /// Free room of the file system, bytes.
    pub free: u64,
    /// Locks that nobody holds, of what is not there.
    #[serde(skip)]
    pub(super) locks: Vec<PathBuf>,
}

impl Inventory {
    /// Looks at everything in `cache`.
    ///
    /// # Errors
    /// A folder of the cache cannot be read (kind host).
    pub fn of(cache: &Cache) -> Result<Self> {
        let root = cache.root();
        let read = || format!("cannot read the cache {}", root.display());
        let mut seen = Seen::default();
        let mut locks = Vec::new();
        let mut items = stores::scan(root, &mut seen, &mut locks).context(Kind::Host, read)?;
        items.extend(downloads::scan(root, &mut seen, &mut locks).context(Kind::Host, read)?);
        items.extend(packages::scan(root, &mut seen, &mut locks).context(Kind::Host, read)?);
        // Last: what a running build has linked into a store counts there.
        items.extend(work::scan(root, &mut seen).context(Kind::Host, read)?);
        link(&mut items);
        items.sort_by(|one, other| sort_key(one).cmp(&sort_key(other)));
        locks.sort();
        let others = files::others(root, &mut seen).context(Kind::Host, read)?;
        let bytes = items.iter().map(|item| item.bytes).chain(others.iter().map(|other| other.bytes)).sum();
        let free = crate::disk_space::free(root).unwrap_or(0);
        Ok(Self { root: root.to_owned(), items, others, bytes, free, locks })
    }

    /// The item `id`.
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// Notes that images of a project were made from what has these fingerprints.
    pub fn note_results(&mut self, images: &BTreeMap<String, BTreeSet<String>>) {
        for item in &mut self.items {
            let Some(fingerprint) = &item.fingerprint else { continue };
            let made = images.iter().filter(|(_, used)| has_fingerprint(fingerprint, used));
            item.results.extend(made.map(|(image, _)| image.clone()));
        }
    }

    /// The base disks, layers and checkpoints that have one of these fingerprints: ids.
    pub fn with_fingerprints(&self, fingerprints: &BTreeSet<String>) -> BTreeSet<String> {
        let disks = self.items.iter().filter(|item| item.kind <= ItemKind::Checkpoint && !item.state.is_garbage());
        let wanted =
            disks.filter(|item| item.fingerprint.as_ref().is_some_and(|own| has_fingerprint(own, fingerprints)));
        wanted.map(|item| item.id.clone()).collect()
    }
}

/// Whether a key is one of these fingerprints, whatever its secrets are.
fn has_fingerprint(key: &str, fingerprints: &BTreeSet<String>) -> bool {
    fingerprints.contains(key.split('-').next().unwrap_or(key))
}

fn sort_key(item: &Item) -> (ItemKind, Option<&str>, u64, &str) {
    (item.kind, item.template.as_deref(), item.created, &item.id)
}

/// Says of everything what lies on it, and forgets what is not there.
fn link(items: &mut [Item]) {
    let ids: BTreeSet<String> = items.iter().map(|item| item.id.clone()).collect();
    let mut needed_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for item in items.iter_mut() {
        item.needs.retain(|id| ids.contains(id) && *id != item.id);
        for id in &item.needs {
            needed_by.entry(id.clone()).or_default().insert(item.id.clone());
        }
    }
    for item in items {
        item.needed_by = needed_by.remove(&item.id).unwrap_or_default();
    }
}

/// `path` as an id, if it is in the cache.
fn id(root: &Path, path: &Path) -> Option<String> {
    path.strip_prefix(root).ok().map(|path| path.to_string_lossy().into_owned())
}
