//! The key of one build.

use std::fmt;
use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};

use crate::error::{Context, Kind, Result};

/// An SSH key pair made for one build; it is in memory only.
#[derive(Clone)]
pub struct Key {
    private: Arc<PrivateKey>,
    authorized: String,
}

impl Key {
    /// A new Ed25519 key.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn generate() -> Result<Self> {
        let mut private = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)
            .context(Kind::Host, || "making the build's SSH key")?;
        private.set_comment("visabuild");
        let authorized =
            private.public_key().to_openssh().context(Kind::Host, || "writing the build's public SSH key")?;
        Ok(Self { private: Arc::new(private), authorized })
    }

    /// The public half as a line of authorized_keys(5), without its end.
    pub fn authorized_line(&self) -> &str {
        &self.authorized
    }

    pub(super) fn private(&self) -> PrivateKeyWithHashAlg {
        PrivateKeyWithHashAlg::new(Arc::clone(&self.private), None)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.authorized).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_new_and_shows_its_public_half_only() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_ne!(one.authorized_line(), two.authorized_line());
        assert!(one.authorized_line().starts_with("ssh-ed25519 AAAA") && one.authorized_line().ends_with(" visabuild"));
        assert_eq!(format!("{one:?}"), format!("Key({:?})", one.authorized_line()));
    }
}
