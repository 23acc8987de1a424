//! Ctrl-C and SIGTERM: the first asks everything to stop and clean up, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Kind, Result};

const NONE: u8 = 0;
const INTERRUPTED: u8 = 1;
const TERMINATED: u8 = 2;

/// Listens to the signals that end a run.
#[derive(Debug, Clone)]
pub struct Signals {
    cancel: CancellationToken,
    received: Arc<AtomicU8>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The handlers cannot be installed (kind host).
    pub fn listen() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context(Kind::Host, || "cannot handle Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context(Kind::Host, || "cannot handle SIGTERM")?;
        let mut hang_up = signal(SignalKind::hangup()).context(Kind::Host, || "cannot handle SIGHUP")?;
        let signals = Self { cancel: CancellationToken::new(), received: Arc::default() };
        let listener = signals.clone();
        tokio::spawn(async move {
            loop {
                let which = tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                    _ = hang_up.recv() => TERMINATED,
                };
                let first = listener.received.compare_exchange(NONE, which, Ordering::SeqCst, Ordering::SeqCst);
                if first.is_err() {
                    // Children die with us: the kernel sees to it (crate::process).
                    std::process::exit(if which == INTERRUPTED { 130 } else { 143 });
                }
                listener.cancel.cancel();
            }
        });
        Ok(signals)
    }

    /// Fires at the first signal.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Which signal came, as the kind of error that it makes.
    pub fn received(&self) -> Option<Kind> {
        match self.received.load(Ordering::SeqCst) {
            INTERRUPTED => Some(Kind::Interrupted),
            TERMINATED => Some(Kind::Terminated),
            _ => None,
        }
    }
}
