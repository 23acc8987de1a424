//! The post-processors `sbom`, `package-diff` and `release-note`: files made of the image's manifest.

use std::path::PathBuf;

use super::new_file::Place;
use super::{Given, Outcome};
use crate::bom;
use crate::changes;
use crate::error::{Context, Error, Kind, Result};
use crate::image::record::Record;
use crate::report;
use crate::template::post_processor::{DiffFormat, PackageDiff, ReleaseNote, Sbom};
use crate::verify::report::Report;

pub(super) fn sbom(given: &Given<'_>, sbom: &Sbom) -> Result<Outcome> {
    let record = record(given)?;
    let write = |bill: &crate::template::post_processor::Bill| {
        Place::new(given.image, &bill.output)?.write(bom::bill(&record, bill.format)?.as_bytes())
    };
    Ok(added(given, sbom.bills.iter().map(write).collect::<Result<_>>()?))
}

pub(super) fn package_diff(given: &Given<'_>, diff: &PackageDiff) -> Result<Outcome> {
    let record = record(given)?;
    let text = match diff.format {
        DiffFormat::Json => {
            let json = serde_json::to_string_pretty(&record.changes);
            json.context(Kind::Build, || "the difference cannot be written")? + "\n"
        }
        DiffFormat::Text => match &record.changes {
            Some(all) => {
                let previous = &all.previous;
                let since = format!("since the image of {} (SHA-256 {})", previous.created, previous.sha256);
                format!("{} of {}, {since}\n\n{}", record.template, record.created, changes::text(&all.packages))
            }
            None => format!("{} of {}: there was no image before\n", record.template, record.created),
        },
    };
    Ok(added(given, vec![Place::new(given.image, &diff.output)?.write(text.as_bytes())?]))
}

pub(super) fn release_note(given: &Given<'_>, note: &ReleaseNote) -> Result<Outcome> {
    let record = record(given)?;
    let report = Report::of(&given.image.path, &record.image.sha256);
    let text = report::release_note(&record, report.as_ref());
    Ok(added(given, vec![Place::new(given.image, &note.output)?.write(text.as_bytes())?]))
}

/// What the manifest says.
fn record(given: &Given<'_>) -> Result<Record> {
    let manifest = &given.image.manifest;
    let read = Record::read(manifest).map_err(|error| error.of_kind(Kind::Build))?;
    read.ok_or_else(|| Error::build(format!("there is no manifest {}", manifest.display())))
}

/// The files join the artifact.
fn added(given: &Given<'_>, outputs: Vec<PathBuf>) -> Outcome {
    let artifact = given.artifact.files.iter().chain(&outputs).cloned().collect();
    Outcome { outputs, artifact: Some(artifact), holds: None }
}
