//! Files of the Packer project that the templates need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::document::Findings;
use super::value::{Part, Text, Value};
use super::yaml_text::escaped;
use crate::error::{Location, Problem};
use crate::template::paths::clean;

/// Most files that are copied.
const MOST: usize = 10_000;
/// Longest text that visabuild renders when it serves it, bytes.
const LONGEST_TEXT: u64 = 1 << 20;
/// Names in a project that have a meaning of their own.
const TAKEN: [&str; 4] = ["config.yml", "templates", "packages", "builds"];

/// What a file of the project is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Copy(PathBuf),
}

/// The files of the new project.
#[derive(Debug)]
pub(super) struct Files {
    /// The Packer project's folder, absolute.
    folder: PathBuf,
    /// Several templates share their files.
    shared: bool,
    /// By path in the new project.
    pub(super) files: BTreeMap<PathBuf, Content>,
}

/// How visabuild takes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// As it is; looked for in the template's folder and the project's.
    Step,
    /// It may not be there yet.
    Generated,
    /// Patterns in the template's folder.
    Volume,
    /// A folder whose texts are rendered.
    Web,
}

impl Files {
    pub(super) fn new(folder: &Path, builds: usize) -> Self {
        Self { folder: folder.to_owned(), shared: builds > 1, files: BTreeMap::new() }
    }

    /// The Packer project's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path of the host that is not copied: absolute.
    pub(super) fn referred(&self, value: &Value) -> Value {
        let Some(plain) = value.to_plain() else { return value.clone() };
        let (list, path) = match plain.strip_prefix("file:") {
            Some(path) if !path.starts_with("//") => ("file:", path),
            _ => ("", plain.as_str()),
        };
        if path.contains("://") || path.starts_with(['/', '~']) || path.is_empty() {
            return value.clone();
        }
        Value::from(format!("{list}{}", clean(&self.folder.join(path))))
    }

    /// Takes the file or the folder that `value` names into the project of `template`, and returns its path there.
    pub(super) fn take(
        &mut self,
        template: &str,
        value: &Value,
        (how, place): (Use, &Location),
        findings: &mut Findings,
    ) -> Value {
        let Some(text) = value.to_text() else {
            findings.fault(Problem::at(place.clone(), format!("expected a path, found {}", value.kind())));
            return value.clone();
        };
        let text = self.relative(text);
        let plain = text.plain();
        let slash = if plain.ends_with('/') { "/" } else { "" };
        let path = self.folder.join(&plain);
        let found = self.found(&path, how);
        if found.is_empty() {
            if how != Use::Generated {
                findings.fault(Problem::at(place.clone(), format!("`{plain}` does not exist")));
            }
            return Value::Text(text);
        }
        let name = PathBuf::from(clean(Path::new(&plain)));
        if name.is_absolute() && how != Use::Volume {
            // Neither the project's nor beside it: it stays where it is.
            return Value::Text(text);
        }
        let own = self.inside(&name);
        for path in found {
            let whole = PathBuf::from(clean(&path));
            // Patterns name several files.
            let target = if how == Use::Volume {
                let inside = whole.strip_prefix(&self.folder).unwrap_or(&whole).to_owned();
                self.inside(&inside)
            } else {
                own.clone()
            };
            self.copy(template, &whole, &target, (how, place), findings);
        }
        // Where the path is the same, the variables in it may stay.
        if own == name && clean(Path::new(&plain)) == plain.trim_end_matches('/') {
            Value::Text(text)
        } else {
            Value::from(format!("{}{slash}", own.display()))
        }
    }

    /// The path without the project's folder in front of it.
    fn relative(&self, mut text: Text) -> Text {
        let folder = format!("{}/", self.folder.display());
        let alone = text.0.len() == 1;
        if let Some(Part::Literal(first)) = text.0.first_mut() {
            if let Some(rest) = first.strip_prefix(&folder) {
                *first = rest.to_owned();
            }
            while let Some(rest) = first.strip_prefix("./") {
                *first = rest.to_owned();
            }
            if alone && *first == self.folder.to_string_lossy() {
                *first = ".".to_owned();
            }
        }
        text
    }

    fn found(&self, path: &Path, how: Use) -> Vec<PathBuf> {
        if path.exists() {
            return vec![path.to_owned()];
        }
        if how != Use::Volume {
            return Vec::new();
        }
        let pattern = path.to_string_lossy().into_owned();
        glob::glob(&pattern).into_iter().flatten().flatten().take(MOST).collect()
    }

    /// Where in the new project a path goes.
    fn inside(&self, path: &Path) -> PathBuf {
        let normal = path.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
        let inside: PathBuf = normal.collect();
        if inside.as_os_str().is_empty() { PathBuf::from("files") } else { inside }
    }

    fn copy(
        &mut self,
        template: &str,
        from: &Path,
        to: &Path,
        (how, place): (Use, &Location),
        findings: &mut Findings,
    ) {
        let taken = TAKEN.iter().any(|name| to.starts_with(name));
        let base = if self.shared && how != Use::Volume && !taken {
            PathBuf::new()
        } else {
            Path::new("templates").join(template)
        };
        for entry in WalkDir::new(from).follow_links(true).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) if entry.file_type().is_file() => entry,
                Ok(_) => continue,
                Err(error) => {
                    findings.fault(Problem::at(place.clone(), error.to_string()));
                    continue;
                }
            };
            let inside = entry.path().strip_prefix(from).unwrap_or(Path::new(""));
            let target = if inside.as_os_str().is_empty() { base.join(to) } else { base.join(to).join(inside) };
            let content = match (how, served(entry.path())) {
                (Use::Web, Some(text)) => Content::Text(text),
                _ => Content::Copy(entry.path().to_owned()),
            };
            if self.files.len() >= MOST {
                findings.fault(Problem::at(place.clone(), format!("more than {MOST} files would be copied")));
                return;
            }
            if self.files.get(&target).is_some_and(|other| *other != content) {
                let message = format!("two files would be {}", target.display());
                findings.fault(Problem::at(place.clone(), message));
            }
            self.files.insert(target, content);
        }
    }
}

/// The text of a file in which something would be taken for a template, so that nothing is.
fn served(path: &Path) -> Option<String> {
    let is_short = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= LONGEST_TEXT);
    let text = is_short.then(|| std::fs::read_to_string(path).ok()).flatten()?;
    let same = escaped(&text);
    (same != text).then_some(same)
}
