//! What a verification found: for a terminal, for programs, for a CI, for a browser.
//!
//! Whatever a guest wrote is hostile here. Only [`json()`] keeps every byte of it; all others show it
//! cleaned (`text::clean`) and escaped.

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use problems::problems;
pub use table::{Style, table};

use crate::report::duration;
use crate::verify::contract::Level;
use crate::verify::report::{CheckReport, Component, Outcome, Report};

mod html;
mod json;
mod junit;
mod page;
mod problems;
#[cfg(test)]
mod sample;
mod table;
mod text;

/// What came out of a check, without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutcomeKind {
    Passed,
    Failed,
    NotRun,
    Skipped,
    NotApplicable,
}

impl OutcomeKind {
    /// In the order in which they are told.
    const ALL: [Self; 5] = [Self::Passed, Self::Failed, Self::NotRun, Self::Skipped, Self::NotApplicable];

    fn of(check: &CheckReport) -> Self {
        match check.outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::NotRun { .. } => Self::NotRun,
            Outcome::Skipped => Self::Skipped,
            Outcome::NotApplicable { .. } => Self::NotApplicable,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not run",
            Self::Skipped => "skipped",
            Self::NotApplicable => "not applicable",
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Passed => '✓',
            Self::Failed => '✗',
            Self::NotRun => '!',
            Self::Skipped | Self::NotApplicable => '-',
        }
    }
}

/// How many of `checks` came out how; only what there is.
fn counted(checks: &[&CheckReport]) -> Vec<(OutcomeKind, usize)> {
    let number = |result| checks.iter().filter(|check| OutcomeKind::of(check) == result).count();
    OutcomeKind::ALL.into_iter().map(|result| (result, number(result))).filter(|(_, number)| *number > 0).collect()
}

/// What a check's id begins with: `GUAC` of `GUAC-2`.
fn area(check: &CheckReport) -> &str {
    check.id.rsplit_once('-').map_or(check.id.as_str(), |(area, _)| area)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Static => "static",
        Level::Boot => "boot",
        Level::Net => "net",
        Level::Life => "life",
    }
}

/// The checks with the same `key` together, in the order in which the keys first come.
fn grouped<'a, K: PartialEq>(
    checks: impl IntoIterator<Item = &'a CheckReport>,
    key: impl Fn(&'a CheckReport) -> K,
) -> Vec<(K, Vec<&'a CheckReport>)> {
    let mut groups: Vec<(K, Vec<&CheckReport>)> = Vec::new();
    for check in checks {
        let key = key(check);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(check),
            None => groups.push((key, vec![check])),
        }
    }
    groups
}

/// The checks that were not run, by the reason.
fn not_run(report: &Report) -> Vec<(&str, Vec<&CheckReport>)> {
    let checks = report.checks.iter().filter(|check| OutcomeKind::of(check) == OutcomeKind::NotRun);
    grouped(checks, |check| why(check).unwrap_or_default())
}

/// Why nothing was found out.
fn why(check: &CheckReport) -> Option<&str> {
    match &check.outcome {
        Outcome::NotRun { why, .. } | Outcome::NotApplicable { why } => Some(why),
        _ => None,
    }
}

/// How long the check took; empty where none was made.
fn took(check: &CheckReport) -> String {
    match check.outcome {
        Outcome::Passed | Outcome::Failed { .. } => duration(check.seconds),
        _ => String::new(),
    }
}

/// The components that the image has, and those that it has not.
fn components(report: &Report) -> (Vec<&Component>, Vec<&Component>) {
    report.components.iter().partition(|component| component.applies)
}

/// `passed`, `failed`, or `incomplete`: nothing is known to be wrong, but not all was looked at.
fn verdict(report: &Report) -> &'static str {
    if report.passed() {
        "passed"
    } else if report.counts().failed > 0 {
        "failed"
    } else {
        "incomplete"
    }
}

/// `96 of 98 checks passed, 1 failed, 1 not run`; what was not to be shown does not count to the 98.
fn summary(report: &Report) -> String {
    let counts = report.counts();
    let all = counts.passed + counts.failed + counts.not_run;
    let mut text = match all {
        0 => "no check was made".to_owned(),
        1 => format!("{} of 1 check passed", counts.passed),
        _ => format!("{} of {all} checks passed", counts.passed),
    };
    for (result, number) in counted(&report.checks.iter().collect::<Vec<_>>()) {
        if result != OutcomeKind::Passed {
            text.push_str(&format!(", {number} {}", result.word()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_was_to_be_shown() {
        assert_eq!(
            summary(&sample::report()),
            "5 of 9 checks passed, 2 failed, 2 not run, 1 skipped, 2 not applicable"
        );
        let mut one = sample::report();
        one.checks.truncate(1);
        assert_eq!(summary(&one), "1 of 1 check passed");
        assert_eq!(summary(&sample::empty()), "no check was made");
    }

    #[test]
    fn not_run_alone_is_no_failure_and_no_success() {
        let mut report = sample::report();
        assert_eq!(verdict(&report), "failed");
        report.checks.retain(|check| OutcomeKind::of(check) != OutcomeKind::Failed);
        assert_eq!(verdict(&report), "incomplete");
        report.checks.retain(|check| OutcomeKind::of(check) != OutcomeKind::NotRun);
        assert_eq!(verdict(&report), "passed");
        assert_eq!(verdict(&sample::empty()), "incomplete");
    }

    #[test]
    fn an_area_is_what_stands_before_the_number() {
        let mut check = sample::report().checks.remove(0);
        for (id, expected) in [("GUAC-2", "GUAC"), ("X-Y-3", "X-Y"), ("LONE", "LONE"), ("", "")] {
            check.id = id.into();
            assert_eq!(area(&check), expected);
        }
    }
}
