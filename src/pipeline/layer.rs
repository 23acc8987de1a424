//! A stage's layer, out of the cache or provisioned.

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use super::session::{Prepared, Start};
use super::timings::Timings;
use super::{Context, base};
use crate::cache::{BuildLock, Layer, LayerInfo};
use crate::error::{Error, Kind, Result};
use crate::image::qemu_img;
use crate::plan::{Fingerprint, Stage};

/// The layer of `stage`; its ancestors' are ensured first, where it must be built.
pub(super) fn ensure<'a>(
    context: &'a Context<'a>,
    stage: &'a Stage,
) -> Pin<Box<dyn Future<Output = Result<Layer>> + Send + 'a>> {
    Box::pin(async move {
        let below = below(context, stage).await?;
        let store = context.settings.results.cache.layers();
        let key = key(context, stage)?;
        let _lock = take_lock(context, &stage.name, store.build_lock(&key)?).await?;
        if context.may_reuse(&key)
            && let Some(found) = store.get(&key, Some(&below.info.instance))?
        {
            context.events.info(Some(&stage.name), "its layer is in the cache");
            return Ok(found);
        }
        let mut timings = Timings::new(context.events, &stage.name);
        let disk = context.work.join(format!("{}.layer.qcow2", stage.name));
        qemu_img::create_overlay(&below.disk, &disk, stage.disk_size, context.cancel).await?;
        let start = Start::layer(disk.clone());
        let booted = Prepared::new(context, stage, start)?.boot(&mut timings).await?;
        let connected = booted.connect(&mut timings).await?;
        connected.provision(&stage.steps, &mut timings).await?.close(&mut timings).await?;
        let info = LayerInfo { engine: Some(context.settings.engine), ..info(&stage.name, Some(&below), &timings) };
        let layer = store.put(&key, &disk, &info)?;
        context.mark_built(&key);
        Ok(layer)
    })
}

async fn below<'a>(context: &'a Context<'a>, stage: &'a Stage) -> Result<Layer> {
    if let Some(base) = &stage.base {
        return base::ensure(context, stage, base).await;
    }
    let parent = stage
        .parent
        .as_deref()
        .and_then(|name| context.plan.stage(name))
        .ok_or_else(|| Error::build(format!("the plan has no stage for the parent of `{}`", stage.name)))?;
    ensure(context, parent).await
}

/// The name of a stage's layer: its fingerprint, and where its steps use secrets also what the
/// local HMAC makes of them.
pub(super) fn key(context: &Context<'_>, stage: &Stage) -> Result<String> {
    let fingerprint = stage.fingerprint.as_str();
    if stage.secrets.is_empty() {
        return Ok(fingerprint.to_owned());
    }
    let tags = context.settings.results.secrets.tags(&context.settings.results.cache, &stage.secrets)?;
    Ok(format!("{fingerprint}-{}", Fingerprint::of("secrets", &tags).short()))
}

/// Takes the lock of a layer; waits, and says so, while another visabuild builds it.
pub(super) async fn take_lock(context: &Context<'_>, template: &str, lock: BuildLock) -> Result<BuildLock> {
    if !lock.try_take()? {
        context.events.info(Some(template), "another visabuild is building this layer; waiting for it");
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
            taken = lock.take() => taken?,
        }
    }
    Ok(lock)
}

/// The record of a layer that was just made.
pub(super) fn info(template: &str, below: Option<&Layer>, timings: &Timings) -> LayerInfo {
    let phases = timings.list();
    LayerInfo {
        instance: uuid::Uuid::new_v4().simple().to_string(),
        parent: below.map(|layer| layer.info.instance.clone()),
        template: template.to_owned(),
        engine: None,
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        seconds: phases.iter().map(|(_, seconds)| seconds).sum(),
        phases,
    }
}
