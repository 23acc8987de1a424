//! A failure as text and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::class::Details;
use super::{Context, Evidence, FailureClass};
use crate::error::Error;
use crate::event::Events;
use crate::plan::Stage;
use crate::report;

/// What `failure.json` says; what is not known is left out.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    template: String,
    /// [`FailureClass::code`].
    class: &'static str,
    /// [`FailureClass::words`].
    words: &'static str,
    /// The phase that did not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    /// How long it had run.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    /// How the machine stood when it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    reproduce: Reproduce,
    /// The files beside this one.
    files: Vec<String>,
    visabuild: &'static str,
    #[serde(skip)]
    kind: FailureClass,
}

/// How the same is done again.
#[derive(Debug, Serialize)]
struct Reproduce {
    /// visabuild's command line, secrets as variables.
    visabuild: String,
    /// What ran the guest, whose disk is gone unless it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
}

impl Record {
    /// The failure of `stage`, whose other files are in `folder` already.
    pub(super) fn new(
        context: &Context<'_>,
        stage: &Stage,
        error: &Error,
        (kind, evidence): (FailureClass, &Evidence),
        folder: &Path,
    ) -> io::Result<Self> {
        let phase = context.events.running_phase(&stage.name);
        let details = Details::of(error);
        let mut chain = error.chain();
        let causes = chain.split_off(1);
        let standing = match &evidence.ended {
            _ if !evidence.machine => None,
            Some(ended) => Some(ended.to_string()),
            None => Some("it was running".to_owned()),
        };
        let mut files: Vec<_> =
            fs::read_dir(folder)?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        files.push("reason.txt".to_owned());
        files.sort();
        let machine = fs::read_to_string(folder.join("command.txt")).ok().map(|text| text.trim_end().to_owned());
        Ok(Self {
            template: stage.name.clone(),
            class: kind.code(),
            words: kind.words(),
            phase: phase.as_ref().map(|(name, _)| name.clone()),
            seconds: phase.map(|(_, ran)| (ran.as_secs_f64() * 1000.0).round() / 1000.0),
            step: details.step,
            exit_code: details.exit_code,
            signal: details.signal,
            message: chain.pop().unwrap_or_default(),
            causes,
            hints: error.hints().to_vec(),
            machine: standing,
            reproduce: Reproduce { visabuild: context.settings.command.clone(), machine },
            files,
            visabuild: env!("CARGO_PKG_VERSION"),
            kind,
        })
    }

    /// `failure.json`, without secrets.
    pub(super) fn json(&self, events: &Events) -> io::Result<String> {
        let mut value = serde_json::to_value(self)?;
        redact(&mut value, events);
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    /// `reason.txt`, with secrets: its first line is the class in words.
    pub(super) fn text(&self, error: &Error) -> String {
        let mut text = self.words.to_owned();
        let code = self.exit_code.map(|code| format!("exit code {code}"));
        let signal = self.signal.as_ref().map(|signal| format!("signal {signal}"));
        let step = self.step.as_ref().map(|step| format!("`{step}`"));
        let late = (self.kind == FailureClass::TimedOut).then(|| self.phase.as_ref().map(|phase| format!("`{phase}`")));
        let details: Vec<_> = [step, code, signal, late.flatten()].into_iter().flatten().collect();
        if !details.is_empty() {
            text += &format!(" ({})", details.join(", "));
        }
        text += "\n\n";
        text += &report::render(error, false);
        text.push('\n');
        // Writing to a String cannot fail.
        if let (Some(phase), Some(seconds)) = (&self.phase, self.seconds) {
            let _ = writeln!(text, "phase: {phase} ({})", report::duration(seconds));
        }
        if let Some(machine) = &self.machine {
            let _ = writeln!(text, "machine: {machine}");
        }
        let _ = writeln!(text, "files: {}", self.files.join(", "));
        let _ = writeln!(text, "again: {}", self.reproduce.visabuild);
        text
    }
}

fn redact(value: &mut Value, events: &Events) {
    match value {
        Value::String(text) => *text = events.redact(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, events)),
        Value::Object(fields) => fields.values_mut().for_each(|field| redact(field, events)),
        _ => {}
    }
}
