//! A release note of one image as Markdown (CommonMark, with GitHub's tables): what it is, what is not as in the one
//! before, how to check and publish it.

use std::fmt::Write as _;

use super::size;
use crate::changes::{Changes, PackageChanges, Present, Replaced};
use crate::image::record::Record;
use crate::inventory::Ecosystem;
use crate::plan::{Detail, Difference, How, PartChange, PartKind, counted};
use crate::verify::report::{Outcome, Report};

/// Most lines of one list that are shown.
const LINES: usize = 200;

/// Longest value that is shown, characters.
const SHORT: usize = 60;

/// The note of the image that `record` is about; `report` is the last verification of this very file.
// Writing to a String cannot fail, so the results of `writeln!` are not looked at.
pub fn release_note(record: &Record, report: Option<&Report>) -> String {
    let mut out = format!("# {} of {}\n", escaped(&record.template), escaped(&record.created));
    let description = record.description.trim();
    if !description.is_empty() {
        let _ = writeln!(out, "\n{}", escaped(description));
    }
    warnings(&mut out, record);
    facts(&mut out, record);
    contract(&mut out, report);
    match &record.changes {
        Some(changes) => changed(&mut out, changes),
        None => out.push_str("\n## Changes\n\nThere was no image before, or nothing is known of it.\n"),
    }
    commands(&mut out, record);
    out
}

fn warnings(out: &mut String, record: &Record) {
    let end_of_life = record.end_of_life.then_some("Content of this image is past its end of life.");
    let all: Vec<&str> = end_of_life.into_iter().chain(record.warnings.iter().map(String::as_str)).collect();
    let lines: Vec<String> = all.iter().map(|text| format!("> **Warning:** {}\n", escaped(text))).collect();
    if !lines.is_empty() {
        let _ = write!(out, "\n{}", lines.join(">\n"));
    }
}

fn facts(out: &mut String, record: &Record) {
    let image = &record.image;
    let seen = image.virtual_size.map(|bytes| format!(", {} as a disk", size(bytes))).unwrap_or_default();
    let format = if image.format.is_empty() { String::new() } else { format!("{}, ", image.format) };
    let mut rows = vec![("File", format!("{} ({format}{}{seen})", code(&image.file), size(image.size)))];
    if let Some(os) = &record.os {
        rows.push(("System", escaped(format!("{} {}", os.id, os.version).trim())));
    }
    rows.push(("Finished", escaped(&record.created)));
    let commit = record.commit.as_ref().map(|commit| format!(", commit {}", code(commit))).unwrap_or_default();
    rows.push(("Made by", format!("visabuild {}{commit}", escaped(&record.visabuild))));
    rows.push(("SHA-256", code(&image.sha256)));
    rows.push(("SHA-512", code(&image.sha512)));
    let (inventory, _) = record.installed();
    let count = |kind: Ecosystem| {
        let count = inventory.counted().filter(|(of, _)| *of == kind).count();
        (count > 0).then(|| counted(count, kind.noun()))
    };
    let counts: Vec<String> = Ecosystem::ALL.into_iter().filter_map(count).collect();
    if !counts.is_empty() {
        rows.push(("Contains", counts.join(", ")));
    }
    out.push_str("\n| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {value} |");
    }
}

fn contract(out: &mut String, report: Option<&Report>) {
    out.push_str("\n## Verification\n\n");
    let Some(report) = report else {
        out.push_str("This file was not verified.\n");
        return;
    };
    let verdict = if report.passed() { "kept" } else { "not kept" };
    let started = escaped(&report.started);
    let _ = writeln!(out, "The contract is {verdict}: {} ({started}).", escaped(&report.summary()));
    let failed = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed { .. }));
    let lines: Vec<String> =
        failed.map(|check| format!("- failed: {} {}", code(&check.id), escaped(&check.statement))).collect();
    list(out, &lines);
}

fn changed(out: &mut String, changes: &Changes) {
    let previous = &changes.previous;
    let commit = previous.commit.as_ref().map(|commit| format!(", commit {}", code(commit))).unwrap_or_default();
    let _ = writeln!(
        out,
        "\n## Changes since {}\n\nThe image before: SHA-256 {}, visabuild {}{commit}.",
        escaped(&previous.created),
        code(&previous.sha256),
        escaped(&previous.visabuild)
    );
    out.push_str("\n### Templates\n\n");
    match &changes.inputs {
        None => out.push_str("It is not known what the image before was made of.\n"),
        Some(inputs) if inputs.is_empty() => out.push_str("Nothing was asked for otherwise.\n"),
        Some(inputs) => list_of(out, &asked(inputs)),
    }
    packages(out, &changes.packages);
}

/// What was asked for otherwise, a line each.
fn asked(inputs: &Difference) -> Vec<String> {
    let mut lines: Vec<String> =
        inputs.parent.iter().map(|parent| format!("- the parent {} is another one", code(parent))).collect();
    lines.extend(inputs.parts.iter().map(part));
    lines.extend(inputs.secrets.iter().map(|name| format!("- the secret {} is another one", code(name))));
    lines.extend(inputs.settings.iter().filter_map(detail).map(|text| format!("- a setting of the image: {text}")));
    lines
}

