//! The disk of a running guest, whose writes can be led elsewhere: what it has been so far stays.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::qmp::Qmp;
use crate::error::{Error, Result};

/// A disk that a guest writes, by the monitor of the program that has it open: QEMU or qemu-storage-daemon(1).
#[derive(Debug)]
pub(crate) struct LiveDisk {
    qmp: Arc<Qmp>,
    /// Options of a block node of it, but for its name, its file's name and what it lies on (QMP `BlockdevOptions`).
    options: Value,
    /// How many overlays there are.
    overlays: Mutex<u32>,
}

/// The block node that a disk has before the first overlay.
pub(crate) const NODE: &str = "disk";

impl LiveDisk {
    /// The disk of the block node [`NODE`], whose overlays are opened with `options`.
    pub(crate) fn new(qmp: Arc<Qmp>, options: Value) -> Self {
        Self { qmp, options, overlays: Mutex::new(0) }
    }

    /// How often the guest's writes were led elsewhere.
    pub(crate) async fn overlays(&self) -> u32 {
        *self.overlays.lock().await
    }

    /// From now on the guest writes to `overlay`, which lies on the file that it has written so far; that one is
    /// complete, but maybe not on the host's disk yet.
    ///
    /// The guest's own memory is not asked: what it has not written is in the overlay.
    ///
    /// # Errors
    /// The program refuses, or is gone; the guest goes on as before.
    pub(crate) async fn continue_on(&self, overlay: &Path) -> Result<()> {
        let Some(name) = overlay.to_str() else {
            return Err(Error::build(format!("QEMU cannot open {}: not UTF-8", overlay.display())));
        };
        let mut overlays = self.overlays.lock().await;
        let before = node(*overlays);
        let next = node(*overlays + 1);
        let mut options = self.options.clone();
        options["node-name"] = json!(next);
        options["backing"] = Value::Null;
        options["file"]["filename"] = json!(name);
        self.qmp.execute("blockdev-add", options).await?;
        if let Err(error) = self.qmp.execute("blockdev-snapshot", json!({ "node": before, "overlay": next })).await {
            // What cannot be closed is closed with the machine.
            let _ = self.qmp.execute("blockdev-del", json!({ "node-name": next })).await;
            return Err(error);
        }
        *overlays += 1;
        Ok(())
    }
}

fn node(overlays: u32) -> String {
    match overlays {
        0 => NODE.to_owned(),
        number => format!("{NODE}-{number}"),
    }
}
