//! Runs a container to its end, over reboots, and finds out why it ended.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::export;
use super::host::Host;
use super::network::{self, Network};
use crate::error::{Context, Kind, Result};
use crate::event::Events;
use crate::machine::console::Console;
use crate::machine::{Ended, Reporter, Stderr};
use crate::process;

/// Its name, for messages.
pub(super) const PROGRAM: &str = "systemd-nspawn";

/// Its exit code when the guest reboots and a service manager (here: we) is to start it again
/// (systemd's `EXIT_FORCE_RESTART`).
const REBOOT: i32 = 133;

/// How long nspawn may lag behind the end of its network, which is not the reason then.
const LAG: Duration = Duration::from_secs(10);
/// Within this time the end of the disk's daemon is known after the kernel has told of a failed write.
const CAUSE: Duration = Duration::from_millis(250);

/// How long the last of the console may take to be read.
const CONSOLE: Duration = Duration::from_secs(2);

/// Runs a container to its end, over reboots.
pub(super) struct Supervisor {
    pub(super) host: Host,
    pub(super) config: Config,
    pub(super) runtime: PathBuf,
    pub(super) serial_log: PathBuf,
    pub(super) serial_raw: Option<PathBuf>,
    pub(super) template: String,
    pub(super) events: Events,
    pub(super) reporter: Reporter,
    pub(super) network: watch::Sender<Option<Arc<OwnedFd>>>,
    pub(super) stop: CancellationToken,
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
    pub(super) async fn run(mut self) -> Option<Host> {
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
        let console = Console::new(
            &self.template,
            &self.events,
            self.reporter.clone(),
            (&self.serial_log, self.serial_raw.as_deref()),
        )?;
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
                    // A disk whose daemon is gone fails, too.
                    break Boot::Ended(match tokio::time::timeout(CAUSE, self.host.storage.ended()).await {
                        Ok(status) => died(export::PROGRAM, status, self.host.storage.last_words().await),
                        Err(_) => self.host.storage.lost_write(text),
                    });
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
                    break Boot::Ended(died(export::PROGRAM, status, self.host.storage.last_words().await));
                }
                () = self.stop.cancelled() => break Boot::Ended(Ended::Stopped),
            }
        };
        // Told before the container's programs die of it, which a step would be blamed for.
        if let Boot::Ended(ended) = &boot
            && *ended != Ended::PoweredOff
        {
            self.reporter.end(ended.clone());
        }
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
        Ok(status) => Ended::of(program, Some(status), stderr),
        Err(error) => Ended::of(program, None, error.to_string()),
    }
}
