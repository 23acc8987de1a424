//! What changed between what an image was made of and what is asked for now. Pure data.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, TextDiff, capture_diff_slices};

use super::record::ORDER;
use super::{Part, PartKind, Record, RecordedFile};

/// Lines around a change that are shown.
const CONTEXT: usize = 2;
/// Most lines of a file's diff.
const LINES: usize = 40;

/// Everything that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The template extends another one, or the parent's layer is another one: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Parts that changed, in the order of the plan; removed ones stand where they were.
    pub parts: Vec<PartChange>,
    /// Secrets whose values changed; values are never told.
    pub secrets: Vec<String>,
    /// Settings of the image: old and new.
    pub settings: Vec<Detail>,
}

/// A part that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChange {
    /// Which part.
    pub kind: PartKind,
    /// Its place among the steps of its kind in the plan, from 0; where it was removed, what stands there now.
    pub index: usize,
    /// Its label.
    pub label: String,
    /// Where the manifest says it; where it was removed, said it.
    pub place: String,
    /// What happened to it.
    pub how: How,
    /// What changed in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// What happened to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is new.
    Added,
    /// It is not there any more.
    Removed,
    /// It stands elsewhere.
    Moved,
    /// It is another one.
    Changed,
}

/// One thing that changed in a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// A value.
    Value {
        /// Its name.
        name: String,
        /// Before; none where it was not set.
        old: Option<String>,
        /// Now.
        new: Option<String>,
    },
    /// A file.
    File(FileChange),
    /// A script of visabuild itself, by its name.
    Tool(String),
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path as people are told.
    pub name: String,
    /// Before; none where it was not there.
    pub old: Option<RecordedFile>,
    /// Now.
    pub new: Option<RecordedFile>,
    /// Lines of a unified diff, where both contents are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<String>,
}

impl FileChange {
    /// Whether only its executable bit changed.
    pub fn is_mode_only(&self) -> bool {
        matches!((&self.old, &self.new), (Some(old), Some(new)) if old.sha256 == new.sha256)
    }
}

impl Difference {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Fills in the diffs of files; `content` has what it is of a SHA-256, where that is known and text.
    pub fn with_diffs(mut self, content: impl Fn(&str) -> Option<String>) -> Self {
        for detail in self.parts.iter_mut().flat_map(|part| &mut part.details) {
            if let Detail::File(file) = detail
                && let (Some(old), Some(new)) = (&file.old, &file.new)
                && old.sha256 != new.sha256
                && let (Some(old), Some(new)) = (content(&old.sha256), content(&new.sha256))
            {
                file.diff = unified(&old, &new, LINES);
            }
        }
        self
    }

    /// The first part of the layer (base, disk or step) that changed.
    pub fn first_of_layer(&self) -> Option<&PartChange> {
        self.parts.iter().find(|part| !matches!(part.kind, PartKind::Seal | PartKind::SealStep))
    }
}

/// Compares the record of an image with what is asked for now.
pub fn difference(old: &Record, new: &Record) -> Difference {
    let parent_changed = old.parent != new.parent || old.parent_fingerprint != new.parent_fingerprint;
    let mut parts = Vec::new();
    for kind in [PartKind::Base, PartKind::Disk, PartKind::Step, PartKind::Seal, PartKind::SealStep] {
        let of = |record: &'_ Record| record.parts.iter().filter(|part| part.kind == kind).cloned().collect::<Vec<_>>();
        align(&of(old), &of(new), &mut parts);
    }
    Difference {
        parent: new.parent.clone().filter(|_| parent_changed),
        parts,
        secrets: secrets(old, new),
        settings: settings(old, new),
    }
}

/// Secrets that both know, with other tags. One that is not given now is not known to have changed.
fn secrets(old: &Record, new: &Record) -> Vec<String> {
    let changed = |name: &&String| match (old.facts.secrets.get(*name), new.facts.secrets.get(*name)) {
        (Some(old), Some(new)) => old != new,
        _ => false,
    };
    old.facts.secrets.keys().filter(changed).cloned().collect()
}

