//! The package cache: a server on loopback between package managers and the servers that they know.
//!
//! APT comes as to a proxy, so the sources of an image stay what they are; pip and npm come as to an index and a
//! registry, by variables of the build's environment. Files that never change (pool files, `by-hash`, wheels,
//! tarballs) are kept with their SHA-256 and compared whenever they are used again; indexes are kept and revalidated.
//! Without the network everything comes from the cache as it is.
//!
//! Each stage has a server of its own, on a port that the kernel chooses, so what it fetched is known, also when
//! stages run side by side. The server goes out by the site's proxy and adds the credentials that the host has:
//! guests do not get them. A proxy sees nothing of https, so APT's method for https is replaced while an image is
//! built ([`APT_METHOD`]): it asks by http, and the request goes on by https.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::answers::web::Guarded;
use crate::cache::{Cache, replace_file};
use crate::error::{Context, Kind, Result};
use crate::event::Events;

pub use choices::Choices;
pub use log::FetchedFile;
pub use session::{GUEST_METHOD, Session};
pub use upstream::Upstreams;

use answer::Desk;
use flight::Fetcher;
use log::Log;
pub(crate) use store::Record;
use store::Store;
use upstream::Upstream;

mod answer;
mod choices;
mod flight;
mod index_page;
mod log;
mod session;
mod store;
mod target;
mod upstream;

/// APT's method for https in guests and on this host: its archives come through the cache like those by http.
pub const APT_METHOD: &str = include_str!("apt-https.sh");

/// The folder below that of the whole cache.
const FOLDER: &str = "packages";

/// The cache of packages. Cheap to clone; downloads end with the last one.
#[derive(Debug, Clone)]
pub struct PackageCache {
    fetcher: Arc<Fetcher>,
    offline: bool,
    /// [`APT_METHOD`] for the host's own programs.
    method: PathBuf,
    /// Ends downloads that nobody waits for any more.
    _running: Arc<Running>,
}

/// Ends what runs when it is dropped.
#[derive(Debug)]
struct Running(CancellationToken);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl PackageCache {
    /// The packages in `cache`, which come from `upstreams`, or, if `offline`, from nowhere else.
    ///
    /// # Errors
    /// The host's configuration cannot be used (kind usage), or the folder cannot be made (kind host).
    pub fn open(cache: &Cache, upstreams: &Upstreams<'_>, offline: bool, events: &Events) -> Result<Self> {
        let store = Store::open(cache.root().join(FOLDER))?;
        let method = store.folder().join("apt-https");
        replace_file(&method, APT_METHOD.as_bytes(), 0o700)
            .context(Kind::Host, || format!("cannot write {}", method.display()))?;
        let cancel = CancellationToken::new();
        let fetcher = Arc::new(Fetcher::new(store, Upstream::new(upstreams)?, events, cancel.clone()));
        Ok(Self { fetcher, offline, method, _running: Arc::new(Running(cancel)) })
    }

    /// A server for the stage or base disk of `template`, until it is dropped.
    ///
    /// # Errors
    /// There is no port on loopback (kind host).
    pub async fn serve(&self, template: &str, events: &Events) -> Result<Session> {
        let failed = || "the package cache cannot listen on loopback";
        let listener = TcpListener::bind("127.0.0.1:0").await.context(Kind::Host, failed)?;
        let address = listener.local_addr().context(Kind::Host, failed)?;
        let log = Arc::new(Log::default());
        let desk = Desk { fetcher: Arc::clone(&self.fetcher), log: Arc::clone(&log), offline: self.offline };
        let router = Router::new().fallback(answer::answer).with_state(Arc::new(desk));
        // Guests come as processes of this user, and so does the bootstrap: nobody else is answered.
        let listener = Guarded::new(listener, events, template).serving("the package cache");
        let task = tokio::spawn(async move {
            // Accepting goes on after every error, so this ends only when it is told to.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Session { cache: self.clone(), address, log, events: events.clone(), template: template.to_owned(), task })
    }
}
