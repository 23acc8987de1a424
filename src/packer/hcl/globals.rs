//! What every expression of a project sees: variables, locals, paths.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hcl_edit::expr::Expression;

use super::evaluate::{Evaluator, Result};
use super::source::Source;
use crate::error::{Location, Problem};
use crate::packer::budget::Budget;
use crate::packer::go_template::Times;
use crate::packer::value::{Part, Value};
use crate::template::nearest::suggestion;

/// A local, where it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local<'a> {
    pub(super) source: &'a Source,
    pub(super) expression: &'a Expression,
    /// Its value may not be written.
    pub(super) sensitive: bool,
}

/// What every expression sees.
#[derive(Debug)]
pub(super) struct Globals<'a> {
    pub(super) budget: &'a Budget,
    pub(super) times: &'a Times,
    pub(super) folder: &'a Path,
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Variables by Packer's names.
    pub(super) variables: BTreeMap<String, Value>,
    /// Names that templates of visabuild have for secrets.
    pub(super) sensitive: BTreeSet<String>,
    /// Packer's names of secret variables.
    pub(super) secrets: BTreeSet<String>,
    /// Whether these are the values of variables, which may ask the environment.
    pub(super) may_ask: bool,
    /// Names of variables of the environment that are not set.
    pub(super) unset: BTreeSet<String>,
    pub(super) locals: BTreeMap<String, Local<'a>>,
    /// Locals with their values, and the variables that these are made of.
    pub(super) known: RefCell<BTreeMap<String, (Value, BTreeSet<String>)>>,
    /// Locals that are being evaluated.
    pub(super) open: RefCell<Vec<String>>,
    /// Name and type of the source, in a build.
    pub(super) source: RefCell<Option<(String, String)>>,
}

impl Globals<'_> {
    /// The value of `root.name`.
    pub(super) fn get(&self, root: &str, name: &str, place: Location, from: &Evaluator<'_>) -> Result<Value> {
        match (root, name) {
            ("var", _) => {
                let found = self.variables.get(name).cloned();
                let found = found.ok_or_else(|| {
                    let known = self.variables.keys().map(String::as_str);
                    unknown(place.clone(), format!("undefined variable `var.{name}`"), name, known)
                })?;
                if matches!(found, Value::List(_) | Value::Map(_)) && self.secrets.contains(name) {
                    return Err(secret(name, place));
                }
                if matches!(found, Value::List(_) | Value::Map(_) | Value::Null) {
                    from.fixed.borrow_mut().insert(name.to_owned());
                }
                Ok(found)
            }
            ("local", _) => self.local(name, place, from),
            ("path", "root") => Ok(Value::from(".")),
            ("path", "cwd") => Ok(Value::from(self.folder.to_string_lossy().into_owned())),
            ("packer", "version") => Ok(Value::from("1.9.0")),
            ("source" | "build", "name" | "type") if self.source.borrow().is_some() => {
                let source = self.source.borrow().clone().unwrap_or_default();
                Ok(Value::from(if name == "name" { source.0 } else { source.1 }))
            }
            ("build", _) => Err(Problem::at(place, format!("`build.{name}` is known while Packer builds"))
                .hint("scripts have PACKER_BUILD_NAME and PACKER_BUILDER_TYPE")),
            ("data", _) => Err(Problem::at(place, "data sources ask services, which an import does not")
                .hint("write the value down, or make it a variable")),
            _ => Err(Problem::at(place, format!("undefined variable `{root}.{name}`"))
                .hint("there are `var`, `local`, `path` and `source`")),
        }
    }

    /// Whether a value is that of a secret variable, which templates name instead of having it.
    fn is_secret(&self, value: &Value) -> bool {
        match value {
            Value::Named { name, .. } => self.sensitive.contains(name),
            Value::Text(text) => matches!(&text.0[..], [Part::Named { name, .. }] if self.sensitive.contains(name)),
            Value::Null => true,
            _ => false,
        }
    }

    fn local(&self, name: &str, place: Location, from: &Evaluator<'_>) -> Result<Value> {
        if let Some((value, fixed)) = self.known.borrow().get(name) {
            from.fixed.borrow_mut().extend(fixed.iter().cloned());
            return Ok(value.clone());
        }
        let Some(local) = self.locals.get(name) else {
            let known = self.locals.keys().map(String::as_str);
            return Err(unknown(place, format!("undefined variable `local.{name}`"), name, known));
        };
        if self.open.borrow().iter().any(|open| open == name) {
            return Err(Problem::at(place, format!("`local.{name}` is made of itself")));
        }
        self.open.borrow_mut().push(name.to_owned());
        let evaluator = Evaluator::new(local.source, self);
        let value = evaluator.value(local.expression);
        self.open.borrow_mut().pop();
        let value = value?;
        if local.sensitive && !self.is_secret(&value) {
            return Err(secret(&format!("local.{name}"), place)
                .hint("make it a variable that is `sensitive`, which the process environment gives"));
        }
        let fixed = evaluator.fixed.take();
        from.fixed.borrow_mut().extend(fixed.iter().cloned());
        self.known.borrow_mut().insert(name.to_owned(), (value.clone(), fixed));
        Ok(value)
    }
}

/// What is said where a secret's value would be part of what is written.
pub(super) fn secret(name: &str, place: Location) -> Problem {
    Problem::at(place, format!("the secret `{name}` would be part of what is written"))
        .hint("compute it where it is used, in a script of the guest")
}

fn unknown<'n>(place: Location, message: String, name: &str, known: impl Iterator<Item = &'n str>) -> Problem {
    let problem = Problem::at(place, message);
    match suggestion(name, known.collect::<Vec<_>>()) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
