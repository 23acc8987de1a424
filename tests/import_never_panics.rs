//! Whatever is in a Packer project, its import ends in a result, soon and in little memory.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../fuzz/src/import.rs"]
mod import_check;

use std::path::{Path, PathBuf};
use std::time::Instant;

use import_check::{Folder, SOON, check};
use proptest::prelude::*;
use visabuild::packer::{Request, import};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/packer")
}

const CORPUS: [(&str, &str); 6] = [
    ("debian-preseed", "debian.json"),
    ("windows", "windows.json"),
    ("ubuntu-autoinstall", "ubuntu.pkr.hcl"),
    ("rocky-kickstart", "rocky.pkr.hcl"),
    ("rocky-kickstart", "site.auto.pkrvars.hcl"),
    ("cloud-image", "cloud.pkr.hcl"),
];

/// A copy of a fixture with one of its files replaced.
fn project(fixture: &str, replaced: &str, text: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures().join(fixture);
    for entry in walkdir::WalkDir::new(&from) {
        let entry = entry.unwrap();
        let target = folder.path().join(entry.path().strip_prefix(&from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    std::fs::write(folder.path().join(replaced), text).unwrap();
    folder
}

/// Pieces that both languages have something to say about.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \t\n]{0,3}",
        "[a-zé0-9.]{1,4}",
        prop::sample::select(vec![
            "${",
            "%{",
            "}",
            "~}",
            "{",
            "[",
            "]",
            "(",
            ")",
            "\"",
            "\\",
            "<<EOT\n",
            "<<-EOT\n",
            "EOT\n",
            "=",
            ",",
            "...",
            "for x in ",
            ": ",
            "if ",
            "endif",
            "endfor",
            "var.",
            "local.",
            "[*]",
            ".*",
            "range(",
            "format(",
            "join(",
            "{{",
            "}}",
            "{{ user `x` }}",
            "isotime ",
            "/*",
            "*/",
            "#",
            "//",
            "dynamic \"a\" {",
            "for_each",
            "content {",
            "source \"qemu\" \"a\" {",
            "build {",
            "null",
            "true",
            "1e9",
            "-",
            "!",
            "? ",
            "&&",
            "==",
            "%",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..2) {
        Folder::new().check_with(["a.json", "a.pkr.hcl"][at], &bytes);
    }

    #[test]
    fn of_pieces(pieces in prop::collection::vec(piece(), 0..40), at in 0usize..3) {
        let text = pieces.concat();
        let (name, text) = match at {
            0 => ("a.pkr.hcl", text),
            1 => ("a.pkr.hcl", format!("locals {{\n  a = {text}\n}}\nsource \"qemu\" \"a\" {{\n  memory = local.a\n}}\nbuild {{\n  sources = [\"qemu.a\"]\n}}\n")),
            _ => ("a.json", serde_json::json!({"builders": [{"type": "qemu", "memory": text}]}).to_string()),
        };
        Folder::new().check_with(name, text.as_bytes());
    }

    #[test]
    fn of_a_mutated_project(
        which in 0usize..CORPUS.len(),
        at in any::<prop::sample::Index>(),
        gone in 0usize..30,
        put in piece(),
    ) {
        let (fixture, name) = CORPUS[which];
        let mut text = std::fs::read(fixtures().join(fixture).join(name)).unwrap();
        let at = at.index(text.len());
        let end = (at + gone).min(text.len());
        text.splice(at..end, put.into_bytes());
        check(project(fixture, name, &text).path());
    }
}

/// A project with this expression in it.
fn expression(locals: &str, value: &str) -> String {
    format!(
        "locals {{\n{locals}\n}}\nsource \"qemu\" \"a\" {{\n  iso_url = \"http://h/x\"\n  iso_checksum = \"none\"\n  \
         memory = {value}\n}}\nbuild {{\n  sources = [\"qemu.a\"]\n}}\n"
    )
}

fn said(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let output = folder.path().join("new");
    let begin = Instant::now();
    let request = Request { path: folder.path().join(name), output, ..Request::default() };
    let error = import(&request).unwrap_err();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let all: Vec<_> = error.problem_list().iter().map(|problem| problem.message.clone()).collect();
    all.join("\n")
}

#[test]
fn bombs_are_no_danger() {
    let nested = (0..8).fold("1".to_owned(), |inner, at| format!("[for x{at} in range(1000) : {inner}]"));
    assert!(said("a.pkr.hcl", &expression("", &nested)).contains("the template"));

    let doubled: Vec<_> =
        (1..40).map(|at| format!("  s{at} = \"${{local.s{}}}${{local.s{}}}\"", at - 1, at - 1)).collect();
    let strings = format!("  s0 = \"0123456789abcdef\"\n{}", doubled.join("\n"));
    assert!(
        said("a.pkr.hcl", &expression(&strings, "local.s39")).contains("the template's values take more than 64 MiB")
    );

    assert!(said("a.pkr.hcl", &expression("", "range(1000000000)")).contains("a list of more than 10000 numbers"));
    assert!(said("a.pkr.hcl", &expression("", "format(\"%999999999d\", 1)")).contains("a width is at most 1000"));
    let indented = "indent(4000000000, join(\"\\n\", range(1000)))";
    assert!(said("a.pkr.hcl", &expression("", indented)).contains("the result is too large"));
    let looped = "\"%{ for a in range(9000) }%{ for b in range(9000) }x%{ endfor }%{ endfor }\"";
    assert!(said("a.pkr.hcl", &expression("", looped)).contains("the template"));

    let chain: Vec<_> = (1..500).map(|at| format!("  s{at} = local.s{}", at - 1)).collect();
    let chain = format!("  s0 = 1\n{}", chain.join("\n"));
    assert!(said("a.pkr.hcl", &expression(&chain, "local.s499")).contains("more than 100 levels deep"));
    for open in ["[", "(", "{a=", "\"${"] {
        let deep = open.repeat(100_000);
        assert!(said("a.pkr.hcl", &expression("", &deep)).contains("HCL"), "{open}");
    }
    let long = "0123456789abcdef".repeat(4000);
    let joined = format!("join(\"{long}\", range(9000))");
    assert!(said("a.pkr.hcl", &expression("", &joined)).contains("the template's values take more than 64 MiB"));
    let listed = format!("formatlist(\"{long}%s\", range(9000))");
    assert!(said("a.pkr.hcl", &expression("", &listed)).contains("the template's values take more than 64 MiB"));
    let replaced = format!("regex_replace(\"{long}\", \".*\", \"{}\")", "$0".repeat(9000));
    assert!(said("a.pkr.hcl", &expression("", &replaced)).contains("the template's values take more than 64 MiB"));
    let expressions = "[for a in range(9000) : regex(\"x{999}\", \"x\")]";
    assert!(!said("a.pkr.hcl", &expression("", expressions)).is_empty());
    let matched = "[for a in range(9000) : regex_replace(\"x\", \"[a-z]{500}\", a)]";
    assert!(said("a.pkr.hcl", &expression("", matched)).contains("more than 200000 steps"));

    let mut doubled = serde_json::Map::from_iter([("s0".to_owned(), "0123456789abcdef".into())]);
    for at in 1..40 {
        doubled.insert(format!("s{at}"), format!("{{{{user `s{0}`}}}}{{{{user `s{0}`}}}}", at - 1).into());
    }
    let json = |variables| serde_json::json!({"variables": variables, "builders": [{"type": "qemu"}]}).to_string();
    assert!(said("a.json", &json(doubled)).contains("the template's values take more than 64 MiB"));
    let chain = " | replace_all `a` `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`".repeat(30);
    let chain = serde_json::Map::from_iter([("a".to_owned(), format!("{{{{ `a`{chain} }}}}").into())]);
    assert!(said("a.json", &json(chain)).contains("the template's values take more than 64 MiB"));

    assert!(said("a.json", &"[".repeat(100_000)).contains("recursion limit"));
    assert!(said("a.json", &format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100))).contains("deep"));
}

#[test]
fn many_of_everything_take_their_time_once() {
    let sources: String = (0..300).map(|at| format!("\"qemu.a{at}\", ")).collect();
    let declared: String = (0..300).map(|at| format!("source \"qemu\" \"a{at}\" {{}}\n")).collect();
    let steps = "  provisioner \"ansible\" {}\n".repeat(300);
    let text = format!("{declared}build {{\n  sources = [{sources}]\n{steps}}}\n");
    assert!(said("a.pkr.hcl", &text).contains("more than 100 images"));
    let times: Vec<_> = (0..5000).map(|at| format!("{{{{ isotime \"{at} 2006\" }}}}")).collect();
    let json = serde_json::json!({"builders": [{"type": "qemu", "memory": times}]});
    assert!(said("a.json", &json.to_string()).contains("too many ways"));
}

#[test]
fn only_regular_files_are_read() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    for name in ["a.pkr.hcl", "a.json"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let request =
            Request { path: folder.path().to_owned(), output: folder.path().join("new"), ..Request::default() };
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(!import(&request).unwrap_err().problem_list().is_empty());
        std::fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(!import(&request).unwrap_err().problem_list().is_empty());
    }
}
