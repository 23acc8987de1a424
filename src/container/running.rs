//! A running container.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::Config;
use super::host::Host;
use super::supervisor::{PROGRAM, Supervisor};
use crate::error::{Cause, Error, Kind, Result};
use crate::guest::Address;
use crate::machine::live_disk::LiveDisk;
use crate::machine::{Start, Watch, powered_off};

/// How long nspawn may take to start the guest's first process.
const START: Duration = Duration::from_secs(60);

/// A container that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    watch: Watch,
    disk: LiveDisk,
    network: watch::Receiver<Option<Arc<OwnedFd>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    supervisor: Mutex<Option<JoinHandle<Option<Host>>>>,
}

impl Running {
    /// Mounts the disk and starts to boot it.
    ///
    /// # Errors
    /// The host cannot do it (kind host), a program that runs it fails (kind build), or the start's
    /// `cancel` fires.
    pub async fn start(config: &Config, start: Start<'_>) -> Result<Self> {
        let host = Host::new(config, start).await?;
        let disk = host.storage.live_disk();
        let (reporter, watch) = Watch::channel();
        let (sender, mut network) = watch::channel(None);
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            host,
            config: config.clone(),
            runtime: start.runtime.to_owned(),
            serial_log: start.serial_log.to_owned(),
            serial_raw: start.serial_raw.map(Into::into),
            template: start.template.to_owned(),
            events: start.events.clone(),
            reporter,
            network: sender,
            stop: stop.clone(),
        };
        let running = Self {
            watch,
            disk,
            network: network.clone(),
            stop: stop.clone(),
            _stop_on_drop: stop.drop_guard(),
            supervisor: Mutex::new(Some(tokio::spawn(supervisor.run()))),
        };
        let entered = async { network.wait_for(Option::is_some).await.map(drop) };
        let error = tokio::select! {
            entered = entered => match entered {
                Ok(()) => return Ok(running),
                Err(_) => running.watch.ended().await.into(),
            },
            ended = running.watch.ended() => ended.into(),
            () = start.cancel.cancelled() => Error::new(Kind::Interrupted, "the start of the container was stopped"),
            () = tokio::time::sleep(START) => {
                Error::build(format!("`{PROGRAM}` started nothing within {START:?}")).caused_by(Cause::NotStarted)
            }
        };
        running.stop().await;
        Err(error)
    }

    /// Where the guest's TCP port `port` is reached; on its loopback address only.
    pub fn address(&self, port: u16) -> Address {
        Address::NameSpace { current: self.network.clone(), port }
    }

    /// The disk that it boots from, for whoever leads its writes elsewhere.
    pub(crate) fn disk(&self) -> &LiveDisk {
        &self.disk
    }

    /// A view of the container for whoever waits for something of it.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Waits until the guest has powered off, and completes its disk.
    ///
    /// # Errors
    /// The guest is still running after `timeout`, ends in another way, its disk cannot be
    /// completed, or `cancel` fires; the container is stopped then.
    pub async fn shutdown(&self, timeout: Duration, cancel: &CancellationToken) -> Result<()> {
        let powered_off = powered_off(async { Ok(self.watch.ended().await) }, timeout, cancel).await;
        match (powered_off, self.host().await) {
            (Ok(()), Some(host)) => host.complete(cancel).await,
            (Ok(()), None) => Err(Error::build("the container's disk was given up before it was complete")),
            (Err(error), host) => {
                close(host).await;
                Err(error)
            }
        }
    }

    /// Ends the container, whatever the guest does, and waits until nothing of it is left.
    pub async fn stop(&self) {
        close(self.host().await).await;
    }

    /// Ends the container; what is left of it, if it ended by powering off.
    async fn host(&self) -> Option<Host> {
        let supervisor = self.supervisor.lock().await.take();
        self.stop.cancel();
        match supervisor {
            Some(supervisor) => supervisor.await.ok().flatten(),
            None => None,
        }
    }
}

async fn close(host: Option<Host>) {
    if let Some(host) = host {
        host.close().await;
    }
}
