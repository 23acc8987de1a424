//! Errors for people and for programs.

use std::fmt::Write as _;
use std::fs;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use serde_json::{Value, json};

use crate::error::{Error, Location, Problem};

/// The error as text: the sentence, its causes, each problem with its place in the source, hints.
/// `snippets` shows the source lines (for a terminal); without it every problem is one line.
pub fn render(error: &Error, snippets: bool) -> String {
    let mut out = String::new();
    if error.problem_list().is_empty() {
        let chain = error.chain();
        let _ = writeln!(out, "error: {}", chain[0]);
        for cause in &chain[1..] {
            let _ = writeln!(out, "  because: {}", indent(cause));
        }
    }
    for problem in error.problem_list() {
        problem_text(&mut out, problem, snippets);
    }
    for hint in error.hints() {
        let _ = writeln!(out, "  hint: {}", indent(hint));
    }
    out
}

/// The error as one JSON object, the last line of `--json`.
pub fn render_json(error: &Error) -> Value {
    let problems: Vec<Value> = error
        .problem_list()
        .iter()
        .map(|problem| {
            let place = problem.location.as_ref();
            json!({
                "file": place.map(|place| place.file.display().to_string()),
                "line": place.map(|place| place.line),
                "column": place.map(|place| place.column),
                "message": problem.message,
                "hint": problem.hint,
            })
        })
        .collect();
    json!({
        "event": "error",
        "exit_code": error.kind().exit_code(),
        "message": error.chain(),
        "problems": problems,
        "hints": error.hints(),
    })
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

fn problem_text(out: &mut String, problem: &Problem, snippets: bool) {
    let snippet = if snippets { problem.location.as_ref().and_then(|place| snippet(place, problem)) } else { None };
    match snippet {
        Some(snippet) => out.push_str(&snippet),
        None => {
            let _ = writeln!(out, "error: {problem}");
            if let Some(hint) = &problem.hint {
                let _ = writeln!(out, "  hint: {}", indent(hint));
            }
        }
    }
}

/// The problem drawn under its source line; none if the file cannot be read any more.
fn snippet(place: &Location, problem: &Problem) -> Option<String> {
    let source = fs::read_to_string(&place.file).ok()?;
    let start = offset(&source, place)?;
    let label = LabeledSpan::new(None, start, word_length(&source[start..]));
    let mut diagnostic = MietteDiagnostic::new(&problem.message).with_severity(Severity::Error).with_label(label);
    if let Some(hint) = &problem.hint {
        diagnostic = diagnostic.with_help(hint);
    }
    let named = NamedSource::new(place.file.display().to_string(), source);
    let report = Report::new(diagnostic).with_source_code(named);
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_context_lines(1);
    handler.render_report(&mut out, report.as_ref()).ok()?;
    Some(out)
}

/// Byte offset of a place in its file.
fn offset(source: &str, place: &Location) -> Option<usize> {
    let line_start = if place.line <= 1 { 0 } else { source.match_indices('\n').nth(place.line - 2)?.0 + 1 };
    let line = source[line_start..].lines().next().unwrap_or("");
    let column = line.char_indices().nth(place.column.saturating_sub(1)).map_or(line.len(), |(index, _)| index);
    Some(line_start + column)
}

/// Bytes of the word that begins `text`, at least one where there is any.
fn word_length(text: &str) -> usize {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ']' | '}')).unwrap_or(text.len());
    if end == 0 { text.chars().next().map_or(0, char::len_utf8) } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_failure_tells_causes_and_hints() {
        let error = Error::build("cannot seal `x`").because("line one\nline two").hint("try again");
        assert_eq!(
            render(&error, true),
            "error: cannot seal `x`\n  because: line one\n    line two\n  hint: try again\n"
        );
    }

    #[test]
    fn problems_are_one_line_each_without_snippets() {
        let place = Location { file: "a.yml".into(), line: 2, column: 3 };
        let error = Error::problems(
            crate::error::Kind::Usage,
            vec![Problem::at(place, "unknown key `x`").hint("did you mean `y`?"), Problem::new("other")],
        );
        assert_eq!(
            render(&error, false),
            "error: a.yml:2:3: unknown key `x`\n  hint: did you mean `y`?\nerror: other\n"
        );
        assert_eq!(render_json(&error)["problems"][0]["column"], 3);
    }

    #[test]
    fn a_snippet_points_at_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.yml");
        fs::write(&file, "packer:\n  buildrs: []\n").unwrap();
        let place = Location { file, line: 2, column: 3 };
        let text = snippet(&place, &Problem::new("unknown key")).unwrap();
        assert!(text.contains("buildrs: []"), "{text}");
        assert!(text.contains("m.yml:2:3"), "{text}");
    }

    #[test]
    fn a_place_outside_the_file_has_no_offset_or_its_end() {
        let place = |line, column| Location { file: "x".into(), line, column };
        assert_eq!(offset("a\nbc", &place(2, 2)), Some(3));
        assert_eq!(offset("a\nbc", &place(2, 9)), Some(4));
        assert_eq!(offset("a\nbc", &place(5, 1)), None);
    }
}
