//! One boot of a guest, as states that consume each other.
//!
//! [`Prepared`] knows the disk and the key; [`Booted`] owns a running machine; [`Connected`] has a
//! guest that is ready to be provisioned; [`Provisioned`] can only be closed, sealed and powered
//! off. When a state fails, the screen is kept for the failure report and the machine is given up.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::json;

use super::Context;
use super::engine::{self, Machine};
use super::timings::Timings;
use crate::container;
use crate::engine::Engine;
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::{Phase, Stream};
use crate::guest::{Endpoint, Guest, HostKey, Key, Outcome, Target};
use crate::image::{SEAL_SCRIPT, SESSION_SCRIPT};
use crate::machine::{self, Boot, Seed};
use crate::plan::{Stage, Step};
use crate::provision;
use crate::template::Text;

/// How long SSH may take to answer: emulated on a busy host, a boot may take minutes.
const SSH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long the guest may take to power off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What provisioners see as `PACKER_BUILDER_TYPE`.
const BUILDER_TYPE: &str = "qemu";

/// Memory below which a build's guest is not started, MiB.
const LEAST_MEMORY: u64 = 1024;

/// The serial log of a template in the working folder.
pub(super) fn serial_log(work: &Path, template: &str) -> PathBuf {
    work.join(format!("{template}.serial.log"))
}

/// What is booted.
pub(super) struct Start {
    disk: PathBuf,
    /// What the boot is for, in phase names.
    purpose: &'static str,
}

impl Start {
    /// The boot that provisions `disk`.
    pub(super) fn layer(disk: PathBuf) -> Self {
        Self { disk, purpose: "layer" }
    }

    /// The boot that seals `disk`.
    pub(super) fn seal(disk: PathBuf) -> Self {
        Self { disk, purpose: "seal" }
    }
}

/// A machine that is ready to be started.
pub(super) struct Prepared<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    config: engine::Config,
    key: Key,
    purpose: &'static str,
}

impl<'a> Prepared<'a> {
    /// Makes the key of this boot and the seed that brings it to the guest.
    pub(super) fn new(context: &'a Context<'a>, stage: &'a Stage, start: Start) -> Result<Self> {
        let key = Key::generate()?;
        if let Ok(mut traces) = context.traces.lock() {
            traces.extend(key.traces()?);
        }
        let mut meta_data = serde_json::Map::new();
        meta_data.insert("local-hostname".to_owned(), json!("localhost"));
        let seed = Seed {
            instance_id: format!("visabuild-{}", uuid::Uuid::new_v4()),
            user_data: machine::build_user_data(key.authorized_line()),
            meta_data,
            network_config: None,
        };
        let purpose = start.purpose;
        let config = match context.settings.engine {
            Engine::Qemu => engine::Config::Qemu(Box::new(virtual_machine(context, stage, start, &seed)?)),
            Engine::Nspawn => engine::Config::Nspawn(native(context, stage, start, &seed)?),
        };
        Ok(Self { context, stage, config, key, purpose })
    }

    /// Starts the machine.
    pub(super) async fn boot(self, timings: &mut Timings) -> Result<Booted<'a>> {
        let phase = timings.phase(format!("start {} ({})", self.config.what(), self.purpose));
        let runtime = machine::runtime_folder(&self.context.work)?;
        let (program, arguments) = self.config.command_line(runtime.path());
        let command_txt = self.context.work.join(format!("{}.command.txt", self.stage.name));
        fs::write(&command_txt, format!("{program} {}\n", quoted(&arguments)))
            .context(Kind::Host, || format!("cannot write {}", command_txt.display()))?;
        let serial = serial_log(&self.context.work, &self.stage.name);
        let start = machine::Start {
            runtime: runtime.path(),
            serial_log: &serial,
            template: &self.stage.name,
            events: self.context.events,
            cancel: self.context.cancel,
        };
        let machine = self.config.start(start).await?;
        timings.done(phase);
        Ok(Booted { prepared: self, machine, _runtime: runtime })
    }
}

/// The virtual machine that boots `start`'s disk.
fn virtual_machine(context: &Context<'_>, stage: &Stage, start: Start, seed: &Seed) -> Result<machine::Config> {
    let path = context.work.join(format!("{}.{}.seed.img", stage.name, start.purpose));
    machine::write_seed(&path, seed)?;
    let settings = context.settings;
    let cpus = settings.insisted.cpus.or(stage.machine.cpus);
    let memory = settings.insisted.memory.or(stage.machine.memory);
    let (cpus, memory) = machine::size_to_host(cpus, memory);
    Ok(machine::Config {
        cpus,
        memory: memory.max(LEAST_MEMORY),
        cpu_model: stage.machine.cpu_model.clone(),
        seed: Some(path),
        boot: Boot::Disk,
        display: settings.display,
        unsafe_cache: true,
        ..machine::Config::new(format!("visabuild-{}", stage.name), settings.accelerator, start.disk)
    })
}

