//! One boot of a guest, as states that consume each other.
//!
//! [`Prepared`] knows the disk and the key; [`Booted`] owns a running machine; [`Connected`] has a
//! guest that is ready to be provisioned; [`Provisioned`] can only be closed, sealed and powered
//! off. When a state fails, the screen is kept for the failure report and the machine is given up.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;

use super::checkpoint::Checkpoints;
use super::engine::{self, Machine};
use super::guest_scripts::{expect_success, put, run, script, wake};
use super::memory::{self, Restorable};
use super::timings::Timings;
use super::{Context, Question, communicator, failure, packages, virtual_machine};
use crate::attach::{self, Recorded};
use crate::cache::SavedGuest;
use crate::container;
use crate::engine::Engine;
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::{Event, Phase, Stream};
use crate::guest::{Attempts, Endpoint, Guest, HostKey, Key};
use crate::image::{SEAL_SCRIPT, SESSION_SCRIPT};
use crate::inventory;
use crate::machine::{self, Ended, Seed, VncPassword};
use crate::package_cache::{self, Session};
use crate::plan::{Fingerprint, Stage, Step};
use crate::provision;
use crate::shell_word::line;
use crate::template::{Provisioner, Text};

/// How long SSH may take to answer: emulated on a busy host, a boot may take minutes.
const SSH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long a guest that goes on with its memory may take to answer SSH.
const AWAKE: Duration = Duration::from_secs(60);

/// How long the guest may take to power off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What provisioners see as `PACKER_BUILDER_TYPE`.
const BUILDER_TYPE: &str = "qemu";

/// The serial log of a template in the working folder.
pub(super) fn serial_log(work: &Path, template: &str) -> PathBuf {
    work.join(format!("{template}.serial.log"))
}

/// What is booted.
pub(super) struct Start {
    disk: PathBuf,
    /// What the boot is for, in phase names.
    purpose: &'static str,
    /// The memory that the guest goes on with.
    memory: Option<Restorable>,
    /// The guest of an earlier build that the disk was taken of while it ran.
    former: Option<SavedGuest>,
    packages: Option<Arc<Session>>,
}

impl Start {
    /// The boot that provisions `disk`.
    pub(super) fn layer(disk: PathBuf) -> Self {
        Self { disk, purpose: "layer", memory: None, former: None, packages: None }
    }

    /// The boot that seals `disk`.
    pub(super) fn seal(disk: PathBuf) -> Self {
        Self { disk, purpose: "seal", memory: None, former: None, packages: None }
    }

    /// The guest does not boot, but goes on where it was.
    pub(super) fn with_memory(self, memory: Restorable) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// The disk was taken of this guest while it ran.
    pub(super) fn after(self, former: Option<SavedGuest>) -> Self {
        Self { former, ..self }
    }

    /// The same with a package cache for the guest.
    pub(super) fn with(self, packages: Option<Arc<Session>>) -> Self {
        Self { packages, ..self }
    }
}

/// A machine that is ready to be started.
pub(super) struct Prepared<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    config: engine::Config,
    key: Key,
    purpose: &'static str,
    /// The memory that the guest goes on with, instead of booting.
    memory: Option<Restorable>,
    /// Lines of authorized_keys(5) that are the build's own.
    authorized: Vec<String>,
    packages: Option<Arc<Session>>,
}

