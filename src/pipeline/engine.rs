//! What boots a guest: QEMU or systemd-nspawn, behind one face.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::container;
use crate::error::Result;
use crate::guest::Address;
use crate::machine::{self, PowerOff, Start, Watch};

/// A machine that can be started.
#[derive(Debug)]
pub(super) enum Config {
    Qemu(Box<machine::Config>),
    Nspawn(container::Config),
}

impl Config {
    /// What starts it, in the words of phase names.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Qemu(_) => "QEMU",
            Self::Nspawn(_) => "the container",
        }
    }

    /// The command that boots the guest, to look at after a failure.
    pub(super) fn command_line(&self, runtime: &Path) -> (&'static str, Vec<OsString>) {
        match self {
            Self::Qemu(config) => ("qemu-system-x86_64", config.arguments(runtime)),
            Self::Nspawn(config) => ("systemd-nspawn", config.arguments(runtime)),
        }
    }

    /// Starts it.
    pub(super) async fn start(&self, start: Start<'_>) -> Result<Machine> {
        Ok(match self {
            Self::Qemu(config) => Machine::Qemu(Box::new(machine::Running::start(config, start).await?)),
            Self::Nspawn(config) => Machine::Nspawn(container::Running::start(config, start).await?),
        })
    }
}

/// A machine that runs.
#[derive(Debug)]
pub(super) enum Machine {
    Qemu(Box<machine::Running>),
    Nspawn(container::Running),
}

impl Machine {
    /// Where its SSH server is reached.
    pub(super) fn ssh(&self) -> Result<Address> {
        Ok(match self {
            Self::Qemu(machine) => machine.forwarded(22)?.into(),
            Self::Nspawn(container) => container.address(22),
        })
    }

    pub(super) fn watch(&self) -> Watch {
        match self {
            Self::Qemu(machine) => machine.watch(),
            Self::Nspawn(container) => container.watch(),
        }
    }

    /// A folder of the guest with programs that steps must find first.
    pub(super) fn programs(&self) -> Option<&'static str> {
        match self {
            Self::Qemu(_) => None,
            Self::Nspawn(_) => Some(container::BIN),
        }
    }

    /// Writes a picture of the screen, where there is one; a container has its console only.
    pub(super) async fn screenshot(&self, path: &Path) -> Result<()> {
        match self {
            Self::Qemu(machine) => machine.screenshot(path).await,
            Self::Nspawn(_) => Ok(()),
        }
    }

    /// Waits for the guest's own power-off, and until its disk is complete.
    pub(super) async fn shutdown(self, timeout: Duration, cancel: &CancellationToken) -> Result<()> {
        match self {
            Self::Qemu(machine) => machine.shutdown(PowerOff::Guest, timeout, cancel).await,
            Self::Nspawn(container) => container.shutdown(timeout, cancel).await,
        }
    }

    /// Gives the machine up. Dropping QEMU is enough; a container leaves a control group unless its
    /// end is waited for.
    pub(super) async fn give_up(&self) {
        if let Self::Nspawn(container) = self {
            container.stop().await;
        }
    }
}
