//! What is in the package cache, whose layout [`crate::package_cache`]'s store has: one item for each entry.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Seen};
use super::{Item, ItemKind, State, id};

/// The entries of the package cache. One that nobody has used for long is one whose record is old.
pub(super) fn scan(root: &Path, seen: &mut Seen, locks: &mut Vec<PathBuf>) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for folder in files::list(&root.join("packages"))?.into_iter().filter(|path| path.is_dir()) {
        let mut entries: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in files::list(&folder)? {
            if let Some(item) = files::beside(root, &path, ItemKind::Package, seen) {
                items.push(item);
                continue;
            }
            let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            entries.entry(key).or_default().push(path);
        }
        for (key, paths) in entries {
            let [content, record, partial, lock] =
                ["", ".json", ".part", ".lock"].map(|suffix| folder.join(format!("{key}{suffix}")));
            let is_held = files::is_locked(&lock);
            if paths == [lock.clone()] {
                if !is_held && files::age(&lock) >= files::OLD_LOCK {
                    locks.push(lock);
                }
                continue;
            }
            let state = match (is_held, record.exists()) {
                (true, _) => State::InUse,
                (false, true) => State::Ready,
                // What has come of a file is of no use to anybody once nobody fetches it.
                (false, false) => State::Orphan,
            };
            let Some(id) = id(root, &content) else { continue };
            // The record first: an entry does not count without it.
            let own: Vec<PathBuf> =
                [record.clone(), content.clone(), partial].into_iter().filter(|path| path.exists()).collect();
            let bytes = own.iter().map(|path| seen.bytes(path)).sum();
            let (created, used) = (files::modified(&content), files::modified(&record).max(files::modified(&content)));
            let item = Item::new(ItemKind::Package, id, state);
            let item = if state == State::Orphan { item.because("no record names it") } else { item };
            items.push(Item { bytes, created, used, files: own, ..item });
        }
    }
    Ok(items)
}
