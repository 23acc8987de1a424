//! A report for a terminal or a CI's log.

use std::fmt::Write as _;

use super::problems::ids;
use super::text::{cut, excerpt, one_line};
use super::{OutcomeKind, area, components, counted, grouped, not_run, summary, took};
use crate::report::duration;
use crate::verify::report::{BootReport, CheckReport, Failure, Outcome, Report};

/// Fewest characters of a statement, however narrow the terminal is.
const STATEMENT: usize = 20;
/// Most characters of a line of what was seen: long enough for a line of a log.
const LINE: usize = 240;

/// How the table looks.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Colours by terminal control sequences.
    pub colour: bool,
    /// Every check has its line; else only those that failed.
    pub verbose: bool,
    /// Characters of a check's line. What was seen may be longer.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, verbose: false, width: 100 }
    }
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn outcome(self, kind: OutcomeKind, text: &str) -> String {
        let code = match kind {
            OutcomeKind::Passed => "32",
            OutcomeKind::Failed => "1;31",
            OutcomeKind::NotRun => "33",
            OutcomeKind::Skipped | OutcomeKind::NotApplicable => "2",
        };
        self.paint(code, text)
    }
}

/// The report as text: the checks by area, what failed, what was not run, the boots, and as its last
/// line how many passed.
pub fn table(report: &Report, style: Style) -> String {
    let table = Table { report, style };
    let parts = [table.areas(), table.failed(), table.not_run(), table.facts(), table.last()];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

struct Table<'a> {
    report: &'a Report,
    style: Style,
}

/// Characters of the columns of the checks' lines.
#[derive(Default)]
struct Columns {
    id: usize,
    statement: usize,
    word: usize,
    time: usize,
}

