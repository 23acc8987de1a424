//! Packer's qemu builder as one of visabuild's.

use super::document::{Block, Build, Field, Findings};
use super::files::{Files, Use};
use super::value::{Part, Text, Value};
use super::yaml_text::{Entry, Yaml};
use crate::template::keys::Effect;
use crate::template::keys::builder::QEMU;

/// Options that visabuild decides about itself (docs/import.md).
const DECIDED: &str = "
    accelerator vm_name output_directory http_port_min http_port_max http_bind_address http_interface
    http_network_protocol iso_target_path iso_target_extension skip_compaction disk_compression host_port_min
    host_port_max ssh_host_port_min ssh_host_port_max skip_nat_mapping qmp_enable qmp_socket_path run_once
    temporary_key_pair_name temporary_key_pair_type temporary_key_pair_bits ssh_file_transfer_method use_backing_file
    disable_vnc iso_skip_cache efi_drop_efivars ssh_disable_agent_forwarding
    ssh_clear_authorized_keys";

/// What an installer is answered by, which a ready disk image has none of.
const ANSWERS: &str = "boot_command boot_steps http_directory http_content cd_files cd_content cd_label floppy_files
    floppy_dirs floppy_content floppy_label";

fn is_among(name: &str, names: &str) -> bool {
    names.split_whitespace().any(|known| known == name)
}

/// Whether visabuild can build it at all; what is in the way is noted.
pub(super) fn can_be(build: &Build, findings: &mut Findings) -> bool {
    let Block { kind, place, .. } = &build.source;
    if kind != "qemu" {
        let what = format!("builder `{kind}` of `{}`: visabuild builds with QEMU only", build.name);
        findings.unsupported(place, what, "give the project a `qemu` builder in Packer first, and import that");
        return false;
    }
    let communicator = build.source.field("communicator");
    match communicator.and_then(|field| Some((field, field.value.to_plain()?))) {
        Some((field, kind)) if kind == "winrm" => {
            let what = format!("communicator `winrm` of `{}`: visabuild builds no Windows guests", build.name);
            findings.unsupported(&field.place, what, "stay with Packer for this one");
            false
        }
        Some((field, kind)) if kind == "none" => {
            let what = format!("communicator `none` of `{}`: visabuild itself works in guests over SSH", build.name);
            findings.unsupported(&field.place, what, "install an SSH server, and write `ssh`");
            false
        }
        _ => true,
    }
}

/// The builder as an item of `builders`.
pub(super) fn builder(build: &Build, template: &str, files: &mut Files, findings: &mut Findings) -> Entry {
    let source = &build.source;
    let is_image = source.field("disk_image").and_then(|field| field.value.is_true()).unwrap_or_default();
    let mut entries = vec![Entry::new("type", Yaml::Text(Text::literal("qemu")))];
    let mut decided = Vec::new();
    for field in source.fields.iter().filter(|field| field.value != Value::Null) {
        let name = field.name.as_str();
        if is_among(name, DECIDED) {
            decided.push(name);
        } else if is_image && is_among(name, ANSWERS) {
            let what = format!("`{name}` at a disk image, which is not installed");
            let instead = "each boot gets account and key of the build by a NoCloud seed; what else user data do \
                           belongs into a provisioner";
            entries.push(Entry::comment(findings.unsupported(&field.place, what, instead)));
        } else if let Some(instead) = unsupported(field) {
            let what = format!("`{name}` of the builder");
            entries.push(Entry::comment(findings.unsupported(&field.place, what, instead)));
        } else if !is_among(name, "iso_checksum_type iso_checksum_url") {
            let (name, value) = option(source, field, template, files, findings);
            let entry = Entry { key: name.to_owned(), value: Some(value), ..Entry::default() };
            entries.push(entry.with(field.comments.clone(), &field.place));
        }
    }
    entries.extend(old_checksum(source));
    if source.field("machine_type").is_none() {
        let comment = "Packer's; visabuild would take q35, whose devices have other names in the guest.";
        let mut entry = Entry::new("machine_type", Yaml::Text(Text::literal("pc")));
        entry.comments.push(comment.to_owned());
        entries.push(entry);
    }
    if !decided.is_empty() {
        let comment = format!("visabuild decides by itself about: {}", decided.join(", "));
        entries.push(Entry::comment(comment));
    }
    Entry::item(Yaml::Map(entries)).with(source.comments.clone(), &source.place)
}

