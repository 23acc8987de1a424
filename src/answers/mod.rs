//! How an installer gets its answers (preseed, autoinstall, kickstart) without anybody typing them.
//!
//! - [`web`]: a web server on loopback, which a guest on QEMU's user network finds at 10.0.2.2. What it serves
//!   ([`site`]) is rendered before it starts; every request is told and kept.
//! - [`initrd`]: files appended to the installer's own initial file system: no network is needed to find them.
//! - [`volume`]: a CD ([`iso`]) or a floppy ([`fat`]) with files, such as NoCloud's `CIDATA` and Anaconda's `OEMDRV`.
//! - [`password`]: hashes for answers; the passwords themselves stay here.

pub mod fat;
pub mod initrd;
pub mod iso;
pub mod password;
pub mod site;
pub mod volume;
pub mod web;

mod media_type;

use std::path::PathBuf;

/// Where the bytes of a file for a guest are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file of the host.
    File(PathBuf),
}
