//! `--on-error ask`: what becomes of a build whose step failed, while its guest still runs.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::pipeline::{Ask, BuiltKeys, Question, StepReference};

use super::steps::Skipped;

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The step once more, as it is on the disk now, from the state before it.
    Retry,
    /// Everything but this step.
    Skip(Skipped),
}

/// Asks at the terminal; the last decision waits here for the build's end.
#[derive(Debug, Default)]
pub(super) struct Asker {
    /// What all attempts have built: none does it again.
    pub(super) built: BuiltKeys,
    decision: Mutex<Option<Decision>>,
}

impl Asker {
    /// Someone to ask.
    ///
    /// # Errors
    /// There is no terminal (kind usage).
    pub(super) fn new() -> Result<Arc<Self>> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Error::usage("`--on-error ask` asks at a terminal, and there is none")
                .hint("without one, `--on-error keep` leaves the disk to look at, and the next build goes on from its last checkpoint"));
        }
        Ok(Arc::default())
    }

    /// What the pipeline calls.
    pub(super) fn ask(self: &Arc<Self>, cancel: &CancellationToken) -> Ask {
        let (asker, cancel) = (Arc::clone(self), cancel.clone());
        Ask::by(move |question| {
            let (asker, cancel) = (Arc::clone(&asker), cancel.clone());
            async move {
                let (sender, answered) = oneshot::channel();
                // Nobody can wake a thread that reads from a terminal: it is left alone when the build is stopped.
                std::thread::spawn(move || sender.send(converse(&question)));
                let decision = tokio::select! {
                    decision = answered => decision.unwrap_or_default(),
                    () = cancel.cancelled() => None,
                };
                *asker.decision.lock().unwrap_or_else(PoisonError::into_inner) = decision;
            }
        })
    }

    /// The decision, once.
    pub(super) fn take(&self) -> Option<Decision> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Asks until there is an answer that ends the guest; none is to give the build up.
fn converse(question: &Question) -> Option<Decision> {
    let Question { template, step, label, error, is_running } = question;
    let mut err = io::stderr();
    let shell = if *is_running { ", a [s]hell in the guest" } else { "" };
    // Whoever reads may have gone; then there is no answer either.
    let _ = writeln!(err, "\n{template}: step `{label}` failed: {error}");
    loop {
        let _ = write!(
            err,
            "[r]etry it from the state before it, as it is on the disk now{shell}, s[k]ip it, or [a]bort? "
        );
        let _ = err.flush();
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer).is_ok_and(|length| length == 0) {
            return None;
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "r" | "retry" => return Some(Decision::Retry),
            "k" | "skip" => {
                let step = StepReference { template: template.clone(), step: *step };
                return Some(Decision::Skip(Skipped { step, label: label.clone() }));
            }
            "a" | "abort" => return None,
            "s" | "shell" if *is_running => shell_in(template),
            _ => {}
        }
    }
}

/// `visabuild attach ssh`, at this terminal.
fn shell_in(template: &str) {
    let started = std::env::current_exe()
        .and_then(|program| Command::new(program).args(["attach", "ssh", template]).stdin(Stdio::inherit()).status());
    if let Err(error) = started {
        let _ = writeln!(io::stderr(), "cannot start `visabuild attach ssh {template}`: {error}");
    }
}
