//! Post-processors: what is made of a finished image, after it is published in the folder of the results.
//!
//! Each chain begins with the image; each step's key covers the image's SHA-256, what came before it in the chain and
//! what it says itself. What a step has made is recorded under its key ([`record`]), so a step is done when its key is
//! new or what it made is not there any more. No image is ever built because of a post-processor.
//!
//! A new type gets a file here with the function that [`step`] calls for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::record::{Entry, Record, Stamp};
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::{Event, Events, Phase};
use crate::pipeline::image_path;
use crate::plan::{Fingerprint, Plan, PostStep, Stage};
use crate::template::post_processor::{PostProcessor, Processing};
use crate::verify::report::Report;

pub use check::{check, check_outputs};

mod artifice;
mod background;
mod bills;
mod check;
mod checksum;
mod codec;
mod compress;
mod convert;
mod manifest;
mod new_file;
mod record;
mod shell_local;

/// A finished image in its folder of the results.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its template.
    pub template: String,
    /// The folder of its results.
    pub folder: PathBuf,
    /// The qcow2.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
    /// Its SHA-256 as its manifest has it, hexadecimal.
    pub sha256: String,
}

impl Image {
    /// The image of `template` in the folder `output`.
    ///
    /// # Errors
    /// It has no manifest with its checksum (kind build).
    pub fn read(output: &Path, template: &str) -> Result<Self> {
        let path = image_path(output, template);
        let manifest = path.with_file_name(format!("{template}.manifest.json"));
        let read = || format!("cannot read {}", manifest.display());
        let json: Value =
            serde_json::from_slice(&fs::read(&manifest).context(Kind::Build, read)?).context(Kind::Build, read)?;
        let sha256 = json["image"]["sha256"].as_str().map(str::to_owned);
        let sha256 = sha256.ok_or_else(|| Error::build(format!("{} has no checksum", manifest.display())))?;
        Ok(Self { template: template.to_owned(), folder: output.join(template), path, manifest, sha256 })
    }

    /// The file of this name: in the folder of the results, where it is not absolute.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What all post-processors of a run have in common.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The project's folder, absolute.
    pub root: &'a Path,
    /// Folder for what is of use while it runs only.
    pub work: &'a Path,
    /// Do everything again.
    pub force: bool,
    /// Names the run in lists of Packer's form.
    pub id: Uuid,
    /// Who hears of it.
    pub events: &'a Events,
    /// What ends it.
    pub cancel: &'a CancellationToken,
}

/// A file that a post-processor made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The template.
    pub template: String,
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// Whether it was there already, with nothing changed.
    pub unchanged: bool,
}

/// What a run would do with a post-processor.
#[derive(Debug, Clone, Serialize)]
pub struct PostState {
    /// Its label.
    pub label: String,
    /// In a few words.
    #[serde(skip)]
    pub summary: String,
    /// Where the manifest says it.
    pub place: String,
    /// Whether what it made is there with nothing changed.
    pub is_done: bool,
    /// How long it took, seconds, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Does what is left of the post-processors of `plan`, whose images are in the folder `output`.
///
/// # Errors
/// One fails (kind build; host where there is no space), or `cancel` fires. Those of other templates are done all the same.
pub async fn run(plan: &Plan, output: &Path, run: &Run<'_>) -> Result<Vec<Made>> {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for stage in plan.stages.iter().filter(|stage| !stage.post_processors.is_empty()) {
        let done = match Image::read(output, &stage.name) {
            Ok(image) => of_image(&image, &stage.post_processors, run).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(files) => made.extend(files),
            Err(error) if run.cancel.is_cancelled() => return Err(error.of_kind(Kind::Interrupted)),
            Err(error) => failed.push(error),
        }
    }
    Error::several(failed).map_or(Ok(made), Err)
}

/// Does what is left of the `chains` of post-processors of one image.
///
/// # Errors
/// As [`run`]; what was done before the failure is not done again.
pub async fn of_image(image: &Image, chains: &[Vec<PostStep>], run: &Run<'_>) -> Result<Vec<Made>> {
    let mut record = if run.force { Record::default() } else { Record::read(&image.folder) };
    let mut used = BTreeSet::new();
    let mut made: Vec<Made> = Vec::new();
    for (at, chain) in chains.iter().enumerate() {
        let (mut points, first) = done(image, chains, at, &record);
        for (index, step) in chain.iter().enumerate() {
            let Some(before) = points.get(index).cloned() else { break };
            let key = before.key_of(image, step);
            if index >= first {
                let entry = one(image, step, &before, run).await?;
                record.entries.insert(key.to_string(), entry.clone());
                record.write(&image.folder)?;
                remove_input(image, step, &before, &entry);
                points.push(before.after(image, key.clone(), &entry));
            }
            if let Some(entry) = record.entries.get(key.as_str()) {
                made.extend(files(image, entry, index < first));
            }
            used.insert(key.to_string());
        }
    }
    // What was made of earlier images, or by post-processors that there are no more.
    let count = record.entries.len();
    record.entries.retain(|key, _| used.contains(key));
    if record.entries.len() < count {
        record.write(&image.folder)?;
    }
    made.retain(|file| file.path.is_file());
    Ok(made)
}

