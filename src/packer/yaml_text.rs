//! YAML as a person would write it, with comments.

use std::collections::BTreeSet;

use super::value::{Part, Text, Value, number};
use crate::error::Location;

/// A value to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    /// A string of visabuild's templates.
    Text(Text),
    /// A number or a boolean.
    Plain(String),
    List(Vec<Entry>),
    Map(Vec<Entry>),
}

/// A key with its value, an item of a list, or a comment alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entry {
    pub(super) comments: Vec<String>,
    pub(super) key: String,
    pub(super) value: Option<Yaml>,
    /// What of Packer's it was made of.
    pub(super) place: Option<Location>,
}

impl Entry {
    pub(super) fn new(key: impl Into<String>, value: Yaml) -> Self {
        Self { key: key.into(), value: Some(value), ..Self::default() }
    }

    pub(super) fn item(value: Yaml) -> Self {
        Self::new("", value)
    }

    pub(super) fn comment(text: impl Into<String>) -> Self {
        Self { comments: vec![text.into()], ..Self::default() }
    }

    #[must_use]
    pub(super) fn with(mut self, comments: impl IntoIterator<Item = String>, place: &Location) -> Self {
        self.comments.extend(comments);
        self.place = Some(place.clone());
        self
    }
}

impl From<&Value> for Yaml {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Text(Text::default()),
            Value::Bool(truth) => Self::Plain(truth.to_string()),
            Value::Number(value) => Self::Plain(number(*value)),
            Value::List(items) | Value::Set(items) => {
                Self::List(items.iter().map(|item| Entry::item(Self::from(item))).collect())
            }
            Value::Map(map) => Self::Map(map.iter().map(|(key, value)| Entry::new(key, Self::from(value))).collect()),
            scalar => Self::Text(scalar.to_text().unwrap_or_default()),
        }
    }
}

/// A file that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) text: String,
    line: usize,
    /// What was made of which place, by line.
    pub(super) origins: Vec<(usize, Location)>,
    /// Variables that the templates in it name.
    pub(super) used: BTreeSet<String>,
    /// Values are strings as they are: numbers need no quotes, and nothing is filled in.
    loose: bool,
}

impl Writer {
    /// A file whose values are all strings, so that numbers need no quotes.
    pub(super) fn loose() -> Self {
        Self { loose: true, ..Self::default() }
    }

