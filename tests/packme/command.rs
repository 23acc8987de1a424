//! The command itself: what it writes, removes and refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::support::{told, visabuild};
use super::{Files, Written};

const PROJECT: &str = "=== config.yml
templates:
  base:
  apps: {extends: base, packages: [none]}
=== templates/base/environment.yml
environment: {size: 10G}
=== templates/base/manifest.yml
packer:
  min_packer_version: 1.7.0
  builders: [{name: main, type: virtualbox-iso, disk_size: '{{ size }}', shutdown: '{{ mode }}'}]
=== templates/apps/environment.yml
environment: {size: 20G}
=== templates/apps/manifest.yml
packer: {provisioners: [{type: shell, script: s.sh}]}
";

fn project() -> Written {
    Files::parse("command", PROJECT).write()
}

/// What is said and how it ends, with the project's folder as `‹root›`.
fn run(project: &Written, line: &str) -> (String, String, i32) {
    let mut command = visabuild();
    command.args(line.split(' ')).current_dir(&project.root).env("mode", "off").env_remove("headless");
    let (out, err, code) = told(&command.output().unwrap());
    let root = project.root.to_str().unwrap();
    (out.replace(root, "‹root›"), err.replace(root, "‹root›"), code)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

const BASE: &str = r#"{
    "description": "No description provided",
    "variables": {},
    "builders": [
        {
            "name": "main",
            "type": "virtualbox-iso",
            "disk_size": "10G",
            "shutdown": "off",
            "output_directory": "‹root›/templates/base/builds",
            "http_directory": "‹root›/templates/base/http",
            "vm_name": "base-virtualbox-iso.iso"
        }
    ],
    "provisioners": [],
    "post-processors": []
}"#;
const LEFT_OUT: &str =
    "warning: templates/base/manifest.yml:2:3: `min_packer_version` is left out: packme does not know it\n";
const OTHER_NAME: &str = "warning: templates/base/manifest.yml:3:14: the builder's image is called \
    base-virtualbox-iso.iso, and packme looks for base-main.iso\n  hint: name the builder `virtualbox-iso`, as its type \
    is called\n";
const NO_PACKAGE: &str = "warning: config.yml:3:3: unknown package `none` of template `apps` is left out\n";

#[test]
fn plan_prints_the_manifest_of_one_template() {
    let project = project();
    assert_eq!(run(&project, "plan base --format packer"), (format!("{BASE}\n"), LEFT_OUT.to_owned(), 0));
    let (out, err, code) = run(&project, "plan --format packer");
    assert_eq!((out.as_str(), code), ("", 2));
    assert!(err.contains("name one: base, apps"), "{err}");
    let (_, err, code) = run(&project, "plan bsae --format packer");
    assert_eq!((err.as_str(), code), ("error: unknown template `bsae`\n  hint: did you mean `base`?\n", 2));
}

