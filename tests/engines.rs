//! Both engines make the same files: the shipped chain is built by each on the same base disk, and
//! every file of the images is compared.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::{keys, repository, shared, told, visabuild};

/// Files that the engines do not make the same: how their paths begin and end, and why. All but the
/// last differ between two builds by one engine, too.
const EXPLAINED: [(&str, &str, &str); 6] = [
    ("etc/shadow", "", "the salt of root's password"),
    ("var/cache/ldconfig/aux-cache", "", "numbers and times of the libraries' inodes"),
    ("var/cache/fontconfig/", ".cache-9", "times of the folders with fonts"),
    ("opt/visa/", ".pyc", "times of the sources"),
    ("root/.jupyter/migrated", "", "the time when Jupyter's settings were made"),
    ("var/log/chrony", "", "made by chronyd, which sets no clock in a container"),
];

fn build(engine: &str, cache: &Path, output: &Path, key: &Path) {
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", cache).args(["build", "-C"]).arg(repository()).arg("--output").arg(output);
    command.args(["--engine", engine, "-rp", "a-root-password", "--no-verify", "-pp"]).arg(key);
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
}

/// What `tests/support/image-files.sh` lists, sorted.
fn files(image: &Path) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
    let listed =
        command.arg(repository().join("tests/support/image-files.sh")).args([image, folder.path()]).output().unwrap();
    let (out, err, code) = told(&listed);
    assert_eq!(code, 0, "{err}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn full_both_engines_make_the_same_files() {
    // It stays: `scripts/bench/engines --compare` tells the times of both.
    let folder = shared().join("engines");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    let (_, key) = keys(&folder);
    build("nspawn", &path("nspawn-cache"), &path("nspawn"), &key);
    fs::create_dir_all(path("qemu-cache/visabuild")).unwrap();
    std::os::unix::fs::symlink(path("nspawn-cache/visabuild/bases"), path("qemu-cache/visabuild/bases")).unwrap();
    build("qemu", &path("qemu-cache"), &path("qemu"), &key);
    let mut unexplained = Vec::new();
    for template in ["system-base", "visa-base", "visa-apps"] {
        let [one, two] =
            ["nspawn", "qemu"].map(|engine| files(&path(engine).join(format!("{template}/{template}.qcow2"))));
        assert!(one.len() > 10_000, "{template} has {} files", one.len());
        let difference = one.symmetric_difference(&two).filter(|line| {
            let path = line.split('\t').next().unwrap_or_default();
            !EXPLAINED.iter().any(|(start, end, _)| path.starts_with(start) && path.ends_with(end))
        });
        unexplained.extend(difference.map(|line| format!("{template}: {line}")));
    }
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}
