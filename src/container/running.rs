//! A running container.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{self, Config};
use super::kernel_log::KernelLog;
use super::namespaces::{NameSpaces, Outer};
use super::network::{self, Network};
use super::storage::{self, Export, Storage};
use super::tools;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::guest::Address;
use crate::machine::console::Console;
use crate::machine::{Ended, Reporter, Start, Stderr, Watch};
use crate::process;

/// Its name, for messages.
const PROGRAM: &str = "systemd-nspawn";

/// Its exit code when the guest reboots and a service manager (here: we) is to start it again
/// (systemd's `EXIT_FORCE_RESTART`).
const REBOOT: i32 = 133;

/// How long nspawn may lag behind the end of its network, which is not the reason then.
const LAG: Duration = Duration::from_secs(10);

/// How long the last of the console may take to be read.
const CONSOLE: Duration = Duration::from_secs(2);

/// How long nspawn may take to start the guest's first process.
const START: Duration = Duration::from_secs(60);

/// A container that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    watch: Watch,
    network: watch::Receiver<Option<Arc<OwnedFd>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    supervisor: Mutex<Option<JoinHandle<Option<Host>>>>,
}

/// What the host gives to a container, over its reboots.
#[derive(Debug)]
struct Host {
    name_spaces: NameSpaces,
    storage: Storage,
    kernel_log: KernelLog,
}

impl Running {
    /// Mounts the disk and starts to boot it.
    ///
    /// # Errors
    /// The host cannot do it (kind host), a program that runs it fails (kind build), or the start's
    /// `cancel` fires.
    pub async fn start(config: &Config, start: Start<'_>) -> Result<Self> {
        let host = Host::new(config, start).await?;
        let (reporter, watch) = Watch::channel();
        let (sender, mut network) = watch::channel(None);
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            host,
            config: config.clone(),
            runtime: start.runtime.to_owned(),
            serial_log: start.serial_log.to_owned(),
            template: start.template.to_owned(),
            events: start.events.clone(),
            reporter,
            network: sender,
            stop: stop.clone(),
        };
        let running = Self {
            watch,
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
            () = tokio::time::sleep(START) => Error::build(format!("`{PROGRAM}` started nothing within {START:?}")),
        };
        running.stop().await;
        Err(error)
    }

    /// Where the guest's TCP port `port` is reached; on its loopback address only.
    pub fn address(&self, port: u16) -> Address {
        Address::NameSpace { current: self.network.clone(), port }
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
        let ended = tokio::select! {
            ended = self.watch.ended() => Ok(ended),
            () = cancel.cancelled() => Err(Error::new(Kind::Interrupted, "the shutdown was stopped")),
            () = tokio::time::sleep(timeout) => {
                Err(Error::build(format!("the guest did not power off within {timeout:?}"))
                    .hint("the serial log has what it was doing; `shutdown_timeout` gives it more time"))
            }
        };
        let error = match (ended, self.host().await) {
            (Ok(Ended::PoweredOff), Some(host)) => return host.complete(cancel).await,
            (Ok(ended), host) => {
                close(host).await;
                Error::from(ended).context("the guest did not power off cleanly")
            }
            (Err(error), host) => {
                close(host).await;
                error
            }
        };
        Err(error)
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

impl Host {
    async fn new(config: &Config, start: Start<'_>) -> Result<Self> {
        // Before anything can be written.
        let kernel_log = KernelLog::open()?;
        let root = config::root(start.runtime);
        if root.starts_with("/run") && !Path::new("/run/systemd").is_dir() {
            return Err(Error::host(format!("a container cannot have its disk in {}", root.display()))
                .hint("use a cache outside of /run, by XDG_CACHE_HOME"));
        }
        fs::create_dir(&root).context(Kind::Host, || format!("cannot make {}", root.display()))?;
        let outer = Outer::new(start.cancel).await?;
        let raw = start.runtime.join("disk.raw");
        let told = (start.template, start.events);
        let export = match Export::start(&outer, &config.disk, &raw, told, start.cancel).await {
            Ok(export) => export,
            Err(error) => {
                outer.close().await;
                return Err(error);
            }
        };
        let name_spaces = NameSpaces::new(outer, start.cancel).await?;
        let mounted = Storage::mount(&name_spaces, export, root, start.cancel).await.and_then(|storage| {
            let (partition, file_system) = storage.root_ids(&name_spaces)?;
            tools::write(start.runtime, partition, file_system)?;
            Ok(storage)
        });
        match mounted {
            Ok(storage) => Ok(Self { name_spaces, storage, kernel_log }),
            Err(error) => {
                name_spaces.close().await;
                Err(error)
            }
        }
    }

    async fn complete(mut self, cancel: &CancellationToken) -> Result<()> {
        let detached = self.storage.detach(&self.name_spaces, &mut self.kernel_log, cancel).await;
        self.name_spaces.close().await;
        detached
    }

    async fn close(self) {
        drop(self.storage);
        self.name_spaces.close().await;
    }
}

/// Runs a container to its end, over reboots.
struct Supervisor {
    host: Host,
    config: Config,
    runtime: PathBuf,
    serial_log: PathBuf,
    template: String,
    events: Events,
    reporter: Reporter,
    network: watch::Sender<Option<Arc<OwnedFd>>>,
    stop: CancellationToken,
}

/// How one boot ended.
enum Boot {
    Reboot,
    Ended(Ended),
}

/// One boot's processes.
struct Processes {
    nspawn: Child,
    network: Network,
    stderr: Stderr,
    stderr_reader: JoinHandle<()>,
    console: JoinHandle<()>,
    notifications: UnixDatagram,
}

impl Supervisor {
    /// Returns the host's part if the guest powered off: its disk is to be completed.
    async fn run(mut self) -> Option<Host> {
        let ended = loop {
            let started = tokio::select! {
                started = self.start() => started,
                () = self.stop.cancelled() => break Ended::Stopped,
            };
            let boot = match started {
                Ok(processes) => self.follow(processes).await,
                Err(error) => Boot::Ended(Ended::NotStarted { reason: error.chain().join(": ") }),
            };
            self.network.send_replace(None);
            match boot {
                Boot::Reboot => self.reporter.reset(),
                Boot::Ended(ended) => break ended,
            }
        };
        self.reporter.end(ended.clone());
        // What the console said first may have been another reason: only a disk of a guest that
        // powered off is worth anything.
        if ended == Ended::PoweredOff {
            return Some(self.host);
        }
        self.host.close().await;
        self.reporter.gone();
        None
    }

    async fn start(&self) -> Result<Processes> {
        let fail = || format!("cannot run `{PROGRAM}`");
        let socket = self.runtime.join("notify");
        // Left by the boot before, if there was one.
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).context(Kind::Host, fail)?;
        let name_spaces = &self.host.name_spaces;
        let network = Network::start(name_spaces, &self.template, &self.events).await?;
        let arguments = self.config.arguments(&self.runtime);
        let mut command = name_spaces.command_in_group(PROGRAM, arguments);
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").env("NOTIFY_SOCKET", &socket);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let console = Console::new(&self.template, &self.events, self.reporter.clone(), &self.serial_log)?;
        let mut nspawn = process::spawn(command).await.context(Kind::Host, fail)?;
        let (stderr, stderr_reader) = Stderr::follow(nspawn.stderr.take(), PROGRAM, &self.events, &self.template);
        let console = match nspawn.stdout.take() {
            Some(stdout) => tokio::spawn(console.follow(stdout)),
            None => tokio::spawn(std::future::ready(())),
        };
        Ok(Processes { nspawn, network, stderr, stderr_reader, console, notifications })
    }

    /// Waits for the end of a boot and of its processes.
    async fn follow(&mut self, mut processes: Processes) -> Boot {
        let device = self.host.storage.device().to_owned();
        let boot = loop {
            tokio::select! {
                biased;
                text = self.host.kernel_log.error_of(&device) => {
                    break Boot::Ended(self.host.storage.lost_write(text));
                }
                status = processes.nspawn.wait() => break nspawn_ended(status, &mut processes).await,
                leader = leader(&processes.notifications) => self.entered(leader),
                status = processes.network.ended() => {
                    // It ends with the container's network, too.
                    if let Ok(status) = tokio::time::timeout(LAG, processes.nspawn.wait()).await {
                        break nspawn_ended(status, &mut processes).await;
                    }
                    break Boot::Ended(died(network::PROGRAM, status, processes.network.last_words().await));
                }
                status = self.host.storage.ended() => {
                    break Boot::Ended(died(storage::PROGRAM, status, self.host.storage.last_words().await));
                }
                () = self.stop.cancelled() => break Boot::Ended(Ended::Stopped),
            }
        };
        // Gone already where nspawn ended by itself. The interface must be gone before the next boot's.
        let _ = processes.nspawn.kill().await;
        processes.network.stop().await;
        processes.console.abort();
        processes.stderr_reader.abort();
        // What was logged while it ended.
        match (self.host.kernel_log.errors_so_far(&device), boot) {
            (Some(text), Boot::Reboot | Boot::Ended(Ended::PoweredOff)) => {
                Boot::Ended(self.host.storage.lost_write(text))
            }
            (_, boot) => boot,
        }
    }

    /// nspawn tells its container's first process; through it the network is reached.
    fn entered(&self, leader: u32) {
        let path = self.host.name_spaces.network_of(leader);
        match File::open(&path) {
            Ok(file) => drop(self.network.send_replace(Some(Arc::new(file.into())))),
            Err(error) => self.events.debug(Some(&self.template), format!("{}: {error}", path.display())),
        }
    }
}

