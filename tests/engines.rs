//! Both engines make the same files: the shipped chain is built by each on the same base disk, and
//! every file of the images is compared.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::{Access, in_image, keys, repository, shared, told, visabuild};

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

/// Lists files: path, type, mode, owner and a link's target; then the sums of their content; then file
/// capabilities.
const LIST: &str = r"
find . -xdev -printf '%P\t%y\t%m\t%U:%G\t%l\n'
find . -xdev -type f -print0 | xargs -0 sha256sum -b | sed -E 's/^(\S+) \*\.\/(.*)/\2\tsum\t\1/'
getcap -r . 2>/dev/null | sed -E 's/^\.\/(\S+) (.*)/\1\tcapability\t\2/' || true
";

/// What [`LIST`] says of an image, sorted.
fn files(image: &Path) -> BTreeSet<String> {
    in_image(image, Access::Read, LIST).lines().map(str::to_owned).collect()
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
