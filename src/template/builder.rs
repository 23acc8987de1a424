//! `packer.builders`: where a template's disk comes from.

use super::fields::{Fields, Reader};
use super::keys::builder::{BOOTSTRAP, CHILD, INSTALLATION, MEDIUM};
use super::keys::{Group, Key};
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
pub(super) const VARIANTS: [&str; 11] = [
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
    let machine = machine(reader, &mut fields, &BOOTSTRAP);
    let arguments = fields.get("qemuargs");
    let installers = refuse_groups(reader, &mut fields, &[&MEDIUM, &INSTALLATION], "mmdebstrap makes this disk");
    fields.finish_as(&BOOTSTRAP, reader.problems);
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
    let machine = machine(reader, &mut fields, &CHILD);
    let disk_image = fields.get("disk_image");
    let boot_wait = fields.get("boot_wait");
    let arguments = fields.get("qemuargs");
    // packme sets these itself: the disk is the parent's.
    let unused = ["iso_url", "iso_checksum"].map(|key| fields.get(key));
    let refused = refuse_groups(reader, &mut fields, &[&INSTALLATION], "this disk is the parent's");
    fields.finish_as(&CHILD, reader.problems);

    let unused = unused.map(|node| reader.optional(node, Reader::public));
    let disk_image = reader.optional(disk_image, |reader, node| {
        let set = reader.parse(node, scalar::boolean)?;
        if !set {
            reader.at(node.location(), "`disk_image` cannot be false: the disk is the parent's");
        }
        set.then_some(())
    });
    let boot_wait = reader.optional(boot_wait, super::installer::boot_wait);
    disk_image?;
    boot_wait?;
    refused?;
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
fn refuse_groups(reader: &mut Reader<'_>, fields: &mut Fields<'_>, groups: &[&'static Group], why: &str) -> Option<()> {
    let keys = groups.iter().flat_map(|group| group.keys);
    let found: Vec<_> = keys.filter_map(|Key { name, .. }| fields.misplaced(name)).collect();
    for entry in &found {
        reader.at(entry.location(), format!("`{}` is for a builder that installs a system: {why}", entry.key));
    }
    found.is_empty().then_some(())
}
