//! A stage's layer, out of the cache or provisioned.

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use super::checkpoint::Checkpoints;
use super::timings::Timings;
use super::{Context, base};
use crate::cache::{BuildLock, Layer, LayerInfo, Share};
use crate::error::{Error, Kind, Result};
use crate::plan::Stage;

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
        if context.may_reuse_steps(stage, stage.steps.len(), &key)
            && let Some(found) = store.find(&key, Some(&below.info.instance), context.warns(&stage.name))?
        {
            context.events.info(Some(&stage.name), "its layer is in the cache");
            return Ok(found);
        }
        let mut timings = Timings::new(context, stage, Share::Layer);
        let mut checkpoints = Checkpoints::begin(context, stage, &below, stage.steps.len()).await?;
        let made = async { checkpoints.provision(&mut timings).await?.close(&mut timings).await }.await;
        checkpoints.explained(made)?;
        let layer = store.put(&key, checkpoints.disk(), &checkpoints.info(&timings))?;
        context.mark_built(&key);
        Ok(layer)
    })
}

/// Does the steps of `stage` up to and with the one of that number, from 0, and keeps a checkpoint, or the layer if it is
/// the last.
pub(super) async fn until<'a>(context: &'a Context<'a>, stage: &'a Stage, step: usize) -> Result<()> {
    let end = step + 1;
    if end >= stage.steps.len() {
        return ensure(context, stage).await.map(drop);
    }
    let below = below(context, stage).await?;
    let key = key(context, stage)?;
    let _lock = take_lock(context, &stage.name, context.settings.results.cache.layers().build_lock(&key)?).await?;
    let mut timings = Timings::new(context, stage, Share::Layer);
    let mut checkpoints = Checkpoints::begin(context, stage, &below, end).await?;
    if checkpoints.left().is_empty() {
        return Ok(());
    }
    let made = checkpoints.provision(&mut timings).await;
    // What is kept is kept: the guest need not even power off.
    checkpoints.explained(made)?.give_up().await;
    Ok(())
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
    context.settings.results.key(&stage.fingerprint, &stage.secrets)
}

/// Takes the lock of a layer; waits, and says so, while somebody else builds it.
pub(super) async fn take_lock(context: &Context<'_>, template: &str, lock: BuildLock) -> Result<BuildLock> {
    if !lock.try_take()? {
        context.events.info(Some(template), "this layer is being built already; waiting for it");
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
            taken = lock.take() => taken?,
        }
    }
    Ok(lock)
}

/// The record of a layer that was just made, on nothing.
pub(super) fn info(template: &str, timings: &Timings) -> LayerInfo {
    let phases = timings.list();
    LayerInfo {
        instance: uuid::Uuid::new_v4().simple().to_string(),
        parent: None,
        beneath: Vec::new(),
        template: template.to_owned(),
        engine: None,
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        seconds: phases.iter().map(|(_, seconds)| seconds).sum(),
        phases,
        guest: None,
        fetched: Vec::new(),
    }
}
