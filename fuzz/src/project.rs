//! A project's files.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use visabuild::template::{Inputs, Value, load, resolve};

/// The files of the project that are replaced.
pub const FILES: [&str; 7] = [
    "config.yml",
    "templates/system-base/manifest.yml",
    "templates/system-base/environment.yml",
    "templates/visa-base/manifest.yml",
    "templates/visa-base/environment.yml",
    "templates/visa-apps/manifest.yml",
    "packages/sssd/manifest.yml",
];

/// Where the healthy project is; `CARGO_MANIFEST_DIR` is that of the package that this file is compiled into.
pub fn fixture() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if package.ends_with("fuzz") { package.join("..") } else { package.to_owned() };
    root.join("tests/fixtures/projects/chain")
}

/// A copy of the healthy project.
pub struct Project(TempDir);

impl Project {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in FILES {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(fixture().join(file), path).unwrap();
        }
        Self(folder)
    }

    /// Resolves the project with one of its files replaced for that long.
    pub fn check_with(&self, file: &str, text: &[u8]) {
        let path = self.0.path().join(file);
        std::fs::write(&path, text).unwrap();
        check(self.0.path());
        std::fs::copy(fixture().join(file), path).unwrap();
    }
}

/// Resolves the project; every problem in a file must have a place that exists in that file.
fn check(folder: &Path) {
    let mut inputs = Inputs { lenient: true, ..Inputs::default() };
    inputs.values.insert("root_password".to_owned(), Value::Secret("hunter2".to_owned().into()));
    let Err(error) = load(folder).and_then(|project| resolve(&project, &[], &inputs)) else { return };
    assert!(!error.problem_list().is_empty());
    for problem in error.problem_list() {
        assert!(!problem.to_string().contains("hunter2"));
        let Some(location) = &problem.location else { continue };
        let text = std::fs::read(folder.join(&location.file)).unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).split('\n').count();
        assert!(location.line >= 1 && location.column >= 1 && location.line <= lines + 1, "{problem}");
    }
}