fn unsupported(field: &Field) -> Option<&'static str> {
    let name = field.name.as_str();
    if name == "format" && field.value.to_plain().is_some_and(|format| format != "qcow2") {
        return Some("the image is a qcow2; `visabuild upload --format raw` publishes a raw one");
    }
    if name.starts_with("winrm_") {
        return Some("visabuild builds no Windows guests");
    }
    match QEMU.find(name).map(|(_, key)| &key.effect) {
        Some(Effect::Refused(refusal)) => Some(refusal.instead),
        _ => None,
    }
}

/// The option's name and value in visabuild.
fn option<'n>(
    source: &Block,
    field: &'n Field,
    template: &str,
    files: &mut Files,
    findings: &mut Findings,
) -> (&'n str, Yaml) {
    let name = field.name.as_str();
    let mut each = |how: Use| match &field.value {
        Value::List(items) => {
            let taken = items.iter().map(|item| files.take(template, item, (how, &field.place), findings));
            Value::List(taken.collect())
        }
        one => files.take(template, one, (how, &field.place), findings),
    };
    let value = match name {
        "boot_steps" => return ("boot_command", boot_steps(&field.value)),
        "ssh_wait_timeout" => return ("ssh_timeout", Yaml::from(&field.value)),
        "http_directory" => each(Use::Web),
        "cd_files" | "floppy_files" | "floppy_dirs" => each(Use::Volume),
        "iso_url" | "ssh_private_key_file" => files.referred(&field.value),
        "iso_urls" => match &field.value {
            Value::List(items) => Value::List(items.iter().map(|item| files.referred(item)).collect()),
            other => other.clone(),
        },
        "iso_checksum" => match source.field("iso_checksum_type").and_then(|kind| kind.value.to_text()) {
            Some(kind) if kind.plain() == "none" => Value::Text(kind),
            Some(mut kind) => {
                kind.push(Part::Literal(":".to_owned()));
                kind.append(field.value.to_text().unwrap_or_default());
                Value::Text(kind)
            }
            None if field.value.to_plain().is_some_and(|text| text.starts_with("file:")) => {
                files.referred(&field.value)
            }
            None => field.value.clone(),
        },
        _ => field.value.clone(),
    };
    (name, Yaml::from(&value))
}

/// `iso_checksum_url`, and a type that says there is no checksum, of Packer before 1.6.
fn old_checksum(source: &Block) -> Option<Entry> {
    if source.field("iso_checksum").is_some() {
        return None;
    }
    let (field, text) = match (source.field("iso_checksum_url"), source.field("iso_checksum_type")) {
        (Some(url), _) => {
            let mut text = Text::literal("file:");
            text.append(url.value.to_text()?);
            (url, text)
        }
        (None, Some(kind)) => (kind, kind.value.to_text()?),
        (None, None) => return None,
    };
    Some(Entry::new("iso_checksum", Yaml::Text(text)).with(field.comments.clone(), &field.place))
}

/// Pairs of a command and what it does.
fn boot_steps(value: &Value) -> Yaml {
    let Value::List(steps) = value else { return Yaml::from(value) };
    let step = |step: &Value| match step {
        Value::List(parts) => {
            let mut entry = Entry::item(Yaml::from(parts.first().unwrap_or(&Value::Null)));
            entry.comments.extend(parts.get(1).and_then(Value::to_plain));
            entry
        }
        other => Entry::item(Yaml::from(other)),
    };
    Yaml::List(steps.iter().map(step).collect())
}
