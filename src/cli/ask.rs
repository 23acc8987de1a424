//! Questions at the terminal: what becomes of a build whose step failed, while its guest still runs (`--on-error ask`),
//! and whether one that stands at a breakpoint may go on.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::ask::Ask;
use crate::error::{Error, Kind, Problem, Result};
use crate::pipeline::{BuiltKeys, Question, StepReference};
use crate::plan::Plan;
use crate::provision::Stop;
use crate::template::Action;

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
        if !is_at_terminal() {
            return Err(Error::usage("`--on-error ask` asks at a terminal, and there is none")
                .hint("without one, `--on-error keep` leaves the disk to look at, and the next build goes on from its last checkpoint"));
        }
        Ok(Arc::default())
    }

    /// What the pipeline calls.
    pub(super) fn ask(self: &Arc<Self>, cancel: &CancellationToken) -> Ask<Question> {
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

fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Who lets a build of `plan` go on that stands at a breakpoint; none where it has none.
///
/// # Errors
/// There is no terminal (kind usage): the build would stand there for ever.
pub(super) fn breakpoints(plan: &Plan, cancel: &CancellationToken) -> Result<Option<Ask<Stop>>> {
    let steps = plan.stages.iter().flat_map(|stage| stage.steps.iter().chain(&stage.seal.steps));
    let stops: Vec<_> = steps.filter(|step| matches!(step.provisioner.action, Action::Breakpoint(_))).collect();
    if stops.is_empty() {
        return Ok(None);
    }
    if !is_at_terminal() {
        let problem = |location| {
            Problem::at(location, "this breakpoint waits for Enter at a terminal, and there is none")
                .hint("take it out, or set `disable: true`")
        };
        let problems = stops.iter().map(|step| problem(step.provisioner.location.clone()));
        return Err(Error::problems(Kind::Usage, problems.collect()));
    }
    let cancel = cancel.clone();
    Ok(Some(Ask::by(move |stop: Stop| {
        let cancel = cancel.clone();
        async move {
            let (sender, pressed) = oneshot::channel();
            // As with questions: the thread is left alone when the build is stopped.
            std::thread::spawn(move || {
                stand_still(&stop);
                sender.send(())
            });
            tokio::select! {
                _ = pressed => {}
                () = cancel.cancelled() => {}
            }
        }
    })))
}

/// Waits for Enter; the end of the input is one, too.
fn stand_still(Stop { template, note }: &Stop) {
    let mut err = io::stderr();
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    let _ = write!(
        err,
        "\n{template}: breakpoint{note}\nThe guest runs on: `visabuild attach ssh {template}` and `visabuild attach vnc \
         {template}` look into it. Press Enter to go on. "
    );
    let _ = err.flush();
    let _ = io::stdin().lock().read_line(&mut String::new());
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
