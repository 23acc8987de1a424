//! The devices of a template's machine: Packer's options of its qemu builder.
//!
//! None of them is in a layer's fingerprint: what a bootstrapped disk holds does not depend on the
//! machine that it is provisioned on. Its file systems are found by their UUIDs, and it boots from BIOS
//! and UEFI alike. A disk that an installer makes depends on the machine that it was installed on.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::Text;
use super::facts::{by, facts, one_of};
use super::fields::{Fields, Reader};
use super::qemuargs::{self, Argument};
use super::scalar::{self, Expected};
use super::yaml::Node;
use crate::error::Problem;
use crate::machine::{Cache, DetectZeroes, Interface, Uefi};

facts! {
    /// Board and processor.
    Board {
        /// QEMU's machine.
        machine_type: String = by(machine_type),
        /// Processor sockets.
        sockets: u32 = by(scalar::count),
        /// Cores of a socket.
        cores: u32 = by(scalar::count),
        /// Threads of a core.
        threads: u32 = by(scalar::count),
        /// QEMU's network device.
        net_device: String = net_device,
        /// A USB controller with keyboard and tablet.
        usb: bool = by(scalar::boolean),
        /// QEMU's program.
        qemu_binary: PathBuf = path,
        /// Arguments that are merged with visabuild's own.
        qemuargs: Vec<Argument> = qemuargs::read,
    }
}

facts! {
    /// Disks and drives.
    Disks {
        /// What disks are attached to.
        disk_interface: Interface = one_of(&INTERFACES),
        /// Sizes of empty disks beside the first, bytes; they are there while the template is built
        /// and are no part of the image.
        disk_additional_size: Vec<u64> = |reader, node| reader.list(node, |reader, node| reader.parse(node, scalar::size)),
        /// How the host caches the disks.
        disk_cache: Cache = one_of(&CACHES),
        /// Whether what the guest gives up is given back to the host.
        disk_discard: bool = one_of(&DISCARD),
        /// What becomes of zeroes that the guest writes.
        disk_detect_zeroes: DetectZeroes = one_of(&ZEROES),
        /// What CD drives are attached to.
        cdrom_interface: Interface = one_of(&INTERFACES),
    }
}

facts! {
    /// Firmware and TPM.
    Firmware {
        /// Another BIOS, or firmware for a flash device.
        firmware: PathBuf = path,
        /// `firmware` goes into a flash device.
        use_pflash: bool = by(scalar::boolean),
        /// The machine has UEFI.
        efi_boot: bool = by(scalar::boolean),
        /// UEFI's code.
        efi_firmware_code: PathBuf = path,
        /// The variables that UEFI starts with; each machine has a copy of its own.
        efi_firmware_vars: PathBuf = path,
        /// UEFI starts signed boot loaders only. Not an option of Packer's.
        efi_secure_boot: bool = by(scalar::boolean),
        /// The machine has a TPM.
        vtpm: bool = by(scalar::boolean),
        /// TPM 1.2 instead of 2.0.
        use_tpm1: bool = by(scalar::boolean),
        /// QEMU's device for it.
        tpm_device_type: &'static str = one_of(&TPM),
    }
}

facts! {
    /// The screen.
    Screen {
        /// No window is opened; false opens one, as the command line's `--not-headless` does.
        headless: bool = by(scalar::boolean),
        /// QEMU's `-display`, where there is a window.
        display: String = by(option_value),
        /// QEMU chooses by itself how the screen is shown.
        use_default_display: bool = by(scalar::boolean),
        /// QEMU's `-vga`.
        vga: &'static str = one_of(&VGA),
        /// Where VNC listens.
        vnc_bind_address: IpAddr = bind_address,
        /// First port that VNC may take.
        vnc_port_min: u16 = by(vnc_port),
        /// Last port that VNC may take.
        vnc_port_max: u16 = by(vnc_port),
        /// VNC asks for a password.
        vnc_use_password: bool = by(scalar::boolean),
        /// Which; none is one made up for each boot.
        vnc_password: Text = vnc_password,
    }
}

