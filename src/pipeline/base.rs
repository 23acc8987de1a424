//! The base disk of a chain, out of the cache or made.

use std::path::{Path, PathBuf};

use super::{Context, installer, layer, packages, timings::Timings};
use crate::cache::{Layer, LayerInfo, Share};
use crate::error::Result;
use crate::package_cache::FetchedFile;
use crate::plan::{Base, BaseSource, Stage};
use crate::source::bootstrap;
use crate::template::Bootstrap;

/// Where in a working folder the base disk is made.
pub fn folder(work: &Path) -> PathBuf {
    work.join("base")
}

/// The base disk of `stage`.
pub(super) async fn ensure(context: &Context<'_>, stage: &Stage, base: &Base) -> Result<Layer> {
    let store = context.settings.results.cache.bases();
    let key = context.settings.results.key(&base.fingerprint, &base.secrets)?;
    let _own = context.shared.base.lock().await;
    let _lock = layer::take_lock(context, &stage.name, store.build_lock(&key)?).await?;
    if context.may_reuse(&key)
        && let Some(found) = store.find(&key, None, context.warns(&stage.name))?
    {
        context.events.info(Some(&stage.name), "the base disk is in the cache");
        return Ok(found);
    }
    let mut timings = Timings::new(context, stage, Share::Base);
    let (disk, fetched) = match &base.source {
        BaseSource::Bootstrap(spec) => bootstrap(context, spec, &stage.name, &mut timings).await?,
        BaseSource::Installer(installer) => {
            (installer::install(context, stage, installer, &folder(&context.work), &mut timings).await?, Vec::new())
        }
    };
    let layer = store.put(&key, &disk, &LayerInfo { fetched, ..layer::info("base", &timings) })?;
    context.mark_built(&key);
    Ok(layer)
}

/// Whether the base disk of `stage` is there, or its installer has all that it needs.
pub(super) async fn can_be_made(context: &Context<'_>, stage: &Stage, base: &Base) -> Result<()> {
    let BaseSource::Installer(installer) = &base.source else { return Ok(()) };
    let key = context.settings.results.key(&base.fingerprint, &base.secrets)?;
    if context.may_reuse(&key) && context.settings.results.cache.bases().get(&key, None)?.is_some() {
        return Ok(());
    }
    let mut timings = Timings::new(context, stage, Share::Base);
    installer::check(context, stage, installer, &folder(&context.work), &mut timings).await
}

/// The disk that mmdebstrap makes, and what was fetched for it.
async fn bootstrap(
    context: &Context<'_>,
    spec: &Bootstrap,
    template: &str,
    timings: &mut Timings,
) -> Result<(PathBuf, Vec<FetchedFile>)> {
    let packages = context.serve_packages(template).await?;
    let (mirrors, acquire) = packages::of_host(context.settings, packages.as_deref());
    let phase = timings.phase("bootstrap");
    let host = bootstrap::Host {
        mirrors,
        acquire,
        keyring: context.settings.keyring.clone(),
        work_dir: folder(&context.work),
    };
    let made = bootstrap::build(spec, &host, &phase, context.cancel).await;
    let made = packages::explained(packages.as_deref(), made)?;
    timings.done(phase);
    Ok((made.disk, packages.map(|packages| packages.files()).unwrap_or_default()))
}
