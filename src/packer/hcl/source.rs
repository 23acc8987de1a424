//! HCL files, parsed, and where everything in them is.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hcl_edit::Span;
use hcl_edit::structure::Body;

use crate::error::{Location, Problem};

/// A file's name and text.
#[derive(Debug, Clone)]
pub(in crate::packer) struct Source {
    /// As the user would name it.
    pub(in crate::packer) file: PathBuf,
    pub(in crate::packer) text: String,
    /// Where each line begins, bytes, once a place was asked for.
    lines: OnceCell<Vec<usize>>,
}

impl Source {
    pub(in crate::packer) fn new(file: PathBuf, text: String) -> Self {
        Self { file, text, lines: OnceCell::new() }
    }

    /// The place of a byte.
    pub(super) fn place(&self, at: usize) -> Location {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let ends = || self.text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = self.lines.get_or_init(|| std::iter::once(0).chain(ends()).collect());
        let line = lines.partition_point(|begin| *begin <= before.len());
        let begin = line.checked_sub(1).and_then(|line| lines.get(line)).copied().unwrap_or_default();
        let column = before.get(begin..).unwrap_or_default().chars().count() + 1;
        Location { file: self.file.clone(), line, column }
    }

    /// The place of a part of the syntax tree.
    pub(super) fn place_of(&self, node: &impl Span) -> Location {
        self.place(self.range(node).start)
    }

    /// What is written for a part of the syntax tree, where it is short and on one line.
    pub(super) fn shown(&self, node: &impl Span) -> Option<String> {
        let text = self.text.get(self.range(node))?;
        (text.len() <= 90 && !text.contains('\n')).then(|| text.to_owned())
    }

    fn range(&self, node: &impl Span) -> Range<usize> {
        node.span().unwrap_or_default()
    }

    /// Parses the file.
    pub(super) fn body(&self) -> Result<Body, Problem> {
        hcl_edit::parser::parse_body(&self.text).map_err(|error| syntax_problem(&self.file, &error, "HCL"))
    }
}

/// What the parser says, at its place.
pub(super) fn syntax_problem(file: &Path, error: &hcl_edit::parser::Error, what: &str) -> Problem {
    let at = error.location();
    let place = Location { file: file.to_owned(), line: at.line().max(1), column: at.column().max(1) };
    Problem::at(place, format!("{what}: {}", error.message()))
}

/// The lines of the comments in the white space before something.
pub(super) fn comments(before: Option<&hcl_edit::RawString>) -> Vec<String> {
    let text: &str = before.map_or("", |before| before);
    // A comment that an empty line parts from what follows is about something else.
    let last = text.rsplit("\n\n").find(|part| !part.trim().is_empty()).unwrap_or_default();
    let lines = last.lines().map(str::trim).filter(|line| !line.is_empty());
    let strip = |line: &str| {
        let line = line.trim_start_matches(['#', '/', '*']).trim_end_matches("*/");
        line.trim().to_owned()
    };
    lines.map(strip).filter(|line| !line.is_empty()).collect()
}
