//! The host's files that a provisioner reads, by name, content and executable bit.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::fingerprint::hex;
use crate::error::{Error, Result};
use crate::template::{Action, FileCopy, FileSource, HostPath, Provisioner, ShellSource};

/// One file that a step reads. Only its executable bit counts of the mode: other bits depend on
/// the umask of whoever checked the project out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct InputFile {
    /// Its name: of a script the file name, in a folder the path below the folder.
    pub name: String,
    /// SHA-256 of the content in hexadecimal; of a symbolic link, `-> TARGET`.
    pub sha256: String,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// The files that `provisioner` reads. Content that is a secret's is left out: it is compared by
/// its HMAC (`cache::secrets`).
///
/// # Errors
/// One cannot be read.
pub fn of(provisioner: &Provisioner) -> Result<Vec<InputFile>> {
    let read = || -> io::Result<Vec<InputFile>> {
        match &provisioner.action {
            Action::Shell(shell) => match &shell.source {
                ShellSource::Inline(_) => Ok(Vec::new()),
                ShellSource::Scripts(scripts) => {
                    scripts.iter().map(|script| file(&script.path, name_of(&script.path))).collect()
                }
            },
            Action::File(FileCopy { source: FileSource::Paths(paths), .. }) => {
                let mut files = Vec::new();
                for path in paths.iter().filter(|path| path.secrets.is_empty()) {
                    tree(path, &mut files)?;
                }
                Ok(files)
            }
            Action::File(FileCopy { source: FileSource::Content(_), .. }) => Ok(Vec::new()),
        }
    };
    read().map_err(|error| {
        Error::usage(format!("{}: cannot read what `{}` needs", provisioner.location, provisioner.label)).because(error)
    })
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn tree(path: &HostPath, files: &mut Vec<InputFile>) -> io::Result<()> {
    if !path.path.is_dir() {
        files.push(file(&path.path, name_of(&path.path))?);
        return Ok(());
    }
    for entry in WalkDir::new(&path.path).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let text = error.to_string();
            error.into_io_error().unwrap_or_else(|| io::Error::other(text))
        })?;
        let name = entry.path().strip_prefix(&path.path).unwrap_or(entry.path()).to_string_lossy().into_owned();
        if entry.file_type().is_dir() {
            files.push(InputFile { name: format!("{name}/"), sha256: String::new(), executable: false });
        } else {
            files.push(file(entry.path(), name)?);
        }
    }
    Ok(())
}

fn file(path: &Path, name: String) -> io::Result<InputFile> {
    let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = fs::symlink_metadata(path).map_err(with_path)?;
    if metadata.is_symlink() && !path.is_file() {
        let target = fs::read_link(path).map_err(with_path)?;
        return Ok(InputFile { name, sha256: format!("-> {}", target.display()), executable: false });
    }
    let executable = fs::metadata(path).map_err(with_path)?.permissions().mode() & 0o100 != 0;
    let mut reader = File::open(path).map_err(with_path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer).map_err(with_path)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(InputFile { name, sha256: hex(&hasher.finalize()), executable })
}
