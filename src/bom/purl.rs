//! Package URLs (the purl specification, "Types": deb, rpm, pypi, npm).

use packageurl::PackageUrl;

use crate::image::manifest::System;
use crate::inventory::{Ecosystem, Entry};

/// The package URL; none of what has no name.
pub(super) fn purl(os: Option<&System>, ecosystem: Ecosystem, entry: &Entry) -> Option<String> {
    match ecosystem {
        Ecosystem::Debian => system("deb", os, entry, &entry.version, None),
        Ecosystem::Rpm => {
            // The epoch is a qualifier there, and no part of the version.
            let (epoch, version) = entry.version.split_once(':').unzip();
            system("rpm", os, entry, version.unwrap_or(&entry.version), epoch)
        }
        Ecosystem::Python => plain("pypi", None, &ecosystem.normalized(&entry.name), &entry.version),
        Ecosystem::Npm => {
            let (scope, name) = scoped(&entry.name);
            plain("npm", scope, name, &entry.version)
        }
    }
}

/// `@scope/name` as both; there may be no scope.
pub(super) fn scoped(name: &str) -> (Option<&str>, &str) {
    let parts = name.split_once('/').filter(|(scope, _)| scope.starts_with('@'));
    parts.map_or((None, name), |(scope, name)| (Some(scope), name))
}

fn plain(kind: &str, namespace: Option<&str>, name: &str, version: &str) -> Option<String> {
    let mut url = PackageUrl::new(kind, name).ok()?;
    if let Some(namespace) = namespace {
        url.with_namespace(namespace).ok()?;
    }
    url.with_version(version).ok()?;
    Some(url.to_string())
}

fn system(kind: &str, os: Option<&System>, entry: &Entry, version: &str, epoch: Option<&str>) -> Option<String> {
    let mut url = PackageUrl::new(kind, entry.name.as_str()).ok()?;
    url.with_version(version).ok()?;
    if let Some(architecture) = &entry.architecture {
        url.add_qualifier("arch", architecture.as_str()).ok()?;
    }
    if let Some(epoch) = epoch {
        url.add_qualifier("epoch", epoch).ok()?;
    }
    if let Some(os) = os {
        url.with_namespace(os.id.as_str()).ok()?;
        let distribution = if os.version.is_empty() { os.id.clone() } else { format!("{}-{}", os.id, os.version) };
        url.add_qualifier("distro", distribution).ok()?;
    }
    Some(url.to_string())
}
