//! The guest's disk as a tree: qemu-storage-daemon shows the qcow2 as a raw file (FUSE), a loop
//! device shows its root partition, and that is mounted; all within the container's name spaces.

use std::fs;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config;
use super::namespaces::NameSpaces;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::machine::Stderr;
use crate::machine::qmp::Qmp;
use crate::process;
use crate::source::disk::grow_last_partition;

/// Its name, for messages.
pub(super) const PROGRAM: &str = "qemu-storage-daemon";

/// How long it may take to end once the disk is unmounted.
const END: Duration = Duration::from_secs(60);

/// A mounted disk. Dropping it kills the daemon; the mount goes with the name spaces.
#[derive(Debug)]
pub(super) struct Storage {
    daemon: Child,
    stderr: Stderr,
    reader: JoinHandle<()>,
    qmp: Qmp,
    root: PathBuf,
    /// The loop device's name, `loop0`.
    device: String,
}

impl Storage {
    /// Mounts the root file system of the qcow2 `disk` at `folder/root`, grown to the disk's size.
    ///
    /// # Errors
    /// A program that is needed is missing (kind host) or fails (kind build), or `cancel` fires.
    pub(super) async fn attach(
        name_spaces: &NameSpaces,
        disk: &Path,
        folder: &Path,
        (template, events): (&str, &Events),
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let (raw, root) = (folder.join("disk.raw"), config::root(folder));
        let make = || fs::write(&raw, "").and_then(|()| fs::create_dir(&root));
        make().context(Kind::Host, || format!("cannot make a place to mount the disk in {}", folder.display()))?;
        let (qmp, daemon, stderr, reader) = export(name_spaces, disk, &raw, (template, events)).await?;
        let storage = Self { daemon, stderr, reader, qmp, root, device: String::new() };
        storage.mount(name_spaces, &raw, cancel).await
    }

    async fn mount(mut self, name_spaces: &NameSpaces, raw: &Path, cancel: &CancellationToken) -> Result<Self> {
        let outside = name_spaces.path(raw);
        let grown = tokio::task::spawn_blocking(move || grow_last_partition(&outside)).await;
        let (Range { start, end }, grew) = grown.context(Kind::Build, || "cannot read the partition table")??;
        // The kernel takes the loop device away with the mount.
        let options = format!("loop,offset={start},sizelimit={}", end - start);
        let arguments = ["-o".as_ref(), options.as_ref(), raw.as_os_str(), self.root.as_os_str()];
        let mounted = name_spaces.run("mount", arguments).output(cancel).await;
        mounted.map_err(|error| error.context("cannot mount the guest's root file system"))?;
        let metadata = fs::metadata(name_spaces.path(&self.root));
        let number = metadata.context(Kind::Build, || "cannot find the guest's root file system")?.dev();
        self.device = format!("loop{}", rustix::fs::minor(number));
        if grew {
            let device = format!("/dev/{}", self.device);
            let resized = name_spaces.run("resize2fs", [device]).output(cancel).await;
            resized.map_err(|error| error.context("cannot grow the guest's root file system"))?;
        }
        Ok(self)
    }

    /// Name of the loop device.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Waits for the daemon's end; cancel-safe.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.daemon.wait().await
    }

    /// The daemon's last words.
    pub(super) fn said(&self) -> String {
        self.stderr.text()
    }

    /// Unmounts the tree and closes the qcow2, which is complete then.
    ///
    /// # Errors
    /// Something could not be written (kind build), or `cancel` fires.
    pub(super) async fn detach(mut self, name_spaces: &NameSpaces, cancel: &CancellationToken) -> Result<()> {
        let lost = |error: Error| error.context("the guest's disk could not be completed");
        let root = self.root.as_os_str();
        // What was deleted needs no room in the layer.
        name_spaces.run("fstrim", [root]).output(cancel).await.map_err(lost)?;
        // syncfs(2) tells of writes that failed unseen.
        name_spaces.run("sync", ["--file-system".as_ref(), root]).output(cancel).await.map_err(lost)?;
        name_spaces.run("umount", [root]).output(cancel).await.map_err(lost)?;
        self.qmp.execute("quit", json!({})).await.map_err(lost)?;
        let status = tokio::time::timeout(END, self.daemon.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(lost(Error::build(format!("`{PROGRAM}` failed: {status}")).because(self.stderr.text())))
            }
            Ok(Err(error)) => Err(lost(Error::build(format!("cannot wait for `{PROGRAM}`")).because(error))),
            Err(_) => Err(lost(Error::build(format!("`{PROGRAM}` did not end within {END:?}")))),
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Starts the daemon; its monitor answers once the export is there, because it takes its arguments
/// in their order.
async fn export(
    name_spaces: &NameSpaces,
    disk: &Path,
    raw: &Path,
    (template, events): (&str, &Events),
) -> Result<(Qmp, Child, Stderr, JoinHandle<()>)> {
    let fail = || format!("cannot run `{PROGRAM}`");
    let (ours, theirs) = StdUnixStream::pair().context(Kind::Host, fail)?;
    ours.set_nonblocking(true).context(Kind::Host, fail)?;
    let theirs = OwnedFd::from(theirs);
    let also = theirs.try_clone().context(Kind::Host, fail)?;
    let mut command = name_spaces.command(PROGRAM, arguments(disk, raw)?);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::from(also)).stderr(Stdio::piped());
    let mut daemon = process::spawn(command).await.context(Kind::Host, fail)?;
    let (stderr, reader) = Stderr::follow(daemon.stderr.take(), PROGRAM, events, template);
    // The command holds the daemon's ends: ours would never see them close.
    let opened = Qmp::open(UnixStream::from_std(ours).context(Kind::Host, fail)?).await;
    match opened {
        Ok((qmp, _events)) => Ok((qmp, daemon, stderr, reader)),
        Err(error) => {
            let _ = daemon.kill().await;
            let _ = reader.await;
            let error = Error::build(format!("`{PROGRAM}` did not come up")).because(match stderr.text() {
                said if said.is_empty() => error.chain().join(": "),
                said => said,
            });
            Err(error.hint("it needs FUSE exports (QEMU 6.0 and newer) and /dev/fuse"))
        }
    }
}

/// The daemon's arguments. Flushes are ignored: the disk is thrown away when the host crashes.
fn arguments(disk: &Path, raw: &Path) -> Result<Vec<String>> {
    let node = json!({
        "driver": "qcow2", "node-name": "disk", "discard": "unmap", "detect-zeroes": "unmap",
        "cache": { "no-flush": true },
        "file": {
            "driver": "file", "filename": utf8(disk)?, "discard": "unmap", "cache": { "no-flush": true },
        },
    });
    let export = json!({
        "type": "fuse", "id": "disk", "node-name": "disk", "mountpoint": utf8(raw)?, "writable": true,
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
        {"driver":"qcow2","node-name":"disk","discard":"unmap","detect-zeroes":"unmap","cache":{"no-flush":true},"file":{"driver":"file","filename":"/w/a,b.qcow2","discard":"unmap","cache":{"no-flush":true}}}
        --export
        {"type":"fuse","id":"disk","node-name":"disk","mountpoint":"/w/disk.raw","writable":true,"allow-other":"off"}
        --chardev
        stdio,id=monitor
        --monitor
        chardev=monitor
        "#);
    }
}
