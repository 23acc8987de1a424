//! What is told of a finished image's packages: the list made in the guest, bills of materials, differences, release
//! notes. The tools of SPDX and CycloneDX, which `scripts/test` installs, read the bills.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::built::Built;
use support::{repository, told, visabuild};
use visabuild::inventory::{Inventory, SCRIPT};

/// A folder that stands for `/`, with packages of all kinds and with what is broken.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.write(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nSource: glibc\n\
             Version: 2.41-12\nMaintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>\nDescription: x\n\
             Homepage: https://www.gnu.org/software/libc/libc.html\n\n\
             Package: python3-yaml\nStatus: install ok installed\nArchitecture: amd64\nVersion: 6.0.2-1+b2\n\
             Source: pyyaml (6.0.2-1)\nMaintainer: Jane Doe <jane@example.org>\nDescription: x\n\n\
             Package: removed\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\nMaintainer: x <x@y.z>\n\
             Description: x\n\n",
        );
        let yaml = "usr/lib/python3/dist-packages/PyYAML-6.0.2.egg-info/PKG-INFO";
        root.write("var/lib/dpkg/info/python3-yaml.list", &format!("/.\n/usr\n/{yaml}\n"));
        root.write(yaml, "Metadata-Version: 2.1\nName: PyYAML\nVersion: 6.0.2\nLicense: MIT\n\nText\nName: no\n");
        root.metadata("numpy", "2.1.0", "License-Expression: BSD-3-Clause");
        root.metadata("hostile", "1.0", "License: \u{1b}[31m\tred");
        root.metadata("a=b", "1", "Classifier: License :: OSI Approved :: MIT License");
        root.metadata("large", "1.0", &format!("\n{}", "x".repeat(4 << 20)));
        root.write("opt/jupyter/lib/python3.13/site-packages/empty-3.dist-info/METADATA", "\n");
        root.write(
            "opt/jupyter/lib/python3.13/site-packages/bin-4.dist-info/METADATA",
            "Name: bin\0\x07\nVersion: 4\n",
        );
        root.write(
            "usr/local/lib/node_modules/npm/package.json",
            "{\n  \"name\": \"npm\",\n  \"version\": \"11.0.0\"\n}\n",
        );
        let scoped = "usr/local/lib/node_modules/npm/node_modules/@scope/a b/package.json";
        root.write(scoped, "{\"name\":\"@scope/a\",\"version\":\"1.0.0\",\"license\":\"MIT\"}");
        root.write("usr/local/lib/node_modules/npm/esm/package.json", "{\"name\":\"esm\",\"version\":\"1.0.0\"}");
        root.write("usr/local/lib/node_modules/broken/package.json", "{\"name\": \"broken\", \n");
        let long = format!("{{\"name\":\"long\",\"x\":\"{}\",\"version\":\"1.2.3\"}}", "y".repeat(40_000));
        root.write("usr/local/lib/node_modules/long/package.json", &long);
        root.write("usr/local/lib/node_modules/huge/package.json", &long.repeat(3));
        root.write("srv/lab/staging/node_modules/webpack/package.json", "{\"name\":\"webpack\",\"version\":\"5.0.0\"}");
        root.write("tmp/x/site-packages/gone-1.dist-info/METADATA", "Name: gone\nVersion: 1\n");
        root.write("opt/new\nline\ttab/site-packages/odd-1.dist-info/METADATA", "Name: odd\nVersion: 1\n");
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn metadata(&self, name: &str, version: &str, more: &str) {
        let path = format!("opt/jupyter/lib/python3.13/site-packages/{name}-{version}.dist-info/METADATA");
        self.write(&path, &format!("Name: {name}\r\nVersion: {version}\r\n{more}\r\n\r\nText\n"));
    }

    /// Runs the script as the guest does, with `path` before the search path.
    fn list(&self, path: &str) -> String {
        let script = self.0.path().join("script");
        fs::write(&script, SCRIPT).unwrap();
        let mut command = Command::new("sh");
        let search = format!("{path}{}", std::env::var("PATH").unwrap());
        command.args(["-s", "--"]).arg(self.0.path()).stdin(fs::File::open(script).unwrap()).env("PATH", search);
        let (out, err, code) = told(&command.output().unwrap());
        assert_eq!((err.as_str(), code), ("", 0));
        out
    }
}

