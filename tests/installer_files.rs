//! The real debian-installer, out of its signed package: it starts, finds the file appended to its initial file system,
//! and fetches its answers from the web server. Downloads some 60 MB from the host's own mirror, once.
#![allow(clippy::unwrap_used)]

#[path = "support/netboot.rs"]
mod netboot;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use visabuild::answers::initrd::{InitrdFile, append};
use visabuild::answers::site::Site;
use visabuild::answers::web::BoundServer;
use visabuild::boot_command::{Screen, ocr};
use visabuild::error::Cause;
use visabuild::event::Events;
use visabuild::machine::{Accelerator, Boot, Config, Ended, Format, Running, Start};

/// What the guest runs instead of the installer.
const SCRIPT: &str = r#"#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
exec >/dev/ttyS0 2>&1 </dev/null
echo "APPENDED $(cat /answers/note) $(ls /bin/busybox)"
for module in virtio_pci virtio_net; do modprobe "$module"; done
for card in /sys/class/net/e*; do card=${card##*/}; done
ip link set "$card" up; ip addr add 10.0.2.15/24 dev "$card"
wget -O - "http://10.0.2.2:PORT/preseed.cfg"
wget -O - "http://10.0.2.2:PORT/missing.cfg"
echo END
echo o > /proc/sysrq-trigger; sleep 60
"#;

#[tokio::test]
async fn full_downloads_the_installer_which_finds_its_files_and_answers() {
    let work = tempfile::tempdir().unwrap();
    let (kernel, initrd) = netboot::installer(work.path()).await;
    // "HdrS" at 0x202: the x86 boot protocol's magic (Documentation/arch/x86/boot.rst).
    assert_eq!(&fs::read(&kernel).unwrap()[0x202..0x206], b"HdrS");
    let server = BoundServer::bind().await.unwrap();
    let script = SCRIPT.replace("PORT", &server.address().port().to_string());
    let files = [
        InitrdFile { mode: 0o755, ..InitrdFile::text("/hello", script) },
        InitrdFile::text("/answers/note", "here-is-a-note"),
    ];
    let appended = work.path().join("appended");
    append(&initrd, &[] as &[&Path], &files, &appended).unwrap();
    let mut site = Site::new();
    site.add("preseed.cfg", "d-i answered boolean true\n").unwrap();
    let server = server.serve(site, &Events::none(), "t");
    let mut guest = tokio::process::Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-m", "768", "-display", "none", "-monitor", "none", "-serial", "stdio"])
        .args(["-no-reboot", "-nic", "user,model=virtio-net-pci"])
        .args(["-append", "console=ttyS0 rdinit=/hello", "-kernel"])
        .arg(&kernel)
        .arg("-initrd")
        .arg(&appended)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut console = Vec::new();
    let mut stdout = guest.stdout.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(180), stdout.read_to_end(&mut console)).await;
    let console = String::from_utf8_lossy(&console).into_owned();
    assert!(ended.is_ok(), "the guest did not end: {console}");
    assert!(console.contains("APPENDED here-is-a-note /bin/busybox"), "{console}");
    assert!(console.contains("d-i answered boolean true"), "{console}");
    let requests = server.stop().await;
    let told: Vec<_> = requests.iter().map(|request| (request.path.as_str(), request.status)).collect();
    assert_eq!(told, [("/preseed.cfg", 200), ("/missing.cfg", 404)], "{console}");
}

#[tokio::test]
async fn full_an_installer_with_a_question_is_noticed_and_the_question_can_be_read() {
    let work = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
    let (kernel, initrd) = netboot::installer(work.path()).await;
    let disk = work.path().join("disk.raw");
    fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let server = BoundServer::bind().await.unwrap().serve(Site::new(), &Events::none(), "t");
    let append = "auto=true url=http://10.0.2.2:1/ vga=normal".to_owned();
    let config = Config {
        memory: 1024,
        cpus: 1,
        format: Format::Raw,
        boot: Boot::Kernel { kernel, initrd, append },
        ..Config::new("asks", Accelerator::Tcg, disk)
    };
    let (log, events, cancel) =
        (work.path().join("serial.log"), Events::none(), tokio_util::sync::CancellationToken::new());
    let start = Start {
        runtime: work.path(),
        serial_log: &log,
        serial_raw: None,
        template: "t",
        events: &events,
        cancel: &cancel,
    };
    let machine = Running::start(&config, start).await.unwrap();
    // Emulated on a busy host, it may draw nothing for a minute.
    let limit = Duration::from_secs(100);
    let waited = machine.until_powered_off(Duration::from_secs(500), limit, &cancel).await;
    let picture = work.path().join("screen.png");
    machine.screenshot(&picture).await.unwrap();
    if let Some(to) = std::env::var_os("VISABUILD_KEEP_FAILURES") {
        fs::create_dir_all(&to).unwrap();
        fs::copy(&picture, Path::new(&to).join("installer.png")).unwrap();
    }
    let screen = Screen::from_png(&fs::read(&picture).unwrap()).unwrap();
    let text = ocr::read(&screen, &cancel).await.unwrap();
    let error = waited.unwrap_err();
    let idle = Cause::Machine(Ended::Idle { quiet: limit });
    assert_eq!(error.cause(), Some(&idle), "{error}\n{text}");
    assert!(!machine.is_mute().await, "{text}");
    // Nobody has told it a name, and it asks for one before it asks for its answers.
    assert!(ocr::shows(&text, "Please enter the hostname"), "{text}");
    assert_eq!(server.requests(), []);
    machine.stop().await;
}
