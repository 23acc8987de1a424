//! Go's templates in Packer's strings: `{{ user "x" }}`, `{{ isotime }}`, `{{ .HTTPIP }}`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::budget::{Budget, Exhausted};
use super::clock::{Moment, from_go};
use super::value::{Part, Text, Value};

/// What the functions of a template give.
#[derive(Debug)]
pub(super) struct Functions<'a> {
    /// Variables of a JSON template; HCL has none.
    pub(super) user: Option<&'a BTreeMap<String, Value>>,
    /// Names of variables whose values may not be part of what is written.
    pub(super) secrets: &'a BTreeSet<String>,
    pub(super) budget: &'a Budget,
    /// The build's name, where there is one.
    pub(super) build_name: Option<&'a str>,
    pub(super) folder: &'a Path,
    pub(super) times: &'a Times,
}

/// Variables that stand for the time of a build, with the command that gives each its value.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The time of the import, seconds since 1970.
    pub(super) now: u64,
    pub(super) used: RefCell<BTreeMap<String, Time>>,
}

/// Most ways in which a project may ask for the time.
const MOST_TIMES: usize = 50;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Time {
    /// What date(1) is told to write.
    pub(super) format: String,
    /// What that is now.
    pub(super) value: String,
}

impl Times {
    /// The variable for the time in a format of strftime(3); none if there are too many.
    pub(super) fn variable(&self, format: &str) -> Option<Part> {
        let mut used = self.used.borrow_mut();
        let known = used.iter().find(|(_, time)| time.format == format).map(|(name, _)| name.clone());
        if known.is_none() && used.len() >= MOST_TIMES {
            return None;
        }
        let name = known.unwrap_or_else(|| {
            let name = if format == "%s" { "build_timestamp" } else { "build_time" };
            let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}_{number}")));
            names.into_iter().find(|name| !used.contains_key(name)).unwrap_or_default()
        });
        let value = if format == "%s" { self.now.to_string() } else { Moment::new(self.now).strftime(format) };
        used.insert(name.clone(), Time { format: format.to_owned(), value: value.clone() });
        Some(Part::Named { name, value })
    }
}

/// What a template cannot be rendered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The template is wrong.
    Wrong(String),
    /// visabuild has no counterpart: what, and what to do instead.
    Unsupported(String, &'static str),
}

impl From<Exhausted> for Fault {
    fn from(fault: Exhausted) -> Self {
        Self::Wrong(fault.0.to_owned())
    }
}

/// Carries out the actions in `text`, also in the values of its variables. `{{ .Name }}` stays.
pub(super) fn render(text: Text, functions: &Functions<'_>) -> Result<Text, Fault> {
    let mut out = Text::default();
    for part in text.0 {
        match part {
            Part::Literal(literal) => out.append(literals(&literal, functions)?),
            // Packer renders what its variables hold; a variable here is put in as it is.
            Part::Named { name, value } if has_actions(&value) => {
                open(&name, functions)?;
                out.append(literals(&value, functions)?);
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Whether there is something to carry out, which `{{ .Name }}` is not.
pub(super) fn has_actions(text: &str) -> bool {
    text.split("{{").skip(1).any(|tag| !tag.trim_start().starts_with('.'))
}

/// Fails for a variable whose value may not be written.
fn open(name: &str, functions: &Functions<'_>) -> Result<(), Fault> {
    if functions.secrets.contains(name) {
        let message = format!("the value of `{name}`, which is secret or the environment's, would be written");
        return Err(Fault::Wrong(message));
    }
    Ok(())
}

fn literals(text: &str, functions: &Functions<'_>) -> Result<Text, Fault> {
    let mut out = Text::default();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once("{{") {
        let end = closing(tag).ok_or_else(|| Fault::Wrong("`{{` is not closed by `}}`".to_owned()))?;
        let (inner, mut after) = (&tag[..end], &tag[end + 2..]);
        let (trims_before, inner) = match inner.strip_prefix("- ") {
            Some(inner) => (true, inner),
            None => (false, inner),
        };
        let (trims_after, inner) = match inner.strip_suffix(" -") {
            Some(inner) => (true, inner),
            None => (false, inner),
        };
        out.push(Part::Literal(if trims_before { before.trim_end() } else { before }.to_owned()));
        out.append(action(inner.trim(), functions)?);
        if trims_after {
            after = after.trim_start();
        }
        rest = after;
    }
    out.push(Part::Literal(rest.to_owned()));
    Ok(out)
}

/// Where the action that is open at the beginning ends: braces in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), _) if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Name(String),
    Text(String),
}

fn action(inner: &str, functions: &Functions<'_>) -> Result<Text, Fault> {
    let _level = functions.budget.enter()?;
    if inner.starts_with("/*") {
        return Ok(Text::default());
    }
    if let Some(name) = inner.strip_prefix('.') {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
        // A variable of Packer's own, maybe through a filter.
        return if is_name { Ok(Text(vec![Part::Runtime(inner.to_owned())])) } else { Err(unknown(inner)) };
    }
    let mut piped: Option<Text> = None;
    for command in pipeline(inner)? {
        piped = Some(call(&command, piped.as_ref(), inner, functions)?);
    }
    piped.ok_or_else(|| Fault::Wrong("`{{ }}` is empty".to_owned()))
}

fn unknown(inner: &str) -> Fault {
    Fault::Unsupported(format!("`{{{{ {inner} }}}}` is logic of Go's templates"), "write out what it gives")
}

/// The words between `|`.
fn pipeline(inner: &str) -> Result<Vec<Vec<Word>>, Fault> {
    let mut commands = vec![Vec::new()];
    let mut rest = inner.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '|' => {
                commands.push(Vec::new());
                rest = rest[1..].trim_start();
                continue;
            }
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| unknown(inner))?;
                (Word::Text(rest[1..=end].to_owned()), end + 2)
            }
            '"' => quoted(rest).ok_or_else(|| unknown(inner))?,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "|\"`".contains(c)).unwrap_or(rest.len());
                (Word::Name(rest[..end].to_owned()), end)
            }
        };
        if let Some(last) = commands.last_mut() {
            last.push(word);
        }
        rest = rest[length..].trim_start();
    }
    Ok(commands)
}

