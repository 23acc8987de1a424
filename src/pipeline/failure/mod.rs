//! What is left for the user: logs after success, a report after a failure.
//!
//! The report is the folder `failure/` beside the results: `reason.txt` for people and `failure.json` for programs
//! ([`record`]), both led by the failure's [`FailureClass`], and whatever was kept of the machine ([`evidence`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

pub use class::FailureClass;
pub(super) use evidence::{Evidence, begin, keep, keep_machine, keep_requests, reached};

use super::{Context, session};
use crate::cache::publish_file;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Event;
use crate::machine;
use crate::plan::Stage;
use crate::report::TemplateLogs;
use record::Record;

mod class;
mod evidence;
mod record;

/// Bytes of the serial console that go into the report.
const SERIAL_TAIL: u64 = 64 * 1024;

/// Lines of the screen's text that an error shows.
const SCREEN_LINES: usize = 12;

/// Copies the logs of `stage` into `folder` as `build.log` and `serial.log`, and removes the
/// report of an earlier failure.
pub(super) fn publish_logs(context: &Context<'_>, stage: &Stage, folder: &Path) -> io::Result<()> {
    copy(&TemplateLogs::path(&context.work, &stage.name), &folder.join("build.log"))?;
    copy(&session::serial_log(&context.work, &stage.name), &folder.join("serial.log"))?;
    match fs::remove_dir_all(folder.join("failure")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the report of `error` with which `stage` failed; returns it with what is known of it now and where the report is.
pub(super) fn report(context: &Context<'_>, stage: &Stage, mut error: Error) -> Error {
    let evidence = context.evidence.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let class = FailureClass::of(&error, &evidence);
    let template = stage.name.clone();
    context.events.emit(Event::StageFailed { template, class: class.code(), words: class.words() });
    if let Some(advice) = class.advice() {
        error = error.hint(advice);
    }
    let screen = fs::read_to_string(context.work.join(format!("{}.screen.txt", stage.name))).ok();
    if let Some(text) = screen.and_then(|text| last_lines(&text))
        && class == FailureClass::SitsOnScreen
    {
        error = error.hint(format!("its screen shows:\n{text}"));
    }
    match write(context, stage, &error, (class, &evidence)) {
        Ok(Some(folder)) => error.hint(format!("log and console are in {}", folder.display())),
        Ok(None) => error,
        Err(problem) => {
            context.events.warn(Some(&stage.name), format!("the failure report could not be written: {problem}"));
            error
        }
    }
}

/// Writes `failure/` beside the results of `stage`, whose earlier image stays as it is: `reason.txt`, `failure.json`,
/// `build.log`; where there was a machine `serial.log` (its end), `screen.png`, `screen.txt` and `command.txt`; where
/// it was to fetch something `requests.json`.
/// Nothing is written when the build was stopped before anything was done.
fn write(
    context: &Context<'_>,
    stage: &Stage,
    error: &Error,
    (class, evidence): (FailureClass, &Evidence),
) -> io::Result<Option<PathBuf>> {
    let log = TemplateLogs::path(&context.work, &stage.name);
    if !log.is_file() {
        return Ok(None);
    }
    let folder = context.settings.results.folder(stage).join("failure");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    copy(&log, &folder.join("build.log"))?;
    let serial = session::serial_log(&context.work, &stage.name);
    if serial.is_file() {
        fs::write(folder.join("serial.log"), machine::log_tail(&serial, SERIAL_TAIL)?)?;
    }
    let kept = ["screen.png", "screen.txt", "command.txt"].into_iter().chain(super::verification::SUFFIXES);
    for name in kept {
        copy(&context.work.join(format!("{}.{name}", stage.name)), &folder.join(name))?;
    }
    if let Some(requests) = &evidence.requests {
        let requests = serde_json::to_string_pretty(requests)?;
        fs::write(folder.join("requests.json"), context.events.redact(&requests) + "\n")?;
    }
    let record = Record::new(context, stage, error, (class, evidence), &folder)?;
    fs::write(folder.join("failure.json"), record.json(context.events)?)?;
    fs::write(folder.join("reason.txt"), context.events.redact(&record.text(error)))?;
    Ok(Some(folder))
}

/// The last lines of a text with something on them.
fn last_lines(text: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(SCREEN_LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

/// How to look at the disk of a failed build that was kept.
pub(super) fn how_to_boot(work: &Path, engine: Engine) -> String {
    match engine {
        Engine::Qemu => format!("{} (command.txt in `failure/` has QEMU's command line)", work.display()),
        Engine::Nspawn => format!("the qcow2 in {}; QEMU boots it", work.display()),
    }
}

/// Copies a file that may not be there.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_file() {
        return Ok(());
    }
    let beside = crate::cache::beside(to);
    fs::copy(from, &beside)?;
    publish_file(&beside, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_screen_the_last_lines_with_text_are_shown() {
        let text: String = (0..20).map(|line| format!("line {line} \n\n")).collect();
        assert_eq!(last_lines(&text).unwrap().lines().collect::<Vec<_>>()[..2], ["line 8", "line 9"]);
        assert_eq!(last_lines(" \n\n"), None);
    }
}
