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
    /// What is built, in a build.
    pub(super) building: RefCell<Option<Building>>,
}

/// What is built of a source.
#[derive(Debug, Clone)]
pub(super) struct Building {
    /// Of this use of the source.
    pub(super) name: String,
    /// The source's type.
    pub(super) kind: String,
    /// The source's name where it is declared, which `{{ build_name }}` stands for.
    pub(super) declared: String,
    /// The name of the `build` block; empty if it has none.
    pub(super) block: String,
}

impl Globals<'_> {
    /// The value of `root.name`.
    pub(super) fn get(
        &self,
        root: &str,
        name: &str,
        place: &dyn Fn() -> Location,
        from: &Evaluator<'_>,
    ) -> Result<Value> {
        match (root, name) {
            ("var", _) => {
                let found = self.variables.get(name).cloned();
                let found = found.ok_or_else(|| {
                    let known = self.variables.keys().map(String::as_str);
                    unknown(place(), format!("undefined variable `var.{name}`"), name, known)
                })?;
                if found.is_collection() && self.secrets.contains(name) {
                    return Err(self.budget.limit(secret(name, place())));
                }
                if found.is_collection() || found == Value::Null {
                    from.fixed.borrow_mut().insert(name.to_owned());
                }
                Ok(found)
            }
            ("local", _) => self.local(name, place, from),
            ("path", "root") => Ok(Value::from(".")),
            ("path", "cwd") => Ok(Value::from(self.folder.to_string_lossy().into_owned())),
            ("packer", "version") => Ok(Value::from("1.9.0")),
            ("source" | "build", _) => self.in_build(root, name, place),
            ("data", _) => Err(self.budget.limit(
                Problem::at(place(), "data sources ask services, which an import does not")
                    .hint("write the value down, or make it a variable"),
            )),
            _ => Err(Problem::at(place(), format!("undefined variable `{root}.{name}`"))
                .hint("there are `var`, `local`, `path` and `source`")),
        }
    }

    /// The value of `source.name` or `build.name`.
    fn in_build(&self, root: &str, name: &str, place: &dyn Fn() -> Location) -> Result<Value> {
        let building = self.building.borrow();
        match (building.as_ref(), root, name) {
            (Some(building), "source", "name") => Ok(Value::from(building.name.as_str())),
            (Some(building), "source", "type") => Ok(Value::from(building.kind.as_str())),
            (Some(building), "build", "name") => Ok(Value::from(building.block.as_str())),
            (Some(_), "build", "type") => {
                Err(Problem::at(place(), "there is no `build.type`").hint("write `source.type`"))
            }
            (_, "build", _) => Err(self.budget.limit(
                Problem::at(place(), format!("`build.{name}` is known while Packer builds"))
                    .hint("scripts have PACKER_BUILD_NAME and PACKER_BUILDER_TYPE"),
            )),
            _ => Err(Problem::at(place(), format!("undefined variable `{root}.{name}`"))
                .hint("in a build, there are `source.name` and `source.type`")),
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

    fn local(&self, name: &str, place: &dyn Fn() -> Location, from: &Evaluator<'_>) -> Result<Value> {
        if let Some((value, fixed)) = self.known.borrow().get(name) {
            from.fixed.borrow_mut().extend(fixed.iter().cloned());
            return Ok(value.clone());
        }
        let Some(local) = self.locals.get(name) else {
            let known = self.locals.keys().map(String::as_str);
            return Err(unknown(place(), format!("undefined variable `local.{name}`"), name, known));
        };
        if self.open.borrow().iter().any(|open| open == name) {
            return Err(Problem::at(place(), format!("`local.{name}` is made of itself")));
        }
        self.open.borrow_mut().push(name.to_owned());
        let evaluator = Evaluator::new(local.source, self);
        let value = evaluator.value(local.expression);
        self.open.borrow_mut().pop();
        let value = value?;
        if local.sensitive && !self.is_secret(&value) {
            self.budget.refuse();
            return Err(secret(&format!("local.{name}"), place())
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
