//! What a stage is made of, as data that outlives the build: compared with the next plan, it says what changed.
//!
//! It has what the fingerprints cover, and so neither secrets nor facts of the host: those stand as placeholders.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{BaseSource, Fingerprint, InputFile, Stage, Step};
use crate::template::Text;

/// Version of the record's form. Another version's records are not compared.
const VERSION: u32 = 1;

/// The name of a list's order among its values.
pub(super) const ORDER: &str = "(order)";

/// What an image was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Template name.
    pub template: String,
    /// The template that it extends.
    pub parent: Option<String>,
    /// Fingerprint of the parent's layer.
    pub parent_fingerprint: Option<String>,
    /// Base, disk, steps, seal, steps of the seal, in this order.
    pub parts: Vec<Part>,
    /// What is known only when it is built.
    pub facts: Facts,
}

/// What a record knows beside the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// HMACs of the image's secrets by name; none that was not given.
    pub secrets: BTreeMap<String, String>,
    /// Settings of the image, `NAME=VALUE`.
    pub settings: Vec<String>,
    /// The visabuild that made it.
    pub visabuild: String,
    /// What booted its guests.
    pub engine: String,
    /// When it was made, seconds since 1970.
    pub created: u64,
}

/// Which part of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// The base disk.
    Base,
    /// The disk and what holds for all steps.
    Disk,
    /// A step of the layer.
    Step,
    /// What holds for the image as a whole.
    Seal,
    /// A step of the seal.
    SealStep,
}

/// One part of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which part.
    pub kind: PartKind,
    /// What it is called in messages.
    pub label: String,
    /// Where the manifest says it, `FILE:LINE:COLUMN`; empty where it is not one place.
    pub place: String,
    /// Fingerprint of the disk after it.
    pub fingerprint: String,
    /// What it says, by name, with placeholders for secrets and facts of the host.
    pub values: BTreeMap<String, String>,
    /// Files that it reads, but for those that are secrets.
    pub files: Vec<RecordedFile>,
    /// SHA-256 of scripts of visabuild itself, by name.
    pub tools: BTreeMap<String, String>,
}

/// A file that a part reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Its path as people are told.
    pub name: String,
    /// As [`InputFile::sha256`].
    pub sha256: String,
    /// Whether its owner may execute it.
    pub executable: bool,
}

impl From<&InputFile> for RecordedFile {
    fn from(file: &InputFile) -> Self {
        Self { name: file.shown.clone(), sha256: file.sha256.clone(), executable: file.executable }
    }
}

impl Record {
    /// The record of `stage`, whose parent is `parent`.
    pub fn of(stage: &Stage, parent: Option<&Stage>, facts: Facts) -> Self {
        let mut parts: Vec<Part> = base(stage).into_iter().collect();
        parts.push(disk(stage));
        parts.extend(stage.steps.iter().map(|step| self::step(step, PartKind::Step)));
        parts.push(seal(stage));
        parts.extend(stage.seal.steps.iter().map(|step| self::step(step, PartKind::SealStep)));
        Self {
            version: VERSION,
            template: stage.name.clone(),
            parent: stage.parent.clone(),
            parent_fingerprint: parent.map(|parent| parent.fingerprint.to_string()),
            parts,
            facts,
        }
    }

    /// Whether it is of the image with this fingerprint of its seal.
    pub fn is_of(&self, seal: &str) -> bool {
        self.parts.iter().any(|part| part.kind == PartKind::Seal && part.fingerprint == seal)
    }

    /// Whether this visabuild knows its form.
    pub fn is_known(&self) -> bool {
        self.version == VERSION
    }
}

impl Part {
    /// What it is beside what lies before it: equal parts do the same.
    pub(super) fn own(&self) -> Fingerprint {
        Fingerprint::of("part", &(self.kind, &self.label, &self.values, &self.files, &self.tools))
    }
}

fn base(stage: &Stage) -> Option<Part> {
    let base = stage.base.as_ref()?;
    let mut values = BTreeMap::new();
    let own = [("configure", stage.scripts.configure), ("boot loader", stage.scripts.boot_loader)];
    let tools = match &base.source {
        BaseSource::Bootstrap(spec) => {
            flatten("", &plain(spec), &mut values);
            tools(&own)
        }
        BaseSource::Installer(installer) => {
            flatten("", &plain(installer), &mut values);
            let hardware = &installer.machine.hardware;
            let seen = json!({
                "disks": plain(&hardware.disks), "firmware": plain(&hardware.firmware), "board": plain(&hardware.board),
            });
            flatten("machine", &seen, &mut values);
            tools(if installer.suite().is_some() { &own[..1] } else { &[] })
        }
    };
    Some(Part {
        kind: PartKind::Base,
        label: base.source.summary(),
        place: String::new(),
        fingerprint: base.fingerprint.to_string(),
        values,
        files: base.files.iter().map(RecordedFile::from).collect(),
        tools,
    })
}

