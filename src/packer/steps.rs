//! Packer's provisioners and post-processors as visabuild's: options by their tables.

use std::ffi::OsString;
use std::path::Path;

use super::document::{Block, Build, Field, Findings};
use super::files::{Files, Use};
use super::value::{Text, Value};
use super::yaml_text::{Entry, Yaml};
use crate::plan::beside_playbook;
use crate::template::keys::post_processor;
use crate::template::keys::provisioner::{FILE, KINDS};
use crate::template::keys::{Effect, Table};
use crate::template::post_processor::UNSUPPORTED;

/// What stands for provisioners that visabuild has not.
const INSTEAD: [(&str, &str); 7] = [
    ("ansible-local", "`ansible`, which plays from the build host"),
    ("sleep", "`pause_before` of the next step"),
    ("powershell", "visabuild builds no Windows guests"),
    ("windows-shell", "visabuild builds no Windows guests"),
    ("windows-restart", "visabuild builds no Windows guests"),
    ("goss", "`visabuild verify` proves an image, with checks of its own"),
    ("inspec", "`visabuild verify` proves an image, with checks of its own"),
];

/// The role of what runs when a provisioner has failed.
pub(super) const CLEANUP: &str = "error-cleanup-provisioner";

/// The provisioners of a build, as items of `provisioners`.
pub(super) fn provisioners(build: &Build, template: &str, files: &mut Files, findings: &mut Findings) -> Vec<Entry> {
    let blocks = build.provisioners.iter().filter(|block| block.role != CLEANUP);
    blocks.map(|block| provisioner(block, template, files, findings)).collect()
}

/// What runs when one of them has failed.
pub(super) fn cleanup(build: &Build, template: &str, files: &mut Files, findings: &mut Findings) -> Option<Entry> {
    // Packer runs the last of several.
    let block = build.provisioners.iter().rfind(|block| block.role == CLEANUP)?;
    let entry = match block.kind.as_str() {
        "breakpoint" => Entry::comment(findings.unsupported(
            &block.place,
            "`error-cleanup-provisioner` `breakpoint`",
            "`--on-error ask` stops at a failure",
        )),
        _ => provisioner(block, template, files, findings),
    };
    Some(Entry { key: if entry.value.is_some() { CLEANUP.to_owned() } else { String::new() }, ..entry })
}

fn provisioner(block: &Block, template: &str, files: &mut Files, findings: &mut Findings) -> Entry {
    match (block.kind.as_str(), KINDS.iter().find(|(kind, _)| *kind == block.kind)) {
        ("file", _) => file(block, template, files, findings),
        (_, Some((_, table))) => step(block, table, template, files, findings),
        (_, None) => without(block, findings),
    }
}

/// The post-processors of a build, as items of `post-processors`: chains stay chains.
pub(super) fn post_processors(build: &Build, template: &str, files: &mut Files, findings: &mut Findings) -> Vec<Entry> {
    let mut entries = Vec::new();
    for chain in &build.post_processors {
        let mut items: Vec<Entry> = Vec::new();
        for block in chain {
            items.push(match post_processor::KINDS.iter().find(|(kind, _)| *kind == block.kind) {
                Some((_, table)) => step(block, table, template, files, findings),
                None => without(block, findings),
            });
        }
        let is_chain = items.iter().filter(|item| item.value.is_some()).count() > 1;
        if is_chain { entries.push(Entry::item(Yaml::List(items))) } else { entries.extend(items) }
    }
    entries
}

/// The comment for a block that has no counterpart.
fn without(block: &Block, findings: &mut Findings) -> Entry {
    let Block { role, kind, place, .. } = block;
    let known: &[(&str, &str)] = if *role == "post-processor" { &UNSUPPORTED } else { &INSTEAD };
    let known = known.iter().find(|(known, _)| known == kind).map(|(_, instead)| *instead);
    let otherwise = match *role {
        "post-processor" => "do it with the files of builds/TEMPLATE/ after `visabuild build`",
        _ => "write a `shell` step that does it",
    };
    Entry::comment(findings.unsupported(place, format!("{role} `{kind}`"), known.unwrap_or(otherwise)))
}

