//! `packer.builders`: where a template's disk comes from.

use super::fields::{Fields, Reader, Unsupported};
use super::machine::machine;
use super::nearest::suggestion;
use super::paths::Search;
use super::qemuargs::Argument;
use super::scalar;
use super::yaml::Node;
use super::{BaseBuilder, Bootstrap, Builder, Machine, installer};
use crate::error::{Location, Problem};

/// Disk of a bootstrapped template that does not say: small enough for the smallest flavours,
/// because OpenStack refuses an image larger than the flavour's disk.
const DISK_SIZE: u64 = 10 << 30;

const TYPES: [&str; 3] = ["bootstrap", "installer", "qemu"];

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
pub(super) const QEMU: Unsupported = Unsupported {
    whose: "Packer's qemu builder",
    keys: "
        skip_compaction disk_compression skip_resize_disk use_backing_file qmp_enable qmp_socket_path qemu_img_args
        boot_steps iso_skip_cache host_port_min host_port_max ssh_host_port_min ssh_host_port_max skip_nat_mapping
        run_once disable_vnc ssh_host ssh_certificate_file ssh_keypair_name temporary_key_pair_name
        temporary_key_pair_type temporary_key_pair_bits ssh_ciphers ssh_key_exchange_algorithms ssh_wait_timeout
        ssh_bastion_host ssh_bastion_port ssh_bastion_username ssh_bastion_password ssh_bastion_private_key_file
        ssh_bastion_certificate_file ssh_bastion_agent_auth ssh_bastion_interactive ssh_proxy_host ssh_proxy_port
        ssh_proxy_username ssh_proxy_password ssh_file_transfer_method ssh_remote_tunnels ssh_local_tunnels
        winrm_username winrm_password winrm_host winrm_port winrm_timeout winrm_use_ssl winrm_insecure winrm_use_ntlm
        winrm_no_proxy",
};

/// Reads `builders` of a template at `place` whose parent has the machine `parent`.
///
/// A child needs no builder: its disk is its parent's, and what it leaves out about its machine is
/// its parent's too. A template without a parent may have an installer and a bootstrap, of which `wanted` takes one.
pub(super) fn read(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    parent: Option<&Machine>,
    place: &Location,
    (wanted, search): (BaseBuilder, &Search),
) -> Option<Builder> {
    let builders = match node {
        Some(node) => super::fields::items(node, reader.problems)?,
        None => &[],
    };
    match (builders, parent) {
        ([], None) => {
            let message = format!("template `{}` has neither a parent nor a builder", reader.context.template);
            let hint = "add `extends:` in config.yml, or a builder of type `bootstrap` or `installer`";
            reader.problems.add(Problem::at(place.clone(), message).hint(hint));
            None
        }
        ([], Some(parent)) => Some(Builder::Qemu(Machine::default().with_parent(parent))),
        ([builder], Some(parent)) => child(reader, builder, parent),
        ([_, second, ..], Some(_)) => {
            reader.at(second.location(), "a template has one builder; this is the second");
            None
        }
        (builders, None) => first_disk(reader, builders, wanted, search),
    }
}

/// The builder of a template that has no parent. All of them are read, so that faults in each are told.
fn first_disk(reader: &mut Reader<'_>, nodes: &[Node], wanted: BaseBuilder, search: &Search) -> Option<Builder> {
    let mut builders: Vec<Builder> = Vec::new();
    let mut good = true;
    for node in nodes {
        match base(reader, node, search) {
            Some(builder) if builders.iter().any(|other| other.kind() == builder.kind()) => {
                let message = format!("a second builder of type `{}`: a template has one of each", builder.kind());
                reader.at(node.location(), message);
                good = false;
            }
            Some(builder) => builders.push(builder),
            None => good = false,
        }
    }
    let first = nodes.first()?;
    let is_wanted = |builder: &Builder| match wanted {
        BaseBuilder::PreferBootstrap | BaseBuilder::PreferInstaller => true,
        BaseBuilder::Installer => matches!(builder, Builder::Installer(_)),
        BaseBuilder::Bootstrap => matches!(builder, Builder::Bootstrap(_)),
    };
    // Whatever their order in the manifest.
    let preferred = if wanted == BaseBuilder::PreferInstaller { "installer" } else { "bootstrap" };
    builders.sort_by_key(|builder| builder.kind() != preferred);
    let found = builders.into_iter().find(is_wanted);
    if good && found.is_none() {
        let wanted = if wanted == BaseBuilder::Installer { "installer" } else { "bootstrap" };
        let message = format!("template `{}` has no builder of type `{wanted}`", reader.context.template);
        reader.problems.add(Problem::at(first.location(), message).hint("`--base` asks for it"));
    }
    found.filter(|_| good)
}

/// The keys of a builder, and its type.
fn keys<'n>(reader: &mut Reader<'_>, node: &'n Node) -> Option<(Fields<'n>, String, Location)> {
    let mut fields = Fields::of(node, reader.problems)?;
    let type_node = fields.required("type", reader.problems)?;
    let kind = reader.public(type_node)?;
    if TYPES.contains(&kind.as_str()) {
        return Some((fields, kind, type_node.location()));
    }
    let problem = Problem::at(type_node.location(), format!("unknown builder type `{kind}`"));
    reader.problems.add(match suggestion(&kind, TYPES) {
        Some(hint) => problem.hint(hint),
        None => problem,
    });
    None
}

