//! `post-processors`: what is made of a finished image, with Packer's names and meaning.
//!
//! A new type is a struct with its reader in a file below this one, a table in `keys::post_processor`, a variant of
//! [`Processing`], and what it does in [`crate::post_process`].

use serde::Serialize;

use super::fields::{Fields, Reader, items, scalar};
use super::keys::Table;
use super::keys::post_processor::{KINDS, names};
use super::nearest::suggestion;
use super::paths::Search;
use super::provisioner::shell_local::{self, ShellLocal};
use super::scalar as parse;
use super::yaml::{Content, Node};
use crate::error::{Location, Problem};

pub use artifice::Artifice;
pub use bills::{Bill, DiffFormat, PackageDiff, ReleaseNote, Sbom};
pub use checksum::Checksum;
pub use compress::{Archive, Compress, Compression, Format};
pub use convert::{Convert, DiskFormat};
pub use manifest::Manifest;
pub(crate) use output::clashes;

mod artifice;
mod bills;
mod checksum;
mod compress;
mod convert;
mod manifest;
mod output;

/// What Packer's variable `BuilderType` is: every image is QEMU's.
pub const BUILDER_TYPE: &str = "qemu";

/// Post-processors of which each begins with what the one before made; the first with the image.
pub type Chain = Vec<PostProcessor>;

/// One post-processor.
#[derive(Debug, Clone, Serialize)]
pub struct PostProcessor {
    /// How it is called in messages: its `name`, or its type.
    pub label: String,
    /// What it does.
    #[serde(flatten)]
    pub processing: Processing,
    /// Keep what the chain made before it, where its type does not say so itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_input_artifact: bool,
    /// Where the manifest says it.
    #[serde(skip)]
    pub location: Location,
}

impl PostProcessor {
    /// In a few words: `compress x.gz`.
    pub fn summary(&self) -> String {
        let kind = self.processing.kind();
        let label = if self.label == kind { String::new() } else { format!(" `{}`", self.label) };
        let outputs: String = self.processing.outputs().iter().map(|name| format!(" {name}")).collect();
        format!("{kind}{label}{outputs}")
    }
}

/// What a post-processor does.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Processing {
    /// Writes checksums of the artifact.
    Checksum(Checksum),
    /// Makes one file of the artifact.
    Compress(Compress),
    /// Adds the artifact to a list.
    Manifest(Manifest),
    /// Names the files that the artifact is from here on.
    Artifice(Artifice),
    /// Runs commands or scripts on the build host.
    ShellLocal(ShellLocal),
    /// Makes the image in another format.
    Convert(Convert),
    /// Writes software bills of materials.
    Sbom(Sbom),
    /// Writes which packages are not as in the image before.
    PackageDiff(PackageDiff),
    /// Writes a release note.
    ReleaseNote(ReleaseNote),
}

impl Processing {
    /// Its type in a manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Checksum(_) => "checksum",
            Self::Compress(_) => "compress",
            Self::Manifest(_) => "manifest",
            Self::Artifice(_) => "artifice",
            Self::ShellLocal(_) => "shell-local",
            Self::Convert(_) => "convert",
            Self::Sbom(_) => "sbom",
            Self::PackageDiff(_) => "package-diff",
            Self::ReleaseNote(_) => "release-note",
        }
    }

    /// The files that it writes, as they are named: in the template's folder of the results, or absolute.
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::Checksum(checksum) => checksum.outputs(),
            Self::Compress(compress) => vec![&compress.output],
            Self::Manifest(manifest) => vec![&manifest.output],
            Self::Artifice(_) | Self::ShellLocal(_) => Vec::new(),
            Self::Convert(convert) => vec![&convert.output],
            Self::Sbom(sbom) => sbom.bills.iter().map(|bill| bill.output.as_str()).collect(),
            Self::PackageDiff(diff) => vec![&diff.output],
            Self::ReleaseNote(note) => vec![&note.output],
        }
    }

    /// Whether its output is added to, so that several may write the same.
    pub fn adds(&self) -> bool {
        matches!(self, Self::Manifest(_))
    }

    /// Whether what the chain made before it is the artifact no more.
    pub fn replaces(&self) -> bool {
        matches!(self, Self::Compress(_) | Self::Artifice(_) | Self::Convert(_))
    }
}

/// Packer's and its plugins' post-processors that have no counterpart here, and what does the same.
pub(crate) const UNSUPPORTED: [(&str, &str); 9] = [
    ("vagrant", "a box is a tar of the image with its metadata: `vagrant package` makes one"),
    ("vagrant-cloud", "upload the box with Vagrant's own client"),
    ("vagrant-registry", "upload the box with Vagrant's own client"),
    ("docker-import", "`virt-tar-out -a IMAGE / - | docker import -` makes a container image of the finished image"),
    ("docker-push", "`docker push` after `visabuild build`"),
    ("docker-save", "`docker save` after `visabuild build`"),
    ("docker-tag", "`docker tag` after `visabuild build`"),
    ("openstack", "`visabuild upload` publishes images"),
    ("googlecompute-import", "convert to `raw`, compress to `tar.gz` and upload that with Google's own client"),
];

