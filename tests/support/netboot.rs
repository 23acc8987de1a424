//! debian-installer's network images, out of the signed package of the host's own mirror.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use visabuild::cache::Cache;
use visabuild::download::{Downloader, Policy};
use visabuild::event::Events;
use visabuild::preflight::reach::Proxy;
use visabuild::source::apt::{Acquire, Mirror, Mirrors, read_sources};
use visabuild::source::package::{Host, Package, Wanted, extract, fetch};

/// The package.
const PACKAGE: &str = "debian-installer-13-netboot-amd64";
/// Its folder with kernel and initrd.
const IMAGES: &str = "/usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64";

fn wanted(package: &str) -> Wanted {
    let components = vec!["main".to_owned()];
    Wanted { suite: "trixie".to_owned(), components, package: package.to_owned(), version: None }
}

/// Its kernel and initrd, below `work`.
pub async fn installer(work: &Path) -> (PathBuf, PathBuf) {
    let cancel = CancellationToken::new();
    let cache = Cache::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("end-to-end/cache")).unwrap();
    let downloader = Downloader::new(&cache, &Proxy::default(), &[], Policy::default()).unwrap();
    let mirrors = Mirrors::from_sources(&read_sources(Path::new("/etc/apt")).unwrap()).unwrap();
    let acquire = Acquire::of_host(&cancel).await.unwrap();
    let host = Host { mirrors: &mirrors, acquire: &acquire, keyring: None, work_dir: work };
    let phase = Events::none().phase("t", "download");
    let Package { version, file } = fetch(&wanted(PACKAGE), &host, &downloader, &phase, &cancel).await.unwrap();
    let pair = |name: &str| (Path::new(IMAGES).join(name), work.join(name));
    extract(&file.path, &[pair("linux"), pair("initrd.gz")], &cancel).await.unwrap();

    // Without a mirror the newest is the last one, and what was never fetched is an error.
    let nowhere = Mirrors { main: Mirror::parse("http://127.0.0.1:1/debian").unwrap(), security: None };
    let host = Host { mirrors: &nowhere, ..host };
    let again = fetch(&wanted(PACKAGE), &host, &downloader, &phase, &cancel).await.unwrap();
    assert_eq!((&again.version, &again.file.path), (&version, &file.path));
    let error = fetch(&wanted("no-such-package"), &host, &downloader, &phase, &cancel).await.unwrap_err();
    assert_eq!(error.chain()[0], "cannot get the package no-such-package of trixie");
    (work.join("linux"), work.join("initrd.gz"))
}
