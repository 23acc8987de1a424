//! Provisioners with Packer's meaning, run in a guest over SSH.
//!
//! Where visabuild differs from Packer: an environment with secrets is never on a command line;
//! missing folders above a destination are made; modes of copied files count only by the
//! executable bit; a guest that shuts down after `expect_disconnect` is waited for.

use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::ask::Ask;
use crate::error::{Cause, Error, Kind, Result};
use crate::event::{Event, Phase};
use crate::guest::{Guest, WayIn};
use crate::host_command::{self, Surroundings};
use crate::template::{Action, Breakpoint, Provisioner, ShellLocal, Text};

pub(crate) use command::fill;
pub(crate) use environment::Environment;
pub(crate) use shell::script_of;

mod ansible;
mod command;
mod environment;
mod file;
mod shell;

/// What provisioners are told beside their own settings.
#[derive(Debug)]
pub struct Context<'a> {
    /// Where output goes; its template is the one being built.
    pub phase: &'a Phase,
    /// Set for every `shell` step; the step's own variables win.
    pub environment: &'a [(String, Text)],
    /// The builder's type, for `PACKER_BUILDER_TYPE`.
    pub builder_type: &'a str,
    /// Folder for what host commands need while they run.
    pub work: &'a Path,
    /// Who says that a build that stands at a breakpoint may go on.
    pub breakpoints: Option<&'a Ask<Stop>>,
}

/// A build that stands still.
#[derive(Debug, Clone)]
pub struct Stop {
    /// The stage's template.
    pub template: String,
    /// What the manifest says about it.
    pub note: String,
}

impl Context<'_> {
    /// What Packer tells every script.
    fn told(&self) -> [(String, Text); 2] {
        [
            ("PACKER_BUILD_NAME".to_owned(), Text::public(self.phase.template())),
            ("PACKER_BUILDER_TYPE".to_owned(), Text::public(self.builder_type)),
        ]
    }
}

/// Runs one provisioner to its end.
///
/// # Errors
/// It fails in each of its attempts, takes longer than its `timeout`, loses the guest without `expect_disconnect`, the
/// machine ends, or the build is cancelled. The error names template, provisioner and its place in
/// the manifest.
pub async fn run(guest: &mut Guest, provisioner: &Provisioner, context: &Context<'_>) -> Result<()> {
    let mut left = provisioner.max_retries.unwrap_or(0);
    let result = loop {
        match attempt(guest, provisioner, context).await {
            Err(error) if left > 0 && may_go_otherwise(guest, &error) => {
                left -= 1;
                let (template, label) = (context.phase.template(), &provisioner.label);
                let message = format!(
                    "provisioner `{label}` failed and is tried again ({left} attempts are left after that): {}",
                    error.chain().join(": ")
                );
                context.phase.events().warn(Some(template), message);
            }
            result => break result,
        }
    };
    result.map_err(|mut error| {
        let (template, label) = (context.phase.template(), &provisioner.label);
        // What happened to the machine says more than which step it happened to.
        let outcome = match error.cause() {
            None => Some(None),
            Some(Cause::Command(outcome)) => Some(Some(outcome.clone())),
            Some(_) => None,
        };
        if let Some(outcome) = outcome {
            error = error.caused_by(Cause::Step { name: label.clone(), outcome });
        }
        error.context(format!("template `{template}`: provisioner `{label}` ({}) failed", provisioner.location))
    })
}

/// Whether the next attempt could end otherwise: not where the machine ended, or the files of this host are the reason.
/// After a timeout what the step has started may still run, beside which it cannot be done again.
fn may_go_otherwise(guest: &Guest, error: &Error) -> bool {
    let of_the_step = matches!(error.cause(), None | Some(Cause::Command(_)));
    error.kind() == Kind::Build && of_the_step && !guest.is_lost()
}

async fn attempt(guest: &mut Guest, provisioner: &Provisioner, context: &Context<'_>) -> Result<()> {
    let Some(limit) = provisioner.timeout else { return run_unlimited(guest, provisioner, context).await };
    timeout(limit, run_unlimited(guest, provisioner, context)).await.unwrap_or_else(|_| {
        let late = Error::build(format!("it did not end within its timeout of {limit:?}"));
        Err(late.caused_by(Cause::TimedOut))
    })
}

async fn run_unlimited(guest: &mut Guest, provisioner: &Provisioner, context: &Context<'_>) -> Result<()> {
    pause(guest, provisioner.pause_before).await?;
    match &provisioner.action {
        Action::Shell(shell) => {
            shell::run(guest, shell, context).await?;
            pause(guest, shell.pause_after).await
        }
        Action::File(copy) => file::run(guest, copy, context).await,
        Action::ShellLocal(local) => on_host(guest, local, context).await,
        Action::Ansible(ansible) => ansible::run(guest, ansible, context).await,
        Action::Breakpoint(breakpoint) => stop(guest, breakpoint, context).await,
    }
}

/// Stands still until somebody says that it may go on.
async fn stop(guest: &Guest, breakpoint: &Breakpoint, context: &Context<'_>) -> Result<()> {
    let Some(breakpoints) = context.breakpoints else {
        return Err(Error::usage("a breakpoint waits for somebody at a terminal, and there is none"));
    };
    let template = context.phase.template().to_owned();
    context.phase.events().emit(Event::Waiting { template: template.clone() });
    let answered = async {
        breakpoints.ask(Stop { template, note: breakpoint.note.clone() }).await;
        Ok(())
    };
    guest.unless_ended(answered).await
}

/// Runs a host's command, which is told the way into the guest.
async fn on_host(guest: &Guest, local: &ShellLocal, context: &Context<'_>) -> Result<()> {
    let way = WayIn::open(guest.endpoint(), context.work).await?;
    let variable = |name: &str, value: String| (name.to_owned(), Text::public(value));
    let mut variables = context.told().to_vec();
    variables.extend([
        variable("VISABUILD_SSH_HOST", way.address().ip().to_string()),
        variable("VISABUILD_SSH_PORT", way.address().port().to_string()),
        variable("VISABUILD_SSH_USER", way.user().to_owned()),
        variable("VISABUILD_SSH_KEY_FILE", way.key_file().display().to_string()),
        variable("VISABUILD_SSH_KNOWN_HOSTS_FILE", way.known_hosts_file().display().to_string()),
    ]);
    let cancel = &guest.endpoint().cancel;
    let surroundings = Surroundings { variables: &variables, work: context.work, phase: context.phase, cancel };
    guest.unless_machine_ended(host_command::run(local, &surroundings)).await
}

async fn pause(guest: &Guest, duration: Option<Duration>) -> Result<()> {
    let Some(duration) = duration else { return Ok(()) };
    guest
        .unless_ended(async {
            sleep(duration).await;
            Ok(())
        })
        .await
}