fn disk(stage: &Stage) -> Part {
    let mut values = BTreeMap::new();
    let alternatives: BTreeMap<_, _> = stage.alternatives.iter().map(|(name, chosen)| (name, &chosen.value)).collect();
    let communicator = &stage.machine.communicator;
    let said = json!({
        "disk_size": stage.disk_size,
        "variables": plain(&stage.variables),
        "alternatives": alternatives,
        "ssh_username": communicator.user(),
        "shutdown_command": communicator.shutdown_command.as_ref().map(Text::masked),
    });
    flatten("", &said, &mut values);
    Part {
        kind: PartKind::Disk,
        label: "disk and variables".to_owned(),
        place: String::new(),
        fingerprint: String::new(),
        values,
        files: Vec::new(),
        tools: tools(&[("session", stage.scripts.session)]),
    }
}

fn seal(stage: &Stage) -> Part {
    let mut values = BTreeMap::new();
    let said = json!({
        "root_password": stage.seal.root_password.as_ref().map(Text::masked),
        "ca_certificates": stage.seal.ca_certificates,
    });
    flatten("", &said, &mut values);
    Part {
        kind: PartKind::Seal,
        label: "seal".to_owned(),
        place: String::new(),
        fingerprint: stage.seal.fingerprint.to_string(),
        values,
        files: Vec::new(),
        tools: tools(&[("seal", stage.scripts.seal)]),
    }
}

fn step(step: &Step, kind: PartKind) -> Part {
    let mut values = BTreeMap::new();
    flatten("", &plain(&step.provisioner), &mut values);
    values.remove("label");
    Part {
        kind,
        label: step.provisioner.label.clone(),
        place: step.provisioner.location.to_string(),
        fingerprint: step.fingerprint.to_string(),
        values,
        files: step.files.iter().map(RecordedFile::from).collect(),
        tools: BTreeMap::new(),
    }
}

fn tools(scripts: &[(&str, &str)]) -> BTreeMap<String, String> {
    scripts.iter().map(|(name, text)| ((*name).to_owned(), Fingerprint::of("script", text).to_string())).collect()
}

/// As JSON; what a plan holds always is.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Names such as `env.LANG` with their values as text; lists have a line an item.
fn flatten(name: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    if let Some(text) = scalar(value) {
        values.insert(name.to_owned(), text);
        return;
    }
    let below = |key: &str| match (name, key) {
        ("", "source") => String::new(),
        ("", "environment_vars") => "environment".to_owned(),
        ("", key) => key.to_owned(),
        (name, key) => format!("{name}.{key}"),
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&below(key), value, values)),
        Value::Array(items) => match items.iter().map(scalar).collect::<Option<Vec<_>>>() {
            Some(lines) => drop(values.insert(name.to_owned(), lines.join("\n"))),
            None => {
                for (at, item) in items.iter().enumerate() {
                    match item.as_array().map(Vec::as_slice) {
                        Some([Value::String(key), value]) => flatten(&below(key), value, values),
                        _ => flatten(&below(&(at + 1).to_string()), item, values),
                    }
                }
                // The order of variables counts.
                let first = |item: &Value| item.get(0).and_then(Value::as_str).map(str::to_owned);
                if let Some(order) = items.iter().map(first).collect::<Option<Vec<_>>>() {
                    values.insert(below(ORDER), order.join(" "));
                }
            }
        },
        _ => {}
    }
}

/// What is one value for people: scalars, durations and paths. Neither an empty list nor null says anything.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Object(fields) => {
            if let (2, Some(seconds), Some(nanos)) = (fields.len(), fields.get("secs"), fields.get("nanos")) {
                let duration = std::time::Duration::new(seconds.as_u64()?, u32::try_from(nanos.as_u64()?).ok()?);
                return Some(humantime::format_duration(duration).to_string());
            }
            let shown = fields.get("shown")?.as_str()?;
            let slash = fields.get("contents_only").and_then(Value::as_bool).unwrap_or_default();
            Some(if slash { format!("{}/", shown.trim_end_matches('/')) } else { shown.to_owned() })
        }
        Value::Null | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provisioner_says_has_names_that_people_know() {
        let mut values = BTreeMap::new();
        let said = json!({
            "type": "shell",
            "source": { "scripts": [{ "shown": "scripts/x.sh", "contents_only": false, "secrets": [] }] },
            "environment_vars": [["LANG", "C"], ["A", "b"]],
            "valid_exit_codes": [0, 3],
            "timeout": { "secs": 300, "nanos": 0 },
            "pause_after": null,
        });
        flatten("", &said, &mut values);
        let values: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted = [
            "environment.(order)=LANG A",
            "environment.A=b",
            "environment.LANG=C",
            "scripts=scripts/x.sh",
            "timeout=5m",
            "type=shell",
            "valid_exit_codes=0\n3",
        ];
        assert_eq!(values, wanted);
    }
}
