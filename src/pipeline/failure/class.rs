//! What kind of failure ended a build.

use std::error::Error as _;
use std::io;

use super::Evidence;
use crate::error::{Cause, Error, Kind};
use crate::guest::{Outcome, SshFault};
use crate::machine::Ended;

/// What kind of failure ended a build; `docs/failures.md` has one row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The guest waits for somebody: an installer has a question, say.
    SitsOnScreen,
    /// An installer ran, and never came for its answers.
    AnswersNotFetched,
    /// The guest got other keys than were typed.
    Mistyped,
    /// An installer ended without a system on the disk.
    InstallationFailed,
    /// The guest has a network card, and does nothing with it.
    NoNetwork,
    /// The guest's kernel panicked.
    KernelPanic,
    /// The guest stopped in an emergency shell.
    EmergencyShell,
    /// Firmware or boot loader found nothing to boot.
    NothingToBoot,
    /// The guest powered itself off while it was needed.
    PoweredOff,
    /// No SSH server has ever said a word.
    SshNeverAnswered,
    /// An SSH server answers, and connections are lost at once.
    SshClosed,
    /// The guest's SSH server refuses the build's key.
    SshRefusedKey,
    /// The guest's SSH server has another host key than before.
    HostKeyChanged,
    /// What runs the guest did not come up.
    NotStarted,
    /// What runs the guest died.
    MachineDied,
    /// QEMU stopped the guest.
    MachineStopped,
    /// The host has no space left.
    DiskFull,
    /// The host cannot read or write a disk of the guest.
    IoError,
    /// Something took longer than it may.
    TimedOut,
    /// A provisioner failed.
    StepFailed,
    /// A command of visabuild's own failed in the guest.
    CommandFailed,
    /// The image does not keep its contract.
    NotVerified,
    /// Somebody ended the build.
    Interrupted,
    /// The host cannot do it.
    Host,
    /// Something else: the message has it.
    Other,
}

