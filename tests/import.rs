//! Packer's projects, imported, validated and planned by the real binary.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use support::{repository, told, visabuild};
use tempfile::TempDir;

/// 2026-11-22 14:05:09.
const NOW: &str = "1795356309";

fn fixtures() -> PathBuf {
    repository().join("tests/fixtures/packer")
}

/// Runs visabuild where the fixtures are; `OUT` stands for the folder of the new project.
fn run(folder: &Path, output: &Path, arguments: &[&str]) -> (String, String, i32) {
    let cache = tempfile::tempdir().unwrap();
    let output = output.to_str().unwrap();
    let mut command = visabuild();
    for name in ["ROCKY_MIRROR", "REGISTRY_TOKEN", "BEAMLINE_PROXY", "hostname", "version", "memory"] {
        command.env_remove(name);
    }
    command.current_dir(folder).env("SOURCE_DATE_EPOCH", NOW).env("XDG_CACHE_HOME", cache.path());
    let arguments = arguments.iter().map(|argument| argument.replace("OUT", output));
    let (out, err, code) = told(&command.args(arguments).output().unwrap());
    (out.replace(output, "OUT"), err.replace(output, "OUT"), code)
}

/// What an import says, what it writes, and what `validate` and `plan` say of that.
fn imported(arguments: &[&str]) -> String {
    let output = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let mut call = |arguments: &[&str]| {
        let (out, err, code) = run(&fixtures(), output.path(), arguments);
        let fingerprint = Regex::new(r"\b[0-9a-f]{12}\b").unwrap();
        let out = fingerprint.replace_all(&out, "FINGERPRINT").into_owned();
        writeln!(text, "$ visabuild {}\n{out}{err}exit code {code}\n", arguments.join(" ")).unwrap();
        code
    };
    let all: Vec<&str> = ["import", "--output", "OUT"].into_iter().chain(arguments.iter().copied()).collect();
    if call(&all) == 0 {
        assert_eq!(call(&["validate", "-C", "OUT"]), 0);
        assert_eq!(call(&["plan", "-C", "OUT"]), 0);
    }
    for entry in walkdir::WalkDir::new(output.path()).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(output.path()).unwrap().display();
            writeln!(text, "--- {name}\n{}", fs::read_to_string(entry.path()).unwrap()).unwrap();
        }
    }
    text
}

#[test]
fn debian_by_preseed_in_json() {
    insta::assert_snapshot!("debian_preseed", imported(&["debian-preseed/debian.json"]));
}

#[test]
fn ubuntu_by_autoinstall_on_a_cd() {
    insta::assert_snapshot!("ubuntu_autoinstall", imported(&["ubuntu-autoinstall"]));
}

#[test]
fn rocky_by_kickstart_as_two_images() {
    insta::assert_snapshot!("rocky_without_mirror", imported(&["rocky-kickstart"]));
    let mirror = "mirror_url=https://mirror.example.org/rocky/";
    insta::assert_snapshot!("rocky_kickstart", imported(&["rocky-kickstart", "--var", mirror]));
}

#[test]
fn a_cloud_image_with_functions() {
    insta::assert_snapshot!("cloud_image", imported(&["cloud-image", "--partial", "--var", "flavour=desktop"]));
}

