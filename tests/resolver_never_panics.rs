//! Whatever is in a project's files, resolving it ends in a result.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use visabuild::template::{Inputs, Value, load, resolve};

const FILES: [&str; 7] = [
    "config.yml",
    "templates/system-base/manifest.yml",
    "templates/system-base/environment.yml",
    "templates/visa-base/manifest.yml",
    "templates/visa-base/environment.yml",
    "templates/visa-apps/manifest.yml",
    "packages/sssd/manifest.yml",
];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects/chain")
}

/// A copy of the healthy project with one of its files replaced.
fn project(replaced: &str, text: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let original = std::fs::read(fixture().join(file)).unwrap();
        std::fs::write(path, if file == replaced { text } else { &original[..] }).unwrap();
    }
    folder
}

/// Resolves the project; every problem in a file must have a place that exists in that file.
fn check(folder: &Path) {
    let mut inputs = Inputs { lenient: true, ..Inputs::default() };
    inputs.values.insert("root_password".to_owned(), Value::Secret("hunter2".to_owned().into()));
    let Err(error) = load(folder).and_then(|project| resolve(&project, &[], &inputs)) else { return };
    assert!(!error.problem_list().is_empty());
    for problem in error.problem_list() {
        assert!(!problem.to_string().contains("hunter2"));
        let Some(location) = &problem.location else { continue };
        let text = std::fs::read(folder.join(&location.file)).unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).split('\n').count();
        assert!(location.line >= 1 && location.column >= 1 && location.line <= lines + 1, "{problem}");
    }
}

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
        check(project(file, pieces.concat().as_bytes()).path());
    }

    #[test]
    fn of_arbitrary_bytes(file in prop::sample::select(&FILES[..]), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        check(project(file, &bytes).path());
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
        check(project(file, text.as_bytes()).path());
    }
}
