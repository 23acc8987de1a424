//! packme's own result: Packer's JSON out of a packme project.
//!
//! [`Project::load`] reads the input file and [`Project::manifest`] makes of a template what packme 0.8.0 writes to its
//! manifest.json: builders matched by name with the parent's, the parent's image as `iso_url`, output names, the
//! provisioners of packages, paths in the template's folder. Nothing is checked that packme does not know: keys and
//! builder types go through as they are. YAML is read and strings are rendered by [`template`](crate::template). Where
//! this differs from packme, docs/packme.md says so, and tests/packme.rs holds it against packme itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::cache::replace_file;
use crate::error::{Context, Kind, Problem, Result};

pub use project::Project;
pub use values::Values;

mod json;
mod manifest;
mod packages;
mod project;
mod provisioner;
mod scalar;
mod tree;
mod values;

/// Where a project's files are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What relative paths below are relative to; they are shown without it.
    pub base: PathBuf,
    /// packme's input file, `config.yml`.
    pub input: PathBuf,
    /// Folder with a folder for each template.
    pub templates: PathBuf,
    /// Folder with a folder for each package.
    pub packages: PathBuf,
}

impl Layout {
    /// The usual one in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self {
            base: folder.to_owned(),
            input: "config.yml".into(),
            templates: "templates".into(),
            packages: "packages".into(),
        }
    }
}

/// A template as Packer takes it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The template's name.
    pub template: String,
    /// Where packme writes it.
    pub file: PathBuf,
    /// Packer's JSON.
    pub json: Json,
    /// What the user should know; nothing of it changes the JSON.
    pub warnings: Vec<Problem>,
}

impl Manifest {
    /// The file's text as packme writes it, without a newline at its end.
    pub fn text(&self) -> String {
        json::text(&self.json)
    }

    /// Writes the file: beside it first, so that it is never half a file.
    ///
    /// # Errors
    /// The folder cannot be written to (kind host).
    pub fn write(&self) -> Result<()> {
        // A link stays one: packme, too, writes to what it leads to.
        let file = fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
        let before = fs::metadata(&file).map(|metadata| metadata.permissions()).ok();
        let mode = before.as_ref().map_or(0o666, |permissions| permissions.mode() & 0o777);
        replace_file(&file, self.text().as_bytes(), mode)
            // What was there before stays so, whatever the umask.
            .and_then(|()| before.map_or(Ok(()), |permissions| fs::set_permissions(&file, permissions)))
            .context(Kind::Host, || format!("cannot write {}", self.file.display()))
    }
}
