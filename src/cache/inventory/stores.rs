//! Base disks, layers and checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Seen};
use super::{Item, ItemKind, State, id};
use crate::cache::LayerInfo;
use crate::cache::qcow2::Header;

/// Folders and what is in them.
const STORES: [(&str, ItemKind); 3] =
    [("bases", ItemKind::Base), ("layers", ItemKind::Layer), ("checkpoints", ItemKind::Checkpoint)];

/// Why something is stale of which the layer below is.
const UNUSABLE: &str = "lies on one that no build can take";

/// What the name of a file in a store says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cache) enum Name<'a> {
    /// `KEY.json`
    Record(&'a str),
    /// `KEY.lock`
    Lock(&'a str),
    /// `KEY.INSTANCE.…`
    Part(&'a str, &'a str),
    /// Something else.
    Other,
}

impl<'a> Name<'a> {
    /// What `name` says.
    pub(in crate::cache) fn of(name: &'a str) -> Self {
        let words: Vec<&str> = name.split('.').collect();
        match words[..] {
            [key, "json"] if !key.is_empty() => Self::Record(key),
            [key, "lock"] if !key.is_empty() => Self::Lock(key),
            [key, instance, _, ..] if !key.is_empty() && !instance.is_empty() => Self::Part(key, instance),
            _ => Self::Other,
        }
    }
}

/// A record and whether its file could be understood.
type Records = BTreeMap<String, Option<LayerInfo>>;

/// Everything in the stores.
pub(super) fn scan(root: &Path, seen: &mut Seen, locks: &mut Vec<PathBuf>) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut current = BTreeMap::new();
    for (folder, kind) in STORES {
        let store = Store::read(root, folder, kind)?;
        items.extend(store.items(seen, &mut current));
        locks.extend(store.old_locks());
    }
    judge(&mut items, &current);
    Ok(items)
}

/// The files of one store.
struct Store<'a> {
    root: &'a Path,
    folder: PathBuf,
    kind: ItemKind,
    records: Records,
    parts: BTreeMap<(String, String), Vec<PathBuf>>,
    beside: Vec<PathBuf>,
    locks: BTreeSet<String>,
}

impl<'a> Store<'a> {
    fn read(root: &'a Path, folder: &str, kind: ItemKind) -> io::Result<Self> {
        let folder = root.join(folder);
        let mut store = Self {
            root,
            kind,
            records: Records::new(),
            parts: BTreeMap::new(),
            beside: Vec::new(),
            locks: BTreeSet::new(),
            folder: folder.clone(),
        };
        for path in files::list(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match Name::of(&name) {
                Name::Record(key) => {
                    // One that vanishes meanwhile is as if it had never been.
                    let Ok(text) = fs::read(&path) else { continue };
                    store.records.insert(key.to_owned(), serde_json::from_slice(&text).ok());
                }
                Name::Lock(key) => {
                    store.locks.insert(key.to_owned());
                }
                Name::Part(key, instance) => {
                    store.parts.entry((key.to_owned(), instance.to_owned())).or_default().push(path);
                }
                Name::Other => store.beside.push(path),
            }
        }
        Ok(store)
    }

    fn items(&self, seen: &mut Seen, current: &mut BTreeMap<String, String>) -> Vec<Item> {
        let mut items = Vec::new();
        for ((key, instance), parts) in &self.parts {
            let info = self.records.get(key).and_then(Option::as_ref).filter(|info| info.instance == *instance);
            let item = self.disk(key, instance, info, parts, seen);
            if info.is_some() && item.state != State::Orphan {
                current.insert(instance.clone(), item.id.clone());
            }
            items.push(item);
        }
        let lonely = self.records.iter().filter_map(|(key, info)| {
            let (why, instance) = match info {
                None => ("its record cannot be read", None),
                Some(info) if self.parts.contains_key(&(key.clone(), info.instance.clone())) => return None,
                Some(info) => ("its disk is not there", Some(info.instance.clone())),
            };
            let record = self.record(key);
            let template = info.as_ref().map(|info| info.template.clone());
            let created = info.as_ref().map_or_else(|| files::modified(&record), |info| info.created);
            let (bytes, used, fingerprint) = (seen.bytes(&record), files::modified(&record), Some(key.clone()));
            // The disk identifies it, also where it is not there: others lie on it.
            let main = instance.as_ref().map_or_else(|| record.clone(), |instance| self.disk_path(key, instance));
            let item = Item::new(self.kind, id(self.root, &main)?, self.state(key, None, State::Orphan)).because(why);
            Some(Item { template, fingerprint, instance, bytes, created, used, files: vec![record], ..item })
        });
        items.extend(lonely);
        items.extend(self.beside.iter().filter_map(|path| files::beside(self.root, path, self.kind, seen)));
        items
    }

