//! The guest's disk as a tree: a loop device shows the root partition of the exported disk, and that
//! is mounted; all within the container's name spaces.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::export::Export;
use super::kernel_log::KernelLog;
use super::namespaces::NameSpaces;
use crate::disk_space::free;
use crate::error::{Context, Error, Kind, Result};
use crate::machine::Ended;
use crate::machine::live_disk::LiveDisk;
use crate::source::disk::{LastPartition, grow_last_partition};

/// Where an ext4 file system has its superblock, bytes (Linux, Documentation/filesystems/ext4).
const EXT4_SUPERBLOCK: u64 = 1024;
/// Where in it is the UUID (`s_uuid`).
const EXT4_UUID: u64 = 0x68;
/// Where in it are features that a kernel must know (`s_feature_incompat`, u32 little endian).
const EXT4_INCOMPATIBLE: u64 = 0x60;
/// The one that says that the file system is mounted, or was not unmounted (`RECOVER`).
const EXT4_RECOVER: u32 = 0x4;

/// Free space on the host below which a failed write is put down to its lack, bytes.
const FULL: u64 = 16 << 20;

/// Grows the file system of a file at an offset (bytes) to a size (bytes). Before it is mounted, because growing a mounted
/// one takes CAP_SYS_RESOURCE, which root of a container has not. Told to detach the device while it is open, the kernel
/// does so at the end of the shell, whatever that is.
const GROW: &str = r#"set -eu
device=$(losetup --find --show --offset "$2" --sizelimit "$3" "$1")
exec 3<"$device"
losetup --detach "$device"
resize2fs -f "$device"
"#;

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
        if grew {
            let range = [start, end - start].map(|number| number.to_string());
            let arguments = ["-c".as_ref(), GROW.as_ref(), "sh".as_ref(), export.raw.as_os_str()];
            let arguments = arguments.into_iter().chain(range.iter().map(AsRef::as_ref));
            let grown = name_spaces.run("sh", arguments).output(cancel).await;
            grown.map_err(|error| error.context("cannot grow the guest's root file system"))?;
        }
        // The kernel takes the loop device away with the mount.
        // Of the guest's device nodes none may be opened: a layer that QEMU made can hold any.
        let options = format!("nodev,loop,offset={start},sizelimit={}", end - start);
        let arguments = ["-t", "ext4", "-o", &options].map(AsRef::as_ref);
        let arguments = arguments.into_iter().chain([export.raw.as_os_str(), root.as_os_str()]);
        let mounted = name_spaces.run("mount", arguments).output(cancel).await;
        mounted.map_err(|error| error.context("cannot mount the guest's root file system"))?;
        let device = loop_device(&name_spaces.path(&root))?;
        Ok(Self { export, root, device, partition })
    }

    /// The disk, for whoever leads its writes elsewhere.
    pub(super) fn live_disk(&self) -> LiveDisk {
        self.export.live_disk()
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
        self.superblock(name_spaces, EXT4_UUID, &mut uuid)?;
        Ok((&self.partition, Uuid::from_bytes(uuid)))
    }

    /// Waits for the daemon's end; cancel-safe.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.export.ended().await
    }

    /// What the daemon said before it ended.
    pub(super) async fn last_words(&mut self) -> String {
        self.export.last_words().await
    }

    /// What it means that the kernel tells of a failed write: mostly that the host has no space.
    pub(super) fn lost_write(&self, reason: String) -> Ended {
        let path = self.export.disk.clone();
        let free = free(&path);
        if free.is_some_and(|free| free < FULL) {
            Ended::DiskFull { path, free }
        } else {
            Ended::IoError { path, operation: "write".to_owned(), reason }
        }
    }

    /// Unmounts the tree and closes the qcow2, which is complete then.
    ///
    /// # Errors
    /// Something could not be written (kind build, or host where it has no space), or `cancel` fires.
    pub(super) async fn detach(
        self,
        name_spaces: &NameSpaces,
        log: &mut KernelLog,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let lost = |error: Error| error.context("the guest's disk could not be completed");
        let root = self.root.as_os_str();
        // What was deleted needs no room in the layer; what cannot be discarded only takes some.
        if let Err(error) = name_spaces.run("fstrim", [root]).output(cancel).await
            && error.kind() == Kind::Interrupted
        {
            return Err(error);
        }
        // syncfs(2) tells of writes that failed unseen, the kernel's log of all.
        name_spaces.run("sync", ["--file-system".as_ref(), root]).output(cancel).await.map_err(lost)?;
        name_spaces.run("umount", [root]).output(cancel).await.map_err(lost)?;
        if let Some(text) = log.errors_so_far(&self.device) {
            return Err(lost(self.lost_write(text).into()));
        }
        self.check_unmounted(name_spaces).map_err(lost)?;
        // A write of the daemon's own that fails at its end is not told by its exit code.
        let raw = File::open(name_spaces.path(&self.export.raw)).context(Kind::Build, || "opening the disk");
        let synced = tokio::task::spawn_blocking(move || raw?.sync_all().context(Kind::Build, || "writing the disk"));
        synced.await.context(Kind::Build, || "writing the disk").flatten().map_err(lost)?;
        self.export.close().await.map_err(lost)
    }

    /// Whether the file system was really unmounted: somebody else on the host may hold it.
    fn check_unmounted(&self, name_spaces: &NameSpaces) -> Result<()> {
        let mut features = [0; 4];
        self.superblock(name_spaces, EXT4_INCOMPATIBLE, &mut features)?;
        if u32::from_le_bytes(features) & EXT4_RECOVER == 0 {
            return Ok(());
        }
        Err(Error::build("its file system is still in use after it was unmounted")
            .hint("does something on this host mount or examine new devices by itself (udisks, an automounter)?"))
    }

    fn superblock(&self, name_spaces: &NameSpaces, offset: u64, field: &mut [u8]) -> Result<()> {
        let mut read = || {
            let mut file = File::open(name_spaces.path(&self.export.raw))?;
            file.seek(SeekFrom::Start(self.partition.range.start + EXT4_SUPERBLOCK + offset))?;
            file.read_exact(field)
        };
        read().context(Kind::Build, || "cannot read the guest's root file system")
    }
}

/// Name of the loop device that is mounted at `root`; with partitions on loop devices its number is
/// not the device's minor one.
fn loop_device(root: &Path) -> Result<String> {
    let number = fs::metadata(root).context(Kind::Build, || "cannot find the guest's root file system")?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    match link.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("loop") => Ok(name.to_owned()),
        _ => Err(Error::build(format!("the guest's root file system is on {major}:{minor}, which is no loop device"))),
    }
}
