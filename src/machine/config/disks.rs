//! Disks, CD drives and floppies, and what they are attached to.

use std::path::Path;

use serde::Serialize;

use super::arguments::{Arguments, Value};
use super::{Boot, Config, Drive, Extra, Format};

/// What a drive is attached to. The names are Packer's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// A virtio block device.
    #[default]
    Virtio,
    /// A virtio SCSI controller.
    VirtioScsi,
    /// The machine's own controller: IDE of `pc`, AHCI of `q35`.
    Ide,
    /// AHCI: the machine's own of `q35`, one more on `pc`.
    Sata,
    /// An LSI 53C895A, which QEMU's `if=scsi` means too.
    Scsi,
}

/// How the host caches a disk. The names are Packer's and QEMU's (qemu(1), `cache=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The host's page cache; the guest's flushes are carried out.
    Writeback,
    /// As that, and every write is flushed.
    Writethrough,
    /// Past the host's page cache.
    None,
    /// Past the host's page cache, and every write is flushed.
    Directsync,
    /// The host's page cache; the guest's flushes are ignored.
    Unsafe,
}

/// What becomes of zeroes that the guest writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectZeroes {
    /// They are written.
    Off,
    /// They take no space where the file's format knows how.
    On,
    /// They are given back to the host, where discards are.
    #[default]
    Unmap,
}

/// Ports of an AHCI controller, on board of `q35` or added (QEMU, hw/ide/ich.c).
const AHCI_PORTS: usize = 6;

/// Drives on the two IDE channels of `pc`.
const IDE_UNITS: usize = 4;

/// Hands out places on the controllers; they are added when the first drive needs them.
struct Controllers {
    q35: bool,
    /// Drives on the machine's own controller.
    own: usize,
    /// Drives on added AHCI controllers.
    ahci: usize,
    virtio_scsi: bool,
    lsi: bool,
}

impl Controllers {
    /// The device that shows block node `node`; `device` is `hd` or `cd`.
    fn device(&mut self, interface: Interface, device: &str, node: &str, arguments: &mut Arguments) -> String {
        let place = match interface {
            Interface::Virtio => return format!("virtio-blk-pci,drive={node}"),
            Interface::VirtioScsi => {
                if !std::mem::replace(&mut self.virtio_scsi, true) {
                    arguments.option("-device", Value::new("virtio-scsi-pci,id=virtio-scsi"));
                }
                return format!("scsi-{device},bus=virtio-scsi.0,drive={node}");
            }
            Interface::Scsi => {
                if !std::mem::replace(&mut self.lsi, true) {
                    arguments.option("-device", Value::new("lsi53c895a,id=lsi"));
                }
                return format!("scsi-{device},bus=lsi.0,drive={node}");
            }
            Interface::Ide | Interface::Sata if self.q35 && self.own < AHCI_PORTS => {
                self.own += 1;
                format!("ide.{}", self.own - 1)
            }
            Interface::Ide if !self.q35 && self.own < IDE_UNITS => {
                self.own += 1;
                format!("ide.{},unit={}", (self.own - 1) / 2, (self.own - 1) % 2)
            }
            Interface::Ide | Interface::Sata => {
                let (controller, port) = (self.ahci / AHCI_PORTS, self.ahci % AHCI_PORTS);
                if port == 0 {
                    arguments.option("-device", Value::new(&format!("ich9-ahci,id=ahci{controller}")));
                }
                self.ahci += 1;
                format!("ahci{controller}.{port}")
            }
        };
        format!("ide-{device},bus={place},drive={node}")
    }
}

impl Config {
    pub(super) fn is_q35(&self) -> bool {
        let named = self.extra.iter().filter_map(Extra::machine_type).next_back();
        named.unwrap_or(&self.machine_type).contains("q35")
    }

    pub(super) fn drives(&self, arguments: &mut Arguments) {
        let mut controllers = Controllers { q35: self.is_q35(), own: 0, ahci: 0, virtio_scsi: false, lsi: false };
        self.disk(&mut controllers, arguments);
        for (number, drive) in self.drives.iter().enumerate() {
            self.extra_drive(&format!("drive{number}"), drive, &mut controllers, arguments);
        }
        if let Some(path) = self.seed.clone() {
            // It is of this boot only, so a guest may write on it where it cannot be kept from that.
            let read_only = !matches!(self.interface, Interface::Ide | Interface::Sata);
            let drive = Drive { path, format: Format::Raw, read_only };
            self.extra_drive("seed", &drive, &mut controllers, arguments);
        }
        for (number, path) in self.cdroms.iter().enumerate() {
            let node = format!("cd{number}");
            arguments.option("-blockdev", read_only(&node, path));
            let mut device = controllers.device(self.cdrom_interface, "cd", &node, arguments);
            if number == 0 && self.boot == Boot::Cdrom {
                device.push_str(",bootindex=2");
            }
            arguments.option("-device", Value::new(&device));
        }
        if let Some(path) = &self.floppy {
            arguments.option("-blockdev", read_only("floppy", path));
            // `pc` has its controller on board.
            if self.is_q35() {
                arguments.option("-device", Value::new("isa-fdc"));
            }
            arguments.option("-device", Value::new("floppy,drive=floppy"));
        }
    }

