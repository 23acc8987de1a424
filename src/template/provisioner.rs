//! `provisioners`: what is done in the guest, with Packer's names and meaning.

use std::time::Duration;

use super::fields::{Fields, Reader, items};
use super::keys::Table;
use super::keys::provisioner::{FILE, SHELL, SHELL_LOCAL};
use super::nearest::suggestion;
use super::paths::{Search, Want};
use super::scalar;
use super::yaml::Node;
use super::{Action, CacheRule, FileCopy, FileSource, Provisioner, cache_rule};
use crate::error::Problem;

pub(super) use shell::normalised as variables;

mod shell;
pub(super) mod shell_local;

/// Longest label made of a line of a script, characters.
const LABEL: usize = 60;

/// Packer's and its plugins' provisioners that have no counterpart here.
const UNSUPPORTED: [&str; 15] = [
    "ansible",
    "ansible-local",
    "breakpoint",
    "chef-client",
    "chef-solo",
    "hcp-sbom",
    "inspec",
    "powershell",
    "puppet-masterless",
    "puppet-server",
    "salt-masterless",
    "sleep",
    "windows-restart",
    "windows-shell",
    "goss",
];

/// Reads a list of provisioners; faulty ones are reported and left out, and so are those that are for other hosts.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Vec<Provisioner> {
    let items = items(node, reader.problems).unwrap_or_default();
    items.iter().filter_map(|item| one(reader, item, search)).collect()
}

fn one(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<Provisioner> {
    let mut fields = Fields::of(node, reader.problems)?;
    let type_node = fields.required("type", reader.problems)?;
    let kind = reader.public(type_node)?;
    let table = match kind.as_str() {
        "file" => &FILE,
        "shell-local" => &SHELL_LOCAL,
        _ => &SHELL,
    };
    let common = common(reader, &mut fields, table);
    let (label, action) = match kind.as_str() {
        "shell" => shell::read(reader, fields, search).map(|(label, shell)| (label, Action::Shell(shell))),
        "file" => file(reader, fields, search).map(|copy| (copy.destination.masked().to_owned(), Action::File(copy))),
        "shell-local" => {
            shell_local::read(reader, fields, search, table).map(|(label, local)| (label, Action::ShellLocal(local)))
        }
        _ => {
            reader.problems.add(unknown(type_node, &kind));
            None
        }
    }?;
    let Common { name, pause_before, timeout, max_retries, cache } = common?;
    if matches!(&action, Action::ShellLocal(local) if !local.is_for_this_host()) {
        return None;
    }
    let label = name.unwrap_or(label);
    Some(Provisioner { label, action, pause_before, timeout, max_retries, cache, location: node.location() })
}

fn unknown(node: &Node, kind: &str) -> Problem {
    if UNSUPPORTED.contains(&kind) {
        return Problem::at(node.location(), format!("provisioner `{kind}` is not supported yet"))
            .hint("supported are `shell`, `file` and `shell-local`");
    }
    let problem = Problem::at(node.location(), format!("unknown provisioner `{kind}`"));
    match suggestion(kind, ["shell", "file", "shell-local"]) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// What every provisioner may say.
struct Common {
    name: Option<String>,
    pause_before: Option<Duration>,
    timeout: Option<Duration>,
    max_retries: Option<u32>,
    cache: Option<CacheRule>,
}

fn common(reader: &mut Reader<'_>, fields: &mut Fields<'_>, table: &'static Table) -> Option<Common> {
    let settled = reader.settle(fields, table);
    let (name, pause, timeout) = (fields.get("name"), fields.get("pause_before"), fields.get("timeout"));
    let (max_retries, cache) = (fields.get("max_retries"), fields.get("cache"));
    let name = reader.optional(name, Reader::text);
    let pause_before = reader.optional(pause, |reader, node| reader.parse(node, scalar::duration));
    let timeout = reader.optional(timeout, |reader, node| reader.parse(node, scalar::duration));
    let max_retries = reader.optional(max_retries, |reader, node| reader.parse(node, scalar::retries));
    let now = reader.context.now;
    let cache = reader.optional(cache, |reader, node| cache_rule::read(reader, node, now));
    let name = name?.map(|name| shortened(name.masked())).filter(|name| !name.is_empty());
    // Packer reads a timeout of zero as none.
    let timeout = timeout?.filter(|timeout| !timeout.is_zero());
    settled?;
    let max_retries = max_retries?.filter(|retries| *retries > 0);
    Some(Common { name, pause_before: pause_before?, timeout, max_retries, cache: cache? })
}

/// The first line with something in it, cut to a label's length.
fn shortened(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(LABEL) {
        Some((cut, _)) => format!("{}…", line[..cut].trim_end()),
        None => line.to_owned(),
    }
}

fn file(reader: &mut Reader<'_>, mut fields: Fields<'_>, search: &Search) -> Option<FileCopy> {
    let source = fields.one_of(&["source", "sources", "content"], reader.problems);
    let destination = fields.required("destination", reader.problems);
    let (mode, generated) = (fields.get("mode"), fields.get("generated"));
    fields.finish_as(&FILE, reader.problems);

    let generated = reader.optional(generated, |reader, node| reader.parse(node, scalar::boolean));
    let want = if generated.flatten() == Some(true) { Want::Generated } else { Want::Any };
    let source = source.and_then(|(key, node)| match key {
        "source" => search.find(reader, node, want).map(|path| FileSource::Paths(vec![path])),
        "sources" => reader.some(node, |reader, node| search.find(reader, node, want)).map(FileSource::Paths),
        _ => reader.text(node).map(FileSource::Content),
    });
    let destination = destination.and_then(|node| {
        let destination = reader.text(node)?;
        if destination.plain().is_empty() {
            reader.at(node.location(), "the path is empty");
            return None;
        }
        Some(destination)
    });
    let mode = reader.optional(mode, |reader, node| reader.parse(node, scalar::mode));
    generated?;
    Some(FileCopy { source: source?, destination: destination?, mode: mode? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!(shortened("\n  apt-get update\nmore"), "apt-get update");
        assert_eq!(shortened(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(shortened(" \n"), "");
    }
}
