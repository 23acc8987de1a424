//! `visabuild schema`: editors say of a project's files what visabuild says.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use support::{repository, told, visabuild};

fn schema(document: &[&str]) -> Value {
    let (out, err, code) = told(&visabuild().arg("schema").args(document).output().unwrap());
    assert_eq!((err.as_str(), code), ("", 0));
    serde_json::from_str(&out).unwrap()
}

fn validator(document: &str) -> Validator {
    let schema = schema(&[document]);
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "{document}");
    jsonschema::options().with_draft(Draft::Draft202012).build(&schema).unwrap()
}

/// YAML as an editor reads it, with merge keys applied.
fn yaml(text: &str) -> Value {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

fn problems(validator: &Validator, text: &str) -> Vec<String> {
    validator.iter_errors(&yaml(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The files of all good projects that this repository has.
fn good() -> Vec<PathBuf> {
    let roots = ["", "examples", "tests/fixtures/projects"].map(|root| repository().join(root));
    let below = |root: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(root.to_owned()).chain(entries).filter(|path| path.join("config.yml").is_file()).collect()
    };
    let projects: Vec<_> = roots.iter().flat_map(|root| below(root)).collect();
    let of_project = |project: &PathBuf| -> Vec<PathBuf> {
        let folders = ["templates", "packages"].map(|folder| project.join(folder));
        let entries = folders.iter().flat_map(|folder| walkdir::WalkDir::new(folder).max_depth(2));
        let names = ["manifest.yml", "environment.yml"];
        let files = entries.flatten().map(walkdir::DirEntry::into_path);
        let files = files.filter(|path| names.iter().any(|name| path.ends_with(name)));
        std::iter::once(project.join("config.yml")).chain(files).collect()
    };
    projects.iter().flat_map(of_project).collect()
}

#[test]
fn all_good_projects_are_valid() {
    let all = ["config", "manifest", "environment", "package"].map(|name| (name, validator(name)));
    let good = good();
    assert!(good.len() >= 20, "{good:?}");
    for path in good {
        let name = match path.file_stem().unwrap().to_str().unwrap() {
            "manifest" if path.components().any(|part| part.as_os_str() == "packages") => "package",
            name => name,
        };
        let (_, validator) = all.iter().find(|(known, _)| *known == name).unwrap();
        let said = problems(validator, &std::fs::read_to_string(&path).unwrap());
        assert_eq!(said, Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn manifests_that_visabuild_takes_are_valid() {
    let manifest = validator("manifest");
    for text in [
        "",
        "packer:\nseal:\n",
        "packer: {builders: [{type: qemu, memory: \"{{ memory }}\", cpus: '2', headless: \"{{ headless }}\"}]}",
        "packer: {builders: [{type: qemu, vtpm: yes, usb: 1, use_pflash: 'Off', disk_size: 10240, boot_wait: -1s}]}",
        "packer: {builders: [{type: qemu, disk_size: \"{{ size }}\", vga: \"{{ vga }}\", cores: \"{% if a %}1{% endif %}\"}]}",
        "packer: {builders: [{type: \"{{ kind }}\", whatever: 1}]}",
        "packer: {builders: [{type: qemu, format: qcow2, disk_compression: true, skip_compaction: 'no'}]}",
        "packer: {builders: [{type: bootstrap, suite: 13, packages: []}]}",
        "packer: {provisioners: [{type: shell, inline: [1, true, a], script: , env: {A: }, cache: {key: x}}]}",
        "packer: {provisioners: [{type: file, content: 1, destination: /x, mode: 0644, cache: daily, timeout: 0}]}",
        "packer: {provisioners: &all [{type: shell, inline: [a]}], post-processors: [checksum, [{type: compress, compression_level: 9}, manifest], {type: \"{{ x }}\", y: 1}]}\nseal: {provisioners: *all}",
        "alternatives: {method: {debian: , source: {urls: [x], end_of_life: yes}}}",
    ] {
        assert_eq!(problems(&manifest, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn broken_files_are_invalid() {
    let broken: [(&str, &[&str]); 4] = [
        (
            "config",
            &[
                "",
                "templates: {}",
                "templates: [base]",
                "templates: {base: {extend: x}}",
                "templates: {base: {extends: [x]}}",
                "templates: {-rf: }",
                "templates: {base: }\nengine: docker",
                "template: {base: }\ntemplates: {base: }",
            ],
        ),
        ("environment", &["environment: {a: [1]}", "environment: {my-var: x}", "enviroment: {}", "- a"]),
        ("package", &["provisioner: []", "packer: {}", "provisioners: [{type: ansible}]"]),
        (
            "manifest",
            &[
                "packer: {provisoners: []}",
                "packer: {variables: [a]}",
                "packer: {description: {a: b}}",
                "seals: {}",
                "packer: {builders: {type: qemu}}",
                "packer: {builders: [{}]}",
                "packer: {builders: [{type: virtualbox-iso}]}",
                "packer: {builders: [{type: bootstrap}]}",
                "packer: {builders: [{type: bootstrap, suite: x, components: main}]}",
                "packer: {builders: [{type: bootstrap, suite: x, variant: minbas}]}",
                "packer: {builders: [{type: qemu, memry: 4}]}",
                "packer: {builders: [{type: qemu, memory: 4G}]}",
                "packer: {builders: [{type: qemu, memory: 0}]}",
                "packer: {builders: [{type: qemu, disk_size: 10GB}]}",
                "packer: {builders: [{type: qemu, ssh_timeout: 30}]}",
                "packer: {builders: [{type: qemu, headless: maybe}]}",
                "packer: {builders: [{type: qemu, format: raw}]}",
                "packer: {builders: [{type: qemu, ssh_proxy_host: x}]}",
                "packer: {builders: [{type: qemu, disk_interface: sd}]}",
                "packer: {builders: [{type: qemu, qemuargs: [x]}]}",
                "packer: {provisioners: [{inline: [a]}]}",
                "packer: {provisioners: [{type: shel}]}",
                "packer: {provisioners: [{type: shell}]}",
                "packer: {provisioners: [{type: shell, inline: echo}]}",
                "packer: {provisioners: [{type: shell, inline: []}]}",
                "packer: {provisioners: [{type: shell, inline: [a], script: b}]}",
                "packer: {provisioners: [{type: shell, inline: [a], max_retries: some}]}",
                "packer: {provisioners: [{type: shell, inline: [a], cache: hourly}]}",
                "packer: {provisioners: [{type: shell, inline: [a], only: [b]}]}",
                "packer: {provisioners: [{type: file, content: a}]}",
                "packer: {provisioners: [{type: file, content: a, destination: /x, mode: u+x}]}",
                "packer: {provisioners: [{type: file, content: a, destination: /x, direction: download}]}",
                "packer: {post-processors: [{type: vagrant}]}",
                "packer: {post-processors: [{type: convert}]}",
                "packer: {post-processors: [[{type: checksum, checksum_types: [sha3]}]]}",
                "seal: {ca_certificates: true}",
                "alternatives: {method: {}}",
                "alternatives: {method: {source: {url: x}}}",
            ],
        ),
    ];
    for (document, texts) in broken {
        let validator = validator(document);
        for text in texts {
            assert!(!validator.is_valid(&yaml(text)), "{document}: {text}");
        }
    }
}

#[test]
fn the_schema_is_that_of_manifests_and_says_what_a_key_means() {
    let manifest = schema(&[]);
    assert_eq!(manifest, schema(&["manifest"]));
    assert_eq!(manifest["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let memory = &manifest["$defs"]["qemu"]["properties"]["memory"];
    assert_eq!(memory["description"], "MiB, at least 1024; sized to the host where nothing is said");
    assert_eq!(memory["examples"], json!([2048]));
    let (_, err, code) = told(&visabuild().args(["schema", "manifests"]).output().unwrap());
    assert_eq!(code, 2, "{err}");
}
