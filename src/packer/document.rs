//! What both of Packer's languages say, in one form.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::go_template::Time;
use super::value::Value;
use crate::error::{Location, Problem};
use crate::template::problems::Problems;

/// A Packer project.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Folder that relative paths are relative to.
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<Variable>,
    pub(super) builds: Vec<Build>,
    /// Variables that stand for the time of a build.
    pub(super) times: BTreeMap<String, Time>,
}

/// An input variable.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    /// Packer's name of it.
    pub(super) name: String,
    pub(super) place: Location,
    pub(super) value: Option<Value>,
    pub(super) description: Vec<String>,
    pub(super) sensitive: bool,
    /// It is the variable of the environment with this name.
    pub(super) environment: Option<String>,
}

/// One image.
#[derive(Debug)]
pub(super) struct Build {
    /// Packer's name of it, such as `debian`.
    pub(super) name: String,
    /// As HCL has it: `qemu.debian`; the same as the name in JSON.
    pub(super) full_name: String,
    pub(super) description: Option<Value>,
    pub(super) source: Block,
    /// In their order, and the `error-cleanup-provisioner` among them.
    pub(super) provisioners: Vec<Block>,
    /// In chains.
    pub(super) post_processors: Vec<Vec<Block>>,
}

/// A builder, provisioner or post-processor.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// `builder`, `provisioner`, `post-processor`.
    pub(super) role: &'static str,
    /// `qemu`, `shell`.
    pub(super) kind: String,
    pub(super) place: Location,
    pub(super) fields: Vec<Field>,
    /// What the author wrote above it.
    pub(super) comments: Vec<String>,
}

/// One option.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) place: Location,
    pub(super) value: Value,
    /// What the author wrote above it, and how the value came to be.
    pub(super) comments: Vec<String>,
}

impl Block {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn take(&mut self, name: &str) -> Option<Field> {
        let at = self.fields.iter().position(|field| field.name == name)?;
        Some(self.fields.remove(at))
    }

    /// The block as it is for one build: `only`, `except` and `override` are carried out. None if it is not for it.
    ///
    /// `only` and `except` have the build's `full_name` (`qemu.debian` in HCL), `override` its `name` alone.
    pub(super) fn for_build(mut self, name: &str, full_name: &str, findings: &mut Findings) -> Option<Self> {
        let (only, except) = (self.names("only", findings), self.names("except", findings));
        let is_this = |name: &String| name == full_name;
        if (!only.is_empty() && !only.iter().any(is_this)) || except.iter().any(is_this) {
            return None;
        }
        let Some(Field { value, place, .. }) = self.take("override") else { return Some(self) };
        let options = match value {
            Value::Map(mut builds) => builds.swap_remove(name).unwrap_or(Value::Null),
            other => other,
        };
        match options {
            Value::Map(options) => {
                for (name, value) in options {
                    self.take(&name);
                    self.fields.push(Field { name, place: place.clone(), value, comments: Vec::new() });
                }
            }
            Value::Null => {}
            other => {
                let message = format!("`override`: expected a mapping, found {}", other.kind());
                findings.fault(Problem::at(place, message));
            }
        }
        Some(self)
    }

    /// The names of builds in an option, which is taken away.
    fn names(&mut self, option: &str, findings: &mut Findings) -> Vec<String> {
        let Some(Field { value, place, .. }) = self.take(option) else { return Vec::new() };
        let mut wrong = |wanted: &str, found: &Value| {
            let message = format!("`{option}`: expected {wanted}, found {}", found.kind());
            findings.fault(Problem::at(place.clone(), message));
        };
        let mut names = Vec::new();
        match value.plain() {
            Value::List(items) => {
                for item in &items {
                    match item.to_plain() {
                        Some(name) => names.push(name),
                        None => wrong("a string", item),
                    }
                }
            }
            Value::Null => {}
            other => wrong("a list", &other),
        }
        names
    }
}

/// What stands in the way of an import.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Faults of the Packer project.
    pub(super) faults: Problems,
    /// What visabuild has no counterpart of.
    pub(super) unsupported: Vec<Problem>,
    /// What of it is known, as it is told.
    told: BTreeSet<String>,
}

impl Findings {
    pub(super) fn fault(&mut self, problem: Problem) {
        self.faults.add(problem);
    }

    /// Notes what cannot be imported, and returns the comment that stands for it.
    pub(super) fn unsupported(&mut self, place: &Location, what: impl Into<String>, instead: &str) -> String {
        let problem = Problem::at(place.clone(), what);
        let comment = format!("Not imported ({}:{}): {}", file_name(place), place.line, problem.message);
        let comment = if instead.is_empty() { comment } else { format!("{comment}. Instead: {instead}") };
        let problem = if instead.is_empty() { problem } else { problem.hint(instead) };
        if self.told.insert(problem.to_string()) {
            self.unsupported.push(problem);
        }
        comment
    }
}

/// The last part of a place's file.
pub(super) fn file_name(place: &Location) -> String {
    place.file.file_name().unwrap_or(place.file.as_os_str()).to_string_lossy().into_owned()
}
