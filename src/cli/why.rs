//! `visabuild why`.

use std::fmt::Write as _;

use serde_json::json;

use super::args::WhyArgs;
use super::look::{estimate, explained};
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, print};
use crate::error::Result;
use crate::image::manifest::rfc3339;
use crate::pipeline::Explanation;
use crate::plan::{Detail, FileChange, How, PartChange, PartKind, unified};

/// Most lines of a text's diff that are shown.
const LINES: usize = 40;
/// Longest value that is shown in the line, characters.
const SHORT: usize = 100;

/// Prints what a build would do with each template and why.
pub(super) async fn run(args: WhyArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let mut prepared = Prepared::new(&args.project, environment, true, signals.cancel()).await?;
    let explained = explained(&mut prepared, &args.look, environment)?;
    let text = if args.project.json {
        format!("{:#}\n", json!({ "version": 1, "templates": explained }))
    } else {
        explained.iter().fold(String::new(), |text, one| text + &block(one))
    };
    print(&text);
    Ok(())
}

// Writing to a String cannot fail, so the results of `writeln!` are not looked at.
fn block(explanation: &Explanation) -> String {
    let mut out = format!("{}: {}\n", explanation.state.name, explanation.headline);
    if explanation.state.is_unchanged_as_known() {
        for step in explanation.post_processors.iter().filter(|step| !step.is_done) {
            let _ = writeln!(out, "  to run: post-processor {} ({})", step.summary, step.place);
        }
        return out;
    }
    if let Some(built) = &explanation.compared_with {
        let engine = if built.engine.is_empty() { String::new() } else { format!(", by the engine {}", built.engine) };
        let (time, visabuild) = (rfc3339(built.created), &built.visabuild);
        let _ = writeln!(out, "  compared with: the image of {time}{engine}, visabuild {visabuild}");
    }
    if let Some(difference) = &explanation.difference {
        if let Some(parent) = &difference.parent {
            let _ = writeln!(out, "  changed: its parent `{parent}`");
        }
        for part in &difference.parts {
            part_text(&mut out, part);
        }
        for secret in &difference.secrets {
            let _ = writeln!(out, "  changed: the secret `{secret}`");
        }
        for setting in &difference.settings {
            let _ = writeln!(out, "  changed: a setting of the image");
            detail_text(&mut out, setting);
        }
    }
    if !explanation.kept.is_empty() {
        let _ = writeln!(out, "  kept: {}", explanation.kept.join(", "));
    }
    let _ = writeln!(out, "  time: {}", estimate(std::slice::from_ref(explanation)));
    out
}

fn part_text(out: &mut String, part: &PartChange) {
    let how = match part.how {
        How::Added => "new",
        How::Removed => "removed",
        How::Moved => "moved",
        How::Changed => "changed",
    };
    let number = if part.how == How::Removed { String::new() } else { format!(" {}", part.index + 1) };
    let what = match part.kind {
        PartKind::Base => format!("the base disk ({})", part.label),
        PartKind::Disk => "the template's disk or variables".to_owned(),
        PartKind::Step => format!("step{number} `{}`", part.label),
        PartKind::Seal => "the seal".to_owned(),
        PartKind::SealStep => format!("step{number} `{}` of the seal", part.label),
    };
    let place = if part.place.is_empty() { String::new() } else { format!(" ({})", part.place) };
    let _ = writeln!(out, "  {how}: {what}{place}");
    for detail in &part.details {
        detail_text(out, detail);
    }
}

fn detail_text(out: &mut String, detail: &Detail) {
    match detail {
        Detail::Value { name, old, new } => value_text(out, name, old.as_deref(), new.as_deref()),
        Detail::File(file) => file_text(out, file),
        Detail::Tool(name) => {
            let _ = writeln!(out, "    visabuild's own script `{name}` is another version");
        }
    }
}

fn value_text(out: &mut String, name: &str, old: Option<&str>, new: Option<&str>) {
    let is_long = |text: &str| text.contains('\n') || text.chars().count() > SHORT;
    if old.into_iter().chain(new).any(is_long) {
        let _ = writeln!(out, "    {name}:");
        let with_end = |text: Option<&str>| text.map(|text| format!("{}\n", text.trim_end())).unwrap_or_default();
        for line in unified(&with_end(old), &with_end(new), LINES) {
            let _ = writeln!(out, "      {line}");
        }
        return;
    }
    let shown = |text: Option<&str>| text.map_or_else(|| "unset".to_owned(), |text| format!("`{text}`"));
    let _ = writeln!(out, "    {name}: {} → {}", shown(old), shown(new));
}

fn file_text(out: &mut String, file: &FileChange) {
    let name = &file.name;
    let executable = |executable: bool| if executable { "executable" } else { "not executable" };
    let _ = match (&file.old, &file.new) {
        (None, _) => writeln!(out, "    {name}: is new"),
        (_, None) => writeln!(out, "    {name}: was removed"),
        (Some(old), Some(new)) if file.is_mode_only() => {
            writeln!(out, "    {name}: {} → {}", executable(old.executable), executable(new.executable))
        }
        (Some(old), Some(new)) if file.diff.is_empty() => {
            writeln!(out, "    {name}: {} → {}", short(&old.sha256), short(&new.sha256))
        }
        (Some(_), Some(_)) => writeln!(out, "    {name}:"),
    };
    for line in &file.diff {
        let _ = writeln!(out, "      {line}");
    }
    if let (Some(old), Some(new)) = (&file.old, &file.new)
        && old.executable != new.executable
        && !file.is_mode_only()
    {
        let _ = writeln!(out, "      {} → {}", executable(old.executable), executable(new.executable));
    }
}

/// A checksum for people; the target of a link is as it is.
fn short(sha256: &str) -> String {
    if sha256.starts_with("->") {
        sha256.to_owned()
    } else {
        format!("sha256 {}…", sha256.get(..12).unwrap_or_default())
    }
}
