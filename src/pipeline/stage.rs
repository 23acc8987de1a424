//! One stage: nothing to do, or layer and seal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::schedule::Ready;
use super::{Artifact, Context, Results, StepReference, layer, seal, why};
use crate::cache::SealedState;
use crate::engine::Engine;
use crate::error::Result;
use crate::event::{Event, Events};
use crate::plan::{Facts, Fingerprint, Plan, Record, Stage};

/// Where a template's image is in the folder of the results.
pub fn image_path(output: &Path, template: &str) -> PathBuf {
    output.join(template).join(format!("{template}.qcow2"))
}

impl Results {
    /// Path of a stage's image.
    pub(super) fn image(&self, stage: &Stage) -> PathBuf {
        image_path(&self.output, &stage.name)
    }

    /// Path of an image that did not keep its contract.
    pub(super) fn failed_image(&self, stage: &Stage) -> PathBuf {
        self.folder(stage).join(format!("{}.failed.qcow2", stage.name))
    }

    /// Path of its manifest.
    pub(super) fn manifest(&self, stage: &Stage) -> PathBuf {
        self.folder(stage).join(format!("{}.manifest.json", stage.name))
    }

    /// The folder of a stage's results.
    pub(super) fn folder(&self, stage: &Stage) -> PathBuf {
        self.output.join(&stage.name)
    }

    /// Whether the stage's image is there and is the one asked for.
    pub(super) fn has(&self, stage: &Stage) -> Result<bool> {
        let may_be = !self.force && !self.is_never_kept(stage) && self.manifest(stage).is_file();
        Ok(may_be && self.wanted(stage)?.is_at(&self.cache, &self.image(stage)))
    }

    /// Whether something of the stage is done in every build.
    pub(super) fn is_never_kept(&self, stage: &Stage) -> bool {
        stage.never_kept || stage.seal.is_never_kept()
    }

    /// Whether what is in the cache under `key` may be used by a run that has built `built`: with `--force` only what it
    /// built itself.
    pub(super) fn may_reuse(&self, key: &str, built: &BTreeSet<String>) -> bool {
        !self.force || built.contains(key)
    }

    /// Whether what `stage` was after so many of its steps, which is in the cache under `key`, may be used by a run that
    /// has built `built`: nothing of an earlier one has a step that is to be done again, or that is done in every build.
    pub(super) fn may_reuse_steps(
        &self,
        plan: &Plan,
        stage: &Stage,
        done: usize,
        key: &str,
        built: &BTreeSet<String>,
    ) -> bool {
        let is_before = |from: &StepReference| from.template == stage.name && done <= from.step;
        let is_redone = self.from.as_ref().is_some_and(|from| plan.lies_on(stage, &from.template) && !is_before(from));
        let is_whole = done == stage.steps.len();
        let is_never_kept = stage.never_kept && (is_whole || done > stage.steps_that_can_be_kept());
        built.contains(key) || !(self.force || is_redone || is_never_kept)
    }

    /// The name of what has a fingerprint and is made of secrets.
    pub(super) fn key(&self, fingerprint: &Fingerprint, secrets: &BTreeSet<String>) -> Result<String> {
        let fingerprint = fingerprint.as_str();
        if secrets.is_empty() {
            return Ok(fingerprint.to_owned());
        }
        let tags = self.secrets.tags(&self.cache, secrets)?;
        Ok(format!("{fingerprint}-{}", Fingerprint::of("secrets", &tags).short()))
    }

    /// What the image of `stage` is made of; secrets in `missing` are not given.
    pub(super) fn record(&self, plan: &Plan, stage: &Stage, missing: &BTreeSet<String>) -> Result<Record> {
        let mut wanted = self.wanted(stage)?;
        wanted.secrets.retain(|name, _| !missing.contains(name));
        let facts = Facts {
            secrets: wanted.secrets,
            settings: wanted.settings,
            visabuild: env!("CARGO_PKG_VERSION").to_owned(),
            ..Facts::default()
        };
        Ok(Record::of(stage, stage.parent.as_deref().and_then(|name| plan.stage(name)), facts))
    }

    /// Keeps what the image of `stage` was just made of.
    pub(super) fn remember(&self, plan: &Plan, stage: &Stage, engine: Engine) -> Result<()> {
        let mut record = self.record(plan, stage, &BTreeSet::new())?;
        record.facts.engine = engine.to_string();
        record.facts.created = seconds(SystemTime::now());
        self.history.keep(&record, stage.files())
    }

    /// Keeps what the image of `stage`, which is there with nothing changed, was made of, where that is not kept: it may
    /// be older than such records, or they were removed.
    pub(super) fn remember_unchanged(&self, plan: &Plan, stage: &Stage) -> Result<()> {
        if self.history.has(&stage.name) {
            return Ok(());
        }
        let mut record = self.record(plan, stage, &BTreeSet::new())?;
        let built = fs::metadata(self.image(stage)).and_then(|metadata| metadata.modified());
        record.facts.created = built.map(seconds).unwrap_or_default();
        self.history.keep(&record, stage.files())
    }

    /// Whether the stage has a step that is to be done again, or lies on one that has.
    pub(super) fn is_redone(&self, plan: &Plan, stage: &Stage) -> bool {
        self.from.as_ref().is_some_and(|from| plan.lies_on(stage, &from.template))
    }

    /// What the image must have been made of to count as the one asked for.
    pub(super) fn wanted(&self, stage: &Stage) -> Result<SealedState> {
        Ok(SealedState {
            fingerprint: stage.seal.fingerprint.to_string(),
            secrets: self.secrets.tags(&self.cache, &stage.seal.secrets)?,
            settings: vec![format!("compression={}", self.compression)],
        })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The image of `stage` as it is there, with nothing changed.
pub(super) fn unchanged(plan: &Plan, results: &Results, events: &Events, stage: &Stage) -> Artifact {
    if let Err(error) = results.remember_unchanged(plan, stage) {
        events.debug(Some(&stage.name), error.chain().join(": "));
    }
    let path = results.image(stage);
    // The report of a failure that is not there any more; what cannot be removed does no harm.
    let _ = fs::remove_dir_all(results.folder(stage).join("failure"));
    let reason = format!("nothing changed, {} is up to date", path.display());
    events.emit(Event::StageSkipped { template: stage.name.clone(), reason });
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    Artifact { template: stage.name.clone(), path, bytes, unchanged: true }
}

/// Builds `stage` unless its image is there with nothing changed.
pub(super) async fn build(context: &Context<'_>, stage: &Stage, ready: &Ready) -> Result<Artifact> {
    context.cancelled()?;
    let results = &context.settings.results;
    if !results.is_redone(context.plan, stage) && results.has(stage)? {
        return Ok(unchanged(context.plan, results, context.events, stage));
    }
    let started = Instant::now();
    context.events.emit(Event::StageStarted { template: stage.name.clone() });
    why::tell(context, stage);
    let layer = layer::ensure(context, stage).await?;
    ready.tell();
    let artifact = seal::seal(context, stage, &layer).await?;
    let seconds = started.elapsed().as_secs_f64();
    context.events.emit(Event::StageFinished { template: stage.name.clone(), seconds });
    Ok(artifact)
}
