//! `cache verify`: is everything in the cache what was put there?
//!
//! Of base disks, layers and checkpoints: the record can be read, the disk is there, has its size and its digest
//! (module `integrity`), lies on the instance that the record names, and qemu-img finds no fault in its metadata; the
//! memory of a checkpoint's guest has the digest of the record. Of downloads: the content has the SHA-256 that is the
//! name, and of packages that of the record. What no build can take any more is left to `cache gc`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::integrity::{self, Sum};
use super::inventory::{Inventory, Item, ItemKind, Name, State};
use super::{Cache, LayerInfo, SavedMemory, memory_of};
use crate::checksum;
use crate::error::{Context, Error, Kind, Result};
use crate::image::qemu_img;
use crate::package_cache::Record;

/// Something that is not what was put into the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// What lies on it, and is of no use without it: ids.
    pub with_it: BTreeSet<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many were read.
    pub verified: usize,
    /// What they take on the disk, bytes.
    pub bytes: u64,
    /// Those that had no digest yet and have one now: ids.
    pub adopted: Vec<String>,
    /// Those that are broken.
    pub broken: Vec<Broken>,
}

/// Reads everything in the cache; `begin` is told of each before it is read.
///
/// # Errors
/// qemu-img cannot be run (kind host), or `cancel` fires.
pub async fn verify(
    cache: &Cache,
    inventory: &Inventory,
    begin: impl Fn(&Item),
    cancel: &CancellationToken,
) -> Result<Verified> {
    let mut found = Verified::default();
    for item in &inventory.items {
        if cancel.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "stopped"));
        }
        let Some(subject) = Subject::of(cache.root(), item) else { continue };
        begin(item);
        let problems = match subject {
            Subject::Broken(why) => vec![why],
            Subject::File { path, sha256 } => in_background(move || file_fault(&path, &sha256, "name")).await?,
            Subject::Package { path } => in_background(move || package_fault(&path)).await?,
            Subject::Disk { path, info } => match disk_faults(path, info, cancel).await? {
                Some((faults, adopted)) => {
                    if adopted {
                        found.adopted.push(item.id.clone());
                    }
                    faults
                }
                // A build has thrown it away meanwhile.
                None => continue,
            },
        };
        found.verified += 1;
        found.bytes += item.bytes;
        if !problems.is_empty() {
            let mut with_it: BTreeSet<String> = BTreeSet::new();
            let all = super::with_all_on(&inventory.items, &BTreeSet::from([item.id.clone()]));
            with_it.extend(all.into_iter().map(|(above, _)| above.id.clone()).filter(|id| *id != item.id));
            found.broken.push(Broken { id: item.id.clone(), problems, with_it });
        }
    }
    Ok(found)
}

/// How something is verified.
enum Subject {
    Broken(String),
    File { path: PathBuf, sha256: String },
    Package { path: PathBuf },
    Disk { path: PathBuf, info: Box<LayerInfo> },
}

impl Subject {
    fn of(root: &Path, item: &Item) -> Option<Self> {
        let path = root.join(&item.id);
        match item.kind {
            ItemKind::Download => {
                let sha256 = item.fingerprint.clone().filter(|_| item.state != State::Orphan)?;
                Some(Self::File { path, sha256 })
            }
            ItemKind::Base | ItemKind::Layer | ItemKind::Checkpoint => Self::of_disk(path, item),
            ItemKind::Package => (item.state == State::Ready).then_some(Self::Package { path }),
            ItemKind::Work => None,
        }
    }

    fn of_disk(path: PathBuf, item: &Item) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        if item.state == State::Orphan {
            let first = item.files.first().and_then(|path| path.file_name())?.to_string_lossy();
            let has_record = matches!(Name::of(&first), Name::Record(_));
            return item.why.clone().filter(|_| has_record).map(Self::Broken);
        }
        let Name::Part(key, _) = Name::of(&name) else { return None };
        let record = fs::read(path.with_file_name(format!("{key}.json"))).ok()?;
        let info: LayerInfo = serde_json::from_slice(&record).ok()?;
        if Some(&info.instance) != item.instance.as_ref() {
            return None;
        }
        // One whose parent was replaced is as it was, and still nothing that a build takes.
        if item.state == State::Stale {
            let missing = File::open(&path).ok().and_then(|file| integrity::chain_fault(&file, Some(""), true));
            return missing.map(Self::Broken);
        }
        Some(Self::Disk { path, info: Box::new(info) })
    }
}