/// What a run would do with the post-processors of `stage`, those of the first chain first. Without an image, everything.
pub fn look_up(stage: &Stage, output: &Path, is_built: bool) -> Vec<PostState> {
    let image = Image::read(output, &stage.name).ok().filter(|_| is_built);
    let record = Record::read(&output.join(&stage.name));
    let mut states = Vec::new();
    for (at, chain) in stage.post_processors.iter().enumerate() {
        let found = image.as_ref().map(|image| (image, done(image, &stage.post_processors, at, &record)));
        for (index, step) in chain.iter().enumerate() {
            let entry = found.as_ref().and_then(|(image, (points, first))| {
                let key = points.get(index).filter(|_| index < *first)?.key_of(image, step);
                record.entries.get(key.as_str())
            });
            let PostProcessor { label, location, .. } = &step.post_processor;
            states.push(PostState {
                label: label.clone(),
                summary: step.post_processor.summary(),
                place: location.to_string(),
                is_done: entry.is_some(),
                seconds: entry.map(|entry| entry.seconds),
            });
        }
    }
    states
}

/// The files that a step works on.
#[derive(Debug, Clone)]
struct Artifact {
    files: Vec<PathBuf>,
    /// It is the image itself.
    is_image: bool,
}

/// A place in a chain: before a step, or after the last one.
#[derive(Debug, Clone)]
struct Point {
    /// Stands for all that was done until then.
    key: Fingerprint,
    artifact: Artifact,
    /// Files that the chain has made until then.
    made: BTreeSet<PathBuf>,
}

impl Point {
    /// The key of what `step` makes here.
    fn key_of(&self, image: &Image, step: &PostStep) -> Fingerprint {
        let facts: Vec<Stamp> = match &step.post_processor.processing {
            // Whoever makes these files does not tell when they are others, unless it is the chain itself.
            Processing::Artifice(artifice) => {
                let files = artifice.files.iter().map(|name| image.file(name));
                files.filter(|file| !self.made.contains(file)).map(|file| Stamp::of(image, &file)).collect()
            }
            // It tells what was verified, which may come later than the image.
            Processing::ReleaseNote(_) => vec![Stamp::of(image, &Report::path_of(&image.path))],
            _ => Vec::new(),
        };
        self.key.then("step", &(&step.fingerprint, facts))
    }

    /// The place behind a step that made `entry`.
    fn after(&self, image: &Image, key: Fingerprint, entry: &Entry) -> Self {
        let mut made = self.made.clone();
        made.extend(entry.outputs.iter().map(|stamp| stamp.path(image)));
        let files = entry.artifact.iter().map(|name| image.file(name)).collect();
        Self { key, artifact: Artifact { files, is_image: entry.is_image }, made }
    }
}

/// The places of chain `at` that nothing has to be done for to get to, and the first step that has to be done.
fn done(image: &Image, chains: &[Vec<PostStep>], at: usize, record: &Record) -> (Vec<Point>, usize) {
    let chain = &chains[at];
    // Chains that begin alike are done each by itself.
    let same = |other: &&Vec<PostStep>| {
        other.first().map(|step| &step.fingerprint) == chain.first().map(|step| &step.fingerprint)
    };
    let number = chains[..at].iter().filter(same).count();
    let artifact = Artifact { files: vec![image.path.clone()], is_image: true };
    let key = Fingerprint::of("post-processed image", &(&image.sha256, number));
    let mut points = vec![Point { key, artifact, made: BTreeSet::new() }];
    let mut first = chain.len();
    for (index, step) in chain.iter().enumerate() {
        let before = &points[index];
        let key = before.key_of(image, step);
        let is_removed_later = chain[index + 1..].iter().any(removes);
        match record.entries.get(key.as_str()).filter(|entry| entry.is_there(image, is_removed_later)) {
            Some(entry) => {
                let after = before.after(image, key, entry);
                points.push(after);
            }
            None => {
                first = index;
                break;
            }
        }
    }
    // What a command has made and somebody has removed is made by that command again.
    if let Some(Processing::Artifice(artifice)) = chain.get(first).map(|step| &step.post_processor.processing) {
        let is_missing = artifice.files.iter().any(|name| !image.file(name).exists());
        let is_command = |step: &PostStep| matches!(step.post_processor.processing, Processing::ShellLocal(_));
        if let Some(maker) = chain[..first].iter().rposition(is_command).filter(|_| is_missing) {
            first = maker;
        }
    }
    // What it begins with may have been removed, as it was of no use any more.
    while first < chain.len() && first > 0 && points[first].artifact.files.iter().any(|file| !file.is_file()) {
        first -= 1;
    }
    points.truncate(first + 1);
    (points, first)
}

