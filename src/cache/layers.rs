//! Layers: provisioned, cleanly shut down, unsealed qcow2 overlays, named by fingerprint.
//!
//! An overlay is valid only on the very file that it was made on, so every layer file has an
//! instance of its own in its name, and a layer records its parent's instance. Rebuilding a parent
//! thereby makes its children stale instead of corrupting them. Who uses a layer holds a shared
//! lock on its file; only an unlocked file is removed.
//!
//! Checkpoints are layers, too, of a stage that was not complete yet: each lies on the one before, the first on the
//! parent's layer, and the stage's own layer on the last. A layer records those that it lies on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{collect, integrity, lock_file, publish_file, qcow2, replace_file, try_lock};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::package_cache::FetchedFile;

/// What is recorded of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Distinguishes this build of the layer from any other of the same fingerprint.
    pub instance: String,
    /// The instance of the layer that it lies on.
    pub parent: Option<String>,
    /// The checkpoints between it and its parent, nearest first: names of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beneath: Vec<String>,
    /// The template, or `base`.
    pub template: String,
    /// What booted it; nothing did for a base.
    #[serde(default)]
    pub engine: Option<Engine>,
    /// When it was finished, seconds since 1970.
    pub created: u64,
    /// Wall time of its building, seconds.
    pub seconds: f64,
    /// Names and wall times of its phases, seconds.
    pub phases: Vec<(String, f64)>,
    /// The guest that a checkpoint was taken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<SavedGuest>,
    /// What was fetched for it through the package cache, sorted by URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetched: Vec<FetchedFile>,
}

/// The guest that a checkpoint was taken of, while it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGuest {
    /// The lines of authorized_keys(5) that let this build and those before it in, and that may still be on the disk.
    pub authorized: Vec<String>,
    /// Its memory, where that was kept beside the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<SavedMemory>,
}

/// The memory of a guest, in a file beside its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMemory {
    /// The machine that it fits.
    pub machine: String,
    /// BLAKE3 of the file, hexadecimal: QEMU would not notice what is wrong in it.
    pub blake3: String,
    /// How many CPUs that machine had, and how much memory, MiB: what is not asked for is sized to what the host has
    /// free at the time. Zero in older records.
    #[serde(default)]
    pub size: (u32, u64),
}

/// A layer that is being used: its file cannot be removed while this value lives.
#[derive(Debug)]
pub struct Layer {
    /// The qcow2.
    pub disk: PathBuf,
    /// What is recorded of it.
    pub info: LayerInfo,
    _in_use: Vec<File>,
}

impl Layer {
    /// The checkpoints that a disk on this one lies on, this one among them; nearest first.
    pub fn chain(&self) -> Vec<String> {
        let own = self.disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::iter::once(own).chain(self.info.beneath.iter().cloned()).collect()
    }

    /// Where its guest's memory is, if it was kept, and the private SSH key that the guest lets in.
    pub fn memory(&self) -> (PathBuf, PathBuf) {
        memory_of(&self.disk)
    }

    /// Removes the guest's memory; what has it open goes on.
    pub fn forget_memory(&self) {
        forget_memory(&self.disk);
    }

    /// Its disk and the checkpoints that it lies on, each with how the name of the file ends that it must lie on.
    fn disks(&self, checkpoints: &Path) -> Vec<(PathBuf, Option<String>)> {
        let beneath = self.info.beneath.iter().map(|name| checkpoints.join(name));
        let disks: Vec<PathBuf> = std::iter::once(self.disk.clone()).chain(beneath).collect();
        let last = self.info.parent.as_ref().map(|instance| format!(".{instance}.qcow2"));
        let backing = self.info.beneath.iter().map(|name| Some(format!("/{name}"))).chain([last]);
        disks.into_iter().zip(backing).collect()
    }
}

/// The files beside a checkpoint's disk: the guest's memory, and the private SSH key that it lets in.
pub fn memory_of(disk: &Path) -> (PathBuf, PathBuf) {
    (disk.with_extension("memory"), disk.with_extension("key"))
}

fn forget_memory(disk: &Path) {
    let (memory, key) = memory_of(disk);
    // What cannot be removed now goes with the disk.
    let _ = fs::remove_file(memory);
    let _ = fs::remove_file(key);
}