fn base(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<Builder> {
    let (fields, kind, place) = keys(reader, node)?;
    let has_medium = || ["iso_url", "iso_urls", "kernel", "package"].iter().any(|key| fields.has(key));
    match kind.as_str() {
        "bootstrap" => bootstrap(reader, fields).map(Builder::Bootstrap),
        // Packer's qemu builder installs from a medium, too.
        "qemu" if !has_medium() => {
            let message = "a `qemu` builder starts from the parent's disk or from a medium, but here is neither";
            let hint = "add `extends:` in config.yml, or `iso_url`, or write `type: bootstrap`";
            reader.problems.add(Problem::at(place, message).hint(hint));
            None
        }
        _ => installer::read(reader, fields, search).map(|installer| Builder::Installer(Box::new(installer))),
    }
}

fn child(reader: &mut Reader<'_>, node: &Node, parent: &Machine) -> Option<Builder> {
    let (fields, kind, place) = keys(reader, node)?;
    if kind == "qemu" {
        return qemu(reader, fields).map(|machine| Builder::Qemu(machine.with_parent(parent)));
    }
    let message = format!("a builder of type `{kind}` makes a first disk, but this template has its parent's");
    reader.problems.add(Problem::at(place, message).hint("write `type: qemu`, or drop the builder"));
    None
}

fn bootstrap(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<Bootstrap> {
    let suite = fields.required("suite", reader.problems);
    let (components, variant, packages) = (fields.get("components"), fields.get("variant"), fields.get("packages"));
    let machine = machine(reader, &mut fields);
    let arguments = fields.get("qemuargs");
    let installers = refuse_installers(reader, &mut fields, "mmdebstrap makes this disk");
    fields.finish(QEMU, reader.problems);
    installers?;

    let word = |reader: &mut Reader<'_>, node: &Node| reader.parse(node, scalar::word);
    let suite = suite.and_then(|node| word(reader, node));
    let components = reader.optional(components, |reader, node| reader.some(node, word));
    let variant = reader.optional(variant, self::variant);
    let packages = reader.optional(packages, |reader, node| reader.list(node, word));
    let mut machine = machine?;
    refuse_port(reader, arguments, &machine, "mmdebstrap makes this disk")?;
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
    let arguments = fields.get("qemuargs");
    // packme sets these itself (the parent's disk, the results' place and name), or the command line does.
    let unused = ["iso_url", "iso_checksum", "output_directory", "vm_name", "accelerator"].map(|key| fields.get(key));
    let installers = refuse_installers(reader, &mut fields, "this disk is the parent's");
    fields.finish(QEMU, reader.problems);

    let unused = unused.map(|node| reader.optional(node, Reader::public));
    let disk_image = reader.optional(disk_image, |reader, node| {
        let set = reader.parse(node, scalar::boolean)?;
        if !set {
            reader.at(node.location(), "`disk_image` cannot be false: the disk is the parent's");
        }
        set.then_some(())
    });
    let format = self::format(reader, format);
    let boot_wait = reader.optional(boot_wait, |reader, node| reader.parse(node, scalar::duration));
    disk_image?;
    format?;
    boot_wait?;
    installers?;
    let machine = machine?;
    refuse_port(reader, arguments, &machine, "this disk is the parent's")?;
    unused.iter().all(Option::is_some).then_some(machine)
}

/// Reports arguments for QEMU that name the web server where there is none.
pub(super) fn refuse_port(
    reader: &mut Reader<'_>,
    arguments: Option<&Node>,
    machine: &Machine,
    why: &str,
) -> Option<()> {
    let rows = machine.hardware.board.qemuargs.as_deref().unwrap_or_default();
    if let Some(node) = arguments.filter(|_| rows.iter().any(Argument::needs_port)) {
        reader.at(node.location(), format!("`{{{{ .HTTPPort }}}}` is of a builder that installs a system: {why}"));
        return None;
    }
    Some(())
}

/// Reports keys of a builder that installs something.
fn refuse_installers(reader: &mut Reader<'_>, fields: &mut Fields<'_>, why: &str) -> Option<()> {
    let found: Vec<_> = installer::KEYS.iter().filter(|key| fields.has(key)).collect();
    for key in &found {
        if let Some(entry) = fields.entry(key) {
            reader.at(entry.location(), format!("`{key}` is for a builder that installs a system: {why}"));
        }
    }
    found.is_empty().then_some(())
}

/// `format`: of the image that is built.
pub(super) fn format(reader: &mut Reader<'_>, node: Option<&Node>) -> Option<Option<()>> {
    reader.optional(node, |reader, node| {
        let format = reader.public(node)?;
        if format != "qcow2" {
            reader.at(node.location(), format!("format `{format}` is not supported yet, only `qcow2`"));
        }
        (format == "qcow2").then_some(())
    })
}
