//! The bootstrap builder for real: needs mmdebstrap, name spaces and a mirror.
//!
//! Ignored unless asked for, because each test downloads a Debian: `cargo test --test bootstrap -- --ignored`.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

use tokio_util::sync::CancellationToken;
use visabuild::error::Kind;
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::source::apt::{Acquire, Mirrors, read_sources};
use visabuild::source::bootstrap::{self, BaseDisk, Host};
use visabuild::source::disk::Layout;
use visabuild::template::{Bootstrap, Machine};

/// Where the process that is to be killed works.
const VICTIM_FOLDER: &str = "VISABUILD_TEST_FOLDER";

fn spec() -> Bootstrap {
    Bootstrap {
        suite: "trixie".to_owned(),
        components: vec!["main".to_owned()],
        variant: "minbase".to_owned(),
        packages: ["linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv"].map(str::to_owned).to_vec(),
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
#[ignore = "downloads a Debian"]
async fn a_disk_with_kernel_and_package_list_is_made_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let base = build(folder.path(), &spec(), &Events::none()).await.unwrap();

    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["base.qcow2", "initrd.img", "vmlinuz"]);
    assert!(base.packages.iter().any(|package| package.name == "base-files" && package.version.starts_with("13")));
    let image = Command::new("qemu-img").args(["info", "--output=json"]).arg(&base.disk).output().unwrap();
    let image: serde_json::Value = serde_json::from_slice(&image.stdout).unwrap();
    assert_eq!(image["virtual-size"], 2_u64 << 30);
    assert_eq!(image["backing-filename"], serde_json::Value::Null);
    // mmdebstrap's own may hold credentials.
    assert_eq!(list(&base.disk, "/etc/apt/sources.list.d").unwrap(), ["debian.sources"]);
    assert!(!list(&base.disk, "/etc/apt/apt.conf.d").unwrap().contains(&"99mmdebstrap".to_owned()));
    let kernel = std::fs::read(&base.kernel).unwrap();
    assert_eq!(&kernel[0x202..0x206], b"HdrS", "not a Linux kernel (boot protocol, setup header)");
}

/// Names in a folder of the root file system, read from the disk as it is.
fn list(disk: &Path, folder: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let raw = tempfile::NamedTempFile::new()?;
    let convert = Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(raw.path()).status()?;
    assert!(convert.success());
    let device = format!("{}?offset={}", raw.path().display(), Layout::new(spec().disk_size)?.root.start);
    let output = Command::new("debugfs").args(["-R", &format!("ls -p {folder}"), &device]).output()?;
    // A line is /inode/mode/user/group/name/size/.
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.split('/').nth(5)).filter(|name| !matches!(*name, "." | ".."));
    Ok(names.map(str::to_owned).collect())
}

#[tokio::test]
#[ignore = "downloads a Debian"]
async fn a_template_without_a_kernel_is_told_which_package_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Bootstrap { packages: Vec::new(), variant: "essential".to_owned(), ..spec() };
    let error = build(folder.path(), &spec, &Events::none()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{:?}", error.chain());
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

/// Prints what a build's commands print.
struct Printer;

impl Subscriber for Printer {
    fn receive(&self, event: &Timed) {
        if let Event::Output { line, .. } = &event.event {
            println!("{line}");
        }
    }
}

/// The process that [`a_killed_build_takes_everything_along`] kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM_FOLDER) {
        let events = Events::new(vec![Box::new(Printer)], Redactor::default());
        build(Path::new(&folder), &spec(), &events).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "downloads a Debian"]
async fn a_killed_build_takes_everything_along() {
    let folder = tempfile::tempdir().unwrap();
    // A pipe that every descendant inherits: its end of file says that the last of them is gone.
    let (mut alive, inherited) = pipe().unwrap();
    let mut victim = Command::new("sh")
        .args(["-c", "exec \"$0\" --ignored --nocapture --exact victim 3>&2"])
        .arg(std::env::current_exe().unwrap())
        .env(VICTIM_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(inherited)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(output.any(|line| line.starts_with("Setting up ")), "the build ended before dpkg was at work");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let mut rest = Vec::new();
    alive.read_to_end(&mut rest).unwrap();

    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&*folder.path().to_string_lossy()), "{mounts}");
    bootstrap::clean(folder.path(), &CancellationToken::new()).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
