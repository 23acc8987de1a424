//! Login tokens, made as VISA makes them.
//!
//! A token is `USER,UNIX_SECONDS;BASE64(signature)`, the signature RSA PKCS#1 v1.5 over the SHA-256 of
//! what stands before the semicolon (VISA's `SignatureService`). It travels as the password of an RDP
//! login, and the public half of the key reaches an instance as its metadata `pamPublicKey`.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use russh::keys::key::safe_rng;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Kind, Result};

/// The shortest modulus that holds a SHA-256 signature with PKCS#1 v1.5 (RFC 8017, section 9.2: 62 bytes).
const SMALLEST: usize = 62 * 8;

/// Makes tokens with a key of its own, which is in memory only and good for one verification.
pub struct Signer {
    private: RsaPrivateKey,
    public: String,
}

impl Signer {
    /// A signer with a new key of `bits` bits.
    ///
    /// Fewer than 1024 bits are usual here, although such a key can be factored: an OpenStack server's
    /// metadata holds 255 characters, which the public half of 896 bits still fits in.
    ///
    /// # Errors
    /// `bits` is too few for a signature (kind usage).
    pub fn generate(bits: usize) -> Result<Self> {
        if bits < SMALLEST {
            return Err(Error::usage(format!("an RSA key of {bits} bits cannot sign a SHA-256 hash"))
                .hint(format!("use at least {SMALLEST} bits")));
        }
        // The checked function refuses everything below 1024 bits; the key is worth nothing to anybody.
        let private = RsaPrivateKey::new_unchecked(&mut safe_rng(), bits)
            .context(Kind::Host, || format!("making an RSA key of {bits} bits"))?;
        let public = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .context(Kind::Host, || "writing the verification's public key")?;
        Ok(Self { private, public })
    }

    /// The public half: SubjectPublicKeyInfo as PEM (`PUBLIC KEY`), with a final newline.
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// The token that lets `user` in, dated `unix_seconds`.
    ///
    /// # Errors
    /// The signature cannot be made (kind host).
    pub fn token(&self, user: &str, unix_seconds: u64) -> Result<SecretString> {
        let payload = format!("{user},{unix_seconds}");
        let signature = self
            .private
            .sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(payload.as_bytes()))
            .context(Kind::Host, || "signing a login token")?;
        Ok(format!("{payload};{}", BASE64_STANDARD.encode(signature)).into())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use secrecy::ExposeSecret;

    use super::*;

    /// Whether OpenSSL, which the PAM module verifies with, accepts `token`.
    fn openssl_accepts(signer: &Signer, token: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (payload, signature) = token.split_once(';').unwrap();
        fs::write(path("key"), signer.public_pem()).unwrap();
        fs::write(path("payload"), payload).unwrap();
        fs::write(path("signature"), BASE64_STANDARD.decode(signature).unwrap()).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-verify"]).arg(path("key")).arg("-signature").arg(path("signature"));
        openssl.arg(path("payload")).output().unwrap().status.success()
    }

    #[test]
    fn openssl_accepts_tokens_of_every_usual_size_and_no_changed_one() {
        for bits in [768, 896, 1024] {
            let signer = Signer::generate(bits).unwrap();
            let token = signer.token("joebloggs", 1_700_000_000).unwrap();
            let token = token.expose_secret();
            assert!(token.starts_with("joebloggs,1700000000;"), "{token}");
            assert!(openssl_accepts(&signer, token), "{bits} bits");
            assert!(!openssl_accepts(&signer, &token.replace("joe", "jim")), "{bits} bits");
        }
    }

    #[test]
    fn sizes_are_those_that_the_platforms_limits_are_made_for() {
        let signer = Signer::generate(896).unwrap();
        assert!(signer.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert!(signer.public_pem().ends_with("-----END PUBLIC KEY-----\n"));
        let key = crate::pam_key::check("key.pem".as_ref(), signer.public_pem().as_bytes(), true).unwrap();
        assert_eq!(key.bits, 896);
        assert!(signer.public_pem().chars().count() <= 255);
    }

    #[test]
    fn keys_are_new_each_time_and_never_shown() {
        let (one, two) = (Signer::generate(768).unwrap(), Signer::generate(768).unwrap());
        assert_ne!(one.public_pem(), two.public_pem());
        assert_eq!(format!("{one:?}"), format!("Signer({:?})", one.public_pem()));
        assert_eq!(Signer::generate(256).unwrap_err().kind(), Kind::Usage);
    }
}