impl<'a> Prepared<'a> {
    /// Makes the key of this boot and the seed that brings it to the guest.
    pub(super) fn new(context: &'a Context<'a>, stage: &'a Stage, start: Start) -> Result<Self> {
        let key = match &start.memory {
            Some(memory) => memory.key.clone(),
            None => Key::generate()?,
        };
        let mut authorized: Vec<String> = start.former.iter().flat_map(|guest| guest.authorized.clone()).collect();
        authorized.retain(|line| line != key.authorized_line());
        if let Ok(mut traces) = context.shared.traces.lock() {
            traces.extend(key.traces()?);
            let public = authorized.iter().filter_map(|line| line.split(' ').nth(1));
            traces.extend(public.map(|public| ("an earlier build's public SSH key", public.to_owned().into())));
        }
        authorized.push(key.authorized_line().to_owned());
        let mut meta_data = serde_json::Map::new();
        meta_data.insert("local-hostname".to_owned(), json!("localhost"));
        let seed = Seed {
            // A guest that goes on with its memory is no other instance after a reboot.
            instance_id: format!("visabuild-{}", Fingerprint::of("instance", &key.authorized_line()).short()),
            user_data: machine::build_user_data(stage.machine.communicator.user(), key.authorized_line()),
            meta_data,
            network_config: None,
        };
        let (purpose, packages) = (start.purpose, start.packages.clone());
        let config = match context.settings.engine {
            Engine::Qemu => {
                let path = context.work.join(format!("{}.{purpose}.seed.img", stage.name));
                machine::write_seed(&path, &seed)?;
                let mut config = virtual_machine::config(context, stage, start.disk.clone(), purpose, Some(path))?;
                config.generation_id = memory::is_kept(context.settings, &config) && purpose == "layer";
                config.waits_for_memory = start.memory.is_some();
                if let Some(memory) = &start.memory {
                    memory.resize(&mut config, context.settings, stage);
                }
                engine::Config::Qemu(Box::new(config))
            }
            Engine::Nspawn => engine::Config::Nspawn(native(context, stage, &start, &seed)?),
        };
        let memory = start.memory;
        Ok(Self { context, stage, config, key, purpose, memory, authorized, packages })
    }

    /// Keeps the command that boots `disk` as it is now, to look at after a failure.
    fn tell_command(&self, disk: &Path, runtime: &Path) -> Result<()> {
        let (program, arguments) = self.config.booting(disk).command_line(runtime);
        write_command(self.context, &self.stage.name, program.as_ref(), &arguments)
    }

    /// Starts the machine.
    pub(super) async fn boot(self, timings: &mut Timings) -> Result<Booted<'a>> {
        let what = if self.memory.is_some() { "restore the memory of" } else { "start" };
        let phase = timings.phase(format!("{what} {} ({})", self.config.what(), self.purpose));
        if let engine::Config::Qemu(config) = &self.config {
            virtual_machine::prepare(self.context, self.stage, config).await?;
        }
        failure::begin(self.context);
        let runtime = machine::runtime_folder(&self.context.work)?;
        self.tell_command(self.config.disk(), runtime.path())?;
        let serial = serial_log(&self.context.work, &self.stage.name);
        let mut recorded = recorded(self.context, self.stage, self.purpose);
        let start = machine::Start {
            runtime: runtime.path(),
            serial_log: &serial,
            serial_raw: Some(&recorded.serial()),
            template: &self.stage.name,
            events: self.context.events,
            cancel: self.context.cancel,
        };
        let machine = self.config.start(start).await?;
        if let (Some(memory), engine::Config::Qemu(config), Machine::Qemu(machine)) =
            (&self.memory, &self.config, &machine)
        {
            memory.load(self.context, config, machine).await?;
        }
        let screen = match (&self.config, &machine) {
            (engine::Config::Qemu(config), Machine::Qemu(machine)) => Some(screen(config, machine)),
            _ => None,
        };
        attach::tell(recorded.running(screen), self.context.events, &self.stage.name);
        timings.done(phase);
        Ok(Booted { prepared: self, machine, recorded, _runtime: runtime })
    }
}

/// What is written down of a machine for whoever attaches to the build.
pub(super) fn recorded(context: &Context<'_>, stage: &Stage, purpose: &str) -> Recorded {
    Recorded::new(&context.work, &context.settings.results.output, &stage.name, purpose)
}

/// Where the screen of `machine` is seen, and what is asked for there.
pub(super) fn screen<'a>(
    config: &'a machine::Config,
    machine: &'a machine::Running,
) -> (&'a str, Option<&'a SecretString>) {
    (machine.vnc_url(), config.vnc.password.as_ref().map(VncPassword::secret))
}

