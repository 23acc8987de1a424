//! The package cache and the network of a build, as the options say.

use std::path::Path;
use std::process::Stdio;

use tokio_util::sync::CancellationToken;

use super::args::BuildArgs;
use super::project::Prepared;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::package_cache::{Choices, PackageCache, Upstreams};
use crate::preflight::pip::Index;
use crate::process::Run;
use crate::source::apt::Acquire;

/// Options that contradict each other, also where they come from variables.
pub(super) fn check(args: &BuildArgs) -> Result<()> {
    if !args.project.offline {
        return Ok(());
    }
    if args.no_package_cache {
        return Err(Error::usage(
            "`--offline` takes packages from the cache, and `--no-package-cache` does without it",
        )
        .hint("leave one of them out (VISABUILD_OFFLINE and VISABUILD_NO_PACKAGE_CACHE count, too)"));
    }
    if args.upload {
        return Err(Error::usage("`--upload` needs the network, and `--offline` leaves it alone")
            .hint("build with `--offline`, and run `visabuild upload` afterwards"));
    }
    Ok(())
}

/// Tells the index that pip has built in.
const PIP: [&str; 2] = ["-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"];
/// Tells the registry that npm has built in, where none is configured.
const NPM: [&str; 3] = ["config", "get", "registry"];

/// What a program of the host says that it asks where nothing is configured; none where there is no such program.
async fn built_in<const N: usize>(
    program: &'static str,
    arguments: [&'static str; N],
    cancel: &CancellationToken,
) -> Option<Index> {
    let run = Run::new(program, arguments).with(|command| {
        // Not the configuration of a project that happens to be here.
        command.current_dir("/").stdin(Stdio::null());
    });
    let said = run.output(cancel).await.ok()?;
    let url = said.lines().last()?.trim();
    let is_url = url.starts_with("https://") || url.starts_with("http://");
    is_url.then(|| Index { url: url.into(), origin: program.to_owned() })
}

/// The cache, unless it is switched off. Guests' pip and npm come through it also where the host names no index and no
/// registry, if its own pip and npm know which they would ask.
pub(super) async fn open(
    args: &BuildArgs,
    prepared: &Prepared,
    acquire: &Acquire,
    cache: &Cache,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Option<PackageCache>> {
    if args.no_package_cache {
        return Ok(None);
    }
    let (pip, npm) = tokio::join!(
        async {
            match &prepared.pip_index {
                Some(index) => Some(index.clone()),
                None => built_in("python3", PIP, cancel).await,
            }
        },
        async {
            match &prepared.npm_registry {
                Some(registry) => Some(registry.clone()),
                None => built_in("npm", NPM, cancel).await,
            }
        }
    );
    let upstreams = Upstreams {
        proxy: &prepared.proxy,
        acquire,
        authorities: &prepared.certificates.certificates,
        mirrors: prepared.mirrors.as_ref().ok(),
        pip_index: pip.as_ref(),
        npm_registry: npm.as_ref(),
    };
    if args.project.offline {
        events.info(None, "offline: everything comes from the cache");
    }
    PackageCache::open(cache, &upstreams, args.project.offline, events).map(Some)
}

/// The name under which a project's choices are remembered.
pub(super) fn project_name(folder: &Path) -> String {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

/// Remembers which alternatives are reachable, for builds without the network.
pub(super) fn remember(args: &BuildArgs, prepared: &Prepared, cache: &Cache) {
    let (choices, project) = (Choices::below(cache.root()), project_name(&args.project.directory));
    for (variable, chosen) in prepared.plan.stages.iter().flat_map(|stage| &stage.alternatives) {
        if chosen.how == "reachable" {
            choices.put(&project, variable, &chosen.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_has_built_in_is_asked_and_may_be_nothing() {
        let cancel = CancellationToken::new();
        let asked =
            async |said: &'static str| built_in("sh", ["-c", said], &cancel).await.map(|index| index.public_url());
        let url = "https://index.example/simple";
        assert_eq!(asked("echo a note; echo https://index.example/simple").await.as_deref(), Some(url));
        for none in ["echo undefined", "exit 1", ":"] {
            assert_eq!(asked(none).await, None, "{none}");
        }
        assert!(built_in("no-such-program", [], &cancel).await.is_none());
    }
}
