//! Log files: everything that happens to a template, one file each.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::plain::{clock, line};
use crate::event::{Event, Level, Subscriber, Timed};

/// Writes each template's events to `FOLDER/TEMPLATE.log`.
#[derive(Debug)]
pub struct TemplateLogs {
    folder: PathBuf,
    files: Mutex<HashMap<String, File>>,
}

impl TemplateLogs {
    /// Logs into `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Mutex::new(HashMap::new()) }
    }

    /// The log of `template` in `folder`.
    pub fn path(folder: &Path, template: &str) -> PathBuf {
        folder.join(format!("{template}.log"))
    }
}

impl Subscriber for TemplateLogs {
    fn receive(&self, event: &Timed) {
        let Some(template) = template(&event.event) else { return };
        let text = match &event.event {
            Event::Serial { .. } | Event::Progress { .. } => return,
            Event::Message { level: Level::Debug, text, .. } => format!("{template}: {text}"),
            other => match line(other) {
                Some(line) => line,
                None => return,
            },
        };
        let Ok(mut files) = self.files.lock() else { return };
        if !files.contains_key(template) {
            let Ok(file) = File::create(Self::path(&self.folder, template)) else { return };
            files.insert(template.to_owned(), file);
        }
        if let Some(file) = files.get_mut(template) {
            // A full disk shows elsewhere, with a better message.
            let _ = writeln!(file, "[{}] {text}", clock(event.elapsed));
        }
    }
}

fn template(event: &Event) -> Option<&str> {
    match event {
        Event::StageStarted { template }
        | Event::StageFinished { template, .. }
        | Event::StageFailed { template, .. }
        | Event::StageSkipped { template, .. }
        | Event::PhaseStarted { template, .. }
        | Event::PhaseFinished { template, .. }
        | Event::Progress { template, .. }
        | Event::Output { template, .. }
        | Event::Serial { template, .. }
        | Event::Console { template, .. }
        | Event::Typing { template, .. }
        | Event::Waiting { template }
        | Event::Request { template, .. }
        | Event::Verified { template, .. }
        | Event::Published { template, .. }
        | Event::PostProcessed { template, .. }
        | Event::Artifact { template, .. } => Some(template),
        Event::Message { template, .. } => template.as_deref(),
        // Whoever reads a log may not get in.
        Event::LivePage { .. } => None,
    }
}
