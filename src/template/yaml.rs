//! YAML files as trees that know where everything stands.
//!
//! `serde_yaml` says what a value is; an index made with `saphyr-parser` says where it is and how
//! it was spelled, because numbers and booleans are used as they were written (`1.10` stays
//! `1.10`). Merge keys are applied. Whatever makes a file unreadable is a [`Problem`] with its place.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_yaml::Value;

use crate::error::{Location, Problem};
use index::{Position, Shape};

mod index;

/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A place in a file: line and column, in characters, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A file and its text.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file, relative to the project.
    pub(crate) file: PathBuf,
    text: String,
    /// The number of the first character of each line. Lines end as for every other tool that counts them, while YAML
    /// lets a lone CR end one, too.
    lines: Vec<usize>,
    /// Characters of the text.
    length: usize,
}

impl Source {
    fn new(file: &Path, text: String) -> Self {
        let ends = text.chars().enumerate().filter(|(_, c)| *c == '\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        let length = text.chars().count();
        Self { file: file.to_owned(), text, lines, length }
    }

    pub(crate) fn location(&self, mark: Mark) -> Location {
        Location { file: self.file.clone(), line: mark.line, column: mark.column }
    }

    fn line(&self, line: usize) -> &str {
        self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default()
    }

    fn rest_of_line(&self, mark: Mark) -> &str {
        let line = self.line(mark.line);
        let start = line.char_indices().nth(mark.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        &line[start..]
    }

    /// The place of the character with this number, from 0; of the end, where there is none.
    fn mark(&self, character: usize) -> Mark {
        let character = character.min(self.length);
        let line = self.lines.partition_point(|first| *first <= character).max(1);
        Mark { line, column: character - self.lines[line - 1] + 1 }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    source: Arc<Source>,
    mark: Mark,
    extent: Range<usize>,
    plain: bool,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Scalar { text: String, kind: Kind },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// What a scalar is without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Number,
    Boolean,
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    mark: Mark,
    pub(crate) value: Node,
}

impl Entry {
    /// Where the key is.
    pub(crate) fn location(&self) -> Location {
        self.value.source.location(self.mark)
    }
}

impl Node {
    pub(crate) fn location(&self) -> Location {
        self.source.location(self.mark)
    }

    /// Whether it is a scalar without quotes, block style and tag: its text alone says what it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Where it is, without what it holds.
    pub(crate) fn place(&self) -> Self {
        let (source, extent) = (Arc::clone(&self.source), self.extent.clone());
        Self { source, mark: self.mark, extent, plain: false, content: Content::Null }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// What it is, for messages: `a list`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Scalar { kind: Kind::String, .. } => "a string",
            Content::Scalar { kind: Kind::Number, .. } => "a number",
            Content::Scalar { kind: Kind::Boolean, .. } => "a boolean",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The place of the part of `text` (this scalar's value) at byte `range`.
    ///
    /// The value differs from the file by indentation, line ends and escapes, so the part is looked
    /// up by how many times it occurs before; the scalar's beginning stands in when that fails.
    pub(crate) fn location_of(&self, text: &str, range: Range<usize>) -> Location {
        self.character_of(text, range).map_or_else(|| self.location(), |at| self.source.location(self.source.mark(at)))
    }

    fn character_of(&self, text: &str, range: Range<usize>) -> Option<usize> {
        let part = text.get(range.clone())?.lines().next().filter(|part| !part.is_empty())?;
        let before = text.get(..range.start)?.matches(part).count();
        let raw: String = self.source.text.chars().skip(self.extent.start).take(self.extent.len()).collect();
        let (at, _) = raw.match_indices(part).nth(before)?;
        Some(self.extent.start + raw[..at].chars().count())
    }
}

/// The whole of a text file that is no YAML, as a scalar: what is wrong in it has its place.
pub(crate) fn text_file(file: &Path, text: String) -> Node {
    let extent = 0..text.chars().count();
    let source = Arc::new(Source::new(file, text.clone()));
    let content = Content::Scalar { text, kind: Kind::String };
    Node { source, mark: Mark { line: 1, column: 1 }, extent, plain: false, content }
}

/// Reads `root/file`; none when it does not exist or holds nothing.
///
/// # Errors
/// Everything that makes it unreadable.
pub(crate) fn read(root: &Path, file: &Path) -> Result<Option<Node>, Vec<Problem>> {
    let start = Location { file: file.to_owned(), line: 1, column: 1 };
    let path = root.join(file);
    let size = match std::fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => return Err(vec![Problem::at(start, "not a file")]),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(vec![Problem::at(start, format!("cannot be read: {error}"))]),
    };
    if size > MAX_BYTES {
        return Err(vec![Problem::at(start, format!("the file has {size} bytes; at most {MAX_BYTES} are read"))]);
    }
    let bytes = std::fs::read(&path).map_err(|error| vec![Problem::at(start, format!("cannot be read: {error}"))])?;
    parse(file, decode(file, bytes)?)
}

fn decode(file: &Path, bytes: Vec<u8>) -> Result<String, Vec<Problem>> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let source = Source::new(file, before);
        let mark = source.mark(source.length);
        vec![Problem::at(source.location(mark), "not UTF-8 text").hint("save the file as UTF-8")]
    })
}

/// Reads the text of `file`; none when it holds nothing.
///
/// # Errors
/// Everything that makes it unreadable.
pub(crate) fn parse(file: &Path, text: String) -> Result<Option<Node>, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let source = Arc::new(Source::new(file, text));
    let Some(position) = index::read(&source)? else { return Ok(None) };
    let value: Value = serde_yaml::from_str(&source.text).map_err(|error| vec![value_problem(&source, &error)])?;
    let mut builder = Builder { source: Arc::clone(&source), problems: Vec::new() };
    let node = builder.node(value, Some(&position), position.mark);
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    Ok((!node.is_null()).then_some(node))
}

