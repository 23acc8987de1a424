//! The post-processors `sbom`, `package-diff` and `release-note`, which are made of the image's manifest.

use serde::Serialize;

use super::{Own, output};
use crate::bom;
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};
use crate::template::nearest::suggestion;
use crate::template::yaml::Node;

/// Writes software bills of materials of the image.
#[derive(Debug, Clone, Serialize)]
pub struct Sbom {
    /// Which, each in a file of its own.
    pub bills: Vec<Bill>,
}

/// One software bill of materials.
#[derive(Debug, Clone, Serialize)]
pub struct Bill {
    /// In which form.
    pub format: bom::Format,
    /// The file that it goes to.
    pub output: String,
}

/// Writes which packages are not as in the image before.
#[derive(Debug, Clone, Serialize)]
pub struct PackageDiff {
    /// In which form.
    pub format: DiffFormat,
    /// The file that it goes to.
    pub output: String,
}

/// In which form a difference is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiffFormat {
    /// For people.
    Text,
    /// As the manifest has it.
    Json,
}

impl DiffFormat {
    /// All of them.
    const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Their names.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Writes a release note of the image.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseNote {
    /// The file that it goes to.
    pub output: String,
}

/// The variable of names that stands for the form.
const FORMAT: &str = "SbomFormat";

pub(super) fn sbom(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Sbom> {
    let (formats, output) = (fields.get("formats"), fields.get("output"));
    fields.finish_as(own.table, reader.problems);
    let one_of = |reader: &mut Reader<'_>, node: &Node| known(reader, node, &bom::Format::ALL, bom::Format::name);
    let formats = reader.optional(formats, |reader, node| reader.some(node, one_of))?;
    let mut bills: Vec<Bill> = Vec::new();
    for format in formats.unwrap_or_else(|| vec![bom::Format::Spdx]) {
        if bills.iter().any(|bill| bill.format == format) {
            continue;
        }
        let default = format!("{{{{.BuildName}}}}.{}", format.ending());
        let name = output::read(reader, (output, &default), own.node, &[(FORMAT, format.name())])?;
        if bills.iter().any(|bill| bill.output == name) {
            let place = output.unwrap_or(own.node).location();
            let problem = Problem::at(place, format!("`{name}` would hold SBOMs of two forms"));
            reader.problems.add(problem.hint(format!("write `{{{{ .{FORMAT} }}}}` into the name")));
            return None;
        }
        bills.push(Bill { format, output: name });
    }
    Some(Sbom { bills })
}

pub(super) fn package_diff(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<PackageDiff> {
    let (format, output) = (fields.get("format"), fields.get("output"));
    fields.finish_as(own.table, reader.problems);
    let one_of = |reader: &mut Reader<'_>, node: &Node| known(reader, node, &DiffFormat::ALL, DiffFormat::name);
    let format = reader.optional(format, one_of)?.unwrap_or(DiffFormat::Text);
    let default = match format {
        DiffFormat::Text => "{{.BuildName}}.changes.txt",
        DiffFormat::Json => "{{.BuildName}}.changes.json",
    };
    Some(PackageDiff { format, output: output::read(reader, (output, default), own.node, &[])? })
}

pub(super) fn release_note(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<ReleaseNote> {
    let output = fields.get("output");
    fields.finish_as(own.table, reader.problems);
    let output = output::read(reader, (output, "{{.BuildName}}.release-note.md"), own.node, &[])?;
    Some(ReleaseNote { output })
}

/// The one of `all` that `node` names.
fn known<T: Copy>(reader: &mut Reader<'_>, node: &Node, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
    let text = reader.public(node)?;
    let found = all.iter().copied().find(|one| name(*one) == text);
    if found.is_none() {
        let problem = Problem::at(node.location(), format!("unknown form `{text}`"));
        reader.problems.add(match suggestion(&text, all.iter().copied().map(name)) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    found
}
