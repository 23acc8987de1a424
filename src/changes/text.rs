//! Changed packages as text for people.

use std::fmt::Write as _;

use super::{PackageChanges, Present, Replaced};
use crate::inventory::Ecosystem;

/// One line a package: `+` added, `-` removed, `>` upgraded, `<` downgraded, `~` changed; a heading for each kind.
// Writing to a String cannot fail, so the results of `writeln!` are not looked at.
pub fn text(changes: &PackageChanges) -> String {
    let mut out = String::new();
    for kind in Ecosystem::ALL {
        let lines = lines(changes, kind);
        if !lines.is_empty() {
            let _ = writeln!(out, "{}", kind.title());
            lines.iter().for_each(|line| {
                let _ = writeln!(out, "  {line}");
            });
        }
    }
    if out.is_empty() {
        out.push_str("no package is another one\n");
    }
    for kind in &changes.not_compared {
        let _ = writeln!(out, "not compared: {}, of which one of the manifests has no whole list", kind.title());
    }
    out
}

fn lines(changes: &PackageChanges, kind: Ecosystem) -> Vec<String> {
    let present = |sign: char, list: &[Present]| {
        let of = list.iter().filter(|one| one.ecosystem == kind);
        of.map(|one| format!("{sign} {} {}{}", one.name, one.version, place(one.path.as_deref()))).collect::<Vec<_>>()
    };
    let replaced = |sign: char, list: &[Replaced]| {
        let of = list.iter().filter(|one| one.ecosystem == kind);
        let line =
            |one: &Replaced| format!("{sign} {} {} → {}{}", one.name, one.old, one.new, place(one.path.as_deref()));
        of.map(line).collect::<Vec<_>>()
    };
    let mut lines = present('+', &changes.added);
    lines.extend(present('-', &changes.removed));
    lines.extend(replaced('>', &changes.upgraded));
    lines.extend(replaced('<', &changes.downgraded));
    lines.extend(replaced('~', &changes.changed));
    lines
}

fn place(path: Option<&str>) -> String {
    path.map(|path| format!("  ({path})")).unwrap_or_default()
}
