//! The `installer` builder: a distribution's own installer, or a ready disk image, makes the first disk.
//!
//! The keys are those of Packer's qemu builder, and beyond it `kernel`, `initrd` and `cmdline` (QEMU boots the
//! installer's kernel, nothing is typed), `package` (kernel and initrd out of a Debian package, which the signed index
//! vouches for), `initrd_files`, `initrd_content` and `initrd_append`, and `install_timeout`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::answers::{self, AnswerFile, Volume};
use super::fields::{Fields, Reader};
use super::keys::builder::INSTALLER;
use super::paths::{Search, Want};
use super::remote::{INITRD, ISO, KERNEL, Remote, remote};
use super::yaml::Node;
use super::{HostPath, Machine, Text, machine, scalar};
use crate::boot_command::{BootCommand, Variable};
use crate::error::Problem;

/// The largest `boot_wait`; more is a mistyped unit.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Disk of an installed template that does not say, as in Packer's qemu builder, bytes.
const DISK_SIZE: u64 = 40960 << 20;

/// How a first disk is installed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Installer {
    /// The medium in the CD drive, or with [`Self::disk_image`] the disk itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iso: Option<Remote>,
    /// The medium is a bootable disk, and nothing is installed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disk_image: bool,
    /// A kernel that QEMU boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// What is typed, parsed; in the plan as it is written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boot_command: Vec<String>,
    /// Folder of the pictures that the boot command waits for.
    #[serde(skip)]
    pub pictures: std::path::PathBuf,
    /// How fast it is typed; no part of what is made.
    #[serde(skip)]
    pub typing: Typing,
    /// Files of the web server, by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub http: BTreeMap<String, AnswerFile>,
    /// A CD with files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cd: Option<Volume>,
    /// A floppy with files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floppy: Option<Volume>,
    /// Virtual size of the disk, bytes.
    pub disk_size: u64,
    /// How long the installation may take.
    #[serde(skip)]
    pub timeout: Option<Duration>,
    /// The machine of the installation and of the first boots.
    #[serde(skip)]
    pub machine: Machine,
}

/// An installer's kernel, booted without a boot loader.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kernel {
    /// Where it is from.
    #[serde(flatten)]
    pub from: KernelSource,
    /// Its command line, which may name the web server (`{{ .HTTPIP }}`).
    pub cmdline: Text,
    /// Packages that the installer is to install; in its initial file system they are a line of
    /// [`PACKAGES_FILE`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Components that debian-installer is not to load by itself; of those with kernel modules the name without the
    /// kernel's (`jfs-modules`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Files put into the initial file system, by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, AnswerFile>,
    /// Archives (cpio, compressed or not) appended to it as they are, such as Debian's firmware.cpio.gz.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<HostPath>,
}

/// Where a kernel and its initial file system are from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum KernelSource {
    /// Two files.
    Files {
        /// The kernel.
        kernel: Box<Remote>,
        /// Its initial file system.
        initrd: Box<Remote>,
    },
    /// Two files of a Debian package.
    Package {
        /// Its name.
        package: String,
        /// Its version; the newest if none.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// The suite that it is of.
        suite: String,
        /// The kernel's path in it.
        kernel: String,
        /// The initial file system's path in it.
        initrd: String,
    },
}

/// Where a kernel's initial file system has the list of packages.
pub const PACKAGES_FILE: &str = "/visabuild/packages";

/// How a boot command is typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Typing {
    /// What passes before it begins.
    pub wait: Option<Duration>,
    /// What passes after each key event; as fast as the guest draws if none.
    pub key_interval: Option<Duration>,
    /// What passes after each string of the list.
    pub group_interval: Option<Duration>,
    /// Whether lines are read back; they are if it is not said.
    pub read_back: Option<bool>,
}

impl Installer {
    /// In a few words: `installer from debian-installer-13-netboot-amd64`.
    pub fn summary(&self) -> String {
        let name = |remote: &Remote| {
            let url = remote.urls.first().map_or("", Text::masked);
            url.rsplit('/').next().unwrap_or(url).to_owned()
        };
        match (&self.kernel, &self.iso) {
            (Some(Kernel { from: KernelSource::Package { package, .. }, .. }), _) => {
                format!("installer from {package}")
            }
            (_, Some(iso)) if self.disk_image => format!("disk image {}", name(iso)),
            (_, Some(iso)) => format!("installer from {}", name(iso)),
            (Some(Kernel { from: KernelSource::Files { kernel, .. }, .. }), None) => {
                format!("installer from {}", name(kernel))
            }
            (None, None) => "installer".to_owned(),
        }
    }

