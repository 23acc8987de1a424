//! A first disk made by a distribution's own installer, or out of a ready image.
//!
//! Everything that the installer needs is there before its machine starts: kernel, initial file system and medium from
//! the cache, the rendered answers in a web server, on volumes or in the initial file system. The machine ends when the
//! guest powers off or reboots: its disk is then complete, and boots by itself from then on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::timings::Timings;
use super::{Context, failure, session, virtual_machine};
use crate::answers::initrd::{self, InitrdFile};
use crate::answers::iso;
use crate::answers::site::Site;
use crate::answers::volume::VolumeFiles;
use crate::answers::web::{BoundServer, WebServer};
use crate::answers::{Content, fat};
use crate::attach;
use crate::boot_command::{self, Address, Pace, Pictures, Typist, Values, Variable};
use crate::download::Fetched;
use crate::error::{Cause, Context as _, Error, Kind, Result};
use crate::event::Phase;
use crate::image::qemu_img;
use crate::machine::{self, Boot, Ended, VncPassword};
use crate::plan::Stage;
use crate::source::{anna, bootstrap, package};
use crate::template::{self, AnswerFile, Installer, Kernel, KernelSource, Remote, Text, Volume};

/// Where a guest on QEMU's user network finds the host's loopback.
const HOST: &str = "10.0.2.2";

/// How long an installation may take; one under emulation on a busy host took 40 minutes.
const TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

/// Packer's default of `boot_wait`.
const BOOT_WAIT: Duration = Duration::from_secs(10);

/// What a command of the installation says on the serial console when it fails, before it switches the machine off.
const FAILED: &str = "visabuild: failed: ";

/// How long why a machine ended may take to be known once its screen is gone.
const LAG: Duration = Duration::from_secs(5);

/// Bytes of the serial console in which that is looked for.
const SERIAL_TAIL: u64 = 16 * 1024;

/// An installation that has written less than this onto the disk, bytes, has not installed anything.
const SOMETHING: u64 = 16 << 20;

/// What a machine boots and reads.
#[derive(Default)]
struct Media {
    kernel: Option<(PathBuf, PathBuf)>,
    cdroms: Vec<PathBuf>,
    drives: Vec<machine::Drive>,
    floppy: Option<PathBuf>,
    /// Keeps what is in the cache there.
    in_use: Vec<Fetched>,
}

/// Makes the disk of `stage` below `folder`.
pub(super) async fn install(
    context: &Context<'_>,
    stage: &Stage,
    installer: &Installer,
    folder: &Path,
    timings: &mut Timings,
) -> Result<PathBuf> {
    empty(folder)?;
    let job = Job { context, stage, installer, folder };
    let disk = folder.join("base.qcow2");
    if installer.disk_image {
        job.take_image(&disk, timings).await?;
    } else {
        qemu_img::create_empty(&disk, installer.disk_size, context.cancel).await?;
        job.install(&disk, timings).await?;
    }
    Ok(disk)
}

/// A machine and the password of its screen.
type Screen<'a> = (&'a machine::Running, Option<&'a SecretString>);

/// That everything is there that the installer needs, as far as it can be known before its machine starts.
pub(super) async fn check(
    context: &Context<'_>,
    stage: &Stage,
    installer: &Installer,
    folder: &Path,
    timings: &mut Timings,
) -> Result<()> {
    empty(folder)?;
    let phase = timings.phase("check the installer");
    let job = Job { context, stage, installer, folder };
    // Nobody is served here: the values only take their place.
    let values = job.values(&BoundServer::bind().await?);
    job.media(&values, &phase).await?;
    timings.done(phase);
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context(Kind::Host, || format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).context(Kind::Host, || format!("making {}", folder.display()))
}

struct Job<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    installer: &'a Installer,
    folder: &'a Path,
}

