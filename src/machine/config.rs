//! QEMU's command line as data.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

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
    /// OVMF.
    Uefi {
        /// The firmware's code, never written.
        code: PathBuf,
        /// A copy of its variables for this machine, written by the guest.
        vars: PathBuf,
    },
}

/// Where the screen is shown, beside VNC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Nowhere.
    Headless,
    /// QEMU's own window.
    Window,
}

/// A machine, as it is given to QEMU; pure data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name in the window's title and in the process list.
    pub name: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory: u64,
    /// QEMU's CPU model; none is all that the accelerator can do.
    pub cpu_model: Option<String>,
    /// The disk that the machine boots from.
    pub disk: PathBuf,
    /// Its format.
    pub format: Format,
    /// The disk is left as it is: what the guest writes goes to a temporary file, which QEMU makes
    /// in `TMPDIR` (`/var/tmp`) and which is gone with it.
    pub snapshot: bool,
    /// Further disks.
    pub drives: Vec<Drive>,
    /// NoCloud seed, a raw FAT image, attached read-only.
    pub seed: Option<PathBuf>,
    /// What it boots.
    pub boot: Boot,
    /// Its firmware.
    pub firmware: Firmware,
    /// Where its screen is shown.
    pub display: Display,
    /// TCP ports of the guest that are forwarded from ports of 127.0.0.1 that the kernel chooses.
    pub guest_ports: Vec<u16>,
    /// The guest reaches neither the host nor the network; forwarded ports still work.
    pub restrict: bool,
    /// The guest's flushes are ignored: fast, and right for a disk that is thrown away when the
    /// host crashes.
    pub unsafe_cache: bool,
}

impl Config {
    /// A headless machine with BIOS that boots `disk`, with SSH forwarded.
    pub fn new(name: impl Into<String>, accelerator: Accelerator, disk: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            accelerator,
            cpus: 2,
            memory: 2048,
            cpu_model: None,
            disk: disk.into(),
            format: Format::Qcow2,
            snapshot: false,
            drives: Vec::new(),
            seed: None,
            boot: Boot::Disk,
            firmware: Firmware::Bios,
            display: Display::Headless,
            guest_ports: vec![22],
            restrict: false,
            unsafe_cache: false,
        }
    }

    /// QEMU's arguments, in an order that depends on nothing but `self`; QEMU finds the sockets of
    /// its monitor and serial port in `runtime`.
    pub fn arguments(&self, runtime: &Path) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.flag("-nodefaults").flag("-no-user-config");
        arguments.option("-name", Value::new("guest=").path(self.name.as_ref()));
        self.processor(&mut arguments);
        self.disks(&mut arguments);
        self.network(&mut arguments);
        self.consoles(&mut arguments, runtime);
        arguments.0
    }

    fn processor(&self, arguments: &mut Arguments) {
        let (accelerator, best) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", "max"),
        };
        let machine = match &self.firmware {
            Firmware::Bios => "q35",
            Firmware::Uefi { .. } => "q35,pflash0=uefi-code,pflash1=uefi-vars",
        };
        arguments.option("-machine", Value::new(machine));
        arguments.option("-accel", Value::new(accelerator));
        arguments.option("-cpu", Value::new(self.cpu_model.as_deref().unwrap_or(best)));
        arguments.option("-smp", Value::new(&format!("cpus={}", self.cpus)));
        arguments.option("-m", Value::new(&format!("size={}M", self.memory)));
        // A panicked guest is kept, so that its screen can still be looked at.
        arguments.option("-action", Value::new("panic=pause"));
        if let Firmware::Uefi { code, vars } = &self.firmware {
            let node = |name: &str, path: &Path, read_only: &str| {
                Value::new(&format!(
                    "driver=raw,node-name={name},read-only={read_only},file.driver=file,file.filename="
                ))
                .path(path.as_os_str())
            };
            arguments.option("-blockdev", node("uefi-code", code, "on"));
            arguments.option("-blockdev", node("uefi-vars", vars, "off"));
        }
        if let Boot::Kernel { kernel, initrd, append } = &self.boot {
            arguments.option("-kernel", Value::verbatim(kernel.as_os_str()));
            arguments.option("-initrd", Value::verbatim(initrd.as_os_str()));
            arguments.option("-append", Value::verbatim(append.as_ref()));
        }
    }

    fn disks(&self, arguments: &mut Arguments) {
        let no_flush = if self.unsafe_cache { ",cache.no-flush=on,file.cache.no-flush=on" } else { "" };
        let source = format!(
            "driver={},discard=unmap,detect-zeroes=unmap,file.discard=unmap{no_flush},file.driver=file,file.filename=",
            driver(self.format)
        );
        // Only -drive knows temporary overlays; everything else is a -blockdev, QEMU's stable interface.
        let (option, head) =
            if self.snapshot { ("-drive", "if=none,id=disk,snapshot=on,") } else { ("-blockdev", "node-name=disk,") };
        arguments.option(option, Value::new(&format!("{head}{source}")).path(self.disk.as_os_str()));
        // Boot index 0 is taken by a kernel that QEMU is given.
        // The guest stops at a write error instead of finding its disk broken; the supervisor sees why.
        arguments.option("-device", Value::new("virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop"));
        for (number, drive) in self.drives.iter().enumerate() {
            extra_drive(arguments, &format!("drive{number}"), drive);
        }
        if let Some(path) = self.seed.clone() {
            extra_drive(arguments, "seed", &Drive { path, format: Format::Raw, read_only: true });
        }
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
        // Without a ROM the firmware does not try to boot from the network.
        arguments.option("-device", Value::new("virtio-net-pci,netdev=net0,romfile="));
    }

    fn consoles(&self, arguments: &mut Arguments, runtime: &Path) {
        for device in ["virtio-rng-pci", "pvpanic-pci", "VGA"] {
            arguments.option("-device", Value::new(device));
        }
        arguments.option("-vnc", Value::new("127.0.0.1:0,to=99"));
        arguments.option(
            "-display",
            Value::new(match self.display {
                Display::Headless => "none",
                Display::Window => "gtk",
            }),
        );
        for id in ["serial", "qmp"] {
            let path = socket(runtime, id);
            arguments
                .option("-chardev", Value::new(&format!("socket,id={id},server=off,path=")).path(path.as_os_str()));
        }
        arguments.option("-serial", Value::new("chardev:serial"));
        arguments.option("-mon", Value::new("chardev=qmp,mode=control"));
    }
}

