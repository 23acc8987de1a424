//! The key of one build.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use secrecy::SecretString;

use crate::error::{Context, Kind, Result};

/// Characters of a full line of a private key's file (PROTOCOL.key of OpenSSH).
const FULL_LINE: usize = 70;

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

    /// Texts that give the key away, each by its name: a line of the private half as OpenSSH would write its file (the
    /// longest run of it without a line break), and the public half.
    ///
    /// # Errors
    /// The private half cannot be written down.
    pub fn traces(&self) -> Result<Vec<(&'static str, SecretString)>> {
        let pem = self.private.to_openssh(LineEnding::LF).context(Kind::Host, || "writing the build's SSH key")?;
        // Behind the header and the public half, before the comment and the padding.
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let private = lines.iter().rev().find(|line| line.len() >= FULL_LINE).copied().unwrap_or_default();
        let public = self.authorized.split(' ').nth(1).unwrap_or_default();
        Ok(vec![
            ("the build's private SSH key", private.to_owned().into()),
            ("the build's public SSH key", public.to_owned().into()),
        ])
    }

    /// The private half as OpenSSH's programs read it from a file.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn file(&self) -> Result<SecretString> {
        let pem = self.private.to_openssh(LineEnding::LF).context(Kind::Host, || "writing the build's SSH key")?;
        Ok(SecretString::from(pem.to_string()))
    }

    /// The key in the file `path`, in OpenSSH's or PEM's form, without a passphrase.
    ///
    /// # Errors
    /// It cannot be read, or is no private key (kind usage).
    pub fn read(path: &Path) -> Result<Self> {
        let reading = || format!("reading the private SSH key {}", path.display());
        let private = russh::keys::load_secret_key(path, None).context(Kind::Usage, reading)?;
        let authorized = private.public_key().to_openssh().context(Kind::Usage, reading)?;
        Ok(Self { private: Arc::new(private), authorized })
    }

    pub(super) fn is_rsa(&self) -> bool {
        self.private.algorithm().is_rsa()
    }

    /// The private half; `hash` is for RSA.
    pub(super) fn private(&self, hash: Option<HashAlg>) -> PrivateKeyWithHashAlg {
        PrivateKeyWithHashAlg::new(Arc::clone(&self.private), hash)
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
    use secrecy::ExposeSecret;

    #[test]
    fn every_key_is_new_and_shows_its_public_half_only() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_ne!(one.authorized_line(), two.authorized_line());
        assert!(one.authorized_line().starts_with("ssh-ed25519 AAAA") && one.authorized_line().ends_with(" visabuild"));
        let traces = one.traces().unwrap();
        let pem = one.private.to_openssh(LineEnding::LF).unwrap();
        assert!(traces[0].1.expose_secret().len() == 70 && pem.contains(traces[0].1.expose_secret()));
        assert!(traces[1].1.expose_secret().starts_with("AAAA"));
        // Its own half, not what is the same in all files of the kind.
        let other = two.private.to_openssh(LineEnding::LF).unwrap();
        assert!(!other.contains(traces[0].1.expose_secret()));
        assert_eq!(format!("{one:?}"), format!("Key({:?})", one.authorized_line()));
    }
}