/// A string in double quotes, and how long it is with them.
fn quoted(text: &str) -> Option<(Word, usize)> {
    let mut escaped = false;
    let end = text[1..].char_indices().find_map(|(at, c)| match c {
        _ if escaped => {
            escaped = false;
            None
        }
        '\\' => {
            escaped = true;
            None
        }
        '"' => Some(at + 1),
        _ => None,
    })?;
    // Go's escapes that occur in templates are JSON's.
    Some((Word::Text(serde_json::from_str(&text[..=end]).ok()?), end + 1))
}

fn call(command: &[Word], piped: Option<&Text>, inner: &str, functions: &Functions<'_>) -> Result<Text, Fault> {
    let Some((first, rest)) = command.split_first() else { return Err(unknown(inner)) };
    let name = match first {
        Word::Text(text) if rest.is_empty() && piped.is_none() => return Ok(Text::literal(text.clone())),
        Word::Text(_) => return Err(unknown(inner)),
        Word::Name(name) => name.as_str(),
    };
    let mut arguments = Vec::new();
    for word in rest {
        match word {
            Word::Text(text) => arguments.push(text.clone()),
            Word::Name(number) if number.parse::<i64>().is_ok() => arguments.push(number.clone()),
            Word::Name(_) => return Err(unknown(inner)),
        }
    }
    if let (Some(piped), "upper" | "lower" | "replace" | "replace_all" | "split") = (piped, name) {
        for part in &piped.0 {
            if let Part::Named { name, .. } = part {
                open(name, functions)?;
            }
        }
        arguments.push(piped.plain());
    } else if piped.is_some() {
        return Err(unknown(inner));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    function(name, &arguments, inner, functions)
}

fn function(name: &str, arguments: &[&str], inner: &str, functions: &Functions<'_>) -> Result<Text, Fault> {
    let plain = |text: String| Ok(Text::literal(text));
    let budget = functions.budget;
    budget.take(arguments.iter().map(|argument| argument.len()).sum())?;
    let time = |format: &str| {
        let part = functions.times.variable(format);
        part.map(|part| Text(vec![part]))
            .ok_or_else(|| Fault::Wrong("the time is asked for in too many ways".to_owned()))
    };
    match (name, arguments) {
        ("user", [name]) => user(name, functions),
        ("env", [_]) => Err(Fault::Wrong(format!(
            "`{{{{ {inner} }}}}` can only be the whole value of a variable: what the environment has is not written"
        ))),
        ("timestamp", []) => time("%s"),
        ("isotime", []) => time("%Y-%m-%dT%H:%M:%SZ"),
        ("isotime", [layout]) => time(&from_go(layout)),
        ("strftime", [format]) => time(format),
        ("build_name", []) if functions.build_name.is_some() => {
            plain(functions.build_name.unwrap_or_default().to_owned())
        }
        ("build_type", []) => plain("qemu".to_owned()),
        ("template_dir" | "pwd", []) => plain(functions.folder.to_string_lossy().into_owned()),
        ("packer_version", []) => plain("1.9.0".to_owned()),
        ("upper", [text]) => plain(text.to_uppercase()),
        ("lower", [text]) => plain(text.to_lowercase()),
        ("clean_resource_name", [text]) => plain((*text).to_owned()),
        ("replace_all", [from, to, text]) if !from.is_empty() => replaced(text, from, to, (usize::MAX, budget)),
        ("replace", [from, to, count, text]) if !from.is_empty() => match count.parse::<i64>() {
            Ok(count) => replaced(text, from, to, (usize::try_from(count).unwrap_or(usize::MAX), budget)),
            Err(_) => Err(unknown(inner)),
        },
        ("split", [text, separator, at]) if !separator.is_empty() => {
            let part = at.parse().ok().and_then(|at| text.split(separator).nth(at));
            part.map(Text::literal).ok_or_else(|| Fault::Wrong(format!("`{{{{ {inner} }}}}` has no such part")))
        }
        ("uuid", []) => Err(Fault::Unsupported(
            "`{{ uuid }}` is another one in each build".to_owned(),
            "visabuild makes the same of the same; a script in the guest can ask uuidgen",
        )),
        ("consul_key" | "vault" | "aws_secretsmanager" | "aws_secretsmanager_raw", _) => Err(Fault::Unsupported(
            format!("`{name}` asks a service"),
            "fetch the value before the build and give it in a variable of the environment",
        )),
        ("build", _) => Err(Fault::Unsupported(
            format!("`{{{{ {inner} }}}}` is known while Packer builds"),
            "scripts have PACKER_BUILD_NAME and PACKER_BUILDER_TYPE, `shell-local` VISABUILD_SSH_HOST and its kin, playbooks \
             ansible_host and its kin",
        )),
        _ => Err(unknown(inner)),
    }
}

/// The text with at most so many occurrences replaced.
fn replaced(text: &str, from: &str, to: &str, (most, budget): (usize, &Budget)) -> Result<Text, Fault> {
    let count = text.matches(from).take(most).count();
    budget.take(count.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(Text::literal(text.replacen(from, to, most)))
}

fn user(name: &str, functions: &Functions<'_>) -> Result<Text, Fault> {
    let Some(variables) = functions.user else {
        return Err(Fault::Wrong(format!("HCL has no `{{{{ user }}}}`: write `${{var.{name}}}`")));
    };
    match variables.get(name) {
        Some(value) => {
            functions.budget.take(value.size())?;
            Ok(value.to_text().unwrap_or_default())
        }
        None => Err(Fault::Wrong(format!("undefined variable `{name}`"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str) -> Result<Text, Fault> {
        let variables = BTreeMap::from([(
            "pw".to_owned(),
            Value::Named { name: "pw".to_owned(), value: Box::new(Value::from("x")) },
        )]);
        let times = Times { now: 1_795_356_309, ..Times::default() };
        let functions = Functions {
            user: Some(&variables),
            secrets: &BTreeSet::new(),
            budget: &Budget::default(),
            build_name: Some("debian"),
            folder: Path::new("/project"),
            times: &times,
        };
        render(Text::literal(text), &functions)
    }

    #[test]
    fn actions_are_carried_out() {
        for (text, expected) in [
            ("a {{user `pw`}} b", "a x b"),
            ("{{ user \"pw\" }}", "x"),
            ("{{build_name}}-{{ isotime \"2006-01-02\" }}", "debian-2026-11-22"),
            ("{{ timestamp }}", "1795356309"),
            ("{{ template_dir }}/x", "/project/x"),
            ("{{ `{{` }} json .}}", "{{ json .}}"),
            ("{{ \"A b\" | lower }}", "a b"),
            ("a {{- /* nothing */ -}} b", "a {{- /* nothing */ -}} b"),
            ("http://{{.HTTPIP}}:{{ .HTTPPort }}/", "http://{{ .HTTPIP }}:{{ .HTTPPort }}/"),
            ("{{ .Name | urlquery }}", "{{ .Name | urlquery }}"),
        ] {
            let expected = if text.contains("/*") { "ab" } else { expected };
            assert_eq!(rendered(text).unwrap().plain(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert_eq!(rendered("{{ user `pq` }}"), Err(Fault::Wrong("undefined variable `pq`".to_owned())));
        assert!(matches!(rendered("{{ if eq .A .B }}x{{ end }}"), Err(Fault::Unsupported(..))));
        assert!(matches!(rendered("{{ vault `a` `b` }}"), Err(Fault::Unsupported(..))));
        assert!(matches!(rendered("{{ env `a` }}"), Err(Fault::Wrong(_))));
        assert!(matches!(rendered("{{ x"), Err(Fault::Wrong(_))));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(\\{\\{|\\}\\}|- | -|user|isotime|`|\"|\\\\|\\||[a-zé .]){0,20}") {
            let _ = rendered(&text);
        }
    }
}
