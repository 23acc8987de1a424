//! The guest's disk as a tree: qemu-storage-daemon shows the qcow2 as a raw file (FUSE), a loop
//! device shows its root partition, and that is mounted; all within the container's name spaces.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
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
use uuid::Uuid;

use super::namespaces::{NameSpaces, Outer};
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::machine::Stderr;
use crate::machine::qmp::Qmp;
use crate::process;
use crate::source::disk::{LastPartition, grow_last_partition};

/// Its name, for messages.
pub(super) const PROGRAM: &str = "qemu-storage-daemon";

/// Where an ext4 file system has its UUID, bytes (`s_uuid` of the superblock, which begins at 1024).
const EXT4_UUID: u64 = 1024 + 0x68;

/// How long it may take to end once the disk is unmounted.
const END: Duration = Duration::from_secs(60);

/// A running daemon that shows a qcow2 as a raw file. Dropping it kills the daemon.
#[derive(Debug)]
pub(super) struct Export {
    daemon: Child,
    stderr: Stderr,
    reader: JoinHandle<()>,
    qmp: Qmp,
    raw: PathBuf,
}

/// A mounted disk; the mount goes with the name spaces.
#[derive(Debug)]
pub(super) struct Storage {
    export: Export,
    root: PathBuf,
    /// The loop device's name, `loop0`.
    device: String,
    partition: LastPartition,
}

impl Storage {
    /// Mounts the root file system of `export` at `root`, grown to the disk's size.
    ///
    /// # Errors
    /// The disk has no file system that can be mounted, a program fails (kind build), or `cancel` fires.
    pub(super) async fn mount(
        name_spaces: &NameSpaces,
        export: Export,
        root: PathBuf,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let outside = name_spaces.path(&export.raw);
        let grown = tokio::task::spawn_blocking(move || grow_last_partition(&outside)).await;
        let (partition, grew) = grown.context(Kind::Build, || "cannot read the partition table")??;
        let Range { start, end } = partition.range;
        // The kernel takes the loop device away with the mount.
        let options = format!("loop,offset={start},sizelimit={}", end - start);
        let arguments = ["-o".as_ref(), options.as_ref(), export.raw.as_os_str(), root.as_os_str()];
        let mounted = name_spaces.run("mount", arguments).output(cancel).await;
        mounted.map_err(|error| error.context("cannot mount the guest's root file system"))?;
        let metadata = fs::metadata(name_spaces.path(&root));
        let number = metadata.context(Kind::Build, || "cannot find the guest's root file system")?.dev();
        let device = format!("loop{}", rustix::fs::minor(number));
        if grew {
            let resized = name_spaces.run("resize2fs", [format!("/dev/{device}")]).output(cancel).await;
            resized.map_err(|error| error.context("cannot grow the guest's root file system"))?;
        }
        Ok(Self { export, root, device, partition })
    }

    /// Name of the loop device.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// The root partition, and the UUID of the file system in it.
    ///
    /// # Errors
    /// The disk cannot be read (kind build).
    pub(super) fn root_ids(&self, name_spaces: &NameSpaces) -> Result<(&LastPartition, Uuid)> {
        let mut uuid = [0; 16];
        let mut read = || {
            let mut file = File::open(name_spaces.path(&self.export.raw))?;
            file.seek(SeekFrom::Start(self.partition.range.start + EXT4_UUID))?;
            file.read_exact(&mut uuid)
        };
        read().context(Kind::Build, || "cannot read the guest's root file system")?;
        Ok((&self.partition, Uuid::from_bytes(uuid)))
    }

    /// Waits for the daemon's end; cancel-safe.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.export.daemon.wait().await
    }

    /// The daemon's last words.
    pub(super) fn said(&self) -> String {
        self.export.stderr.text()
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
        self.export.qmp.execute("quit", json!({})).await.map_err(lost)?;
        let status = tokio::time::timeout(END, self.export.daemon.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(lost(Error::build(format!("`{PROGRAM}` failed: {status}")).because(self.export.stderr.text())))
            }
            Ok(Err(error)) => Err(lost(Error::build(format!("cannot wait for `{PROGRAM}`")).because(error))),
            Err(_) => Err(lost(Error::build(format!("`{PROGRAM}` did not end within {END:?}")))),
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Export {
    /// Starts the daemon; its monitor answers once the export is there, because it takes its
    /// arguments in their order.
    ///
    /// # Errors
    /// The daemon cannot be run (kind host), or refuses (kind build; its words are the cause).
    pub(super) async fn start(
        outer: &Outer,
        disk: &Path,
        raw: &Path,
        (template, events): (&str, &Events),
    ) -> Result<Self> {
        let fail = || format!("cannot run `{PROGRAM}`");
        fs::write(raw, "").context(Kind::Host, || format!("cannot write {}", raw.display()))?;
        let (ours, theirs) = StdUnixStream::pair().context(Kind::Host, fail)?;
        ours.set_nonblocking(true).context(Kind::Host, fail)?;
        let theirs = OwnedFd::from(theirs);
        let also = theirs.try_clone().context(Kind::Host, fail)?;
        let mut command = outer.command(PROGRAM, arguments(disk, raw)?);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::from(also)).stderr(Stdio::piped());
        let mut daemon = process::spawn(command).await.context(Kind::Host, fail)?;
        let (stderr, reader) = Stderr::follow(daemon.stderr.take(), PROGRAM, events, template);
        match Qmp::open(UnixStream::from_std(ours).context(Kind::Host, fail)?).await {
            Ok((qmp, _events)) => Ok(Self { daemon, stderr, reader, qmp, raw: raw.to_owned() }),
            Err(error) => {
                let _ = daemon.kill().await;
                let _ = reader.await;
                let said = stderr.text();
                let cause = if said.is_empty() { error.chain().join(": ") } else { said };
                Err(Error::build(format!("`{PROGRAM}` did not come up"))
                    .because(cause)
                    .hint("it needs FUSE exports (QEMU 6.0 and newer) and /dev/fuse"))
            }
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
