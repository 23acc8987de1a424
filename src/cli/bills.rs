//! `visabuild sbom`, `diff` and `release-note`: what manifests of finished images say.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{print, verify};
use crate::bom::{self, Format};
use crate::cache::replace_file;
use crate::changes;
use crate::error::{Context, Error, Kind, Result};
use crate::image::record::Record;
use crate::report;
use crate::verify::report::Report;

pub(super) const SBOM_HELP: &str = "\
It is made of the manifest beside the image, and of nothing else: the same manifest gives the same bytes.
Exit codes: 0 done; 2 there is no such image, or no manifest of it; 3 the file cannot be written.";

pub(super) const DIFF_HELP: &str = "\
OLD and NEW are images with their manifests beside them, manifests, or templates.
+ added, - removed, > upgraded, < downgraded, ~ another version, of which nobody says whether it is later.
Exit codes: 0 said, also where packages differ; 2 there is no such image, or no manifest of it.";

/// Which image.
#[derive(Debug, Args)]
pub struct Subject {
    /// An image with its manifest beside it, the manifest, or a template whose image is in the results
    #[arg(value_name = "IMAGE|TEMPLATE")]
    pub subject: PathBuf,
    /// Where results are.
    #[command(flatten)]
    pub place: Place,
}

/// Where results of templates are looked for.
#[derive(Debug, Args)]
pub struct Place {
    /// Project folder of a template
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub directory: PathBuf,
    /// Folder of the results of a template [default: DIR/builds]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

/// Options of `sbom`.
#[derive(Debug, Args)]
pub struct SbomArgs {
    /// Which image.
    #[command(flatten)]
    pub subject: Subject,
    /// In which form
    #[arg(long, value_enum, value_name = "FORM", default_value = "spdx")]
    pub format: Format,
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The image before
    pub old: PathBuf,
    /// The image after
    pub new: PathBuf,
    /// Where results are.
    #[command(flatten)]
    pub place: Place,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Options of `release-note`.
#[derive(Debug, Args)]
pub struct NoteArgs {
    /// Which image.
    #[command(flatten)]
    pub subject: Subject,
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Prints a software bill of materials.
pub(super) fn sbom(args: &SbomArgs) -> Result<()> {
    let (_, record) = args.subject.place.find(&args.subject.subject)?;
    put(&bom::bill(&record, args.format)?, args.output.as_deref())
}

/// Prints which packages are other ones.
pub(super) fn diff(args: &DiffArgs) -> Result<()> {
    let (old, new) = match (args.place.find(&args.old), args.place.find(&args.new)) {
        (Ok((_, old)), Ok((_, new))) => (old, new),
        (old, new) => {
            let errors = old.err().into_iter().chain(new.err()).collect();
            return Error::several(errors).map_or(Ok(()), Err);
        }
    };
    let (after, kinds) = new.installed();
    let changed = changes::between(&old, (&after, kinds));
    let text = if args.json {
        serde_json::to_string_pretty(&changed).context(Kind::Build, || "the difference cannot be written")? + "\n"
    } else {
        changes::text(&changed)
    };
    put(&text, None)
}

/// Prints a release note.
pub(super) fn note(args: &NoteArgs) -> Result<()> {
    let (image, record) = args.subject.place.find(&args.subject.subject)?;
    let report = Report::of(&image, &record.image.sha256);
    put(&report::release_note(&record, report.as_ref()), args.output.as_deref())
}

impl Place {
    /// Where the image is or would be, and what its manifest says. A manifest may be without its image.
    fn find(&self, subject: &Path) -> Result<(PathBuf, Record)> {
        const ENDING: &str = ".manifest.json";
        let name = subject.file_name().unwrap_or_default().to_string_lossy();
        if let Some(stem) = name.strip_suffix(ENDING) {
            let record = Record::read(subject)?;
            let record = record.ok_or_else(|| Error::usage(format!("there is no manifest {}", subject.display())))?;
            return Ok((subject.with_file_name(format!("{stem}.qcow2")), record));
        }
        let results = self.results.clone().unwrap_or_else(|| self.directory.join("builds"));
        let image = verify::find(subject, &results)?;
        let size = fs::metadata(&image).context(Kind::Usage, || format!("cannot read {}", image.display()))?.len();
        let record = Record::beside(&image, size)?.ok_or_else(|| {
            Error::usage(format!("there is no manifest beside {}", image.display()))
                .hint("visabuild writes TEMPLATE.manifest.json beside each image that it makes")
        })?;
        Ok((image, record))
    }
}

/// Writes a file, complete or not at all, or to standard output.
fn put(text: &str, file: Option<&Path>) -> Result<()> {
    let Some(file) = file.filter(|file| file.as_os_str() != "-") else {
        print(text);
        return Ok(());
    };
    replace_file(file, text.as_bytes(), 0o644).context(Kind::Host, || format!("cannot write {}", file.display()))
}
