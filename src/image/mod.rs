//! Finished images: qemu-img, the seal, checksums and the manifest.

pub mod manifest;
pub mod qemu_img;
pub mod record;

mod checksum;
mod compression;

pub use checksum::Checksums;
pub use compression::Compression;

/// Takes the traces of the build out of a guest; run over SSH on the throw-away overlay.
pub const SEAL_SCRIPT: &str = include_str!("seal.sh");

/// Prepares a booted guest for provisioning: `open` and `close`.
pub const SESSION_SCRIPT: &str = include_str!("session.sh");
