//! A running QEMU.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::socket;
use super::console::{Console, follow_firmware};
use super::ended::QEMU;
use super::live_disk::{self, LiveDisk};
use super::memory::Migration;
use super::qmp::{Qmp, QmpEvent, Version};
use super::supervisor::{Facts, Held, Readers, supervise};
use super::swtpm::Swtpm;
use super::{Config, Ended, Reporter, Stderr, VncPassword, Watch};
use crate::error::{Cause, Context, Error, Kind, Result};
use crate::event::{Event, Events};
use crate::process;

/// QEMU's program. Guests are x86-64, whatever the host is.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// How long QEMU may take from its start to the first answers of its monitor.
const START: Duration = Duration::from_secs(60);

/// How long QEMU may take to end when its monitor is told `quit`.
const QUIT: Duration = Duration::from_secs(5);

/// Longest path of a Unix socket, bytes (unix(7): 108 with the final zero).
const SOCKET_PATH: usize = 107;

/// What [`Running::start`] needs beside the machine.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Folder for sockets, there and private to the user; its path must be short, about 90 bytes at most.
    pub runtime: &'a Path,
    /// File that the serial console's lines are appended to.
    pub serial_log: &'a Path,
    /// File that gets all that the serial console says as it comes, secrets too, for whoever attaches to the build.
    pub serial_raw: Option<&'a Path>,
    /// The template that events belong to.
    pub template: &'a str,
    /// Who is told.
    pub events: &'a Events,
    /// Ends the start when it fires.
    pub cancel: &'a CancellationToken,
}

/// Who makes the guest power off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerOff {
    /// The machine's power button.
    Button,
    /// The guest itself: it has been told to over SSH, or is made to do so at its end.
    Guest,
}

/// A running machine; dropping it kills QEMU.
#[derive(Debug)]
pub struct Running {
    pub(super) qmp: Arc<Qmp>,
    pub(super) runtime: PathBuf,
    pub(super) serial_log: PathBuf,
    watch: Watch,
    reporter: Reporter,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    pid: u32,
    pub(super) ports: BTreeMap<u16, u16>,
    vnc: String,
    pub(super) disk: LiveDisk,
    pub(super) held: Held,
    pub(super) migration: Migration,
}

/// QEMU between its start and the first answers of its monitor.
struct Starting {
    child: Child,
    stderr: Stderr,
    stderr_reader: JoinHandle<()>,
}