    pub(super) fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
        self.line += 1;
    }

    /// Comments, each on lines of its own.
    pub(super) fn comments(&mut self, comments: &[String], indent: usize) {
        for line in comments.iter().flat_map(|comment| comment.lines()) {
            for part in wrapped(line, 100) {
                let clean: String = part.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
                self.line(&format!("{}# {}", " ".repeat(indent), clean.trim()));
            }
        }
    }

    /// The entries of a mapping.
    pub(super) fn map(&mut self, entries: &[Entry], indent: usize) {
        for entry in entries {
            self.comments(&entry.comments, indent);
            let Some(value) = &entry.value else { continue };
            self.origin(entry);
            let key = scalar(&entry.key, false);
            self.value(&format!("{}{key}:", " ".repeat(indent)), value, indent + 2);
        }
    }

    /// The items of a list.
    pub(super) fn list(&mut self, entries: &[Entry], indent: usize) {
        let dash = format!("{}-", " ".repeat(indent));
        for entry in entries {
            self.comments(&entry.comments, indent);
            match &entry.value {
                None => {}
                Some(Yaml::Map(inner)) if inner.iter().any(|entry| entry.value.is_some()) => {
                    self.origin(entry);
                    let at = self.text.len();
                    let first = inner.iter().position(|entry| entry.value.is_some()).unwrap_or_default();
                    // What stands above the first key stands above the dash.
                    let (before, rest) = inner.split_at(first);
                    before.iter().for_each(|entry| self.comments(&entry.comments, indent));
                    self.comments(&rest[0].comments, indent);
                    let start = self.text.len();
                    let mut rest = rest.to_vec();
                    rest[0].comments.clear();
                    self.map(&rest, indent + 2);
                    debug_assert!(start >= at);
                    self.text.replace_range(start + indent..=start + indent, "-");
                }
                Some(value) => {
                    self.origin(entry);
                    self.value(&dash, value, indent + 2);
                }
            }
        }
    }

    fn origin(&mut self, entry: &Entry) {
        if let Some(place) = &entry.place {
            self.origins.push((self.line + 1, place.clone()));
        }
    }

    fn value(&mut self, head: &str, value: &Yaml, indent: usize) {
        match value {
            Yaml::Plain(text) => self.line(&format!("{head} {text}")),
            Yaml::List(items) if items.iter().all(|item| item.value.is_none()) => self.line(&format!("{head} []")),
            Yaml::Map(entries) if entries.iter().all(|entry| entry.value.is_none()) => {
                self.line(&format!("{head} {{}}"));
            }
            Yaml::List(items) => match self.row(items).filter(|row| head.len() + row.len() < 118) {
                Some(row) => self.line(&format!("{head} {row}")),
                None => {
                    self.line(head);
                    self.list(items, indent);
                }
            },
            Yaml::Map(entries) => {
                self.line(head);
                self.map(entries, indent);
            }
            Yaml::Text(text) => {
                let text = self.template(text);
                match block(&text, indent) {
                    Some(block) => {
                        self.line(&format!("{head} {}", block.0));
                        // Spaces at the ends of lines are part of the text.
                        self.text.push_str(&block.1);
                        self.line += block.1.matches('\n').count();
                    }
                    None => self.line(&format!("{head} {}", scalar(&text, self.loose))),
                }
            }
        }
    }

    /// A list of scalars on one line, where nothing has to be said about any of them: rows of `qemuargs`.
    fn row(&mut self, items: &[Entry]) -> Option<String> {
        let short = |item: &Entry| match &item.value {
            Some(Yaml::Plain(_)) => item.comments.is_empty(),
            Some(Yaml::Text(text)) => item.comments.is_empty() && !text.plain().contains(['\n', '<']),
            _ => false,
        };
        if items.len() > 3 || !items.iter().all(short) {
            return None;
        }
        let texts: Vec<String> = items
            .iter()
            .map(|item| match &item.value {
                Some(Yaml::Text(text)) => {
                    let text = self.template(text);
                    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._/".contains(c));
                    if plain { scalar(&text, self.loose) } else { quoted(&text) }
                }
                Some(Yaml::Plain(text)) => text.clone(),
                _ => String::new(),
            })
            .collect();
        Some(format!("[{}]", texts.join(", ")))
    }

    /// A string in the language of visabuild's templates.
    pub(super) fn template(&mut self, text: &Text) -> String {
        // Nothing is filled in in a file of variables.
        if self.loose {
            return text.plain();
        }
        let mut out = String::new();
        for (at, part) in text.0.iter().enumerate() {
            match part {
                Part::Literal(literal) => {
                    let mut literal = escaped(literal);
                    if literal.ends_with('{') && at + 1 < text.0.len() {
                        literal.truncate(literal.len() - 1);
                        literal.push_str("{{ \"{\" }}");
                    }
                    out.push_str(&literal);
                }
                Part::Named { name, .. } => {
                    self.used.insert(name.clone());
                    out.push_str(&format!("{{{{ {name} }}}}"));
                }
                Part::Runtime(inner) => out.push_str(&format!("{{{{ {inner} }}}}")),
            }
        }
        out
    }
}

