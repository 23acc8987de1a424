//! The standard error of a program that runs a guest: followed into the log, its end kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

use crate::event::Events;
use crate::lines::{Splitter, Tail};

/// How long what a program wrote before its end may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The last lines of a program's standard error. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stderr(Arc<Mutex<Tail>>);

impl Stderr {
    /// The text so far.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    /// The text once `reader` has seen the stream's end, which a program that was killed may have
    /// left open in a child.
    pub(crate) async fn last_words(&self, reader: &mut JoinHandle<()>) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, reader).await;
        self.text()
    }

    /// Follows `stream` to its end in a task of its own; `program` stands before each line in the log.
    pub(crate) fn follow(
        stream: Option<impl AsyncRead + Unpin + Send + 'static>,
        program: &'static str,
        events: &Events,
        template: &str,
    ) -> (Self, JoinHandle<()>) {
        let stderr = Self::default();
        let (into, events, template) = (stderr.clone(), events.clone(), template.to_owned());
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut splitter = Splitter::default();
            let mut buffer = [0; 4096];
            let line = |line: &str| {
                into.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                events.debug(Some(&template), format!("{program}: {line}"));
            };
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                splitter.push(&buffer[..count], line);
            }
            splitter.finish(line);
        });
        (stderr, reader)
    }
}