/// The devices of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Hardware {
    /// Board and processor.
    pub board: Board,
    /// Disks and drives.
    pub disks: Disks,
    /// Firmware and TPM.
    pub firmware: Firmware,
    /// The screen.
    pub screen: Screen,
}

impl Hardware {
    pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Self> {
        let vnc_ports = fields.get("vnc_port_max");
        let (board, disks) = (Board::read(reader, fields), Disks::read(reader, fields));
        let (firmware, screen) = (Firmware::read(reader, fields), Screen::read(reader, fields));
        if let (Some(node), Some(Screen { vnc_port_min: Some(first), vnc_port_max: Some(last), .. })) =
            (vnc_ports, &screen)
            && first > last
        {
            reader.at(node.location(), format!("`vnc_port_max` ({last}) is below `vnc_port_min` ({first})"));
            return None;
        }
        Some(Self { board: board?, disks: disks?, firmware: firmware?, screen: screen? })
    }

    pub(super) fn or(self, parent: &Self) -> Self {
        Self {
            board: self.board.or(&parent.board),
            disks: self.disks.or(&parent.disks),
            firmware: self.firmware.or(&parent.firmware),
            screen: self.screen.or(&parent.screen),
        }
    }
}

impl Firmware {
    /// The UEFI that the machine has, if any: as in Packer, naming its files is enough.
    pub fn uefi(&self) -> Option<Uefi> {
        let named = self.efi_firmware_code.is_some() || self.efi_firmware_vars.is_some();
        let secure_boot = self.efi_secure_boot.unwrap_or_default();
        self.efi_boot.unwrap_or(named || secure_boot).then(|| Uefi {
            code: self.efi_firmware_code.clone(),
            vars: self.efi_firmware_vars.clone(),
            secure_boot,
        })
    }
}

pub(super) const INTERFACES: [(&str, Interface); 5] = [
    ("virtio", Interface::Virtio),
    ("virtio-scsi", Interface::VirtioScsi),
    ("ide", Interface::Ide),
    ("sata", Interface::Sata),
    ("scsi", Interface::Scsi),
];

pub(super) const CACHES: [(&str, Cache); 5] = [
    ("writeback", Cache::Writeback),
    ("writethrough", Cache::Writethrough),
    ("none", Cache::None),
    ("unsafe", Cache::Unsafe),
    ("directsync", Cache::Directsync),
];

pub(super) const DISCARD: [(&str, bool); 2] = [("unmap", true), ("ignore", false)];

pub(super) const ZEROES: [(&str, DetectZeroes); 3] =
    [("off", DetectZeroes::Off), ("on", DetectZeroes::On), ("unmap", DetectZeroes::Unmap)];

pub(super) const TPM: [(&str, &str); 2] = [("tpm-tis", "tpm-tis"), ("tpm-crb", "tpm-crb")];

/// qemu(1), `-vga`, of x86.
pub(super) const VGA: [(&str, &str); 6] = [
    ("std", "std"),
    ("cirrus", "cirrus"),
    ("vmware", "vmware"),
    ("qxl", "qxl"),
    ("virtio", "virtio"),
    ("none", "none"),
];

/// `qemu-system-x86_64 -device help`, network devices that can be given a network.
const NETWORK: [&str; 29] = [
    "e1000",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82550",
    "i82551",
    "i82557a",
    "i82557b",
    "i82557c",
    "i82558a",
    "i82558b",
    "i82559a",
    "i82559b",
    "i82559c",
    "i82559er",
    "i82562",
    "i82801",
    "igb",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "tulip",
    "usb-net",
    "virtio-net-pci",
    "virtio-net-pci-non-transitional",
    "virtio-net",
    "virtio-net-pci-transitional",
    "vmxnet3",
];

/// QEMU's machines with the devices of a PC; `microvm` and its like have no PCI, which all else needs.
fn machine_type(text: &str) -> Result<String, Expected> {
    // Distributions have versions of their own, such as `noble` and `rhel9.4.0`.
    let version = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let known = match text.strip_prefix("pc-").and_then(|rest| rest.split_once('-')) {
        Some(("q35" | "i440fx", rest)) => version(rest),
        _ => matches!(text, "pc" | "q35"),
    };
    if known {
        return Ok(text.to_owned());
    }
    Err(Expected { what: "a machine of QEMU's", hint: "write `q35`, `pc`, or one with its version, like `pc-q35-9.2`" })
}

