//! One template of Packer's, built by Packer itself and, imported, by visabuild: the files on the disks are the same.
//! Packer 1.6 is Debian's package; all boot the same disk, emulated.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::bench::Bench;
use support::tree::{Tree, differences, tree};
use support::{told, visabuild};
use visabuild::engine::Engine;

const PASSWORD: &str = "a-root-password";

/// What lets somebody in who has only a password: a file that comes before the seal's.
const OPEN: &str = r#"    - type: shell
      inline:
        - "mkdir -p /etc/ssh/sshd_config.d"
        - "printf 'PermitRootLogin yes\nPasswordAuthentication yes\n' >/etc/ssh/sshd_config.d/00-open.conf"
        - "echo 'users: []' >/etc/cloud/cloud.cfg.d/99-no-account.cfg""#;

/// What a layer has of the build until the seal (the host's certificates, the folders of `apt-get clean`), and what
/// cloud-init makes where no seed says who comes in.
const OF_THE_BUILD: [&str; 6] = [
    "/etc/ssl/certs/",
    "/usr/local/share/ca-certificates/visabuild",
    "/var/lib/visabuild-certificates",
    "/var/lib/apt/lists/",
    "/root/.ssh/authorized_keys",
    "/var/tmp/cloud-init",
];

/// A disk that Packer can log in to.
fn disk() -> (Bench, PathBuf) {
    let bench = Bench::new(Engine::Nspawn, OPEN);
    let (_, err, code) = told(&bench.build().arg("--no-verify").output().unwrap());
    assert_eq!(code, 0, "{err}");
    let disk = bench.results().join("tiny.qcow2");
    (bench, disk)
}

/// The template and the files that it names.
fn write_project(folder: &Path, disk: &Path) -> PathBuf {
    let write = |path: &str, text: &str, mode: u32| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("scripts/returns.sh", "#!/bin/bash -eu\r\necho \"returns $GREETING\" >>/srv/trace\r\n", 0o644);
    write("scripts/name.sh", "#!/bin/sh\necho \"$0\" | sed 's/[0-9]\\+/N/' >>/srv/trace\n", 0o755);
    write("files/one.txt", "one {{ not a template }}\n", 0o644);
    write("files/tool", "#!/bin/sh\necho tool\n", 0o755);
    write("files/tree/deep/er/two.txt", "two\n", 0o644);
    write("files/tree/empty", "", 0o644);
    write("site.json", &json!({"greeting": "guten \"Tag\", it's $HOME"}).to_string(), 0o644);
    let builder = |name: &str| {
        json!({
            "name": name,
            "type": "qemu",
            "disk_image": true,
            "iso_url": "{{user `disk`}}",
            "iso_checksum": "none",
            "disk_size": "12G",
            "format": "qcow2",
            "accelerator": "tcg",
            "headless": true,
            "memory": 1024,
            "disk_cache": "unsafe",
            "boot_wait": "1s",
            "ssh_username": "root",
            "ssh_password": PASSWORD,
            "ssh_timeout": "20m",
            "shutdown_command": "systemctl poweroff",
            "output_directory": format!("out-{name}"),
            "vm_name": format!("{name}.qcow2"),
            "qemuargs": [["-cpu", "max"]]
        })
    };
    let template = json!({
        "variables": {"greeting": "none", "disk": disk, "target": "/srv/twin"},
        "builders": [builder("twin"), builder("another")],
        "provisioners": [
            {"type": "shell", "inline": ["mkdir -p {{user `target`}}", "echo {{build_name}} {{build_type}} >/srv/trace; false || echo went on >>/srv/trace"]},
            {"type": "shell", "environment_vars": ["GREETING={{user `greeting`}}", "B=2", "A=1"],
             "scripts": ["scripts/returns.sh", "scripts/name.sh"]},
            {"type": "shell", "environment_vars": ["B=2", "A=$B"], "execute_command": "chmod +x {{ .Path }}; env ORDER=1 {{ .Vars }} bash -x {{ .Path }}",
             "inline_shebang": "/bin/bash -u", "inline": ["echo \"$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $ORDER $A $B\" >>/srv/trace"]},
            {"type": "shell", "valid_exit_codes": [0, 42], "remote_folder": "/root", "inline": ["echo \"in $(dirname \"$0\")\" >>/srv/trace", "exit 42"]},
            {"type": "file", "source": "files/one.txt", "destination": "{{user `target`}}/"},
            {"type": "file", "source": "files/one.txt", "destination": "{{user `target`}}/renamed.txt"},
            {"type": "file", "source": "files/tool", "destination": "{{user `target`}}/tool"},
            {"type": "file", "source": "files/tree", "destination": "{{user `target`}}/"},
            {"type": "file", "source": "files/tree/", "destination": "{{user `target`}}"},
            {"type": "shell", "only": ["another"], "inline": ["echo for another >>/srv/trace"]},
            {"type": "shell", "except": ["another"], "inline": ["echo for this >>/srv/trace"],
             "override": {"twin": {"inline": ["echo overridden >>/srv/trace"]}}},
            {"type": "shell", "expect_disconnect": true, "skip_clean": true, "inline": ["echo before >>/srv/trace", "systemctl reboot"]},
            {"type": "shell", "pause_before": "1s", "inline": ["echo after >>/srv/trace", "passwd -S nobody | cut -d ' ' -f 1,2 >>/srv/trace"]}
        ]
    });
    write("twin.json", &serde_json::to_string_pretty(&template).unwrap(), 0o644);
    folder.join("twin.json")
}

