//! Where every node of a YAML file is, and the faults that the value parser cannot place.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::{Mark, Source};
use crate::error::Problem;

/// Deepest nesting that is read, aliases included.
const MAX_DEPTH: usize = 64;
/// Most nodes that a file may have once its aliases are expanded.
const MAX_NODES: usize = 100_000;

/// Where a node is, in the shape of the node.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) mark: Mark,
    /// Characters of the file that a scalar was read from.
    pub(super) extent: Range<usize>,
    pub(super) shape: Rc<Shape>,
    nodes: usize,
    depth: usize,
}

/// What kind of node it is, with the positions below it.
#[derive(Debug)]
pub(super) enum Shape {
    Scalar { text: String, plain: bool },
    List(Vec<Position>),
    Map(Vec<(Position, Position)>),
}

/// Reads the positions of a file's only document; none if the file holds no document.
///
/// # Errors
/// Everything that makes the file unreadable, in the order found.
pub(super) fn read(source: &Source) -> Result<Option<Position>, Vec<Problem>> {
    let mut index =
        Index { source, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0, problems: Vec::new() };
    let mut documents = 0;
    let mut parser = Parser::new_from_str(&source.text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Err(error) => Err(index.syntax(&error)),
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents > 1 { Err(index.second_document(span)) } else { Ok(()) }
            }
            Ok((event, span)) => index.take(event, span),
        };
        if let Err(problem) = step {
            index.problems.push(problem);
            break;
        }
    }
    index.problems.dedup();
    if index.problems.is_empty() { Ok(index.root) } else { Err(index.problems) }
}

struct Index<'s> {
    source: &'s Source,
    open: Vec<Open>,
    anchors: HashMap<usize, Position>,
    root: Option<Position>,
    /// Nodes so far, aliases expanded.
    nodes: usize,
    problems: Vec<Problem>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    anchor: usize,
    mark: Mark,
    map: bool,
    children: Vec<Position>,
}

impl Index<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = self.source.mark(span.start.index());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(mark, 1)?;
                let shape =
                    Shape::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain && tag.is_none() };
                let extent = span.start.index()..span.end.index();
                self.close(anchor, Position { mark, extent, shape: Rc::new(shape), nodes: 1, depth: 1 })
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let target = target.ok_or_else(|| self.problem(mark, "an alias stands inside its own anchor"))?;
                self.count(mark, target.nodes)?;
                self.close(0, Position { mark, ..target })
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, mark, false),
            Event::MappingStart(anchor, _) => self.begin(anchor, mark, true),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, mark: Mark, map: bool) -> Result<(), Problem> {
        self.count(mark, 1)?;
        self.open.push(Open { anchor, mark, map, children: Vec::new() });
        self.check_depth(mark, 0)
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { anchor, mark, map, children }) = self.open.pop() else { return Ok(()) };
        let nodes = 1 + children.iter().map(|child| child.nodes).sum::<usize>();
        let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
        let shape = if map { self.map(mark, children) } else { Shape::List(children) };
        self.close(anchor, Position { mark, extent: 0..0, shape: Rc::new(shape), nodes, depth })
    }

    /// Hands a complete node to what it stands in.
    fn close(&mut self, anchor: usize, position: Position) -> Result<(), Problem> {
        self.check_depth(position.mark, position.depth)?;
        if anchor > 0 {
            self.anchors.insert(anchor, position.clone());
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(position),
            None => self.root = Some(position),
        }
        Ok(())
    }

    fn count(&mut self, mark: Mark, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(
                self.problem(mark, format!("the file has more than {MAX_NODES} values with its aliases expanded"))
            );
        }
        Ok(())
    }

    fn check_depth(&self, mark: Mark, below: usize) -> Result<(), Problem> {
        if self.open.len() + below > MAX_DEPTH {
            return Err(self.problem(mark, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    /// Pairs keys with values and finds duplicate keys and braces that were meant as a template.
    fn map(&mut self, mark: Mark, children: Vec<Position>) -> Shape {
        let mut seen: HashMap<String, Mark> = HashMap::new();
        let mut pairs = Vec::with_capacity(children.len() / 2);
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            match &*key.shape {
                Shape::Scalar { text, .. } => {
                    if let Some(first) = seen.get(text) {
                        let message =
                            format!("duplicate key `{text}`; it is already at {}:{}", first.line, first.column);
                        self.problems.push(self.problem(key.mark, message));
                    } else {
                        seen.insert(text.clone(), key.mark);
                    }
                }
                Shape::Map(_) if self.source.rest_of_line(mark).starts_with("{{") => {
                    let problem = unquoted(self.source, mark);
                    self.problems.push(problem);
                }
                _ => self.problems.push(self.problem(key.mark, "a key must be a string")),
            }
            pairs.push((key, value));
        }
        Shape::Map(pairs)
    }

    fn problem(&self, mark: Mark, message: impl Into<String>) -> Problem {
        Problem::at(self.source.location(mark), message)
    }

    fn second_document(&self, span: Span) -> Problem {
        self.problem(self.source.mark(span.start.index()), "a second YAML document begins here")
            .hint("keep one document in the file: remove `---` and what follows")
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        syntax_problem(self.source, self.source.mark(error.marker().index()), error.info())
    }
}

/// A syntax error at `mark`, or the likely reason for it on the same line.
pub(super) fn syntax_problem(source: &Source, mark: Mark, message: &str) -> Problem {
    let line = source.line(mark.line);
    if let Some(column) = unquoted_template(line) {
        return unquoted(source, Mark { line: mark.line, column });
    }
    let problem = Problem::at(source.location(mark), format!("not valid YAML: {message}"));
    if line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') {
        return problem.hint("indent with spaces; YAML does not take tabs");
    }
    if line.contains("{{") {
        return problem.hint("put the whole string that has `{{` in quotes");
    }
    problem
}

/// The column, from 1, of a value that begins with a template's braces and has no quotes.
fn unquoted_template(line: &str) -> Option<usize> {
    let at = [": {{", ": {%", "- {{", "- {%"].iter().filter_map(|start| line.find(start)).min()?;
    let quoted = line[..at].contains(['"', '\'', '#']);
    (!quoted).then(|| line[..at].chars().count() + 3)
}

fn unquoted(source: &Source, mark: Mark) -> Problem {
    let rest = source.rest_of_line(mark).trim_end();
    let quote = if rest.contains('"') { '\'' } else { '"' };
    Problem::at(source.location(mark), format!("`{rest}` has no quotes, so YAML takes its braces for a mapping"))
        .hint(format!("write {quote}{rest}{quote}"))
}
