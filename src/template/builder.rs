//! `packer.builders`: where a template's disk comes from.

use super::fields::{Fields, Reader, Unsupported};
use super::nearest::suggestion;
use super::scalar;
use super::yaml::Node;
use super::{Bootstrap, Builder, Machine};
use crate::error::{Location, Problem};

/// Disk of a bootstrapped template that does not say: small enough for the smallest flavours,
/// because OpenStack refuses an image larger than the flavour's disk.
const DISK_SIZE: u64 = 10 << 30;

const TYPES: [&str; 2] = ["bootstrap", "qemu"];

/// mmdebstrap(1), option `--variant`.
const VARIANTS: [&str; 11] = [
    "extract",
    "custom",
    "essential",
    "apt",
    "buildd",
    "required",
    "minbase",
    "important",
    "debootstrap",
    "-",
    "standard",
];

/// Options of Packer's qemu builder, its communicator and its common steps that have no counterpart here.
const QEMU: Unsupported = Unsupported {
    whose: "Packer's qemu builder",
    keys: "
        machine_type sockets cores threads disk_additional_size disk_interface disk_cache disk_discard
        disk_detect_zeroes skip_compaction disk_compression skip_resize_disk use_backing_file net_device net_bridge
        cdrom_interface firmware use_pflash efi_boot efi_firmware_code efi_firmware_vars efi_drop_efivars vtpm
        use_tpm1 tpm_device_type display use_default_display vga vnc_bind_address vnc_port_min vnc_port_max
        vnc_use_password vnc_password qmp_enable qmp_socket_path qemu_binary qemuargs qemu_img_args boot_steps
        iso_skip_cache host_port_min host_port_max ssh_host_port_min ssh_host_port_max skip_nat_mapping run_once
        iso_urls iso_target_path iso_target_extension http_directory http_content http_port_min http_port_max
        http_bind_address http_interface http_network_protocol floppy_files floppy_dirs floppy_content floppy_label
        cd_files cd_content cd_label boot_command boot_key_interval boot_keygroup_interval disable_vnc
        shutdown_command communicator pause_before_connecting ssh_host ssh_port ssh_username ssh_password
        ssh_private_key_file ssh_certificate_file ssh_agent_auth ssh_disable_agent_forwarding ssh_keypair_name
        temporary_key_pair_name temporary_key_pair_type temporary_key_pair_bits ssh_clear_authorized_keys
        ssh_ciphers ssh_key_exchange_algorithms ssh_pty ssh_handshake_attempts ssh_wait_timeout ssh_bastion_host
        ssh_bastion_port ssh_bastion_username ssh_bastion_password ssh_bastion_private_key_file
        ssh_bastion_certificate_file ssh_bastion_agent_auth ssh_bastion_interactive ssh_proxy_host ssh_proxy_port
        ssh_proxy_username ssh_proxy_password ssh_file_transfer_method ssh_keep_alive_interval
        ssh_read_write_timeout ssh_remote_tunnels ssh_local_tunnels winrm_username winrm_password winrm_host
        winrm_port winrm_timeout winrm_use_ssl winrm_insecure winrm_use_ntlm winrm_no_proxy",
};

/// Reads `builders` of a template at `place` whose parent has the machine `parent`.
///
/// A child needs no builder: its disk is its parent's, and what it leaves out about its machine is
/// its parent's too.
pub(super) fn read(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    parent: Option<&Machine>,
    place: &Location,
) -> Option<Builder> {
    let builders = match node {
        Some(node) => super::fields::items(node, reader.problems)?,
        None => &[],
    };
    match (builders, parent) {
        ([], None) => {
            let message = format!("template `{}` has neither a parent nor a builder", reader.context.template);
            let hint = "add `extends:` in config.yml, or a builder of type `bootstrap`";
            reader.problems.add(Problem::at(place.clone(), message).hint(hint));
            None
        }
        ([], Some(parent)) => Some(Builder::Qemu(Machine::default().with_parent(parent))),
        ([builder], parent) => one(reader, builder, parent),
        ([_, second, ..], _) => {
            reader.at(second.location(), "a template has one builder; this is the second");
            None
        }
    }
}

