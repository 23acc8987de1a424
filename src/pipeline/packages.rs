//! The package cache of a stage, where there is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::{Context, Settings};
use crate::error::Result;
use crate::package_cache::{FetchedFile, Session};
use crate::source::apt::{Acquire, Mirrors};
use crate::template::Text;

impl Context<'_> {
    /// A server of the package cache for `template`, as long as the value lives.
    pub(super) async fn serve_packages(&self, template: &str) -> Result<Option<Arc<Session>>> {
        match &self.settings.packages {
            Some(cache) => Ok(Some(Arc::new(cache.serve(template, self.events).await?))),
            None => Ok(None),
        }
    }
}

/// Says what came from where, and, of a failure, what could not be had without the network.
pub(super) fn explained<T>(packages: Option<&Session>, result: Result<T>) -> Result<T> {
    let Some(packages) = packages else { return result };
    packages.tell();
    result.map_err(|error| packages.explain(error))
}

/// The guest's environment.
pub(super) fn environment(settings: &Settings, packages: Option<&Session>) -> Vec<(String, Text)> {
    packages.map_or_else(|| settings.environment.clone(), |packages| packages.environment(&settings.environment))
}

/// The guest's apt.conf(5); may hold the credentials of a proxy.
pub(super) fn apt_configuration(settings: &Settings, packages: Option<&Session>) -> String {
    let without = settings.apt_configuration.expose_secret();
    packages.map_or_else(|| without.to_owned(), |packages| packages.apt_configuration(without))
}

/// Where the host's own programs get packages, and how.
pub(super) fn of_host(settings: &Settings, packages: Option<&Session>) -> (Mirrors, Acquire) {
    let (mirrors, acquire) = (&settings.mirrors, &settings.acquire);
    match packages {
        Some(packages) => (mirrors.without_credentials(), packages.acquire(acquire)),
        None => (mirrors.clone(), acquire.clone()),
    }
}

/// Two lists as one, sorted by URL; of two versions of a file the newer.
pub(super) fn joined(before: &[FetchedFile], after: Vec<FetchedFile>) -> Vec<FetchedFile> {
    let files = before.iter().cloned().chain(after).map(|file| (file.url.clone(), file));
    files.collect::<BTreeMap<_, _>>().into_values().collect()
}
