//! The values of a manifest on their way to Packer's JSON.

use serde_json::{Map as JsonMap, Number, Value as Json};

use super::scalar::{Scalar, json_integer};
use crate::template::problems::Problems;
use crate::template::render::Context;
use crate::template::yaml::{Content, Node};

/// A value; what is text still has to be rendered and knows where it is written.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Null,
    Boolean(bool),
    Number(Number),
    Text { text: String, place: Node },
    List(Vec<Self>),
    Map(Map),
}

/// A mapping in the order of its file.
#[derive(Debug, Clone)]
pub(super) struct Map {
    entries: Vec<(String, Tree)>,
    /// Where it is.
    pub(super) place: Node,
}

impl Map {
    /// A mapping with nothing in it.
    pub(super) fn new(place: Node) -> Self {
        Self { entries: Vec::new(), place }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text of `key` before it is rendered.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Tree::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Sets `key` where it stands, or at the end.
    pub(super) fn set(&mut self, key: &str, value: Tree) {
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }

    /// Sets `key` to text that stands for this mapping.
    pub(super) fn set_text(&mut self, key: &str, text: String) {
        let place = self.place.clone();
        self.set(key, Tree::Text { text, place });
    }
}

impl Tree {
    /// The value of `node`; what JSON cannot hold is reported.
    pub(super) fn of(node: &Node, problems: &mut Problems) -> Self {
        match &node.content {
            Content::Null => Self::Null,
            Content::List(items) => Self::List(items.iter().map(|item| Self::of(item, problems)).collect()),
            Content::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), Self::of(&entry.value, problems)));
                Self::Map(Map { entries: entries.collect(), place: node.place() })
            }
            Content::Scalar { text, .. } => {
                let as_written = || Self::Text { text: text.clone(), place: node.place() };
                match Scalar::of(node) {
                    Some(Scalar::Boolean(boolean)) => Self::Boolean(boolean),
                    Some(Scalar::Float(number)) => Number::from_f64(number).map_or_else(as_written, Self::Number),
                    Some(Scalar::Integer(number)) => json_integer(number).map_or_else(
                        || {
                            problems.at(node.location(), format!("`{text}` is too large a number"));
                            Self::Null
                        },
                        Self::Number,
                    ),
                    Some(Scalar::Text(_)) | None => as_written(),
                }
            }
        }
    }

    /// The value with everything in it rendered. What is wrong is reported.
    pub(super) fn render(&self, context: &Context, secrets: &mut Secrets, problems: &mut Problems) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(boolean) => Json::Bool(*boolean),
            Self::Number(number) => Json::Number(number.clone()),
            Self::Text { text, place } => Json::String(rendered(text, place, context, secrets, problems)),
            Self::List(items) => {
                Json::Array(items.iter().map(|item| item.render(context, secrets, problems)).collect())
            }
            Self::Map(map) => {
                let mut json = JsonMap::new();
                for (key, value) in &map.entries {
                    let place = match value {
                        Self::Text { place, .. } => place,
                        _ => &map.place,
                    };
                    let key = rendered(key, place, context, secrets, problems);
                    json.insert(key, value.render(context, secrets, problems));
                }
                Json::Object(json)
            }
        }
    }
}

/// Names of the secrets that a manifest uses: they stand there as Packer's user variables.
pub(super) type Secrets = std::collections::BTreeSet<String>;

fn rendered(text: &str, place: &Node, context: &Context, secrets: &mut Secrets, problems: &mut Problems) -> String {
    let Some(rendered) = context.render(place, text, problems) else { return String::new() };
    let mut out = rendered.masked().to_owned();
    let mut is_there = true;
    for name in rendered.secrets() {
        secrets.insert(name.clone());
        let placeholder = format!("‹secret:{name}›");
        is_there &= out.contains(&placeholder);
        out = out.replace(&placeholder, &format!("{{{{user `{name}`}}}}"));
    }
    // A filter has changed what stands for a secret.
    let is_changed = |sign: char| text.matches(sign).count() < out.matches(sign).count();
    if !rendered.secrets().is_empty() && (!is_there || is_changed('‹') || is_changed('›')) {
        problems.at(place.location(), "a secret can stand in Packer's JSON only as it is, without a filter");
    }
    out
}