/// The container that boots `start`'s disk.
fn native(context: &Context<'_>, stage: &Stage, start: Start, seed: &Seed) -> Result<container::Config> {
    let folder = context.work.join(format!("{}.{}.seed", stage.name, start.purpose));
    machine::write_seed_folder(&folder, seed)?;
    Ok(container::Config {
        name: format!("visabuild-{}", uuid::Uuid::new_v4().simple()),
        disk: start.disk,
        seed: folder,
        cpus: context.settings.insisted.cpus.map(container::first_cpus),
    })
}

fn quoted(arguments: &[std::ffi::OsString]) -> String {
    let words = arguments.iter().map(|argument| argument.to_string_lossy());
    words
        .map(|word| shlex::try_quote(&word).map_or_else(|_| word.to_string(), std::borrow::Cow::into_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A machine that runs.
pub(super) struct Booted<'a> {
    prepared: Prepared<'a>,
    machine: Machine,
    _runtime: tempfile::TempDir,
}

impl<'a> Booted<'a> {
    /// Waits for SSH and prepares the guest for provisioning.
    pub(super) async fn connect(self, timings: &mut Timings) -> Result<Connected<'a>> {
        let phase = timings.phase("wait for SSH");
        let result = self.open(&phase).await;
        match result {
            Ok((guest, facts)) => {
                timings.done(phase);
                Ok(Connected { booted: self, guest, facts })
            }
            Err(error) => {
                self.give_up(&error).await;
                Err(error)
            }
        }
    }

    async fn open(&self, phase: &Phase) -> Result<(Guest, Facts)> {
        let prepared = &self.prepared;
        let endpoint = Endpoint {
            address: self.machine.ssh()?,
            user: "root".to_owned(),
            key: prepared.key.clone(),
            host_key: HostKey::default(),
            watch: self.machine.watch(),
            cancel: prepared.context.cancel.clone(),
        };
        let patience = prepared.stage.machine.ssh_timeout.unwrap_or(SSH_TIMEOUT);
        let mut guest = Guest::connect(endpoint, patience).await?;
        self.prepare_guest(&mut guest, phase).await?;
        let mut facts = Facts::default();
        let command = "printf 'PATH=%s\\n' \"$PATH\"; ls /usr/lib/*/libeatmydata.so 2>/dev/null || true";
        guest
            .exec(command, tokio::io::empty(), |_, line| match line.strip_prefix("PATH=") {
                Some(path) => path.clone_into(&mut facts.path),
                None => facts.eatmydata = Some(line.to_owned()),
            })
            .await?;
        Ok((guest, facts))
    }

    /// Brings the build host's certificate authorities and apt's settings into the guest.
    async fn prepare_guest(&self, guest: &mut Guest, phase: &Phase) -> Result<()> {
        let settings = self.prepared.context.settings;
        let folder = "/usr/local/share/ca-certificates/visabuild";
        if !settings.certificates.is_empty() {
            for (name, pem) in &settings.certificates {
                put(guest, pem.as_bytes(), &format!("{folder}/{name}"), 0o644).await?;
            }
        }
        let apt = settings.apt_configuration.expose_secret();
        put(guest, apt.as_bytes(), "/etc/apt/apt.conf.d/00visabuild", 0o600).await?;
        put(guest, b"force-unsafe-io\n", "/etc/dpkg/dpkg.cfg.d/visabuild", 0o644).await?;
        script(guest, SESSION_SCRIPT, &["open"], phase).await
    }

    /// Keeps the screen for the failure report and gives the machine up.
    async fn give_up(&self, error: &Error) {
        if error.kind() != Kind::Interrupted {
            self.keep_screen().await;
        }
        self.machine.give_up().await;
    }

    async fn keep_screen(&self) {
        let stage = &self.prepared.stage.name;
        let screen = self.prepared.context.work.join(format!("{stage}.screen.png"));
        // A dead QEMU has no screen; its end is in the error.
        if let Err(problem) = self.machine.screenshot(&screen).await {
            self.prepared.context.events.debug(Some(stage), format!("no picture of the screen: {problem}"));
        }
    }
}

/// A guest that is ready to be provisioned.
pub(super) struct Connected<'a> {
    booted: Booted<'a>,
    guest: Guest,
    facts: Facts,
}

/// What steps must know about the guest.
#[derive(Default)]
struct Facts {
    /// Path of libeatmydata, where it is installed.
    eatmydata: Option<String>,
    /// Root's search path.
    path: String,
}

impl<'a> Connected<'a> {
    /// Sets root's password by chpasswd(8), which reads it from standard input.
    pub(super) async fn set_root_password(&mut self, password: &Text, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("root password");
        let line = format!("root:{}\n", password.plain());
        let command = "chpasswd --crypt-method YESCRYPT";
        let result = run(&mut self.guest, command, line.into_bytes(), &phase).await;
        self.checked(result).await?;
        timings.done(phase);
        Ok(())
    }

