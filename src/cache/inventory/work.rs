//! Working folders: of running builds, kept ones, and what killed builds left.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::files::{self, Seen};
use super::{Item, ItemKind, State, backing_in, id};
use crate::cache::work::KEPT;

/// How deep overlays lie in a working folder; the trees that a bootstrap makes are deeper.
const DEPTH: usize = 3;

/// After this long a folder without a lock file is nobody's, seconds.
const MAKING: u64 = 60;

/// Every working folder, with what its disks lie on.
pub(super) fn scan(root: &Path, seen: &mut Seen) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for folder in files::list(&root.join("work"))?.into_iter().filter(|path| path.is_dir()) {
        let Some(id) = id(root, &folder) else { continue };
        let state = if folder.join(KEPT).exists() && !files::is_locked(&folder.join("lock")) {
            State::Kept
        } else if is_abandoned(&folder) {
            State::Abandoned
        } else {
            State::InUse
        };
        let item = match state {
            State::Kept => Item::new(ItemKind::Work, id, state).because("by --on-error keep"),
            State::Abandoned => Item::new(ItemKind::Work, id, state).because("of a build that was killed"),
            _ => Item::new(ItemKind::Work, id, state).because("by a running build"),
        };
        let needs = overlays(&folder).filter_map(|disk| backing_in(root, &disk)).collect();
        let used = files::modified(&folder);
        let created = files::modified(&folder.join("lock")).min(used);
        let (bytes, _) = seen.below(&folder);
        items.push(Item { bytes, created, used, needs, files: vec![folder], ..item });
    }
    Ok(items)
}

/// The qcow2 files of a working folder, which may lie on layers.
pub(in crate::cache) fn overlays(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let files = WalkDir::new(folder).max_depth(DEPTH).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "qcow2"))
}

/// Whether nobody runs in a working folder, nor asked to keep it.
pub(in crate::cache) fn is_abandoned(folder: &Path) -> bool {
    let lock = folder.join("lock");
    if folder.join(KEPT).exists() {
        return false;
    }
    if lock.exists() { !files::is_locked(&lock) } else { files::age(folder) > MAKING }
}