/// Whether the step leaves nothing of what the chain made before it.
fn removes(step: &PostStep) -> bool {
    step.post_processor.processing.replaces() && !step.post_processor.keep_input_artifact
}

/// Removes what the chain made before `step` and nobody needs after it.
fn remove_input(image: &Image, step: &PostStep, before: &Point, entry: &Entry) {
    if !removes(step) {
        return;
    }
    let kept: Vec<PathBuf> = entry.artifact.iter().map(|name| image.file(name)).collect();
    for file in before.artifact.files.iter().filter(|file| before.made.contains(*file) && !kept.contains(file)) {
        // It takes room then, and nothing else.
        let _ = fs::remove_file(file);
    }
}

fn files(image: &Image, entry: &Entry, unchanged: bool) -> Vec<Made> {
    let file = |stamp: &Stamp| {
        let path = stamp.path(image);
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Made { template: image.template.clone(), path, bytes, unchanged }
    };
    entry.outputs.iter().map(file).collect()
}

/// What a step is given.
struct Given<'a> {
    image: &'a Image,
    artifact: &'a Artifact,
    run: &'a Run<'a>,
    phase: &'a Phase,
}

/// What a step has made.
#[derive(Debug, Default)]
struct Outcome {
    /// Files that it wrote.
    outputs: Vec<PathBuf>,
    /// The artifact from here on; none leaves what it was.
    artifact: Option<Vec<PathBuf>>,
    /// A text that its outputs hold, by which they are known, as others add to them.
    holds: Option<String>,
}

/// Does one step, and says what of it is to be recorded.
async fn one(image: &Image, step: &PostStep, before: &Point, run: &Run<'_>) -> Result<Entry> {
    let PostProcessor { label, location, .. } = &step.post_processor;
    if run.cancel.is_cancelled() {
        return Err(Error::new(Kind::Interrupted, "stopped"));
    }
    let phase = run.events.phase(&image.template, format!("post-processor {label}"));
    let given = Given { image, artifact: &before.artifact, run, phase: &phase };
    let outcome = self::step(&given, &step.post_processor.processing).await.map_err(|error| {
        let message = format!("post-processor `{label}` of template `{}` ({location})", image.template);
        error.context(message).hint("the image is built, and stays; `visabuild build` goes on with what is left")
    })?;
    let seconds = phase.finish().as_secs_f64();
    let (artifact, is_image) = match outcome.artifact {
        Some(files) => (files, false),
        None => (before.artifact.files.clone(), before.artifact.is_image),
    };
    for path in &outcome.outputs {
        run.events.emit(Event::PostProcessed {
            template: image.template.clone(),
            post_processor: label.clone(),
            path: path.display().to_string(),
            bytes: fs::metadata(path).map_or(0, |metadata| metadata.len()),
        });
    }
    let stamp = |path: &PathBuf| Stamp::of(image, path).holding(outcome.holds.clone());
    Ok(Entry {
        outputs: outcome.outputs.iter().map(stamp).collect(),
        artifact: artifact.iter().map(|path| record::name(image, path)).collect(),
        is_image,
        seconds,
    })
}

async fn step(given: &Given<'_>, processing: &Processing) -> Result<Outcome> {
    match processing {
        Processing::Checksum(checksum) => checksum::run(given, checksum).await,
        Processing::Compress(compress) => compress::run(given, compress).await,
        Processing::Manifest(manifest) => manifest::run(given, manifest).await,
        Processing::Artifice(artifice) => artifice::run(given, artifice),
        Processing::ShellLocal(local) => shell_local::run(given, local).await,
        Processing::Convert(convert) => convert::run(given, convert).await,
        Processing::Sbom(sbom) => bills::sbom(given, sbom),
        Processing::PackageDiff(diff) => bills::package_diff(given, diff),
        Processing::ReleaseNote(note) => bills::release_note(given, note),
    }
}
