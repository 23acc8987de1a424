//! One boot of the image, on an overlay, as a cloud would do it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::contract::{Boot, Port};
use super::metadata::{ADDRESS, Metadata};
use super::ports;
use crate::attach::{self, Recorded};
use crate::error::{Error, Kind, Result};
use crate::event::{Events, Stream};
use crate::guest::{Attempts, Endpoint, Guest, HostKey, Key, Options, Outcome};
use crate::image::qemu_img;
use crate::machine::{self, Accelerator, Config, Firmware, PowerOff, Running};

/// What the disk of an instance has more than the image at least, bytes: a flavour's disk is bigger. Half as
/// much again is always more than what a file system keeps for itself.
const GROWTH: u64 = 4 << 30;

/// How much longer things take than on a fast machine.
pub(super) fn slowness(accelerator: Accelerator) -> u32 {
    match accelerator {
        Accelerator::Kvm => 1,
        Accelerator::Tcg => 3,
    }
}

/// Longest that a command of a check may take with all its connections; then nobody answers any more.
const COMMAND: Duration = Duration::from_secs(300);

/// Most that is kept of what a command says, bytes.
const SAID: usize = 1 << 20;

/// Most that is read of the serial console, bytes.
const SERIAL: u64 = 4 << 20;

/// Times that a connection may break while the guest starts: it may start its SSH server anew.
const BREAKS: usize = 5;

/// The name under which a browser knows the platform.
const HOST: &str = "visa.example.org";

/// How long a port may stay silent once the guest has nothing left to start.
const GRACE: Duration = Duration::from_secs(60);

/// How long one attempt waits for a port's answer.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// The port of SSH, which is forwarded for the checks' commands.
pub(super) const SSH: u16 = 22;

/// Waits, in the guest, until cloud-init is done and the service manager has started what it starts.
/// The order matters: cloud-init's last stage comes after multi-user.target.
const SETTLE: &str = "timeout 600 cloud-init status --wait >/dev/null 2>&1; timeout 300 systemctl is-system-running --wait >/dev/null 2>&1; true";

/// Where and how images are booted.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory: u64,
    /// Folder for overlays and sockets.
    pub work: &'a Path,
    /// Whom events belong to.
    pub name: &'a str,
    /// Who is told.
    pub events: &'a Events,
    /// Ends everything.
    pub cancel: &'a CancellationToken,
}

/// What is booted.
#[derive(Debug, Clone)]
pub(super) struct Image<'a> {
    pub path: &'a Path,
    /// As qemu-img names it.
    pub format: &'a str,
    /// Bytes that a guest sees.
    pub virtual_size: u64,
}

/// A running instance.
pub(super) struct Instance<'a> {
    place: Place<'a>,
    machine: Option<Running>,
    /// None where the image lets nobody in by a key of the metadata.
    pub guest: Option<Guest>,
    /// Why there is no guest.
    pub no_guest: String,
    /// What probes may name.
    pub variables: BTreeMap<String, String>,
    /// When the power came on.
    power_on: Instant,
    /// Seconds from power-on to events.
    pub times: Vec<(String, f64)>,
    /// Seconds from the last power-on to the first answers of ports, by name.
    up: Vec<(String, f64)>,
    /// How long it may take to be up.
    patience: Duration,
    ports: Vec<Port>,
    serial_log: PathBuf,
    key: Key,
    host_key: HostKey,
    /// For whoever attaches to it.
    recorded: Option<Recorded>,
    /// Folder of its sockets.
    _runtime: tempfile::TempDir,
    overlay: PathBuf,
}

