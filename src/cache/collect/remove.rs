//! Removing one thing, after looking again under its locks.
//!
//! Whoever takes a layer reads its record, locks its disk (shared), and looks whether it is still there; a builder
//! locks what lies below until what it makes has a record. So with the key's lock and the disk's lock in hand, nobody
//! uses the disk, nobody is about to, and everything that lies on it can be seen. The record goes first: a
//! process that is killed in between leaves a disk without a record, which the next collection removes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::inventory::{Item, Name, State, backing_in, is_abandoned, is_locked, leftover_age, overlays};
use crate::cache::work::{self, KEPT};
use crate::cache::{LayerInfo, lock_file, sync_folder, try_lock};

/// Folders whose disks may lie on others.
const STORES: [&str; 3] = ["bases", "layers", "checkpoints"];

/// Removes a base disk, layer or checkpoint; false if somebody needs it.
pub(super) fn disk(root: &Path, item: &Item) -> io::Result<bool> {
    let path = root.join(&item.id);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with('.') {
        return Ok(leftover_age(&path).is_some() && file(item)?);
    }
    let (Name::Record(key) | Name::Part(key, _)) = Name::of(&name) else { return Ok(false) };
    let Some(_build) = exclusively(&path.with_file_name(format!("{key}.lock")))? else { return Ok(false) };
    let in_use = match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(file) = &in_use
        && !locked(file)?
    {
        return Ok(false);
    }
    let record = path.with_file_name(format!("{key}.json"));
    let current = fs::read(&record).ok().and_then(|text| serde_json::from_slice::<LayerInfo>(&text).ok());
    let names_it = current.is_some_and(|info| Some(&info.instance) == item.instance.as_ref());
    // Its record was written meanwhile, so what was a leftover is a layer.
    if item.state == State::Orphan && names_it && in_use.is_some() {
        return Ok(false);
    }
    if is_needed(root, &name, item.instance.as_deref())? {
        return Ok(false);
    }
    // A record that was replaced meanwhile is another layer's.
    let others = |file: &&PathBuf| **file != record || names_it || item.instance.is_none();
    all(item.files.iter().filter(others))?;
    Ok(true)
}

/// Whether the disk of a store is no record's any more, and nothing lies on it. Ask with its lock in hand.
pub(in crate::cache) fn is_replaced(disk: &Path) -> bool {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    let (Name::Part(key, instance), Some(root)) = (Name::of(&name), disk.parent().and_then(Path::parent)) else {
        return false;
    };
    let record = fs::read(disk.with_file_name(format!("{key}.json"))).ok();
    let info = record.and_then(|text| serde_json::from_slice::<LayerInfo>(&text).ok());
    // Whoever made it anew has written the record; without one it is not told what this is.
    info.is_some_and(|info| info.instance != instance)
        && is_needed(root, &name, Some(instance)).is_ok_and(|needed| !needed)
}

/// Whether anything lies on the disk `name` of this instance, as of now.
fn is_needed(root: &Path, name: &str, instance: Option<&str>) -> io::Result<bool> {
    for store in STORES {
        for entry in fs::read_dir(root.join(store))?.flatten() {
            let (path, own) = (entry.path(), entry.file_name());
            match Name::of(&own.to_string_lossy()) {
                Name::Record(_) => {
                    let info = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<LayerInfo>(&text).ok());
                    let on_it = |info: LayerInfo| {
                        (instance.is_some() && info.parent.as_deref() == instance)
                            || info.beneath.iter().any(|beneath| beneath == name)
                    };
                    if info.is_some_and(on_it) {
                        return Ok(true);
                    }
                }
                // A disk that has no record yet, or none any more; what is beside the disk itself goes with it.
                part @ Name::Part(..) if part != Name::of(name) && lies_on(root, &path, name) => return Ok(true),
                _ => {}
            }
        }
    }
    for folder in fs::read_dir(root.join("work"))?.flatten().map(|entry| entry.path()) {
        if is_abandoned(&folder) {
            continue;
        }
        if overlays(&folder).any(|disk| lies_on(root, &disk, name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lies_on(root: &Path, disk: &Path, name: &str) -> bool {
    backing_in(root, disk).is_some_and(|id| Path::new(&id).file_name().is_some_and(|own| own == name))
}

/// Removes a download or the beginning of one; false if somebody uses it.
pub(super) fn download(root: &Path, item: &Item) -> io::Result<bool> {
    let path = root.join(&item.id);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') && leftover_age(&path).is_none() {
        return Ok(false);
    }
    if item.state == State::Orphan && path.exists() && !name.starts_with('.') {
        // A dangling name that leads somewhere again.
        return Ok(false);
    }
    let key = name.strip_suffix(".part").unwrap_or(&name);
    let Some(_lock) = exclusively(&path.with_file_name(format!("{key}.lock")))? else { return Ok(false) };
    file(item)
}

/// Removes an entry of the package cache; false if somebody fetches it.
pub(super) fn package(root: &Path, item: &Item) -> io::Result<bool> {
    let path = root.join(&item.id);
    let is_beside = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if is_beside {
        return if leftover_age(&path).is_some() { file(item) } else { Ok(false) };
    }
    let Some(_lock) = exclusively(&path.with_extension("lock"))? else { return Ok(false) };
    all(item.files.iter())?;
    Ok(true)
}

/// Removes something that nobody has locked; false if somebody has.
pub(super) fn file(item: &Item) -> io::Result<bool> {
    let mut locks = Vec::new();
    for path in item.files.iter().filter(|path| !path.is_symlink()) {
        let Ok(file) = File::open(path) else { continue };
        if !locked(&file)? {
            return Ok(false);
        }
        locks.push(file);
    }
    all(item.files.iter())?;
    Ok(true)
}

/// Removes a working folder in which nobody runs.
pub(super) fn work(item: &Item) -> io::Result<bool> {
    let Some(folder) = item.files.first() else { return Ok(false) };
    if item.state == State::Kept {
        if is_locked(&folder.join("lock")) {
            return Ok(false);
        }
        // From here on it is as any that was left: if this is interrupted, the next build goes on.
        gone(fs::remove_file(folder.join(KEPT)))?;
    } else if !is_abandoned(folder) {
        return Ok(!folder.exists());
    }
    gone(work::remove(folder))?;
    Ok(true)
}

/// Removes the lock at `path` unless somebody holds it.
pub(super) fn lock(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| locked(&file).unwrap_or(false) && fs::remove_file(path).is_ok())
}

/// Takes the lock at `path`; none if somebody has it. It is left there: who waits for it must get the same one.
fn exclusively(path: &Path) -> io::Result<Option<File>> {
    let file = lock_file(path).map_err(io::Error::other)?;
    Ok(locked(&file)?.then_some(file))
}

fn locked(file: &File) -> io::Result<bool> {
    try_lock(file).map_err(io::Error::other)
}

/// Removes files in this order, synchronised.
fn all<'a>(files: impl Iterator<Item = &'a PathBuf>) -> io::Result<()> {
    let mut last = None;
    for path in files {
        gone(fs::remove_file(path))?;
        last = Some(path);
    }
    last.map_or(Ok(()), |path| sync_folder(path))
}

/// What is gone already need not be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
