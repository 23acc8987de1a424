//! Which of several alternatives were reachable, for builds without the network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::replace_file;
use crate::checksum::hex;

/// What is remembered, in one small file.
#[derive(Debug, Clone)]
pub struct Choices {
    path: PathBuf,
}

impl Choices {
    /// Those in the cache whose folder is `root`.
    pub fn below(root: &Path) -> Self {
        Self { path: root.join(super::FOLDER).join("choices.json") }
    }

    /// What was chosen for `variable` of the project in `folder`.
    pub fn get(&self, folder: &str, variable: &str) -> Option<String> {
        self.read().remove(&key(folder, variable))
    }

    /// Remembers it. Where it cannot be written, a build without the network will ask for it by name.
    pub fn put(&self, folder: &str, variable: &str, value: &str) {
        let mut all = self.read();
        if all.insert(key(folder, variable), value.to_owned()).is_none_or(|old| old != value)
            && let Ok(text) = serde_json::to_vec_pretty(&all)
        {
            let _ = self.path.parent().map(fs::create_dir_all);
            let _ = replace_file(&self.path, &text, 0o600);
        }
    }

    fn read(&self) -> BTreeMap<String, String> {
        fs::read(&self.path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }
}

/// Names of folders are nobody's business who reads the cache.
fn key(folder: &str, variable: &str) -> String {
    format!("{} {variable}", &hex(&Sha256::digest(folder))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_one_projects_own() {
        let folder = tempfile::tempdir().unwrap();
        let choices = Choices::below(folder.path());
        assert_eq!(choices.get("/a", "method"), None);
        choices.put("/a", "method", "source");
        choices.put("/a", "method", "debian");
        assert_eq!(choices.get("/a", "method").as_deref(), Some("debian"));
        assert_eq!(choices.get("/b", "method"), None);
    }
}
