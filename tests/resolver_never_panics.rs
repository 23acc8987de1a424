//! Whatever is in a project's files, resolving it ends in a result.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../fuzz/src/project.rs"]
mod project;

use project::{FILES, Project, fixture};
use proptest::prelude::*;

/// Pieces that YAML, tera and the schema have something to say about.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \t\n]{0,3}",
        "[a-zé0-9]{1,4}",
        prop::sample::select(vec![
            "{{ ",
            " }}",
            "{% if ",
            "{% endif %}",
            "{# ",
            "{{ .Path }}",
            "{% raw %}",
            "| default('x')",
            "&a ",
            "*a",
            "<<: *a",
            "- ",
            "? ",
            ": ",
            "|\n",
            ">-\n",
            "\"",
            "'",
            "[",
            "]",
            "{",
            "}",
            ",",
            "!tag ",
            "---\n",
            "...\n",
            "# x\n",
            "%TAG ",
            "\u{feff}",
            "\u{85}",
            "\\u0091",
            "\0",
            "templates:\n  ",
            "packer:\n  ",
            "builders:\n  - ",
            "provisioners:\n  - ",
            "type: shell\n",
            "inline: ",
            "seal:\n  ",
            "environment:\n  ",
            "extends: ",
            "~",
            "0644",
            "__tera_context",
            "root_password",
        ])
        .prop_map(str::to_owned),
    ]
}

/// A change to a text: what to do, and where.
type Change = (u8, prop::sample::Index, prop::sample::Index, String);

fn changed(text: &str, (kind, from, to, piece): &Change) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let (a, b) = (from.index(lines.len()), to.index(lines.len()));
    match kind % 5 {
        0 => drop(lines.remove(a)),
        1 => lines.swap(a, b),
        2 => lines.insert(a, lines[b]),
        _ => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = from.index(chars.len() + 1);
            let end = if kind % 5 == 3 { at } else { chars.len().min(at + 1) };
            chars.splice(at..end, piece.chars());
            return chars.into_iter().collect();
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_arbitrary_text(file in prop::sample::select(&FILES[..]), pieces in prop::collection::vec(piece(), 0..30)) {
        Project::new().check_with(file, pieces.concat().as_bytes());
    }

    #[test]
    fn of_arbitrary_bytes(file in prop::sample::select(&FILES[..]), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        Project::new().check_with(file, &bytes);
    }

    #[test]
    fn of_mutated_files(
        file in prop::sample::select(&FILES[..]),
        changes in prop::collection::vec(
            (any::<u8>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), piece()),
            1..4,
        ),
    ) {
        let original = std::fs::read_to_string(fixture().join(file)).unwrap();
        let text = changes.iter().fold(original, |text, change| changed(&text, change));
        Project::new().check_with(file, text.as_bytes());
    }
}
