//! The host's files that a provisioner reads, by name, content and executable bit.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use walkdir::WalkDir;

use crate::checksum;
use crate::error::{Error, Result};
use crate::template::post_processor::{PostProcessor, Processing};
use crate::template::{Action, AnswerFile, FileCopy, FileSource, HostPath, Installer, Provisioner, ShellSource};

pub use ansible::beside as beside_playbook;

mod ansible;

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
    /// Where it was read, as people are told: relative to the project where it is inside.
    #[serde(skip)]
    pub shown: String,
    /// Where it was read.
    #[serde(skip)]
    pub path: PathBuf,
}

/// The files that `provisioner` reads. Content that is a secret's is left out: it is compared by
/// its HMAC (`cache::secrets`).
///
/// # Errors
/// One cannot be read.
pub fn of(provisioner: &Provisioner) -> Result<Vec<InputFile>> {
    let read = || -> io::Result<Vec<InputFile>> {
        match &provisioner.action {
            Action::Shell(shell) => of_script(&shell.source),
            Action::Ansible(ansible) => ansible::files(ansible),
            Action::Breakpoint(_) => Ok(Vec::new()),
            Action::ShellLocal(local) => of_script(&local.source),
            Action::File(FileCopy { source: FileSource::Paths(paths), generated, .. }) => {
                let mut files = Vec::new();
                let is_read = |path: &&HostPath| path.secrets.is_empty() && (!generated || path.path.exists());
                for path in paths.iter().filter(is_read) {
                    tree(path, |_| true, &mut files)?;
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

/// Whether it copies what is not there yet.
pub(super) fn is_missing(provisioner: &Provisioner) -> bool {
    match &provisioner.action {
        Action::File(FileCopy { source: FileSource::Paths(paths), generated: true, .. }) => {
            paths.iter().any(|path| !path.path.exists())
        }
        _ => false,
    }
}

/// The files that `post_processor` reads.
///
/// # Errors
/// One cannot be read.
pub fn of_post_processor(post_processor: &PostProcessor) -> Result<Vec<InputFile>> {
    let Processing::ShellLocal(local) = &post_processor.processing else { return Ok(Vec::new()) };
    of_script(&local.source).map_err(|error| {
        let PostProcessor { label, location, .. } = post_processor;
        Error::usage(format!("{location}: cannot read what `{label}` needs")).because(error)
    })
}

fn of_script(source: &ShellSource) -> io::Result<Vec<InputFile>> {
    let ShellSource::Scripts(scripts) = source else { return Ok(Vec::new()) };
    scripts.iter().map(|script| file(&script.path, name_of(&script.path), &script.shown)).collect()
}

/// The host's files that an installer gets as they are, the pictures that its boot command waits for, and the
/// executable bits of its rendered ones.
///
/// # Errors
/// One cannot be read.
pub fn of_installer(installer: &Installer) -> Result<Vec<InputFile>> {
    let kernel = installer.kernel.iter();
    let volumes = installer.cd.iter().chain(&installer.floppy).flat_map(|volume| volume.files.values());
    let files = kernel.clone().flat_map(|kernel| kernel.files.values()).chain(installer.http.values()).chain(volumes);
    let paths = files.filter_map(|file| match file {
        AnswerFile::File(path) => Some((path.path.clone(), path.shown.clone())),
        AnswerFile::Content(_) => None,
    });
    let appended = kernel.flat_map(|kernel| &kernel.append).map(|path| (path.path.clone(), path.shown.clone()));
    let local = installer.local_media();
    let command = installer.boot_command();
    let pictures = command.images().map(|image| (installer.pictures.join(image), image.to_owned()));
    let read = paths.chain(appended).chain(local).chain(pictures).map(|(path, name)| file(&path, name.clone(), &name));
    let mut files: Vec<InputFile> = read
        .collect::<io::Result<_>>()
        .map_err(|error| Error::usage("cannot read what the installer needs").because(error))?;
    files.sort();
    files.dedup_by(|a, b| (&a.name, &a.sha256, a.executable) == (&b.name, &b.sha256, b.executable));
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The file, or the files of the folder without those of folders that `is_wanted` does not want.
fn tree(path: &HostPath, is_wanted: impl Fn(&Path) -> bool, files: &mut Vec<InputFile>) -> io::Result<()> {
    if !path.path.is_dir() {
        files.push(file(&path.path, name_of(&path.path), &path.shown)?);
        return Ok(());
    }
    // Links are followed, as they are when the folder is copied into the guest.
    let entries = WalkDir::new(&path.path).follow_links(true).min_depth(1).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| !entry.file_type().is_dir() || is_wanted(entry.path())) {
        let entry = entry.map_err(|error| {
            let text = error.to_string();
            error.into_io_error().unwrap_or_else(|| io::Error::other(text))
        })?;
        let name = entry.path().strip_prefix(&path.path).unwrap_or(entry.path()).to_string_lossy().into_owned();
        let shown = format!("{}/{name}", path.shown.trim_end_matches('/'));
        if entry.file_type().is_dir() {
            let (shown, path) = (format!("{shown}/"), entry.into_path());
            files.push(InputFile { name: format!("{name}/"), sha256: String::new(), executable: false, shown, path });
        } else {
            files.push(file(entry.path(), name, &shown)?);
        }
    }
    Ok(())
}

fn file(path: &Path, name: String, shown: &str) -> io::Result<InputFile> {
    let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let (shown, read) = (shown.to_owned(), path.to_owned());
    let metadata = fs::symlink_metadata(path).map_err(with_path)?;
    if metadata.is_symlink() && !path.is_file() {
        let target = fs::read_link(path).map_err(with_path)?;
        let sha256 = format!("-> {}", target.display());
        return Ok(InputFile { name, sha256, executable: false, shown, path: read });
    }
    let metadata = fs::metadata(path).map_err(with_path)?;
    if !metadata.is_file() {
        // A pipe or a device might never end.
        return Err(with_path(io::Error::new(io::ErrorKind::InvalidInput, "is neither a file nor a folder")));
    }
    let executable = metadata.permissions().mode() & 0o100 != 0;
    let sha256 = File::open(path).and_then(checksum::sha256).map_err(with_path)?;
    Ok(InputFile { name, sha256, executable, shown, path: read })
}
