//! A terminal: lines that stay, and one that shows what is being done now.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain::{clock, line, progress};
use crate::event::{Event, Subscriber, Timed};

/// Shows events on the terminal that standard error is.
#[derive(Debug)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    /// A subscriber for the terminal at standard error.
    pub fn new() -> Self {
        Self { bar: Mutex::new(None) }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber for Terminal {
    fn receive(&self, event: &Timed) {
        let Ok(mut bar) = self.bar.lock() else { return };
        match &event.event {
            Event::PhaseStarted { template, phase } => {
                clear(&mut bar);
                *bar = Some(spinner(format!("{template}: {phase}")));
            }
            Event::Progress { done, total, unit, .. } => {
                if let Some(bar) = bar.as_ref() {
                    bar.set_message(progress(*done, *total, unit));
                }
            }
            Event::PhaseFinished { .. } => {
                clear(&mut bar);
                print(bar.as_ref(), event);
            }
            _ => print(bar.as_ref(), event),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(mut bar) = self.bar.lock() {
            clear(&mut bar);
        }
    }
}

fn spinner(prefix: String) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_prefix(prefix);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn clear(bar: &mut Option<ProgressBar>) {
    if let Some(bar) = bar.take() {
        bar.finish_and_clear();
    }
}

fn print(bar: Option<&ProgressBar>, event: &Timed) {
    let Some(line) = line(&event.event) else { return };
    let line = format!("[{}] {line}", clock(event.elapsed));
    match bar {
        Some(bar) => bar.suspend(|| eprintln!("{line}")),
        None => eprintln!("{line}"),
    }
}
