//! What a file is that is not a PEM RSA public key, and the command that makes one from it.

use std::path::Path;

use pkcs1::der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged};
use pkcs1::{RsaPrivateKey, RsaPublicKey};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::FILE_LIMIT;
use crate::error::Error;
use crate::pem::{self, Block};
use crate::shell_word::word;

/// Why a file is refused: the end of the sentence "`FILE` …", and what to do.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: String,
    hint: String,
}

/// The commands for a new pair, in backticks.
pub(super) fn new_pair() -> String {
    "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out private.pem && \
     openssl pkey -in private.pem -pubout -out public.pem`"
        .to_owned()
}

/// `path` as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    word(&path.to_string_lossy()).into_owned()
}

impl Refusal {
    fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }

    /// It is something from which `command` makes the public key.
    fn convertible(what: &str, command: &str) -> Self {
        Self::new(format!("is {what}, not a public key in PEM"), format!("make the public key from it: `{command}`"))
    }

    /// Nothing can be made from it.
    fn hopeless(reason: impl Into<String>) -> Self {
        Self::new(reason, format!("VISA signs with RSA; make a new pair: {}", new_pair()))
    }

    /// It has the right label and the wrong content.
    pub(super) fn damaged(path: &Path, cause: &str) -> Self {
        Self::new(
            format!("is a damaged public key ({cause})"),
            format!(
                "see what OpenSSL says: `openssl pkey -pubin -in {} -noout -text`; make it again from the private \
                 key: `openssl pkey -in private.pem -pubout -out public.pem`",
                quoted(path)
            ),
        )
    }

    /// A PEM block with another label than a public key's.
    pub(super) fn of_label(path: &Path, label: &str) -> Self {
        let file = quoted(path);
        let private = |what: &str| Self::convertible(what, &format!("openssl pkey -in {file} -pubout -out public.pem"));
        match label {
            "PRIVATE KEY" => private("a private key (PKCS#8)"),
            "RSA PRIVATE KEY" => private("a private key (PKCS#1)"),
            "ENCRYPTED PRIVATE KEY" => private("an encrypted private key (PKCS#8)"),
            "EC PRIVATE KEY" | "EC PARAMETERS" => Self::hopeless("is a private key on an elliptic curve"),
            "DSA PRIVATE KEY" => Self::hopeless("is a DSA private key"),
            "OPENSSH PRIVATE KEY" => {
                Self::convertible("a private key of OpenSSH", &format!("ssh-keygen -e -m PKCS8 -f {file} > public.pem"))
            }
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                Self::convertible("a certificate", &format!("openssl x509 -in {file} -noout -pubkey -out public.pem"))
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Self::convertible(
                "a certificate request",
                &format!("openssl req -in {file} -noout -pubkey -out public.pem"),
            ),
            _ => Self::hopeless(format!("holds `{label}`, not an RSA public key")),
        }
    }

    /// A `public` or `private` key of another algorithm than RSA.
    pub(super) fn of_algorithm(algorithm: &ObjectIdentifier, half: &str) -> Self {
        let name = match algorithm.to_string().as_str() {
            "1.2.840.10045.2.1" => "an elliptic-curve".to_owned(),
            "1.2.840.10040.4.1" => "a DSA".to_owned(),
            "1.2.840.113549.1.1.10" => "an RSA-PSS".to_owned(),
            "1.3.101.110" | "1.3.101.111" => "an X25519 or X448".to_owned(),
            "1.3.101.112" => "an Ed25519".to_owned(),
            "1.3.101.113" => "an Ed448".to_owned(),
            other => format!("an unknown ({other})"),
        };
        Self::hopeless(format!("is {name} {half} key"))
    }

    /// The error for the user.
    pub(super) fn into_error(self, path: &Path) -> Error {
        Error::usage(format!("the PAM public key `{}` {}", path.display(), self.reason)).hint(self.hint)
    }
}

/// The content as text, unless it is empty, too large or binary.
pub(super) fn text<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, Refusal> {
    if content.len() as u64 > FILE_LIMIT {
        return Err(Refusal::hopeless("is too large for a key"));
    }
    if content.trim_ascii().is_empty() {
        return Err(Refusal::hopeless("is empty"));
    }
    if content.starts_with(&[0xFF, 0xFE]) || content.starts_with(&[0xFE, 0xFF]) {
        let command = format!("iconv -f UTF-16 -t UTF-8 {} > public.pem", quoted(path));
        return Err(Refusal::new("is in UTF-16", format!("turn it into plain text: `{command}`")));
    }
    match std::str::from_utf8(content) {
        Ok(text) if !content.contains(&0) => Ok(text),
        _ => Err(binary(path, content)),
    }
}