impl FailureClass {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::SitsOnScreen,
        Self::AnswersNotFetched,
        Self::Mistyped,
        Self::InstallationFailed,
        Self::NoNetwork,
        Self::KernelPanic,
        Self::EmergencyShell,
        Self::NothingToBoot,
        Self::PoweredOff,
        Self::SshNeverAnswered,
        Self::SshClosed,
        Self::SshRefusedKey,
        Self::HostKeyChanged,
        Self::NotStarted,
        Self::MachineDied,
        Self::MachineStopped,
        Self::DiskFull,
        Self::IoError,
        Self::TimedOut,
        Self::StepFailed,
        Self::CommandFailed,
        Self::NotVerified,
        Self::Interrupted,
        Self::Host,
        Self::Other,
    ];

    /// Its name in `failure.json`, which does not change, and what it says to people.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SitsOnScreen => {
                ("sits-on-screen", "the guest sits on a screen, as an installer with a question does")
            }
            Self::AnswersNotFetched => ("answers-not-fetched", "the installer never fetched its answers"),
            Self::Mistyped => ("mistyped", "the guest got other keys than were typed"),
            Self::InstallationFailed => ("installation-failed", "the installer ended without a system on the disk"),
            Self::NoNetwork => ("no-network", "the guest has no network"),
            Self::KernelPanic => ("kernel-panic", "the guest's kernel panicked"),
            Self::EmergencyShell => ("emergency-shell", "the guest stopped in an emergency shell"),
            Self::NothingToBoot => ("nothing-to-boot", "the machine found nothing to boot"),
            Self::PoweredOff => ("powered-off", "the guest powered itself off"),
            Self::SshNeverAnswered => ("ssh-never-answered", "the guest never answered SSH"),
            Self::SshClosed => ("ssh-closed", "the guest answers SSH, but closes the connection"),
            Self::SshRefusedKey => ("ssh-refused-key", "the guest's SSH server refuses the build's key"),
            Self::HostKeyChanged => ("host-key-changed", "the guest's SSH server has another host key than before"),
            Self::NotStarted => ("not-started", "the program that runs the guest did not start"),
            Self::MachineDied => ("machine-died", "the program that runs the guest died"),
            Self::MachineStopped => ("machine-stopped", "QEMU stopped the guest"),
            Self::DiskFull => ("disk-full", "no space is left on the host"),
            Self::IoError => ("io-error", "the host cannot read or write a disk of the guest"),
            Self::TimedOut => ("timed-out", "it took longer than it may"),
            Self::StepFailed => ("step-failed", "a provisioner failed"),
            Self::CommandFailed => ("command-failed", "a command of visabuild's own failed in the guest"),
            Self::NotVerified => ("not-verified", "the image does not keep its contract"),
            Self::Interrupted => ("interrupted", "the build was interrupted"),
            Self::Host => ("host", "the host cannot do it"),
            Self::Other => ("other", "the build failed"),
        }
    }

    /// Its name in `failure.json`, which does not change.
    pub fn code(self) -> &'static str {
        self.names().0
    }

    /// What it says to people, first in `reason.txt`.
    pub fn words(self) -> &'static str {
        self.names().1
    }

    /// What to look at, where the error itself cannot know.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::AnswersNotFetched => {
                "what was typed or given to the kernel must name the web server's address, and the installer needs a network"
            }
            Self::NoNetwork => {
                "its network card has a driver, but nothing answers there: is it configured, by DHCP and under its name?"
            }
            Self::PoweredOff => "the serial log has who asked for it",
            Self::SshNeverAnswered => "is an SSH server installed and enabled, and port 22 open in the guest?",
            Self::SshRefusedKey => {
                "cloud-init brings the key of each boot: its lines are in the serial log, sshd's settings in the template"
            }
            Self::NotStarted => "command.txt has the command line; `visabuild doctor` looks at the host",
            _ => return None,
        })
    }

    /// The class of `error`, with what was seen of the guest.
    pub(super) fn of(error: &Error, evidence: &Evidence) -> Self {
        match (error.kind(), error.cause()) {
            (Kind::Interrupted | Kind::Terminated, _) => Self::Interrupted,
            (Kind::Verification, _) => Self::NotVerified,
            (_, Some(cause)) => Self::of_cause(cause, evidence),
            _ if is_full(error) => Self::DiskFull,
            (Kind::Host, None) => Self::Host,
            _ => Self::Other,
        }
    }

    fn of_cause(cause: &Cause, evidence: &Evidence) -> Self {
        match cause {
            Cause::Machine(ended) => Self::of_end(ended, evidence),
            Cause::Ssh(SshFault::NeverAnswered) if evidence.mute => Self::NoNetwork,
            Cause::Ssh(SshFault::NeverAnswered) => Self::SshNeverAnswered,
            Cause::Ssh(SshFault::Closed) => Self::SshClosed,
            Cause::Ssh(SshFault::RefusedKey) => Self::SshRefusedKey,
            Cause::Ssh(SshFault::HostKeyChanged) => Self::HostKeyChanged,
            Cause::Mistyped => Self::Mistyped,
            Cause::Installation => Self::InstallationFailed,
            Cause::NotStarted => Self::NotStarted,
            Cause::Step { .. } => Self::StepFailed,
            Cause::Command(_) => Self::CommandFailed,
            Cause::TimedOut => evidence.unanswered().unwrap_or(Self::TimedOut),
        }
    }

    fn of_end(ended: &Ended, evidence: &Evidence) -> Self {
        match ended {
            Ended::Idle { .. } => evidence.unanswered().unwrap_or(Self::SitsOnScreen),
            Ended::PoweredOff => Self::PoweredOff,
            Ended::Exited { .. } | Ended::Killed { .. } => Self::MachineDied,
            Ended::NotStarted { .. } => Self::NotStarted,
            Ended::Stopped => Self::Interrupted,
            Ended::KernelPanic { .. } => Self::KernelPanic,
            Ended::EmergencyShell { .. } => Self::EmergencyShell,
            Ended::NoBoot { .. } => Self::NothingToBoot,
            Ended::DiskFull { .. } => Self::DiskFull,
            Ended::IoError { .. } => Self::IoError,
            Ended::Paused { .. } => Self::MachineStopped,
        }
    }
}

impl Evidence {
    /// Why a guest got nowhere, where its network explains that.
    fn unanswered(&self) -> Option<FailureClass> {
        match &self.requests {
            // It had a network once.
            Some(requests) if !requests.is_empty() => None,
            _ if self.mute => Some(FailureClass::NoNetwork),
            Some(_) => Some(FailureClass::AnswersNotFetched),
            None => None,
        }
    }
}

/// What of a failure is a number or a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// The provisioner that failed.
    pub step: Option<String>,
    /// The exit code of the command or program that failed.
    pub exit_code: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<String>,
}

impl Details {
    pub(super) fn of(error: &Error) -> Self {
        let ended = |outcome: Option<&Outcome>| match outcome {
            Some(Outcome::Exit(code)) => (Some(i64::from(*code)), None),
            Some(Outcome::Signal(name)) => (None, Some(name.clone())),
            Some(Outcome::Disconnected) | None => (None, None),
        };
        let (step, (exit_code, signal)) = match error.cause() {
            Some(Cause::Step { name, outcome }) => (Some(name.clone()), ended(outcome.as_ref())),
            Some(Cause::Command(outcome)) => (None, ended(Some(outcome))),
            Some(Cause::Machine(Ended::Exited { code, .. })) => (None, (Some(i64::from(*code)), None)),
            Some(Cause::Machine(Ended::Killed { signal, .. })) => (None, (None, Some(signal.to_string()))),
            _ => (None, (None, None)),
        };
        Self { step, exit_code, signal }
    }
}

/// Whether a file system of the host had no space for something.
fn is_full(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
