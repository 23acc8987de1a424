//! How far a guest let the build in.

use std::sync::{Arc, Mutex, PoisonError};

use super::host_key::ConnectError;

/// Why SSH did not let the build in, in the order of how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SshFault {
    /// No SSH server has said a word. (QEMU takes connections for a guest that does not listen, and closes them.)
    NeverAnswered,
    /// A server answered, and the connection was lost before a command could run.
    Closed,
    /// The server refused the build's key.
    RefusedKey,
    /// The server has another host key than before.
    HostKeyChanged,
}

/// The furthest that any attempt to connect to one guest has come; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Attempts {
    furthest: Arc<Mutex<Option<SshFault>>>,
}

impl Attempts {
    /// How far the attempts came that failed; none has failed where there is none.
    pub fn furthest(&self) -> Option<SshFault> {
        *self.furthest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an SSH server has ever said a word.
    pub fn answered(&self) -> bool {
        self.furthest() > Some(SshFault::NeverAnswered)
    }

    /// The guest begins anew, or has let the build in.
    pub(super) fn forget(&self) {
        *self.furthest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An attempt came so far; a server that refuses the key closes later connections before its banner (sshd_config(5),
    /// PerSourcePenalties), so the furthest counts.
    pub(super) fn came(&self, fault: SshFault) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        *furthest = (*furthest).max(Some(fault));
    }
}

impl ConnectError {
    /// How far an attempt came that failed after the server's banner.
    pub(super) fn after_banner(&self) -> SshFault {
        match self {
            Self::HostKeyChanged { .. } => SshFault::HostKeyChanged,
            Self::Refused { .. } => SshFault::RefusedKey,
            Self::NotYet(_) | Self::Protocol(_) | Self::Io(_) => SshFault::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_attempt_counts() {
        let attempts = Attempts::default();
        assert_eq!((attempts.furthest(), attempts.answered()), (None, false));
        attempts.came(SshFault::NeverAnswered);
        assert!(!attempts.answered());
        attempts.clone().came(ConnectError::Refused { user: "root".into(), tried: String::new() }.after_banner());
        attempts.came(SshFault::Closed);
        assert_eq!((attempts.furthest(), attempts.answered()), (Some(SshFault::RefusedKey), true));
    }
}
