//! What is written down of a running machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// How the files end that records are in.
pub(super) const ENDING: &str = ".machine.json";

/// A running machine and the ways to it. The file is the user's alone (0600).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The build's name: its template's and the run's id.
    pub build: String,
    /// Template name.
    pub template: String,
    /// The run's id.
    pub run: String,
    /// What the machine is for: `install`, `layer`, `seal`, or `verify-` and the boot's name.
    pub purpose: String,
    /// Where the build's results go.
    pub output: PathBuf,
    /// visabuild's process.
    pub pid: i32,
    /// When the machine was started, seconds since 1970.
    pub started: u64,
    /// Everything that its serial console has said, byte by byte.
    pub serial: PathBuf,
    /// Its screen; a container has none.
    pub screen: Option<Screen>,
    /// The way in over SSH, once SSH has let the build in.
    pub ssh: Option<Ssh>,
}

/// A machine's screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// `vnc://ADDRESS:PORT`.
    pub url: String,
    /// What the VNC server asks for.
    pub password: Option<String>,
}

/// The way into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// A file that stands for the network name space in which that is, where it is not the host's own.
    pub name_space: Option<PathBuf>,
    /// Account.
    pub user: String,
    /// File of the private key.
    pub key: PathBuf,
    /// File of the guest's host key, under the name [`Ssh::ALIAS`].
    pub known_hosts: PathBuf,
}

impl Ssh {
    /// The guest's name where its host key is written down: its port is another one each time.
    pub const ALIAS: &str = "visabuild-guest";
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// There is none, or it is another visabuild's that writes them in another way.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Where it is: beside what the serial console says.
    pub(super) fn path(&self) -> PathBuf {
        path(self.serial.parent().unwrap_or(Path::new(".")), &self.template, &self.purpose)
    }

    /// Whether the machine is still the one that runs.
    pub(super) fn is_current(&self) -> bool {
        Self::read(&self.path()).is_ok_and(|now| (now.started, now.pid) == (self.started, self.pid))
    }

    /// How long the machine runs.
    pub fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(now.as_secs().saturating_sub(self.started))
    }
}

/// Where the record of a machine is.
pub(super) fn path(work: &Path, template: &str, purpose: &str) -> PathBuf {
    work.join(format!("{template}.{purpose}{ENDING}"))
}