impl<'a> Instance<'a> {
    /// Boots `image`, without waiting for anything in it. `ports` are reached from outside.
    pub(super) async fn start(
        place: &Place<'a>,
        image: &Image<'_>,
        boot: &Boot,
        ports: Vec<Port>,
        pam_public_key: &str,
    ) -> Result<Self> {
        let file = |suffix: &str| place.work.join(format!("verify.{}.{suffix}", boot.name));
        let (overlay, drive, serial_log) = (file("qcow2"), file("metadata.img"), file("serial.log"));
        let size = Some(image.virtual_size + GROWTH.max(image.virtual_size / 2));
        qemu_img::create_overlay_on(image.path, image.format, &overlay, size, place.cancel).await?;
        let key = Key::generate()?;
        let uuid = uuid::Uuid::new_v4().to_string();
        let variables = variables(boot, &uuid, pam_public_key, image.virtual_size);
        let values: Vec<_> =
            boot.metadata.iter().filter_map(|(key, _)| Some((key.clone(), variables.get(key)?.clone()))).collect();
        Metadata { boot, uuid: &uuid, values: &values, key: key.authorized_line() }.write(&drive)?;
        let mut guest_ports: Vec<u16> = ports.iter().map(|port| port.port).chain([SSH]).collect();
        guest_ports.sort_unstable();
        guest_ports.dedup();
        let config = Config {
            cpus: place.cpus,
            memory: place.memory,
            seed: Some(drive),
            firmware: if boot.uefi { machine::uefi(&file("vars.fd"))? } else { Firmware::Bios },
            guest_ports,
            restrict: boot.restricted,
            unsafe_cache: true,
            ..Config::new(format!("verify-{}", boot.name), place.accelerator, &overlay)
        };
        let runtime = machine::runtime_folder(place.work)?;
        let power_on = Instant::now();
        let from = image.path.parent().unwrap_or(Path::new("."));
        let mut recorded = Recorded::new(place.work, from, place.name, &format!("verify-{}", boot.name));
        let start = machine::Start {
            runtime: runtime.path(),
            serial_log: &serial_log,
            serial_raw: Some(&recorded.serial()),
            template: place.name,
            events: place.events,
            cancel: place.cancel,
        };
        let machine = Running::start(&config, start).await?;
        attach::tell(recorded.running(Some((machine.vnc_url(), None))), place.events, place.name);
        Ok(Self {
            place: place.clone(),
            machine: Some(machine),
            guest: None,
            no_guest: String::new(),
            variables,
            power_on,
            times: Vec::new(),
            up: Vec::new(),
            patience: boot.patience * slowness(place.accelerator),
            ports,
            serial_log,
            key,
            host_key: HostKey::default(),
            recorded: Some(recorded),
            _runtime: runtime,
            overlay,
        })
    }

    /// Waits until the instance is up: its ports answer, SSH lets us in, and it has started all it
    /// starts. What does not come is left to the checks.
    ///
    /// # Errors
    /// The machine ended, or the run is cancelled.
    pub(super) async fn come_up(&mut self) -> Result<()> {
        let machine = self.machine()?;
        let watch = machine.watch();
        let power_on = self.power_on;
        let mut addresses = Vec::new();
        for port in &self.ports {
            addresses.push((port.clone(), machine.forwarded(port.port)?));
        }
        let endpoint = Endpoint {
            address: machine.forwarded(SSH)?.into(),
            user: "root".to_owned(),
            key: self.key.clone(),
            options: Options::default(),
            attempts: Attempts::default(),
            host_key: self.host_key.clone(),
            watch: watch.clone(),
            cancel: self.place.cancel.clone(),
        };
        let patience = self.patience;
        let answers = join_all(addresses.into_iter().map(|(port, address)| async move {
            answers(address, &port.greeting).await;
            (port.name, power_on.elapsed().as_secs_f64())
        }));
        let all = async {
            tokio::pin!(answers);
            let mut times = Vec::new();
            let login = settle(endpoint, patience, power_on);
            tokio::pin!(login);
            let mut answered = None;
            let guest = tokio::select! {
                guest = &mut login => guest,
                found = &mut answers => {
                    answered = Some(found);
                    login.await
                }
            };
            if answered.is_none() {
                let rest = if guest.is_ok() { GRACE } else { patience.saturating_sub(power_on.elapsed()) };
                answered = timeout(rest, &mut answers).await.ok();
            }
            times.extend(answered.unwrap_or_default());
            (guest, times)
        };
        let (guest, times) = tokio::select! {
            biased;
            () = self.place.cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
            ended = watch.ended() => return Err(Error::from(ended).context("the instance ended while it started")),
            all = all => all,
        };
        self.up.clone_from(&times);
        self.times.extend(times);
        match guest {
            Ok((guest, times)) => {
                self.tell_way_in();
                self.guest = Some(guest);
                self.times.extend(times);
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => self.no_guest = error.chain().join(": "),
        }
        self.times.sort_by(|one, two| one.1.total_cmp(&two.1));
        Ok(())
    }

    fn tell_way_in(&mut self) {
        let Ok(address) = self.address(SSH) else { return };
        let Some(recorded) = &mut self.recorded else { return };
        let written = recorded.reachable(&address.into(), "root", &self.key, &self.host_key);
        attach::tell(written, self.place.events, self.place.name);
    }

    fn machine(&self) -> Result<&Running> {
        self.machine.as_ref().ok_or_else(|| Error::build("the instance is off"))
    }

    /// Whether it is on.
    pub(super) fn is_on(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.watch().has_ended().is_none())
    }

    /// Why it is off, if nobody switched it off.
    pub(super) fn died(&self) -> Option<String> {
        let ended = self.machine.as_ref()?.watch().has_ended()?;
        Some(Error::from(ended).chain().join(": "))
    }