/// What is wrong with a disk, and whether it was given the digest that it lacked; none if it is not there any more.
async fn disk_faults(
    path: PathBuf,
    info: Box<LayerInfo>,
    cancel: &CancellationToken,
) -> Result<Option<(Vec<String>, bool)>> {
    let fail = || format!("cannot read {}", path.display());
    let Ok(file) = File::open(&path) else { return Ok(None) };
    // A collection waits for this to end.
    file.lock_shared().context(Kind::Host, fail)?;
    if !path.exists() {
        return Ok(None);
    }
    let backing = match (info.beneath.first(), &info.parent) {
        (Some(name), _) => Some(format!("/{name}")),
        (None, Some(instance)) => Some(format!(".{instance}.qcow2")),
        (None, None) => None,
    };
    let handle = file.try_clone().context(Kind::Host, fail)?;
    let of = path.clone();
    let (mut problems, known) = in_background(move || content_faults(&of, &handle)).await?;
    problems.extend(integrity::chain_fault(&file, backing.as_deref(), false));
    let memory = info.guest.and_then(|guest| guest.memory);
    if let Some(SavedMemory { blake3, .. }) = memory {
        let (memory, _) = memory_of(&path);
        problems.extend(in_background(move || memory_fault(&memory, &blake3)).await?);
    }
    // Where the file is cut or its chain is broken, qemu-img only says the same in other words.
    if problems.is_empty() {
        problems.extend(metadata_fault(&path, cancel).await?);
    }
    let adopts = problems.is_empty() && !known;
    if adopts {
        in_background(move || integrity::adopt(&path, &file)).await?.context(Kind::Host, || "cannot write a digest")?;
    }
    Ok(Some((problems, adopts)))
}

/// What is wrong with the content, and whether it is known what it should be.
fn content_faults(path: &Path, file: &File) -> (Vec<String>, bool) {
    let unreadable = |error: io::Error| (vec![format!("cannot be read: {error}")], true);
    let Some(recorded) = Sum::recorded(path) else { return (Vec::new(), false) };
    let now = match Sum::of(file) {
        Ok(now) => now,
        Err(error) => return unreadable(error),
    };
    if now.size != recorded.size {
        return (vec![format!("has {} bytes instead of {}", now.size, recorded.size)], true);
    }
    match (integrity::digest(path), recorded.blake3) {
        (Err(error), _) => unreadable(error),
        (Ok(now), Some(then)) if now != then => {
            (vec!["its content is not what was put into the cache (BLAKE3 differs)".to_owned()], true)
        }
        (Ok(_), Some(_)) => (Vec::new(), true),
        (Ok(_), None) if now.modified != recorded.modified => {
            (vec!["was written to after it was put into the cache".to_owned()], true)
        }
        (Ok(_), None) => (Vec::new(), false),
    }
}

async fn metadata_fault(path: &Path, cancel: &CancellationToken) -> Result<Option<String>> {
    match qemu_img::faults(path, cancel).await {
        // Clusters that nobody refers to (leaks) waste room and harm nothing.
        Ok(faults) if faults.corruptions + faults.check_errors > 0 => {
            Ok(Some(format!("qemu-img check finds {} faults", faults.corruptions + faults.check_errors)))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == Kind::Build => Ok(Some(error.chain().join(": ").replace('\n', " "))),
        Err(error) => Err(error),
    }
}

/// What is wrong with the memory of a checkpoint's guest, if it is there: a newer checkpoint's takes its place.
fn memory_fault(memory: &Path, blake3: &str) -> Option<String> {
    match integrity::digest(memory) {
        Ok(now) if now == blake3 => None,
        Ok(_) => Some("its guest's memory is not what was put into the cache (BLAKE3 differs)".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("its guest's memory cannot be read: {error}")),
    }
}

/// What is wrong with an entry of the package cache, whose record stands beside its content.
fn package_fault(path: &Path) -> Vec<String> {
    let record = path.with_extension("json");
    let read = || fs::read(&record).ok();
    let Some(before) = read() else { return Vec::new() };
    let Ok(Record { sha256, .. }) = serde_json::from_slice(&before) else {
        return vec!["its record cannot be read".to_owned()];
    };
    let faults = file_fault(path, &sha256, "record");
    // A build may have fetched it anew meanwhile.
    if read().as_ref() == Some(&before) { faults } else { Vec::new() }
}

/// What is wrong with a file whose SHA-256 is in its `place`.
fn file_fault(path: &Path, sha256: &str, place: &str) -> Vec<String> {
    let sum = || -> io::Result<String> {
        let file = File::open(path)?;
        file.lock_shared()?;
        checksum::sha256(file)
    };
    match sum() {
        Ok(sum) if sum == sha256 => Vec::new(),
        Ok(sum) => vec![format!("has the SHA-256 {sum} instead of that in its {place}")],
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![format!("cannot be read: {error}")],
    }
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(Kind::Host, || "cannot verify the cache")
}