    /// Runs the provisioners in their order.
    pub(super) async fn provision(mut self, steps: &[Step], timings: &mut Timings) -> Result<Provisioned<'a>> {
        let environment = self.environment();
        for step in steps {
            let phase = timings.phase(&step.provisioner.label);
            let context = provision::Context { phase: &phase, environment: &environment, builder_type: BUILDER_TYPE };
            let result = provision::run(&mut self.guest, &step.provisioner, &context).await;
            self.checked(result).await?;
            timings.done(phase);
        }
        if self.booted.machine.programs().is_some() {
            let phase = timings.phase("boot menu");
            let result = run(&mut self.guest, container::REFRESH_BOOT_MENU, Vec::new(), &phase).await;
            self.checked(result).await?;
            timings.done(phase);
        }
        Ok(Provisioned { booted: self.booted, guest: self.guest })
    }

    /// The environment of shell steps; dpkg's many synchronisations are left out where the base has
    /// eatmydata, because the disk is thrown away on failure.
    fn environment(&self) -> Vec<(String, Text)> {
        let mut environment = self.booted.prepared.context.settings.environment.clone();
        if let Some(library) = &self.facts.eatmydata {
            environment.push(("LD_PRELOAD".to_owned(), Text::public(library)));
        }
        if let Some(first) = self.booted.machine.programs() {
            environment.push(("PATH".to_owned(), Text::public(format!("{first}:{}", self.facts.path))));
        }
        environment
    }

    async fn checked<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.booted.give_up(error).await;
        }
        result
    }
}

/// A guest that has everything it should have.
pub(super) struct Provisioned<'a> {
    booted: Booted<'a>,
    guest: Guest,
}

impl Provisioned<'_> {
    /// Lines of `name version`, one an installed package.
    pub(super) async fn packages(&mut self) -> Result<Vec<String>> {
        self.lines("dpkg-query -W -f '${Package} ${Version}\\n'", "listing the installed packages").await
    }

    /// Lines of os-release(5).
    pub(super) async fn os_release(&mut self) -> Result<Vec<String>> {
        self.lines("cat /etc/os-release", "asking which system is inside").await
    }

    /// Standard output of a command that must succeed.
    async fn lines(&mut self, command: &str, doing: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let listed = self.guest.exec(command, tokio::io::empty(), |stream, line| {
            if stream == Stream::Stdout {
                lines.push(line.to_owned());
            }
        });
        let listed = listed.await.and_then(|outcome| expect_success(&outcome, doing, None));
        if let Err(error) = listed {
            self.booted.give_up(&error).await;
            return Err(error);
        }
        Ok(lines)
    }

    /// Takes back what was prepared and powers off; the disk is then a layer.
    pub(super) async fn close(mut self, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("power off");
        let closed = match script(&mut self.guest, SESSION_SCRIPT, &["close"], &phase).await {
            Ok(()) => self.guest.power_off().await,
            Err(error) => Err(error),
        };
        self.power_off(closed, phase, timings).await
    }

    /// Takes the traces of the build out and powers off; the disk is then an image.
    pub(super) async fn seal(mut self, certificates: &str, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("seal");
        let sealed = match script(&mut self.guest, SEAL_SCRIPT, &[certificates], &phase).await {
            Ok(()) => self.guest.power_off().await,
            Err(error) => Err(error),
        };
        self.power_off(sealed, phase, timings).await
    }

    async fn power_off(self, before: Result<()>, phase: Phase, timings: &mut Timings) -> Result<()> {
        // The folder of its sockets and mounts lives as long as the machine.
        let Booted { prepared, machine, _runtime } = match before {
            Ok(()) => self.booted,
            Err(error) => {
                self.booted.give_up(&error).await;
                return Err(error);
            }
        };
        let timeout = prepared.stage.machine.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
        drop(self.guest);
        machine.shutdown(timeout, prepared.context.cancel).await?;
        timings.done(phase);
        Ok(())
    }
}

async fn put(guest: &mut Guest, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
    guest.upload(bytes, Target { path, name: "", mode }).await
}

/// Runs one of visabuild's own bash scripts, from standard input: nothing of it stays in the guest.
async fn script(guest: &mut Guest, text: &str, arguments: &[&str], phase: &Phase) -> Result<()> {
    let command = format!("bash -s -- {}", arguments.join(" "));
    run(guest, &command, text.as_bytes().to_vec(), phase).await
}

async fn run(guest: &mut Guest, command: &str, stdin: Vec<u8>, phase: &Phase) -> Result<()> {
    let mut last = String::new();
    let outcome = guest
        .exec(command, Cursor::new(stdin), |stream, line| {
            if stream == Stream::Stderr {
                line.clone_into(&mut last);
            }
            phase.output(stream, line);
        })
        .await?;
    expect_success(&outcome, phase.name(), Some(last))
}

fn expect_success(outcome: &Outcome, what: &str, stderr: Option<String>) -> Result<()> {
    if *outcome == Outcome::Exit(0) {
        return Ok(());
    }
    let error = Error::build(format!("{what} failed in the guest ({outcome})"));
    Err(match stderr.filter(|line| !line.is_empty()) {
        Some(line) => error.because(line),
        None => error,
    })
}
