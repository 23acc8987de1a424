//! What can be seen of a machine before it is given up.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;

use super::super::{Context, engine::Machine};
use crate::answers::web::Request;
use crate::boot_command::{Screen, ocr};
use crate::error::{Cause, Error, Kind, Result};
use crate::guest::SshFault;
use crate::machine::{Ended, Running};
use crate::plan::Stage;

/// What was seen of a guest that a build has failed with.
#[derive(Debug, Clone, Default)]
pub(in crate::pipeline) struct Evidence {
    /// How its machine stood: running where there is nothing.
    pub ended: Option<Ended>,
    /// Whether there was a machine at all.
    pub machine: bool,
    /// SSH has let the build in: whatever it does later, it has a network.
    pub reached: bool,
    /// It has a driver for its network card, and answers nothing that comes over it.
    pub mute: bool,
    /// What it asked the build's web server for, where it was to fetch its answers there.
    pub requests: Option<Vec<Request>>,
}

/// A machine boots: what was seen of an earlier one of this run does not matter any more.
pub(in crate::pipeline) fn begin(context: &Context<'_>) {
    note(context, |evidence| *evidence = Evidence::default());
}

/// SSH has let the build in.
pub(in crate::pipeline) fn reached(context: &Context<'_>) {
    note(context, |evidence| evidence.reached = true);
}

/// Keeps what can be seen of the machine of `stage`, which is about to be given up because of `error`: how it stands, a
/// picture of its screen and the text on it, whether it has a network. Never fails: a dead QEMU has no screen.
pub(in crate::pipeline) async fn keep(context: &Context<'_>, stage: &Stage, machine: &Machine, error: &Error) {
    match machine {
        Machine::Qemu(machine) => keep_machine(context, stage, machine, error).await,
        Machine::Nspawn(container) => note(context, |evidence| {
            evidence.machine = true;
            evidence.ended = container.watch().has_ended();
        }),
    }
}

/// As [`keep`], of a virtual machine.
pub(in crate::pipeline) async fn keep_machine(context: &Context<'_>, stage: &Stage, machine: &Running, error: &Error) {
    if matches!(error.kind(), Kind::Interrupted | Kind::Terminated) {
        return;
    }
    let reached = context.evidence.lock().unwrap_or_else(PoisonError::into_inner).reached;
    let mute = !reached && may_be_mute(error) && machine.is_mute().await;
    note(context, |evidence| {
        evidence.machine = true;
        evidence.mute = mute;
        evidence.ended = machine.watch().has_ended();
    });
    let picture = context.work.join(format!("{}.screen.png", stage.name));
    if let Err(problem) = machine.screenshot(&picture).await {
        context.events.debug(Some(&stage.name), format!("no picture of the screen: {problem}"));
        return;
    }
    let text = read(context, &picture).await.unwrap_or_else(|problem| {
        // What is said to people, not what is on the screen.
        format!("[nobody has read the picture: {}]\n", problem.chain().join(": "))
    });
    // A full disk must not hide why the build failed.
    let _ = fs::write(picture.with_extension("txt"), context.events.redact(&text));
}

/// Keeps what a guest that was to fetch its answers has asked for; without a request it never came.
pub(in crate::pipeline) fn keep_requests(context: &Context<'_>, requests: Vec<Request>) {
    note(context, |evidence| evidence.requests = Some(requests));
}

fn note(context: &Context<'_>, what: impl FnOnce(&mut Evidence)) {
    what(&mut context.evidence.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Whether a missing network would explain it.
fn may_be_mute(error: &Error) -> bool {
    let machine = |ended: &Ended| matches!(ended, Ended::Idle { .. });
    match error.cause() {
        Some(Cause::Machine(ended)) => machine(ended),
        Some(Cause::Ssh(fault)) => *fault == SshFault::NeverAnswered,
        _ => false,
    }
}

async fn read(context: &Context<'_>, picture: &Path) -> Result<String> {
    let bytes = fs::read(picture).map_err(|error| Error::host("the picture is gone").because(error))?;
    ocr::read(&Screen::from_png(&bytes)?, context.cancel).await
}