/// Where visabuild listens for the socket that QEMU's character device `id` connects to.
pub(super) fn socket(runtime: &Path, id: &str) -> PathBuf {
    runtime.join(id)
}

fn driver(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "qcow2",
        Format::Raw => "raw",
    }
}

fn extra_drive(arguments: &mut Arguments, node: &str, drive: &Drive) {
    let (driver, read_only) = (driver(drive.format), if drive.read_only { "on" } else { "off" });
    let head =
        format!("node-name={node},driver={driver},read-only={read_only},discard=unmap,file.driver=file,file.filename=");
    arguments.option("-blockdev", Value::new(&head).path(drive.path.as_os_str()));
    arguments.option("-device", Value::new(&format!("virtio-blk-pci,drive={node}")));
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, option: &str, value: Value) {
        self.0.push(option.into());
        self.0.push(value.0);
    }
}

/// The value of one option.
struct Value(OsString);

impl Value {
    fn new(text: &str) -> Self {
        Self(text.into())
    }

    fn verbatim(text: &OsStr) -> Self {
        Self(text.to_owned())
    }

    /// Appends a path or name; QEMU's option parser takes a comma as the end of a value unless it is doubled.
    fn path(mut self, path: &OsStr) -> Self {
        let mut bytes = Vec::with_capacity(path.len());
        for byte in path.as_bytes() {
            bytes.push(*byte);
            if *byte == b',' {
                bytes.push(b',');
            }
        }
        self.0.push(OsString::from_vec(bytes));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One option with its value a line.
    fn lines(config: &Config) -> String {
        let mut text = String::new();
        for argument in config.arguments(Path::new("/run/vb")) {
            let argument = argument.into_string().unwrap();
            text.push_str(match (text.is_empty(), argument.starts_with('-')) {
                (true, _) => "",
                (false, true) => "\n",
                (false, false) => " ",
            });
            text.push_str(&argument);
        }
        text
    }

    fn config() -> Config {
        Config::new("visa-base", Accelerator::Tcg, "/cache/disk.qcow2")
    }

    #[test]
    fn tcg_headless() {
        let config = Config { seed: Some("/run/vb/seed.img".into()), unsafe_cache: true, ..config() };
        insta::assert_snapshot!(lines(&config), @r"
        -nodefaults
        -no-user-config
        -name guest=visa-base
        -machine q35
        -accel tcg,thread=multi
        -cpu max
        -smp cpus=2
        -m size=2048M
        -action panic=pause
        -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,cache.no-flush=on,file.cache.no-flush=on,file.driver=file,file.filename=/cache/disk.qcow2
        -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
        -blockdev node-name=seed,driver=raw,read-only=on,discard=unmap,file.driver=file,file.filename=/run/vb/seed.img
        -device virtio-blk-pci,drive=seed
        -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
        -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-rng-pci
        -device pvpanic-pci
        -device VGA
        -vnc 127.0.0.1:0,to=99
        -display none
        -chardev socket,id=serial,server=off,path=/run/vb/serial
        -chardev socket,id=qmp,server=off,path=/run/vb/qmp
        -serial chardev:serial
        -mon chardev=qmp,mode=control
        ");
    }

    #[test]
    fn kvm_with_forwarded_ports_and_no_network() {
        let config = Config {
            accelerator: Accelerator::Kvm,
            cpus: 8,
            memory: 4096,
            guest_ports: vec![22, 3389, 4822, 8888],
            restrict: true,
            snapshot: true,
            ..config()
        };
        insta::assert_snapshot!(lines(&config), @r"
        -nodefaults
        -no-user-config
        -name guest=visa-base
        -machine q35
        -accel kvm
        -cpu host
        -smp cpus=8
        -m size=4096M
        -action panic=pause
        -drive if=none,id=disk,snapshot=on,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
        -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
        -netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:3389,hostfwd=tcp:127.0.0.1:0-:4822,hostfwd=tcp:127.0.0.1:0-:8888
        -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-rng-pci
        -device pvpanic-pci
        -device VGA
        -vnc 127.0.0.1:0,to=99
        -display none
        -chardev socket,id=serial,server=off,path=/run/vb/serial
        -chardev socket,id=qmp,server=off,path=/run/vb/qmp
        -serial chardev:serial
        -mon chardev=qmp,mode=control
        ");
    }

    #[test]
    fn uefi_with_a_window_and_an_extra_drive() {
        let config = Config {
            firmware: Firmware::Uefi { code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(), vars: "/run/vb/vars.fd".into() },
            display: Display::Window,
            cpu_model: Some("Nehalem".to_owned()),
            format: Format::Raw,
            drives: vec![Drive { path: "/data/extra.qcow2".into(), format: Format::Qcow2, read_only: false }],
            ..config()
        };
        insta::assert_snapshot!(lines(&config), @r"
        -nodefaults
        -no-user-config
        -name guest=visa-base
        -machine q35,pflash0=uefi-code,pflash1=uefi-vars
        -accel tcg,thread=multi
        -cpu Nehalem
        -smp cpus=2
        -m size=2048M
        -action panic=pause
        -blockdev driver=raw,node-name=uefi-code,read-only=on,file.driver=file,file.filename=/usr/share/OVMF/OVMF_CODE_4M.fd
        -blockdev driver=raw,node-name=uefi-vars,read-only=off,file.driver=file,file.filename=/run/vb/vars.fd
        -blockdev node-name=disk,driver=raw,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
        -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
        -blockdev node-name=drive0,driver=qcow2,read-only=off,discard=unmap,file.driver=file,file.filename=/data/extra.qcow2
        -device virtio-blk-pci,drive=drive0
        -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
        -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-rng-pci
        -device pvpanic-pci
        -device VGA
        -vnc 127.0.0.1:0,to=99
        -display gtk
        -chardev socket,id=serial,server=off,path=/run/vb/serial
        -chardev socket,id=qmp,server=off,path=/run/vb/qmp
        -serial chardev:serial
        -mon chardev=qmp,mode=control
        ");
    }

    #[test]
    fn direct_kernel_boot() {
        let config = Config {
            boot: Boot::Kernel {
                kernel: "/cache/vmlinuz".into(),
                initrd: "/cache/initrd.img".into(),
                append: "root=LABEL=root console=ttyS0,115200".to_owned(),
            },
            ..config()
        };
        insta::assert_snapshot!(lines(&config), @r"
        -nodefaults
        -no-user-config
        -name guest=visa-base
        -machine q35
        -accel tcg,thread=multi
        -cpu max
        -smp cpus=2
        -m size=2048M
        -action panic=pause
        -kernel /cache/vmlinuz
        -initrd /cache/initrd.img
        -append root=LABEL=root console=ttyS0,115200
        -blockdev node-name=disk,driver=qcow2,discard=unmap,detect-zeroes=unmap,file.discard=unmap,file.driver=file,file.filename=/cache/disk.qcow2
        -device virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop
        -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
        -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-rng-pci
        -device pvpanic-pci
        -device VGA
        -vnc 127.0.0.1:0,to=99
        -display none
        -chardev socket,id=serial,server=off,path=/run/vb/serial
        -chardev socket,id=qmp,server=off,path=/run/vb/qmp
        -serial chardev:serial
        -mon chardev=qmp,mode=control
        ");
    }

    #[test]
    fn commas_in_paths_are_doubled_where_qemu_parses_options() {
        let config = Config {
            name: "a,b".to_owned(),
            seed: Some("/x,y/seed.img".into()),
            boot: Boot::Kernel {
                kernel: "/k,1".into(),
                initrd: "/i,2".into(),
                append: "console=ttyS0,9600".to_owned(),
            },
            ..Config::new("", Accelerator::Tcg, "/disks,all/d.qcow2")
        };
        let text = lines(&config);
        for expected in [
            "-name guest=a,,b\n",
            "file.filename=/disks,,all/d.qcow2\n",
            "file.filename=/x,,y/seed.img\n",
            "-kernel /k,1\n-initrd /i,2\n-append console=ttyS0,9600\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let path = OsStr::from_bytes(b"/d/\xff.qcow2");
        let arguments = Config::new("n", Accelerator::Tcg, PathBuf::from(path)).arguments(Path::new("/run"));
        assert!(arguments.iter().any(|argument| argument.as_bytes().ends_with(b"file.filename=/d/\xff.qcow2")));
    }
}