/// The name of a disk that is not a layer yet; nobody removes it while this value lives.
#[derive(Debug)]
pub struct Linked {
    /// The qcow2.
    pub path: PathBuf,
    _in_use: Option<File>,
}

/// A folder of layers.
#[derive(Debug, Clone)]
pub struct LayerStore {
    folder: PathBuf,
    checkpoints: PathBuf,
}

impl LayerStore {
    /// The store in `folder`, whose layers may lie on those in `checkpoints`.
    pub(super) fn new(folder: PathBuf, checkpoints: PathBuf) -> Self {
        Self { folder, checkpoints }
    }

    /// The layer `key`, if it is there with all that it lies on, down to `parent` (an instance, none for a base).
    ///
    /// # Errors
    /// The cache cannot be read (kind host).
    pub fn get(&self, key: &str, parent: Option<&str>) -> Result<Option<Layer>> {
        self.find(key, parent, |_| {})
    }

    /// As [`LayerStore::get`]; `warn` is told of a layer that is there and cannot be used, which counts as not there.
    ///
    /// # Errors
    /// The cache cannot be read (kind host).
    pub fn find(&self, key: &str, parent: Option<&str>, warn: impl Fn(String)) -> Result<Option<Layer>> {
        let record = self.info_path(key);
        let Ok(text) = fs::read(&record) else { return Ok(None) };
        let Ok(info) = serde_json::from_slice::<LayerInfo>(&text) else {
            warn(format!("the record {} cannot be read: what it names is made anew", record.display()));
            return Ok(None);
        };
        if info.parent.as_deref() != parent {
            return Ok(None);
        }
        let Some(layer) = self.taken(key, info)? else { return Ok(None) };
        if let Some((disk, fault)) = self.fault(&layer) {
            warn(format!("{} in the cache {fault}: it is made anew", disk.display()));
            return Ok(None);
        }
        // For `cache gc`, which removes first what nobody used for long. Not being able to say so is no reason to fail.
        let _ = File::open(&record).and_then(|record| record.set_modified(SystemTime::now()));
        Ok(Some(layer))
    }

    /// The layer of a record, with all its files locked; none if one is not there.
    fn taken(&self, key: &str, info: LayerInfo) -> Result<Option<Layer>> {
        let disk = self.disk_path(key, &info.instance);
        let beneath = info.beneath.iter().map(|name| self.checkpoints.join(name));
        let files =
            std::iter::once(disk.clone()).chain(beneath).map(|path| in_use(&path)).collect::<Result<Vec<_>>>()?;
        let in_use: Option<Vec<File>> = files.into_iter().collect();
        Ok(in_use.map(|in_use| Layer { disk, info, _in_use: in_use }))
    }

    /// The first of a layer's files, from the top, that is not what it was, as far as that is quickly seen.
    fn fault(&self, layer: &Layer) -> Option<(PathBuf, String)> {
        let disks = layer.disks(&self.checkpoints);
        disks
            .iter()
            .zip(&layer._in_use)
            .find_map(|((disk, backing), file)| Some((disk.clone(), integrity::fault(disk, file, backing.as_deref())?)))
    }

    /// Gives a disk that a guest still writes to the name that it will have as the layer `key`; what lies on it refers
    /// to that name. [`LayerStore::record`] makes it a layer.
    ///
    /// # Errors
    /// The file system does not do it (kind host).
    pub fn link(&self, key: &str, disk: &Path, info: &LayerInfo) -> Result<Linked> {
        let path = self.disk_path(key, &info.instance);
        let file = in_use(disk)?;
        fs::hard_link(disk, &path).map_err(|error| not_kept(info, error))?;
        Ok(Linked { path, _in_use: file })
    }

    /// Opens the lock that the builder of `key` holds; lock it before building.
    ///
    /// # Errors
    /// The lock file cannot be made (kind host).
    pub fn build_lock(&self, key: &str) -> Result<BuildLock> {
        Ok(BuildLock { file: lock_file(&self.folder.join(format!("{key}.lock")))? })
    }

    /// Puts a finished disk into the store, replacing an earlier layer of the same key. The caller
    /// holds the key's [`BuildLock`].
    ///
    /// # Errors
    /// The file cannot be moved (kind host); an earlier layer is then still there.
    pub fn put(&self, key: &str, disk: &Path, info: &LayerInfo) -> Result<Layer> {
        // Locked before it has a name in the store: without its record it looks like a leftover.
        let _in_use = in_use(disk)?;
        publish_file(disk, &self.disk_path(key, &info.instance)).map_err(|error| not_kept(info, error))?;
        self.replace(key, info)
    }

