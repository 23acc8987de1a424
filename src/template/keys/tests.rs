//! The tables say what the resolver does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::builder::{BOOTSTRAP, CHILD, INSTALLER};
use super::project::{CACHE_KEY, CHOICE, CONFIG, DECLARATION, ENVIRONMENT, MANIFEST, PACKAGE, PACKER, SEAL, VERIFY};
use super::provisioner::{ANSIBLE, BREAKPOINT, FILE, KINDS, SHELL, SHELL_LOCAL};
use super::{Effect, Group, Key, Refusal, Table, post_processor};
use crate::template::schema::{Document, schema};
use crate::template::{Inputs, load, options::options_page, resolve};

/// A mapping of YAML, from the inside of a flow mapping.
fn mapping(text: &str) -> Mapping {
    serde_yaml::from_str(&format!("{{{text}}}")).unwrap()
}

/// A place for a table's mapping: what stands in it beside a key, and the files of a project around it.
struct Place {
    table: &'static Table,
    around: &'static str,
    files: fn(String) -> Vec<(&'static str, String)>,
}

const BASE: &str = "templates/base/manifest.yml";
const APPS: &str = "templates/apps/manifest.yml";

fn post(mut text: String) -> Vec<(&'static str, String)> {
    text.insert_str(0, "packer: {post-processors: [");
    apps(text + "]}")
}

fn apps(text: String) -> Vec<(&'static str, String)> {
    vec![(APPS, text)]
}

const PLACES: [Place; 24] = [
    Place { table: &CONFIG, around: "templates: {base: }", files: |text| vec![("config.yml", text)] },
    Place {
        table: &DECLARATION,
        around: "extends: base",
        files: |text| vec![("config.yml", format!("templates: {{base: , apps: {text}}}"))],
    },
    Place { table: &MANIFEST, around: "", files: apps },
    Place { table: &PACKER, around: "", files: |text| apps(format!("packer: {text}")) },
    Place { table: &SEAL, around: "", files: |text| apps(format!("seal: {text}")) },
    Place { table: &VERIFY, around: "contract: cloud", files: |text| apps(format!("verify: {text}")) },
    Place { table: &CHOICE, around: "", files: |text| apps(format!("alternatives: {{method: {{a: {text}}}}}")) },
    Place {
        table: &CACHE_KEY,
        around: "key: x",
        files: |text| apps(format!("packer: {{provisioners: [{{type: shell, inline: [a], cache: {text}}}]}}")),
    },
    Place {
        table: &PACKAGE,
        around: "",
        files: |text| {
            vec![
                ("config.yml", "templates: {base: , apps: {extends: base, packages: [one]}}".to_owned()),
                ("packages/one/manifest.yml", text),
            ]
        },
    },
    Place { table: &ENVIRONMENT, around: "", files: |text| vec![("templates/apps/environment.yml", text)] },
    Place {
        table: &BOOTSTRAP,
        around: "type: bootstrap, suite: trixie",
        files: |text| vec![(BASE, format!("packer: {{builders: [{text}]}}"))],
    },
    Place {
        table: &INSTALLER,
        around: "type: qemu, iso_url: /medium.iso, iso_checksum: none",
        files: |text| vec![(BASE, format!("packer: {{builders: [{text}]}}"))],
    },
    Place { table: &CHILD, around: "type: qemu", files: |text| apps(format!("packer: {{builders: [{text}]}}")) },
    Place {
        table: &SHELL,
        around: "type: shell, inline: [a]",
        files: |text| apps(format!("packer: {{provisioners: [{text}]}}")),
    },
    Place {
        table: &FILE,
        around: "type: file, content: a, destination: /a",
        files: |text| apps(format!("packer: {{provisioners: [{text}]}}")),
    },
    Place {
        table: &ANSIBLE,
        around: "type: ansible, playbook_file: note",
        files: |text| apps(format!("packer: {{provisioners: [{text}]}}")),
    },
    Place {
        table: &BREAKPOINT,
        around: "type: breakpoint",
        files: |text| apps(format!("packer: {{provisioners: [{text}]}}")),
    },
    Place {
        table: &SHELL_LOCAL,
        around: "type: shell-local, inline: [a]",
        files: |text| apps(format!("packer: {{provisioners: [{text}]}}")),
    },
    Place { table: &post_processor::CHECKSUM, around: "type: checksum", files: post },
    Place { table: &post_processor::COMPRESS, around: "type: compress", files: post },
    Place { table: &post_processor::MANIFEST, around: "type: manifest", files: post },
    Place { table: &post_processor::ARTIFICE, around: "type: artifice, files: [a]", files: post },
    Place { table: &post_processor::SHELL_LOCAL, around: "type: shell-local, inline: [a]", files: post },
    Place { table: &post_processor::CONVERT, around: "type: convert, format: raw", files: post },
];

/// Keys of which each stands for the others.
const EXCLUSIVE: [&[&str]; 6] = [
    &["command", "inline", "script", "scripts"],
    &["source", "sources", "content"],
    &["playbook_file", "playbook_files"],
    &["iso_url", "iso_urls"],
    &["kernel", "kernel_urls"],
    &["initrd", "initrd_urls"],
];

/// The files of a project whose `place` has this key with this value.
fn project(place: &Place, key: &Key, value: &str) -> Vec<(&'static str, String)> {
    let mut all = mapping(place.around);
    all.extend(mapping(key.beside));
    for group in EXCLUSIVE.iter().filter(|group| group.contains(&key.name)) {
        all.retain(|name, _| !group.contains(&name.as_str().unwrap_or_default()));
    }
    if key.name != "type" {
        all.insert(key.name.into(), serde_yaml::from_str::<Value>(value).unwrap());
    }
    (place.files)(serde_json::to_string(&all).unwrap())
}

/// Whatever is wrong with a project that has these files among its own.
fn problems(files: &[(&'static str, String)]) -> Vec<(String, Option<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let sound = [
        ("config.yml", "templates: {base: , apps: {extends: base}}".to_owned()),
        (BASE, "packer: {builders: [{type: bootstrap, suite: trixie}]}".to_owned()),
        (APPS, String::new()),
        ("templates/base/http/preseed.cfg", "text".to_owned()),
        ("note", "text".to_owned()),
        ("templates/base/note", "text".to_owned()),
        ("packages/one/manifest.yml", String::new()),
    ];
    for (file, text) in sound.iter().chain(files) {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        // A script of the host has to be.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let inputs = Inputs { lenient: true, ..Inputs::default() };
    let Err(error) = load(folder.path()).and_then(|project| resolve(&project, &[], &inputs)) else { return Vec::new() };
    error.problem_list().iter().map(|problem| (problem.message.clone(), problem.hint.clone())).collect()
}

#[test]
fn each_key_is_taken_or_refused_as_its_table_says() {
    for place in &PLACES {
        for (whose, key) in place.table.keys() {
            let said = problems(&project(place, key, key.example));
            let expected = match key.effect {
                Effect::Refused(Refusal { why, instead }) => {
                    let message = format!("`{}` is an option of {whose} that visabuild does not have: {why}", key.name);
                    vec![(message, Some(instead.to_owned()))]
                }
                _ => Vec::new(),
            };
            assert_eq!(said, expected, "{}: {}", place.table.name, key.name);
            if let Effect::Fixed { value, other, refusal: Refusal { why, instead } } = key.effect {
                let message = format!("`{}` can only be `{value}` here, not `{other}`: {why}", key.name);
                assert_eq!(problems(&project(place, key, other)), [(message, Some(instead.to_owned()))]);
            }
        }
    }
}

/// Values of all forms, some of them right for any key.
const VALUES: [&str; 12] =
    ["", "true", "0", "'4'", "-1", "10G", "30s", "a b", "'{{ vm_name }}'", "[]", "[a]", "{a: b}"];

/// Whether a child's builder has these keys, too.
fn shared(group: &Group) -> bool {
    CHILD.groups.iter().any(|own| own.keys.iter().map(|key| key.name).eq(group.keys.iter().map(|key| key.name)))
}

#[test]
fn a_schema_is_never_stricter_than_the_resolver() {
    let validators = [Document::Config, Document::Manifest, Document::Environment, Document::Package]
        .map(|document| jsonschema::validator_for(&schema(document)).unwrap());
    let [config, manifest, environment, package] = &validators;
    let is_valid = |(file, text): &(&str, String)| {
        let validator = match *file {
            "config.yml" => config,
            file if file.starts_with("packages/") => package,
            file if file.ends_with("environment.yml") => environment,
            _ => manifest,
        };
        validator.is_valid(&serde_yaml::from_str(text).unwrap())
    };
    let mut both = 0;
    for place in &PLACES {
        // What all builders have is looked at in one of them.
        let others = [&BOOTSTRAP, &INSTALLER].iter().any(|table| table.name == place.table.name);
        let groups = place.table.groups.iter().filter(|group| !others || !shared(group));
        for key in groups.flat_map(|group| group.keys) {
            let values = if key.is_taken() { &VALUES[..] } else { &[] };
            for value in values.iter().copied().chain([key.example]) {
                let files = project(place, key, value);
                let said = problems(&files);
                let valid = files.iter().all(is_valid);
                assert!(valid || !said.is_empty(), "{}: `{}: {value}`", place.table.name, key.name);
                both += usize::from(valid && said.is_empty());
                // What no schema can know is told by the resolver alone; what is no key at all, by both.
                assert!(!valid || key.is_taken(), "{}: {}", place.table.name, key.name);
            }
        }
    }
    assert!(both > 500, "{both}");
}

#[test]
fn every_option_of_packers_is_told_once_and_well() {
    let after = post_processor::KINDS.map(|(_, table)| table);
    for table in std::iter::once(&INSTALLER).chain(KINDS.map(|(_, table)| table)).chain(after) {
        let names: Vec<_> = table.keys().map(|(_, key)| key.name).collect();
        let again = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
        assert_eq!(again, None, "{}", table.name);
        for (_, key) in table.keys() {
            let refusal = match key.effect {
                Effect::Fixed { refusal, .. } | Effect::Refused(refusal) => Some(refusal),
                _ => None,
            };
            let told =
                refusal.map_or(!key.about.is_empty(), |refusal| !refusal.why.is_empty() && !refusal.instead.is_empty());
            assert!(told, "{}", key.name);
        }
    }
}

/// The options that packer-plugin-qemu 1.1.4, packer-plugin-sdk 0.6 and Packer 1.16 document.
const DOCUMENTED: &str = include_str!("packer-options.txt");

#[test]
fn no_option_of_packers_is_missing() {
    let mut table = None;
    for line in DOCUMENTED.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some("builder") => table = Some(&INSTALLER),
            Some("shell-local after") => table = Some(&post_processor::SHELL_LOCAL),
            Some(kind) => {
                let all = KINDS.iter().chain(&post_processor::KINDS);
                table = all.into_iter().find(|(name, _)| *name == kind).map(|(_, table)| *table);
            }
            _ => {
                let found = table.unwrap().find(line).and_then(|(_, key)| key.packer);
                assert!(found.is_some(), "{line}");
            }
        }
    }
}

#[test]
fn the_page_of_options_is_the_tables() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/packer-options.md");
    let page = options_page();
    let before = std::fs::read_to_string(&file).unwrap();
    if std::env::var_os("VISABUILD_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    assert!(before == page, "write it anew: VISABUILD_WRITE_DOCS=1");
}
