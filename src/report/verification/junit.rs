//! A report for a CI: JUnit XML.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::text::{clean, cut_middle, one_line};
use super::{OutcomeKind, area, grouped, level_name, summary};
use crate::error::{Context, Kind, Result};
use crate::verify::contract::Level;
use crate::verify::report::{CheckReport, Failure, Outcome, Report};

/// Most characters of a message, which CIs show in lists; the whole is in the element's text.
const MESSAGE: usize = 300;

/// The report as JUnit XML: a suite for each level, a case for each check. A check that was not run is
/// an error and not skipped, because a CI shows those green.
///
/// # Errors
/// The XML cannot be made.
pub fn junit(report: &Report) -> Result<String> {
    let mut junit = quick_junit::Report::new(clean(&report.contract));
    junit.timestamp = report.started.parse().ok();
    junit.set_time(time(report.seconds));
    for (level, checks) in grouped(&report.checks, |check| check.level) {
        junit.add_test_suite(suite(report, level, &checks));
    }
    if report.checks.is_empty() {
        junit.add_test_suite(nothing(report));
    }
    junit.to_string().context(Kind::Verification, || "writing the report as JUnit XML")
}

fn suite(report: &Report, level: Level, checks: &[&CheckReport]) -> TestSuite {
    let mut suite = TestSuite::new(format!("{}.{}", clean(&report.contract), level_name(level)));
    suite.timestamp = report.started.parse().ok();
    suite.set_time(checks.iter().map(|check| time(check.seconds)).fold(Duration::ZERO, Duration::saturating_add));
    suite.add_properties(properties(report));
    suite.add_test_cases(checks.iter().map(|check| case(report, check)));
    let tails = serial_tails(report, checks);
    if !tails.is_empty() {
        suite.set_system_out(tails);
    }
    suite
}

/// A suite that is red: without one a CI takes a file without cases for a success.
fn nothing(report: &Report) -> TestSuite {
    let mut suite = TestSuite::new(clean(&report.contract));
    suite.add_properties(properties(report));
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(summary(report));
    suite.add_test_case(TestCase::new("checks", status));
    suite
}

fn properties(report: &Report) -> Vec<Property> {
    let image = report.image.display().to_string();
    let mut properties = vec![
        ("image", image.as_str()),
        ("sha256", &report.sha256),
        ("contract", &report.contract),
        ("contract_sha256", &report.contract_sha256),
        ("visabuild", &report.visabuild),
    ];
    properties.extend(report.accelerator.as_deref().map(|accelerator| ("accelerator", accelerator)));
    properties.into_iter().map(|(name, value)| Property::new(name, clean(value))).collect()
}

fn case(report: &Report, check: &CheckReport) -> TestCase {
    let name = format!("{}: {}", one_line(&check.id), one_line(&check.statement));
    let mut case = TestCase::new(name, status(&check.outcome));
    case.set_classname(format!("{}.{}", clean(&report.contract), one_line(area(check))));
    case.set_time(time(check.seconds));
    if let Some(boot) = &check.boot {
        case.add_property(Property::new("boot", one_line(boot)));
    }
    case
}

fn status(outcome: &Outcome) -> TestCaseStatus {
    let (mut status, message, text) = match outcome {
        Outcome::Passed => return TestCaseStatus::success(),
        Outcome::Failed { failures } => {
            let message = failures.first().map(message).unwrap_or_default();
            let texts: Vec<String> = failures.iter().map(failure).collect();
            (TestCaseStatus::non_success(NonSuccessKind::Failure), message, Some(texts.join("\n\n")))
        }
        Outcome::NotRun { why, .. } => {
            let status = TestCaseStatus::non_success(NonSuccessKind::Error);
            (status, format!("not run: {}", cut_middle(&one_line(why), MESSAGE)), Some(clean(why)))
        }
        Outcome::Skipped => (TestCaseStatus::skipped(), "left out by the user".to_owned(), None),
        Outcome::NotApplicable { why } => {
            (TestCaseStatus::skipped(), format!("not applicable: {}", cut_middle(&one_line(why), MESSAGE)), None)
        }
    };
    status.set_message(message);
    if let Some(text) = text {
        status.set_description(text);
    }
    status
}

fn message(failure: &Failure) -> String {
    let text = one_line(&format!("{}: expected {}, seen {}", failure.probe, failure.expected, seen(failure)));
    cut_middle(&text, MESSAGE)
}

fn failure(failure: &Failure) -> String {
    let look = failure.look.as_ref().map(|look| format!("\nlook: {look}")).unwrap_or_default();
    clean(&format!("{}\nexpected: {}\nseen: {}{look}", failure.probe, failure.expected, seen(failure)))
}

fn seen(failure: &Failure) -> &str {
    match failure.seen.trim_end() {
        "" => "nothing",
        seen => seen,
    }
}

/// The ends of the serial consoles of the boots in which something was not as it should be.
fn serial_tails(report: &Report, checks: &[&CheckReport]) -> String {
    let bad = |name: &str| {
        checks
            .iter()
            .filter(|check| matches!(OutcomeKind::of(check), OutcomeKind::Failed | OutcomeKind::NotRun))
            .any(|check| check.boot.as_deref() == Some(name))
    };
    let mut out = String::new();
    for boot in report.boots.iter().filter(|boot| bad(&boot.name)) {
        let failure = boot.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        let tail = boot.serial_tail.join("\n");
        out.push_str(&format!("boot {}{failure}\nserial console:\n{tail}\n\n", boot.name));
    }
    clean(out.trim_end())
}

/// A negative or endless time, which a clock that is set back makes, is none.
fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn every_check_is_a_case() {
        insta::assert_snapshot!(junit(&sample::report()).unwrap());
    }

    #[test]
    fn an_empty_report_is_red() {
        let xml = junit(&sample::empty()).unwrap();
        assert!(xml.contains(r#"tests="1" skipped="0" failures="0" errors="1""#), "{xml}");
        assert!(xml.contains(r#"<error message="no check was made"/>"#), "{xml}");
    }

    /// XML 1.0, production [2]: what may stand in a document at all.
    fn allowed(character: char) -> bool {
        matches!(character, '\t' | '\n' | '\r' | '\x20'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    }

    #[test]
    fn whatever_a_console_holds_the_xml_is_read_back() {
        let every: String =
            ('\0'..='\u{a0}').chain("\u{fffe}\u{ffff}]]> \x1bP never ended, but kept".chars()).collect();
        let xml = junit(&sample::hostile(&every)).unwrap();
        assert!(xml.chars().all(allowed));
        // Nothing gets lost behind a control sequence that has no end.
        assert!(xml.contains("␛P never ended, but kept"), "{xml}");
        let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert_eq!((read.tests, read.failures, read.errors, read.skipped), (5, 1, 1, 2));
    }

    #[test]
    fn markup_in_a_text_stays_text() {
        let xml = junit(&sample::hostile("\"/><script>alert('x')</script>&amp;")).unwrap();
        assert!(!xml.contains("<script"), "{xml}");
        let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert!(read.test_suites[0].test_cases[0].name.as_str().contains("<script>alert('x')</script>&amp;"));
    }
}