fn part(change: &PartChange) -> String {
    let what = match change.kind {
        PartKind::Base => "the base disk".to_owned(),
        PartKind::Disk => "disk or variables".to_owned(),
        PartKind::Step => format!("step {}", code(&change.label)),
        PartKind::Seal => "the seal".to_owned(),
        PartKind::SealStep => format!("step {} of the seal", code(&change.label)),
    };
    let how = match change.how {
        How::Added => "new",
        How::Removed => "removed",
        How::Moved => "moved",
        How::Changed => "changed",
    };
    let details: Vec<String> = change.details.iter().filter_map(detail).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
    format!("- {how}: {what}{details}")
}

fn detail(detail: &Detail) -> Option<String> {
    let is_short = |value: &Option<String>| {
        value.as_ref().is_none_or(|text| text.chars().count() <= SHORT && !text.contains('\n'))
    };
    let shown = |value: &Option<String>| value.as_ref().map_or_else(|| "unset".to_owned(), |text| code(text));
    match detail {
        Detail::Value { name, old, new } if is_short(old) && is_short(new) => {
            Some(format!("{}: {} → {}", escaped(name), shown(old), shown(new)))
        }
        Detail::Value { name, .. } => Some(escaped(name)),
        Detail::File(file) => Some(format!("file {}", code(&file.name))),
        Detail::Tool(_) => Some("a script of visabuild itself".to_owned()),
    }
}

fn packages(out: &mut String, changes: &PackageChanges) {
    out.push_str("\n### Packages\n\n");
    if changes.is_empty() {
        out.push_str("No package is another one.\n");
    }
    let tables = [("Downgraded", &changes.downgraded), ("Upgraded", &changes.upgraded), ("Changed", &changes.changed)];
    for (title, list) in tables {
        table(out, title, list);
    }
    for (title, list) in [("Added", &changes.added), ("Removed", &changes.removed)] {
        if !list.is_empty() {
            let _ = writeln!(out, "{title}: {}\n", counted(list.len(), "package"));
            list_of(out, &list.iter().map(present).collect::<Vec<_>>());
            out.push('\n');
        }
    }
    for kind in &changes.not_compared {
        let _ = writeln!(out, "Not compared: {}, of which one of the manifests has no whole list.", kind.title());
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

fn table(out: &mut String, title: &str, list: &[Replaced]) {
    if list.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}: {}\n\n| Package | Before | Now |\n|---|---|---|", counted(list.len(), "package"));
    for one in list.iter().take(LINES) {
        let name = named(one.ecosystem, &one.name, one.path.as_deref());
        let _ = writeln!(out, "| {name} | {} | {} |", escaped(&one.old), escaped(&one.new));
    }
    more(out, list.len());
    out.push('\n');
}

fn present(one: &Present) -> String {
    format!("- {} {}", named(one.ecosystem, &one.name, one.path.as_deref()), escaped(&one.version))
}

fn named(ecosystem: Ecosystem, name: &str, path: Option<&str>) -> String {
    let kind = match ecosystem {
        Ecosystem::Debian | Ecosystem::Rpm => "",
        Ecosystem::Python => "Python: ",
        Ecosystem::Npm => "npm: ",
    };
    let path = path.map(|path| format!(" in {}", code(path))).unwrap_or_default();
    format!("{kind}{}{path}", escaped(name))
}

/// A list after a paragraph.
fn list(out: &mut String, lines: &[String]) {
    if !lines.is_empty() {
        out.push('\n');
        list_of(out, lines);
    }
}

fn list_of(out: &mut String, lines: &[String]) {
    for line in lines.iter().take(LINES) {
        let _ = writeln!(out, "{line}");
    }
    more(out, lines.len());
}

fn more(out: &mut String, count: usize) {
    if count > LINES {
        let _ = writeln!(out, "\n… and {} more, which the manifest has.", count - LINES);
    }
}

fn commands(out: &mut String, record: &Record) {
    let word = |text: &str| shlex::try_quote(text).map_or_else(|_| "IMAGE".to_owned(), std::borrow::Cow::into_owned);
    let file = word(&record.image.file);
    let sum = word(&format!("{}  {}", record.image.sha256, record.image.file));
    let _ = writeln!(
        out,
        "\n## Check and publish\n\n```sh\nprintf '%s\\n' {sum} | sha256sum --check\nvisabuild verify {file}\n\
         visabuild upload {file}\n```"
    );
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => shown.push('\n'),
            char if char.is_control() => shown.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' => shown.extend(['\\', char]),
            char => shown.push(char),
        }
    }
    shown
}

/// Text as code in one line; a backtick cannot be escaped there.
fn code(text: &str) -> String {
    let one_line: String = text.chars().map(|char| if char.is_control() || char == '`' { ' ' } else { char }).collect();
    format!("`{}`", one_line.trim().replace('|', "\\|"))
}

#[cfg(test)]
mod tests;
