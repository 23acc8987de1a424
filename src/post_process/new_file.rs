//! Files of post-processors: written beside their place, synchronised, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Image;
use crate::cache::{beside, publish_file};
use crate::error::{Error, Kind, Result};

/// A place for a new file beside the one that it will replace; what lies there goes when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) beside: PathBuf,
}

impl Place {
    /// The place for the file `name` of `image`; folders above it are made.
    ///
    /// # Errors
    /// They cannot be made, or a folder has the name (kind build).
    pub(super) fn new(image: &Image, name: &str) -> Result<Self> {
        let path = image.file(name);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        if path.is_dir() {
            return Err(Error::build(format!("{} is a folder", path.display())).hint("choose another `output`"));
        }
        if path.starts_with(&image.folder) {
            remove_abandoned(&path);
        }
        let beside = beside(&path);
        let _ = fs::remove_file(&beside);
        Ok(Self { path, beside })
    }

    /// Opens the new file.
    ///
    /// # Errors
    /// It cannot be made (kind build).
    pub(super) fn create(&self) -> Result<File> {
        File::create_new(&self.beside).map_err(|error| failed(&self.beside, error))
    }

    /// The new file takes its place.
    ///
    /// # Errors
    /// What the file system says (kind build; host where there is no room); the old file is then untouched.
    pub(super) fn publish(self) -> Result<PathBuf> {
        publish_file(&self.beside, &self.path).map_err(|error| failed(&self.path, error))?;
        Ok(self.path.clone())
    }

    /// Writes a small file whole.
    ///
    /// # Errors
    /// As [`Place::publish`].
    pub(super) fn write(self, content: &[u8]) -> Result<PathBuf> {
        self.create()?.write_all(content).map_err(|error| failed(&self.path, error))?;
        self.publish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Once it was published it is not there any more.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Removes what killed runs were writing for `path`; nobody else writes into the folder of the results.
fn remove_abandoned(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    for entry in entries {
        let other = entry.file_name();
        let other = other.to_string_lossy();
        let number = other.strip_prefix(&format!(".{name}.")).and_then(|rest| rest.strip_suffix(".new"));
        if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The error for a file that cannot be read or written: a full disk is the host's fault.
pub(super) fn failed(path: &Path, error: io::Error) -> Error {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let kind = if is_full { Kind::Host } else { Kind::Build };
    let error = Error::new(kind, format!("{} cannot be read or written", path.display())).because(error);
    if is_full { error.hint("make room there, or name another place in `output`") } else { error }
}
