//! Content fingerprints: SHA-256 over a canonical JSON of what shapes a result.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::checksum::hex;

/// A SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of `value`. `purpose` keeps equal data of different meaning apart.
    ///
    /// # Panics
    /// If `value` does not serialise to JSON, which the types of a plan always do.
    pub fn of(purpose: &str, value: &impl Serialize) -> Self {
        Self::hash("", purpose, value)
    }

    /// The fingerprint of `value` applied on top of this one.
    ///
    /// # Panics
    /// As [`Fingerprint::of`].
    #[must_use]
    pub fn then(&self, purpose: &str, value: &impl Serialize) -> Self {
        Self::hash(&self.0, purpose, value)
    }

    /// The hexadecimal text, 64 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    fn hash(before: &str, purpose: &str, value: &impl Serialize) -> Self {
        // Struct fields keep their order and maps are BTreeMaps, so the JSON is canonical.
        let json = serde_json::to_vec(&(before, purpose, value)).expect("plan data serialises to JSON");
        Self(hex(&Sha256::digest(&json)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purpose_order_and_content_all_count() {
        let a = Fingerprint::of("x", &1);
        assert_ne!(a, Fingerprint::of("y", &1));
        assert_ne!(a, Fingerprint::of("x", &2));
        assert_ne!(a.then("x", &1), a);
        assert_ne!(a.then("x", &1).then("x", &2), a.then("x", &2).then("x", &1));
        assert_eq!(a, Fingerprint::of("x", &1));
    }

    #[test]
    fn it_is_sha_256_in_hexadecimal() {
        assert_eq!(Fingerprint::of("x", &1).as_str().len(), 64);
        assert_eq!(hex(&[0, 171]), "00ab");
    }
}