    /// The suite of the package that has kernel and initial file system.
    pub fn suite(&self) -> Option<&str> {
        match &self.kernel.as_ref()?.from {
            KernelSource::Package { suite, .. } => Some(suite),
            KernelSource::Files { .. } => None,
        }
    }

    /// The parsed boot command.
    ///
    /// # Panics
    /// Never: it was parsed when the template was read.
    pub fn boot_command(&self) -> BootCommand {
        BootCommand::parse(&self.boot_command).unwrap_or_default()
    }

    /// Files of this host that it boots, whose checksums nobody gives: the path of each, and what is written for it.
    pub(crate) fn local_media(&self) -> impl Iterator<Item = (std::path::PathBuf, String)> {
        let kernels = self.kernel.iter().flat_map(|kernel| match &kernel.from {
            KernelSource::Files { kernel, initrd } => vec![&**kernel, &**initrd],
            KernelSource::Package { .. } => Vec::new(),
        });
        kernels.chain(&self.iso).filter_map(Remote::unchecked_file)
    }

    /// All rendered texts with what they are, in a stable order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text> {
        let kernel = self.kernel.iter();
        let files = kernel.clone().flat_map(|kernel| kernel.files.values()).chain(self.http.values());
        let volumes = self.cd.iter().chain(&self.floppy).flat_map(|volume| volume.files.values());
        let sources = kernel.clone().flat_map(|kernel| match &kernel.from {
            KernelSource::Files { kernel, initrd } => kernel.urls.iter().chain(&initrd.urls),
            KernelSource::Package { .. } => [].iter().chain(&[]),
        });
        files
            .chain(volumes)
            .filter_map(AnswerFile::text)
            .chain(kernel.map(|kernel| &kernel.cmdline))
            .chain(sources)
            .chain(self.iso.iter().flat_map(|iso| &iso.urls))
    }
}

/// Reads the keys of the builder.
pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, search: &Search) -> Option<Installer> {
    let place = fields.location();
    let iso = remote(reader, &mut fields, &ISO, search);
    let disk_image = fields.get("disk_image");
    let kernel = kernel(reader, &mut fields, search);
    let (command, typing) = (command(reader, &mut fields, search), typing(reader, &mut fields));
    let http = answers::http(reader, &mut fields, search);
    let cd = answers::volume(reader, &mut fields, &answers::CD, (search, http.as_ref()));
    let floppy = answers::volume(reader, &mut fields, &answers::FLOPPY, (search, http.as_ref()));
    let timeout = fields.get("install_timeout");
    let (machine, arguments) = (machine::machine(reader, &mut fields, &INSTALLER), fields.get("qemuargs"));
    fields.finish_as(&INSTALLER, reader.problems);

    let disk_image = reader.optional(disk_image, |reader, node| reader.parse(node, scalar::boolean));
    let timeout = reader.optional(timeout, |reader, node| reader.parse(node, scalar::duration));
    let (iso, kernel, mut machine) = (iso?, kernel?, machine?);
    let disk_image = disk_image?.unwrap_or_default();
    let (boot_command, pictures) = command?.unwrap_or_default();
    let problem = match (&iso, &kernel, disk_image) {
        (None, None, _) => Some("an installer needs `iso_url`, or `kernel` and `initrd`, or a `package` with them"),
        (None, Some(_), true) => Some("`disk_image` says that `iso_url` is a disk, but there is none"),
        (Some(_), Some(_), true) => Some("a disk image boots by itself: `kernel` has no use"),
        (Some(_), None, true) if !boot_command.is_empty() => {
            Some("nothing is typed at a disk image: `boot_command` has no use")
        }
        _ => None,
    };
    if let Some(message) = problem {
        reader.at(place.clone(), message);
        return None;
    }
    let (typing, http, cd, floppy, timeout) = (typing?, http?, cd?, floppy?, timeout?);
    if disk_image {
        let unused = [
            ("http_directory", !http.files.is_empty()),
            ("cd_files", cd.is_some()),
            ("floppy_files", floppy.is_some()),
            ("install_timeout", timeout.is_some()),
        ];
        for (key, _) in unused.iter().filter(|(_, given)| *given) {
            let text = format!("a disk image is not installed, and so `{key}` and its like have no use");
            let hint = "each boot gets account and key of the build by a NoCloud seed of visabuild's own";
            reader.problems.add(Problem::at(place.clone(), text).hint(hint));
        }
        unused.iter().all(|(_, given)| !given).then_some(())?;
        super::builder::refuse_port(reader, arguments, &machine, "nothing is installed here")?;
    }
    Some(Installer {
        iso,
        disk_image,
        kernel,
        boot_command,
        pictures,
        typing,
        http: http.files,
        cd,
        floppy,
        disk_size: machine.disk_size.take().unwrap_or(DISK_SIZE),
        timeout,
        machine,
    })
}