impl Running {
    /// Starts QEMU and asks it for the ports that it chose.
    ///
    /// # Errors
    /// QEMU is missing or refuses its arguments (its standard error is the cause), a path is too
    /// long for a socket, or `cancel` fires.
    pub async fn start(config: &Config, start: Start<'_>) -> Result<Self> {
        let (reporter, watch) = Watch::channel();
        let console =
            Console::new(start.template, start.events, reporter.clone(), (start.serial_log, start.serial_raw))?
                .typed(config.typed);
        let monitor = listen(start.runtime, "qmp")?;
        let serial = listen(start.runtime, "serial")?;
        let tpm = match &config.tpm {
            Some(tpm) => Some(Swtpm::start(tpm, start.runtime, start.events, start.template).await?),
            None => None,
        };
        let firmware = listen(start.runtime, "firmware")?;
        let mut starting = spawn(config, &start).await?;
        let serial = tokio::spawn(async move {
            let accepted = serial.accept().await;
            drop(serial);
            if let Ok(stream) = accepted {
                console.follow(stream).await;
            }
        });
        let told = reporter.clone();
        let firmware = tokio::spawn(async move {
            let accepted = firmware.accept().await;
            drop(firmware);
            if let Ok(stream) = accepted {
                follow_firmware(stream, told).await;
            }
        });
        let opened = tokio::select! {
            opened = open(monitor, config.vnc.password.as_ref()) => opened,
            _ = starting.child.wait() => Err(Error::build("QEMU ended")),
            () = start.cancel.cancelled() => Err(Error::new(Kind::Interrupted, "the start of QEMU was stopped")),
            () = tokio::time::sleep(START) => Err(Error::build(format!("its monitor was silent for {START:?}"))),
        };
        let (qmp, events, vnc, ports) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                serial.abort();
                firmware.abort();
                return Err(starting.failed(error).await);
            }
        };
        let pid = starting.child.id().unwrap_or_default();
        let stop = CancellationToken::new();
        let qmp = Arc::new(qmp);
        let (moves, migration) = watch::channel(String::new());
        let running = Self {
            held: Held::default(),
            migration,
            disk: LiveDisk::new(Arc::clone(&qmp), config.overlay_node()),
            qmp,
            runtime: start.runtime.to_owned(),
            serial_log: start.serial_log.to_owned(),
            watch,
            reporter,
            stop: stop.clone(),
            _stop_on_drop: stop.clone().drop_guard(),
            pid,
            ports,
            vnc,
        };
        if let Some(tpm) = tpm {
            tpm.follow(running.watch(), running.reporter.clone());
        }
        running.supervise(config, starting, (serial, firmware), (events, moves));
        let template = start.template.to_owned();
        start.events.emit(Event::Console { template, url: running.vnc_url().to_owned() });
        Ok(running)
    }

    fn supervise(
        &self,
        config: &Config,
        starting: Starting,
        (serial, firmware): (JoinHandle<()>, JoinHandle<()>),
        (events, migration): (mpsc::UnboundedReceiver<QmpEvent>, watch::Sender<String>),
    ) {
        let mut drives = BTreeMap::from([(live_disk::NODE.to_owned(), config.disk.clone())]);
        let extra = config.drives.iter().enumerate().map(|(number, drive)| (format!("drive{number}"), &drive.path));
        drives.extend(extra.map(|(node, path)| (node, path.clone())));
        let facts = Facts {
            qmp: Arc::clone(&self.qmp),
            reporter: self.reporter.clone(),
            stderr: starting.stderr,
            drives,
            snapshot: config.snapshot,
            held: self.held.clone(),
            migration,
        };
        let readers = Readers {
            events: tokio::spawn(facts.clone().follow_events(events)),
            serial,
            firmware,
            stderr: starting.stderr_reader,
        };
        tokio::spawn(supervise(starting.child, readers, facts, self.stop.clone()));
    }

    /// Where the guest's TCP port `guest_port` is reached.
    ///
    /// # Errors
    /// The port is not among the machine's `guest_ports`.
    pub fn forwarded(&self, guest_port: u16) -> Result<SocketAddr> {
        match self.ports.get(&guest_port) {
            Some(port) => Ok((Ipv4Addr::LOCALHOST, *port).into()),
            None => Err(Error::build(format!("the guest's port {guest_port} is not forwarded"))),
        }
    }

    /// The disk that it boots from, for whoever leads its writes elsewhere.
    pub(crate) fn disk(&self) -> &LiveDisk {
        &self.disk
    }

    /// QEMU's version, as its monitor's greeting has it.
    pub(crate) fn version(&self) -> &Version {
        self.qmp.version()
    }

    /// Where to look at the screen: `vnc://127.0.0.1:59NN`.
    pub fn vnc_url(&self) -> &str {
        &self.vnc
    }

    /// QEMU's process; the number may be somebody else's once the machine is gone.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A view of the machine for whoever waits for something of it.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Waits until the machine ended or can no longer go on.
    pub async fn ended(&self) -> Ended {
        self.watch.ended().await
    }

    /// Writes the screen as PNG to `path`; also of a guest that has panicked.
    ///
    /// # Errors
    /// QEMU cannot write it, or is gone.
    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).context(Kind::Build, || "making a screenshot")?;
        let Some(name) = path.to_str() else {
            return Err(Error::build(format!("QEMU cannot write to {}: not UTF-8", path.display())));
        };
        self.qmp
            .execute("screendump", json!({ "filename": name, "format": "png" }))
            .await
            .map_err(|error| error.context("making a screenshot"))?;
        Ok(())
    }

    /// Cuts the guest's power and gives it back, as OpenStack's hard reboot does.
    ///
    /// # Errors
    /// QEMU is gone.
    pub async fn reset(&self) -> Result<()> {
        self.qmp.execute("system_reset", json!({})).await.map(drop)
    }

    /// Powers the guest off and waits until QEMU is gone and the disk complete.
    ///
    /// # Errors
    /// The guest is still running after `timeout`, ends in another way, or `cancel` fires; the
    /// machine is stopped then.
    pub async fn shutdown(self, how: PowerOff, timeout: Duration, cancel: &CancellationToken) -> Result<()> {
        let ended = async {
            if how == PowerOff::Button && self.watch.has_ended().is_none() {
                self.qmp.execute("system_powerdown", json!({})).await?;
            }
            Ok(self.watch.ended().await)
        };
        match powered_off(ended, timeout, cancel).await {
            Ok(()) => {
                self.watch.gone().await;
                Ok(())
            }
            Err(error) => {
                self.stop().await;
                Err(error)
            }
        }
    }

    /// Ends QEMU, whatever the guest does: its monitor's `quit`, then SIGTERM, then SIGKILL.
    pub async fn stop(self) {
        self.reporter.end(Ended::Stopped);
        // An error means that it is gone, or does not listen: the signals follow.
        let quit = async {
            let _ = self.qmp.execute("quit", json!({})).await;
            self.watch.gone().await;
        };
        if tokio::time::timeout(QUIT, quit).await.is_err() {
            self.stop.cancel();
            self.watch.gone().await;
        }
    }
}

/// Waits for a guest that is told to power off; `ended` says how its machine ended.
///
/// # Errors
/// It takes longer than `timeout`, ends in another way, or `cancel` fires.
pub(crate) async fn powered_off(
    ended: impl Future<Output = Result<Ended>>,
    timeout: Duration,
    cancel: &CancellationToken,
) -> Result<()> {
    let ended = tokio::select! {
        ended = ended => ended?,
        () = cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "the shutdown was stopped")),
        () = tokio::time::sleep(timeout) => {
            return Err(Error::build(format!("the guest did not power off within {timeout:?}"))
                .caused_by(Cause::TimedOut)
                .hint("the serial log has what it was doing; `shutdown_timeout` gives it more time"));
        }
    };
    match ended {
        Ended::PoweredOff => Ok(()),
        ended => Err(Error::from(ended).context("the guest did not power off cleanly")),
    }
}