#[test]
fn windows_is_refused() {
    for arguments in [&["windows"][..], &["windows", "--partial"]] {
        let output = tempfile::tempdir().unwrap();
        let all: Vec<&str> = ["import", "--output", "OUT"].into_iter().chain(arguments.iter().copied()).collect();
        let (out, err, code) = run(&fixtures(), output.path(), &all);
        assert_eq!((out.as_str(), code), ("", 2));
        assert_eq!(
            err,
            "error: windows/windows.json:8:7: communicator `winrm` of `windows-11`: visabuild builds no Windows guests\n  \
               hint: stay with Packer for this one\n\
             error: windows/windows.json:14:5: builder `virtualbox-iso` of `virtualbox-iso`: visabuild builds with QEMU \
             only\n  \
               hint: give the project a `qemu` builder in Packer first, and import that\n"
        );
        assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_replaced() {
    let output = tempfile::tempdir().unwrap();
    fs::create_dir_all(output.path().join("templates/beamline-debian/http")).unwrap();
    for name in ["config.yml", "templates/beamline-debian/http/preseed.cfg"] {
        fs::write(output.path().join(name), "mine").unwrap();
    }
    let arguments = ["import", "debian-preseed/debian.json", "--output", "OUT"];
    let (out, err, code) = run(&fixtures(), output.path(), &arguments);
    assert_eq!((out.as_str(), code), ("", 2));
    assert_eq!(
        err,
        "error: OUT/config.yml exists already\n\
         error: OUT/templates/beamline-debian/http/preseed.cfg exists already\n  \
           hint: an import replaces nothing: name another folder with `--output`\n"
    );
    assert_eq!(fs::read_to_string(output.path().join("config.yml")).unwrap(), "mine");
    assert!(!output.path().join("templates/beamline-debian/manifest.yml").exists());
}

/// A project of one file, imported.
fn refused(name: &str, text: &str, arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    let all: Vec<&str> = ["import", name, "--output", "OUT"].into_iter().chain(arguments.iter().copied()).collect();
    let (out, err, code) = run(folder.path(), &folder.path().join("new"), &all);
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(!folder.path().join("new").exists());
    err
}

const BUILD: &str = "build {\n  sources = [\"qemu.a\"]\n}\nsource \"qemu\" \"a\" {\n  iso_checksum = \"none\"\n";

#[test]
fn faults_are_told_at_their_places() {
    assert_eq!(refused("a.json", "{\n  \"builders\": [\n}", &[]), "error: a.json:3:1: JSON: expected value\n");
    assert_eq!(
        refused(
            "a.json",
            "{\"builders\": [{\"type\": \"qemu\", \"memory\": \"{{user `mem`}}\"}], \"provisoners\": []}",
            &[]
        ),
        "error: a.json:1:42: undefined variable `mem`\n\
         error: a.json:1:62: unknown key `provisoners`\n  hint: did you mean `provisioners`?\n"
    );
    let unknown = format!(
        "{BUILD}  iso_url = \"http://${{var.host}}/x\"\n  memory = min(uper(\"x\"), 1)\n  cpus = local.a\n}}\n\
         locals {{\n  a = local.b\n  b = local.a\n}}\n"
    );
    assert_eq!(
        refused("a.pkr.hcl", &unknown, &["--var", "hots=x"]),
        "error: a.pkr.hcl:6:23: undefined variable `var.host`\n\
         error: a.pkr.hcl:7:16: unknown function `uper`\n  hint: did you mean `upper`?\n\
         error: a.pkr.hcl:12:7: `local.a` is made of itself\n\
         error: --var: the template has no variable `hots`\n"
    );
    // What visabuild itself says is told at the place in the Packer project.
    let wrong = format!("{BUILD}  iso_url = \"http://h/x.iso\"\n  memory = \"much\"\n  bot_wait = \"5s\"\n}}\n");
    assert_eq!(
        refused("a.pkr.hcl", &wrong, &[]),
        "error: a.pkr.hcl:7:3: expected a whole number from 1, found `much`\n  hint: write it without a unit, like `4096`\n\
         error: a.pkr.hcl:8:3: unknown key `bot_wait`\n  hint: did you mean `boot_wait`?\n"
    );
}

#[test]
fn secrets_and_conditions() {
    let variable = "variable \"token\" {\n  type = string\n  sensitive = true\n  default = \"hush-hush\"\n}\n";
    let secret = format!("{BUILD}  iso_url = \"http://h/${{base64encode(var.token)}}\"\n}}\n{variable}");
    let err = refused("a.pkr.hcl", &secret, &[]);
    assert_eq!(
        err,
        "error: a.pkr.hcl:6:25: the secret `token` would be part of what is written\n  \
           hint: compute it where it is used, in a script of the guest\n"
    );
    let condition = "variable \"memory\" {\n  type = number\n  default = 512\n  validation {\n    \
                     condition = var.memory > 1023\n    error_message = \"Too little.\"\n  }\n}\n\
                     variable \"name\" {}\n";
    let faulty = format!("{BUILD}  iso_url = \"http://h/x\"\n}}\n{condition}");
    assert_eq!(
        refused("a.pkr.hcl", &faulty, &[]),
        "error: a.pkr.hcl:11:3: Too little.\n\
         error: a.pkr.hcl:16:1: variable `name` has no value\n  \
           hint: give it with --var name=VALUE or --var-file FILE\n"
    );
}

/// A project of one file, imported: all its files, by their names.
fn accepted(name: &str, text: &str, environment: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    let output = folder.path().join("new");
    let mut command = visabuild();
    command.current_dir(folder.path()).env("SOURCE_DATE_EPOCH", NOW).envs(environment.iter().copied());
    let (_, err, code) = told(&command.args(["import", name, "--output", "new"]).output().unwrap());
    assert_eq!((err.as_str(), code), ("", 0));
    let read = |name: &str| fs::read_to_string(output.join("templates/a").join(name)).unwrap();
    format!("{}{}", read("environment.yml"), read("manifest.yml"))
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

const SOURCE: &str = "build {\n  sources = [\"qemu.a\"]\n}\nsource \"qemu\" \"a\" {\n  iso_checksum = \"none\"\n  \
                      iso_url = \"http://h/x.iso\"\n  ssh_username = \"root\"\n";

#[test]
fn values_are_written_as_they_are() {
    let text = format!(
        "{SOURCE}  ssh_password = var.text\n  boot_command = [var.late]\n}}\n\
         variable \"text\" {{\n  default = \"{{{{ .Vars }}}} {{{{ .Path }}}} {{% {{#\"\n}}\n\
         variable \"late\" {{\n  default = \"x-{{{{ build_name }}}}\"\n}}\n"
    );
    let written = accepted("a.pkr.hcl", &text, &[]);
    has(
        &written,
        &["text: \"{{ .Vars }} {{ .Path }} {% {#\"", "ssh_password: \"{{ text }}\"", "boot_command: [\"x-a\"]"],
    );
}

#[test]
fn secrets_of_all_kinds_stay_secret() {
    let list = "variable \"keys\" {\n  sensitive = true\n  default = [\"hush-hush\"]\n}\n";
    let local = "local \"token\" {\n  sensitive = true\n  expression = \"hush-hush\"\n}\n";
    for (name, used, declared) in [("keys", "var.keys", list), ("local.token", "[local.token]", local)] {
        let err = refused("a.pkr.hcl", &format!("{SOURCE}  boot_command = {used}\n}}\n{declared}"), &[]);
        has(&err, &[&format!("the secret `{name}` would be part of what is written")]);
        assert!(!err.contains("hush"), "{err}");
    }
    let number = "variable \"pin\" {\n  sensitive = true\n  type = number\n  default = \"hush-hush\"\n}\n";
    let err = refused("a.pkr.hcl", &format!("{SOURCE}}}\n{number}"), &[]);
    has(&err, &["the value of `pin` is not of this type"]);
    assert!(!err.contains("hush"), "{err}");

    let json = |value: &str| {
        format!(
            "{{\"variables\": {{\"url\": \"http://u:{{{{user `pw`}}}}@h/x.iso\", \"pw\": \"hush-hush\"}},\n\
             \"sensitive-variables\": [\"pw\"],\n\"builders\": [{{\"type\": \"qemu\", \"name\": \"a\", \
             \"iso_url\": \"{value}\", \"iso_checksum\": \"none\", \"ssh_username\": \"root\"}}]}}"
        )
    };
    let written = accepted("a.json", &json("{{user `url`}}"), &[]);
    has(&written, &["iso_url: \"http://u:{{ pw }}@h/x.iso\"", "pw: \"\"\n"]);
    assert!(!written.contains("hush"), "{written}");
    let err = refused("a.json", &json("http://{{ user `pw` | upper }}/x.iso"), &[]);
    has(&err, &["the value of `pw`, which is secret or the environment's, would be written"]);
}

#[test]
fn values_of_the_environment_are_not_written() {
    let hcl = |default: &str| {
        format!("{SOURCE}  ssh_password = var.token\n}}\nvariable \"token\" {{\n  default = {default}\n}}\n")
    };
    let environment = [("IMPORT_TOKEN", "hush-hush"), ("no_proxy", "hush-hush")];
    for default in ["\"${env(\"IMPORT_TOKEN\")}\"", "(env(\"IMPORT_TOKEN\"))"] {
        let written = accepted("a.pkr.hcl", &hcl(default), &environment);
        has(&written, &["IMPORT_TOKEN: \"\"\n", "ssh_password: \"{{ IMPORT_TOKEN }}\""]);
        assert!(!written.contains("hush"), "{written}");
    }
    for default in ["coalesce(env(\"IMPORT_TOKEN\"), \"x\")", "\"x-${env(\"IMPORT_TOKEN\")}\""] {
        has(
            &refused("a.pkr.hcl", &hcl(default), &[]),
            &["what is computed of the process environment would be written"],
        );
    }
    has(&refused("a.pkr.hcl", &hcl("env(\"no_proxy\")"), &[]), &["`no_proxy` of the process environment means"]);
    let json = "{\"variables\": {\"x\": \"x-{{env `IMPORT_TOKEN`}}\"}, \"builders\": [{\"type\": \"qemu\"}]}";
    has(&refused("a.json", json, &[]), &["can only be the whole value of a variable"]);
}

#[test]
fn mappings_go_by_their_keys() {
    let text = format!(
        "{SOURCE}  boot_command = concat([for k, v in {{b = 1, a = 2}} : \"${{k}}${{v}}\"], tolist(toset([\"z\", \"y\", \"z\"])), \
         setunion([\"d\"], [\"c\"]), [jsonencode({{f = 1, e = 2}})])\n}}\n"
    );
    let written = accepted("a.pkr.hcl", &text, &[]);
    let order: Vec<_> = ["- a2", "- b1", "- \"y\"", "- z", "- c", "- d", "\\\"e\\\":2,\\\"f\\\":1"]
        .map(|part| written.find(part))
        .into();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}\n{written}");
}

#[test]
fn variables_of_json_may_name_later_ones() {
    let text = "{\"variables\": {\"a\": \"{{user `b`}}/x.iso\", \"b\": \"{{user `c`}}\", \"c\": \"http://h\"},\n\
                \"builders\": [{\"type\": \"qemu\", \"name\": \"a\", \"iso_url\": \"{{user `a`}}\", \"iso_checksum\": \"none\", \
                \"ssh_username\": \"root\"}]}";
    has(&accepted("a.json", text, &[]), &["a: http://h/x.iso\n"]);
    let circle =
        "{\"variables\": {\"a\": \"{{user `b`}}\", \"b\": \"{{user `a`}}\"}, \"builders\": [{\"type\": \"qemu\"}]}";
    has(&refused("a.json", circle, &[]), &["undefined variable `a`", "undefined variable `b`"]);
}

#[test]
fn options_of_steps_are_those_that_visabuild_has() {
    let step = "  provisioner \"shell\" {\n    inline = [\"true\"]\n    max_retries = 2\n    remote_file = \"x.sh\"\n    \
                skip_clean = true\n    use_env_var_file = true\n    start_retry_timeout = \"5m\"\n    \
                continue_on_error = false\n  }\n}\n";
    let text = format!("{SOURCE}}}\n").replacen("}\n", step, 1);
    let written = accepted("a.pkr.hcl", &text, &[]);
    has(&written, &["max_retries: 2", "remote_file: x.sh", "skip_clean: true", "use_env_var_file: true"]);
    has(&written, &["# Without `start_retry_timeout`: a connection"]);
    assert!(!written.contains("continue_on_error"), "{written}");
}

#[test]
fn post_processors_stay_in_their_order_and_chains() {
    let json = "{\"builders\": [{\"type\": \"qemu\", \"name\": \"a\", \"iso_url\": \"http://h/x.iso\", \"iso_checksum\": \"none\", \
                \"ssh_username\": \"root\"}],\n\"post-processors\": [\"checksum\", [{\"type\": \"compress\", \"output\": \
                \"{{.BuildName}}.tar.gz\", \"compression_level\": 9}, {\"type\": \"artifice\", \"files\": [\"x\"], \
                \"only\": [\"b\"]}, {\"type\": \"manifest\", \"custom_data\": {\"by\": \"{{build_name}}\"}}], \
                {\"type\": \"shell-local\", \"inline\": [\"echo done\"], \"environment_vars\": [\"A=b\"]}]}";
    let written = accepted("a.json", json, &[]);
    let wanted = "  post-processors:\n    - type: checksum\n    -\n      - type: compress\n        output: \"{{ .BuildName }}.tar.gz\"\n        \
                  compression_level: 9\n      - type: manifest\n        custom_data:\n          by: a\n    - type: shell-local\n      \
                  inline: [\"echo done\"]\n      environment_vars: [\"A=b\"]\n";
    has(&written, &[wanted]);
    let hcl = format!("{SOURCE}}}\n").replacen(
        "}\n",
        "  post-processor \"checksum\" {\n    checksum_types = [\"sha256\"]\n    keep_input_artifact = true\n  }\n  \
         post-processors {\n    post-processor \"artifice\" {\n      files = [\"x\"]\n    }\n    # To whom it may concern.\n    \
         post-processor \"compress\" {\n      format = \"zip\"\n    }\n  }\n}\n",
        1,
    );
    let written = accepted("a.pkr.hcl", &hcl, &[]);
    let wanted = "    - type: checksum\n      checksum_types: [sha256]\n      keep_input_artifact: true\n    -\n      - type: artifice\n        \
                  files: [x]\n      # To whom it may concern.\n      - type: compress\n        format: zip\n";
    has(&written, &[wanted]);
    let vagrant = hcl.replace("\"artifice\"", "\"vagrant\"").replace("\"zip\"", "\"rar\"");
    has(&refused("a.pkr.hcl", &vagrant, &[]), &["unknown format `rar`"]);
    let vagrant = vagrant.replace("\"rar\"", "\"zip\"");
    has(
        &refused("a.pkr.hcl", &vagrant, &[]),
        &[
            "post-processor `vagrant`\n  hint: a box is a tar of the image with its metadata: `vagrant package` makes one",
        ],
    );
    let outside = hcl.replace("format = \"zip\"", "output = \"../x.zip\"");
    has(&refused("a.pkr.hcl", &outside, &[]), &["`../x.zip` is outside of builds/a/"]);
}

#[test]
fn commands_that_are_printed_can_be_run() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.pkr.hcl"), format!("{SOURCE}}}\n")).unwrap();
    let output = folder.path().join("new project");
    let (out, err, code) = run(folder.path(), &output, &["import", "a.pkr.hcl", "--output", "OUT"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.ends_with("next: visabuild validate -C 'OUT'\n"), "{out}");
}
