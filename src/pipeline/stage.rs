//! One stage: nothing to do, or layer and seal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Artifact, Context, Results, layer, seal};
use crate::cache::SealedState;
use crate::error::Result;
use crate::event::{Event, Events};
use crate::plan::Stage;

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
        Ok(!self.force && self.manifest(stage).is_file() && self.wanted(stage)?.is_at(&self.cache, &self.image(stage)))
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

/// The image of `stage` as it is there, with nothing changed.
pub(super) fn unchanged(results: &Results, events: &Events, stage: &Stage) -> Artifact {
    let path = results.image(stage);
    // The report of a failure that is not there any more; what cannot be removed does no harm.
    let _ = fs::remove_dir_all(results.folder(stage).join("failure"));
    let reason = format!("nothing changed, {} is up to date", path.display());
    events.emit(Event::StageSkipped { template: stage.name.clone(), reason });
    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    Artifact { template: stage.name.clone(), path, bytes, unchanged: true }
}

/// Builds `stage` unless its image is there with nothing changed.
pub(super) async fn build(context: &Context<'_>, stage: &Stage) -> Result<Artifact> {
    context.cancelled()?;
    let results = &context.settings.results;
    if results.has(stage)? {
        return Ok(unchanged(results, context.events, stage));
    }
    let started = Instant::now();
    context.events.emit(Event::StageStarted { template: stage.name.clone() });
    let layer = layer::ensure(context, stage).await?;
    let artifact = seal::seal(context, stage, &layer).await?;
    let seconds = started.elapsed().as_secs_f64();
    context.events.emit(Event::StageFinished { template: stage.name.clone(), seconds });
    Ok(artifact)
}
