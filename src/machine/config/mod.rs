//! QEMU's command line as data.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use disks::{Cache, DetectZeroes, Interface};
pub use extra::Extra;
pub use screen::{Display, Vnc, VncPassword};
pub use smbios::Smbios;

use arguments::{Arguments, Value};

mod arguments;
mod disks;
mod extra;
mod processor;
mod screen;
mod smbios;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's processor, through the kernel.
    Kvm,
    /// QEMU's translator; works everywhere, several times slower.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// Format of a disk file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's copy-on-write format; backing files are found through its header.
    #[default]
    Qcow2,
    /// The bytes of the disk.
    Raw,
}

/// A disk beside the one that the machine boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The guest may not write to it.
    pub read_only: bool,
}

/// What the machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// The boot loader on the disk.
    Disk,
    /// The disk as soon as it can be booted, the first of [`Config::cdroms`] until then: an empty disk
    /// makes SeaBIOS and OVMF go on to the next in their order, and what an installer has put on the
    /// disk boots when it restarts the machine. Packer's `-boot once=d` does the same, but OVMF does
    /// not know it, and with it the CD is in front again after a power cycle.
    Cdrom,
    /// A kernel given to QEMU.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Its initial RAM disk.
        initrd: PathBuf,
        /// Its command line.
        append: String,
    },
}

/// The firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which QEMU brings along.
    Bios,
    /// Another BIOS.
    File(PathBuf),
    /// Firmware in a flash device, never written.
    Flash(PathBuf),
    /// OVMF.
    Uefi {
        /// The firmware's code, never written.
        code: PathBuf,
        /// A copy of its variables for this machine, written by the guest.
        vars: PathBuf,
        /// The code is made for secure boot: it keeps the guest's kernel away from the variables by
        /// the system management mode, which QEMU has on `q35` only.
        secure_boot: bool,
    },
}

/// How the virtual CPUs are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

/// A TPM, emulated by swtpm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// TPM 1.2 instead of 2.0.
    pub version1: bool,
    /// QEMU's device, such as `tpm-tis` or `tpm-crb`.
    pub device: String,
    /// Folder of its state, there already.
    pub state: PathBuf,
}

/// A machine, as it is given to QEMU; pure data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name in the window's title and in the process list.
    pub name: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// QEMU's program, looked up in the search path.
    pub program: PathBuf,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// How they are arranged; none is a socket for each.
    pub topology: Option<Topology>,
    /// Memory, MiB.
    pub memory: u64,
    /// QEMU's CPU model; none is all that the accelerator can do.
    pub cpu_model: Option<String>,
    /// QEMU's machine, such as `q35` or `pc-i440fx-9.2`.
    pub machine_type: String,
    /// The disk that the machine boots from.
    pub disk: PathBuf,
    /// Its format.
    pub format: Format,
    /// What it is attached to, and the other disks and the seed with it.
    pub interface: Interface,
    /// How the host caches the disks; none is QEMU's own way, or what `unsafe_cache` says.
    pub cache: Option<Cache>,
    /// What the guest gives up is given back to the host.
    pub discard: bool,
    /// What becomes of zeroes that the guest writes.
    pub detect_zeroes: DetectZeroes,
    /// The disk is left as it is: what the guest writes goes to a temporary file, which QEMU makes
    /// in `TMPDIR` (`/var/tmp`) and which is gone with it.
    pub snapshot: bool,
    /// Further disks.
    pub drives: Vec<Drive>,
    /// NoCloud seed, a raw FAT image, attached read-only.
    pub seed: Option<PathBuf>,
    /// ISO images, each in a drive of its own.
    pub cdroms: Vec<PathBuf>,
    /// What the CD drives are attached to.
    pub cdrom_interface: Interface,
    /// Image of a floppy, attached read-only.
    pub floppy: Option<PathBuf>,
    /// What the guest reads in its firmware's tables.
    pub smbios: Smbios,
    /// A guest that restarts powers off instead.
    pub no_reboot: bool,
    /// What it boots.
    pub boot: Boot,
    /// Keys are typed at its boot loader, whose prompt on the serial console is then no failure.
    pub typed: bool,
    /// Its firmware.
    pub firmware: Firmware,
    /// A trusted platform module.
    pub tpm: Option<Tpm>,
    /// Where its screen is shown, beside VNC.
    pub display: Display,
    /// QEMU's `-vga`; none is the standard VGA.
    pub vga: Option<String>,
    /// Its VNC server.
    pub vnc: Vnc,
    /// A USB controller with a keyboard and a tablet.
    pub usb: bool,
    /// QEMU's network device.
    pub net_device: String,
    /// TCP ports of the guest that are forwarded from ports of 127.0.0.1 that the kernel chooses.
    pub guest_ports: Vec<u16>,
    /// The guest reaches neither the host nor the network; forwarded ports still work.
    pub restrict: bool,
    /// The guest's flushes are ignored: fast, and right for a disk that is thrown away when the
    /// host crashes.
    pub unsafe_cache: bool,
    /// The guest learns when it goes on from a memory that it has gone on from before, and makes new random numbers
    /// (docs/specs/vmgenid in QEMU's sources).
    pub generation_id: bool,
    /// QEMU waits for the guest's memory (QMP `migrate-incoming`) instead of booting it.
    pub waits_for_memory: bool,
    /// Arguments that are merged with these.
    pub extra: Vec<Extra>,
}