/// Text in which tera finds nothing to do.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        rest = after;
        match after.chars().next().filter(|next| "{%#".contains(*next)) {
            Some(next) => {
                out.push_str(&format!("{{{{ \"{{{next}\" }}}}"));
                rest = &after[1..];
            }
            None => out.push('{'),
        }
    }
    out.push_str(rest);
    out
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A block of lines as YAML's `|` has it: its head and its text; none if it has one line, or characters that it may not
/// have.
fn block(text: &str, indent: usize) -> Option<(&'static str, String)> {
    let body = text.trim_end_matches('\n');
    let good = |c: char| is_printable(c) || c == '\n' || c == '\t';
    // A first line that begins with a space would need its indentation to be said.
    if !body.contains('\n') && !text.ends_with('\n') || !text.chars().all(good) {
        return None;
    }
    if body.trim().is_empty() || body.starts_with([' ', '\t', '\n']) {
        return None;
    }
    let head = match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        if line != "\n" {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(line);
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    Some((head, out))
}

/// A scalar on one line, quoted where it has to be.
fn scalar(text: &str, loose: bool) -> String {
    let first = |c: char| c.is_ascii_alphanumeric() || "/._<$(".contains(c);
    let plain = text.starts_with(first)
        && text.chars().all(is_printable)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains("{{")
        && text == text.trim_end()
        && !text.ends_with(':');
    let words = ["yes", "no", "on", "off", "y", "n", "true", "false", "null", "~"];
    if plain && (loose || !words.contains(&text.to_ascii_lowercase().as_str())) {
        match serde_yaml::from_str::<serde_yaml::Value>(text) {
            Ok(serde_yaml::Value::String(same)) if same == text => return text.to_owned(),
            // What is written is taken as it is written.
            Ok(serde_yaml::Value::Number(_) | serde_yaml::Value::Bool(_)) if loose => return text.to_owned(),
            _ => {}
        }
    }
    quoted(text)
}

/// A scalar in double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// A line in parts of at most so many characters, between words.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in line.split_whitespace() {
        let last = parts.last().map_or(0, |part| part.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            if !part.is_empty() {
                part.push(' ');
            }
            part.push_str(word);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &Yaml) -> String {
        let mut writer = Writer::default();
        writer.map(&[Entry::new("key", value.clone())], 0);
        writer.text
    }

    #[test]
    fn scalars_are_quoted_where_they_have_to_be() {
        for (text, expected) in [
            ("plain", "plain"),
            ("http://x/y", "http://x/y"),
            ("4096", "\"4096\""),
            ("yes", "\"yes\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("- x", "\"- x\""),
            ("<wait>", "<wait>"),
        ] {
            assert_eq!(scalar(text, false), expected);
        }
        assert_eq!(scalar("4096", true), "4096");
        for space in ["\u{a0}", "\u{3000}", " "] {
            assert_eq!(scalar(&format!("x{space}"), true), format!("\"x{space}\""));
        }
    }

    #[test]
    fn nothing_is_escaped_where_nothing_is_filled_in() {
        let mut writer = Writer::loose();
        let text = "chmod +x {{ .Path }}; {# {% x";
        writer.map(&[Entry::new("key", Yaml::Text(Text::literal(text)))], 0);
        assert_eq!(writer.text, format!("key: \"{text}\"\n"));
    }

    #[test]
    fn braces_are_told_from_templates() {
        let mut writer = Writer::default();
        let name = Part::Named { name: "x".to_owned(), value: "1".to_owned() };
        let text = Text(vec![Part::Literal("${#a} {{ {".to_owned()), name, Part::Runtime(".HTTPIP".to_owned())]);
        assert_eq!(writer.template(&text), "${{ \"{#\" }}a} {{ \"{{\" }} {{ \"{\" }}{{ x }}{{ .HTTPIP }}");
        assert!(writer.used.contains("x"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec("(\\PC|\n|\t|\r| |[-:#'\"|>{}%\u{85}\u{feff}]){0,12}", 1..4)) {
            let plain: Vec<String> = texts.iter().map(|text| text.replace('{', "(")).collect();
            let items = plain.iter().map(|text| Entry::item(Yaml::Text(Text::literal(text.clone()))));
            let text = written(&Yaml::Map(vec![
                Entry::new("list", Yaml::List(items.collect())),
                Entry::new(plain[0].clone(), Yaml::Plain("1".to_owned())),
            ]));
            let read: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            let read: Vec<&str> = read["key"]["list"].as_sequence().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
            prop_assert_eq!(read, plain.iter().map(String::as_str).collect::<Vec<_>>(), "{}", text);
        }
    }
}
