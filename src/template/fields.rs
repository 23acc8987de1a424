//! Reading a YAML tree against what is known: keys, types and scalars.

use super::Text;
use super::nearest::{nearest, suggestion};
use super::problems::Problems;
use super::render::Context;
use super::scalar::Expected;
use super::yaml::{Content, Entry, Node};
use crate::error::{Location, Problem};

/// The keys of one mapping; remembers which were asked for, so that the others can be reported.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    node: &'n Node,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
}

/// Keys that exist in Packer but not here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsupported {
    /// `Packer's qemu builder`.
    pub(crate) whose: &'static str,
    /// Separated by white space.
    pub(crate) keys: &'static str,
}

impl Unsupported {
    pub(crate) const NONE: Self = Self { whose: "", keys: "" };
}

impl<'n> Fields<'n> {
    /// The keys of `node`; anything but a mapping is reported.
    pub(crate) fn of(node: &'n Node, problems: &mut Problems) -> Option<Self> {
        Some(Self { node, entries: entries(node, problems)?, asked: Vec::new() })
    }

    /// Where the mapping is.
    pub(crate) fn location(&self) -> Location {
        self.node.location()
    }

    /// Whether `key` is there; does not count as asking for it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The value of `key`; none when it is absent or empty.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Like [`Self::get`] with the key itself, for its place.
    pub(crate) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key && !entry.value.is_null())
    }

    /// The value of `key`; its absence is reported.
    pub(crate) fn required(&mut self, key: &'static str, problems: &mut Problems) -> Option<&'n Node> {
        let value = self.get(key);
        if value.is_none() {
            problems.at(self.node.location(), format!("`{key}` is missing"));
        }
        value
    }

    /// Of keys that exclude each other, the one that is there; none or several are reported.
    pub(crate) fn one_of(
        &mut self,
        keys: &[&'static str],
        problems: &mut Problems,
    ) -> Option<(&'static str, &'n Node)> {
        let mut found: Vec<_> = keys.iter().filter_map(|key| Some((*key, self.entry(key)?))).collect();
        found.sort_by_key(|(_, entry)| entry.location());
        match found[..] {
            [] => {
                let names: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
                problems.at(self.node.location(), format!("one of {} is needed", names.join(", ")));
                None
            }
            [(key, entry)] => Some((key, &entry.value)),
            [(first, _), (second, entry), ..] => {
                problems.at(entry.location(), format!("`{second}` cannot stand beside `{first}`"));
                None
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self, unsupported: Unsupported, problems: &mut Problems) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            problems.add(self.unknown(entry, unsupported));
        }
    }

    fn unknown(&self, entry: &Entry, unsupported: Unsupported) -> Problem {
        let key = entry.key.as_str();
        let Unsupported { whose, keys } = unsupported;
        if keys.split_whitespace().any(|known| known == key) {
            let message = format!("`{key}` is an option of {whose} that visabuild does not support yet");
            return Problem::at(entry.location(), message);
        }
        let problem = Problem::at(entry.location(), format!("unknown key `{key}`"));
        if let Some(meant) = nearest(key, self.asked.iter().copied()) {
            return problem.hint(format!("did you mean `{meant}`?"));
        }
        match nearest(key, keys.split_whitespace()) {
            Some(meant) => problem.hint(format!("`{meant}` is an option of {whose}, not supported yet")),
            None => match suggestion(key, self.asked.iter().copied()) {
                Some(hint) => problem.hint(hint),
                None => problem,
            },
        }
    }
}

/// The entries of a mapping; anything else is reported.
pub(crate) fn entries<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n [Entry]> {
    match &node.content {
        Content::Map(entries) => Some(entries),
        _ => wrong_type(node, "a mapping", problems),
    }
}

/// The items of a list; anything else is reported.
pub(crate) fn items<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n [Node]> {
    match &node.content {
        Content::List(items) => Some(items),
        _ => wrong_type(node, "a list", problems),
    }
}

/// A scalar as it is written; a list or mapping is reported.
pub(crate) fn scalar<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        _ => wrong_type(node, "a string", problems),
    }
}

fn wrong_type<T>(node: &Node, expected: &str, problems: &mut Problems) -> Option<T> {
    problems.at(node.location(), format!("expected {expected}, found {}", node.kind()));
    None
}

/// Reads nodes with the variables of one template. Whatever is wrong is reported, and the result is then none.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(super) context: &'a Context,
    pub(crate) problems: &'a mut Problems,
}

impl Reader<'_> {
    /// A rendered string; numbers and booleans count as strings.
    pub(crate) fn text(&mut self, node: &Node) -> Option<Text> {
        let text = scalar(node, self.problems)?;
        self.context.render(node, text, self.problems)
    }

    /// A rendered string that is recorded as it is, so no secret may be in it.
    pub(crate) fn public(&mut self, node: &Node) -> Option<String> {
        self.without_secrets(node).map(|text| text.plain().to_owned())
    }

    fn without_secrets(&mut self, node: &Node) -> Option<Text> {
        let text = self.text(node)?;
        if let Some(secret) = text.secrets().first() {
            self.problems.at(node.location(), format!("the secret `{secret}` cannot be used here"));
            return None;
        }
        Some(text)
    }

    /// A rendered string that means something, such as a size.
    pub(crate) fn parse<T>(&mut self, node: &Node, parse: fn(&str) -> Result<T, Expected>) -> Option<T> {
        let text = self.without_secrets(node)?;
        match parse(text.plain()) {
            Ok(value) => Some(value),
            Err(Expected { what, hint }) => {
                let message = format!("expected {what}, found `{}`", text.masked());
                self.problems.add(Problem::at(node.location(), message).hint(hint));
                None
            }
        }
    }

    /// A list, each item read by `read`; none if one of them is faulty.
    pub(crate) fn list<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = items(node, self.problems)?;
        let read: Vec<_> = items.iter().map(|item| read(self, item)).collect();
        read.into_iter().collect()
    }

    /// Like [`Self::list`], where an empty list is a problem too.
    pub(crate) fn some<T>(&mut self, node: &Node, read: impl FnMut(&mut Self, &Node) -> Option<T>) -> Option<Vec<T>> {
        let list = self.list(node, read)?;
        if list.is_empty() {
            self.at(node.location(), "the list is empty");
            return None;
        }
        Some(list)
    }

    /// Reads a value where one is set. The outer none means faulty, the inner none not set.
    pub(crate) fn optional<T>(
        &mut self,
        node: Option<&Node>,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match node {
            None => Some(None),
            Some(node) => read(self, node).map(Some),
        }
    }

    pub(crate) fn at(&mut self, location: Location, message: impl Into<String>) {
        self.problems.at(location, message);
    }
}