impl Config {
    /// A headless machine with BIOS that boots `disk`, with SSH forwarded.
    pub fn new(name: impl Into<String>, accelerator: Accelerator, disk: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            accelerator,
            program: super::PROGRAM.into(),
            cpus: 2,
            topology: None,
            memory: 2048,
            cpu_model: None,
            machine_type: "q35".to_owned(),
            disk: disk.into(),
            format: Format::Qcow2,
            interface: Interface::Virtio,
            cache: None,
            discard: true,
            detect_zeroes: DetectZeroes::Unmap,
            snapshot: false,
            drives: Vec::new(),
            seed: None,
            cdroms: Vec::new(),
            // Every installer's kernel knows it, as do SeaBIOS and OVMF.
            cdrom_interface: Interface::Ide,
            floppy: None,
            smbios: Smbios::default(),
            no_reboot: false,
            boot: Boot::Disk,
            typed: false,
            firmware: Firmware::Bios,
            tpm: None,
            display: Display::Headless,
            vga: None,
            vnc: Vnc::default(),
            usb: false,
            net_device: "virtio-net-pci".to_owned(),
            guest_ports: vec![22],
            restrict: false,
            unsafe_cache: false,
            generation_id: false,
            waits_for_memory: false,
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments, in an order that depends on nothing but `self`; QEMU finds the sockets of
    /// its monitor, serial port and TPM in `runtime`.
    pub fn arguments(&self, runtime: &Path) -> Vec<OsString> {
        self.merged(runtime).0.into_vec()
    }

    /// Which of the arguments were replaced by [`Config::extra`], a sentence each.
    pub fn replaced(&self) -> Vec<String> {
        self.merged(Path::new("")).1
    }

    /// What of the machine the memory of its guest depends on; where its files are is not part of it.
    pub(crate) fn identity(&self) -> Vec<String> {
        let seed = self.seed.is_some().then(|| PathBuf::from("seed"));
        let same = Self { disk: "disk".into(), seed, waits_for_memory: false, ..self.clone() };
        same.arguments(Path::new("")).iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn merged(&self, runtime: &Path) -> (Arguments, Vec<String>) {
        let mut arguments = Arguments::default();
        arguments.flag("-nodefaults").flag("-no-user-config");
        arguments.option("-name", Value::new("guest=").path(self.name.as_ref()));
        self.processor(&mut arguments);
        self.drives(&mut arguments);
        self.network(&mut arguments);
        self.consoles(&mut arguments, runtime);
        if self.generation_id {
            arguments.option("-device", Value::new("vmgenid,guid=auto"));
        }
        if self.waits_for_memory {
            arguments.option("-incoming", Value::new("defer"));
        }
        let replaced = extra::merge(&mut arguments, &self.extra);
        (arguments, replaced)
    }

    fn network(&self, arguments: &mut Arguments) {
        let mut network = "user,id=net0".to_owned();
        if self.restrict {
            network.push_str(",restrict=on");
        }
        for port in &self.guest_ports {
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:0-:{port}"));
        }
        arguments.option("-netdev", Value::new(&network));
        // Without a ROM the firmware does not try to boot from the network; only PCI devices have one.
        let model = &self.net_device;
        let usb = model.starts_with("usb");
        let rom = if usb || model.contains("isa") { "" } else { ",romfile=" };
        if self.usb || usb {
            arguments.option("-device", Value::new("qemu-xhci"));
        }
        arguments.option("-device", Value::new(&format!("{model},netdev=net0{rom}")));
    }

    fn consoles(&self, arguments: &mut Arguments, runtime: &Path) {
        for device in ["virtio-rng-pci", "pvpanic-pci"] {
            arguments.option("-device", Value::new(device));
        }
        self.screen(arguments);
        for id in ["serial", "qmp", "firmware"] {
            let path = socket(runtime, id);
            arguments
                .option("-chardev", Value::new(&format!("socket,id={id},server=off,path=")).path(path.as_os_str()));
        }
        arguments.option("-serial", Value::new("chardev:serial"));
        // Where SeaBIOS and OVMF say what they do (SeaBIOS's Debugging, OVMF's README); the screen has only the half of it.
        arguments.option("-device", Value::new("isa-debugcon,iobase=0x402,chardev=firmware"));
        arguments.option("-mon", Value::new("chardev=qmp,mode=control"));
        if let Some(tpm) = &self.tpm {
            let path = socket(runtime, "tpm");
            arguments.option("-chardev", Value::new("socket,id=tpm,server=off,path=").path(path.as_os_str()));
            arguments.option("-tpmdev", Value::new("emulator,id=tpm0,chardev=tpm"));
            arguments.option("-device", Value::new(&format!("{},tpmdev=tpm0", tpm.device)));
        }
    }
}

/// Where visabuild listens for the socket that QEMU's character device `id` connects to.
pub(super) fn socket(runtime: &Path, id: &str) -> PathBuf {
    runtime.join(id)
}

#[cfg(test)]
mod tests;