    /// Makes a disk that was linked and is not written any more the layer `key`, replacing an earlier one.
    ///
    /// # Errors
    /// It cannot be written (kind host); an earlier layer is then still there.
    pub fn record(&self, key: &str, info: &LayerInfo) -> Result<Layer> {
        let disk = self.disk_path(key, &info.instance);
        File::open(disk).and_then(|file| file.sync_all()).map_err(|error| not_kept(info, error))?;
        self.replace(key, info)
    }

    fn replace(&self, key: &str, info: &LayerInfo) -> Result<Layer> {
        let old = fs::read(self.info_path(key)).ok().and_then(|text| serde_json::from_slice::<LayerInfo>(&text).ok());
        let json = serde_json::to_vec_pretty(info).map_err(|error| not_kept(info, error.into()))?;
        // From here on nobody removes it, whatever becomes of the record.
        let layer = self.taken(key, info.clone())?;
        let layer =
            layer.ok_or_else(|| Error::host(format!("the layer of {} vanished from the cache", info.template)))?;
        integrity::seal(&layer.disk, &layer._in_use[0]).map_err(|error| not_kept(info, error))?;
        replace_file(&self.info_path(key), &json, 0o600).map_err(|error| not_kept(info, error))?;
        if let Some(old) = old.filter(|old| old.instance != info.instance) {
            self.remove_replaced(key, &old)?;
        }
        Ok(layer)
    }

    /// Removes the disk of a layer that was replaced, and what it lay on that was replaced, too. What somebody uses
    /// or something lies on stays until that is gone, or until the cache is collected.
    fn remove_replaced(&self, key: &str, info: &LayerInfo) -> Result<()> {
        let mut next = Some(self.disk_path(key, &info.instance));
        while let Some(disk) = next {
            let Ok(file) = File::open(&disk) else { return Ok(()) };
            next = qcow2::Header::read(&file).ok().flatten().and_then(|header| header.backing);
            if !try_lock(&file)? || !collect::is_replaced(&disk) {
                return Ok(());
            }
            remove_with_parts(&disk);
        }
        Ok(())
    }

    fn info_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn disk_path(&self, key: &str, instance: &str) -> PathBuf {
        self.folder.join(format!("{key}.{instance}.qcow2"))
    }
}

fn not_kept(info: &LayerInfo, error: std::io::Error) -> Error {
    Error::host(format!("cannot put a layer of {} into the cache", info.template)).because(error)
}

/// Removes a disk and what is kept beside it: `KEY.INSTANCE.…`. What cannot be removed now is left to a collection.
fn remove_with_parts(disk: &Path) {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    let own = name.strip_suffix("qcow2").filter(|own| !own.is_empty());
    let files = disk.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    for file in files.filter(|file| own.is_some_and(|own| file.file_name().to_string_lossy().starts_with(own))) {
        let _ = fs::remove_file(file.path());
    }
}

/// The file at `path`, so that nobody removes it; none if it is not there.
fn in_use(path: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    file.lock_shared().context(Kind::Host, || format!("cannot lock {}", path.display()))?;
    // It may have been removed between the opening and the locking.
    Ok(path.exists().then_some(file))
}

/// The lock that the builder of a layer holds.
#[derive(Debug)]
pub struct BuildLock {
    file: File,
}

