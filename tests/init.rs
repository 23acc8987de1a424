//! `visabuild init`: what it writes is whole, right, and never over something else.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::{keys, repository, told, visabuild};

fn init(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    told(&visabuild().current_dir(folder).arg("init").args(arguments).output().unwrap())
}

/// Executable bit and content of the files below a folder, by path.
fn files(folder: &Path) -> BTreeMap<String, (bool, Vec<u8>)> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| !entry.file_type().is_dir()).map(|entry| {
        let path = entry.path();
        let executable = fs::metadata(path).unwrap().permissions().mode() & 0o100 != 0;
        (path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), (executable, fs::read(path).unwrap()))
    });
    files.collect()
}

/// The files of the repository that make the images of VISA, as git knows them; new ones too, unless it ignores them.
fn shipped() -> BTreeMap<String, (bool, Vec<u8>)> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    list.args(["config.yml", "scripts/*.sh", "templates", "packages"]).current_dir(repository());
    let (list, err, code) = told(&list.output().unwrap());
    assert_eq!(code, 0, "{err}");
    let all = list.split('\0').filter(|path| !path.is_empty() && repository().join(path).is_file());
    // What else is in scripts/ is for the repository.
    let wanted = all.filter(|path| path.strip_prefix("scripts/").is_none_or(|name| !name.contains('/')));
    let read = wanted.map(|path| {
        let executable = fs::metadata(repository().join(path)).unwrap().permissions().mode() & 0o100 != 0;
        (path.to_owned(), (executable, fs::read(repository().join(path)).unwrap()))
    });
    read.collect()
}

/// Runs a line that `init` printed, as a shell does; placeholders are filled in by `values`.
fn as_told(out: &str, what: &str, folder: &Path, values: &[(&str, &str)]) -> (String, String, i32) {
    let line = out.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim();
    let line = values.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VISA")) {
        command.env_remove(name);
    }
    command.current_dir(folder).env("XDG_CACHE_HOME", cache.path()).env("guacd_method", "debian");
    told(&command.args(["-c", &line]).output().unwrap())
}

#[test]
fn the_project_for_visa_is_the_repositorys_own_and_what_is_told_works() {
    let folder = tempfile::tempdir().unwrap();
    let (_, public) = keys(folder.path());
    let (out, err, code) = init(folder.path(), &["my images"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let (made, shipped) = (files(&folder.path().join("my images")), shipped());
    assert_eq!(made.keys().collect::<Vec<_>>(), shipped.keys().collect::<Vec<_>>());
    assert!(made == shipped);
    let program = env!("CARGO_BIN_EXE_visabuild");
    assert_eq!(
        out,
        format!(
            "{} files written to my images\n\n\
             check:  {program} validate -C 'my images'\n\
             build:  {program} build -C 'my images' -pp KEY.pub -rp PASSWORD\n\n\
             PASSWORD is root's on the image's console.\n\
             KEY.pub is the public key (RSA, PEM) with which the platform's login tokens are checked.\n",
            made.len()
        )
    );
    let (said, err, code) = as_told(&out, "check:", folder.path(), &[]);
    assert_eq!(
        (said.as_str(), err.as_str(), code),
        ("3 templates are valid: system-base, visa-base, visa-apps\n", "", 0)
    );
    // All that a build asks for, without building.
    let values = [(" build ", " plan --json "), ("KEY.pub", public.to_str().unwrap()), ("PASSWORD", "pass-word")];
    let (plan, err, code) = as_told(&out, "build:", folder.path(), &values);
    assert_eq!((err.as_str(), code), ("", 0));
    let stages = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["stages"].clone();
    let cache = tempfile::tempdir().unwrap();
    let mut own = visabuild();
    own.current_dir(repository()).env("XDG_CACHE_HOME", cache.path()).env("guacd_method", "debian");
    let (own, ..) = told(&own.args(["plan", "--json"]).output().unwrap());
    assert_eq!(stages(&plan), stages(&own));
}

#[test]
fn the_minimal_project_is_valid_and_can_be_planned() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err, code) = init(folder.path(), &["--kind", "minimal"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(files(folder.path()) == files(&repository().join("examples/minimal")));
    let (said, err, code) = as_told(&out, "check:", folder.path(), &[]);
    assert_eq!((said.as_str(), err.as_str(), code), ("1 template is valid: base\n", "", 0));
    let values = [(" build ", " plan "), ("PASSWORD", "pass-word")];
    let (plan, err, code) = as_told(&out, "build:", folder.path(), &values);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(plan.contains("packages"), "{plan}");
}

#[test]
fn nothing_is_overwritten_and_everything_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("templates")).unwrap();
    fs::write(folder.path().join("config.yml"), "templates: {mine: }\n").unwrap();
    fs::write(folder.path().join("templates/base"), "").unwrap();
    let before = files(folder.path());
    let (out, err, code) = init(folder.path(), &["--kind", "minimal"]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert_eq!(
        err,
        "error: ./config.yml is there already\n\
         error: ./templates/base is there already\n  \
           hint: nothing was written; name a folder that is empty or not there yet\n"
    );
    assert!(files(folder.path()) == before);
    // A link to nowhere is something, too.
    fs::remove_file(folder.path().join("config.yml")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("config.yml")).unwrap();
    assert_eq!(init(folder.path(), &["--kind", "minimal"]).2, 2);
    let (_, err, code) = init(folder.path(), &["templates/base"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("error: templates/base is not a folder\n"), "{err}");
}

#[test]
fn a_second_time_everything_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(folder.path(), &["x/y", "--kind", "minimal"]).2, 0);
    let (_, err, code) = init(folder.path(), &["x/y", "--kind", "minimal"]);
    assert_eq!(code, 2);
    assert_eq!(err.matches("is there already").count(), files(&folder.path().join("x/y")).len());
}

#[test]
fn other_files_and_links_to_folders_are_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("project/.git")).unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::write(folder.path().join("project/README.md"), "mine").unwrap();
    std::os::unix::fs::symlink("../elsewhere", folder.path().join("project/templates")).unwrap();
    let (_, err, code) = init(folder.path(), &["project", "--kind", "minimal"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(folder.path().join("elsewhere/base/manifest.yml").is_file());
    assert_eq!(fs::read_to_string(folder.path().join("project/README.md")).unwrap(), "mine");
}
