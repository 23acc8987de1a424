//! A qcow2 as a raw file: qemu-storage-daemon(1) with a FUSE export.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::namespaces::Outer;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::machine::Stderr;
use crate::machine::live_disk::{self, LiveDisk};
use crate::machine::qmp::Qmp;
use crate::process;

/// Its name, for messages.
pub(super) const PROGRAM: &str = "qemu-storage-daemon";

/// How long it may take to open the disk.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end.
const END: Duration = Duration::from_secs(60);

/// A running daemon that shows a qcow2 as a raw file. Dropping it kills the daemon.
#[derive(Debug)]
pub(super) struct Export {
    daemon: Child,
    stderr: Stderr,
    reader: JoinHandle<()>,
    qmp: Arc<Qmp>,
    /// The qcow2.
    pub(super) disk: PathBuf,
    /// The raw file, in the name spaces.
    pub(super) raw: PathBuf,
}

impl Export {
    /// Starts the daemon; its monitor answers once the export is there, because it takes its
    /// arguments in their order.
    ///
    /// # Errors
    /// The daemon cannot be run (kind host), refuses (kind build; its words are the cause), or
    /// `cancel` fires. It may still run then: `outer` is to be closed.
    pub(super) async fn start(
        outer: &Outer,
        disk: &Path,
        raw: &Path,
        (template, events): (&str, &Events),
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let fail = || format!("cannot run `{PROGRAM}`");
        fs::write(raw, "").context(Kind::Host, || format!("cannot write {}", raw.display()))?;
        let (ours, theirs) = process::socket().context(Kind::Host, fail)?;
        let also = theirs.try_clone().context(Kind::Host, fail)?;
        let mut command = outer.command(PROGRAM, arguments(disk, raw)?);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::from(also)).stderr(Stdio::piped());
        let mut daemon = process::spawn(command).await.context(Kind::Host, fail)?;
        let (stderr, mut reader) = Stderr::follow(daemon.stderr.take(), PROGRAM, events, template);
        let opened = tokio::select! {
            opened = tokio::time::timeout(START, Qmp::open(ours)) => opened,
            () = cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
        };
        let cause = match opened {
            Ok(Ok((qmp, _events))) => {
                let (qmp, disk, raw) = (Arc::new(qmp), disk.to_owned(), raw.to_owned());
                return Ok(Self { daemon, stderr, reader, qmp, disk, raw });
            }
            Ok(Err(error)) => error.chain().join(": "),
            Err(_) => format!("it was silent for {START:?}"),
        };
        let said = stderr.last_words(&mut reader).await;
        Err(Error::build(format!("`{PROGRAM}` did not come up"))
            .because(if said.is_empty() { cause } else { said })
            .hint("it needs FUSE exports (QEMU 6.0 and newer) and /dev/fuse"))
    }

    /// The disk, for whoever leads its writes elsewhere.
    pub(super) fn live_disk(&self) -> LiveDisk {
        LiveDisk::new(Arc::clone(&self.qmp), node())
    }

    /// Waits for its end; cancel-safe.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.daemon.wait().await
    }

    /// What it said before it ended.
    pub(super) async fn last_words(&mut self) -> String {
        self.stderr.last_words(&mut self.reader).await
    }

    /// Closes the qcow2 and waits for its end.
    ///
    /// # Errors
    /// It refuses, fails or does not end (kind build).
    pub(super) async fn close(mut self) -> Result<()> {
        self.qmp.execute("quit", json!({})).await?;
        match tokio::time::timeout(END, self.daemon.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(Error::build(format!("`{PROGRAM}` failed: {status}")).because(self.last_words().await))
            }
            Ok(Err(error)) => Err(Error::build(format!("cannot wait for `{PROGRAM}`")).because(error)),
            Err(_) => Err(Error::build(format!("`{PROGRAM}` did not end within {END:?}"))),
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The options of a block node of the disk. Flushes are ignored: it is thrown away when the host crashes.
fn node() -> Value {
    json!({
        "driver": "qcow2", "discard": "unmap", "detect-zeroes": "unmap", "cache": { "no-flush": true },
        "file": { "driver": "file", "discard": "unmap", "cache": { "no-flush": true } },
    })
}

/// The daemon's arguments.
fn arguments(disk: &Path, raw: &Path) -> Result<Vec<String>> {
    let mut node = node();
    node["node-name"] = json!(live_disk::NODE);
    node["file"]["filename"] = json!(utf8(disk)?);
    let export = json!({
        "type": "fuse", "id": "disk", "node-name": live_disk::NODE, "mountpoint": utf8(raw)?, "writable": true,
        "allow-other": "off",
    });
    let words = ["--blockdev", &node.to_string(), "--export", &export.to_string()];
    let monitor = ["--chardev", "stdio,id=monitor", "--monitor", "chardev=monitor"];
    Ok(words.into_iter().chain(monitor).map(str::to_owned).collect())
}

fn utf8(path: &Path) -> Result<&str> {
    let hint = "use a cache whose path is UTF-8, by XDG_CACHE_HOME";
    path.to_str().ok_or_else(|| Error::host(format!("`{PROGRAM}` cannot open {}", path.display())).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_arguments() {
        let arguments = arguments(Path::new("/w/a,b.qcow2"), Path::new("/w/disk.raw")).unwrap();
        insta::assert_snapshot!(arguments.join("\n"), @r#"
        --blockdev
        {"driver":"qcow2","discard":"unmap","detect-zeroes":"unmap","cache":{"no-flush":true},"file":{"driver":"file","discard":"unmap","cache":{"no-flush":true},"filename":"/w/a,b.qcow2"},"node-name":"disk"}
        --export
        {"type":"fuse","id":"disk","node-name":"disk","mountpoint":"/w/disk.raw","writable":true,"allow-other":"off"}
        --chardev
        stdio,id=monitor
        --monitor
        chardev=monitor
        "#);
    }
}
