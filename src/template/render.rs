//! Rendering of strings with tera, twice: as they are used and as they may be shown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use secrecy::ExposeSecret;
use tera::{ErrorKind, Tera};

use super::jinja;
use super::nearest::nearest;
use super::problems::Problems;
use super::yaml::Node;
use super::{Text, Value};
use crate::answers::password;
use crate::error::{Location, Problem};

/// tera's name for the whole context; rendering it would show every secret.
const WHOLE_CONTEXT: &str = "__tera_context";
/// Stand for the braces of Packer's own `{{ .Name }}` while tera renders the rest. YAML does not
/// allow these control characters, and like the braces they have two bytes, so places stay right.
const OPEN: char = '\u{91}';
const CLOSE: char = '\u{92}';

/// The variables that one template's strings may use.
#[derive(Debug)]
pub(crate) struct Context {
    /// The template's name, for what is reported about it.
    pub(super) template: String,
    /// The time that `cache: daily` goes by, seconds since 1970.
    pub(super) now: u64,
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, Location>,
    lenient: bool,
    complete: bool,
    plain: tera::Context,
    masked: tera::Context,
}

impl Context {
    /// A context without variables. `complete` is false when an environment file was not readable:
    /// unknown variables are then not reported, they may be in it.
    pub(crate) fn new(template: &str, lenient: bool, complete: bool) -> Self {
        Self {
            template: template.to_owned(),
            now: 0,
            values: BTreeMap::new(),
            origins: BTreeMap::new(),
            lenient,
            complete,
            plain: tera::Context::new(),
            masked: tera::Context::new(),
        }
    }

    /// Sets a variable, over what is there; [`Value::Missing`] leaves a value that is there and makes it secret.
    pub(crate) fn set(&mut self, name: &str, value: Value, origin: Option<Location>) {
        // A value that is only not given where it should be may still come from the environment.
        let value = match (value, self.values.get(name)) {
            (Value::Missing { .. }, Some(Value::Plain(text))) => Value::Secret(text.clone().into()),
            (value, _) => value,
        };
        let secret = format!("‹secret:{name}›");
        let (plain, masked) = match &value {
            Value::Plain(text) => (text.clone(), text.clone()),
            Value::Secret(text) => (text.expose_secret().to_owned(), secret),
            Value::Hashed(_) => (String::new(), secret),
            Value::Host(text) => (text.clone(), format!("‹host:{name}›")),
            Value::Missing { .. } => (secret.clone(), secret),
        };
        self.plain.insert(name.to_owned(), &plain);
        self.masked.insert(name.to_owned(), &masked);
        match origin {
            Some(origin) => self.origins.insert(name.to_owned(), origin),
            None => self.origins.remove(name),
        };
        self.values.insert(name.to_owned(), value);
    }

    /// The value of a variable that is not secret.
    pub(super) fn public(&self, name: &str) -> Option<&str> {
        match self.values.get(name)? {
            Value::Plain(text) | Value::Host(text) => Some(text),
            Value::Secret(_) | Value::Hashed(_) | Value::Missing { .. } => None,
        }
    }

    /// The values to render with, where `secrets` are used: hashing takes its time.
    fn plain(&self, secrets: &BTreeSet<String>) -> Cow<'_, tera::Context> {
        let mut context = Cow::Borrowed(&self.plain);
        for name in secrets {
            if let Some(Value::Hashed(password)) = self.values.get(name) {
                // What cannot be hashed is refused elsewhere; an empty password locks the account.
                let hash = password::hash(password).unwrap_or_else(|_| "!".to_owned());
                context.to_mut().insert(name.clone(), &hash);
            }
        }
        context
    }

    /// Where a variable was set, when that was in a file.
    pub(super) fn origin(&self, name: &str) -> Option<&Location> {
        self.origins.get(name)
    }

    /// Whether one of the named values was not given and has a placeholder.
    pub(super) fn has_missing(&self, names: &BTreeSet<String>) -> bool {
        names.iter().any(|name| matches!(self.values.get(name), Some(Value::Missing { .. })))
    }

    /// Renders `text`, the value of the scalar `node`; none when there was something to report.
    pub(crate) fn render(&self, node: &Node, text: &str, problems: &mut Problems) -> Option<Text> {
        let guarded = protect(text);
        if !["{{", "{%", "{#"].iter().any(|open| guarded.contains(open)) {
            return Some(Text::public(text));
        }
        if let Some(at) = guarded.find(WHOLE_CONTEXT) {
            let place = node.location_of(text, at..at + WHOLE_CONTEXT.len());
            problems.at(place, format!("`{WHOLE_CONTEXT}` cannot be used: it would show every secret"));
            return None;
        }
        let mut tera = Tera::new();
        tera.autoescape_on(Vec::<&'static str>::new());
        jinja::add_filters(&mut tera);
        if let Err(error) = tera.add_raw_template("text", &guarded) {
            problems.add(fault(node, text, &error));
            return None;
        }
        let names = tera.get_template_variables("text").unwrap_or_default();
        let secrets = self.check(node, text, names, problems)?;
        let render = |context| tera.render("text", context).map(|rendered| restore(&rendered));
        match (render(&self.masked), render(&self.plain(&secrets))) {
            (Ok(masked), Ok(plain)) => {
                let differences = jinja::differences(&guarded, &self.masked);
                let good = differences.is_empty();
                for one in differences {
                    problems.add(Problem::at(node.location_of(text, one.range), one.message).hint(one.hint));
                }
                good.then(|| Text::new(masked, plain, secrets))
            }
            (Err(error), _) => {
                problems.add(fault(node, text, &error));
                None
            }
            // tera's message may quote the value, so it is not passed on.
            (Ok(_), Err(_)) => {
                problems.at(node.location(), "cannot be rendered with the values given");
                None
            }
        }
    }

    /// Reports variables that are unknown or not given, and returns the names of the secrets.
    fn check(
        &self,
        node: &Node,
        text: &str,
        names: impl IntoIterator<Item = impl AsRef<str>>,
        problems: &mut Problems,
    ) -> Option<BTreeSet<String>> {
        let mut secrets = BTreeSet::new();
        let mut good = true;
        for name in names {
            let name = name.as_ref();
            match self.values.get(name) {
                Some(Value::Plain(_) | Value::Host(_)) => {}
                Some(Value::Secret(_) | Value::Hashed(_)) => drop(secrets.insert(name.to_owned())),
                Some(Value::Missing { option, variable }) => {
                    if !self.lenient {
                        problems.missing(name, option, variable, &self.template);
                    }
                    secrets.insert(name.to_owned());
                }
                None if is_optional(text, name) => {}
                None => {
                    good = false;
                    if self.complete {
                        problems.add(self.undefined(node, text, name));
                    }
                }
            }
        }
        good.then_some(secrets)
    }

    fn undefined(&self, node: &Node, text: &str, name: &str) -> Problem {
        let place = words(text, name)
            .find(|range| inside_tag(text, range.start))
            .map_or_else(|| node.location(), |range| node.location_of(text, range));
        let problem = Problem::at(place, format!("undefined variable `{name}`"));
        match nearest(name, self.values.keys().map(String::as_str)) {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem.hint(format!("set it in templates/{}/environment.yml", self.template)),
        }
    }
}

