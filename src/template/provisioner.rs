//! `provisioners`: what is done in the guest, with Packer's names and meaning.

use std::time::Duration;

use super::fields::{Fields, Reader, items};
use super::keys::Table;
use super::keys::provisioner::{BREAKPOINT, FILE, KINDS};
use super::nearest::suggestion;
use super::paths::{Search, Want};
use super::scalar;
use super::yaml::Node;
use super::{Action, Breakpoint, CacheRule, FileCopy, FileSource, Provisioner, cache_rule};
use crate::error::Problem;

pub(super) use shell::normalised as variables;

pub(super) mod ansible;
mod shell;
pub(super) mod shell_local;

/// Longest label made of a line of a script, characters.
const LABEL: usize = 60;

const NO_WINDOWS: (&str, &str) = ("visabuild builds no Windows guests", "use `shell`");
const IN_GUEST: &str = "it is a tool of its own, which visabuild does not know";
const PROVE: &str = "`visabuild verify` proves an image, with checks of its own";

/// Packer's and its plugins' provisioners that have no counterpart: why, and what does the same.
const UNSUPPORTED: [(&str, (&str, &str)); 13] = [
    (
        "ansible-local",
        (
            IN_GUEST,
            "use `ansible`, which plays from the build host; or upload the playbook by a `file` step and run `ansible-playbook -c local` in a `shell` step",
        ),
    ),
    ("chef-client", (IN_GUEST, RUN_IT)),
    ("chef-solo", (IN_GUEST, RUN_IT)),
    ("goss", (PROVE, "write the checks into a contract and name it in `verify`")),
    ("hcp-sbom", ("the manifest of an image lists its packages", "take them from `.manifest.json`")),
    ("inspec", (PROVE, "write the checks into a contract and name it in `verify`")),
    ("powershell", NO_WINDOWS),
    ("puppet-masterless", (IN_GUEST, RUN_IT)),
    ("puppet-server", (IN_GUEST, RUN_IT)),
    ("salt-masterless", (IN_GUEST, RUN_IT)),
    ("sleep", ("a step can wait itself", "write `pause_before` into the next step")),
    ("windows-restart", NO_WINDOWS),
    ("windows-shell", NO_WINDOWS),
];
const RUN_IT: &str = "upload what it needs by a `file` step and run it in a `shell` step";

/// Reads a list of provisioners; faulty ones are reported and left out, and so are those
/// that are for other hosts, and breakpoints that are disabled.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Vec<Provisioner> {
    let items = items(node, reader.problems).unwrap_or_default();
    items.iter().filter_map(|item| one(reader, item, search)).collect()
}

/// What is done in the guest when a provisioner has failed.
pub(super) fn cleanup(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<Provisioner> {
    let provisioner = one(reader, node, search)?;
    if matches!(provisioner.action, Action::Breakpoint(_)) {
        let problem = Problem::at(node.location(), "`error-cleanup-provisioner` cannot be a `breakpoint`");
        reader.problems.add(problem.hint("`--on-error ask` stops at a failure"));
        return None;
    }
    Some(provisioner)
}

fn one(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<Provisioner> {
    let mut fields = Fields::of(node, reader.problems)?;
    let type_node = fields.required("type", reader.problems)?;
    let kind = reader.public(type_node)?;
    let Some((_, table)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        reader.problems.add(unknown(type_node, &kind));
        return None;
    };
    let common = common(reader, &mut fields, table);
    let (label, action) = match kind.as_str() {
        "file" => file(reader, fields, search).map(|copy| (copy.destination.masked().to_owned(), Action::File(copy))),
        "shell-local" => {
            shell_local::read(reader, fields, search, table).map(|(label, local)| (label, Action::ShellLocal(local)))
        }
        "ansible" => {
            ansible::read(reader, fields, search).map(|(label, ansible)| (label, Action::Ansible(Box::new(ansible))))
        }
        "breakpoint" => breakpoint(reader, fields),
        _ => shell::read(reader, fields, search).map(|(label, shell)| (label, Action::Shell(shell))),
    }?;
    let Common { name, pause_before, timeout, max_retries, cache } = common?;
    let is_done = match &action {
        Action::ShellLocal(local) => local.is_for_this_host(),
        Action::Breakpoint(breakpoint) => !breakpoint.disable,
        _ => true,
    };
    let label = name.unwrap_or(label);
    is_done.then(|| Provisioner { label, action, pause_before, timeout, max_retries, cache, location: node.location() })
}

fn breakpoint(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<(String, Action)> {
    let (note, disable) = (fields.get("note"), fields.get("disable"));
    fields.finish_as(&BREAKPOINT, reader.problems);
    let note = reader.optional(note, Reader::text);
    let disable = reader.optional(disable, |reader, node| reader.parse(node, scalar::boolean));
    let note = note?.map(|note| note.masked().trim().to_owned()).unwrap_or_default();
    let label = if note.is_empty() { "breakpoint".to_owned() } else { shortened(&note) };
    Some((label, Action::Breakpoint(Breakpoint { note, disable: disable?.unwrap_or_default() })))
}

fn unknown(node: &Node, kind: &str) -> Problem {
    if let Some((_, (why, instead))) = UNSUPPORTED.iter().find(|(name, _)| *name == kind) {
        let message = format!("visabuild does not have the provisioner `{kind}`: {why}");
        return Problem::at(node.location(), message).hint(*instead);
    }
    let problem = Problem::at(node.location(), format!("unknown provisioner `{kind}`"));
    match suggestion(kind, KINDS.map(|(name, _)| name)) {
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
    let is_generated = generated.flatten() == Some(true);
    let want = if is_generated { Want::Generated } else { Want::Any };
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
    Some(FileCopy { source: source?, destination: destination?, mode: mode?, generated: is_generated })
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
