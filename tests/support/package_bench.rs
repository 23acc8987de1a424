//! A package cache in a folder of its own, and what is said of it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use visabuild::cache::Cache;
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::package_cache::{PackageCache, Session, Upstreams};
use visabuild::preflight::certificates::Certificate;
use visabuild::preflight::pip::Index;
use visabuild::preflight::reach::Proxy;
use visabuild::source::apt::{Acquire, Mirrors};

#[derive(Clone, Default)]
pub struct Told(pub Arc<Mutex<Vec<String>>>);

impl Subscriber for Told {
    fn receive(&self, event: &Timed) {
        if let Event::Message { text, .. } = &event.event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// A cache folder and what is said of it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub told: Told,
    pub proxy: Proxy,
    pub acquire: Acquire,
    pub mirrors: Option<Mirrors>,
    pub pip: Option<Index>,
    pub npm: Option<Index>,
    pub authorities: Vec<Certificate>,
}

pub fn index(url: impl Into<String>) -> Option<Index> {
    Some(Index { url: url.into().into(), origin: String::new() })
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (told, proxy, acquire) = (Told::default(), Proxy::default(), Acquire::default());
        Self { folder, told, proxy, acquire, mirrors: None, pip: None, npm: None, authorities: Vec::new() }
    }

    pub fn events(&self) -> Events {
        Events::new(vec![Box::new(self.told.clone())], Redactor::default())
    }

    pub fn said(&self) -> Vec<String> {
        self.told.0.lock().unwrap().clone()
    }

    pub fn open(&self, offline: bool) -> PackageCache {
        let upstreams = Upstreams {
            proxy: &self.proxy,
            acquire: &self.acquire,
            authorities: &self.authorities,
            mirrors: self.mirrors.as_ref(),
            pip_index: self.pip.as_ref(),
            npm_registry: self.npm.as_ref(),
        };
        let cache = Cache::open(self.folder.path()).unwrap();
        PackageCache::open(&cache, &upstreams, offline, &self.events()).unwrap()
    }

    pub async fn session(&self, offline: bool) -> Session {
        self.open(offline).serve("t", &self.events()).await.unwrap()
    }

    /// The files of the cache with this content.
    pub fn kept(&self, content: &[u8]) -> Vec<PathBuf> {
        let files = walkdir::WalkDir::new(self.folder.path()).into_iter().flatten().map(walkdir::DirEntry::into_path);
        files.filter(|path| fs::read(path).is_ok_and(|bytes| bytes == content)).collect()
    }
}
