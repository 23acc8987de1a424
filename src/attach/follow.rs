//! What a machine's serial console says, as it comes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::WatchFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::Record;
use super::notify::{Notify, ready};
use crate::error::{Context, Kind, Result};

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine is gone, or its build.
    Machine,
    /// Nobody reads any more.
    Reader,
    /// `cancel` fired.
    Cancelled,
}

/// Writes all that the serial console of `record`'s machine has said to `out`, and then what it says, until the machine
/// ends or `cancel` fires.
///
/// # Errors
/// The machine has just ended, or the kernel gives no watches (kind host).
pub async fn follow(record: &Record, out: &mut impl Write, cancel: &CancellationToken) -> Result<End> {
    let failed = || format!("cannot follow the serial console of `{}`", record.build);
    let watch = Watch::new(record).context(Kind::Host, failed)?;
    let mut serial = File::open(&record.serial).context(Kind::Host, failed)?;
    loop {
        // In this order: what was said before the machine ended is read after it.
        let current = record.is_current();
        let copied = copy(&mut serial, out).context(Kind::Host, failed)?;
        match (copied, current) {
            (Copied::Refused, _) => return Ok(End::Reader),
            (Copied::All, false) => return Ok(End::Machine),
            (Copied::All, true) => {}
        }
        tokio::select! {
            changed = watch.files.changed() => changed.context(Kind::Host, failed)?,
            // Killed, it could not take its record back.
            () = watch.gone() => {
                copy(&mut serial, out).context(Kind::Host, failed)?;
                return Ok(End::Machine);
            }
            () = cancel.cancelled() => return Ok(End::Cancelled),
        }
    }
}

/// Whether the reader takes it.
enum Copied {
    All,
    Refused,
}

fn copy(serial: &mut File, out: &mut impl Write) -> io::Result<Copied> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = serial.read(&mut buffer)?;
        if count == 0 {
            return Ok(Copied::All);
        }
        // A terminal that is gone, a `head` that has seen enough.
        if out.write_all(&buffer[..count]).and_then(|()| out.flush()).is_err() {
            return Ok(Copied::Refused);
        }
    }
}

/// Tells when something is said, when the record changes, and when visabuild is gone.
struct Watch {
    files: Notify,
    /// None where the process is not to be seen: in a container of its own, say.
    process: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    fn new(record: &Record) -> io::Result<Self> {
        let files = Notify::new()?;
        files.add(&record.serial, WatchFlags::MODIFY)?;
        // Not what is written there: among others, the guest's disk.
        let folder = record.serial.parent().unwrap_or(Path::new("."));
        files.add(folder, WatchFlags::DELETE | WatchFlags::DELETE_SELF)?;
        let process = Pid::from_raw(record.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        Ok(Self { files, process: process.map(ready).transpose()? })
    }

    async fn gone(&self) {
        match &self.process {
            Some(process) => drop(process.readable().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::Recorded;
    use super::*;

    struct Said(Sender<Vec<u8>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn next(heard: &Receiver<Vec<u8>>) -> Vec<u8> {
        loop {
            match heard.try_recv() {
                Ok(bytes) => return bytes,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn all_that_is_said_is_heard_also_without_a_line_end_until_the_machine_ends() {
        let work = tempfile::tempdir().unwrap();
        let mut recorded = Recorded::new(work.path(), Path::new("/out"), "tiny", "layer");
        std::fs::write(recorded.serial(), "one\r\n").unwrap();
        recorded.running(None).unwrap();
        let record = Record::read(&work.path().join("tiny.layer.machine.json")).unwrap();
        let (said, heard) = channel();
        let following = tokio::spawn(async move {
            let cancel = CancellationToken::new();
            follow(&record, &mut Said(said), &cancel).await
        });
        assert_eq!(next(&heard).await, b"one\r\n");
        let mut serial = OpenOptions::new().append(true).open(recorded.serial()).unwrap();
        serial.write_all(b"\x1b[1mlogin: ").unwrap();
        assert_eq!(next(&heard).await, b"\x1b[1mlogin: ");
        serial.write_all(b"off").unwrap();
        drop(recorded);
        assert_eq!(following.await.unwrap().unwrap(), End::Machine);
        assert_eq!(heard.try_iter().flatten().collect::<Vec<_>>(), b"off");
    }

    #[tokio::test]
    async fn whoever_follows_may_stop() {
        let work = tempfile::tempdir().unwrap();
        let mut recorded = Recorded::new(work.path(), Path::new("/out"), "tiny", "layer");
        std::fs::write(recorded.serial(), "x").unwrap();
        recorded.running(None).unwrap();
        let record = Record::read(&work.path().join("tiny.layer.machine.json")).unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(follow(&record, &mut Vec::new(), &cancel).await.unwrap(), End::Cancelled);
        let (said, heard) = channel();
        drop(heard);
        assert_eq!(follow(&record, &mut Said(said), &CancellationToken::new()).await.unwrap(), End::Reader);
    }
}