impl BuildLock {
    /// Takes it if nobody has it.
    ///
    /// # Errors
    /// The file system does not lock (kind host).
    pub fn try_take(&self) -> Result<bool> {
        try_lock(&self.file)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The file system does not lock (kind host).
    pub async fn take(&self) -> Result<()> {
        let file = self.file.try_clone().context(Kind::Host, || "cannot wait for another build")?;
        // The lock belongs to the open file description, which the clone shares.
        tokio::task::spawn_blocking(move || file.lock())
            .await
            .context(Kind::Host, || "cannot wait for another build")?
            .context(Kind::Host, || "cannot wait for another build")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::cache::qcow2::tests::header;

    fn info(instance: &str, parent: Option<&str>) -> LayerInfo {
        LayerInfo {
            engine: None,
            beneath: Vec::new(),
            instance: instance.to_owned(),
            parent: parent.map(str::to_owned),
            template: "t".to_owned(),
            created: 1,
            seconds: 2.0,
            phases: Vec::new(),
            guest: None,
            fetched: Vec::new(),
        }
    }

    fn put(store: &LayerStore, folder: &Path, key: &str, info: &LayerInfo) -> Layer {
        let disk = folder.join("disk");
        fs::write(&disk, &info.instance).unwrap();
        store.put(key, &disk, info).unwrap()
    }

    #[test]
    fn a_layer_on_a_replaced_parent_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        put(&store, folder.path(), "parent", &info("p1", None));
        put(&store, folder.path(), "child", &info("c1", Some("p1")));
        assert!(store.get("child", Some("p1")).unwrap().is_some());
        put(&store, folder.path(), "parent", &info("p2", None));
        assert_eq!(store.get("parent", None).unwrap().unwrap().info.instance, "p2");
        assert!(store.get("child", Some("p2")).unwrap().is_none());
    }

    #[test]
    fn a_replaced_layer_stays_while_somebody_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        let used = put(&store, folder.path(), "k", &info("i1", None));
        put(&store, folder.path(), "k", &info("i2", None));
        assert!(used.disk.exists());
        let second = store.get("k", None).unwrap().unwrap();
        let path = second.disk.clone();
        drop(second);
        put(&store, folder.path(), "k", &info("i3", None));
        assert!(!path.exists());
    }

    #[test]
    fn a_replaced_layer_stays_while_something_lies_on_it_and_goes_with_that() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let store = cache.layers();
        let put = |key: &str, info: &LayerInfo, on: Option<&Path>| {
            let disk = folder.path().join("disk");
            fs::write(&disk, header(on.and_then(Path::to_str))).unwrap();
            store.put(key, &disk, info).unwrap().disk
        };
        let parent = put("parent", &info("p1", None), None);
        let child = put("child", &info("c1", Some("p1")), Some(&parent));
        let kept = cache.root().join("work/run-kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("kept"), "").unwrap();
        fs::write(kept.join("t.layer.qcow2"), header(child.to_str())).unwrap();
        let other = put("parent", &info("p2", None), None);
        assert!(parent.exists());
        let second = put("child", &info("c2", Some("p2")), Some(&other));
        assert!(child.exists(), "a kept disk lies on it");
        fs::remove_dir_all(&kept).unwrap();
        put("child", &info("c3", Some("p2")), Some(&other));
        assert!(!second.exists() && other.exists());
    }

    #[test]
    fn what_is_beside_a_replaced_disk_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().checkpoints();
        put(&store, folder.path(), "k", &info("i1", None));
        let memory = folder.path().join("checkpoints/k.i1.memory.qcow2");
        let disk = folder.path().join("checkpoints/k.i1.qcow2");
        fs::write(&memory, header(disk.to_str())).unwrap();
        put(&store, folder.path(), "k", &info("i2", None));
        assert!(!memory.exists() && !disk.exists());
    }

    #[test]
    fn a_torn_record_is_no_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        fs::write(folder.path().join("layers/k.json"), "{\"instance\":").unwrap();
        assert!(store.get("k", None).unwrap().is_none());
    }

    #[test]
    fn a_cut_layer_is_no_layer_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        let layer = put(&store, folder.path(), "k", &info("i1", None));
        let told = std::cell::RefCell::new(Vec::new());
        let find = || store.find("k", None, |text| told.borrow_mut().push(text)).unwrap();
        assert!(find().is_some());
        fs::write(&layer.disk, "").unwrap();
        assert!(find().is_none());
        assert!(told.borrow()[0].ends_with("has 0 bytes instead of 2: it is made anew"), "{told:?}");
    }

    #[test]
    fn who_takes_a_layer_leaves_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        put(&store, folder.path(), "k", &info("i1", None));
        let record = folder.path().join("layers/k.json");
        File::open(&record).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        store.get("k", None).unwrap().unwrap();
        assert_ne!(fs::metadata(&record).unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn only_one_builds_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        let first = store.build_lock("k").unwrap();
        assert!(first.try_take().unwrap());
        assert!(!store.build_lock("k").unwrap().try_take().unwrap());
        drop(first);
        assert!(store.build_lock("k").unwrap().try_take().unwrap());
    }
}
