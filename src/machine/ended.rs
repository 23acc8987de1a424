//! Why a machine ended, or can no longer go on.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::{Cause, Error, Kind};

/// QEMU's name in sentences.
pub(super) const QEMU: &str = "QEMU";

/// Why a machine ended, or can no longer go on. `Display` is a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered itself off.
    PoweredOff,
    /// The program that runs the guest, or one that it needs, ended by itself.
    Exited {
        /// Its name.
        program: &'static str,
        /// Its exit code.
        code: i32,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The program that runs the guest, or one that it needs, was killed.
    Killed {
        /// Its name.
        program: &'static str,
        /// The signal's number (signal(7)).
        signal: i32,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// A program that the guest needs could not be started.
    NotStarted {
        /// Which, and why.
        reason: String,
    },
    /// visabuild itself stopped the machine.
    Stopped,
    /// The guest's kernel panicked or hit a bug of its own.
    KernelPanic {
        /// What it said on the serial console.
        line: String,
    },
    /// The guest waits at an emergency shell for somebody to type.
    EmergencyShell {
        /// What it said on the serial console.
        line: String,
    },
    /// Firmware or boot loader found nothing to boot.
    NoBoot {
        /// What it said on the serial console.
        line: String,
    },
    /// The host has no space for what the guest writes.
    DiskFull {
        /// The disk's file.
        path: PathBuf,
        /// What is free on its file system, bytes, where it is known.
        free: Option<u64>,
    },
    /// Reading or writing a disk's file failed on the host.
    IoError {
        /// The disk's file.
        path: PathBuf,
        /// `read` or `write`.
        operation: String,
        /// The operating system's message.
        reason: String,
    },
    /// The guest sits there, as if it waited for somebody to type.
    Idle {
        /// How long nothing has changed on its screen and neither disk, network nor serial console had anything to do.
        quiet: Duration,
    },
    /// QEMU stopped the guest and says no more than this.
    Paused {
        /// QEMU's run state (QMP `RunState`), for example `internal-error`.
        state: String,
        /// The last lines of QEMU's standard error.
        stderr: String,
    },
}

impl Ended {
    /// How `program` ended by its exit status; none is known where it could not be waited for.
    pub(crate) fn of(program: &'static str, status: Option<ExitStatus>, stderr: String) -> Self {
        match status.and_then(|status| status.signal()) {
            Some(signal) => Self::Killed { program, signal, stderr },
            None => Self::Exited { program, code: status.and_then(|status| status.code()).unwrap_or(-1), stderr },
        }
    }

    fn stderr(&self) -> Option<&str> {
        match self {
            Self::Exited { stderr, .. } | Self::Killed { stderr, .. } | Self::Paused { stderr, .. } => Some(stderr),
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DiskFull { .. } => Some("make space there, or move the cache with XDG_CACHE_HOME"),
            Self::Killed { signal: 9, .. } => {
                Some("if nobody did that, the host ran out of memory: see its kernel log")
            }
            Self::Idle { .. } => {
                Some("look at what its screen asks for; `idle_timeout` gives a guest that works unseen more time")
            }
            Self::KernelPanic { .. } | Self::EmergencyShell { .. } | Self::NoBoot { .. } => {
                Some("the serial log has what came before")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::Exited { program, code, .. } => write!(f, "{program} ended by itself with exit code {code}"),
            Self::Killed { program, signal, .. } => write!(f, "{program} was killed by signal {signal}"),
            Self::NotStarted { reason } => write!(f, "the guest could not be started: {reason}"),
            Self::Stopped => f.write_str("the machine was stopped"),
            Self::KernelPanic { line } => write!(f, "the guest's kernel failed: {line}"),
            Self::EmergencyShell { line } => write!(f, "the guest stopped in an emergency shell: {line}"),
            Self::NoBoot { line } => write!(f, "the machine found nothing to boot: {line}"),
            Self::DiskFull { path, free } => {
                write!(f, "no space left on the host for {}", path.display())?;
                match free {
                    Some(free) => write!(f, " ({} MiB free there)", free >> 20),
                    None => Ok(()),
                }
            }
            Self::IoError { path, operation, reason } => {
                write!(f, "the host cannot {operation} {}: {reason}", path.display())
            }
            Self::Idle { quiet } => {
                write!(f, "the guest sits there: nothing has changed on its screen, and nothing was to do for disk, ")?;
                write!(f, "network and serial console, for {quiet:?}")
            }
            Self::Paused { state, .. } => write!(f, "QEMU stopped the guest ({state})"),
        }
    }
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        let kind = match ended {
            Ended::DiskFull { .. } => Kind::Host,
            _ => Kind::Build,
        };
        let mut error = Self::new(kind, ended.to_string());
        if let Some(stderr) = ended.stderr().filter(|text| !text.is_empty()) {
            error = error.because(stderr.to_owned());
        }
        if let Some(hint) = ended.hint() {
            error = error.hint(hint);
        }
        error.caused_by(Cause::Machine(ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_sentence() {
        let cases = [
            (Ended::PoweredOff, "the guest powered off"),
            (Ended::Exited { program: QEMU, code: 1, stderr: String::new() }, "QEMU ended by itself with exit code 1"),
            (Ended::Killed { program: QEMU, signal: 9, stderr: String::new() }, "QEMU was killed by signal 9"),
            (
                Ended::DiskFull { path: "/c/d.qcow2".into(), free: Some(3 << 20) },
                "no space left on the host for /c/d.qcow2 (3 MiB free there)",
            ),
            (
                Ended::IoError { path: "/d".into(), operation: "read".into(), reason: "Input/output error".into() },
                "the host cannot read /d: Input/output error",
            ),
            (
                Ended::Paused { state: "internal-error".into(), stderr: String::new() },
                "QEMU stopped the guest (internal-error)",
            ),
        ];
        for (ended, sentence) in cases {
            assert_eq!(ended.to_string(), sentence);
        }
    }

    #[test]
    fn a_full_disk_is_the_hosts_fault_and_has_a_hint() {
        let error = Error::from(Ended::DiskFull { path: "/d".into(), free: None });
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(error.hints().len(), 1);
    }

    #[test]
    fn what_qemu_said_is_the_cause() {
        let error = Error::from(Ended::Exited { program: QEMU, code: 1, stderr: "qemu: broken".into() });
        assert_eq!(error.chain(), ["QEMU ended by itself with exit code 1", "qemu: broken"]);
    }
}
