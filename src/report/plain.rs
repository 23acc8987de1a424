//! Plain lines with times, for logs and CI.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use super::{duration, size};
use crate::event::{Event, Level, Subscriber, Timed};

/// Writes what happens as lines that begin with the time since the start, `[mm:ss]`.
pub struct PlainLines<W> {
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    /// When progress was last told, seconds since the start: a line every so often is enough.
    last_progress: f64,
    /// When the running phases began, by template and name.
    began: BTreeMap<(String, String), f64>,
}

/// Seconds between two lines of progress.
const PROGRESS_EVERY: f64 = 15.0;

impl<W: Write + Send> PlainLines<W> {
    /// A subscriber that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { state: Mutex::new(State { out, last_progress: 0.0, began: BTreeMap::new() }) }
    }
}

impl<W> std::fmt::Debug for PlainLines<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainLines").finish_non_exhaustive()
    }
}

impl<W: Write + Send> Subscriber for PlainLines<W> {
    fn receive(&self, event: &Timed) {
        let Ok(mut state) = self.state.lock() else { return };
        let mut pace_of = String::new();
        match &event.event {
            Event::PhaseStarted { template, phase } => {
                state.began.insert((template.clone(), phase.clone()), event.elapsed);
            }
            Event::Progress { .. } if event.elapsed - state.last_progress < PROGRESS_EVERY => return,
            Event::Progress { template, phase, done, total, unit } => {
                state.last_progress = event.elapsed;
                let began = state.began.get(&(template.clone(), phase.clone())).copied();
                pace_of = pace(*done, *total, unit, began.map_or(0.0, |began| event.elapsed - began));
            }
            _ => {}
        }
        if let Some(line) = line(&event.event).map(|line| line + &pace_of) {
            // Whoever reads may have gone; the build goes on.
            let _ = writeln!(state.out, "[{}] {line}", clock(event.elapsed)).and_then(|()| state.out.flush());
        }
    }
}

/// `mm:ss` since the start.
pub(super) fn clock(elapsed: f64) -> String {
    // Times since the start are small and not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seconds = elapsed as u64;
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// The line for an event; none for what only a log wants.
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::StageStarted { template } => format!("{template}: started"),
        Event::StageFinished { template, seconds } => format!("{template}: done in {}", duration(*seconds)),
        Event::StageSkipped { template, reason } => format!("{template}: {reason}"),
        Event::PhaseStarted { template, phase } => format!("{template}: {phase} …"),
        Event::PhaseFinished { template, phase, seconds } => {
            format!("{template}: {phase} done in {}", duration(*seconds))
        }
        Event::Progress { template, phase, done, total, unit } => {
            format!("{template}: {phase} {}", progress(*done, *total, unit))
        }
        Event::Output { template, phase, line, .. } => format!("{template}: {phase} | {line}"),
        Event::Console { template, url } => format!("{template}: look at the machine at {url}"),
        Event::Request { template, method, path, status, bytes, .. } => {
            format!("{template}: the guest asked for {path} ({method}): {status}, {}", size(*bytes))
        }
        Event::LivePage { url } => format!("watch this run at {url}"),
        // The error tells it at the end.
        Event::StageFailed { .. } => return None,
        Event::Waiting { template } => format!("{template}: waiting for an answer"),
        Event::Message { level: Level::Debug, .. } | Event::Serial { .. } | Event::Typing { .. } => return None,
        Event::Message { level, template, text } => {
            let prefix = if *level == Level::Warning { "warning: " } else { "" };
            match template {
                Some(template) => format!("{template}: {prefix}{text}"),
                None => format!("{prefix}{text}"),
            }
        }
        Event::Verified { template, contract, passed, failed, not_run } => {
            format!("{template}: contract `{contract}`: {passed} checks passed, {failed} failed, {not_run} not run")
        }
        Event::Published { template, image, name, state, visibility, .. } => {
            format!("{template}: in the cloud as `{name}` ({state}, {visibility}): {image}")
        }
        Event::PostProcessed { template, path, bytes, .. } => format!("{template}: {path} ({})", size(*bytes)),
        Event::Artifact { template, path, bytes, sha256 } => {
            format!("{template}: {path} ({}, sha256 {sha256})", size(*bytes))
        }
    })
}

/// How far something is, for people.
pub(super) fn progress(done: u64, total: Option<u64>, unit: &str) -> String {
    match (unit, total) {
        ("percent", _) => format!("{done} %"),
        ("bytes", Some(total)) => format!("{} of {}", size(done), size(total)),
        ("bytes", None) => size(done),
        (_, Some(total)) => format!("{done} of {total} {unit}"),
        (_, None) => format!("{done} {unit}"),
    }
}

/// How fast bytes move after `seconds`, and how long the rest takes, to stand behind [`progress`].
pub(super) fn pace(done: u64, total: Option<u64>, unit: &str, seconds: f64) -> String {
    let (true, Some(total)) = (unit == "bytes" && done > 0 && seconds >= 1.0, total) else { return String::new() };
    // Rates and times for people.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let (rate, left) = {
        let rate = done as f64 / seconds;
        (rate as u64, total.saturating_sub(done) as f64 / rate)
    };
    format!(", {}/s, {} left", size(rate), duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_rate_and_a_time_left() {
        assert_eq!(pace(10 << 20, Some(30 << 20), "bytes", 5.0), ", 2.0 MiB/s, 10.0 s left");
        assert_eq!(pace(10, Some(100), "percent", 5.0) + &pace(0, Some(1), "bytes", 5.0), "");
    }

    fn receive(events: &[(f64, Event)]) -> String {
        let mut out = Vec::new();
        {
            let plain = PlainLines::new(&mut out);
            for (elapsed, event) in events {
                plain.receive(&Timed { time: 0.0, elapsed: *elapsed, event: event.clone() });
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_carry_time_template_and_phase() {
        let phase = |p: &str| Event::PhaseStarted { template: "t".into(), phase: p.into() };
        let message = Event::Message { level: Level::Warning, template: None, text: "slow".into() };
        assert_eq!(receive(&[(61.2, phase("boot")), (62.0, message)]), "[01:01] t: boot …\n[01:02] warning: slow\n");
    }

    #[test]
    fn progress_is_told_now_and_then_and_debug_never() {
        let progress =
            |done| Event::Progress { template: "t".into(), phase: "p".into(), done, total: Some(100), unit: "percent" };
        let debug = Event::Message { level: Level::Debug, template: None, text: "x".into() };
        let told = receive(&[(1.0, progress(1)), (16.0, progress(2)), (17.0, progress(3)), (18.0, debug)]);
        assert_eq!(told, "[00:16] t: p 2 %\n");
    }
}