/// How a boot ended, by nspawn's end. What it wrote last is still in the pipes; they close with the container.
async fn nspawn_ended(status: std::io::Result<ExitStatus>, processes: &mut Processes) -> Boot {
    let said = processes.stderr.last_words(&mut processes.stderr_reader).await;
    let _ = tokio::time::timeout(CONSOLE, &mut processes.console).await;
    match status.as_ref().ok().and_then(ExitStatus::code) {
        Some(0) => Boot::Ended(Ended::PoweredOff),
        Some(REBOOT) => Boot::Reboot,
        _ => Boot::Ended(died(PROGRAM, status, said)),
    }
}

/// Waits for nspawn's word of which process is the container's first (sd_notify(3) in nspawn's
/// documentation of `--notify-ready=`), in the number that it has in our name spaces.
async fn leader(notifications: &UnixDatagram) -> u32 {
    let mut buffer = [0; 4096];
    loop {
        let Ok(count) = notifications.recv(&mut buffer).await else { return std::future::pending().await };
        let text = String::from_utf8_lossy(&buffer[..count]);
        let pid = text.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID=")?.parse().ok());
        if let Some(pid) = pid {
            return pid;
        }
    }
}

fn died(program: &'static str, status: std::io::Result<ExitStatus>, stderr: String) -> Ended {
    match status {
        Ok(status) => match status.signal() {
            Some(signal) => Ended::Killed { program, signal, stderr },
            None => Ended::Exited { program, code: status.code().unwrap_or(-1), stderr },
        },
        Err(error) => Ended::Exited { program, code: -1, stderr: error.to_string() },
    }
}
