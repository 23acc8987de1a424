//! Where a machine's sockets are.

use std::path::Path;

use crate::error::{Context, Kind, Result};

/// Bytes of the longest working folder in which sockets still have room: 107 less `/q-XXXXXX/serial`
/// and some.
const LONGEST_WORK: usize = 85;

/// A folder for the machine's sockets and mounts.
pub(crate) fn runtime_folder(work: &Path) -> Result<tempfile::TempDir> {
    short_folder(work, LONGEST_WORK)
}

/// A folder for sockets and mounts: in the working folder, where the next run finds what a kill left, unless its path is
/// longer than `longest` bytes, too long for a socket (unix(7)).
pub(crate) fn short_folder(work: &Path, longest: usize) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("q-");
    // Without links, which a container's name spaces would follow elsewhere.
    let temporary = std::env::temp_dir();
    let made = if work.as_os_str().len() <= longest {
        builder.tempdir_in(work)
    } else {
        builder.tempdir_in(temporary.canonicalize().unwrap_or(temporary))
    };
    made.context(Kind::Host, || "cannot make a folder for sockets")
}