fn kernel(reader: &mut Reader<'_>, fields: &mut Fields<'_>, search: &Search) -> Option<Option<Kernel>> {
    let entry = fields.entry("kernel").or(fields.entry("kernel_urls"));
    let package = fields.get("package");
    let (version, suite) = (fields.get("package_version"), fields.get("suite"));
    let cmdline = fields.get("cmdline");
    let files = answers::files(reader, fields, ["initrd_files", "initrd_content"], search);
    let append = fields.get("initrd_append");
    let (packages, exclude) = (fields.get("packages"), fields.get("exclude_components"));
    let from = match (entry, package) {
        (None, None) => {
            // What belongs to a kernel and has none is told as such.
            let alone = ["initrd", "kernel_checksum", "initrd_checksum"].map(|key| fields.entry(key));
            let other = cmdline.or(append).or(version).or(suite).or(packages).or(exclude).map(Node::location);
            let place = alone.into_iter().flatten().map(super::yaml::Entry::location).next().or(other);
            if let Some(place) = place {
                reader.at(place, "this belongs to a `kernel`, which is missing");
                return None;
            }
            return files.map(|_| None);
        }
        (_, Some(package)) => from_package(reader, fields, package, (version, suite)),
        (Some(_), None) => {
            if let Some(node) = version.or(suite) {
                reader.at(node.location(), "this belongs to a `package`, which is missing");
                return None;
            }
            let kernel = remote(reader, fields, &KERNEL, search);
            let initrd = remote(reader, fields, &INITRD, search);
            if matches!(initrd, Some(None)) {
                reader.at(entry?.location(), "`kernel` needs an `initrd`");
            }
            kernel?
                .zip(initrd?)
                .map(|(kernel, initrd)| KernelSource::Files { kernel: kernel.into(), initrd: initrd.into() })
        }
    };
    let cmdline = reader.optional(cmdline, command_line);
    let mut words =
        |node| reader.optional(node, |reader, node| reader.list(node, |reader, node| reader.parse(node, scalar::word)));
    let (packages, exclude) = (words(packages), words(exclude));
    let append =
        reader.optional(append, |reader, node| reader.some(node, |reader, node| search.find(reader, node, Want::File)));
    Some(Some(Kernel {
        from: from?,
        cmdline: cmdline?.unwrap_or_else(|| Text::public("")),
        packages: packages?.unwrap_or_default(),
        exclude: exclude?.unwrap_or_default(),
        files: files?,
        append: append?.unwrap_or_default(),
    }))
}

fn from_package(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    package: &Node,
    (version, suite): (Option<&Node>, Option<&Node>),
) -> Option<KernelSource> {
    let (kernel, initrd) = (fields.required("kernel", reader.problems), fields.required("initrd", reader.problems));
    let word = |reader: &mut Reader<'_>, node: &Node| reader.parse(node, scalar::word);
    if suite.is_none() {
        reader.at(package.location(), "`suite` is missing: which release is the package of?");
    }
    let path = |reader: &mut Reader<'_>, node: Option<&Node>| {
        let node = node?;
        let path = reader.public(node)?;
        if !Path::new(&path).is_absolute() {
            reader.at(node.location(), "give the file's path as it would be installed, such as `/boot/vmlinuz`");
            return None;
        }
        Some(path)
    };
    let (kernel, initrd) = (path(reader, kernel), path(reader, initrd));
    let package = word(reader, package);
    let version = reader.optional(version, word);
    let suite = suite.and_then(|node| word(reader, node));
    Some(KernelSource::Package {
        package: package?,
        version: version?,
        suite: suite?,
        kernel: kernel?,
        initrd: initrd?,
    })
}

