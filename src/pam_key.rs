//! The public key that a VISA image checks login tokens with.
//!
//! A token is `LOGIN,UNIX_SECONDS;BASE64(signature)`, the signature RSA PKCS#1 v1.5 over SHA-256. It
//! travels as the password of an RDP login, which is where the limits of the key's size come from.
//! [`read`] accepts exactly what the PAM module can use and says of everything else what it is and
//! which command makes the right thing from it.

use std::io::Read;
use std::path::Path;

use pkcs1::RsaPublicKey;
use pkcs1::der::Decode;
use serde::Serialize;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::error::{Context, Error, Kind, Result};
use crate::event::Level;
use crate::pem;

mod refusal;
#[cfg(test)]
mod tests;

use refusal::Refusal;

/// xrdp refuses a client's password of this many bytes or more (`INFO_CLIENT_MAX_CB_LEN`, xrdp 0.9.14 to
/// 0.10.1); RDP sends it as UTF-16.
const PASSWORD_LIMIT: usize = 512;

/// The longest value of a server's metadata that Nova takes, characters.
const METADATA_LIMIT: usize = 255;

/// The login that sizes are judged for, characters: Linux's longest (useradd(8)).
pub const LONGEST_LOGIN: usize = 32;

/// Digits of a Unix time, until the year 2286.
const TIME_DIGITS: usize = 10;

/// Below this many bits an RSA key can be factored with little effort (RSA-768: 2009, RSA-829: 2020).
const FACTORABLE_BITS: usize = 1024;

/// PKCS#1 v1.5 needs 62 bytes for a SHA-256 signature (RFC 8017, section 9.2: 51 bytes of DigestInfo and 11 of padding).
const SMALLEST_MODULUS: usize = 62;

/// No key file is larger; what is, is something else.
const FILE_LIMIT: u64 = 64 * 1024;

/// rsaEncryption (RFC 8017, appendix C).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// How the key is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// SubjectPublicKeyInfo, `PUBLIC KEY` (RFC 5280).
    Spki,
    /// `RSA PUBLIC KEY` (RFC 8017).
    Pkcs1,
}

/// Something the user should know about a key that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Warning or information.
    pub level: Level,
    /// A sentence.
    pub text: String,
}

/// An RSA public key that the PAM module can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PamKey {
    /// Length of the modulus, bits.
    pub bits: usize,
    /// Its encoding.
    pub form: Form,
    /// Characters of the file, which is what VISA sends as `pamPublicKey`.
    pub pem_chars: usize,
    /// The key alone, with Unix line ends and a final one.
    pub pem: String,
    /// What the user should know.
    pub notes: Vec<Note>,
}

impl PamKey {
    /// Characters of the token for a login of `login_chars` characters.
    pub fn token_length(&self, login_chars: usize) -> usize {
        token_length(self.bits, login_chars)
    }

    /// The longest login whose token xrdp takes, characters; none where no login can.
    pub fn longest_login(&self) -> Option<usize> {
        longest_login(self.bits)
    }

    /// The key in one sentence, for the start of a build.
    pub fn summary(&self) -> String {
        format!(
            "RSA key of {} bits; the token for a login of {LONGEST_LOGIN} characters has {} characters",
            self.bits,
            self.token_length(LONGEST_LOGIN)
        )
    }
}

fn token_length(bits: usize, login_chars: usize) -> usize {
    let signature = bits.div_ceil(8).div_ceil(3) * 4;
    login_chars + ",".len() + TIME_DIGITS + ";".len() + signature
}

fn longest_login(bits: usize) -> Option<usize> {
    let longest_token = (PASSWORD_LIMIT - 1) / 2;
    longest_token.checked_sub(token_length(bits, 0)).filter(|login| *login > 0)
}

/// Reads and checks the key at `path`.
///
/// # Errors
/// As [`check`]; also when `path` is missing, unreadable or not a file. All are of kind usage.
pub fn read(path: &Path, accept_key_size: bool) -> Result<PamKey> {
    let shown = path.display();
    let doing = || format!("reading the PAM public key `{shown}`");
    let metadata = std::fs::metadata(path).context(Kind::Usage, doing).map_err(|error| error.hint(give_a_key()))?;
    if metadata.is_dir() {
        return Err(Error::usage(format!("`{shown}` is a folder, not a PEM public key")).hint(give_a_key()));
    }
    let file = std::fs::File::open(path).context(Kind::Usage, doing)?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).context(Kind::Usage, doing)?;
    check(path, &bytes, accept_key_size)
}