fn shown(inventory: &Inventory) -> Vec<String> {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let lists = [&inventory.debian, &inventory.python, &inventory.npm];
    let line = |entry: &visabuild::inventory::Entry| {
        let last = if entry.path.is_some() { &entry.owner } else { &entry.source };
        format!("{} {} {} {} {}", entry.name, entry.version, word(&entry.license), word(&entry.path), word(last))
    };
    lists.into_iter().flatten().map(line).collect()
}

const LISTED: [&str; 12] = [
    "libc6 2.41-12 - - glibc",
    "python3-yaml 6.0.2-1+b2 - - pyyaml",
    "PyYAML 6.0.2 MIT /usr python3-yaml",
    "a=b 1 MIT /opt/jupyter -",
    "bin 4 - /opt/jupyter -",
    "empty 3 - /opt/jupyter -",
    "hostile 1.0 [31m red /opt/jupyter -",
    "large 1.0 - /opt/jupyter -",
    "numpy 2.1.0 BSD-3-Clause /opt/jupyter -",
    "odd 1 - /opt/new line tab/site-packages -",
    "@scope/a 1.0.0 MIT /usr/local/lib -",
    "long 1.2.3 - /usr/local/lib -",
];

#[test]
fn the_list_of_a_guest_has_what_is_installed_and_outlives_what_is_broken() {
    let root = Root::new();
    let inventory = Inventory::read(root.list("").lines());
    let listed = shown(&inventory);
    assert_eq!(listed[..12], LISTED);
    assert_eq!(listed[12..], ["npm 11.0.0 - /usr/local/lib -"]);
    assert!(!inventory.is_cut);
}

/// Debian has mawk; Fedora's kin have gawk, and busybox has its own.
#[test]
fn every_awk_lists_the_same() {
    let root = Root::new();
    let wanted = root.list("");
    for (name, arguments) in [("gawk", ""), ("mawk", ""), ("busybox", "awk"), ("original-awk", "")] {
        let known = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
        if known.status.success() {
            let folder = tempfile::tempdir().unwrap();
            let awk = folder.path().join("awk");
            fs::write(&awk, format!("#!/bin/sh\nexec {name} {arguments} \"$@\"\n")).unwrap();
            fs::set_permissions(&awk, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            assert_eq!(root.list(&format!("{}:", folder.path().display())), wanted, "{name}");
        }
    }
}

/// A project's results with made-up images.
struct Results(tempfile::TempDir);

impl Results {
    fn new() -> Self {
        let results = Self(tempfile::tempdir().unwrap());
        results.image("old", &json!({}));
        results.image("new", &newer());
        results
    }

    fn path(&self, template: &str) -> PathBuf {
        self.0.path().join("builds").join(template).join(format!("{template}.qcow2"))
    }

    fn image(&self, template: &str, more: &Value) {
        let image = self.path(template);
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        fs::write(&image, template).unwrap();
        fs::write(image.with_extension("manifest.json"), manifest(template, 3, more).to_string()).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (String, String, i32) {
        told(&visabuild().current_dir(self.0.path()).args(arguments).output().unwrap())
    }
}

/// The manifest of an image of `size` bytes, with `more` in it.
fn manifest(template: &str, size: usize, more: &Value) -> Value {
    let mut manifest = json!({
        "version": 1, "template": template, "description": "Desktop for <users>\n", "visabuild": "0.1.0",
        "created": "2026-11-21T11:50:00Z", "commit": "abc-dirty", "os": {"id": "debian", "version": "13"},
        "image": {"file": format!("{template}.qcow2"), "format": "qcow2", "virtual_size": 10_737_418_240_u64,
            "size": size, "sha256": "a".repeat(64), "sha512": "b".repeat(128)},
        "inputs": {"seal_fingerprint": "f"}, "warnings": [], "packages": {"libc6": "2.41-11"},
        "inventory": {
            "debian": [
                {"name": "libc6", "version": "2.41-11", "architecture": "amd64", "source": "glibc",
                 "supplier": "GNU Libc Maintainers <debian-glibc@lists.debian.org>",
                 "homepage": "https://www.gnu.org/software/libc/libc.html"},
                {"name": "old", "version": "1:1.0~rc1+x-1", "architecture": "all",
                 "supplier": "Jürgen (x) Müller <j@example.org>"},
            ],
            "python": [
                {"name": "numpy", "version": "2.1.0", "license": "BSD-3-Clause", "path": "/opt/a"},
                {"name": "numpy", "version": "2.1.0", "license": "BSD-3-Clause", "path": "/opt/b"},
                {"name": "ruamel.yaml", "version": "0.18+local.1", "license": "MIT license", "path": "/opt/a"},
            ],
            "npm": [{"name": "@jupyterlab/core", "version": "4.0.0-rc.1+b", "license": "(MIT OR Apache-2.0)",
                "path": "/usr/local/lib"}],
        },
    });
    for (name, value) in more.as_object().unwrap() {
        manifest[name] = value.clone();
    }
    manifest
}

fn newer() -> Value {
    let changes = json!({
        "previous": {"created": "2026-11-01T08:00:00Z", "sha256": "c".repeat(64), "visabuild": "0.1.0", "commit": null},
        "packages": {
            "added": [{"ecosystem": "debian", "name": "xterm", "version": "400-1"}], "removed": [], "downgraded": [],
            "upgraded": [{"ecosystem": "python", "name": "numpy", "path": "/opt/a", "old": "2.1.0", "new": "2.2.0"}],
            "changed": [], "not_compared": ["npm"],
        },
        "inputs": {"parts": [{"kind": "step", "index": 0, "label": "install.sh", "place": "manifest.yml:3:5",
            "how": "changed", "details": [{"value": {"name": "env.LANG", "old": "C", "new": null}}]}],
            "secrets": ["root_password"], "settings": []},
    });
    json!({
        "changes": changes, "warnings": ["guacd 1.4.0 is past its end of life"], "end_of_life": true,
        "inventory": {
            "debian": [{"name": "libc6", "version": "2.41-12", "architecture": "amd64"}],
            "python": [
                {"name": "numpy", "version": "2.2.0", "path": "/opt/a"},
                {"name": "numpy", "version": "2.0.1", "path": "/opt/b"},
                {"name": "ruamel-yaml", "version": "0.18+local.1", "path": "/opt/a"},
            ],
            "npm": [{"name": "@jupyterlab/core", "version": "nightly", "path": "/usr/local/lib"}],
        },
    })
}

/// What the tools of the form's own project say of a file.
fn check(format: &str, file: &Path) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bills/venv/bin");
    let mut command = Command::new(folder.join("python"));
    command.arg(repository().join("tests/support/bills/check.py")).arg(format).arg(file);
    let (out, err, code) = told(&command.output().expect("scripts/test has installed the tools"));
    if code == 0 { String::new() } else { format!("exit {code}: {out}{err}") }
}

#[test]
fn bills_of_materials_are_valid_by_their_own_projects_tools() {
    let results = Results::new();
    for format in ["spdx", "cyclonedx"] {
        // A name without a folder.
        let name = format!("bill.{format}.json");
        let file = results.0.path().join(&name);
        let written = results.run(&["sbom", "old", "--format", format, "--output", &name]);
        assert_eq!(written, (String::new(), String::new(), 0));
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            results.run(&["sbom", "builds/old/old.qcow2", "--format", format]),
            (text.clone(), String::new(), 0)
        );
        assert_eq!(check(format, &file), "", "{text}");
        // They do tell what is wrong.
        fs::write(&file, text.replace(&"a".repeat(64), "no checksum")).unwrap();
        assert!(check(format, &file).starts_with("exit 1"), "{format}");
    }
}

