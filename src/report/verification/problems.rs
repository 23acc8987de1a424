//! What was found wrong, as an error.

use super::text::{cut, cut_middle, one_line};
use super::{not_run, summary};
use crate::error::{Error, Kind, Problem};
use crate::verify::report::{CheckReport, Failure, Outcome, Report};

/// Most characters of what a probe saw in an error: it is a hint, the report has the whole.
const SEEN: usize = 200;
/// Most ids that are named for one reason.
const IDS: usize = 12;

/// The error of a report that did not pass: one problem a failed check, and one a reason for which
/// checks were not run. Its kind is [`Kind::Verification`].
pub fn problems(report: &Report) -> Error {
    let mut problems: Vec<Problem> = report.checks.iter().filter_map(failed).collect();
    problems.extend(not_run(report).into_iter().map(|(why, checks)| missing(why, &checks)));
    if problems.is_empty() {
        return Error::new(Kind::Verification, summary(report));
    }
    Error::problems(Kind::Verification, problems)
}

fn failed(check: &CheckReport) -> Option<Problem> {
    let Outcome::Failed { failures } = &check.outcome else { return None };
    let mut message = format!("{}: {}", one_line(&check.id), one_line(&check.statement));
    if let Some(first) = failures.first() {
        message.push_str(&format!("; {}", seen(first)));
    }
    match failures.len() {
        0 | 1 => {}
        2 => message.push_str(" (and 1 more)"),
        number => message.push_str(&format!(" (and {} more)", number - 1)),
    }
    let look = looks(failures);
    let problem = Problem::new(message);
    Some(if look.is_empty() { problem } else { problem.hint(look.join("; ")) })
}

fn seen(failure: &Failure) -> String {
    let (probe, seen) = (one_line(&failure.probe), one_line(&failure.seen));
    if seen.is_empty() {
        format!("{probe}: seen nothing")
    } else {
        format!("{probe}: seen {}", cut_middle(&seen, SEEN))
    }
}

/// Where to look, each place once.
fn looks(failures: &[Failure]) -> Vec<String> {
    let mut looks = Vec::new();
    for look in failures.iter().filter_map(|failure| failure.look.as_deref()) {
        let look = cut(&one_line(look), SEEN);
        if !looks.contains(&look) {
            looks.push(look);
        }
    }
    looks
}

fn missing(why: &str, checks: &[&CheckReport]) -> Problem {
    Problem::new(format!("not run: {}: {}", ids(checks), cut_middle(&one_line(why), SEEN)))
}

/// `NET-1, NET-2`; of many the first, and how many more.
pub(super) fn ids(checks: &[&CheckReport]) -> String {
    let mut ids: Vec<String> = checks.iter().take(IDS).map(|check| one_line(&check.id)).collect();
    if checks.len() > IDS {
        ids.push(format!("and {} more", checks.len() - IDS));
    }
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::report::render;

    #[test]
    fn every_failed_check_is_a_problem_with_where_to_look() {
        let error = problems(&sample::report());
        assert_eq!(error.kind().exit_code(), 5);
        insta::assert_snapshot!(render(&error, false));
    }

    #[test]
    fn a_flood_is_cut_and_steers_no_terminal() {
        let mut report = sample::report();
        report.checks.truncate(1);
        let failure = Failure {
            probe: "journal".into(),
            expected: "no crash".into(),
            seen: format!("first\n{}\x1b[2J\x07last", "x\n".repeat(50_000)),
            look: None,
        };
        report.checks[0].outcome = Outcome::Failed { failures: vec![failure] };
        let text = render(&problems(&report), false);
        assert!(text.len() < 600 && text.lines().count() == 1, "{text}");
        assert!(text.contains("seen first x") && text.contains("␇last") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn many_ids_are_counted_and_an_empty_report_is_told() {
        let report = sample::report();
        let check = &report.checks[0];
        assert!(ids(&[check; 14]).ends_with(", and 2 more"));
        assert_eq!(render(&problems(&sample::empty()), true), "error: no check was made\n");
    }
}