/// A kernel's command line, which the kernel cuts at 2048 bytes (COMMAND_LINE_SIZE of x86).
fn command_line(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let text = reader.text(node)?;
    let has_credentials = || text.plain().split_whitespace().any(|word| crate::credentials::strip(word) != word);
    let secret = match text.secrets().iter().next() {
        Some(secret) => Some(format!("the secret `{secret}`")),
        None => has_credentials().then(|| "a URL with credentials".to_owned()),
    };
    if let Some(secret) = secret {
        let open = "every process of the host can read QEMU's command line, which holds the kernel's";
        let problem = Problem::at(node.location(), format!("{secret} cannot be used here: {open}"));
        reader.problems.add(problem.hint("put it into the answers (`http_directory`, `initrd_files`)"));
        return None;
    }
    if let Some(name) =
        super::answers::go_variables(text.plain()).into_iter().find(|name| Variable::named(name).is_none())
    {
        let known: Vec<_> = Variable::names().map(|name| format!("`{{{{ .{name} }}}}`")).collect();
        let problem = Problem::at(node.location(), format!("unknown variable `{{{{ .{name} }}}}`"));
        reader.problems.add(problem.hint(format!("there are {}", known.join(", "))));
        return None;
    }
    let line = text.plain().split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > 2000 {
        reader.at(node.location(), "the kernel cuts its command line at 2048 bytes: put answers into the initrd");
        return None;
    }
    let masked = text.masked().split_whitespace().collect::<Vec<_>>().join(" ");
    Some(Text::new(masked, line, text.secrets().clone()))
}

/// `boot_command`, or `boot_steps`: rows of a command and what it does.
fn command(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    search: &Search,
) -> Option<Option<(Vec<String>, std::path::PathBuf)>> {
    let (command, steps) = (fields.get("boot_command"), fields.entry("boot_steps"));
    match (command, steps) {
        (Some(_), Some(steps)) => {
            reader.at(steps.location(), "`boot_steps` cannot stand beside `boot_command`");
            None
        }
        (Some(command), None) => {
            let strings = reader.list(command, Reader::public)?;
            boot_command(reader, command, strings, search).map(Some)
        }
        (None, Some(steps)) => {
            let rows = reader.list(&steps.value, |reader, row| reader.some(row, Reader::public))?;
            let strings = rows.into_iter().filter_map(|row| row.into_iter().next()).collect();
            boot_command(reader, &steps.value, strings, search).map(Some)
        }
        (None, None) => Some(None),
    }
}

/// Parses `strings`, one of each item of `node`.
fn boot_command(
    reader: &mut Reader<'_>,
    node: &Node,
    strings: Vec<String>,
    search: &Search,
) -> Option<(Vec<String>, std::path::PathBuf)> {
    let items = super::fields::items(node, reader.problems)?;
    let command = match BootCommand::parse(&strings) {
        Ok(command) => command,
        Err(faults) => {
            for fault in faults {
                let place = items.get(fault.string).map(Node::location);
                reader.problems.add(fault.into_problem(place));
            }
            return None;
        }
    };
    let missing: Vec<_> = command.images().filter(|image| !search.own().join(image).is_file()).collect();
    for image in &missing {
        reader.at(node.location(), format!("the boot command waits for the picture `{image}`, which does not exist"));
    }
    missing.is_empty().then(|| (strings, search.own().to_owned()))
}

fn typing(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Typing> {
    let [wait, key, group] = ["boot_wait", "boot_key_interval", "boot_keygroup_interval"].map(|key| fields.get(key));
    let read_back = fields.get("boot_read_back");
    let read_back = reader.optional(read_back, |reader, node| reader.parse(node, scalar::boolean));
    let mut interval =
        |node| reader.optional(node, |reader: &mut Reader<'_>, node| reader.parse(node, scalar::duration));
    let (key, group) = (interval(key), interval(group));
    let wait = reader.optional(wait, boot_wait);
    Some(Typing { wait: wait?, key_interval: key?, group_interval: group?, read_back: read_back? })
}

/// Packer's `-1s` means not to wait at all.
pub(super) fn boot_wait(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    if reader.public(node)?.trim().starts_with('-') {
        return Some(Duration::ZERO);
    }
    let wait = reader.parse(node, scalar::duration)?;
    if wait > LONGEST_WAIT {
        reader.at(node.location(), "`boot_wait` is at most an hour");
        return None;
    }
    Some(wait)
}
