//! What the guest finds in place of programs that need a disk.
//!
//! A container sees no disk, so GRUB's own update-grub fails there, and a kernel's package leaves it out. The
//! folder [`BIN`] has one that knows the disk; steps find it first. What it puts into `/dev` is gone with the
//! container.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Context, Kind, Result};
use crate::source::boot_loader::GRUB_CONFIG_SCRIPT;
use crate::source::disk::LastPartition;

/// Where the guest finds the tools.
pub(super) const MOUNT_POINT: &str = "/run/visabuild/tools";

/// Where the guest finds the programs among them.
pub const BIN: &str = "/run/visabuild/tools/bin";

/// A command of the guest that makes GRUB's menu anew where files came or went in `/boot`, as a
/// kernel's package does outside of containers.
pub const REFRESH_BOOT_MENU: &str = "if [ -x /run/visabuild/tools/bin/update-grub ] && [ -e /boot/grub/grub.cfg ] \
                                     && [ /boot -nt /boot/grub/grub.cfg ]; then /run/visabuild/tools/bin/update-grub; fi";

/// The folder on the host.
pub(super) fn folder(runtime: &Path) -> PathBuf {
    runtime.join("tools")
}

/// Writes the tools for a guest whose root file system is `file_system` in `partition`.
///
/// # Errors
/// They cannot be written (kind host).
pub(super) fn write(runtime: &Path, partition: &LastPartition, file_system: Uuid) -> Result<()> {
    let folder = folder(runtime);
    let LastPartition { number, guid, .. } = partition;
    let update_grub =
        format!("#!/bin/sh\nexec unshare --mount -- sh {MOUNT_POINT}/grub-config.sh {file_system} {guid} {number}\n");
    let write = || {
        for (path, text) in [("grub-config.sh", GRUB_CONFIG_SCRIPT), ("bin/update-grub", &update_grub)] {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(&folder);
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, Permissions::from_mode(0o755))?;
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok::<_, std::io::Error>(())
    };
    write().context(Kind::Host, || format!("writing the guest's tools into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_know_the_disk_and_are_for_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let partition = LastPartition { number: 3, guid: Uuid::from_u128(7), range: 0..1 };
        write(folder.path(), &partition, Uuid::from_u128(9)).unwrap();
        let path = folder.path().join("tools/bin/update-grub");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with("-000000000009 00000000-0000-0000-0000-000000000007 3\n"), "{text}");
        assert!(BIN.starts_with(MOUNT_POINT) && REFRESH_BOOT_MENU.contains(BIN));
    }
}
