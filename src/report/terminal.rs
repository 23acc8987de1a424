//! A terminal: lines that stay, and one for each thing that is being done now.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain::{clock, line, pace, progress};
use crate::event::{Event, Subscriber, Timed};

/// Shows events on the terminal that standard error is.
#[derive(Debug)]
pub struct Terminal {
    lines: MultiProgress,
    /// The phases that run, by template and name; several where a verification boots side by side.
    running: Mutex<BTreeMap<(String, String), ProgressBar>>,
}

impl Terminal {
    /// A subscriber for the terminal at standard error.
    pub fn new() -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { lines, running: Mutex::default() }
    }

    fn print(&self, event: &Timed) {
        let Some(line) = line(&event.event) else { return };
        self.lines.suspend(|| eprintln!("[{}] {line}", clock(event.elapsed)));
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber for Terminal {
    fn receive(&self, event: &Timed) {
        let Ok(mut running) = self.running.lock() else { return };
        match &event.event {
            Event::PhaseStarted { template, phase } => {
                let bar = self.lines.add(spinner(format!("{template}: {phase}")));
                bar.enable_steady_tick(Duration::from_millis(200));
                if let Some(before) = running.insert((template.clone(), phase.clone()), bar) {
                    before.finish_and_clear();
                }
            }
            Event::Progress { template, phase, done, total, unit } => {
                if let Some(bar) = running.get(&(template.clone(), phase.clone())) {
                    let seconds = bar.elapsed().as_secs_f64();
                    bar.set_message(progress(*done, *total, unit) + &pace(*done, *total, unit, seconds));
                }
            }
            Event::PhaseFinished { template, phase, .. } => {
                if let Some(bar) = running.remove(&(template.clone(), phase.clone())) {
                    bar.finish_and_clear();
                }
                self.print(event);
            }
            // The question and what is typed have the terminal for themselves.
            Event::Waiting { .. } => std::mem::take(&mut *running).values().for_each(ProgressBar::finish_and_clear),
            _ => self.print(event),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(running) = self.running.lock() {
            running.values().for_each(ProgressBar::finish_and_clear);
        }
    }
}

fn spinner(prefix: String) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_prefix(prefix);
    bar
}