/// Names of network devices, Packer's own among them.
pub(super) fn network_devices() -> Vec<&'static str> {
    NETWORK.iter().copied().chain(["virtio"]).collect()
}

fn net_device(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.public(node)?;
    // Packer's name for it.
    if text == "virtio" {
        return Some("virtio-net-pci".to_owned());
    }
    if NETWORK.contains(&text.as_str()) {
        return Some(text);
    }
    let problem = Problem::at(node.location(), format!("unknown network device `{text}`"));
    reader.problems.add(match super::nearest::suggestion(&text, NETWORK) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    None
}

/// The value of an option that QEMU takes as it is.
fn option_value(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
        return Err(Expected { what: "a display", hint: "write it as QEMU's `-display` takes it, like `sdl`" });
    }
    Ok(text.to_owned())
}

/// A file of the host; `~/` is the user's home, and a relative path is seen from the working folder.
pub(super) fn path(reader: &mut Reader<'_>, node: &Node) -> Option<PathBuf> {
    let text = reader.public(node)?;
    if text.is_empty() {
        reader.at(node.location(), "the path is empty");
        return None;
    }
    let home = text.strip_prefix("~/").zip(reader.context.public("HOME"));
    Some(home.map_or_else(|| PathBuf::from(&text), |(rest, home)| PathBuf::from(home).join(rest)))
}

fn bind_address(reader: &mut Reader<'_>, node: &Node) -> Option<IpAddr> {
    let text = reader.public(node)?;
    let address = if text == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse::<IpAddr>().ok() };
    if let Some(address) = address.filter(IpAddr::is_loopback) {
        return Some(address);
    }
    let message = format!("VNC cannot listen on `{text}`: whoever reaches it works at the machine's keyboard");
    let hint = "write `127.0.0.1`, and look in from elsewhere through `ssh -L`";
    reader.problems.add(Problem::at(node.location(), message).hint(hint));
    None
}

fn vnc_port(text: &str) -> Result<u16, Expected> {
    let expected = Expected { what: "a port for VNC", hint: "write a number from 5900 to 65535" };
    text.trim().parse().ok().filter(|port| *port >= 5900).ok_or(expected)
}

/// VNC's own encryption takes 8 bytes (RFC 6143, section 7.2.2).
fn vnc_password(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let text = reader.text(node)?;
    if (1..=8).contains(&text.plain().len()) || reader.context.has_missing(text.secrets()) {
        return Some(text);
    }
    reader.at(node.location(), "a password for VNC has 1 to 8 bytes");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_its_parents_word_on_what_it_leaves_out() {
        let parent = Hardware {
            board: Board { usb: Some(true), machine_type: Some("pc".to_owned()), ..Board::default() },
            firmware: Firmware { vtpm: Some(true), ..Firmware::default() },
            ..Hardware::default()
        };
        let own = Board { machine_type: Some("q35".to_owned()), ..Board::default() };
        let child = Hardware { board: own, ..Hardware::default() }.or(&parent);
        assert_eq!((child.board.machine_type.as_deref(), child.board.usb), (Some("q35"), Some(true)));
        assert_eq!(child.firmware, parent.firmware);
    }

    #[test]
    fn machines_of_a_pc() {
        for good in ["q35", "pc", "pc-q35-9.2", "pc-q35-rhel9.4.0", "pc-i440fx-10.0"] {
            assert_eq!(machine_type(good).as_deref(), Ok(good));
        }
        for bad in ["", "microvm", "pc-", "pc-q35-", "q35,smm=on", "pc-q36-9.2", "none"] {
            assert!(machine_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn naming_a_file_of_uefi_is_asking_for_it() {
        assert_eq!(Firmware::default().uefi(), None);
        let named = Firmware { efi_firmware_vars: Some("/v".into()), ..Firmware::default() };
        assert_eq!(named.uefi(), Some(Uefi { vars: Some("/v".into()), ..Uefi::default() }));
        assert_eq!(Firmware { efi_boot: Some(false), ..named }.uefi(), None);
    }
}