fn one(reader: &mut Reader<'_>, node: &Node, parent: Option<&Machine>) -> Option<Builder> {
    let mut fields = Fields::of(node, reader.problems)?;
    let type_node = fields.required("type", reader.problems)?;
    let kind = reader.public(type_node)?;
    match (kind.as_str(), parent) {
        ("bootstrap", None) => bootstrap(reader, fields).map(Builder::Bootstrap),
        ("qemu", Some(parent)) => qemu(reader, fields).map(|machine| Builder::Qemu(machine.with_parent(parent))),
        ("bootstrap", Some(_)) => {
            let message = "a `bootstrap` builder makes a first disk, but this template has its parent's";
            reader
                .problems
                .add(Problem::at(type_node.location(), message).hint("write `type: qemu`, or drop the builder"));
            None
        }
        ("qemu", None) => {
            let message = "a `qemu` builder starts from the parent's disk, but this template has no parent";
            let hint = "add `extends:` in config.yml, or write `type: bootstrap`";
            reader.problems.add(Problem::at(type_node.location(), message).hint(hint));
            None
        }
        _ => {
            let problem = Problem::at(type_node.location(), format!("unknown builder type `{kind}`"));
            reader.problems.add(match suggestion(&kind, TYPES) {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
            None
        }
    }
}

fn bootstrap(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<Bootstrap> {
    let suite = fields.required("suite", reader.problems);
    let (components, variant, packages) = (fields.get("components"), fields.get("variant"), fields.get("packages"));
    let machine = machine(reader, &mut fields);
    fields.finish(QEMU, reader.problems);

    let word = |reader: &mut Reader<'_>, node: &Node| reader.parse(node, scalar::word);
    let suite = suite.and_then(|node| word(reader, node));
    let components = reader.optional(components, |reader, node| reader.some(node, word));
    let variant = reader.optional(variant, self::variant);
    let packages = reader.optional(packages, |reader, node| reader.list(node, word));
    let mut machine = machine?;
    Some(Bootstrap {
        suite: suite?,
        components: components?.unwrap_or_else(|| vec!["main".to_owned()]),
        variant: variant?.unwrap_or_else(|| "important".to_owned()),
        packages: packages?.unwrap_or_default(),
        disk_size: machine.disk_size.take().unwrap_or(DISK_SIZE),
        machine,
    })
}

fn variant(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let variant = reader.public(node)?;
    if VARIANTS.contains(&variant.as_str()) {
        return Some(variant);
    }
    let problem = Problem::at(node.location(), format!("unknown mmdebstrap variant `{variant}`"));
    reader.problems.add(match suggestion(&variant, VARIANTS) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    None
}

fn qemu(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<Machine> {
    let machine = machine(reader, &mut fields);
    let disk_image = fields.get("disk_image");
    let format = fields.get("format");
    let boot_wait = fields.get("boot_wait");
    // packme sets these itself (the parent's disk, the results' place and name), or the command line does.
    let unused = ["iso_url", "iso_checksum", "output_directory", "vm_name", "accelerator"].map(|key| fields.get(key));
    fields.finish(QEMU, reader.problems);

    let unused = unused.map(|node| reader.optional(node, Reader::public));
    let disk_image = reader.optional(disk_image, |reader, node| {
        let set = reader.parse(node, scalar::boolean)?;
        if !set {
            reader.at(node.location(), "`disk_image` cannot be false: the disk is the parent's");
        }
        set.then_some(())
    });
    let format = reader.optional(format, |reader, node| {
        let format = reader.public(node)?;
        if format != "qcow2" {
            reader.at(node.location(), format!("format `{format}` is not supported yet, only `qcow2`"));
        }
        (format == "qcow2").then_some(())
    });
    let boot_wait = reader.optional(boot_wait, |reader, node| reader.parse(node, scalar::duration));
    disk_image?;
    format?;
    boot_wait?;
    unused.iter().all(Option::is_some).then_some(machine?)
}

/// What both builders may say about their machine. `name` and `headless` are checked but the
/// template's name and the command line decide.
fn machine(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Machine> {
    let (name, headless) = (fields.get("name"), fields.get("headless"));
    let (memory, cpus, disk_size) = (fields.get("memory"), fields.get("cpus"), fields.get("disk_size"));
    let cpu_model = fields.get("cpu_model");
    let (ssh_timeout, shutdown_timeout) = (fields.get("ssh_timeout"), fields.get("shutdown_timeout"));

    let name = reader.optional(name, Reader::public);
    let headless = reader.optional(headless, |reader, node| reader.parse(node, scalar::boolean));
    let memory = reader.optional(memory, |reader, node| reader.parse(node, scalar::count));
    let cpus = reader.optional(cpus, |reader, node| reader.parse(node, scalar::count));
    let disk_size = reader.optional(disk_size, |reader, node| reader.parse(node, scalar::size));
    let cpu_model = reader.optional(cpu_model, |reader, node| reader.parse(node, scalar::cpu_model));
    let ssh_timeout = reader.optional(ssh_timeout, |reader, node| reader.parse(node, scalar::duration));
    let shutdown_timeout = reader.optional(shutdown_timeout, |reader, node| reader.parse(node, scalar::duration));
    name?;
    headless?;
    Some(Machine {
        memory: memory?,
        cpus: cpus?,
        disk_size: disk_size?,
        cpu_model: cpu_model?,
        ssh_timeout: ssh_timeout?,
        shutdown_timeout: shutdown_timeout?,
    })
}

impl Machine {
    /// This machine with the parent's word on what it leaves out. The disk grows only where it is asked to.
    fn with_parent(self, parent: &Self) -> Self {
        Self {
            memory: self.memory.or(parent.memory),
            cpus: self.cpus.or(parent.cpus),
            disk_size: self.disk_size,
            cpu_model: self.cpu_model.or_else(|| parent.cpu_model.clone()),
            ssh_timeout: self.ssh_timeout.or(parent.ssh_timeout),
            shutdown_timeout: self.shutdown_timeout.or(parent.shutdown_timeout),
        }
    }
}
