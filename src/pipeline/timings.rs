//! Phases with their wall times.

use crate::event::{Events, Phase};

/// Phases done so far, for one layer or image.
#[derive(Debug)]
pub(super) struct Timings {
    events: Events,
    template: String,
    done: Vec<(String, f64)>,
}

impl Timings {
    pub(super) fn new(events: &Events, template: &str) -> Self {
        Self { events: events.clone(), template: template.to_owned(), done: Vec::new() }
    }

    /// Begins a phase; give it back to [`Timings::done`] when it ended well.
    pub(super) fn phase(&self, name: impl Into<String>) -> Phase {
        self.events.phase(&self.template, name)
    }

    pub(super) fn done(&mut self, phase: Phase) {
        let name = phase.name().to_owned();
        self.done.push((name, phase.finish().as_secs_f64()));
    }

    /// Names and wall times in seconds, in order.
    pub(super) fn list(&self) -> Vec<(String, f64)> {
        self.done.clone()
    }
}
