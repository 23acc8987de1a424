//! `cache gc`: what is removed, and removing it.
//!
//! [`choose`] decides over a picture of the cache; [`Collector`] looks again at each thing under its locks, because
//! builds go on meanwhile. What is removed first is what lies on something, then what it lay on.

use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::inventory::{Inventory, Item, ItemKind};
use super::{Cache, lock_file, try_lock};
use crate::error::{Error, Result};

pub use choose::{Reason, Rules, choose, with_all_on};

pub(super) use remove::is_replaced;

mod choose;
mod remove;

/// What became of something that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is gone, or would be.
    Removed,
    /// A build has taken it meanwhile, or something was put on it.
    InUse,
    /// The file system does not let it go.
    Failed(String),
}

/// Removes things from a cache; only one process does at a time.
#[derive(Debug)]
pub struct Collector<'a> {
    cache: &'a Cache,
    _lock: File,
}

impl<'a> Collector<'a> {
    /// Begins.
    ///
    /// # Errors
    /// Another process collects, or the lock cannot be made (kind host).
    pub fn begin(cache: &'a Cache) -> Result<Self> {
        let lock = lock_file(&cache.root().join("gc.lock"))?;
        if try_lock(&lock)? {
            return Ok(Self { cache, _lock: lock });
        }
        Err(Error::host(format!("another visabuild is collecting the cache {}", cache.root().display()))
            .hint("wait until it is done"))
    }

    /// Removes `item` unless somebody needs it now. Call it in the order of [`choose`].
    pub fn remove(&self, item: &Item) -> Outcome {
        let root = self.cache.root();
        let removed = match item.kind {
            ItemKind::Base | ItemKind::Layer | ItemKind::Checkpoint => remove::disk(root, item),
            ItemKind::Download => remove::download(root, item),
            ItemKind::Package => remove::package(root, item),
            ItemKind::Work => remove::work(item),
        };
        match removed {
            Ok(true) => Outcome::Removed,
            Ok(false) => Outcome::InUse,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Removes locks that nobody holds, of what is not there; returns how many.
    pub fn remove_locks(&self, inventory: &Inventory) -> usize {
        inventory.locks.iter().filter(|path| remove::lock(path)).count()
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        self.cache.root()
    }
}
