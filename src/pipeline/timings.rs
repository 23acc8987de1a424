//! Phases with their wall times.

use super::Context;
use crate::cache::{History, Share};
use crate::event::{Events, Phase};
use crate::plan::{Stage, Step};

/// Phases done so far, for one layer or image.
#[derive(Debug)]
pub(super) struct Timings {
    events: Events,
    template: String,
    history: History,
    share: Share,
    done: Vec<(String, f64)>,
}

impl Timings {
    /// None so far; each is remembered as it ends, for the estimate of a later build.
    pub(super) fn new(context: &Context<'_>, stage: &Stage, share: Share) -> Self {
        let (events, history) = (context.events.clone(), context.settings.results.history.clone());
        Self { events, template: stage.name.clone(), history, share, done: Vec::new() }
    }

    /// Begins a phase; give it back to [`Timings::done`] when it ended well.
    pub(super) fn phase(&self, name: impl Into<String>) -> Phase {
        self.events.phase(&self.template, name)
    }

    pub(super) fn done(&mut self, phase: Phase) {
        self.ended(phase, None);
    }

    /// A phase that was a step of the template.
    pub(super) fn done_step(&mut self, phase: Phase, step: &Step) {
        self.ended(phase, Some(step.identity()));
    }

    fn ended(&mut self, phase: Phase, step: Option<String>) {
        let name = phase.name().to_owned();
        let seconds = phase.finish().as_secs_f64();
        // An estimate is missing then, and nothing else.
        if let Err(error) = self.history.took(&self.template, self.share, (&name, step), seconds) {
            self.events.debug(Some(&self.template), error.chain().join(": "));
        }
        self.done.push((name, seconds));
    }

    /// Names and wall times in seconds, in order.
    pub(super) fn list(&self) -> Vec<(String, f64)> {
        self.done.clone()
    }
}
