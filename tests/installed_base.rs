//! system-base by the real debian-installer, from nothing to a disk that keeps its contract: some half an hour of
//! emulation. A mirror that lacks components gets them from the test (`support/installer/gap_filler.py`).
#![allow(clippy::unwrap_used)]

#[path = "support/netboot.rs"]
mod netboot;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Access, PASSWORD, images, in_image, keys, repository, shared, told, visabuild};

/// A copy of the shipped project whose installer gets what the mirror lacks.
fn project(folder: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-a", "config.yml", "templates", "scripts"]).arg(folder).current_dir(repository());
    assert!(copy.status().unwrap().success());
    let work = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (_, initrd) = runtime.block_on(netboot::installer(work.path()));
    let archive = folder.join("templates/system-base/installer/gaps.cpio");
    let filler = repository().join("tests/support/installer/gap_filler.py");
    let filled = Command::new("python3").arg(filler).arg("fill").args([&initrd, &archive]).output().unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let manifest = folder.join("templates/system-base/manifest.yml");
    let text = fs::read_to_string(&manifest).unwrap();
    let with =
        text.replace("      initrd_files:\n", "      initrd_append: [installer/gaps.cpio]\n      initrd_files:\n");
    assert_ne!(text, with);
    fs::write(&manifest, with).unwrap();
}

#[test]
fn full_debian_installer_makes_a_disk_that_keeps_the_contract_of_the_bootstrapped_one() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    let (_, public) = keys(&shared());
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", shared().join("cache"));
    command.args(["build", "system-base", "--base", "installer", "--engine", "nspawn", "-C"]).arg(folder.path());
    command.arg("-pp").arg(public).args(["-rp", PASSWORD]);
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("base disk: installer: asked for by --base"), "{err}");

    // The same packages, whichever way they came.
    let installed = folder.path().join("builds/system-base/system-base.qcow2");
    let packages = |image: &Path| -> BTreeSet<String> {
        let list = in_image(image, Access::Read, "dpkg-query --admindir var/lib/dpkg -W -f '${Package}\\n'");
        list.lines().map(str::to_owned).collect()
    };
    let bootstrapped = packages(&images().join("system-base/system-base.qcow2"));
    let difference: Vec<String> = packages(&installed).symmetric_difference(&bootstrapped).cloned().collect();
    assert_eq!(difference, Vec::<String>::new());
}
