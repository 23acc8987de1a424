//! Where a first disk comes from.
//!
//! [`bootstrap`] makes the root file system natively and puts a disk together from it that boots
//! by itself ([`boot_loader`]): without loop devices, without mounts on the host, as root or as an
//! ordinary user. [`package`] takes files, such as an installer's kernel, out of a Debian package.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Context, Kind, Result};

pub mod anna;
pub mod apt;
pub mod boot_loader;
pub mod bootstrap;
pub mod disk;
pub mod keyring;
pub mod namespace;
pub mod package;

/// Writes a file that only its owner may read; one that is there is replaced.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context(Kind::Host, || format!("writing {}", path.display()))
}
