//! JSON lines: one object an event, for programs.

use std::io::Write;
use std::sync::Mutex;

use crate::event::{Subscriber, Timed};

/// Writes every event as one line of JSON.
pub struct JsonLines<W> {
    out: Mutex<W>,
}

impl<W: Write + Send> JsonLines<W> {
    /// A subscriber that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out) }
    }
}

impl<W> std::fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}

impl<W: Write + Send> Subscriber for JsonLines<W> {
    fn receive(&self, event: &Timed) {
        if let (Ok(line), Ok(mut out)) = (serde_json::to_string(event), self.out.lock()) {
            // Whoever reads may have gone; the build goes on.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
}