impl Job<'_> {
    /// Turns a ready image into the base disk.
    async fn take_image(&self, disk: &Path, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("disk image");
        let remote = self.installer.iso.as_ref().ok_or_else(|| Error::usage("no disk image is named"))?;
        let image = self.fetch(remote, &phase).await?;
        qemu_img::take(&image.path, disk, self.installer.disk_size, self.context.cancel).await?;
        timings.done(phase);
        Ok(())
    }

    async fn install(&self, disk: &Path, timings: &mut Timings) -> Result<()> {
        let phase = timings.phase("installer images");
        let server = BoundServer::bind().await?;
        let values = self.values(&server);
        let media = self.media(&values, &phase).await?;
        timings.done(phase);

        let phase = timings.phase("install");
        let server = server.serve(self.site(&values)?, self.context.events, &self.stage.name);
        let installed = self.run(disk, &media, &values, &phase).await;
        let installed = match installed {
            Ok(()) => self.check(disk).await,
            Err(error) => Err(error),
        };
        self.finish(installed, server).await?;
        timings.done(phase);
        Ok(())
    }

    /// What boot command, command line and answers may name.
    fn values(&self, server: &BoundServer) -> Values {
        Values::from([
            (Variable::HttpIp, HOST.to_owned()),
            (Variable::HttpPort, server.address().port().to_string()),
            (Variable::Name, self.stage.name.clone()),
        ])
    }

    fn site(&self, values: &Values) -> Result<Site> {
        let mut site = Site::new();
        for (path, file) in &self.installer.http {
            match content(file, values) {
                Content::Bytes(bytes) => site.add(path, bytes)?,
                Content::File(file) => site.add_file(path, &file)?,
            }
        }
        Ok(site)
    }

    async fn media(&self, values: &Values, phase: &Phase) -> Result<Media> {
        let mut media = Media::default();
        if let Some(kernel) = &self.installer.kernel {
            media.kernel = Some(self.kernel(kernel, values, phase, &mut media.in_use).await?);
        }
        if let Some(iso) = &self.installer.iso {
            let iso = self.fetch(iso, phase).await?;
            media.cdroms.push(iso.path.clone());
            media.in_use.push(iso);
        }
        if let Some(volume) = &self.installer.cd {
            let path = self.folder.join("files.iso");
            let files = volume_files(volume, values)?;
            match iso::write(&files, &volume.label, &path, self.context.cancel).await? {
                iso::Format::Iso9660 => media.cdroms.push(path),
                iso::Format::Fat => {
                    media.drives.push(machine::Drive { path, format: machine::Format::Raw, read_only: true });
                }
            }
        }
        if let Some(volume) = &self.installer.floppy {
            let path = self.folder.join("floppy.img");
            fat::write_floppy(&path, &volume.label, &volume_files(volume, values)?)?;
            media.floppy = Some(path);
        }
        Ok(media)
    }

    /// The kernel and its initial file system, with all that is to be in it.
    async fn kernel(
        &self,
        kernel: &Kernel,
        values: &Values,
        phase: &Phase,
        in_use: &mut Vec<Fetched>,
    ) -> Result<(PathBuf, PathBuf)> {
        let (linux, mut initrd) = match &kernel.from {
            KernelSource::Files { kernel, initrd } => {
                let (kernel, initrd) = (self.fetch(kernel, phase).await?, self.fetch(initrd, phase).await?);
                let paths = (kernel.path.clone(), initrd.path.clone());
                in_use.extend([kernel, initrd]);
                paths
            }
            KernelSource::Package { package, version, suite, kernel, initrd } => {
                let wanted = package::Wanted {
                    suite: suite.clone(),
                    components: vec!["main".to_owned()],
                    package: package.clone(),
                    version: version.clone(),
                };
                self.unpack(&wanted, [kernel, initrd], phase).await?
            }
        };
        let mut files = self.own_files(kernel);
        let mut exclude = Vec::new();
        if !kernel.exclude.is_empty() {
            let initrd = anna::Initrd::read(&initrd)?;
            exclude.extend(kernel.exclude.iter().map(|name| initrd.full_name(name)));
            files.push(InitrdFile::text(anna::EXCLUDE_FILE, exclude.join("\n") + "\n"));
        }
        files.extend(kernel.files.iter().map(|(path, file)| InitrdFile {
            path: path.clone(),
            content: content(file, values),
            mode: if file.is_executable() { 0o755 } else { 0o644 },
        }));
        let archives: Vec<PathBuf> = kernel.append.iter().map(|path| path.path.clone()).collect();
        if !files.is_empty() || !archives.is_empty() {
            let whole = self.folder.join("initrd");
            initrd::append(&initrd, &archives, &files, &whole)?;
            initrd = whole;
        }
        if let KernelSource::Package { suite, .. } = &kernel.from {
            self.check_components(suite, &initrd, exclude, phase).await?;
        }
        Ok((linux, initrd))
    }

    /// An installer that finds out by itself that the mirror lacks something waits for ever.
    async fn check_components(&self, suite: &str, initrd: &Path, exclude: Vec<String>, phase: &Phase) -> Result<()> {
        let settings = self.context.settings;
        let checked = self.kept("components");
        if checked.is_file() {
            return Ok(());
        }
        let answers = anna::Answers { exclude, ..anna::Answers::of(self.installer.texts().map(Text::plain)) };
        let mirror = &settings.mirrors.main;
        let counted = anna::check(settings.downloader.client(), mirror, suite, initrd, &answers);
        let components = tokio::select! {
            counted = counted => counted?,
            () = self.context.cancel.cancelled() => return Err(Error::new(Kind::Interrupted, "stopped")),
        };
        phase.events().info(Some(phase.template()), format!("the mirror has all {components} components"));
        fs::write(&checked, "").context(Kind::Host, || format!("writing {}", checked.display()))
    }

    /// What visabuild itself offers to a Debian installer, below `/visabuild`: what makes its disk like one by bootstrap.
    fn own_files(&self, kernel: &Kernel) -> Vec<InitrdFile> {
        let mut files = Vec::new();
        if !kernel.packages.is_empty() {
            files.push(InitrdFile::text(template::PACKAGES_FILE, kernel.packages.join(" ") + "\n"));
        }
        if let KernelSource::Package { suite, .. } = &kernel.from {
            let sources = self.context.settings.mirrors.deb822(suite, &["main".to_owned()]);
            files.push(InitrdFile::text("/visabuild/debian.sources", sources));
            files.push(InitrdFile::text("/visabuild/configure.sh", bootstrap::CONFIGURE_SCRIPT));
            files.push(InitrdFile::text("/visabuild/mke2fs.conf", bootstrap::MKE2FS_CONFIGURATION));
        }
        files
    }

    /// Two files of a Debian package that the signed index vouches for.
    async fn unpack(&self, wanted: &package::Wanted, paths: [&String; 2], phase: &Phase) -> Result<(PathBuf, PathBuf)> {
        let settings = self.context.settings;
        let targets = ["kernel", "initrd"].map(|name| self.kept(name));
        if let [kernel, initrd] = &targets
            && kernel.is_file()
            && initrd.is_file()
        {
            return Ok(targets.into());
        }
        let work_dir = self.folder.join("apt");
        fs::create_dir_all(&work_dir).context(Kind::Host, || format!("making {}", work_dir.display()))?;
        let host = package::Host {
            mirrors: &settings.mirrors,
            acquire: &settings.acquire,
            keyring: settings.keyring.as_ref(),
            work_dir: &work_dir,
        };
        let found = package::fetch(wanted, &host, &settings.downloader, phase, self.context.cancel).await?;
        let template = Some(phase.template());
        phase.events().info(template, format!("{} {}", wanted.package, found.version));
        let pairs: Vec<_> = paths.iter().map(PathBuf::from).zip(targets.clone()).collect();
        package::extract(&found.file.path, &pairs, self.context.cancel).await?;
        Ok(targets.into())
    }

    /// A file that lives as long as the run: what was looked at before it began need not be made again.
    fn kept(&self, name: &str) -> PathBuf {
        self.context.work.join(format!("{}.installer.{name}", self.stage.name))
    }

    async fn fetch(&self, remote: &Remote, phase: &Phase) -> Result<Fetched> {
        self.context.settings.downloader.fetch(&remote.request()?, phase, self.context.cancel).await
    }

    /// Runs the machine until the guest ends it.
    async fn run(&self, disk: &Path, media: &Media, values: &Values, phase: &Phase) -> Result<()> {
        let (context, name) = (self.context, &self.stage.name);
        let config = self.config(disk, media, values)?;
        virtual_machine::prepare(context, self.stage, &config).await?;
        failure::begin(context);
        let runtime = machine::runtime_folder(&context.work)?;
        session::write_command(context, name, &config.program, &config.arguments(runtime.path()))?;
        let serial = session::serial_log(&context.work, name);
        let mut recorded = session::recorded(context, self.stage, "install");
        let start = machine::Start {
            runtime: runtime.path(),
            serial_log: &serial,
            serial_raw: Some(&recorded.serial()),
            template: name,
            events: context.events,
            cancel: context.cancel,
        };
        let machine = machine::Running::start(&config, start).await?;
        attach::tell(recorded.running(Some(session::screen(&config, &machine))), context.events, name);
        let password = config.vnc.password.as_ref().map(VncPassword::secret);
        let installed = tokio::select! {
            installed = self.follow((&machine, password), values, phase) => installed,
            () = context.cancel.cancelled() => Err(Error::new(Kind::Interrupted, "stopped")),
        };
        match installed {
            Ok(()) => {
                machine.watch().gone().await;
                Ok(())
            }
            Err(error) => {
                failure::keep_machine(context, self.stage, &machine, &error).await;
                machine.stop().await;
                Err(error)
            }
        }
    }

    /// Types the boot command and waits for the end.
    async fn follow(&self, (machine, password): Screen<'_>, values: &Values, phase: &Phase) -> Result<()> {
        let timeout = self.installer.timeout.unwrap_or(TIMEOUT);
        let watch = machine.watch();
        let idle = virtual_machine::idle_timeout(self.stage);
        let installed = async {
            // It may end only when the machine does. As long as it goes on, it waits for the guest, not the guest for
            // somebody.
            match self.type_command((machine, password), values, phase).await {
                Ok(()) => Ok(machine.idle(idle).await),
                // The screen goes a moment before why it went is known.
                Err(error) => tokio::time::timeout(LAG, watch.ended()).await.map_err(|_| error),
            }
        };
        let ended = tokio::select! {
            biased;
            ended = watch.ended() => ended,
            installed = installed => installed?,
            () = until(timeout) => {
                return Err(Error::build(format!("the installation did not end within {timeout:?}"))
                    .caused_by(Cause::TimedOut)
                    .hint("`failure/screen.png` shows where it stands; `install_timeout` gives it more time"));
            }
        };
        match ended {
            Ended::PoweredOff => Ok(()),
            ended => Err(Error::from(ended).context("the installation did not end with a power-off or a reboot")),
        }
    }

    async fn type_command(&self, (machine, password): Screen<'_>, values: &Values, phase: &Phase) -> Result<()> {
        let command = self.installer.boot_command();
        if command.is_empty() {
            return Ok(());
        }
        let command = command.bind(values)?;
        let pictures = Pictures::load(&command, &self.installer.pictures)?;
        let typing = &self.installer.typing;
        let mut pace = Pace::default();
        // Packer's default stands where 0 does, too.
        if let Some(interval) = typing.key_interval.filter(|interval| !interval.is_zero()) {
            pace = Pace { key_interval: interval, echo: false, ..pace };
        }
        pace.read_back = typing.read_back.unwrap_or(pace.read_back);
        if let Some(interval) = typing.group_interval {
            pace.group_interval = interval;
        }
        let address = machine.vnc_url().parse::<Address>()?;
        let mut typist = Typist::connect(&address, password, pace, self.context.cancel).await?;
        typist.pause(typing.wait.unwrap_or(BOOT_WAIT)).await?;
        let _typing = phase.events().typing(phase.template());
        let typed = typist.run(&command, &pictures).await.map_err(|unfinished| Error::from(*unfinished))?;
        let retyped = match typed.retyped {
            0 => String::new(),
            retyped => format!(", typed again: {retyped}"),
        };
        let text = format!(
            "boot command: {} keys in {:.1} s, lines read back: {}{retyped}",
            typed.keys,
            typed.time.as_secs_f64(),
            typed.read_back
        );
        phase.events().info(Some(phase.template()), text);
        Ok(())
    }

    fn config(&self, disk: &Path, media: &Media, values: &Values) -> Result<machine::Config> {
        let context = self.context;
        let boot = match (&media.kernel, &self.installer.kernel) {
            (Some((kernel, initrd)), Some(wanted)) => Boot::Kernel {
                kernel: kernel.clone(),
                initrd: initrd.clone(),
                append: boot_command::fill(wanted.cmdline.plain(), values),
            },
            _ => Boot::Cdrom,
        };
        let mut config = virtual_machine::config(context, self.stage, disk.to_owned(), "install", None)?;
        config.drives.extend(media.drives.iter().cloned());
        let port = values.get(&Variable::HttpPort).and_then(|port| port.parse().ok());
        config.extra = virtual_machine::extra(&self.stage.machine.hardware.board, self.stage, &context.work, port);
        Ok(machine::Config {
            boot,
            typed: !self.installer.boot_command.is_empty(),
            no_reboot: true,
            cdroms: media.cdroms.clone(),
            floppy: media.floppy.clone(),
            ..config
        })
    }

    /// The installer must have written a system onto the disk.
    async fn check(&self, disk: &Path) -> Result<()> {
        let serial = machine::log_tail(&session::serial_log(&self.context.work, &self.stage.name), SERIAL_TAIL);
        let serial = serial.unwrap_or_default();
        let told = String::from_utf8_lossy(&serial).lines().rev().find_map(|line| {
            let (_, told) = line.split_once(FAILED)?;
            Some(told.trim().to_owned())
        });
        if let Some(told) = told {
            return Err(Error::build("a command of the installation failed")
                .because(told)
                .caused_by(Cause::Installation));
        }
        let info = qemu_img::info(disk, self.context.cancel).await?;
        if info.actual_size < SOMETHING {
            return Err(Error::build("the installer ended without having installed anything onto the disk")
                .caused_by(Cause::Installation)
                .hint("`failure/serial.log` shows what it did, as far as it spoke on the serial console"));
        }
        Ok(())
    }

    /// Keeps the guest's requests for the failure report.
    async fn finish(&self, installed: Result<()>, server: WebServer) -> Result<()> {
        let requests = server.stop().await;
        if installed.is_err() && !self.installer.http.is_empty() {
            failure::keep_requests(self.context, requests);
        }
        installed
    }
}

/// Waits for `timeout`; zero is no limit.
async fn until(timeout: Duration) {
    if timeout.is_zero() {
        return std::future::pending().await;
    }
    tokio::time::sleep(timeout).await;
}

/// What a file has with the values of the variables that it names.
fn content(file: &AnswerFile, values: &Values) -> Content {
    match file {
        AnswerFile::Content(text) => Content::Bytes(filled(text, values).into_bytes()),
        AnswerFile::File(path) => Content::File(path.path.clone()),
    }
}

fn filled(text: &Text, values: &Values) -> String {
    boot_command::fill(text.plain(), values)
}

fn volume_files(volume: &Volume, values: &Values) -> Result<VolumeFiles> {
    let files: BTreeMap<String, Content> =
        volume.files.iter().map(|(path, file)| (path.clone(), content(file, values))).collect();
    VolumeFiles::new(files)
}
