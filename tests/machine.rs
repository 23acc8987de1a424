//! A real QEMU with at most a boot sector for a guest: what `Running` promises.
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

/// A boot sector that writes "Kernel panic - not syncing: x" to the first serial port and halts:
/// cld; ds = 0; si = text; dx = 0x3f8; lodsb and out until a zero; jmp $.
const PANICS: &[u8] = b"\xfc\x31\xc0\x8e\xd8\xbe\x15\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xeb\xfe\
                        hello\r\nKernel panic - not syncing: x\r\n\0";

/// A boot sector that powers off by ACPI (PM1a control, port 0x604 of QEMU's q35).
const POWERS_OFF: &[u8] = b"\xba\x04\x06\xb8\x00\x20\xef\xeb\xfe";

/// A boot sector that resets the machine by the keyboard controller.
const RESETS: &[u8] = b"\xb0\xfe\xe6\x64\xeb\xfe";

fn config(folder: &Path) -> Config {
    booting(folder, b"")
}

/// A machine that boots `code`, or finds nothing to boot when there is none.
fn booting(folder: &Path, code: &[u8]) -> Config {
    let disk = folder.join("disk, empty.raw");
    let mut image = vec![0; 1 << 20];
    image[..code.len()].copy_from_slice(code);
    if !code.is_empty() {
        image[510..512].copy_from_slice(b"\x55\xaa");
    }
    std::fs::write(&disk, image).unwrap();
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

#[tokio::test]
async fn a_panic_on_the_serial_console_is_seen_while_the_screen_can_still_be_looked_at() {
    let folder = folder();
    let machine = start(&booting(folder.path(), PANICS), folder.path(), &Events::none()).await.unwrap();
    assert_eq!(machine.ended().await, Ended::KernelPanic { line: "Kernel panic - not syncing: x".into() });
    machine.screenshot(&folder.path().join("screen.png")).await.unwrap();
    machine.stop().await;
    let log = std::fs::read_to_string(folder.path().join("serial.log")).unwrap();
    assert!(log.contains("hello\nKernel panic - not syncing: x\n"), "{log:?}");
}

#[tokio::test]
async fn a_guest_that_powers_off_ends_well() {
    let folder = folder();
    let machine = start(&booting(folder.path(), POWERS_OFF), folder.path(), &Events::none()).await.unwrap();
    let (pid, watch) = (machine.pid(), machine.watch());
    machine.shutdown(PowerOff::Guest, Duration::from_secs(60), &CancellationToken::new()).await.unwrap();
    assert!(is_gone(pid));
    assert_eq!(watch.has_ended(), Some(Ended::PoweredOff));
}

#[tokio::test]
async fn resets_are_counted_and_not_the_end() {
    let folder = folder();
    let config = Config { snapshot: true, ..booting(folder.path(), RESETS) };
    let machine = start(&config, folder.path(), &Events::none()).await.unwrap();
    let watch = machine.watch();
    watch.reset_after(1).await;
    assert_eq!(watch.has_ended(), None);
    machine.stop().await;
}