/// Whether `text` says what happens without the variable, by `is defined` or `default`.
fn is_optional(text: &str, name: &str) -> bool {
    words(text, name).any(|range| {
        let rest = text[range.end..].trim_start();
        let filtered = rest.strip_prefix('|').is_some_and(|filter| filter.trim_start().starts_with("default"));
        filtered
            || ["is defined", "is not defined", "is undefined", "is not undefined"]
                .iter()
                .any(|test| rest.starts_with(test))
    })
}

/// Where `name` stands in `text` as a word of its own.
fn words<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).map(move |(at, _)| at..at + name.len()).filter(move |range| {
        let before = text[..range.start].chars().next_back();
        let after = text[range.end..].chars().next();
        !before.is_some_and(|c| part(c) || c == '.') && !after.is_some_and(part)
    })
}

fn inside_tag(text: &str, at: usize) -> bool {
    let opened = text[..at].rfind("{{").max(text[..at].rfind("{%"));
    let closed = text[..at].rfind("}}").max(text[..at].rfind("%}"));
    opened.is_some() && opened > closed
}

/// Hides the braces of Packer's `{{ .Name }}` from tera.
fn protect(text: &str) -> String {
    let mut guarded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (before, tag) = rest.split_at(open);
        guarded.push_str(before);
        let inner = tag[2..].find("}}").map(|end| &tag[2..end + 2]).filter(|inner| is_go_variable(inner));
        let taken = match inner {
            Some(inner) => {
                guarded.push(OPEN);
                guarded.push_str(inner);
                guarded.push(CLOSE);
                inner.len() + 4
            }
            None => {
                guarded.push_str("{{");
                2
            }
        };
        rest = &tag[taken..];
    }
    guarded.push_str(rest);
    guarded
}

fn restore(text: &str) -> String {
    text.replace(OPEN, "{{").replace(CLOSE, "}}")
}

/// Whether the inside of a tag is a variable of Go's templates, such as ` .Vars `.
pub(super) fn is_go_variable(inner: &str) -> bool {
    inner.trim().strip_prefix('.').is_some_and(|name| name.chars().next().is_some_and(|c| c.is_ascii_alphabetic()))
}

/// tera's error as a problem at its place.
fn fault(node: &Node, text: &str, error: &tera::Error) -> Problem {
    let (message, range) = match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            (report.message().to_owned(), report.span().range.clone())
        }
        _ => from_report(text, &error.to_string()),
    };
    let message = message.split(". Available variables").next().unwrap_or_default().trim_end_matches('.');
    let mut chars = message.chars();
    let message: String = chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
    let problem = Problem::at(node.location_of(text, range.clone()), format!("template: {message}"));
    match jinja::hint(text, range.start, &message) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// The message of an error that tera gives as a printed report only, and the name that it is about.
fn from_report(text: &str, report: &str) -> (String, Range<usize>) {
    let message = report.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let range =
        message.split('`').nth(1).and_then(|name| words(text, name).find(|range| inside_tag(text, range.start)));
    (message.to_owned(), range.unwrap_or(0..0))
}

#[cfg(test)]
mod tests;