    fn disk(&self, key: &str, instance: &str, info: Option<&LayerInfo>, parts: &[PathBuf], seen: &mut Seen) -> Item {
        let disk = self.disk_path(key, instance);
        let record = self.record(key);
        let there = disk.exists();
        let (state, why) = match info {
            Some(_) if there => (State::Ready, None),
            Some(_) => (State::Orphan, Some("its disk is not there")),
            None => (
                State::Orphan,
                Some(match self.records.get(key) {
                    Some(Some(_)) => "was replaced",
                    Some(None) => "its record cannot be read",
                    None => "no record names it",
                }),
            ),
        };
        // What a record names is known by its disk, also where that is not there: others lie on it.
        let lonely = parts.first().filter(|_| !there && info.is_none());
        let main = lonely.cloned().unwrap_or_else(|| disk.clone());
        let item = Item::new(self.kind, id(self.root, &main).unwrap_or_default(), self.state(key, Some(&disk), state));
        let why = why.filter(|_| item.state != State::InUse).map(str::to_owned);
        // The record first: without it nobody takes the disk.
        let files: Vec<PathBuf> = info.map(|_| record.clone()).into_iter().chain(parts.iter().cloned()).collect();
        let bytes = files.iter().map(|path| seen.bytes(path)).sum();
        let used = files::modified(if info.is_some() { &record } else { &disk });
        let needs = info.into_iter().flat_map(|info| &info.beneath).map(|name| format!("checkpoints/{name}"));
        let needs = needs.chain(backing_in(self.root, &disk)).collect();
        Item {
            template: info.map(|info| info.template.clone()),
            fingerprint: Some(key.to_owned()),
            instance: Some(instance.to_owned()),
            bytes,
            created: info.map_or_else(|| files::modified(&main), |info| info.created),
            used,
            why,
            // Until `judge`, which knows all instances, the parent's stands here.
            needed_by: info.and_then(|info| info.parent.clone()).into_iter().collect(),
            needs,
            files,
            ..item
        }
    }

    /// `state`, unless somebody builds or uses it.
    fn state(&self, key: &str, disk: Option<&Path>, state: State) -> State {
        let built = self.locks.contains(key) && files::is_locked(&self.lock(key));
        if built || disk.is_some_and(files::is_locked) { State::InUse } else { state }
    }

    fn disk_path(&self, key: &str, instance: &str) -> PathBuf {
        self.folder.join(format!("{key}.{instance}.qcow2"))
    }

    fn record(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn lock(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.lock"))
    }

    fn old_locks(&self) -> Vec<PathBuf> {
        let has_disk = |key: &String| self.parts.keys().any(|(own, _)| own == key);
        let gone = self.locks.iter().filter(|key| !self.records.contains_key(*key) && !has_disk(key));
        gone.map(|key| self.lock(key))
            .filter(|path| files::age(path) >= files::OLD_LOCK && !files::is_locked(path))
            .collect()
    }
}

/// The file in the cache that a disk lies on: an id.
pub(in crate::cache) fn backing_in(root: &Path, disk: &Path) -> Option<String> {
    let header = Header::read(&File::open(disk).ok()?).ok()??;
    id(root, &header.backing?)
}

/// Tells which layers can never be taken again, because what they lie on is not what it was. `current` are the
/// instances that records name, with their ids.
fn judge(items: &mut [Item], current: &BTreeMap<String, String>) {
    let ids: BTreeMap<String, String> =
        items.iter().filter_map(|item| Some((item.instance.clone()?, item.id.clone()))).collect();
    let all: BTreeSet<String> = items.iter().map(|item| item.id.clone()).collect();
    let mut stale: BTreeMap<String, &str> = BTreeMap::new();
    for item in items.iter_mut() {
        let parent = std::mem::take(&mut item.needed_by).into_iter().next();
        item.needs.extend(parent.as_ref().and_then(|parent| ids.get(parent).cloned()));
        if item.state == State::Orphan {
            stale.insert(item.id.clone(), UNUSABLE);
        } else if parent.is_some_and(|parent| !current.contains_key(&parent)) {
            stale.insert(item.id.clone(), "its parent was replaced or is gone");
        } else if item.needs.iter().any(|id| id.starts_with("checkpoints/") && !all.contains(id)) {
            stale.insert(item.id.clone(), "a checkpoint that it lies on is gone");
        }
    }
    // Upwards until nothing changes; chains are short. A checkpoint that was replaced still carries what lies on it.
    loop {
        let further = items
            .iter()
            .filter(|item| !stale.contains_key(&item.id))
            .filter(|item| item.needs.iter().any(|id| stale.contains_key(id) && !id.starts_with("checkpoints/")));
        let further: Vec<String> = further.map(|item| item.id.clone()).collect();
        if further.is_empty() {
            break;
        }
        stale.extend(further.into_iter().map(|id| (id, UNUSABLE)));
    }
    for item in items.iter_mut().filter(|item| item.state == State::Ready) {
        if let Some(why) = stale.get(&item.id) {
            (item.state, item.why) = (State::Stale, Some((*why).to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_told_apart() {
        assert_eq!(Name::of("abc.json"), Name::Record("abc"));
        assert_eq!(Name::of("abc-12.lock"), Name::Lock("abc-12"));
        assert_eq!(Name::of("abc.i.qcow2"), Name::Part("abc", "i"));
        assert_eq!(Name::of("abc.i.sum.json"), Name::Part("abc", "i"));
        assert_eq!(Name::of("abc.i.memory.qcow2"), Name::Part("abc", "i"));
        for other in [".abc.json.12.new", "abc", "", ".", "abc.txt", ".json", "..."] {
            assert_eq!(Name::of(other), Name::Other, "{other}");
        }
    }
}
