//! Password hashes for answer files, in the form of crypt(5).

use std::fs::File;
use std::io::Read;

use secrecy::{ExposeSecret, SecretString};
use sha_crypt::{Algorithm, Params, PasswordHasher as _, ShaCrypt};

use crate::error::{Context, Error, Kind, Result};

/// Rounds of SHA-512-crypt: a guess costs twenty times that of the default, a login some tens of milliseconds.
const ROUNDS: u32 = 100_000;

/// The variable by which templates get the root password's hash.
pub const HASH_VARIABLE: &str = "root_password_hash";

/// The hash of `password` with a new salt, `$6$…`: what every Linux of the last fifteen years verifies, and what preseed
/// (`passwd/root-password-crypted`), autoinstall (`identity.password`) and kickstart (`rootpw --iscrypted`) take.
///
/// # Errors
/// The password is empty or has a NUL byte or line end, which crypt(3) and answer files cannot have (kind usage), or
/// there are no random bytes (kind host).
pub fn hash(password: &SecretString) -> Result<String> {
    let password = password.expose_secret();
    if password.is_empty() || password.contains(['\0', '\n', '\r']) {
        return Err(Error::usage("a password must not be empty or have line ends or NUL in it"));
    }
    let failed = || "the password cannot be hashed";
    let params = Params::new(ROUNDS).context(Kind::Host, failed)?;
    // 12 bytes are 16 characters: crypt(3) would cut a longer salt and never find the hash again.
    let hasher = ShaCrypt::new(Algorithm::Sha512Crypt, params);
    let hash = hasher.hash_password_with_salt(password.as_bytes(), &random::<12>()?);
    Ok(hash.context(Kind::Host, failed)?.to_string())
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context(Kind::Host, || "cannot read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What the host's own crypt(3) makes of a password and a hash's salt.
    fn crypt(password: &str, setting: &str) -> String {
        let script = ["-e", "print crypt($ARGV[0], $ARGV[1])", password, setting];
        String::from_utf8(Command::new("perl").args(script).output().unwrap().stdout).unwrap()
    }

    #[test]
    fn the_systems_crypt_finds_the_same_hash() {
        for password in
            ["x", "pass word ' \" $ \\", "grüße-κόσμε-0123456789-0123456789-0123456789-0123456789-0123456789"]
        {
            let hash = hash(&password.into()).unwrap();
            assert_eq!(crypt(password, &hash), hash);
            assert!(!hash.contains(password) || password == "x");
        }
    }

    #[test]
    fn a_salt_is_used_once_and_is_not_too_long() {
        let [one, two] = [(); 2].map(|()| hash(&"same".into()).unwrap());
        assert_ne!(one, two);
        let parts: Vec<&str> = one.split('$').collect();
        assert_eq!((parts[1], parts[2], parts[3].len()), ("6", "rounds=100000", 16), "{one}");
    }

    #[test]
    fn what_crypt_cannot_take_is_refused_and_not_told() {
        for bad in ["", "sec\0ret", "sec\nret"] {
            let error = hash(&bad.into()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(!error.chain().concat().contains("sec"));
        }
    }
}