fn give_a_key() -> String {
    format!("give `-pp/--pam-public` the file of an RSA public key; a new pair: {}", refusal::new_pair())
}

/// Checks the content of a key file; `path` is only for messages.
///
/// `accept_key_size` lets a key pass whose tokens no RDP login can carry.
///
/// # Errors
/// Of kind usage: not a PEM RSA public key, or of a size that can never log in. The hint has the command
/// that makes the right thing.
pub fn check(path: &Path, content: &[u8], accept_key_size: bool) -> Result<PamKey> {
    let mut key = parse(path, content).map_err(|refusal| refusal.into_error(path))?;
    key.notes = judge(path, key.bits, key.pem_chars, accept_key_size)?;
    Ok(key)
}

/// Decodes the key without a judgement of its size.
fn parse(path: &Path, content: &[u8]) -> Result<PamKey, Refusal> {
    let text = refusal::text(path, content)?;
    let (label, der) = refusal::only_block(path, text)?;
    let (form, bits) = match label {
        "PUBLIC KEY" => (Form::Spki, spki_bits(path, &der)?),
        "RSA PUBLIC KEY" => (Form::Pkcs1, pkcs1_bits(path, &der)?),
        _ => return Err(Refusal::of_label(path, label)),
    };
    let pem = pem::encode(label, &der).map_err(|cause| Refusal::damaged(path, &cause))?;
    Ok(PamKey { bits, form, pem_chars: text.chars().count(), pem, notes: Vec::new() })
}

fn spki_bits(path: &Path, der: &[u8]) -> Result<usize, Refusal> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|error| Refusal::damaged(path, &error.to_string()))?;
    if info.algorithm.oid != RSA {
        return Err(Refusal::of_algorithm(&info.algorithm.oid, "public"));
    }
    pkcs1_bits(path, info.subject_public_key.raw_bytes())
}

fn pkcs1_bits(path: &Path, der: &[u8]) -> Result<usize, Refusal> {
    let key = RsaPublicKey::from_der(der).map_err(|error| Refusal::damaged(path, &error.to_string()))?;
    let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !odd(modulus) || !odd(exponent) || exponent == [1] {
        return Err(Refusal::damaged(path, "modulus or exponent is not that of an RSA key"));
    }
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    Ok(modulus.len() * 8 - leading_zeros)
}

/// What a key's size means for logins and for Nova's metadata.
fn judge(path: &Path, bits: usize, pem_chars: usize, accept_key_size: bool) -> Result<Vec<Note>> {
    if bits.div_ceil(8) < SMALLEST_MODULUS {
        return Err(Error::usage(format!(
            "the key `{}` has {bits} bits, too few for a SHA-256 signature: nobody could log in with it",
            path.display()
        ))
        .hint(format!("make a new pair: {}", refusal::new_pair())));
    }
    let mut notes = Vec::new();
    let mut note = |level, text: String| notes.push(Note { level, text });
    let (token, bytes) = (token_length(bits, LONGEST_LOGIN), token_length(bits, LONGEST_LOGIN) * 2);
    let too_long = format!(
        "the key `{}` has {bits} bits: its token for a login of {LONGEST_LOGIN} characters has {token} characters, \
         {bytes} bytes as RDP sends it, and xrdp refuses {PASSWORD_LIMIT} and more",
        path.display()
    );
    match longest_login(bits) {
        None if !accept_key_size => {
            return Err(Error::usage(format!("{too_long}; even a login of one character could never log in"))
                .hint(format!("VISA needs a key of 1024 bits: {}", refusal::new_pair()))
                .hint("`--accept-key-size` uses this one all the same"));
        }
        None => note(Level::Warning, format!("{too_long}; no login by RDP will work with it")),
        Some(longest) if longest < LONGEST_LOGIN => {
            note(Level::Warning, format!("{too_long}; only logins of up to {longest} characters will work with it"));
        }
        Some(_) => {}
    }
    if bits < FACTORABLE_BITS {
        let path = path.display();
        note(Level::Warning, format!("the key `{path}` has only {bits} bits and can be factored; use 1024 bits"));
    }
    if pem_chars > METADATA_LIMIT {
        note(
            Level::Info,
            format!(
                "the key file has {pem_chars} characters and Nova's metadata takes {METADATA_LIMIT}: VISA cannot \
                 send it as `pamPublicKey`, so instances use the one in the image"
            ),
        );
    }
    Ok(notes)
}
