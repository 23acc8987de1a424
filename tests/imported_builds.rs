//! Projects of Packer's, imported and built for real, as far as what they fetch can be had here.
#![allow(clippy::unwrap_used)]

#[path = "support/installer_cd.rs"]
mod installer_cd;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use sha2::{Digest, Sha256};
use support::{Access, Run, images, in_image, repository, shared, told, visabuild};

/// Imports a fixture with these variables; the folder of the new project.
fn imported(fixture: &str, variables: &[String], folder: &Path) -> PathBuf {
    let output = folder.join("imported");
    let mut import = visabuild();
    import.arg("import").arg(repository().join("tests/fixtures/packer").join(fixture)).arg("--output").arg(&output);
    // Seeds of one's own at a disk image have no counterpart.
    import.arg("--partial");
    for variable in variables {
        import.args(["--var", variable]);
    }
    let (_, err, code) = told(&import.output().unwrap());
    assert_eq!(code, 0, "{err}");
    output
}

fn build(project: &Path) -> Command {
    let mut build = visabuild();
    build.env("XDG_CACHE_HOME", shared().join("cache"));
    build.args(["build", "--no-verify", "--lock-root", "-C"]).arg(project);
    build
}

#[test]
fn full_nspawn_a_cloud_image_project_in_hcl_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let image = images().join("system-base/system-base.qcow2");
    let image = format!("image={{url = \"{}\", checksum = \"none\"}}", image.display());
    let project = imported("cloud-image", &[image], folder.path());
    let mut build = build(&project);
    // Its post-processor publishes the image by a client that is not here.
    let client = folder.path().join("openstack");
    fs::write(&client, "#!/bin/sh\necho \"$@\" >\"$(dirname \"$0\")/asked\"\n").unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    build.env("REGISTRY_TOKEN", "a-token").env("PATH", path).args(["--engine", "nspawn"]);
    let (_, err, code) = told(&build.output().unwrap());
    assert_eq!(code, 0, "{err}");
    let built = project.join("builds/cloud/cloud.qcow2");
    let look = "cut -d - -f 1 etc/image-release; test -x usr/bin/git && echo git; \
                cat etc/sudoers.d/90-cloud-init-users home/debian/.ssh/authorized_keys 2>/dev/null || true";
    assert_eq!(in_image(&built, Access::Read, look), "notebook\ngit\n");
    let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.starts_with("image create --file output/image.qcow2 notebook-"), "{asked}");
}

#[test]
fn full_qemu_a_preseed_project_in_json_gets_its_installer_to_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let iso = installer_cd::boot_cd(folder.path());
    let sha256 = visabuild::checksum::hex(&Sha256::digest(fs::read(&iso).unwrap()));
    let variables = [format!("iso_url={}", iso.display()), format!("iso_checksum={sha256}")];
    let project = imported("debian-preseed/debian.json", &variables, folder.path());
    let mut build = build(&project);
    build.env("ssh_password", "packer").args(["--accel", "tcg"]);
    let mut run = Run::start(build);
    let line = run.wait_for("the guest asked for /preseed.cfg");
    assert!(line.contains("(GET): 200"), "{line}");
    run.signal(Signal::INT);
    let (code, err) = run.end();
    assert_eq!(code, Some(130), "{err}");
}
