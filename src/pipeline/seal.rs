//! The seal: a throw-away overlay on a layer becomes the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::session::{Connected, Prepared, Start};
use super::timings::Timings;
use super::verification::Verified;
use super::{Artifact, Context, failure, packages, verification};
use crate::cache::{Layer, Share, beside, publish_file, replace_file};
use crate::changes::{Changes, Previous, between};
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::Event;
use crate::image::manifest::{ImageFile, Inputs, LayerRecord, Manifest, System, Timing, VERSION, rfc3339, rfc3339_now};
use crate::image::record::Record;
use crate::image::{Checksums, qemu_img};
use crate::inventory::{Ecosystem, Inventory};
use crate::package_cache::Session;
use crate::plan::{Stage, difference};

/// Seals the layer of `stage` and publishes image and manifest.
pub(super) async fn seal(context: &Context<'_>, stage: &Stage, layer: &Layer) -> Result<Artifact> {
    let mut timings = Timings::new(context, stage, Share::Seal);
    let overlay = context.work.join(format!("{}.seal.qcow2", stage.name));
    qemu_img::create_overlay(&layer.disk, &overlay, None, context.cancel).await?;
    let cache = context.serve_packages(&stage.name).await?;
    let inside = in_guest(context, stage, &overlay, cache.clone(), &mut timings).await;
    let (inventory, os) = packages::explained(cache.as_deref(), inside)?;
    let seal_fetched = cache.map(|cache| cache.files()).unwrap_or_default();
    let (flat, image) = flatten(context, stage, &overlay, &mut timings).await?;
    let _ = fs::remove_file(&overlay);
    let changes = changes(context, stage, &inventory);
    let packages = inventory.system_packages();
    let manifest =
        Manifest { packages, inventory, changes, os, seal_fetched, ..manifest(context, stage, image, &timings)? };
    let flat = Beside(flat);
    let started = Instant::now();
    let report = verified(context, stage, &flat.0, &manifest).await?;
    if context.settings.verifier.is_some() {
        let history = &context.settings.results.history;
        // An estimate is missing without it, and nothing else.
        let _ = history.took(&stage.name, Share::Verification, ("verify", None), started.elapsed().as_secs_f64());
    }
    let artifact = publish(context, stage, &flat.keep(), &manifest)?;
    verification::write(&context.settings.results, stage, &report)?;
    Ok(artifact)
}

/// Verifies the image before anybody can take it for good; one that fails is kept under another name.
async fn verified(
    context: &Context<'_>,
    stage: &Stage,
    flat: &Path,
    manifest: &Manifest,
) -> Result<verification::Files> {
    let failed = context.settings.results.failed_image(stage);
    let _ = fs::remove_file(&failed);
    let Some(verifier) = &context.settings.verifier else { return Ok(Vec::new()) };
    let surroundings = (context.work.as_path(), context.events, context.cancel);
    let traces = context.shared.traces.lock().map(|traces| traces.clone()).unwrap_or_default();
    let sha256 = Some(manifest.image.checksums.sha256.as_str());
    let refused = |error: Error| {
        if error.kind() == Kind::Verification && fs::rename(flat, &failed).is_ok() {
            return verifier
                .explained(error, &stage.name, &failed)
                .hint(format!("the image is not published; it is at {}", failed.display()));
        }
        error
    };
    let verified = verifier.verify(&stage.name, flat, sha256, &traces, surroundings).await;
    let Verified { files, verdict } = verified.map_err(refused)?;
    if verdict.is_err() {
        verification::write_for_failure(&context.work, stage, &files)?;
    }
    verdict.map_err(refused)?;
    Ok(files)
}

/// Boots the overlay, puts the secrets in and takes the traces out; returns what is installed.
async fn in_guest(
    context: &Context<'_>,
    stage: &Stage,
    overlay: &Path,
    cache: Option<Arc<Session>>,
    timings: &mut Timings,
) -> Result<(Inventory, Option<System>)> {
    let start = Start::seal(overlay.to_owned()).with(cache);
    let booted = Prepared::new(context, stage, start)?.boot(timings).await?;
    let mut connected: Connected<'_> = booted.connect(timings).await?;
    if let Some(password) = &stage.seal.root_password {
        connected.set_root_password(password, timings).await?;
    }
    let mut provisioned = connected.provision(&stage.seal.steps, None, timings).await?;
    let phase = timings.phase("inventory");
    let lines = provisioned.inventory().await?;
    timings.done(phase);
    let os = provisioned.os_release().await?;
    provisioned.seal(stage.seal.ca_certificates, timings).await?;
    Ok((Inventory::read(lines.iter().map(String::as_str)), System::parse(&os.join("\n"))))
}

/// What is not as in the image that is about to be replaced; none where there is no such image, or nothing can be said
/// of it.
fn changes(context: &Context<'_>, stage: &Stage, inventory: &Inventory) -> Option<Changes> {
    let results = &context.settings.results;
    let told = |error: &Error| context.events.debug(Some(&stage.name), error.chain().join(": "));
    let old = Record::read(&results.manifest(stage)).inspect_err(told).ok()??;
    // Where the records are of another image, only packages can be compared.
    let inputs = results.history.newest(&stage.name).filter(|made| made.is_of(&old.inputs.seal_fingerprint));
    let now = results.record(context.plan, stage, &BTreeSet::new()).inspect_err(told).ok();
    let inputs = inputs.zip(now).map(|(old, new)| difference(&old, &new));
    Some(Changes { previous: Previous::of(&old), packages: between(&old, (inventory, &Ecosystem::ALL)), inputs })
}

