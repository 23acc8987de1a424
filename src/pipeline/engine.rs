//! What boots a guest: QEMU or systemd-nspawn, behind one face.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::container;
use crate::error::Result;
use crate::guest::Address;
use crate::machine::live_disk::LiveDisk;
use crate::machine::{self, Ended, PowerOff, Start, Watch};

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

    /// The disk that it boots.
    pub(super) fn disk(&self) -> &Path {
        match self {
            Self::Qemu(config) => &config.disk,
            Self::Nspawn(config) => &config.disk,
        }
    }

    /// The same machine, which boots `disk`.
    pub(super) fn booting(&self, disk: &Path) -> Self {
        let disk = disk.to_owned();
        match self {
            Self::Qemu(config) => Self::Qemu(Box::new(machine::Config {
                disk,
                waits_for_memory: false,
                ..machine::Config::clone(config)
            })),
            Self::Nspawn(config) => Self::Nspawn(container::Config { disk, ..config.clone() }),
        }
    }

    /// The command that boots the guest, to look at after a failure.
    pub(super) fn command_line(&self, runtime: &Path) -> (String, Vec<OsString>) {
        match self {
            Self::Qemu(config) => (config.program.display().to_string(), config.arguments(runtime)),
            Self::Nspawn(config) => ("systemd-nspawn".to_owned(), config.arguments(runtime)),
        }
    }

    /// Starts it.
    pub(super) async fn start(&self, start: Start<'_>) -> Result<Machine> {
        Ok(match self {
            Self::Qemu(config) => Machine::Qemu(Box::new(machine::Running::start(config, start).await?)),
            Self::Nspawn(config) => Machine::Nspawn(Box::new(container::Running::start(config, start).await?)),
        })
    }
}

/// A machine that runs.
#[derive(Debug)]
pub(super) enum Machine {
    Qemu(Box<machine::Running>),
    Nspawn(Box<container::Running>),
}

impl Machine {
    /// Where its SSH server is reached.
    pub(super) fn ssh(&self, port: u16) -> Result<Address> {
        Ok(match self {
            Self::Qemu(machine) => machine.forwarded(port)?.into(),
            Self::Nspawn(container) => container.address(port),
        })
    }

    pub(super) fn watch(&self) -> Watch {
        match self {
            Self::Qemu(machine) => machine.watch(),
            Self::Nspawn(container) => container.watch(),
        }
    }

    /// Waits until the guest has sat there for `limit`, as far as its screen tells; a container has none.
    pub(super) async fn idle(&self, limit: Duration) -> Ended {
        match self {
            Self::Qemu(machine) => machine.idle(limit).await,
            Self::Nspawn(_) => std::future::pending().await,
        }
    }

    /// Waits for the guest's own power-off as far as the machine can be looked at when it does not come.
    pub(super) async fn until_powered_off(
        &self,
        timeout: Duration,
        idle: Duration,
        cancel: &CancellationToken,
    ) -> Result<()> {
        match self {
            Self::Qemu(machine) => machine.until_powered_off(timeout, idle, cancel).await,
            Self::Nspawn(_) => Ok(()),
        }
    }

    /// The disk that it boots from, for whoever leads its writes elsewhere.
    pub(super) fn disk(&self) -> &LiveDisk {
        match self {
            Self::Qemu(machine) => machine.disk(),
            Self::Nspawn(container) => container.disk(),
        }
    }

    /// A folder of the guest with programs that steps must find first.
    pub(super) fn programs(&self) -> Option<&'static str> {
        match self {
            Self::Qemu(_) => None,
            Self::Nspawn(_) => Some(container::BIN),
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