/// What visabuild's own options say is over the file, and secrets never are in what is printed.
#[test]
fn secrets_are_variables_of_packers() {
    let project = Files::parse(
        "secrets",
        "=== config.yml\ntemplates: {a: }\n=== templates/a/environment.yml\nenvironment: {proxy: file}\n\
         === templates/a/manifest.yml\npacker:\n  description: '{{ proxy }}'\n  variables: {known: 1}\n  provisioners:\n\
         \x20   - {type: shell, inline: ['x {{ root_password }} {{ root_password_hash }}']}\n",
    )
    .write();
    let (out, err, code) = run(&project, "plan a --format packer -rp hunter2hunter2 -hp http://p:1");
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(!out.contains("hunter2"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["description"], "http://p:1");
    assert_eq!(json["provisioners"][0]["inline"][0], "x {{user `root_password`}} {{user `root_password_hash`}}");
    let variables = serde_json::json!({
        "known": 1, "root_password": "{{env `VISA_ROOT_PASSWORD`}}", "root_password_hash": null,
    });
    assert_eq!(json["variables"], variables);
    assert_eq!(json["sensitive-variables"], serde_json::json!(["root_password", "root_password_hash"]));
    // What is changed on the way is no longer what stands for it.
    fs::write(project.root.join("templates/a/manifest.yml"), "packer: {description: '{{ root_password | upper }}'}\n")
        .unwrap();
    let (_, err, code) = run(&project, "plan a --format packer");
    assert!(code == 2 && err.contains("without a filter"), "{err}");
    let length = "packer: {description: '{{ root_password | length }}'}\n";
    fs::write(project.root.join("templates/a/manifest.yml"), length).unwrap();
    let (_, err, code) = run(&project, "plan a --format packer");
    assert!(code == 2 && err.contains("without a filter"), "{err}");
    // A variable of the environment that holds a secret is one, too.
    fs::write(project.root.join("templates/a/manifest.yml"), "packer: {description: '{{ OS_PASSWORD }}'}\n").unwrap();
    let mut command = visabuild();
    command.args(["plan", "a", "--format", "packer"]).current_dir(&project.root).env("OS_PASSWORD", "hunter2hunter2");
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["description"], "{{user `OS_PASSWORD`}}");
    assert_eq!(json["variables"]["OS_PASSWORD"], "{{env `OS_PASSWORD`}}");
    // packme's own ways to give it are packme's.
    fs::write(project.root.join("templates/a/manifest.yml"), "packer: {description: '{{ proxy }}'}\n").unwrap();
    let mut command = visabuild();
    command.args(["packme", "-i", "config.yml"]).current_dir(&project.root).env("VISA_HTTP_PROXY", "http://p:1");
    assert!(command.status().unwrap().success());
    assert!(text(&project.root.join("templates/a/manifest.json")).contains("\"description\": \"file\""));
}

#[test]
fn manifests_are_written_and_kept() {
    let project = project();
    let expected = (String::new(), format!("{LEFT_OUT}{NO_PACKAGE}{OTHER_NAME}"), 0);
    assert_eq!(run(&project, "packme -i config.yml"), expected);
    let base = project.root.join("templates/base/manifest.json");
    let root = project.root.to_str().unwrap();
    assert_eq!(text(&base), BASE.replace("‹root›", root));
    assert!(text(&project.root.join("templates/apps/manifest.json")).contains("builds/base-main.iso"));
    // Options in argparse's other spellings, a link and a mode that stay.
    let real = project.root.join("real.json");
    fs::remove_file(&base).unwrap();
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &base).unwrap();
    let (_, _, code) =
        run(&project, "packme -d --sel base nothing --templates-base=templates -l -k20 --input config.yml");
    assert_eq!((code, text(&real)), (0, BASE.replace("‹root›", root)));
    assert!(fs::symlink_metadata(&base).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    let left: Vec<_> = fs::read_dir(project.root.join("templates/base")).unwrap().flatten().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn names_and_options_that_are_wrong() {
    let project = project();
    let (_, err, code) = run(&project, "packme -i config.yml -s bsae app");
    assert_eq!(
        (err.as_str(), code),
        (
            "error: unknown template `bsae`\n  hint: did you mean `base`?\nerror: unknown template `app`\n  hint: did you \
             mean `apps`?\n",
            2
        )
    );
    let (_, err, code) = run(&project, "packme -i config.yml -s base bsae");
    assert!(code == 0 && err.starts_with("warning: unknown template `bsae`"), "{err}");
    let (_, err, code) = run(&project, "packme -i config.yml -s");
    assert!(code == 2 && err.contains("no template is selected"), "{err}");
    let (_, err, code) = run(&project, "packme -i other.yml");
    assert_eq!((err.as_str(), code), ("error: there is no other.yml\n", 2));
    let (_, err, code) = run(&project, "packme -c -i config.yml");
    assert!(code == 2 && err.contains("--templates-base-dir"), "{err}");
    assert_eq!(run(&project, "packme").2, 0);
    assert_eq!(run(&project, "packme -v").0, format!("0.8.0 (visabuild {})\n", env!("CARGO_PKG_VERSION")));
}

/// A fault in one template keeps every file as it is; packme has written those before it by then.
#[test]
fn nothing_is_written_where_something_is_wrong() {
    let project = project();
    fs::write(project.root.join("templates/apps/manifest.yml"), "packer: {description: '{{ nothing }}'}\n").unwrap();
    fs::write(project.root.join("templates/base/manifest.json"), "old").unwrap();
    let (_, err, code) = run(&project, "packme -i config.yml");
    let expected = "error: templates/apps/manifest.yml:1:27: undefined variable `nothing`\n  hint: set it in \
        templates/apps/environment.yml\n";
    assert_eq!((err.as_str(), code), (expected, 2));
    assert_eq!(text(&project.root.join("templates/base/manifest.json")), "old");
}

#[test]
fn clean_removes_what_packme_removes() {
    let project = project();
    let base = project.root.join("templates/base");
    let kept = project.root.join("kept");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("file"), "x").unwrap();
    for folder in ["builds", "packer_cache", "other"] {
        fs::create_dir_all(base.join(folder)).unwrap();
        fs::write(base.join(folder).join("file"), "x").unwrap();
    }
    fs::write(base.join("manifest.json"), "old").unwrap();
    assert_eq!(run(&project, "packme -c -t templates"), (String::new(), String::new(), 0));
    let mut left: Vec<_> = fs::read_dir(&base).unwrap().flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["environment.yml", "manifest.yml", "other"]);
    // packme does not follow links either.
    std::os::unix::fs::symlink(&kept, base.join("builds")).unwrap();
    let (_, err, code) = run(&project, "packme -ct templates");
    assert!(code == 3 && err.contains("builds: it is a link"), "{err}");
    assert!(kept.join("file").exists() && base.join("builds").exists());
}

