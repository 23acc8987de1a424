//! The `manifest` post-processor.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Own, output};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader, entries};
use crate::template::scalar;
use crate::template::yaml::Node;

/// Adds the artifact to a list in Packer's form.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// The list.
    pub output: String,
    /// Names of files without their folders.
    pub strip_path: bool,
    /// Without the time.
    pub strip_time: bool,
    /// What else is to stand there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_data: BTreeMap<String, String>,
}

pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Manifest> {
    let (output, custom) = (fields.get("output"), fields.get("custom_data"));
    let (strip_path, strip_time) = (fields.get("strip_path"), fields.get("strip_time"));
    fields.finish_as(own.table, reader.problems);
    let mut boolean =
        |node| reader.optional(node, |reader, node| reader.parse(node, scalar::boolean)).map(Option::unwrap_or_default);
    let (strip_path, strip_time) = (boolean(strip_path), boolean(strip_time));
    let custom_data = reader.optional(custom, custom_data);
    let output = output::read(reader, (output, "packer-manifest.json"), own.node, &[]);
    Some(Manifest {
        output: output?,
        strip_path: strip_path?,
        strip_time: strip_time?,
        custom_data: custom_data?.unwrap_or_default(),
    })
}

fn custom_data(reader: &mut Reader<'_>, node: &Node) -> Option<BTreeMap<String, String>> {
    let entries = entries(node, reader.problems)?;
    let template = reader.context.template.clone();
    let read: Vec<_> = entries
        .iter()
        .map(|entry| {
            if entry.value.is_null() {
                return Some((entry.key.clone(), String::new()));
            }
            let text = reader.public(&entry.value)?;
            match output::fill(&text, &template, &[]) {
                Ok(text) => Some((entry.key.clone(), text)),
                Err(problem) => {
                    reader.problems.add(Problem { location: Some(entry.value.location()), ..problem });
                    None
                }
            }
        })
        .collect();
    read.into_iter().collect()
}
