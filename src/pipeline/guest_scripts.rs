//! What visabuild itself does in a guest, beside the template's steps: files put there, its own scripts and commands run.

use std::io::Cursor;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Cause, Error, Result};
use crate::event::{Phase, Stream};
use crate::guest::{Guest, Outcome, Target};
use crate::image::SESSION_SCRIPT;

pub(super) async fn put(guest: &mut Guest, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
    guest.upload(bytes, Target { path, name: "", mode }).await
}

/// Runs one of visabuild's own bash scripts, from standard input: nothing of it stays in the guest.
pub(super) async fn script(guest: &mut Guest, text: &str, arguments: &[&str], phase: &Phase) -> Result<()> {
    let command = format!("bash -s -- {}", arguments.join(" "));
    run(guest, &command, text.as_bytes().to_vec(), phase).await
}

/// Tells a guest that goes on with its memory what happened meanwhile.
pub(super) async fn wake(guest: &mut Guest, phase: &Phase) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    script(guest, SESSION_SCRIPT, &["wake", &now], phase).await
}

/// Does something while nothing in the guest that may hold credentials is on its disk, and all else is. A guest that
/// cannot be brought to that goes on without.
pub(super) async fn quiet(guest: &mut Guest, phase: &Phase, keep: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    guest.become_root().await?;
    let paused = script(guest, SESSION_SCRIPT, &["pause"], phase).await;
    if paused.is_ok() {
        keep().await?;
    }
    // Where the guest is gone, that is why it could not pause either.
    script(guest, SESSION_SCRIPT, &["resume"], phase).await?;
    if let Err(error) = paused {
        let text = format!("there is no checkpoint here: {}", error.chain().join(": "));
        phase.events().warn(Some(phase.template()), text);
    }
    guest.become_user();
    Ok(())
}

pub(super) async fn run(guest: &mut Guest, command: &str, stdin: Vec<u8>, phase: &Phase) -> Result<()> {
    let mut last = String::new();
    let outcome = guest
        .exec(command, Cursor::new(stdin), |stream, line| {
            if stream == Stream::Stderr {
                line.clone_into(&mut last);
            }
            phase.output(stream, line);
        })
        .await?;
    expect_success(&outcome, phase.name(), Some(last))
}

pub(super) fn expect_success(outcome: &Outcome, what: &str, stderr: Option<String>) -> Result<()> {
    if *outcome == Outcome::Exit(0) {
        return Ok(());
    }
    let error =
        Error::build(format!("{what} failed in the guest ({outcome})")).caused_by(Cause::Command(outcome.clone()));
    Err(match stderr.filter(|line| !line.is_empty()) {
        Some(line) => error.because(line),
        None => error,
    })
}