    fn disk(&self, controllers: &mut Controllers, arguments: &mut Arguments) {
        let source = self.source(self.format);
        // Only -drive knows temporary overlays; everything else is a -blockdev, QEMU's stable interface.
        let (option, head) =
            if self.snapshot { ("-drive", "if=none,id=disk,snapshot=on,") } else { ("-blockdev", "node-name=disk,") };
        arguments.option(option, Value::new(&format!("{head}{source}")).path(self.disk.as_os_str()));
        // Boot index 0 is taken by a kernel that QEMU is given.
        let device = controllers.device(self.interface, "hd", "disk", arguments);
        arguments.option("-device", Value::new(&format!("{device},bootindex=1{}", self.behaviour())));
    }

    fn extra_drive(&self, node: &str, drive: &Drive, controllers: &mut Controllers, arguments: &mut Arguments) {
        let (source, behaviour, interface) = if drive.read_only {
            let source = format!("driver={},read-only=on,file.driver=file,file.filename=", driver(drive.format));
            // IDE disks cannot be read-only: QEMU refuses them.
            let ide = matches!(self.interface, Interface::Ide | Interface::Sata);
            (source, String::new(), if ide { Interface::Virtio } else { self.interface })
        } else {
            (self.source(drive.format), self.behaviour(), self.interface)
        };
        arguments.option("-blockdev", Value::new(&format!("node-name={node},{source}")).path(drive.path.as_os_str()));
        let device = controllers.device(interface, "hd", node, arguments);
        arguments.option("-device", Value::new(&format!("{device}{behaviour}")));
    }

    fn caching(&self) -> Cache {
        self.cache.unwrap_or(if self.unsafe_cache { Cache::Unsafe } else { Cache::Writeback })
    }

    /// The block node of a disk that is written, up to the file's name.
    fn source(&self, format: Format) -> String {
        let cache = match self.caching() {
            Cache::Writeback | Cache::Writethrough => "",
            Cache::None | Cache::Directsync => ",cache.direct=on,file.cache.direct=on",
            Cache::Unsafe => ",cache.no-flush=on,file.cache.no-flush=on",
        };
        let discard = if self.discard { "unmap" } else { "ignore" };
        let zeroes = match (self.detect_zeroes, self.discard) {
            (DetectZeroes::Off, _) => "off",
            // QEMU refuses to unmap zeroes where it is not to unmap anything.
            (DetectZeroes::On, _) | (DetectZeroes::Unmap, false) => "on",
            (DetectZeroes::Unmap, true) => "unmap",
        };
        let driver = driver(format);
        format!(
            "driver={driver},discard={discard},detect-zeroes={zeroes},file.discard={discard}{cache},file.driver=file,\
             file.filename="
        )
    }

    /// Options of a block node of an overlay on the disk, as QMP's `BlockdevOptions`; names are left out.
    pub(crate) fn overlay_node(&self) -> serde_json::Value {
        let mut node = serde_json::json!({});
        for option in self.source(Format::Qcow2).split(',') {
            let Some((path, value)) = option.split_once('=').filter(|(path, _)| *path != "file.filename") else {
                continue;
            };
            let field = path.split('.').fold(&mut node, |node, name| &mut node[name]);
            *field = match value {
                "on" | "off" if path.contains("cache") => (value == "on").into(),
                value => value.into(),
            };
        }
        node
    }

    /// What the device of a disk that is written does: the guest stops at a write error instead of
    /// finding its disk broken; the supervisor sees why.
    fn behaviour(&self) -> String {
        let write_cache = match self.caching() {
            Cache::Writethrough | Cache::Directsync => ",write-cache=off",
            _ => "",
        };
        format!(",werror=stop,rerror=stop{write_cache}")
    }
}

fn read_only(node: &str, path: &Path) -> Value {
    let head = format!("node-name={node},driver=raw,read-only=on,file.driver=file,file.filename=");
    Value::new(&head).path(path.as_os_str())
}

fn driver(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "qcow2",
        Format::Raw => "raw",
    }
}
