//! `environment.yml`: a template's variables.

use super::fields::{Fields, entries, scalar};
use super::keys::project::ENVIRONMENT;
use super::problems::Problems;
use super::scalar::is_identifier;
use super::yaml::{Entry, Node};
use crate::error::{Location, Problem};

/// One variable. Its value is taken as it is written: numbers and booleans keep their spelling
/// (`1.10`, `yes`), nothing is rendered in it, and nothing after the colon is the empty string.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) location: Location,
}

/// Reads the variables of an environment file; faulty ones are reported and left out.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Vec<Variable> {
    let Some(mut fields) = Fields::of(node, problems) else { return Vec::new() };
    let environment = fields.get("environment");
    fields.finish_as(&ENVIRONMENT, problems);
    let entries = environment.and_then(|node| entries(node, problems)).unwrap_or_default();
    entries.iter().filter_map(|entry| variable(entry, problems)).collect()
}

fn variable(entry: &Entry, problems: &mut Problems) -> Option<Variable> {
    if !is_identifier(&entry.key) {
        let problem = Problem::at(entry.location(), format!("`{}` cannot be the name of a variable", entry.key));
        problems.add(problem.hint("use letters, digits and `_`, not beginning with a digit"));
        return None;
    }
    let value = if entry.value.is_null() { "" } else { scalar(&entry.value, problems)? };
    Some(Variable { name: entry.key.clone(), value: value.to_owned(), location: entry.value.location() })
}
