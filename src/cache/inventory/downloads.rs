//! Files from elsewhere (module `download`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Seen};
use super::{Item, ItemKind, State, id};

/// Complete files with their other names, and beginnings of files.
pub(super) fn scan(root: &Path, seen: &mut Seen, locks: &mut Vec<PathBuf>) -> io::Result<Vec<Item>> {
    let folder = root.join("downloads");
    let mut aliases: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut items = Vec::new();
    let all = files::list(&folder)?;
    for path in all.iter().filter(|path| path.is_symlink()) {
        let target = fs::read_link(path).unwrap_or_default();
        if folder.join(&target).exists() {
            aliases.entry(target.to_string_lossy().into_owned()).or_default().push(path.clone());
        } else if let Some(id) = id(root, path) {
            let item = Item::new(ItemKind::Download, id, State::Orphan).because("the file that it names is not there");
            let (bytes, created) = (seen.bytes(path), files::modified(path));
            items.push(Item { bytes, created, used: created, files: vec![path.clone()], ..item });
        }
    }
    for path in all.iter().filter(|path| !path.is_symlink()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) = id(root, path) else { continue };
        let key = name.strip_suffix(".part").or(name.strip_suffix(".lock"));
        let lock = key.map(|key| folder.join(format!("{key}.lock"))).filter(|lock| lock.exists());
        let held = files::is_locked(path) || lock.as_deref().is_some_and(files::is_locked);
        let times = (files::modified(path), files::modified(path));
        if let Some(item) = files::beside(root, path, ItemKind::Download, seen) {
            items.push(item);
        } else if name.ends_with(".part") {
            let state = if held { State::InUse } else { State::Partial };
            let own = vec![path.clone(), folder.join(format!("{name}.json"))];
            items.push(item(Item::new(ItemKind::Download, id, state), own, times, seen));
        } else if name.ends_with(".lock") {
            let gone =
                key.is_some_and(|key| !folder.join(key).exists() && !folder.join(format!("{key}.part")).exists());
            if gone && !held && files::age(path) >= files::OLD_LOCK {
                locks.push(path.clone());
            }
        } else if let Some(sha256) = name.strip_prefix("sha256-") {
            let state = if held { State::InUse } else { State::Ready };
            // Other names first: they are nothing without the file.
            let own = aliases.remove(name.as_ref()).unwrap_or_default().into_iter().chain([path.clone()]).collect();
            let item = item(Item::new(ItemKind::Download, id, state), own, times, seen);
            items.push(Item { fingerprint: Some(sha256.to_owned()), ..item });
        }
    }
    Ok(items)
}

fn item(item: Item, files: Vec<PathBuf>, (created, used): (u64, u64), seen: &mut Seen) -> Item {
    let bytes = files.iter().map(|path| seen.bytes(path)).sum();
    Item { bytes, created, used, files, ..item }
}
