//! What the host gives to a container, over its reboots, and takes back.

use std::fs;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::config::{self, Config};
use super::export::Export;
use super::kernel_log::KernelLog;
use super::namespaces::{NameSpaces, Outer};
use super::storage::Storage;
use super::tools;
use crate::error::{Context, Error, Kind, Result};
use crate::machine::Start;

/// What the host gives to a container, over its reboots.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name_spaces: NameSpaces,
    pub(super) storage: Storage,
    pub(super) kernel_log: KernelLog,
}

impl Host {
    /// Makes it: the disk of `config` is mounted below the start's runtime folder.
    ///
    /// # Errors
    /// The host cannot do it (kind host), a program fails (kind build), or the start's `cancel` fires.
    pub(super) async fn new(config: &Config, start: Start<'_>) -> Result<Self> {
        // Before anything can be written.
        let kernel_log = KernelLog::open()?;
        let root = config::root(start.runtime);
        if root.starts_with("/run") && !Path::new("/run/systemd").is_dir() {
            return Err(Error::host(format!("a container cannot have its disk in {}", root.display()))
                .hint("use a cache outside of /run, by XDG_CACHE_HOME"));
        }
        fs::create_dir(&root).context(Kind::Host, || format!("cannot make {}", root.display()))?;
        let outer = Outer::new(start.cancel).await?;
        let raw = start.runtime.join("disk.raw");
        let told = (start.template, start.events);
        let export = match Export::start(&outer, &config.disk, &raw, told, start.cancel).await {
            Ok(export) => export,
            Err(error) => {
                outer.close().await;
                return Err(error);
            }
        };
        let name_spaces = NameSpaces::new(outer, start.cancel).await?;
        let mounted = Storage::mount(&name_spaces, export, root, start.cancel).await.and_then(|storage| {
            let (partition, file_system) = storage.root_ids(&name_spaces)?;
            tools::write(start.runtime, partition, file_system)?;
            Ok(storage)
        });
        match mounted {
            Ok(storage) => Ok(Self { name_spaces, storage, kernel_log }),
            Err(error) => {
                name_spaces.close().await;
                Err(error)
            }
        }
    }

    /// Completes the disk of a guest that powered off, and takes everything back.
    ///
    /// # Errors
    /// Something could not be written (kind build or host), or `cancel` fires.
    pub(super) async fn complete(mut self, cancel: &CancellationToken) -> Result<()> {
        let detached = self.storage.detach(&self.name_spaces, &mut self.kernel_log, cancel).await;
        self.name_spaces.close().await;
        detached
    }

    /// Takes everything back; the disk is worth nothing then.
    pub(super) async fn close(self) {
        drop(self.storage);
        self.name_spaces.close().await;
    }
}
