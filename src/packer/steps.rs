//! Packer's provisioners and post-processors as visabuild's.

use super::document::{Block, Build, Field, Findings};
use super::files::{Files, Use};
use super::value::{Text, Value};
use super::yaml_text::{Entry, Yaml};
use crate::template::keys::provisioner::{FILE, SHELL, SHELL_LOCAL};
use crate::template::keys::{Effect, Table};

/// What stands for provisioners and post-processors that visabuild has not.
const INSTEAD: [(&str, &str); 15] = [
    ("ansible", "upload the playbook by a `file` step and run `ansible-playbook -c local` in a `shell` step"),
    ("ansible-local", "upload the playbook by a `file` step and run `ansible-playbook -c local` in a `shell` step"),
    ("breakpoint", "`visabuild build --until STEP` ends after a step, `--on-error ask` stops at a failure"),
    ("shell-local", "run it before or after `visabuild build`: a build runs nothing on the host"),
    ("sleep", "`pause_before` of the next step"),
    ("powershell", "visabuild builds no Windows guests"),
    ("windows-shell", "visabuild builds no Windows guests"),
    ("windows-restart", "visabuild builds no Windows guests"),
    ("goss", "`visabuild verify` proves an image, with checks of its own"),
    ("inspec", "`visabuild verify` proves an image, with checks of its own"),
    ("checksum", "the image's manifest.json has SHA-256 and SHA-512"),
    ("compress", "the image is a compressed qcow2 anyway"),
    ("manifest", "builds/TEMPLATE/TEMPLATE.manifest.json is written anyway, in visabuild's own form"),
    ("artifice", "the results are always the files of builds/TEMPLATE/"),
    ("openstack", "`visabuild upload` publishes images"),
];

/// The provisioners of a build, as items of `provisioners`.
pub(super) fn provisioners(build: &Build, template: &str, files: &mut Files, findings: &mut Findings) -> Vec<Entry> {
    let mut entries = Vec::new();
    for block in &build.provisioners {
        entries.push(match block.kind.as_str() {
            "shell" => step(block, &SHELL, template, files, findings),
            "file" => file(block, template, files, findings),
            "shell-local" => step(block, &SHELL_LOCAL, template, files, findings),
            _ => without(block, findings),
        });
    }
    entries
}

/// What else the build does: comments only.
pub(super) fn others(build: &Build, findings: &mut Findings) -> Vec<Entry> {
    build.others.iter().map(|block| without(block, findings)).collect()
}

/// The comment for a block that has no counterpart.
fn without(block: &Block, findings: &mut Findings) -> Entry {
    let Block { role, kind, place, .. } = block;
    let (what, instead) = if *role == "error-cleanup-provisioner" {
        ("`error-cleanup-provisioner`".to_owned(), "`--on-error keep` keeps the disk, failure/ has logs and screen")
    } else {
        let known = INSTEAD.iter().find(|(known, _)| known == kind).map(|(_, instead)| *instead);
        let otherwise = match *role {
            "provisioner" => "write a `shell` step that does it",
            _ => "do it with the files of builds/TEMPLATE/ after `visabuild build`",
        };
        (format!("{role} `{kind}`"), known.unwrap_or(otherwise))
    };
    Entry::comment(findings.unsupported(place, what, instead))
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
            ("script" | "source", one) => take(one),
            ("scripts" | "sources", Value::List(items)) => Value::List(items.iter().map(take).collect()),
            // Packer takes a string for a list of one.
            ("inline", Value::Text(text)) => Value::List(vec![Value::Text(text.clone())]),
            (_, other) => other.clone(),
        };
        let entry = Entry::new(name, Yaml::from(&value));
        entries.push(entry.with(field.comments.clone(), &field.place));
    }
    Entry::item(Yaml::Map(entries)).with(block.comments.clone(), &block.place)
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
    let what = format!("`{}` of provisioner `{}`", field.name, block.kind);
    Some(Entry::comment(findings.unsupported(&field.place, what, instead)))
}
