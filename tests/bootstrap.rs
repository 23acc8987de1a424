//! The bootstrap builder for real: needs mmdebstrap, name spaces and a mirror.
//! Those that download a Debian are of the full tier.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use tokio_util::sync::CancellationToken;
use visabuild::error::Kind;
use visabuild::event::Events;
use visabuild::source::apt::{Acquire, Mirrors, read_sources};
use visabuild::source::bootstrap::{self, BaseDisk, Host};
use visabuild::source::disk::Layout;
use visabuild::template::{Bootstrap, Machine};

const PACKAGES: [&str; 6] =
    ["linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin"];

fn spec() -> Bootstrap {
    Bootstrap {
        suite: "trixie".to_owned(),
        components: vec!["main".to_owned()],
        variant: "minbase".to_owned(),
        packages: PACKAGES.map(str::to_owned).to_vec(),
        disk_size: 2 << 30,
        machine: Machine::default(),
    }
}

async fn build(work_dir: &Path, spec: &Bootstrap, events: &Events) -> visabuild::error::Result<BaseDisk> {
    let cancel = &CancellationToken::new();
    let sources = read_sources(Path::new("/etc/apt"))?;
    let host = Host {
        mirrors: Mirrors::from_sources(&sources)?,
        acquire: Acquire::of_host(cancel).await?,
        keyring: None,
        work_dir: work_dir.to_owned(),
    };
    bootstrap::build(spec, &host, &events.phase("system-base", "bootstrap"), cancel).await
}

#[tokio::test]
async fn full_a_disk_that_boots_and_its_package_list_are_made_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let base = build(folder.path(), &spec(), &Events::none()).await.unwrap();

    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["base.qcow2"]);
    assert!(base.packages.iter().any(|package| package.name == "base-files" && package.version.starts_with("13")));
    let image = Command::new("qemu-img").args(["info", "--output=json"]).arg(&base.disk).output().unwrap();
    let image: serde_json::Value = serde_json::from_slice(&image.stdout).unwrap();
    assert_eq!(image["virtual-size"], 2_u64 << 30);
    assert_eq!(image["backing-filename"], serde_json::Value::Null);
    assert_eq!(list(&base.disk, "/etc/apt/sources.list.d"), ["debian.sources"], "mmdebstrap's may hold credentials");
    assert!(!list(&base.disk, "/etc/apt/apt.conf.d").contains(&"99mmdebstrap".to_owned()));
    assert!(list(&base.disk, "/boot/efi").is_empty());
    let mut grub = list(&base.disk, "/boot/grub");
    grub.sort();
    assert_eq!(grub, ["fonts", "grub.cfg", "grubenv", "i386-pc", "locale", "x86_64-efi"]);
    for left_empty in ["/dev/disk", "/run", "/proc"] {
        assert!(list(&base.disk, left_empty).is_empty(), "{left_empty}");
    }
}

/// Names in a folder of the root file system, read from the disk as it is.
fn list(disk: &Path, folder: &str) -> Vec<String> {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let convert = Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(raw.path()).status().unwrap();
    assert!(convert.success());
    let device = format!("{}?offset={}", raw.path().display(), Layout::new(2 << 30).unwrap().root.start);
    let output = Command::new("debugfs").args(["-R", &format!("ls -p {folder}"), &device]).output().unwrap();
    // A line is /inode/mode/user/group/name/size/.
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split('/').nth(5)).filter(|name| !matches!(*name, "." | ".."));
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn full_a_template_without_kernel_and_boot_loader_is_told_which_packages_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Bootstrap { packages: Vec::new(), variant: "essential".to_owned(), ..spec() };
    let error = build(folder.path(), &spec, &Events::none()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{:?}", error.chain());
    assert!(error.hints()[0].contains("`linux-image-cloud-amd64`"), "{:?}", error.hints());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn names_that_would_be_options_or_paths_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = "deb http://mirror.example.org/debian trixie main";
    let mirrors = Mirrors::from_sources(&visabuild::source::apt::parse_list(mirrors)).unwrap();
    let host = Host { mirrors, acquire: Acquire::default(), keyring: None, work_dir: folder.path().to_owned() };
    for bad in ["--hook-dir=/x", "./x.deb", "?priority(required)", "a,b", "A", "", "a b"] {
        let spec = Bootstrap { packages: vec![bad.to_owned()], ..spec() };
        let phase = Events::none().phase("system-base", "bootstrap");
        let error = bootstrap::build(&spec, &host, &phase, &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.chain(), [format!("`{bad}` is not the name of a package")]);
        assert_eq!(error.kind(), Kind::Usage);
    }
}
