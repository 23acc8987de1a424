//! Packer's projects.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visabuild::packer::{Request, import};

/// Faster than any of these is a person; slower is a machine that is very busy.
pub const SOON: Duration = Duration::from_secs(60);

/// A folder whose project changes.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Imports the project that has nothing but this file.
    pub fn check_with(&mut self, name: &str, text: &[u8]) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        check(&path);
    }
}

/// Imports the project at `path`; all places that are told must be in files that are there.
pub fn check(path: &Path) {
    let output = tempfile::tempdir().unwrap();
    let request = Request {
        path: path.to_owned(),
        output: output.path().join("new"),
        partial: true,
        variables: vec!["mirror_url=http://m".to_owned()],
        now: 1_795_356_309,
        ..Request::default()
    };
    let begin = Instant::now();
    let result = import(&request);
    assert!(begin.elapsed() < SOON);
    let Err(error) = result else { return };
    for problem in error.problem_list() {
        let Some(location) = &problem.location else { continue };
        let text = std::fs::read(&location.file).unwrap();
        let lines = String::from_utf8_lossy(&text).split('\n').count();
        assert!(location.line >= 1 && location.column >= 1 && location.line <= lines + 1, "{problem}");
    }
}
