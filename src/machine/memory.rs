//! The memory of a running guest, written to a file, and a guest that goes on from there.
//!
//! The file is QEMU's own migration stream (docs/devel/migration in QEMU's sources): it fits the very machine that wrote
//! it, and the disk as it was at that moment.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Running;
use crate::error::{Context, Error, Kind, Result};

/// The first QEMU that writes the stream to a file by itself, major and minor version.
pub(crate) const FIRST_QEMU: (u64, u64) = (8, 2);

/// Bytes a second at which the stream may be written; QEMU's own limit is meant for a network.
const BANDWIDTH: u64 = 1 << 40;

/// How long is waited between questions whether QEMU has ended a migration.
const SETTLING: Duration = Duration::from_millis(10);

/// How long the stream may take to be written or read.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How far a migration is (QMP `MigrationStatus`); empty before there was one.
pub(super) type Migration = watch::Receiver<String>;

impl Running {
    /// From now on the guest writes to `overlay`, and what its memory held at that moment is in the new file `memory`.
    /// The guest stands still until both are done.
    ///
    /// # Errors
    /// QEMU refuses or is gone, or `cancel` fires. The guest goes on with `overlay` if that was done, which
    /// [`super::live_disk::LiveDisk::overlays`] tells, unless it is that which QEMU refuses: see [`Self::resume`].
    pub(crate) async fn save_memory(&self, overlay: &Path, memory: &Path, cancel: &CancellationToken) -> Result<()> {
        // QEMU would make it readable for its group.
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(memory);
        new.context(Kind::Host, || format!("making {}", memory.display()))?;
        self.held.hold(true);
        let saved = async {
            self.qmp.execute("stop", json!({})).await?;
            // The disk first: QEMU gives up its disks when the stream is complete, and takes them again when it goes on.
            self.disk.continue_on(overlay).await?;
            self.migrate("migrate", memory, cancel).await
        };
        let saved = saved.await;
        let resumed = self.resume().await;
        self.held.hold(false);
        saved.and(resumed).map_err(|error| error.context("keeping the guest's memory"))
    }

    /// Lets a guest that stands still go on; one that runs does anyway.
    ///
    /// # Errors
    /// QEMU refuses or is gone.
    pub(crate) async fn resume(&self) -> Result<()> {
        // A busy host's QEMU says that a migration is complete before it takes `cont` again, and has no event for that.
        let settled = async {
            while self.qmp.execute("query-status", json!({})).await?["status"] == "finish-migrate" {
                tokio::time::sleep(SETTLING).await;
            }
            Ok(())
        };
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        settled.unwrap_or_else(|_| Err(Error::build(format!("QEMU did not end its migration within {PATIENCE:?}"))))?;
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Lets a machine that was started to wait for it ([`super::Config::waits_for_memory`]) go on with the memory in
    /// the file `memory`.
    ///
    /// # Errors
    /// QEMU refuses: the file is of another machine, say; or `cancel` fires.
    pub(crate) async fn load_memory(&self, memory: &Path, cancel: &CancellationToken) -> Result<()> {
        self.held.hold(true);
        let loaded = async {
            self.migrate("migrate-incoming", memory, cancel).await?;
            // It stands still, as when the memory was written.
            self.resume().await
        };
        let loaded = loaded.await;
        self.held.hold(false);
        loaded.map_err(|error| error.context("restoring the guest's memory"))
    }

    async fn migrate(&self, command: &str, file: &Path, cancel: &CancellationToken) -> Result<()> {
        let Some(name) = file.to_str() else {
            return Err(Error::build(format!("QEMU cannot open {}: not UTF-8", file.display())));
        };
        let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        self.qmp.execute("migrate-set-capabilities", events).await?;
        self.qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH })).await?;
        let mut migration = self.migration.clone();
        migration.mark_unchanged();
        self.qmp.execute(command, json!({ "uri": format!("file:{name}") })).await?;
        let watch = self.watch();
        let over = async {
            loop {
                migration.changed().await.map_err(|_| Error::build("QEMU is gone"))?;
                match migration.borrow_and_update().as_str() {
                    "completed" => return Ok(()),
                    "failed" | "cancelled" => return Err(Error::build("QEMU gave it up")),
                    _ => {}
                }
            }
        };
        let over = tokio::select! {
            over = over => over,
            () = cancel.cancelled() => {
                // Whether it is heard or not: the machine is given up.
                let _ = self.qmp.execute("migrate_cancel", json!({})).await;
                Err(Error::new(Kind::Interrupted, "stopped"))
            }
            ended = watch.ended() => Err(ended.into()),
            () = tokio::time::sleep(PATIENCE) => Err(Error::build(format!("it was not done within {PATIENCE:?}"))),
        };
        match over {
            Err(error) if watch.has_ended().is_none() && error.kind() != Kind::Interrupted => {
                let reason = self.qmp.execute("query-migrate", json!({})).await.ok();
                let reason = reason.as_ref().and_then(|answer| answer["error-desc"].as_str().map(str::to_owned));
                Err(match reason {
                    Some(reason) => error.because(reason),
                    None => error,
                })
            }
            over => over,
        }
    }
}