    /// Seconds from the last power-on to the first answer of a port, where there was one.
    pub(super) fn up(&self, port: &str) -> Option<f64> {
        self.up.iter().find(|(name, _)| name == port).map(|(_, seconds)| *seconds)
    }

    /// The ports that the contract names.
    pub(super) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Where a port of the guest is reached.
    pub(super) fn address(&self, port: u16) -> Result<SocketAddr> {
        self.machine()?.forwarded(port)
    }

    /// Runs a command as root; returns its exit code and what it said, both streams together.
    ///
    /// # Errors
    /// There is no way in, or the machine ended.
    pub(super) async fn run(&mut self, command: &str, stdin: &[u8]) -> Result<(u32, String)> {
        let Some(guest) = &mut self.guest else {
            let why = format!("no command can be run in the guest: {}", self.no_guest);
            return Err(Error::new(Kind::Verification, why));
        };
        let mut lines = String::new();
        let done = guest.exec(command, std::io::Cursor::new(stdin.to_vec()), |_: Stream, line| {
            if lines.len() < SAID {
                lines.push_str(line);
                lines.push('\n');
            }
        });
        let Ok(outcome) = timeout(COMMAND, done).await else {
            // It would be waited for again by every check that follows.
            self.guest = None;
            self.no_guest = format!("a command was not answered within {COMMAND:?}");
            return Err(Error::build(self.no_guest.clone()));
        };
        match outcome? {
            Outcome::Exit(code) => Ok((code, lines)),
            outcome => Err(Error::build(format!("a command in the guest ended early ({outcome})"))),
        }
    }

    /// Cuts the power, and waits until the instance is up again.
    pub(super) async fn reset(&mut self) -> Result<()> {
        self.machine()?.reset().await?;
        self.guest = None;
        self.power_on = Instant::now();
        let before = std::mem::take(&mut self.times);
        let result = self.come_up().await;
        let after = std::mem::replace(&mut self.times, before);
        self.times.extend(after.into_iter().map(|(name, seconds)| (format!("{name} after a reset"), seconds)));
        result
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// It is still on after `limit`.
    pub(super) async fn press_button(&mut self, limit: Duration) -> Result<()> {
        let machine = self.machine.take().ok_or_else(|| Error::build("the instance is off"))?;
        self.guest = None;
        "it was shut down".clone_into(&mut self.no_guest);
        let _recorded = self.recorded.take();
        machine.shutdown(PowerOff::Button, limit, self.place.cancel).await
    }

    /// What the serial console has said, the last of it where that is much.
    pub(super) fn serial(&self) -> String {
        String::from_utf8_lossy(&machine::log_tail(&self.serial_log, SERIAL).unwrap_or_default()).into_owned()
    }

    /// Its screen, as PNG, where it can be had.
    pub(super) async fn screen(&self) -> Option<Vec<u8>> {
        let path = self.overlay.with_extension("png");
        self.machine.as_ref()?.screenshot(&path).await.ok()?;
        fs::read(path).ok()
    }

    /// Ends it; its disk is worth nothing then.
    pub(super) async fn stop(mut self, keep: bool) {
        drop(self.guest.take());
        if let Some(machine) = self.machine.take() {
            machine.stop().await;
        }
        if !keep {
            let _ = fs::remove_file(&self.overlay);
        }
    }
}

/// Everything that probes may name in this boot.
fn variables(boot: &Boot, uuid: &str, pam_public_key: &str, image_size: u64) -> BTreeMap<String, String> {
    let size = image_size.to_string();
    let mut values = BTreeMap::from(
        [
            ("uuid", uuid),
            ("address", ADDRESS),
            ("host", HOST),
            ("pam_public_key", pam_public_key),
            ("image_size", &size),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for (key, value) in &boot.metadata {
        let value = super::contract::variables::fill(value, &values, str::to_owned);
        values.insert(key.clone(), value);
    }
    values
}

/// Asks until something answers.
async fn answers(address: SocketAddr, greeting: &[u8]) {
    loop {
        if ports::ask(address, greeting, ATTEMPT).await.is_ok() {
            return;
        }
        sleep(PAUSE).await;
    }
}

type Settled = (Guest, Vec<(String, f64)>);

/// Logs in and waits until the guest has nothing left to start.
async fn settle(endpoint: Endpoint, patience: Duration, power_on: Instant) -> Result<Settled> {
    let mut guest = Guest::connect(endpoint, patience).await?;
    let ssh = power_on.elapsed().as_secs_f64();
    for _ in 0..BREAKS {
        if guest.exec(SETTLE, tokio::io::empty(), |_, _| ()).await? != Outcome::Disconnected {
            break;
        }
    }
    let settled = power_on.elapsed().as_secs_f64();
    Ok((guest, vec![("SSH".to_owned(), ssh), ("all started".to_owned(), settled)]))
}