#[test]
fn run_builds_by_visabuild_or_says_why_not() {
    let project = project();
    let (_, err, code) = run(&project, "packme -r -k 5 -i config.yml");
    assert!(code == 2 && err.contains("`-k 5` is too low"), "{err}");
    assert!(!project.root.join("templates/base/manifest.json").exists());
    // VirtualBox is not visabuild's; the manifests are there for Packer.
    let (_, err, code) = run(&project, "packme -rp packages -i config.yml -t templates -s base");
    assert!(code == 2 && err.contains("virtualbox-iso") && err.contains("`packer build` may"), "{err}");
    assert!(project.root.join("templates/base/manifest.json").exists());
    fs::create_dir_all(project.root.join("other/templates/base")).unwrap();
    fs::copy(
        project.root.join("templates/base/environment.yml"),
        project.root.join("other/templates/base/environment.yml"),
    )
    .unwrap();
    let (_, err, code) = run(&project, "packme -r -i config.yml -t other/templates -s base");
    assert!(code == 2 && err.contains("in one folder"), "{err}");
    // What has results is left out, as packme does, before anything is looked at.
    for name in ["base", "apps"] {
        fs::create_dir_all(project.root.join("templates").join(name).join("builds")).unwrap();
    }
    let (_, err, code) = run(&project, "packme -r -i config.yml -s apps");
    let expected = "base: ‹root›/templates/base/builds is there, so it is not built again\n\
        apps: ‹root›/templates/apps/builds is there, so it is not built again\n";
    assert!(code == 0 && err.ends_with(expected), "{err}");
}

/// The two programs on the same command line leave the same files.
#[test]
fn packmes_own_program_writes_the_same_files() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packme/venv/bin/packme");
    let files = PROJECT.replace("{size: 20G}", "{size: 20G, headless: no}");
    let project = Files::parse("program", &files).write();
    let line = ["-d", "-i", "config.yml", "-t", "templates", "-p", "packages", "-s", "apps", "base"];
    let contents =
        || ["base", "apps"].map(|name| text(&project.root.join("templates").join(name).join("manifest.json")));
    let mut command = Command::new(program);
    let status = command.args(line).current_dir(&project.root).env("mode", "off").status();
    assert!(status.expect("scripts/test has installed packme").success());
    let packmes = contents();
    assert!(packmes.iter().all(|text| !text.is_empty()));
    run(&project, "packme -c -t templates");
    assert_eq!(run(&project, &format!("packme {}", line.join(" "))).2, 0);
    assert_eq!(contents(), packmes);
}
