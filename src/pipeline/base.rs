//! The base disk of a chain, out of the cache or made.

use std::path::{Path, PathBuf};

use super::{Context, layer, timings::Timings};
use crate::cache::Layer;
use crate::error::Result;
use crate::plan::{Base, Stage};
use crate::source::bootstrap;

/// Where in a working folder the base disk is made.
pub fn folder(work: &Path) -> PathBuf {
    work.join("base")
}

/// The base disk of `stage`.
pub(super) async fn ensure(context: &Context<'_>, stage: &Stage, base: &Base) -> Result<Layer> {
    let store = context.settings.results.cache.bases();
    let key = base.fingerprint.as_str();
    let _lock = layer::take_lock(context, &stage.name, store.build_lock(key)?).await?;
    if context.may_reuse(key)
        && let Some(found) = store.get(key, None)?
    {
        context.events.info(Some(&stage.name), "the base disk is in the cache");
        return Ok(found);
    }
    let mut timings = Timings::new(context.events, &stage.name);
    let phase = timings.phase("bootstrap");
    let host = bootstrap::Host {
        mirrors: context.settings.mirrors.clone(),
        acquire: context.settings.acquire.clone(),
        keyring: context.settings.keyring.clone(),
        work_dir: folder(&context.work),
    };
    let made = bootstrap::build(&base.bootstrap, &host, &phase, context.cancel).await?;
    timings.done(phase);
    let layer = store.put(key, &made.disk, &layer::info("base", None, &timings))?;
    context.mark_built(key);
    Ok(layer)
}
