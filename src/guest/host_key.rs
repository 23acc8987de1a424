//! The guest's host key: recorded at first contact, held to afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client::Handler;
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use tokio_util::sync::DropGuard;

/// Holds the host key of one guest over all its connections. Clones hold the same key.
///
/// The key is recorded when the first login succeeds rather than when the first connection is made:
/// cloud-init may replace the keys of the image while sshd already listens, and a server that lets
/// the build's key in has read the build's seed.
#[derive(Debug, Clone, Default)]
pub struct HostKey {
    known: Arc<Mutex<Option<PublicKey>>>,
}

impl HostKey {
    /// SHA-256 fingerprint of the key, once it is known.
    pub fn fingerprint(&self) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(fingerprint)
    }

    /// The key as it stands in a known_hosts file behind the host's name (sshd(8)), once it is known.
    pub fn line(&self) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.to_openssh().ok()
    }

    /// Holds to `key` from now on, unless a key is held already.
    pub(super) fn record(&self, key: PublicKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(key);
    }

    fn check(&self, offered: &PublicKey) -> Result<(), ConnectError> {
        match &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(known) if known.key_data() != offered.key_data() => {
                Err(ConnectError::HostKeyChanged { known: fingerprint(known), offered: fingerprint(offered) })
            }
            _ => Ok(()),
        }
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Why one attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the guest's host key changed from {known} to {offered}")]
    HostKeyChanged { known: String, offered: String },
    #[error("{0}")]
    NotYet(String),
    #[error("the guest refuses {tried} for `{user}`")]
    Refused { user: String, tried: String },
    #[error("SSH: {0}")]
    Protocol(#[from] russh::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// russh's callbacks: judges the host key, and tells when the connection is gone by being dropped.
pub(super) struct Judge {
    pub held: HostKey,
    pub offered: Arc<Mutex<Option<PublicKey>>>,
    pub _closed: DropGuard,
}

impl Handler for Judge {
    type Error = ConnectError;

    async fn check_server_key(&mut self, server: &PublicKeyOrCertificate) -> Result<bool, ConnectError> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = server else { return Ok(false) };
        self.held.check(key)?;
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(true)
    }
}