/// Keeps the command that boots the guest, to look at after a failure.
pub(super) fn write_command(
    context: &Context<'_>,
    template: &str,
    program: &Path,
    arguments: &[OsString],
) -> Result<()> {
    let path = context.work.join(format!("{template}.command.txt"));
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let words = line(words.iter().map(AsRef::as_ref));
    fs::write(&path, context.events.redact(&format!("{} {words}\n", program.display())))
        .context(Kind::Host, || format!("cannot write {}", path.display()))
}

/// The container that boots `start`'s disk.
fn native(context: &Context<'_>, stage: &Stage, start: &Start, seed: &Seed) -> Result<container::Config> {
    let folder = context.work.join(format!("{}.{}.seed", stage.name, start.purpose));
    machine::write_seed_folder(&folder, seed)?;
    Ok(container::Config {
        name: format!("visabuild-{}", uuid::Uuid::new_v4().simple()),
        disk: start.disk.clone(),
        seed: folder,
        cpus: context.settings.insisted.cpus.map(container::first_cpus),
    })
}

/// A machine that runs.
pub(super) struct Booted<'a> {
    prepared: Prepared<'a>,
    machine: Machine,
    recorded: Recorded,
    _runtime: tempfile::TempDir,
}

impl<'a> Booted<'a> {
    /// What runs, and as what it was started.
    pub(super) fn machine(&self) -> (&engine::Config, &Machine) {
        (&self.prepared.config, &self.machine)
    }

    /// What lets the build in.
    pub(super) fn key(&self) -> &Key {
        &self.prepared.key
    }

    /// The lines of authorized_keys(5) of this build, and of those that it goes on from.
    pub(super) fn authorized(&self) -> &[String] {
        &self.prepared.authorized
    }

    /// The guest writes to `disk` from now on: that is what is left of it after a failure.
    pub(super) fn writes_to(&self, disk: &Path) -> Result<()> {
        self.prepared.tell_command(disk, self._runtime.path())
    }

    /// Waits for SSH and prepares the guest for provisioning.
    pub(super) async fn connect(mut self, timings: &mut Timings) -> Result<Connected<'a>> {
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