fn file(block: &Block, template: &str, files: &mut Files, findings: &mut Findings) -> Entry {
    let direction = block.field("direction");
    if let Some(field) = direction.filter(|field| field.value.to_plain().as_deref() == Some("download")) {
        let what = "provisioner `file` with `direction` `download`";
        let instead = "take the file out of the finished image, or print it: the build's log has it";
        return Entry::comment(findings.unsupported(&field.place, what, instead));
    }
    step(block, &FILE, template, files, findings)
}

fn step(block: &Block, table: &Table, template: &str, files: &mut Files, findings: &mut Findings) -> Entry {
    if block.kind == "ansible" && files.folder().join("ansible.cfg").is_file() {
        // It is looked for where the playbook is played: in the template's folder.
        files.take(template, &Value::from("ansible.cfg"), (Use::Volume, &block.place), findings);
    }
    let is_generated = block.field("generated").and_then(|field| field.value.is_true()).unwrap_or_default();
    let mut entries = vec![Entry::new("type", Yaml::Text(Text::literal(block.kind.clone())))];
    for field in block.fields.iter().filter(|field| field.value != Value::Null && field.name != "direction") {
        let name = field.name.as_str();
        // visabuild's own options are none of Packer's.
        let known = table.find(name).map(|(_, key)| key).filter(|key| key.packer.is_some());
        let effect = known.map(|key| &key.effect);
        if let (Some(Effect::Ignored), Some(key)) = (effect, known) {
            entries.push(Entry::comment(format!("Without `{name}`: {}.", key.about)));
            continue;
        }
        if !matches!(effect, Some(Effect::Works)) {
            entries.extend(left_out(block, field, effect, findings));
            continue;
        }
        let how = if is_generated { Use::Generated } else { Use::Step };
        let mut take = |value: &Value| files.take(template, value, (how, &field.place), findings);
        let value = match (name, &field.value) {
            ("script" | "source" | "galaxy_file" | "inventory_directory", one) => take(one),
            ("playbook_file" | "inventory_file", one) => {
                let beside = beside(files.folder(), one);
                beside.iter().for_each(|path| drop(files.take(template, path, (how, &field.place), findings)));
                files.take(template, one, (how, &field.place), findings)
            }
            ("command", one) if block.kind == "ansible" && one.to_plain().is_some_and(|text| text.contains('/')) => {
                take(one)
            }
            ("roles_path" | "collections_path", one) => {
                files.take(template, one, (Use::Generated, &field.place), findings)
            }
            ("scripts" | "sources", Value::List(items)) => Value::List(items.iter().map(take).collect()),
            // Packer takes a string for a list of one.
            ("inline" | "checksum_types" | "files", Value::Text(text)) => Value::List(vec![Value::Text(text.clone())]),
            (_, other) => other.clone(),
        };
        let entry = Entry::new(name, Yaml::from(&value));
        entries.push(entry.with(field.comments.clone(), &field.place));
    }
    Entry::item(Yaml::Map(entries)).with(block.comments.clone(), &block.place)
}

/// What Ansible reads beside a playbook or an inventory, and its settings, in the Packer project.
fn beside(folder: &Path, value: &Value) -> Vec<Value> {
    let Some(plain) = value.to_plain() else { return Vec::new() };
    let names = beside_playbook(&folder.join(&plain)).unwrap_or_default();
    let sibling = |name: OsString| Value::from(Path::new(&plain).with_file_name(name).to_string_lossy().into_owned());
    names.into_iter().map(sibling).collect()
}

/// The comment for an option that visabuild has not, or not with this value.
fn left_out(block: &Block, field: &Field, effect: Option<&Effect>, findings: &mut Findings) -> Option<Entry> {
    let instead = match effect {
        Some(Effect::Fixed { value, refusal, .. }) => {
            let is_off = *value == "false" && field.value.is_true() == Some(false);
            if is_off || field.value.to_plain().as_deref() == Some(value) {
                return None;
            }
            refusal.instead
        }
        Some(Effect::Refused(refusal)) => refusal.instead,
        _ => "",
    };
    let what = format!("`{}` of {} `{}`", field.name, block.role, block.kind);
    Some(Entry::comment(findings.unsupported(&field.place, what, instead)))
}
