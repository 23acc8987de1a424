//! A real QEMU without a guest: what `Running` promises about its process.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use visabuild::error::Kind;
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::machine::{Accelerator, Config, Ended, Format, PowerOff, Running, Start};

struct Consoles(Arc<Mutex<Vec<String>>>);

impl Subscriber for Consoles {
    fn receive(&self, event: &Timed) {
        if let Event::Console { url, .. } = &event.event {
            self.0.lock().unwrap().push(url.clone());
        }
    }
}

fn config(folder: &Path) -> Config {
    let disk = folder.join("disk, empty.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    Config {
        memory: 64,
        cpus: 1,
        format: Format::Raw,
        guest_ports: vec![22, 3389],
        unsafe_cache: true,
        ..Config::new("smoke", Accelerator::Tcg, disk)
    }
}

async fn start(config: &Config, folder: &Path, events: &Events) -> visabuild::error::Result<Running> {
    let cancel = CancellationToken::new();
    let log = folder.join("serial.log");
    Running::start(config, Start { runtime: folder, serial_log: &log, template: "t", events, cancel: &cancel }).await
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("vb").tempdir().unwrap()
}

/// A process that is gone or only waits to be reaped.
fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn qemu_tells_its_ports_shows_its_screen_and_its_death_is_seen() {
    let folder = folder();
    let urls = Arc::new(Mutex::new(Vec::new()));
    let events = Events::new(vec![Box::new(Consoles(Arc::clone(&urls)))], Redactor::default());
    let machine = start(&config(folder.path()), folder.path(), &events).await.unwrap();

    assert_eq!(*urls.lock().unwrap(), [machine.vnc_url()]);
    assert!(machine.vnc_url().starts_with("vnc://127.0.0.1:59"), "{}", machine.vnc_url());
    let (ssh, rdp) = (machine.forwarded(22).unwrap(), machine.forwarded(3389).unwrap());
    assert!(ssh.ip().is_loopback() && ssh.port() != 0 && ssh != rdp, "{ssh} {rdp}");
    assert!(machine.forwarded(80).is_err());

    let picture = folder.path().join("screen.png");
    machine.screenshot(&picture).await.unwrap();
    assert_eq!(&std::fs::read(&picture).unwrap()[..8], b"\x89PNG\r\n\x1a\n");

    assert!(Command::new("kill").args(["-KILL", &machine.pid().to_string()]).status().unwrap().success());
    for _ in 0..2 {
        assert!(matches!(machine.ended().await, Ended::Killed { signal: 9, .. }));
    }
    assert!(machine.screenshot(&picture).await.is_err());
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["disk, empty.raw", "screen.png", "serial.log"]);
}

#[tokio::test]
async fn stopping_ends_the_process() {
    let folder = folder();
    let machine = start(&config(folder.path()), folder.path(), &Events::none()).await.unwrap();
    let (pid, watch) = (machine.pid(), machine.watch());
    machine.stop().await;
    assert!(is_gone(pid));
    assert_eq!(watch.has_ended(), Some(Ended::Stopped));
}

#[tokio::test]
async fn a_dropped_machine_leaves_no_process() {
    let folder = folder();
    let machine = start(&config(folder.path()), folder.path(), &Events::none()).await.unwrap();
    let (pid, watch) = (machine.pid(), machine.watch());
    drop(machine);
    watch.gone().await;
    assert!(is_gone(pid));
    assert_eq!(watch.has_ended(), Some(Ended::Stopped));
}

#[tokio::test]
async fn a_guest_that_does_not_power_off_is_stopped_and_told() {
    let folder = folder();
    let machine = start(&config(folder.path()), folder.path(), &Events::none()).await.unwrap();
    let pid = machine.pid();
    let cancel = CancellationToken::new();
    let error = machine.shutdown(PowerOff::Guest, Duration::from_millis(1), &cancel).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest did not power off within 1ms");
    assert!(is_gone(pid));
}

#[tokio::test]
async fn qemus_own_words_explain_why_it_did_not_start() {
    let folder = folder();
    let config = Config { disk: folder.path().join("missing"), ..config(folder.path()) };
    let error = start(&config, folder.path(), &Events::none()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Build);
    let chain = error.chain();
    assert_eq!(chain[0], "QEMU did not start (exit status: 1)");
    assert!(chain[1].contains("missing") && chain[1].contains("No such file"), "{chain:?}");
}
