//! Whether a secret changed, without keeping it or anything that others could test guesses on.
//!
//! A secret's tag is HMAC-SHA-256 (RFC 2104) under a random key that is made on this host, kept
//! 0600 in the cache, and never leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::{Cache, replace_file};
use crate::checksum::hex;
use crate::error::{Context, Kind, Result};

/// The values of the secrets of this run, by name.
#[derive(Default, Clone)]
pub struct Secrets(BTreeMap<String, SecretString>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Tags of some secrets, by name.
pub type SecretTags = BTreeMap<String, String>;

impl Secrets {
    /// Adds a secret.
    pub fn insert(&mut self, name: &str, value: SecretString) {
        self.0.insert(name.to_owned(), value);
    }

    /// The tags of the secrets in `names`; a secret without a value has the tag of the empty one.
    ///
    /// # Errors
    /// The key cannot be read or made (kind host).
    pub fn tags(&self, cache: &Cache, names: &BTreeSet<String>) -> Result<SecretTags> {
        if names.is_empty() {
            return Ok(SecretTags::new());
        }
        let key = local_key(&cache.root().join("hmac.key"))?;
        Ok(names
            .iter()
            .map(|name| {
                let value = self.0.get(name).map_or("", ExposeSecret::expose_secret);
                (name.clone(), tag(&key, name, value))
            })
            .collect())
    }
}

fn tag(key: &[u8; 32], name: &str, value: &str) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(name.as_bytes());
    mac.update(&[0]);
    mac.update(value.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn local_key(path: &Path) -> Result<[u8; 32]> {
    if let Some(key) = fs::read(path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .context(Kind::Host, || "cannot read /dev/urandom")?;
    replace_file(path, &key, 0o600).context(Kind::Host, || format!("cannot write {}", path.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tags_change_with_the_secret_only_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let names = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut secrets = Secrets::default();
        secrets.insert("a", "one".into());
        let first = secrets.tags(&cache, &names).unwrap();
        assert_eq!(secrets.tags(&cache, &names).unwrap(), first);
        secrets.insert("a", "two".into());
        let second = secrets.tags(&cache, &names).unwrap();
        assert_ne!(second["a"], first["a"]);
        assert_eq!(second["b"], first["b"]);
        let mode = fs::metadata(folder.path().join("hmac.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = secrets.tags(&Cache::open(elsewhere.path()).unwrap(), &names).unwrap();
        assert_ne!(other["a"], second["a"]);
    }
}