/// Flattens, checks and sums up; the result lies beside its final place.
async fn flatten(
    context: &Context<'_>,
    stage: &Stage,
    overlay: &Path,
    timings: &mut Timings,
) -> Result<(PathBuf, ImageFile)> {
    let target = context.settings.results.image(stage);
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| {
        Error::host(format!("cannot make {}", folder.display()))
            .because(error)
            .hint("choose another folder with --output")
    })?;
    let flat = Beside(beside(&target));
    let phase = timings.phase("compress");
    let compression = context.settings.results.compression;
    qemu_img::convert_flat(overlay, &flat.0, compression, &phase, context.cancel).await?;
    timings.done(phase);
    let phase = timings.phase("check");
    qemu_img::check(&flat.0, &phase, context.cancel).await?;
    let info = qemu_img::info(&flat.0, context.cancel).await?;
    if info.backing_filename.is_some() {
        return Err(Error::build("the image has a backing file after it was flattened"));
    }
    let size = fs::metadata(&flat.0).context(Kind::Build, || "cannot read the image")?.len();
    let checksums = Checksums::in_background(flat.0.clone()).await?;
    timings.done(phase);
    context.cancelled()?;
    let image = ImageFile {
        file: format!("{}.qcow2", stage.name),
        format: info.format,
        compression: compression.to_string(),
        virtual_size: info.virtual_size,
        size,
        checksums,
    };
    Ok((flat.keep(), image))
}

/// A file that is removed unless it is kept.
struct Beside(PathBuf);

impl Beside {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn manifest(context: &Context<'_>, stage: &Stage, image: ImageFile, timings: &Timings) -> Result<Manifest> {
    let alternatives = stage.alternatives.values();
    Ok(Manifest {
        version: VERSION,
        template: stage.name.clone(),
        description: stage.description.clone(),
        created: rfc3339_now(),
        visabuild: env!("CARGO_PKG_VERSION").to_owned(),
        commit: context.settings.commit.clone(),
        image,
        layers: layer_records(context, stage)?,
        inputs: Inputs::of(stage),
        verification: stage.verification.clone(),
        host: context.settings.facts.clone(),
        timings: Timing::list(&timings.list()),
        warnings: alternatives.clone().filter_map(|chosen| chosen.warning.clone()).collect(),
        end_of_life: alternatives.clone().any(|chosen| chosen.end_of_life),
        os: None,
        seal_fetched: Vec::new(),
        packages: BTreeMap::new(),
        inventory: Inventory::default(),
        changes: None,
    })
}

/// The layers below the image, base first, as the cache records them.
fn layer_records(context: &Context<'_>, stage: &Stage) -> Result<Vec<LayerRecord>> {
    let mut chain = vec![stage];
    while let Some(parent) =
        chain.last().and_then(|stage| stage.parent.as_deref()).and_then(|name| context.plan.stage(name))
    {
        chain.push(parent);
    }
    let cache = &context.settings.results.cache;
    let mut records = Vec::new();
    let mut below: Option<String> = None;
    for stage in chain.into_iter().rev() {
        if let Some(base) = &stage.base
            && let Some(layer) =
                cache.bases().get(&context.settings.results.key(&base.fingerprint, &base.secrets)?, None)?
        {
            records.push(record("base", base.fingerprint.as_str(), &layer));
            below = Some(layer.info.instance);
        }
        if let Some(layer) = cache.layers().get(&super::layer::key(context, stage)?, below.as_deref())? {
            records.push(record(&stage.name, stage.fingerprint.as_str(), &layer));
            below = Some(layer.info.instance);
        }
    }
    Ok(records)
}

fn record(template: &str, fingerprint: &str, layer: &Layer) -> LayerRecord {
    LayerRecord {
        template: template.to_owned(),
        fingerprint: fingerprint.to_owned(),
        engine: layer.info.engine,
        created: rfc3339(layer.info.created),
        seconds: layer.info.seconds,
        timings: Timing::list(&layer.info.phases),
        fetched: layer.info.fetched.clone(),
    }
}

/// Replaces image, manifest and logs; each is the old or the new at any moment.
fn publish(context: &Context<'_>, stage: &Stage, flat: &Path, manifest: &Manifest) -> Result<Artifact> {
    let results = &context.settings.results;
    let path = results.image(stage);
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = || format!("cannot publish {}", path.display());
    let json = serde_json::to_string_pretty(manifest).context(Kind::Build, fail)? + "\n";
    // They were about the image that is replaced now.
    verification::remove(results, stage);
    publish_file(flat, &path).context(Kind::Build, fail)?;
    replace_file(&results.manifest(stage), json.as_bytes(), 0o644).context(Kind::Build, fail)?;
    results.wanted(stage)?.record(&results.cache, &path)?;
    if let Err(error) = results.remember(context.plan, stage, context.settings.engine) {
        let text = format!("a later `visabuild why` cannot say what changed: {}", error.chain().join(": "));
        context.events.warn(Some(&stage.name), text);
    }
    failure::publish_logs(context, stage, folder).context(Kind::Build, || "cannot write the logs")?;
    context.events.emit(Event::Artifact {
        template: stage.name.clone(),
        path: path.display().to_string(),
        bytes: manifest.image.size,
        sha256: manifest.image.checksums.sha256.clone(),
    });
    Ok(Artifact { template: stage.name.clone(), path, bytes: manifest.image.size, unchanged: false })
}