/// What a binary file is.
fn binary(path: &Path, content: &[u8]) -> Refusal {
    let file = quoted(path);
    let convert = |what: &str, command: &str| {
        Refusal::convertible(what, &format!("openssl {command} -inform DER -in {file} -pubout -out public.pem"))
    };
    if let Ok(info) = SubjectPublicKeyInfoRef::try_from(content) {
        return match info.algorithm.oid {
            super::RSA => convert("a public key in DER", "pkey -pubin"),
            other => Refusal::of_algorithm(&other, "public"),
        };
    }
    if RsaPublicKey::from_der(content).is_ok() {
        return convert("a public key in DER (PKCS#1)", "rsa -RSAPublicKey_in");
    }
    if RsaPrivateKey::try_from(content).is_ok() {
        return convert("a private key in DER (PKCS#1)", "rsa");
    }
    let x509 = |what: &str, command: &str| {
        let command = format!("openssl {command} -inform DER -in {file} -noout -pubkey -out public.pem");
        Refusal::convertible(what, &command)
    };
    if let Some(algorithm) = private_key_algorithm(content) {
        return match algorithm {
            super::RSA => convert("a private key in DER (PKCS#8)", "pkey"),
            other => Refusal::of_algorithm(&other, "private"),
        };
    }
    match shape(content).as_deref() {
        Some([Tag::Sequence, Tag::Sequence, Tag::BitString]) if is_request(content) => {
            x509("a certificate request in DER", "req")
        }
        Some([Tag::Sequence, Tag::Sequence, Tag::BitString]) => x509("a certificate in DER", "x509"),
        _ => Refusal::hopeless("is a binary file of an unknown kind"),
    }
}

/// The tags inside the one sequence that `der` is.
fn shape(der: &[u8]) -> Option<Vec<Tag>> {
    members(der).map(|members| members.iter().map(Tagged::tag).collect())
}

fn members(der: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let outer = AnyRef::from_der(der).ok().filter(|outer| outer.tag() == Tag::Sequence)?;
    let mut reader = SliceReader::new(outer.value()).ok()?;
    let mut members = Vec::new();
    while !reader.is_finished() {
        members.push(reader.decode::<AnyRef<'_>>().ok()?);
    }
    Some(members)
}

/// A request begins with its version, the integer 0 (RFC 2986); a certificate with the tag of its version (RFC 5280).
fn is_request(der: &[u8]) -> bool {
    members(der).is_some_and(|members| members.first().is_some_and(|inner| inner.value().starts_with(&[2, 1, 0])))
}

/// The algorithm of a PKCS#8 private key (RFC 5208), if `der` is one.
fn private_key_algorithm(der: &[u8]) -> Option<ObjectIdentifier> {
    let members = members(der)?;
    match members.as_slice() {
        [version, algorithm, key, ..] if version.tag() == Tag::Integer && key.tag() == Tag::OctetString => {
            SliceReader::new(algorithm.value()).ok()?.decode().ok()
        }
        _ => None,
    }
}

/// The label and the content of the one block of `text`.
pub(super) fn only_block<'a>(path: &Path, text: &'a str) -> Result<(&'a str, Vec<u8>), Refusal> {
    let mut blocks = pem::blocks(text);
    // A file with a private key in it must not get into an image, whatever else it holds.
    if let Some(private) = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")) {
        return Err(private_block(path, private));
    }
    let several = blocks.len() > 1;
    match blocks.pop() {
        None => Err(without_block(path, text)),
        Some(Block { label, .. }) if !label.ends_with("PUBLIC KEY") => Err(Refusal::of_label(path, label)),
        Some(_) if several => Err(Refusal::new(
            "holds several keys",
            format!("keep the first: `openssl pkey -pubin -in {} -out public.pem`", quoted(path)),
        )),
        Some(Block { label, der }) => Ok((label, der.map_err(|cause| Refusal::damaged(path, &cause))?)),
    }
}

fn private_block(path: &Path, block: &Block<'_>) -> Refusal {
    match block.der.as_deref().ok().and_then(private_key_algorithm) {
        Some(other) if other != super::RSA => Refusal::of_algorithm(&other, "private"),
        _ => Refusal::of_label(path, block.label),
    }
}

/// What a text without any PEM block is.
fn without_block(path: &Path, text: &str) -> Refusal {
    let file = quoted(path);
    let text = text.trim_start();
    let first = text.split_whitespace().next().unwrap_or_default();
    match first {
        "ssh-rsa" => {
            Refusal::convertible("an SSH public key", &format!("ssh-keygen -e -m PKCS8 -f {file} > public.pem"))
        }
        _ if ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|start| first.starts_with(start)) => {
            Refusal::hopeless(format!("is an SSH public key of type `{first}`"))
        }
        _ if text.starts_with("---- BEGIN SSH2 PUBLIC KEY ----") => Refusal::convertible(
            "an SSH public key (RFC 4716)",
            &format!("ssh-keygen -i -f {file} > public.ssh && ssh-keygen -e -m PKCS8 -f public.ssh > public.pem"),
        ),
        _ if first.starts_with("PuTTY-User-Key-File") => Refusal::convertible(
            "a private key of PuTTY",
            &format!(
                "puttygen {file} -O public-openssh -o public.ssh && ssh-keygen -e -m PKCS8 -f public.ssh > public.pem"
            ),
        ),
        _ if text.contains("-----BEGIN ") => Refusal::new(
            "has a PEM header that is not on a line of its own",
            "its line breaks were lost or it is indented: put the shell variable that holds it in double quotes, or \
             make it again from the private key: `openssl pkey -in private.pem -pubout -out public.pem`",
        ),
        _ => Refusal::hopeless("is not a PEM public key"),
    }
}
