//! Layers: provisioned, cleanly shut down, unsealed qcow2 overlays, named by fingerprint.
//!
//! An overlay is valid only on the very file that it was made on, so every layer file has an
//! instance of its own in its name, and a layer records its parent's instance. Rebuilding a parent
//! thereby makes its children stale instead of corrupting them. Who uses a layer holds a shared
//! lock on its file; only an unlocked file is removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{lock_file, publish_file, replace_file, try_lock};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};

/// What is recorded of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Distinguishes this build of the layer from any other of the same fingerprint.
    pub instance: String,
    /// The instance of the layer that it lies on.
    pub parent: Option<String>,
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
}

/// A layer that is being used: its file cannot be removed while this value lives.
#[derive(Debug)]
pub struct Layer {
    /// The qcow2.
    pub disk: PathBuf,
    /// What is recorded of it.
    pub info: LayerInfo,
    _in_use: File,
}

/// A folder of layers.
#[derive(Debug, Clone)]
pub struct LayerStore {
    folder: PathBuf,
}

impl LayerStore {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The layer `key`, if it is there and lies on `parent` (an instance, none for a base).
    ///
    /// # Errors
    /// The cache cannot be read (kind host).
    pub fn get(&self, key: &str, parent: Option<&str>) -> Result<Option<Layer>> {
        let Ok(text) = fs::read(self.info_path(key)) else { return Ok(None) };
        let Ok(info) = serde_json::from_slice::<LayerInfo>(&text) else { return Ok(None) };
        if info.parent.as_deref() != parent {
            return Ok(None);
        }
        let disk = self.disk_path(key, &info.instance);
        let Ok(file) = File::open(&disk) else { return Ok(None) };
        file.lock_shared().context(Kind::Host, || format!("cannot lock {}", disk.display()))?;
        // It may have been removed between the opening and the locking.
        if !disk.exists() {
            return Ok(None);
        }
        Ok(Some(Layer { disk, info, _in_use: file }))
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
        let fail = |error: std::io::Error| {
            Error::host(format!("cannot put a layer of {} into the cache", info.template)).because(error)
        };
        let old = fs::read(self.info_path(key)).ok().and_then(|text| serde_json::from_slice::<LayerInfo>(&text).ok());
        publish_file(disk, &self.disk_path(key, &info.instance)).map_err(fail)?;
        let json = serde_json::to_vec_pretty(info).map_err(|error| fail(error.into()))?;
        replace_file(&self.info_path(key), &json, 0o600).map_err(fail)?;
        if let Some(old) = old {
            self.remove_disk(key, &old)?;
        }
        self.get(key, info.parent.as_deref())?
            .ok_or_else(|| Error::host(format!("the layer of {} vanished from the cache", info.template)))
    }

    fn remove_disk(&self, key: &str, info: &LayerInfo) -> Result<()> {
        let disk = self.disk_path(key, &info.instance);
        let Ok(file) = File::open(&disk) else { return Ok(()) };
        // Somebody builds on it: it stays until the cache is collected.
        if try_lock(&file)? {
            let _ = fs::remove_file(&disk);
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

    fn info(instance: &str, parent: Option<&str>) -> LayerInfo {
        LayerInfo {
            engine: None,
            instance: instance.to_owned(),
            parent: parent.map(str::to_owned),
            template: "t".to_owned(),
            created: 1,
            seconds: 2.0,
            phases: Vec::new(),
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
    fn a_torn_record_is_no_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Cache::open(folder.path()).unwrap().layers();
        fs::write(folder.path().join("layers/k.json"), "{\"instance\":").unwrap();
        assert!(store.get("k", None).unwrap().is_none());
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