fn settings(old: &Record, new: &Record) -> Vec<Detail> {
    let pairs = |record: &Record| -> std::collections::BTreeMap<String, String> {
        let split = record.facts.settings.iter().filter_map(|setting| setting.split_once('='));
        split.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    values(&pairs(old), &pairs(new))
}

/// Pairs the parts of one kind, as a diff of texts pairs lines.
fn align(old: &[Part], new: &[Part], changes: &mut Vec<PartChange>) {
    let own = |parts: &[Part]| parts.iter().map(Part::own).collect::<Vec<_>>();
    let (was, is) = (own(old), own(new));
    for op in capture_diff_slices(Algorithm::Myers, &was, &is) {
        let (_, before, after) = op.as_tag_tuple();
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        let mut left: Vec<usize> = before.clone().collect();
        let start = after.start;
        for index in after.clone() {
            let elsewhere = was.iter().position(|own| *own == is[index]);
            let pair = left.iter().position(|at| old[*at].label == new[index].label);
            // One step for one step, under another name, is a step that changed.
            let pair = pair.or_else(|| {
                let only = before.len() == 1 && after.len() == 1 && !old_label_is_elsewhere(old, new, before.start);
                only.then_some(0)
            });
            match (elsewhere, pair) {
                (Some(_), _) => changes.push(change(&new[index], index, How::Moved, Vec::new())),
                (None, Some(pair)) => {
                    let before = left.remove(pair);
                    changes.push(change(&new[index], index, How::Changed, details(&old[before], &new[index])));
                }
                (None, None) => changes.push(change(&new[index], index, How::Added, Vec::new())),
            }
        }
        let gone = left.into_iter().filter(|at| !is.contains(&was[*at]));
        changes.extend(gone.map(|at| change(&old[at], start, How::Removed, Vec::new())));
    }
}

/// Whether the step that was replaced still stands elsewhere under its label.
fn old_label_is_elsewhere(old: &[Part], new: &[Part], at: usize) -> bool {
    new.iter().any(|part| part.label == old[at].label)
}

fn change(part: &Part, index: usize, how: How, details: Vec<Detail>) -> PartChange {
    PartChange { kind: part.kind, index, label: part.label.clone(), place: part.place.clone(), how, details }
}

fn details(old: &Part, new: &Part) -> Vec<Detail> {
    let mut details = Vec::new();
    if old.label != new.label {
        let name = "name".to_owned();
        details.push(Detail::Value { name, old: Some(old.label.clone()), new: Some(new.label.clone()) });
    }
    let mut changed = values(&old.values, &new.values);
    // Where a variable came or went, the order says nothing more.
    let came_or_went =
        |detail: &Detail| matches!(detail, Detail::Value { old, new, .. } if old.is_none() || new.is_none());
    if changed.iter().any(came_or_went) {
        changed.retain(|detail| !matches!(detail, Detail::Value { name, .. } if name.ends_with(ORDER)));
    }
    details.extend(changed);
    let names: BTreeSet<&String> = old.files.iter().chain(&new.files).map(|file| &file.name).collect();
    for name in names {
        let of = |part: &Part| part.files.iter().find(|file| file.name == *name).cloned();
        let (old, new) = (of(old), of(new));
        if old != new {
            details.push(Detail::File(FileChange { name: name.clone(), old, new, diff: Vec::new() }));
        }
    }
    let tools: BTreeSet<&String> = old.tools.keys().chain(new.tools.keys()).collect();
    details.extend(
        tools.into_iter().filter(|name| old.tools.get(*name) != new.tools.get(*name)).cloned().map(Detail::Tool),
    );
    details
}

fn values(
    old: &std::collections::BTreeMap<String, String>,
    new: &std::collections::BTreeMap<String, String>,
) -> Vec<Detail> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let detail =
        |name: &String| Detail::Value { name: name.clone(), old: old.get(name).cloned(), new: new.get(name).cloned() };
    changed.map(detail).collect()
}

/// A unified diff without its header, at most `most` lines of it.
pub fn unified(old: &str, new: &str, most: usize) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(CONTEXT).to_string();
    let lines: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = lines.iter().take(most).map(|line| (*line).to_owned()).collect();
    if lines.len() > most {
        shown.push(format!("… and {} more lines", lines.len() - most));
    }
    shown
}

#[cfg(test)]
mod tests;