#[test]
fn the_bills_are_the_recorded_ones() {
    let results = Results::new();
    for format in ["spdx", "cyclonedx"] {
        let (out, _, _) = results.run(&["sbom", "old", "--format", format]);
        insta::assert_snapshot!(format!("bill_{format}"), out);
    }
}

#[test]
fn two_images_differ_in_packages() {
    let results = Results::new();
    let (out, err, code) = results.run(&["diff", "old", "builds/new/new.manifest.json"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(
        out,
        "Debian packages\n  - old 1:1.0~rc1+x-1\n  > libc6 2.41-11 → 2.41-12\n\
         Python distributions\n  > numpy 2.1.0 → 2.2.0  (/opt/a)\n  < numpy 2.1.0 → 2.0.1  (/opt/b)\n\
         npm packages\n  ~ @jupyterlab/core 4.0.0-rc.1+b → nightly  (/usr/local/lib)\n"
    );
    let (out, _, _) = results.run(&["diff", "old", "new", "--json"]);
    let changes: Value = serde_json::from_str(&out).unwrap();
    let wanted = json!([{"ecosystem": "debian", "name": "libc6", "old": "2.41-11", "new": "2.41-12"},
        {"ecosystem": "python", "name": "numpy", "path": "/opt/a", "old": "2.1.0", "new": "2.2.0"}]);
    assert_eq!(changes["upgraded"], wanted);
    assert_eq!(results.run(&["diff", "new", "new"]), ("no package is another one\n".to_owned(), String::new(), 0));
}

#[test]
fn a_release_note_says_what_changed() {
    let results = Results::new();
    let (out, err, code) = results.run(&["release-note", "new"]);
    assert_eq!((err.as_str(), code), ("", 0));
    insta::assert_snapshot!("release_note", out);
}

#[test]
fn what_is_not_there_is_said() {
    let results = Results::new();
    let told = |arguments: &[&str]| {
        let (out, err, code) = results.run(arguments);
        assert_eq!((out.as_str(), code), ("", 2));
        err
    };
    let err = told(&["diff", "one", "two"]);
    assert!(err.contains("there is no image one") && err.contains("there is no image two"), "{err}");
    assert!(told(&["sbom", "x.manifest.json"]).contains("there is no manifest x.manifest.json"));
    fs::write(results.path("old"), "another size").unwrap();
    assert!(told(&["sbom", "old"]).contains("is not the image that"));
    fs::remove_file(results.path("old").with_extension("manifest.json")).unwrap();
    let err = told(&["release-note", "old"]);
    assert!(err.contains("there is no manifest beside") && err.contains("hint: visabuild writes"), "{err}");
    fs::write(results.path("new").with_extension("manifest.json"), "{\"version\": 1").unwrap();
    assert!(told(&["sbom", "new"]).contains("is no manifest"));
    let err = told(&["sbom", "new", "--format", "swid"]);
    assert!(err.contains("spdx, cyclonedx"), "{err}");
}

const POST_PROCESSORS: &str = "\
packer:
  post-processors:
    - - {type: sbom, formats: [spdx, cyclonedx]}
      - package-diff
      - {type: package-diff, format: json}
      - {type: release-note, output: \"{{ .BuildName }}.md\"}
      - {type: checksum, checksum_types: [sha256], output: sums}
";

/// A project whose `app` is built, with these post-processors.
fn built(post_processors: &str) -> Built {
    let bench = Built::new();
    bench.write("templates/app/manifest.yml", post_processors);
    let (cache, plan) = (bench.cache(), bench.plan());
    plan.stages.iter().for_each(|stage| bench.publish(&cache, &plan, stage));
    bench.write("builds/app/app.manifest.json", &manifest("app", "image".len(), &newer()).to_string());
    bench
}

#[test]
fn post_processors_write_the_same_and_are_in_the_chain() {
    let bench = built(POST_PROCESSORS);
    let (out, err, code) = bench.run(&["build"]);
    assert_eq!(code, 0, "{out}{err}");
    let made = |name: &str| fs::read_to_string(bench.path("builds/app").join(name)).unwrap();
    assert_eq!(made("app.spdx.json"), bench.says(&["sbom", "app"]));
    assert_eq!(made("app.cdx.json"), bench.says(&["sbom", "app", "--format", "cyclonedx"]));
    assert_eq!(made("app.md"), bench.says(&["release-note", "app"]));
    assert_eq!(
        made("app.changes.txt"),
        format!(
            "app of 2026-11-21T11:50:00Z, since the image of 2026-11-01T08:00:00Z (SHA-256 {})\n\n\
             Debian packages\n  + xterm 400-1\nPython distributions\n  > numpy 2.1.0 → 2.2.0  (/opt/a)\n\
             not compared: npm packages, of which one of the manifests has no whole list\n",
            "c".repeat(64)
        )
    );
    let changes: Value = serde_json::from_str(&made("app.changes.json")).unwrap();
    assert_eq!(changes["packages"], newer()["changes"]["packages"]);
    assert_eq!(made("sums").lines().count(), 6);
    let (_, err, _) = bench.run(&["build"]);
    assert!(!err.contains("post-processor"), "{err}");
}

#[test]
fn post_processors_that_cannot_be_are_told_at_their_places() {
    let bench = Built::new();
    let text = "packer:\n  post-processors:\n    - {type: sbom, formats: [spdx, cyclonedx], output: x}\n    \
                - {type: sbom, formats: [swid]}\n    - {type: package-diff, format: jsn}\n    - {type: release-note, x: y}\n";
    bench.write("templates/app/manifest.yml", text);
    let (out, err, code) = bench.run(&["validate"]);
    assert_eq!((out.as_str(), code), ("", 2));
    for wanted in [
        "`x` would hold SBOMs of two forms",
        "write `{{ .SbomFormat }}` into the name",
        "unknown form `swid`",
        "unknown form `jsn`",
        "manifest.yml:6",
    ] {
        assert!(err.contains(wanted), "{wanted}: {err}");
    }
}