/// The disk that Packer makes.
fn by_packer(folder: &Path) -> PathBuf {
    let mut packer = Command::new("packer");
    packer.args(["build", "-color=false", "-only=twin", "-var-file=site.json", "twin.json"]).current_dir(folder);
    packer.env("PACKER_CACHE_DIR", folder.join("cache")).env("CHECKPOINT_DISABLE", "1");
    let built = packer.output().expect("Debian's package `packer` is installed; `scripts/test --full` does it");
    let (out, err, code) = told(&built);
    assert_eq!(code, 0, "{out}{err}");
    folder.join("out-twin/twin.qcow2")
}

/// The layer that visabuild makes of the import, before its seal takes the traces out.
fn by_visabuild(project: &Path, folder: &Path, engine: Engine) -> PathBuf {
    let cache = folder.join(format!("cache-{engine}"));
    let mut build = visabuild();
    build.env("XDG_CACHE_HOME", &cache).args(["build", "--no-verify", "--lock-root", "--checkpoints", "none", "twin"]);
    build.args(["--accel", "tcg", "--engine", &engine.to_string(), "-C"]).arg(project);
    let (_, err, code) = told(&build.output().unwrap());
    assert_eq!(code, 0, "{err}");
    let layers = fs::read_dir(cache.join("visabuild/layers")).unwrap().flatten().map(|entry| entry.path());
    let mut disks = layers.filter(|path| path.extension().is_some_and(|extension| extension == "qcow2"));
    disks.next().expect("one layer")
}

#[tokio::test]
async fn full_qemu_packer_and_an_import_make_the_same_files() {
    let (bench, disk) = disk();
    let folder = tempfile::tempdir_in(bench.cache.parent().unwrap()).unwrap();
    let packer = folder.path().join("packer");
    fs::create_dir(&packer).unwrap();
    let template = write_project(&packer, &disk);

    let project = folder.path().join("imported");
    let mut import = visabuild();
    import.arg("import").arg(&template).arg("--var-file").arg(packer.join("site.json")).arg("--output").arg(&project);
    let (_, err, code) = told(&import.output().unwrap());
    assert_eq!(code, 0, "{err}");

    let reference = tree(&by_packer(&packer)).await;
    assert!(reference.contains_key("/srv/twin/deep/er/two.txt"), "{:#?}", below_srv(&reference));
    for engine in [Engine::Nspawn, Engine::Qemu] {
        let own = tree(&by_visabuild(&project, folder.path(), engine)).await;
        let mut differing = differences(&reference, &own);
        differing.retain(|path| !OF_THE_BUILD.iter().any(|ours| path.starts_with(ours)));
        assert!(differing.is_empty(), "Packer's and {engine}'s: {differing:#?}\n{:#?}", below_srv(&own));
    }
}

fn below_srv(tree: &Tree) -> Vec<&String> {
    tree.keys().filter(|path| path.starts_with("/srv")).collect()
}
