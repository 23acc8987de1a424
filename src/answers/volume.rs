//! The files of a CD or a floppy: Packer's `cd_files`, `cd_content`, `floppy_files` and their kin.
//!
//! NoCloud takes `user-data` and `meta-data` from a volume labelled `CIDATA` in any case, vfat or ISO 9660 (cloud-init's
//! documentation of the data source); Anaconda takes `ks.cfg` from one labelled `OEMDRV`; Windows Setup takes
//! `autounattend.xml` from any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::Content;
use crate::error::{Error, Kind, Problem, Result};

/// Files and their paths on a volume, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeFiles {
    entries: BTreeMap<String, Content>,
}

impl VolumeFiles {
    /// Collects what `patterns` name, relative to `folder`, and `content` by its path on the volume, as Packer does: a
    /// file goes to the volume's root; a folder goes there with all that is in it, or, named with a slash at its end,
    /// only what is in it; patterns are those of glob(7); links are followed; content wins over files.
    ///
    /// # Errors
    /// All problems together (kind usage): a pattern matches nothing, two files have one name, a path is not one.
    pub fn collect<S: AsRef<str>>(patterns: &[S], content: &BTreeMap<String, String>, folder: &Path) -> Result<Self> {
        let mut collected = Collection::default();
        for pattern in patterns {
            collected.add_pattern(pattern.as_ref(), folder);
        }
        for (path, text) in content {
            collected.add_content(path, Content::Bytes(text.clone().into_bytes()));
        }
        collected.finish()
    }

    /// Files by their paths.
    ///
    /// # Errors
    /// A path is not one, or would be a file and a folder (kind usage).
    pub fn new(files: BTreeMap<String, Content>) -> Result<Self> {
        let mut collected = Collection::default();
        for (path, content) in files {
            collected.add_content(&path, content);
        }
        collected.finish()
    }

    /// Paths and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.entries.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Default)]
struct Collection {
    entries: BTreeMap<String, Content>,
    problems: Vec<Problem>,
}

impl Collection {
    fn add_pattern(&mut self, pattern: &str, folder: &Path) {
        let literal = folder.join(pattern);
        let found = if literal.exists() { Ok(vec![literal]) } else { matches(pattern, folder) };
        match found {
            Ok(paths) if paths.is_empty() => {
                let text = format!("`{pattern}` matches no file below {}", folder.display());
                self.problems.push(Problem::new(text));
            }
            Ok(paths) => paths.iter().for_each(|path| self.add(path, pattern.ends_with('/'))),
            Err(cause) => self.problems.push(Problem::new(format!("`{pattern}`: {cause}"))),
        }
    }

    /// Adds content, over what is there.
    fn add_content(&mut self, path: &str, content: Content) {
        match on_volume(path) {
            Some(name) => drop(self.entries.insert(name, content)),
            None => self.problems.push(Problem::new(format!("`{path}` is not the path of a file on a volume"))),
        }
    }

    fn add(&mut self, path: &Path, only_content: bool) {
        let root = if only_content { Some(path) } else { path.parent() };
        for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let inside = root.and_then(|root| entry.path().strip_prefix(root).ok()).unwrap_or(entry.path());
                    self.insert(&inside.to_string_lossy(), entry.path().to_owned());
                }
                Ok(_) => {}
                Err(error) => self.problems.push(Problem::new(error.to_string())),
            }
        }
    }

    fn insert(&mut self, name: &str, path: PathBuf) {
        let new = Content::File(path);
        match self.entries.get(name) {
            Some(Content::File(old)) if Content::File(old.clone()) != new => {
                let text = format!("two files would be `{name}` on the volume, one of them {}", old.display());
                self.problems.push(Problem::new(text));
            }
            _ => drop(self.entries.insert(name.to_owned(), new)),
        }
    }

    fn finish(mut self) -> Result<VolumeFiles> {
        let names: Vec<&String> = self.entries.keys().collect();
        let inside = names.iter().find(|name| names.iter().any(|other| other.starts_with(&format!("{name}/"))));
        if let Some(name) = inside {
            self.problems.push(Problem::new(format!("`{name}` would be a file and a folder of the volume")));
        }
        if self.problems.is_empty() {
            Ok(VolumeFiles { entries: self.entries })
        } else {
            Err(Error::problems(Kind::Usage, self.problems))
        }
    }
}

/// What a pattern matches, sorted.
fn matches(pattern: &str, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    let whole = Path::new(&folder).join(pattern.trim_end_matches('/'));
    let paths = glob::glob(&whole.to_string_lossy()).map_err(|error| error.to_string())?;
    paths.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
}

/// `path` without slashes at its beginning, if it names a file on a volume.
fn on_volume(path: &str) -> Option<String> {
    let name = path.trim_start_matches('/');
    let good = !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    good.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("drivers/net")).unwrap();
        for name in ["user-data", "meta-data", "drivers/a.inf", "drivers/net/b.inf", "odd[1].txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        symlink("../user-data", folder.path().join("drivers/link")).unwrap();
        folder
    }

    fn collect(patterns: &[&str], folder: &Path) -> Vec<String> {
        let files = VolumeFiles::collect(patterns, &BTreeMap::new(), folder).unwrap();
        files.iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn files_folders_and_patterns_go_where_packer_puts_them() {
        let folder = folder();
        let collect = |patterns: &[&str]| collect(patterns, folder.path());
        assert_eq!(collect(&["./user-data", "drivers/a.inf"]), ["a.inf", "user-data"]);
        assert_eq!(collect(&["*-data"]), ["meta-data", "user-data"]);
        assert_eq!(collect(&["drivers"]), ["drivers/a.inf", "drivers/link", "drivers/net/b.inf"]);
        assert_eq!(collect(&["drivers/"]), ["a.inf", "link", "net/b.inf"]);
        assert_eq!(collect(&["drivers/*"]), ["a.inf", "link", "net/b.inf"]);
        assert_eq!(collect(&["odd[1].txt"]), ["odd[1].txt"]);
    }

    #[test]
    fn content_wins_over_files() {
        let folder = folder();
        let content = BTreeMap::from([("user-data".to_owned(), "new".to_owned()), ("/a/b".to_owned(), "x".to_owned())]);
        let files = VolumeFiles::collect(&["user-data"], &content, folder.path()).unwrap();
        let found: Vec<_> = files.iter().collect();
        assert_eq!(found, [("a/b", &Content::Bytes(b"x".to_vec())), ("user-data", &Content::Bytes(b"new".to_vec()))]);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let folder = folder();
        fs::write(folder.path().join("a.inf"), "other").unwrap();
        let content = BTreeMap::from([("../x".to_owned(), String::new())]);
        let error = VolumeFiles::collect(
            &["none*", "a.inf", "drivers/", "[", "user-data", "user-data"],
            &content,
            folder.path(),
        )
        .unwrap_err();
        let problems: Vec<&str> = error.problem_list().iter().map(|problem| problem.message.as_str()).collect();
        assert!(problems[0].starts_with("`none*` matches no file below "), "{problems:?}");
        assert!(problems[1].starts_with("two files would be `a.inf`"), "{problems:?}");
        assert!(problems[2].starts_with("`[`: "), "{problems:?}");
        assert_eq!(problems[3], "`../x` is not the path of a file on a volume");
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn a_file_cannot_be_a_folder_too() {
        let content = BTreeMap::from([("a".to_owned(), String::new()), ("a/b".to_owned(), String::new())]);
        assert!(VolumeFiles::collect::<&str>(&[], &content, Path::new("/")).is_err());
    }
}