    async fn open(&mut self, phase: &Phase) -> Result<(Guest, Facts)> {
        let prepared = &self.prepared;
        let wanted = &prepared.stage.machine.communicator;
        let attempts = Attempts::default();
        let address = self.machine.ssh(virtual_machine::ssh_port(prepared.stage))?;
        let host_key = HostKey::default();
        let endpoint = Endpoint {
            address: address.clone(),
            user: wanted.user().to_owned(),
            key: prepared.key.clone(),
            options: communicator::options(prepared.context, prepared.stage)?,
            attempts: attempts.clone(),
            host_key: host_key.clone(),
            watch: self.machine.watch(),
            cancel: prepared.context.cancel.clone(),
        };
        let patience = match prepared.memory {
            Some(_) => AWAKE,
            None => prepared.stage.machine.ssh_timeout.unwrap_or(SSH_TIMEOUT),
        };
        let mut guest = tokio::select! {
            guest = Guest::connect(endpoint, patience) => guest?,
            ended = self.idle(&attempts) => return Err(ended.into()),
        };
        guest.be_patient(prepared.stage.machine.ssh_timeout.unwrap_or(SSH_TIMEOUT));
        failure::reached(prepared.context);
        let written = self.recorded.reachable(&address, wanted.user(), &prepared.key, &host_key);
        attach::tell(written, prepared.context.events, &prepared.stage.name);
        if let Some(pause) = wanted.pause_before_connecting {
            phase
                .events()
                .info(Some(phase.template()), format!("the guest answers; it gets {pause:?} before work begins"));
            let pause = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            guest.unless_ended(pause).await?;
            guest.reconnect().await?;
        }
        guest.become_root().await?;
        if prepared.memory.is_some() {
            wake(&mut guest, phase).await?;
        }
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

    /// Waits until the guest sits there instead of booting; one whose SSH server answers has booted.
    async fn idle(&self, attempts: &Attempts) -> Ended {
        loop {
            let ended = self.machine.idle(virtual_machine::idle_timeout(self.prepared.stage)).await;
            if !attempts.answered() {
                return ended;
            }
        }
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
        let apt = packages::apt_configuration(settings, self.prepared.packages.as_deref());
        put(guest, apt.as_bytes(), "/etc/apt/apt.conf.d/00visabuild", 0o600).await?;
        if self.prepared.packages.is_some() {
            put(guest, package_cache::APT_METHOD.as_bytes(), package_cache::GUEST_METHOD, 0o755).await?;
        }
        put(guest, b"force-unsafe-io\n", "/etc/dpkg/dpkg.cfg.d/visabuild", 0o644).await?;
        script(guest, SESSION_SCRIPT, &["open"], phase).await
    }

    /// Keeps what can be seen for the failure report and gives the machine up.
    async fn give_up(&self, error: &Error) {
        failure::keep(self.prepared.context, self.prepared.stage, &self.machine, error).await;
        self.machine.give_up().await;
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

    /// Runs the provisioners in their order, with checkpoints between them where they are wanted.
    pub(super) async fn provision(
        mut self,
        steps: &[Step],
        mut checkpoints: Option<&mut Checkpoints<'_>>,
        timings: &mut Timings,
    ) -> Result<Provisioned<'a>> {
        let environment = self.environment();
        self.guest.become_user();
        for step in steps {
            if let Some(checkpoints) = &mut checkpoints {
                checkpoints.begin_step();
            }
            let phase = timings.phase(&step.provisioner.label);
            let result = self.run(&step.provisioner, &environment, &phase).await;
            let result = result.and_then(|()| step.was_as_planned());
            let hint = checkpoints.as_ref().and_then(|checkpoints| checkpoints.hint());
            let result = result.map_err(|error| match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
            if let Err(error) = &result {
                self.clean_up(error, &environment, timings).await;
            }
            if let (Err(error), Some(checkpoints)) = (&result, &checkpoints) {
                self.ask(checkpoints.done(), &step.provisioner.label, error).await;
            }
            self.checked(result).await?;
            timings.done_step(phase, step);
            if let Some(checkpoints) = &mut checkpoints {
                let result = checkpoints.end_step(&self.booted, &mut self.guest, timings).await;
                self.checked(result).await?;
            }
        }
        let result = self.guest.become_root().await;
        self.checked(result).await?;
        if self.booted.machine.programs().is_some() {
            let phase = timings.phase("boot menu");
            let result = run(&mut self.guest, container::REFRESH_BOOT_MENU, Vec::new(), &phase).await;
            self.checked(result).await?;
            timings.done(phase);
        }
        Ok(Provisioned { booted: self.booted, guest: self.guest })
    }

    async fn run(&mut self, provisioner: &Provisioner, environment: &[(String, Text)], phase: &Phase) -> Result<()> {
        let context = self.booted.prepared.context;
        let context = provision::Context {
            phase,
            environment,
            builder_type: BUILDER_TYPE,
            work: &context.work,
            breakpoints: context.settings.breakpoints.as_ref(),
        };
        provision::run(&mut self.guest, provisioner, &context).await
    }

    /// Does what the template wants to be done in a guest in which a step has failed: not where the machine has ended, nor
    /// for who has stopped the build, and waits for the end. That this fails is told, but is not why the build fails.
    async fn clean_up(&mut self, error: &Error, environment: &[(String, Text)], timings: &Timings) {
        let Prepared { context, stage, .. } = &self.booted.prepared;
        let (events, template) = (context.events, &stage.name);
        let is_over = context.cancel.is_cancelled() || self.booted.machine.watch().has_ended().is_some();
        let Some(cleanup) = stage.error_cleanup.as_ref().filter(|_| !is_over) else { return };
        let failed = events.redact(&error.chain().join(": "));
        events.warn(Some(template), format!("{failed}; `error-cleanup-provisioner` runs in the guest"));
        let phase = timings.phase("error cleanup");
        match self.run(cleanup, environment, &phase).await {
            Ok(()) => drop(phase.finish()),
            Err(error) => {
                let text = format!("`error-cleanup-provisioner` failed, too: {}", error.chain().join(": "));
                events.warn(Some(template), text);
            }
        }
    }

    /// The environment of shell steps; dpkg's many synchronisations are left out where the base has
    /// eatmydata, because the disk is thrown away on failure.
    fn environment(&self) -> Vec<(String, Text)> {
        let prepared = &self.booted.prepared;
        let mut environment = packages::environment(prepared.context.settings, prepared.packages.as_deref());
        if let Some(library) = &self.facts.eatmydata {
            environment.push(("LD_PRELOAD".to_owned(), Text::public(library)));
        }
        if let Some(first) = self.booted.machine.programs() {
            environment.push(("PATH".to_owned(), Text::public(format!("{first}:{}", self.facts.path))));
        }
        environment
    }

    /// Lets the user look at a guest in which a step has failed.
    async fn ask(&self, step: usize, label: &str, error: &Error) {
        let Prepared { context, stage, .. } = &self.booted.prepared;
        let Some(ask) = context.settings.ask.as_ref().filter(|_| !context.cancel.is_cancelled()) else { return };
        context.events.emit(Event::Waiting { template: stage.name.clone() });
        let is_running = self.booted.machine.watch().has_ended().is_none();
        let (template, label) = (stage.name.clone(), label.to_owned());
        let error = context.events.redact(&error.chain().join(": "));
        ask.ask(Question { template, step, label, error, is_running }).await;
        context.shared.answered.store(true, Ordering::SeqCst);
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
    /// Lines in which [`inventory::SCRIPT`] says what is installed.
    pub(super) async fn inventory(&mut self) -> Result<Vec<String>> {
        self.lines("sh -s", inventory::SCRIPT, "listing what is installed").await
    }

    /// Lines of os-release(5).
    pub(super) async fn os_release(&mut self) -> Result<Vec<String>> {
        self.lines("cat /etc/os-release", "", "asking which system is inside").await
    }

    /// Standard output of a command that must succeed.
    async fn lines(&mut self, command: &str, stdin: &str, doing: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let listed = self.guest.exec(command, stdin.as_bytes(), |stream, line| {
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

    /// Ends the machine as it is; its disk is of no use then.
    pub(super) async fn give_up(self) {
        self.booted.machine.give_up().await;
    }

    /// Takes back what was prepared and powers off; the disk is then a layer.
    pub(super) async fn close(mut self, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("power off");
        let closed = script(&mut self.guest, SESSION_SCRIPT, &["close"], &phase).await;
        self.power_off(closed, phase, timings).await
    }

    /// Takes the traces of the build out and powers off; the disk is then an image.
    pub(super) async fn seal(mut self, certificates: &str, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("seal");
        let sealed = script(&mut self.guest, SEAL_SCRIPT, &[certificates], &phase).await;
        self.power_off(sealed, phase, timings).await
    }

    async fn power_off(mut self, before: Result<()>, phase: Phase, timings: &mut Timings) -> Result<()> {
        let Prepared { context, stage, ref authorized, .. } = self.booted.prepared;
        let before = match before {
            Ok(()) => communicator::power_off(&mut self.guest, stage, authorized).await,
            Err(error) => Err(error),
        };
        let timeout = stage.machine.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
        let idle = virtual_machine::idle_timeout(stage);
        drop(self.guest);
        let off = async {
            before?;
            self.booted.machine.until_powered_off(timeout, idle, context.cancel).await
        };
        if let Err(error) = off.await {
            self.booted.give_up(&error).await;
            return Err(error);
        }
        // The folder of its sockets and mounts, and what is written down of it, live as long as the machine.
        let Booted { machine, recorded: _recorded, _runtime, .. } = self.booted;
        machine.shutdown(timeout, context.cancel).await?;
        timings.done(phase);
        Ok(())
    }
}