impl Table<'_> {
    fn areas(&self) -> String {
        let areas = grouped(&self.report.checks, area);
        let names = areas.iter().map(|(name, _)| length(&one_line(name))).max().unwrap_or(0);
        let columns = self.columns();
        let mut out = String::new();
        for (name, checks) in areas {
            let name = format!("{:<names$}", one_line(name));
            let _ = writeln!(out, "{}  {}", self.style.paint("1", &name), self.tally(&checks));
            for check in checks.into_iter().filter(|check| self.has_line(check)) {
                let _ = writeln!(out, "{}", self.line(check, &columns).trim_end());
            }
        }
        out
    }

    fn has_line(&self, check: &CheckReport) -> bool {
        self.style.verbose || OutcomeKind::of(check) == OutcomeKind::Failed
    }

    /// `6 passed, 1 failed`.
    fn tally(&self, checks: &[&CheckReport]) -> String {
        let parts: Vec<String> = counted(checks)
            .into_iter()
            .map(|(kind, number)| self.style.outcome(kind, &format!("{number} {}", kind.word())))
            .collect();
        parts.join(", ")
    }

    /// As wide as what is in them, the statements as the rest allows.
    fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for check in self.report.checks.iter().filter(|check| self.has_line(check)) {
            columns.id = columns.id.max(length(&one_line(&check.id)));
            columns.word = columns.word.max(length(OutcomeKind::of(check).word()));
            columns.time = columns.time.max(length(&took(check)));
        }
        let rest = "  ✗ ".chars().count() + columns.id + 2 + 2 + columns.word + 2 + columns.time;
        columns.statement = self.style.width.saturating_sub(rest).max(STATEMENT);
        columns
    }

    /// `  ✗ GUAC-2  guacd listens …  failed  0.3 s`.
    fn line(&self, check: &CheckReport, columns: &Columns) -> String {
        let Columns { id: id_width, statement: width, word: word_width, time: time_width } = *columns;
        let (id, statement) = (one_line(&check.id), cut(&one_line(&check.statement), width));
        let kind = OutcomeKind::of(check);
        let mark = self.style.outcome(kind, &kind.mark().to_string());
        let word = self.style.outcome(kind, kind.word());
        let gap = " ".repeat(word_width - length(kind.word()));
        format!("  {mark} {id:<id_width$}  {statement:<width$}  {word}{gap}  {:>time_width$}", took(check))
    }

    fn failed(&self) -> String {
        let mut out = String::new();
        for check in &self.report.checks {
            let Outcome::Failed { failures } = &check.outcome else { continue };
            let head = format!("✗ {}: {}", one_line(&check.id), one_line(&check.statement));
            let boot = check.boot.as_ref().map(|boot| format!(" (boot {})", one_line(boot))).unwrap_or_default();
            let _ = writeln!(out, "{}{boot}", self.style.outcome(OutcomeKind::Failed, &head));
            for failure in failures {
                self.failure(&mut out, failure);
            }
        }
        out
    }

    fn failure(&self, out: &mut String, failure: &Failure) {
        let _ = writeln!(out, "    {}", one_line(&failure.probe));
        self.text(out, "expected", &failure.expected);
        self.text(out, "seen", if failure.seen.trim().is_empty() { "nothing" } else { &failure.seen });
        if let Some(look) = &failure.look {
            self.text(out, "look", look);
        }
    }

    /// A label and a text that may have many lines.
    fn text(&self, out: &mut String, label: &str, text: &str) {
        for (index, line) in excerpt(text, LINE).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let label = self.style.paint("2", &format!("{label:<8}"));
            let _ = writeln!(out, "      {label}  {line}");
        }
    }

    fn not_run(&self) -> String {
        let mut out = String::new();
        for (why, checks) in not_run(self.report) {
            let head = format!("! not run: {}", ids(&checks));
            let _ = writeln!(out, "{}", self.style.outcome(OutcomeKind::NotRun, &head));
            self.text(&mut out, "why", why);
        }
        out
    }

    /// Components and boots.
    fn facts(&self) -> String {
        let mut out = String::new();
        if !self.report.components.is_empty() {
            let _ = writeln!(out, "components: {}", component_line(self.report));
        }
        for boot in &self.report.boots {
            let _ = writeln!(out, "{}", boot_line(boot));
            if let Some(failure) = &boot.failure {
                let head = self.style.outcome(OutcomeKind::Failed, "✗");
                let _ = writeln!(out, "  {head} {}", excerpt(failure, LINE).join("\n    "));
            }
        }
        out
    }

    fn last(&self) -> String {
        let report = self.report;
        let code = if report.passed() { "1;32" } else { "1;31" };
        let text = format!("{}: {} ({})", one_line(&report.contract), summary(report), duration(report.seconds));
        format!("{}\n", self.style.paint(code, &text))
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn component_line(report: &Report) -> String {
    let (there, not_there) = components(report);
    let there: Vec<String> = there.iter().map(|component| one_line(&component.name)).collect();
    let not_there: Vec<String> = not_there
        .iter()
        .map(|component| format!("{} ({})", one_line(&component.name), one_line(&component.why)))
        .collect();
    match (there.is_empty(), not_there.is_empty()) {
        (_, true) => there.join(", "),
        (true, false) => format!("without {}", not_there.join(", ")),
        (false, false) => format!("{}; without {}", there.join(", "), not_there.join(", ")),
    }
}

/// `boot bios: BIOS, ConfigDrive (1 min 02 s)`, and below it what came when.
fn boot_line(boot: &BootReport) -> String {
    let times: Vec<String> =
        boot.times.iter().map(|(event, seconds)| format!("{} after {}", one_line(event), duration(*seconds))).collect();
    let times = if times.is_empty() { String::new() } else { format!("\n  {}", times.join(", ")) };
    let (name, description) = (one_line(&boot.name), one_line(&boot.description));
    format!("boot {name}: {description} ({}){times}", duration(boot.seconds))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_failed_is_spelled_out_and_the_rest_counted() {
        insta::assert_snapshot!(table(&sample::report(), Style::default()));
    }

    #[test]
    fn every_check_has_a_line_when_asked() {
        let text = table(&sample::report(), Style { verbose: true, ..Style::default() });
        insta::assert_snapshot!(text);
        let first = text.lines().take_while(|line| !line.is_empty());
        assert_eq!(first.map(|line| line.chars().count()).max(), Some(100));
    }

    #[test]
    fn colours_are_the_only_difference() {
        let report = sample::report();
        let colour = table(&report, Style { colour: true, verbose: true, width: 80 });
        let plain = table(&report, Style { colour: false, verbose: true, width: 80 });
        assert!(colour.contains("\x1b[1;31m✗\x1b[0m GUAC-2") && !plain.contains('\x1b'));
        assert_eq!(super::super::text::clean(&colour), plain);
    }

    #[test]
    fn an_empty_report_and_a_narrow_terminal_are_no_trouble() {
        assert_eq!(table(&sample::empty(), Style::default()), "visa: no check was made (0.0 s)\n");
        let narrow = table(&sample::report(), Style { width: 0, ..Style::default() });
        assert!(narrow.contains("✗ GUAC-2  guacd listens on 12…  failed"), "{narrow}");
    }

    #[test]
    fn a_guest_cannot_write_to_the_terminal() {
        let hostile = sample::hostile("\x1b]0;owned\x07\x1b[2J\rvisa: 98 of 98 checks passed");
        let text = table(&hostile, Style { verbose: true, ..Style::default() });
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}