/// The index found nothing wrong but the value parser did.
fn value_problem(source: &Source, error: &serde_yaml::Error) -> Problem {
    let tab = source.text.lines().position(|line| line.starts_with('\t'));
    let mark = match (error.location(), tab) {
        // The parsers differ in what ends a line (U+0085), so only the number of the character counts.
        (Some(at), _) => source.mark(at.index()),
        (None, Some(line)) => Mark { line: line + 1, column: 1 },
        (None, None) => Mark { line: 1, column: 1 },
    };
    let message = error.to_string();
    index::syntax_problem(source, mark, message.split(" at line ").next().unwrap_or(&message))
}

/// Joins values with their positions.
struct Builder {
    source: Arc<Source>,
    problems: Vec<Problem>,
}

impl Builder {
    /// `near` is the place that stands in when the two parsers see different shapes.
    fn node(&mut self, value: Value, position: Option<&Position>, near: Mark) -> Node {
        let mark = position.map_or(near, |position| position.mark);
        let content = match value {
            // An absent value has no place of its own: the key's is where the reader looks.
            Value::Null => return self.finish(near, position, Content::Null),
            Value::Bool(boolean) => scalar(boolean.to_string(), Kind::Boolean, position),
            Value::Number(number) => scalar(number.to_string(), Kind::Number, position),
            Value::String(text) => Content::Scalar { text, kind: Kind::String },
            Value::Sequence(items) => Content::List(self.list(items, position, mark)),
            Value::Mapping(map) => Content::Map(self.map(map, position, mark)),
            Value::Tagged(tagged) => {
                let message = format!("the YAML tag `{}` is not supported", tagged.tag);
                self.problems.push(Problem::at(self.source.location(mark), message));
                Content::Null
            }
        };
        self.finish(mark, position, content)
    }

    fn finish(&self, mark: Mark, position: Option<&Position>, content: Content) -> Node {
        let extent = position.map_or(0..0, |position| position.extent.clone());
        let plain = position.is_some_and(|position| matches!(*position.shape, Shape::Scalar { plain: true, .. }));
        Node { source: Arc::clone(&self.source), mark, extent, plain, content }
    }

    fn list(&mut self, items: Vec<Value>, position: Option<&Position>, mark: Mark) -> Vec<Node> {
        let positions: &[Position] = match position.map(|position| &*position.shape) {
            Some(Shape::List(positions)) if positions.len() == items.len() => positions,
            _ => &[],
        };
        items.into_iter().enumerate().map(|(at, item)| self.node(item, positions.get(at), mark)).collect()
    }

    fn map(&mut self, map: serde_yaml::Mapping, position: Option<&Position>, mark: Mark) -> Vec<Entry> {
        let positions: &[(Position, Position)] = match position.map(|position| &*position.shape) {
            Some(Shape::Map(positions)) if positions.len() == map.len() => positions,
            _ => &[],
        };
        let mut entries = Vec::with_capacity(map.len());
        let mut merged = Vec::new();
        for (at, (key, value)) in map.into_iter().enumerate() {
            let (key_at, value_at) = positions.get(at).map_or((None, None), |(key, value)| (Some(key), Some(value)));
            let mark = key_at.map_or(mark, |key| key.mark);
            let value = self.node(value, value_at, mark);
            match self.key(key, key_at, mark) {
                Some(key) if key == "<<" => merged.push(value),
                Some(key) => entries.push(Entry { key, mark, value }),
                None => {}
            }
        }
        for value in merged {
            self.merge(&mut entries, value);
        }
        entries
    }

    fn key(&mut self, key: Value, position: Option<&Position>, mark: Mark) -> Option<String> {
        match self.node(key, position, mark).content {
            Content::Scalar { text, .. } => Some(text),
            _ => {
                self.problems.push(Problem::at(self.source.location(mark), "a key must be a string"));
                None
            }
        }
    }

    /// Adds what `<<` names, beneath what is there: <https://yaml.org/type/merge.html>.
    fn merge(&mut self, entries: &mut Vec<Entry>, value: Node) {
        match value.content {
            Content::Map(parents) => {
                for parent in parents {
                    if !entries.iter().any(|entry| entry.key == parent.key) {
                        entries.push(parent);
                    }
                }
            }
            Content::List(items) if items.iter().all(|item| matches!(item.content, Content::Map(_))) => {
                items.into_iter().for_each(|item| self.merge(entries, item));
            }
            _ => {
                let message = format!("`<<` merges a mapping or a list of mappings, found {}", value.kind());
                self.problems.push(Problem::at(value.location(), message));
            }
        }
    }
}

/// A number or boolean in the spelling of the file.
fn scalar(value: String, kind: Kind, position: Option<&Position>) -> Content {
    let text = match position.map(|position| &*position.shape) {
        Some(Shape::Scalar { text, plain: true }) => text.clone(),
        _ => value,
    };
    Content::Scalar { text, kind }
}

#[cfg(test)]
mod tests;