impl Starting {
    /// What to say when QEMU did not come up: its own words explain most.
    async fn failed(mut self, error: Error) -> Error {
        if error.kind() == Kind::Interrupted {
            let _ = process::stop(&mut self.child, QUIT).await;
            return error;
        }
        // Its monitor may close a moment before the process ends.
        let status = match tokio::time::timeout(QUIT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => process::stop(&mut self.child, QUIT).await,
        };
        let _ = tokio::time::timeout(QUIT, &mut self.stderr_reader).await;
        let said = self.stderr.text();
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let failed = Error::build(format!("QEMU did not start ({how})")).caused_by(Cause::NotStarted);
        if said.is_empty() { failed.because(error) } else { failed.because(said) }
    }
}

/// A socket that QEMU will connect to: there is no moment at which it does not listen yet.
fn listen(runtime: &Path, id: &str) -> Result<Listening> {
    let path = socket(runtime, id);
    if path.as_os_str().len() > SOCKET_PATH {
        return Err(Error::host(format!("the path {} is too long for a socket", path.display()))
            .hint("a runtime folder with a shorter path is needed, for example below /tmp"));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::host(format!("cannot replace {}", path.display())).because(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).context(Kind::Host, || format!("listening on {}", path.display()))?;
    Ok(Listening { listener, path })
}

/// A listening socket whose file goes with it.
#[derive(Debug)]
struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    async fn accept(&self) -> std::io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Whoever removed the folder removed the socket too.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn spawn(config: &Config, start: &Start<'_>) -> Result<Starting> {
    let mut command = Command::new(&config.program);
    command.args(config.arguments(start.runtime)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = process::spawn(command).await.map_err(|error| {
        Error::host(format!("cannot run `{}`", config.program.display()))
            .because(error)
            .hint("`visabuild doctor` says what is missing")
    })?;
    let (stderr, stderr_reader) = Stderr::follow(child.stderr.take(), QEMU, start.events, start.template);
    Ok(Starting { child, stderr, stderr_reader })
}

type Opened = (Qmp, mpsc::UnboundedReceiver<QmpEvent>, String, BTreeMap<u16, u16>);

/// Waits for QEMU's monitor and asks for the ports that QEMU and the kernel chose.
async fn open(monitor: Listening, password: Option<&VncPassword>) -> Result<Opened> {
    let stream = monitor.accept().await.context(Kind::Build, || "waiting for QEMU's monitor")?;
    let (qmp, events) = Qmp::open(stream).await?;
    if let Some(password) = password {
        // Until then nobody is let in.
        let arguments = json!({ "protocol": "vnc", "password": password.secret().expose_secret() });
        qmp.execute("set_password", arguments).await?;
    }
    let vnc = vnc_url(&qmp.execute("query-vnc", json!({})).await?)?;
    let ports = forwards(&qmp.human("info usernet").await?);
    Ok((qmp, events, vnc, ports))
}

fn vnc_url(answer: &Value) -> Result<String> {
    match (answer["host"].as_str(), answer["service"].as_str()) {
        (Some(host), Some(port)) if host.contains(':') => Ok(format!("vnc://[{host}]:{port}")),
        (Some(host), Some(port)) => Ok(format!("vnc://{host}:{port}")),
        _ => Err(Error::build("QEMU does not say where its VNC server listens").because(answer.to_string())),
    }
}

/// The forwards that `info usernet` lists, host port by guest port. A line reads
/// `TCP[HOST_FORWARD]  11  127.0.0.1 44065  10.0.2.15  22  0  0`.
fn forwards(text: &str) -> BTreeMap<u16, u16> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().strip_prefix("TCP[HOST_FORWARD]")?.split_whitespace();
            let host = fields.nth(2)?.parse().ok()?;
            let guest = fields.nth(1)?.parse().ok()?;
            Some((guest, host))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_from_qemus_table() {
        let text = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  11       127.0.0.1 44065       10.0.2.15    22     0     0\r\n  \
                    TCP[ESTABLISHED]   12       127.0.0.1 50000       10.0.2.15    80     0     0\r\n  \
                    TCP[HOST_FORWARD]   9       127.0.0.1 38193       10.0.2.15  3389     0     0\r\n";
        assert_eq!(forwards(text), BTreeMap::from([(22, 44065), (3389, 38193)]));
    }

    #[test]
    fn a_vnc_server_that_is_off_is_an_error() {
        assert_eq!(vnc_url(&json!({ "host": "127.0.0.1", "service": "5901" })).unwrap(), "vnc://127.0.0.1:5901");
        assert!(vnc_url(&json!({ "enabled": false })).is_err());
    }

    #[tokio::test]
    async fn a_long_runtime_path_is_refused_with_a_hint() {
        let error = listen(Path::new(&format!("/tmp/{}", "x".repeat(200))), "qmp").unwrap_err();
        assert_eq!((error.kind(), error.hints().len()), (Kind::Host, 1));
    }
}
