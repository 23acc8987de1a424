//! Where a first disk comes from.
//!
//! [`bootstrap`] makes the root file system natively and puts a disk together from it: without
//! loop devices, without mounts on the host, as root or as an ordinary user. The disk's boot
//! loader is installed by the guest itself in its first boot, which QEMU starts with kernel and
//! initrd given directly ([`bootstrap::kernel_command_line`], [`bootstrap::BOOT_LOADER_SCRIPT`]).

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Context, Kind, Result};

pub mod apt;
pub mod bootstrap;
pub mod disk;
pub mod keyring;
pub mod namespace;

/// Writes a file that only its owner may read; one that is there is replaced.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context(Kind::Host, || format!("writing {}", path.display()))
}
