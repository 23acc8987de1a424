//! Paths that manifests name, looked up where packme looks them up.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::fields::Reader;
use super::yaml::Node;
use super::{HostPath, Text};
use crate::error::Problem;

/// Where relative paths are looked for.
#[derive(Debug, Clone)]
pub(super) struct Search {
    root: PathBuf,
    /// The folder of the template or the package whose manifest it is, relative to the project.
    base: PathBuf,
    /// Folders relative to the project, the first wins.
    folders: Vec<PathBuf>,
    /// The first of them.
    own: PathBuf,
}

/// What a path has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A file.
    File,
    /// A file or a folder.
    Any,
    /// Anything, and it may appear later (`generated: true`).
    Generated,
}

impl Search {
    /// Paths of a template's own manifest: the template's folder, then the project's.
    pub(super) fn template(root: &Path, template: &str) -> Self {
        let template = Path::new("templates").join(template);
        Self::new(root, template.clone(), vec![template, PathBuf::new()])
    }

    /// Paths of a package that `template` uses: the package's folder for the template, the package's, the project's.
    pub(super) fn package(root: &Path, package: &str, template: &str) -> Self {
        let package = Path::new("packages").join(package);
        Self::new(root, package.clone(), vec![package.join(template), package, PathBuf::new()])
    }

    fn new(root: &Path, base: PathBuf, folders: Vec<PathBuf>) -> Self {
        let own = folders.first().map_or_else(|| root.to_owned(), |first| root.join(first));
        Self { root: root.to_owned(), base, folders, own }
    }

    /// The folder of the template or the package whose manifest it is.
    pub(super) fn base(&self) -> PathBuf {
        self.root.join(&self.base)
    }

    /// The folder that is looked into first.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// A path that was found otherwise.
    pub(super) fn host_path(&self, path: &Path) -> HostPath {
        let shown = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        HostPath { path: path.to_owned(), shown, contents_only: false, secrets: BTreeSet::new() }
    }

    /// Finds the path that `node` says; reports what is not there or not as wanted.
    pub(super) fn find(&self, reader: &mut Reader<'_>, node: &Node, want: Want) -> Option<HostPath> {
        let text = reader.text(node)?;
        if text.plain().is_empty() {
            reader.at(node.location(), "the path is empty");
            return None;
        }
        let contents_only = text.plain().ends_with('/');
        let secrets = text.secrets().clone();
        let host = |path: PathBuf, shown: String| HostPath { path, shown, contents_only, secrets: secrets.clone() };
        // Without the value there is nothing to look for.
        if reader.context.has_missing(&secrets) {
            return Some(host(PathBuf::from(text.plain()), text.masked().to_owned()));
        }
        let Some((path, shown)) = self.look(&text, want) else {
            reader.problems.add(self.not_found(node, &text));
            return None;
        };
        if want != Want::Generated {
            self.check(reader, node, &path, &shown, contents_only, want)?;
        }
        Some(host(path, shown))
    }

    /// The path used and the path shown, if there is such a file.
    fn look(&self, text: &Text, want: Want) -> Option<(PathBuf, String)> {
        self.candidates(text)
            .find(|(path, _)| metadata(path).is_some())
            .or_else(|| self.candidates(text).next().filter(|_| want == Want::Generated))
    }

    /// Places to look, best first. A path made of a secret was given on the command line or in the
    /// environment, so it is relative to the working directory.
    fn candidates<'s>(&'s self, text: &'s Text) -> impl Iterator<Item = (PathBuf, String)> + 's {
        let path = Path::new(text.plain());
        let as_given = path.is_absolute() || !text.secrets().is_empty();
        let folders: &[PathBuf] = if as_given { &[] } else { &self.folders };
        let given = as_given.then(|| (path.to_owned(), self.shown(path, text)));
        given.into_iter().chain(
            folders.iter().map(move |folder| (self.root.join(folder).join(path), clean(&folder.join(text.masked())))),
        )
    }

    /// An absolute path as it is shown: relative to the project where it is inside.
    fn shown(&self, path: &Path, text: &Text) -> String {
        let inside = path.strip_prefix(&self.root).ok().filter(|_| self.root.is_absolute());
        match inside {
            Some(inside) if text.plain() == text.masked() => clean(inside),
            _ => text.masked().to_owned(),
        }
    }

    fn not_found(&self, node: &Node, text: &Text) -> Problem {
        let problem = Problem::at(node.location(), format!("`{}` does not exist", text.masked()));
        let mut seen = BTreeSet::new();
        let places: Vec<_> = self
            .candidates(text)
            .map(|(_, shown)| shown)
            .filter(|shown| seen.insert(shown.clone()))
            .map(|shown| format!("`{shown}`"))
            .collect();
        match &places[..] {
            [] | [_] => problem,
            _ => problem.hint(format!("looked for {}", places.join(", "))),
        }
    }

    fn check(
        &self,
        reader: &mut Reader<'_>,
        node: &Node,
        path: &Path,
        shown: &str,
        contents_only: bool,
        want: Want,
    ) -> Option<()> {
        let metadata = metadata(path)?;
        if metadata.is_dir() && want == Want::File {
            reader.at(node.location(), format!("`{shown}` is a folder, not a file"));
            return None;
        }
        if !metadata.is_dir() && contents_only {
            reader.at(node.location(), format!("`{shown}` ends in a slash but is not a folder"));
            return None;
        }
        Some(())
    }
}

/// A file, followed through links. A trailing slash does not turn a file into nothing.
fn metadata(path: &Path) -> Option<Metadata> {
    let text = path.as_os_str().to_str()?;
    let path = Path::new(text.trim_end_matches('/'));
    std::fs::metadata(if path.as_os_str().is_empty() { Path::new("/") } else { path }).ok()
}

/// The path without `.` and, where they cancel out, `..`, as it is shown.
pub(crate) fn clean(path: &Path) -> String {
    let clean = cleaned(path);
    if clean.as_os_str().is_empty() { ".".to_owned() } else { clean.display().to_string() }
}

/// The absolute path of what may not be there yet: without links as far as there is something.
///
/// # Errors
/// The path is empty, or the working folder is not known.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let found = path.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    let Some((folder, canonical)) = found else { return Ok(cleaned(&path)) };
    Ok(cleaned(&canonical.join(path.strip_prefix(folder).unwrap_or(Path::new("")))))
}

/// The path without `.` and, where they cancel out, `..`.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_paths_are_clean() {
        for (path, expected) in [
            ("templates/a/../../scripts/./x.sh", "scripts/x.sh"),
            ("./files/", "files"),
            ("../x", "../x"),
            (".", "."),
            ("/a/../b", "/b"),
        ] {
            assert_eq!(clean(Path::new(path)), expected);
        }
    }

    #[test]
    fn what_is_not_there_yet_has_one_path_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        for path in ["real/new/file", "link/new/file", "real/../link/new/./file", "real/gone/../new/file"] {
            assert_eq!(resolved(&root.join(path)).unwrap(), root.join("real/new/file"), "{path}");
        }
    }

    #[test]
    fn a_trailing_slash_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "").unwrap();
        assert!(metadata(&folder.path().join("f/")).unwrap().is_file());
        assert!(metadata(&folder.path().join("g")).is_none());
        assert!(metadata(Path::new("/")).unwrap().is_dir());
        assert!(metadata(Path::new("a\0b")).is_none());
    }
}
