//! `alternatives`: several ways to the same thing, of which one is named or preflight picks one.

use super::fields::{Fields, Reader, entries};
use super::keys::project::CHOICE;
use super::nearest::suggestion;
use super::scalar::{self, is_identifier};
use super::yaml::{Entry, Node};
use super::{ChosenAlternative, Text};
use crate::error::{Location, Problem};

/// The value of a variable whose alternative preflight chooses.
pub const AUTO: &str = "auto";

/// The alternatives of one variable.
#[derive(Debug, Clone)]
pub struct Alternatives {
    /// The variable, such as `guacd_method`.
    pub variable: String,
    /// The template that declares them.
    pub template: String,
    /// In the order of preference.
    pub choices: Vec<Choice>,
    /// The choice that was named; none leaves it to preflight.
    pub named: Option<String>,
    /// Where they are declared.
    pub location: Location,
}

/// One way.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The value of the variable that selects it.
    pub value: String,
    /// The first of these that is reachable serves; without any, nothing has to be.
    pub urls: Vec<Text>,
    /// A suite that the mirror must have.
    pub suite: Option<String>,
    /// What the user should know about it.
    pub warning: Option<String>,
    /// The content is past its end of life.
    pub end_of_life: bool,
}

impl Choice {
    /// This choice as it is recorded, chosen by being `named` or `reachable`.
    pub fn chosen(&self, how: &str) -> ChosenAlternative {
        ChosenAlternative {
            value: self.value.clone(),
            how: how.to_owned(),
            warning: self.warning.clone(),
            end_of_life: self.end_of_life,
        }
    }
}

impl Alternatives {
    /// The choice with this value.
    pub fn choice(&self, value: &str) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.value == value)
    }
}

/// Reads `alternatives` of the reader's template.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Alternatives> {
    let entries = entries(node, reader.problems).unwrap_or_default();
    entries.iter().filter_map(|entry| variable(reader, entry)).collect()
}

fn variable(reader: &mut Reader<'_>, entry: &Entry) -> Option<Alternatives> {
    if !is_identifier(&entry.key) {
        reader.at(entry.location(), format!("`{}` cannot be the name of a variable", entry.key));
        return None;
    }
    let choices = entries(&entry.value, reader.problems)?;
    if choices.is_empty() {
        reader.at(entry.location(), format!("`{}` has no alternatives", entry.key));
        return None;
    }
    let choices: Vec<_> = choices.iter().map(|entry| choice(reader, entry)).collect();
    let mut alternatives = Alternatives {
        variable: entry.key.clone(),
        template: reader.context.template.clone(),
        choices: choices.into_iter().collect::<Option<_>>()?,
        named: None,
        location: entry.location(),
    };
    alternatives.named = named(reader, &alternatives)?;
    Some(alternatives)
}

/// The choice that the variable's value names; the outer none means that there is no such choice.
fn named(reader: &mut Reader<'_>, alternatives: &Alternatives) -> Option<Option<String>> {
    let variable = alternatives.variable.as_str();
    let value = match reader.context.public(variable) {
        None | Some("" | AUTO) => return Some(None),
        Some(value) => value.to_owned(),
    };
    if alternatives.choice(&value).is_some() {
        return Some(Some(value));
    }
    let place = reader.context.origin(variable).unwrap_or(&alternatives.location).clone();
    let problem = Problem::at(place, format!("`{variable}` has no alternative `{value}`"));
    let values = alternatives.choices.iter().map(|choice| choice.value.as_str()).chain([AUTO]);
    reader.problems.add(match suggestion(&value, values) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    None
}

fn choice(reader: &mut Reader<'_>, entry: &Entry) -> Option<Choice> {
    let value = entry.key.clone();
    if value == AUTO || value.is_empty() {
        reader.at(entry.location(), format!("an alternative cannot be called `{value}`"));
        return None;
    }
    // `debian:` with nothing after it is a way that needs nothing.
    if entry.value.is_null() {
        return Some(Choice { value, urls: Vec::new(), suite: None, warning: None, end_of_life: false });
    }
    let mut fields = Fields::of(&entry.value, reader.problems)?;
    let (urls, suite) = (fields.get("urls"), fields.get("suite"));
    let (warning, end_of_life) = (fields.get("warning"), fields.get("end_of_life"));
    fields.finish_as(&CHOICE, reader.problems);

    let urls = reader.optional(urls, |reader, node| reader.some(node, Reader::text));
    let suite = reader.optional(suite, |reader, node| reader.parse(node, scalar::word));
    let warning = reader.optional(warning, Reader::public);
    let end_of_life = reader.optional(end_of_life, |reader, node| reader.parse(node, scalar::boolean));
    Some(Choice {
        value,
        urls: urls?.unwrap_or_default(),
        suite: suite?,
        warning: warning?.map(|warning| warning.trim().to_owned()),
        end_of_life: end_of_life?.unwrap_or(false),
    })
}
