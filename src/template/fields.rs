//! Reading a YAML tree against what is known: keys, types and scalars.

use super::Text;
use super::keys::{Effect, Key, Refusal, Table};
use super::nearest::{nearest, suggestion};
use super::problems::Problems;
use super::render::Context;
use super::scalar::{self, Expected};
use super::yaml::{Content, Entry, Node};
use crate::error::{Location, Problem};

/// The keys of one mapping; remembers which were asked for, so that the others can be reported.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    node: &'n Node,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
    /// Keys that were reported already.
    reported: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The keys of `node`; anything but a mapping is reported.
    pub(crate) fn of(node: &'n Node, problems: &mut Problems) -> Option<Self> {
        Some(Self { node, entries: entries(node, problems)?, asked: Vec::new(), reported: Vec::new() })
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

    /// An entry that cannot be here, and is reported by whoever asks for it so.
    pub(crate) fn misplaced(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.reported.push(key);
        self.entries.iter().find(|entry| entry.key == key)
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

    /// Reports the keys that nobody asked for, where no table says which there are.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for entry in self.others() {
            let problem = Problem::at(entry.location(), format!("unknown key `{}`", entry.key));
            problems.add(match suggestion(&entry.key, self.asked.iter().copied()) {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
        }
    }

    /// Reports the keys that `table` does not have or refuses, and those that nobody asked for.
    pub(crate) fn finish_as(self, table: &'static Table, problems: &mut Problems) {
        debug_assert!(
            self.asked.iter().all(|key| table.find(key).is_some_and(|(_, key)| key.is_taken())),
            "asked for a key that the table `{}` does not have: {:?}",
            table.name,
            self.asked
        );
        for entry in self.others() {
            problems.add(not_taken(entry, table));
        }
    }

    fn others(&self) -> impl Iterator<Item = &'n Entry> {
        let settled = |key: &str| self.asked.contains(&key) || self.reported.contains(&key);
        self.entries.iter().filter(move |entry| !settled(&entry.key))
    }
}

/// Why a key that nobody asked for is not taken.
fn not_taken(entry: &Entry, table: &'static Table) -> Problem {
    let key = entry.key.as_str();
    match table.find(key) {
        Some((whose, Key { effect: Effect::Refused(Refusal { why, instead }), .. })) => {
            let message = format!("`{key}` is an option of {whose} that visabuild does not have: {why}");
            return Problem::at(entry.location(), message).hint(*instead);
        }
        Some(_) => return Problem::at(entry.location(), format!("`{key}` belongs to something that is missing here")),
        None => {}
    }
    let problem = Problem::at(entry.location(), format!("unknown key `{key}`"));
    let taken = table.keys().filter(|(_, key)| key.is_taken()).map(|(_, key)| key.name);
    let refused = table.keys().filter(|(_, key)| !key.is_taken());
    if let Some(meant) = nearest(key, taken.clone()) {
        return problem.hint(format!("did you mean `{meant}`?"));
    }
    if let Some(meant) = nearest(key, refused.clone().map(|(_, key)| key.name)) {
        let whose = refused.clone().find(|(_, key)| key.name == meant).map_or("", |(whose, _)| whose);
        return problem.hint(format!("`{meant}` is an option of {whose} that visabuild does not have"));
    }
    match suggestion(key, taken) {
        Some(hint) => problem.hint(hint),
        None => problem,
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

    /// A rendered string without secrets: everybody may see it.
    pub(crate) fn without_secrets(&mut self, node: &Node) -> Option<Text> {
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

    /// Reads the keys of `table` on which nothing depends, and those that can have one value only.
    pub(crate) fn settle(&mut self, fields: &mut Fields<'_>, table: &'static Table) -> Option<()> {
        let mut good = true;
        for (_, key) in table.keys() {
            let read = match key.effect {
                Effect::Works | Effect::Refused(_) => Some(Some(())),
                Effect::Ignored => self.optional(fields.get(key.name), |reader, node| reader.public(node).map(drop)),
                Effect::Fixed { value, refusal, .. } => {
                    self.optional(fields.get(key.name), |reader, node| reader.only(node, key.name, value, refusal))
                }
            };
            good &= read.is_some();
        }
        good.then_some(())
    }

    /// A key that can have this value only.
    fn only(&mut self, node: &Node, key: &str, value: &str, Refusal { why, instead }: Refusal) -> Option<()> {
        let text = self.public(node)?;
        let same = match scalar::boolean(value) {
            Ok(value) => scalar::boolean(&text).ok() == Some(value),
            Err(_) => text == value,
        };
        if !same {
            let message = format!("`{key}` can only be `{value}` here, not `{text}`: {why}");
            self.problems.add(Problem::at(node.location(), message).hint(instead));
        }
        same.then_some(())
    }

    pub(crate) fn at(&mut self, location: Location, message: impl Into<String>) {
        self.problems.at(location, message);
    }
}
