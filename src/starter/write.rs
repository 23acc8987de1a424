//! From the program to a folder.
//!
//! Each file is written beside its place, synchronised, and then gets its name, which fails where the name is taken:
//! nothing is ever overwritten, not even what comes into being meanwhile. config.yml comes last, so a folder in which a
//! run was broken off is no project yet; the next run goes on there, because files that are as they would be written
//! are no conflict then.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{CONFIG, File, Starter};
use crate::error::{Context, Error, Kind, Problem, Result};

/// Writes the files of `starter` into `folder`, which is made if it is not there; returns how many.
///
/// # Errors
/// Something is in the way of a file (kind usage; nothing was written, and all that is in the way is named), or the
/// file system refuses (kind host).
pub fn write(starter: Starter, folder: &Path) -> Result<usize> {
    let files = starter.files();
    let missing = missing(files, folder)?;
    let (last, first): (Vec<&File>, Vec<&File>) = missing.iter().partition(|file| file.path == CONFIG);
    for file in &first {
        write_file(file, folder)?;
    }
    sync(&first, folder)?;
    for file in &last {
        write_file(file, folder)?;
    }
    sync(&last, folder)?;
    Ok(files.len())
}

/// The files that have to be written; whatever else is in their places is reported.
fn missing<'f>(files: &'f [File], folder: &Path) -> Result<Vec<&'f File>> {
    let is_project = fs::symlink_metadata(folder.join(CONFIG)).is_ok();
    let (mut missing, mut taken) = (Vec::new(), BTreeSet::new());
    if fs::metadata(folder).is_ok_and(|found| !found.is_dir()) {
        let error = Error::usage(format!("{} is not a folder", folder.display()));
        return Err(error.hint("name a folder that is empty or not there yet"));
    }
    for file in files {
        let path = folder.join(file.path);
        match obstacle(folder, file.path) {
            Some(obstacle) if obstacle != path || is_project || !is_same(&path, file) => drop(taken.insert(obstacle)),
            Some(_) => {}
            None => missing.push(file),
        }
    }
    if taken.is_empty() {
        return Ok(missing);
    }
    let count = taken.len();
    let problems = taken.into_iter().enumerate().map(|(at, path)| {
        let problem = Problem::new(format!("{} is there already", path.display()));
        // Once, behind the last one.
        if at + 1 == count {
            problem.hint("nothing was written; name a folder that is empty or not there yet")
        } else {
            problem
        }
    });
    Err(Error::problems(Kind::Usage, problems.collect()))
}

/// What is in the way of a file: something in its place, or something that is no folder above it.
fn obstacle(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut place = folder.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for (at, part) in parts.iter().enumerate() {
        place.push(part);
        let Ok(found) = fs::symlink_metadata(&place) else { return None };
        // A link to a folder is as good as a folder.
        let is_folder = if found.is_symlink() { place.is_dir() } else { found.is_dir() };
        if !is_folder || at + 1 == parts.len() {
            return Some(place);
        }
    }
    None
}

/// Whether `path` is as it would be written.
fn is_same(path: &Path, file: &File) -> bool {
    let executable = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|found| found.permissions().mode() & 0o100 != 0);
    executable == Some(file.is_executable) && fs::read(path).is_ok_and(|content| content == file.content)
}

fn write_file(file: &File, folder: &Path) -> Result<()> {
    let path = folder.join(file.path);
    put(file, &path).context(Kind::Host, || format!("cannot write {}", path.display()))
}

fn put(file: &File, path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    // What the umask takes away is taken away.
    let mode = if file.is_executable { 0o777 } else { 0o666 };
    let mut beside = tempfile::Builder::new()
        .prefix(".visabuild-init-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)?;
    beside.write_all(file.content)?;
    beside.as_file().sync_all()?;
    beside.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

/// Synchronises the folders that hold these files, and the one that holds the project.
fn sync(files: &[&File], folder: &Path) -> Result<()> {
    let mut folders = BTreeSet::new();
    for file in files {
        let inside = Path::new(file.path).ancestors().skip(1);
        folders.extend(inside.map(|inside| folder.join(inside)));
    }
    folders.extend(folder.parent().filter(|_| !files.is_empty()).map(Path::to_owned));
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let synced = fs::File::open(&folder).and_then(|open| open.sync_all());
        synced.context(Kind::Host, || format!("cannot write {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_off_run_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let files = Starter::Minimal.files();
        let first = files.iter().find(|file| file.path != CONFIG).unwrap();
        write_file(first, folder.path()).unwrap();
        assert_eq!(write(Starter::Minimal, folder.path()).unwrap(), files.len());
        for file in files {
            assert!(is_same(&folder.path().join(file.path), file), "{}", file.path);
        }
        // Now it is a project, of which nothing is taken for a remnant.
        assert_eq!(write(Starter::Minimal, folder.path()).unwrap_err().problem_list().len(), files.len());
    }

    #[test]
    fn what_came_into_being_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = &Starter::Minimal.files()[0];
        fs::write(folder.path().join(file.path), "mine").unwrap();
        let error = write_file(file, folder.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(fs::read_to_string(folder.path().join(file.path)).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
