//! Room on the host's file systems.

use std::path::Path;

/// Free space of the file system that holds `path`, as far as an ordinary user may fill it, bytes (statvfs(3)).
pub(crate) fn free(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}
