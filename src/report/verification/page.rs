//! What the HTML page shows: the report's texts, cleaned, in the order of the page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::text::{clean, one_line};
use super::{OutcomeKind, area, components, counted, grouped, level_name, not_run, summary, took, verdict, why};
use crate::report::duration;
use crate::verify::report::{BootReport, CheckReport, Component, Failure, Outcome, Report};

/// The variables of the template.
#[derive(Serialize)]
pub(super) struct Page {
    contract: String,
    image: String,
    verdict: &'static str,
    summary: String,
    counts: Vec<Count>,
    facts: Vec<(&'static str, String)>,
    pictures: Vec<Picture>,
    there: Vec<Part>,
    not_there: Vec<Part>,
    boots: Vec<Boot>,
    failed: Vec<Check>,
    not_run: Vec<Reason>,
    areas: Vec<Area>,
}

#[derive(Serialize)]
struct Count {
    class: &'static str,
    word: &'static str,
    number: usize,
}

#[derive(Serialize)]
struct Picture {
    title: String,
    base64: String,
}

#[derive(Serialize)]
struct Part {
    name: String,
    why: String,
}

#[derive(Serialize)]
struct Boot {
    name: String,
    description: String,
    failure: Option<String>,
    time: String,
    times: Vec<Bar>,
    serial: String,
}

#[derive(Serialize)]
struct Bar {
    event: String,
    time: String,
    percent: String,
}

#[derive(Serialize)]
struct Check {
    id: String,
    statement: String,
    level: &'static str,
    boot: Option<String>,
    class: &'static str,
    word: &'static str,
    mark: char,
    why: Option<String>,
    time: String,
    failures: Vec<Probe>,
    /// Number among the failed checks, from 1: an anchor must not be made of a guest's text.
    anchor: Option<usize>,
}

#[derive(Serialize)]
struct Probe {
    probe: String,
    expected: String,
    seen: String,
    look: Option<String>,
}

#[derive(Serialize)]
struct Reason {
    why: String,
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Area {
    name: String,
    counts: Vec<Count>,
    checks: Vec<Check>,
}

/// The page of a report.
pub(super) fn page(report: &Report, pictures: &[(String, Vec<u8>)]) -> Page {
    let all: Vec<&CheckReport> = report.checks.iter().collect();
    let (there, not_there) = components(report);
    let failed = all.iter().filter(|check| OutcomeKind::of(check) == OutcomeKind::Failed);
    Page {
        contract: one_line(&report.contract),
        image: report.image.file_name().map(|name| one_line(&name.to_string_lossy())).unwrap_or_default(),
        verdict: verdict(report),
        summary: summary(report),
        counts: counts(&all),
        facts: facts(report),
        pictures: pictures.iter().map(picture).collect(),
        there: there.into_iter().map(part).collect(),
        not_there: not_there.into_iter().map(part).collect(),
        boots: report.boots.iter().map(|boot| self::boot(boot, longest(report))).collect(),
        failed: failed.map(|check| self::check(report, check)).collect(),
        not_run: not_run(report).into_iter().map(reason).collect(),
        areas: grouped(&report.checks, area).into_iter().map(|group| area_of(report, group)).collect(),
    }
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Image", report.image.display().to_string()),
        ("SHA-256", report.sha256.clone()),
        ("Contract", format!("{}, SHA-256 {}", report.contract, report.contract_sha256)),
        ("Started", report.started.clone()),
        ("Took", duration(report.seconds)),
        ("Accelerator", report.accelerator.clone().unwrap_or_else(|| "none, nothing was booted".to_owned())),
        ("visabuild", report.visabuild.clone()),
    ];
    for (_, text) in &mut facts {
        *text = one_line(text);
    }
    facts
}

/// A class of the style sheet.
fn class(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Passed => "passed",
        OutcomeKind::Failed => "failed",
        OutcomeKind::NotRun => "not-run",
        OutcomeKind::Skipped => "skipped",
        OutcomeKind::NotApplicable => "not-applicable",
    }
}

fn counts(checks: &[&CheckReport]) -> Vec<Count> {
    let count = |(kind, number)| Count { class: class(kind), word: OutcomeKind::word(kind), number };
    counted(checks).into_iter().map(count).collect()
}

fn picture((title, png): &(String, Vec<u8>)) -> Picture {
    Picture { title: one_line(title), base64: STANDARD.encode(png) }
}

fn part(component: &Component) -> Part {
    Part { name: one_line(&component.name), why: one_line(&component.why) }
}

/// The longest time of all boots, which all bars are measured by.
fn longest(report: &Report) -> f64 {
    let times = report.boots.iter().flat_map(|boot| &boot.times).map(|(_, seconds)| *seconds);
    times.filter(|seconds| seconds.is_finite()).fold(0.0, f64::max)
}

fn boot(boot: &BootReport, longest: f64) -> Boot {
    let bar = |(event, seconds): &(String, f64)| {
        let part = seconds / longest * 100.0;
        let percent = if part.is_finite() { part.clamp(0.0, 100.0) } else { 0.0 };
        Bar { event: one_line(event), time: duration(*seconds), percent: format!("{percent:.1}") }
    };
    Boot {
        name: one_line(&boot.name),
        description: one_line(&boot.description),
        failure: boot.failure.as_deref().map(clean),
        time: duration(boot.seconds),
        times: boot.times.iter().map(bar).collect(),
        serial: clean(&boot.serial_tail.join("\n")),
    }
}

fn check(report: &Report, check: &CheckReport) -> Check {
    let kind = OutcomeKind::of(check);
    let failures = if let Outcome::Failed { failures } = &check.outcome { failures.as_slice() } else { &[] };
    let mut failed = report.checks.iter().filter(|other| OutcomeKind::of(other) == OutcomeKind::Failed);
    Check {
        id: one_line(&check.id),
        statement: one_line(&check.statement),
        level: level_name(check.level),
        boot: check.boot.as_deref().map(one_line),
        class: class(kind),
        word: kind.word(),
        mark: kind.mark(),
        why: why(check).map(clean),
        time: took(check),
        failures: failures.iter().map(probe).collect(),
        anchor: failed.position(|other| std::ptr::eq(other, check)).map(|position| position + 1),
    }
}

fn probe(failure: &Failure) -> Probe {
    let text = |text: &str| clean(text.trim_end());
    Probe {
        probe: one_line(&failure.probe),
        expected: text(&failure.expected),
        seen: text(&failure.seen),
        look: failure.look.as_deref().map(text),
    }
}

fn reason((why, checks): (&str, Vec<&CheckReport>)) -> Reason {
    Reason { why: clean(why), ids: checks.iter().map(|check| one_line(&check.id)).collect() }
}

fn area_of(report: &Report, (name, checks): (&str, Vec<&CheckReport>)) -> Area {
    Area {
        name: one_line(name),
        counts: counts(&checks),
        checks: checks.into_iter().map(|check| self::check(report, check)).collect(),
    }
}
