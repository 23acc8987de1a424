//! The `convert` post-processor: the image in another format.

use serde::Serialize;

use super::{Own, output};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader, entries};
use crate::template::nearest::suggestion;
use crate::template::yaml::Node;

/// Makes the image in another format.
#[derive(Debug, Clone, Serialize)]
pub struct Convert {
    /// Which.
    pub format: DiskFormat,
    /// Options of the format, as `qemu-img convert -o` has them, in the order given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<(String, String)>,
    /// The file.
    pub output: String,
}

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes of the disk, with holes where they are zero.
    Raw,
    /// VMware's.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Microsoft's old one, which Azure takes.
    Vhd,
    /// Microsoft's new one.
    Vhdx,
    /// QEMU's own, with other options than the image has.
    Qcow2,
}

impl DiskFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Vmdk, Self::Vdi, Self::Vhd, Self::Vhdx, Self::Qcow2];

    /// The names that there are.
    pub(crate) fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::name).chain(["vpc"]).collect()
    }

    /// Its name, which is also the ending of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Qcow2 => "qcow2",
        }
    }

    /// What qemu-img calls it.
    pub fn of_qemu(self) -> &'static str {
        if self == Self::Vhd { "vpc" } else { self.name() }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Convert> {
    let format = fields.required("format", reader.problems);
    let (options, output) = (fields.get("options"), fields.get("output"));
    fields.finish_as(own.table, reader.problems);
    let format = format.and_then(|node| self::format(reader, node));
    let options = reader.optional(options, self::options);
    let format = format?;
    if format == DiskFormat::Qcow2 && output.is_none() {
        reader.at(own.node.location(), "`output` is missing: `{{ .BuildName }}.qcow2` is the image itself");
        return None;
    }
    let default = format!("{{{{.BuildName}}}}.{}", format.name());
    let output = output::read(reader, (output, &default), own.node, &[])?;
    Some(Convert { format, options: options?.unwrap_or_default(), output })
}

fn format(reader: &mut Reader<'_>, node: &Node) -> Option<DiskFormat> {
    let name = reader.public(node)?;
    let wanted = if name == "vpc" { "vhd" } else { &name };
    let found = DiskFormat::ALL.into_iter().find(|format| format.name() == wanted);
    if found.is_none() {
        let problem = Problem::at(node.location(), format!("unknown format `{name}`"));
        reader.problems.add(match suggestion(&name, DiskFormat::names()) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    found
}

/// Options that would spread the image over several files, or lock it.
const REFUSED: [&str; 3] = ["backing", "data_file", "encrypt"];

fn options(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let entries = entries(node, reader.problems)?;
    let read: Vec<_> = entries
        .iter()
        .map(|entry| {
            let value = reader.public(&entry.value);
            let key = entry.key.as_str();
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                reader.at(entry.location(), format!("`{key}` is no name of an option of qemu-img"));
                return None;
            }
            if REFUSED.iter().any(|refused| key.starts_with(refused)) {
                let problem =
                    Problem::at(entry.location(), format!("`{key}` would not leave one file with the whole image"));
                reader.problems.add(problem.hint("drop it"));
                return None;
            }
            Some((entry.key.clone(), value?))
        })
        .collect();
    read.into_iter().collect()
}
