//! The kernel's word that something happened to files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Something that tells when it can be read.
#[expect(deprecated, reason = "unsound only for types that lie about their descriptor, which OwnedFd does not")]
pub(super) fn ready(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

/// Watches over files and folders (inotify(7)).
pub(super) struct Notify(AsyncFd<OwnedFd>);

impl Notify {
    /// Watches over nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(ready(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?))
    }

    /// Watches for `what` at `path`.
    pub(super) fn add(&self, path: &Path, what: WatchFlags) -> io::Result<()> {
        inotify::add_watch(self.0.get_ref(), path, what)?;
        Ok(())
    }

    /// Waits until something happened; what it was is looked for in the files themselves.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut events = [0; 4096];
            match ready.try_io(|files| Ok(rustix::io::read(files, &mut events)?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
