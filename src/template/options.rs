//! docs/packer-options.md: what becomes of each option of Packer's.

use std::fmt::Write;

use super::keys::builder::INSTALLER;
use super::keys::post_processor::KINDS as AFTER;
use super::keys::provisioner::KINDS;
use super::keys::{Effect, Group, Key, Refusal};

const BEGINNING: &str = "\
# Packer's options

<!-- Written from src/template/keys: `VISABUILD_WRITE_DOCS=1 cargo test --lib the_page_of_options` -->

What becomes of each option of Packer's qemu builder, its communicators, its provisioners and its post-processors. A
table in visabuild is what the resolver knows keys by and what this page is written from; a test puts each option through
the resolver. A refused option is an error with its place, the reason and what does the same. Keys that neither Packer nor
visabuild has are errors with the nearest name. Options with which a system is installed are for templates without a
parent; [machines](machines.md), [installers](installer.md) and [post-processors](post-processors.md) tell more of what works.
";

/// The page, in Markdown.
pub fn options_page() -> String {
    let mut page = BEGINNING.to_owned();
    let groups: Vec<&Group> = std::iter::once(&INSTALLER)
        .chain(KINDS.map(|(_, table)| table))
        .chain(AFTER.map(|(_, table)| table))
        .flat_map(|table| table.groups)
        .copied()
        .collect();
    let mut whose: Vec<&str> = Vec::new();
    for group in &groups {
        if !group.whose.is_empty() && !whose.contains(&group.whose) {
            whose.push(group.whose);
        }
    }
    for whose in whose {
        page.push_str(&format!("\n## {whose}\n\n| option | Packer's default | here |\n|---|---|---|\n"));
        let mut seen: Vec<&str> = Vec::new();
        for key in groups.iter().filter(|group| group.whose == whose).flat_map(|group| group.keys) {
            if let Some(default) = key.packer.filter(|_| !seen.contains(&key.name)) {
                seen.push(key.name);
                // Writing to a string cannot fail.
                let _ = writeln!(page, "| `{}` | {} | {} |", key.name, cell(default), cell(&here(key)));
            }
        }
    }
    page
}

fn here(key: &Key) -> String {
    match key.effect {
        Effect::Works => key.about.to_owned(),
        Effect::Ignored => format!("read, without effect: {}", key.about),
        Effect::Fixed { value, refusal: Refusal { why, instead }, .. } => {
            format!("only `{value}`: {why}. Otherwise: {instead}")
        }
        Effect::Refused(Refusal { why, instead }) => format!("**refused**: {why}. Instead: {instead}"),
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
