//! Work on a thread of its own that tells how far it is and can be stopped.

use std::io::{self, Read};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Given;
use crate::error::{Context, Error, Kind, Result};

/// How far the work is, and whether it is to go on.
#[derive(Debug)]
pub(super) struct Meter {
    done: watch::Sender<u64>,
    cancel: CancellationToken,
}

impl Meter {
    /// So many bytes more are done.
    ///
    /// # Errors
    /// The work is to stop.
    pub(super) fn add(&self, bytes: usize) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        self.done.send_modify(|done| *done += bytes as u64);
        Ok(())
    }

    /// `source`, each byte of which counts.
    pub(super) fn count<R>(&self, source: R) -> Counted<'_, R> {
        Counted { source, meter: self }
    }
}

/// A source that counts what is read of it.
#[derive(Debug)]
pub(super) struct Counted<'a, R> {
    source: R,
    meter: &'a Meter,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.meter.add(count)?;
        Ok(count)
    }
}

/// Does `work`, which has `total` bytes to do, on a thread of its own.
///
/// # Errors
/// Those of `work`, or it was stopped.
pub(super) async fn run<T: Send + 'static>(
    given: &Given<'_>,
    total: u64,
    work: impl FnOnce(&Meter) -> Result<T> + Send + 'static,
) -> Result<T> {
    let cancel = given.run.cancel;
    let (done, mut seen) = watch::channel(0);
    let meter = Meter { done, cancel: cancel.clone() };
    let mut task = tokio::task::spawn_blocking(move || work(&meter));
    let mut told = 0;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut task => break ended,
            Ok(()) = seen.changed() => {
                let done = *seen.borrow_and_update();
                let percent = done * 100 / total.max(1);
                if percent > told {
                    told = percent;
                    given.phase.progress(done, Some(total), "bytes");
                }
            }
        }
    };
    match ended.context(Kind::Build, || "the work ended unexpectedly")? {
        // What is done is done, and is to be known.
        Err(_) if cancel.is_cancelled() => Err(Error::new(Kind::Interrupted, "stopped")),
        ended => ended,
    }
}