/// Reads a list of post-processors and chains of them; faulty ones are reported and left out.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Vec<Chain> {
    let items = items(node, reader.problems).unwrap_or_default();
    let chains = items.iter().map(|item| match &item.content {
        Content::List(chain) => chain.iter().filter_map(|item| one(reader, item, search)).collect(),
        _ => one(reader, item, search).into_iter().collect::<Chain>(),
    });
    let chains: Vec<Chain> = chains.filter(|chain| !chain.is_empty()).collect();
    chains.iter().for_each(|chain| several_files(reader, chain));
    chains
}

fn one(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<PostProcessor> {
    // A type alone.
    if !matches!(node.content, Content::Map(_)) {
        scalar(node, reader.problems)?;
        let kind = reader.public(node)?;
        let table = table(reader, node, &kind)?;
        let mut empty = node.place();
        empty.content = Content::Map(Vec::new());
        let fields = Fields::of(&empty, reader.problems)?;
        return typed(reader, fields, &kind, (Own { node, table }, search));
    }
    let mut fields = Fields::of(node, reader.problems)?;
    let type_node = fields.required("type", reader.problems)?;
    let kind = reader.public(type_node)?;
    let table = table(reader, type_node, &kind)?;
    typed(reader, fields, &kind, (Own { node, table }, search))
}

fn typed(
    reader: &mut Reader<'_>,
    mut fields: Fields<'_>,
    kind: &str,
    (own, search): (Own<'_>, &Search),
) -> Option<PostProcessor> {
    let settled = reader.settle(&mut fields, own.table);
    let (name, keep) = (fields.get("name"), fields.get("keep_input_artifact"));
    let name = reader.optional(name, Reader::public);
    let keep = reader.optional(keep, |reader, node| reader.parse(node, parse::boolean));
    let mut label = kind.to_owned();
    let processing = match kind {
        "checksum" => checksum::read(reader, fields, own).map(Processing::Checksum),
        "compress" => compress::read(reader, fields, own).map(Processing::Compress),
        "manifest" => manifest::read(reader, fields, own).map(Processing::Manifest),
        "artifice" => artifice::read(reader, fields, own).map(Processing::Artifice),
        "shell-local" => {
            let read = shell_local::read(reader, fields, search, own.table);
            read.map(|(text, local)| {
                label = text;
                Processing::ShellLocal(local)
            })
        }
        "sbom" => bills::sbom(reader, fields, own).map(Processing::Sbom),
        "package-diff" => bills::package_diff(reader, fields, own).map(Processing::PackageDiff),
        "release-note" => bills::release_note(reader, fields, own).map(Processing::ReleaseNote),
        _ => convert::read(reader, fields, own).map(Processing::Convert),
    };
    settled?;
    let label = name?.filter(|name| !name.trim().is_empty()).unwrap_or(label);
    let keep_input_artifact = keep?.unwrap_or_default();
    let processing = processing?;
    // What is for other systems is no part of the plan.
    if matches!(&processing, Processing::ShellLocal(local) if !local.is_for_this_host()) {
        return None;
    }
    Some(PostProcessor { label, processing, keep_input_artifact, location: own.node.location() })
}

/// The mapping of a post-processor that is being read, and the table of its keys.
#[derive(Clone, Copy)]
struct Own<'n> {
    node: &'n Node,
    table: &'static Table,
}

fn table(reader: &mut Reader<'_>, node: &Node, kind: &str) -> Option<&'static Table> {
    if let Some((_, table)) = KINDS.iter().find(|(name, _)| *name == kind) {
        return Some(table);
    }
    reader.problems.add(match UNSUPPORTED.iter().find(|(name, _)| *name == kind) {
        Some((_, instead)) => {
            Problem::at(node.location(), format!("visabuild has no post-processor `{kind}`")).hint(*instead)
        }
        None => {
            let problem = Problem::at(node.location(), format!("unknown post-processor `{kind}`"));
            match suggestion(kind, names()) {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        }
    });
    None
}

/// Reports what makes one file of one, where the chain has several by then.
fn several_files(reader: &mut Reader<'_>, chain: &[PostProcessor]) {
    let mut count = 1;
    for one in chain {
        match &one.processing {
            Processing::Checksum(checksum) => count += checksum.outputs().len(),
            Processing::Sbom(sbom) => count += sbom.bills.len(),
            Processing::PackageDiff(_) | Processing::ReleaseNote(_) => count += 1,
            Processing::Compress(compress) => {
                if count > 1 && compress.format.archive == Archive::None {
                    let message = format!("`{}` is no archive, and the chain has {count} files here", compress.format);
                    let hint = format!("make it an archive: `format: {}`", compress.format.as_archive());
                    reader.problems.add(Problem::at(one.location.clone(), message).hint(hint));
                }
                count = 1;
            }
            Processing::Manifest(_) | Processing::ShellLocal(_) => {}
            Processing::Artifice(artifice) => count = artifice.files.len(),
            Processing::Convert(_) => count = 1,
        }
    }
}
