//! A real QEMU with at most a boot sector for a guest: what `Running` promises.
#![allow(clippy::unwrap_used)]

mod boot_sector;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boot_sector::{DRAWS, PANICS, POWERS_OFF, READS, RESETS, SAYS, SITS, TAKES_NETWORK};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use visabuild::error::Kind;
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::machine::{
    Accelerator, Boot, Cache, Config, DetectZeroes, Display, Drive, Ended, Extra, Firmware, Format, Interface,
    NetworkUse, PowerOff, Running, Smbios, Start, Topology, Tpm, Uefi, Vnc, VncPassword,
};

struct Consoles(Arc<Mutex<Vec<String>>>);

impl Subscriber for Consoles {
    fn receive(&self, event: &Timed) {
        if let Event::Console { url, .. } = &event.event {
            self.0.lock().unwrap().push(url.clone());
        }
    }
}

fn config(folder: &Path) -> Config {
    booting(folder, b"")
}

/// A machine that boots `code`, or finds nothing to boot when there is none.
fn booting(folder: &Path, code: &[u8]) -> Config {
    let disk = folder.join("disk, empty.raw");
    std::fs::write(&disk, boot_sector::disk(code)).unwrap();
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
    Running::start(
        config,
        Start { runtime: folder, serial_log: &log, serial_raw: None, template: "t", events, cancel: &cancel },
    )
    .await
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
async fn a_disk_without_a_boot_sector_is_nothing_to_boot() {
    let folder = folder();
    let machine = start(&config(folder.path()), folder.path(), &Events::none()).await.unwrap();
    assert_eq!(machine.ended().await, Ended::NoBoot { line: "No bootable device.".into() });
    machine.stop().await;
}

#[tokio::test]
async fn a_guest_that_sits_there_is_idle_and_a_cursor_that_blinks_is_nothing() {
    let folder = folder();
    let machine = start(&booting(folder.path(), SITS), folder.path(), &Events::none()).await.unwrap();
    let limit = Duration::from_secs(3);
    let before = std::time::Instant::now();
    assert_eq!(machine.idle(limit).await, Ended::Idle { quiet: limit });
    assert!(before.elapsed() >= limit);
    assert!(!machine.network().await.unwrap().unwrap().driver);
    machine.stop().await;
}

#[tokio::test]
async fn a_guest_that_works_on_screen_disk_or_serial_port_is_not_idle() {
    let folder = folder();
    for code in [DRAWS, READS, SAYS] {
        let machine = start(&booting(folder.path(), code), folder.path(), &Events::none()).await.unwrap();
        let idle = tokio::time::timeout(Duration::from_secs(4), machine.idle(Duration::from_secs(1))).await;
        assert!(idle.is_err(), "{code:x?}");
        machine.stop().await;
    }
}

#[tokio::test]
async fn a_network_card_that_a_driver_has_taken_and_nothing_was_sent_over_is_told() {
    let folder = folder();
    let machine = start(&booting(folder.path(), TAKES_NETWORK), folder.path(), &Events::none()).await.unwrap();
    let taken = async {
        while machine.network().await.unwrap() != Some(NetworkUse { driver: true, sent: 0 }) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap();
    machine.stop().await;
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

/// A CD whose boot image is `code` (El Torito without emulation: loaded where a boot sector is).
fn cd(folder: &Path, code: &[u8]) -> std::path::PathBuf {
    let (tree, iso) = (folder.join("cd"), folder.join("cd.iso"));
    std::fs::create_dir(&tree).unwrap();
    let mut sector = vec![0; 2048];
    sector[..code.len()].copy_from_slice(code);
    std::fs::write(tree.join("boot.bin"), sector).unwrap();
    let made = Command::new("xorriso")
        .args(["-as", "genisoimage", "-quiet", "-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4", "-o"])
        .arg(&iso)
        .arg(&tree)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    iso
}

#[tokio::test]
async fn qemu_boots_the_cd_while_the_disk_is_empty_and_then_the_disk() {
    for (machine_type, interface) in [("q35", Interface::Virtio), ("pc", Interface::Ide)] {
        let folder = folder();
        let iso = cd(folder.path(), PANICS);
        let installing = |code| Config {
            machine_type: machine_type.to_owned(),
            interface,
            cdroms: vec![iso.clone()],
            boot: Boot::Cdrom,
            ..booting(folder.path(), code)
        };
        let machine = start(&installing(b""), folder.path(), &Events::none()).await.unwrap();
        assert!(matches!(machine.ended().await, Ended::KernelPanic { .. }), "{machine_type}");
        machine.stop().await;
        // QEMU's q35 and pc have the power management register at the same port.
        let machine = start(&installing(POWERS_OFF), folder.path(), &Events::none()).await.unwrap();
        assert_eq!(machine.ended().await, Ended::PoweredOff, "{machine_type}");
    }
}

#[tokio::test]
async fn qemu_powers_off_where_a_guest_may_not_restart() {
    let folder = folder();
    let config = Config { no_reboot: true, ..booting(folder.path(), RESETS) };
    let machine = start(&config, folder.path(), &Events::none()).await.unwrap();
    assert_eq!(machine.ended().await, Ended::PoweredOff);
}

/// Starts `config`, asks nothing of it, and stops it.
async fn accepts(config: &Config, folder: &Path, what: &str) {
    match start(config, folder, &Events::none()).await {
        Ok(machine) => machine.stop().await,
        Err(error) => panic!("{what}: {:?}", error.chain()),
    }
}

#[tokio::test]
async fn qemu_takes_each_interface_on_each_machine() {
    use Interface::{Ide, Sata, Scsi, Virtio, VirtioScsi};
    for machine_type in ["q35", "pc"] {
        for interface in [Virtio, VirtioScsi, Ide, Sata, Scsi] {
            let folder = folder();
            let base = config(folder.path());
            let floppy = folder.path().join("floppy.img");
            std::fs::write(&floppy, vec![0; 1440 * 1024]).unwrap();
            let more = |name: &str| {
                let path = folder.path().join(name);
                std::fs::write(&path, vec![0; 1 << 20]).unwrap();
                path
            };
            let config = Config {
                machine_type: machine_type.to_owned(),
                interface,
                cdrom_interface: interface,
                drives: [false, true]
                    .map(|read_only| Drive {
                        path: more(if read_only { "read" } else { "write" }),
                        format: Format::Raw,
                        read_only,
                    })
                    .into(),
                seed: Some(more("seed")),
                cdroms: vec![more("one.iso"), more("two.iso")],
                floppy: Some(floppy),
                boot: Boot::Cdrom,
                cache: Some(Cache::Writethrough),
                detect_zeroes: DetectZeroes::On,
                ..base
            };
            accepts(&config, folder.path(), &format!("{machine_type} {interface:?}")).await;
        }
    }
}

#[tokio::test]
async fn qemu_takes_each_cache_and_device() {
    let folder = folder();
    for cache in [Cache::Writeback, Cache::None, Cache::Directsync, Cache::Unsafe] {
        let config = Config { cache: Some(cache), discard: false, ..config(folder.path()) };
        accepts(&config, folder.path(), &format!("{cache:?}")).await;
    }
    for model in
        ["e1000", "e1000e", "igb", "rtl8139", "pcnet", "ne2k_pci", "vmxnet3", "i82551", "usb-net", "virtio-net"]
    {
        let config = Config { net_device: model.to_owned(), ..config(folder.path()) };
        accepts(&config, folder.path(), model).await;
    }
    for vga in ["std", "cirrus", "vmware", "virtio", "none"] {
        let config = Config { vga: Some(vga.to_owned()), usb: true, ..config(folder.path()) };
        accepts(&config, folder.path(), vga).await;
    }
}

#[tokio::test]
async fn qemu_takes_topology_tables_and_arguments_of_the_users_own() {
    let folder = folder();
    let extra = |switch: &str, value: &str| Extra { switch: switch.to_owned(), value: Some(value.to_owned()) };
    let config = Config {
        cpus: 3,
        topology: Some(Topology { sockets: 1, cores: 2, threads: 2 }),
        smbios: Smbios {
            system: vec![("manufacturer", "A, B".to_owned()), ("serial", "ds=nocloud;s=http://10.0.2.2/".to_owned())],
            oem_strings: vec!["a=1,2".to_owned(), "b".to_owned()],
        },
        display: Display::Default,
        extra: vec![
            extra("-m", "96"),
            extra("-machine", "type=pc,accel=tcg"),
            extra("-vga", "std"),
            extra("-device", "virtio-balloon-pci"),
        ],
        ..config(folder.path())
    };
    accepts(&config, folder.path(), "extra").await;
}

#[tokio::test]
async fn qemu_boots_uefi_on_both_machines_and_with_secure_boot() {
    for (machine_type, secure_boot) in [("q35", false), ("pc", false), ("q35", true)] {
        let folder = folder();
        let uefi = Uefi { secure_boot, ..Uefi::default() };
        let config = Config {
            machine_type: machine_type.to_owned(),
            memory: 256,
            firmware: uefi.firmware(&folder.path().join("vars.fd")).unwrap(),
            ..config(folder.path())
        };
        accepts(&config, folder.path(), machine_type).await;
    }
    let folder = folder();
    let Firmware::Uefi { code, .. } = Uefi::default().firmware(&folder.path().join("v")).unwrap() else { panic!() };
    let config = Config { firmware: Firmware::Flash(code), ..config(folder.path()) };
    accepts(&config, folder.path(), "flash").await;
    let config = Config { firmware: Firmware::File("/usr/share/seabios/bios-256k.bin".into()), ..config };
    accepts(&config, folder.path(), "BIOS").await;
}

#[tokio::test]
async fn qemus_screen_asks_for_a_password_and_takes_a_port_of_the_range() {
    let folder = folder();
    let vnc = Vnc { ports: (5940, 5959), password: Some(VncPassword::new("geheim12".to_owned())), ..Vnc::default() };
    let config = Config { vnc, ..config(folder.path()) };
    let machine = start(&config, folder.path(), &Events::none()).await.unwrap();
    let port: u16 = machine.vnc_url().rsplit(':').next().unwrap().parse().unwrap();
    assert!((5940..=5959).contains(&port), "{port}");
    let address = machine.vnc_url().parse().unwrap();
    let cancel = CancellationToken::new();
    let wrong = "falsch12".to_owned().into();
    assert!(visabuild::boot_command::Vnc::connect(&address, Some(&wrong), &cancel).await.is_err());
    let right = "geheim12".to_owned().into();
    visabuild::boot_command::Vnc::connect(&address, Some(&right), &cancel).await.unwrap();
    machine.stop().await;
}

#[tokio::test]
async fn qemu_and_its_tpm_live_and_die_together() {
    assert!(Path::new("/usr/bin/swtpm").exists(), "swtpm is missing: install the package of that name");
    let swtpm = |folder: &Path| {
        let found = Command::new("pgrep").args(["-f", &format!("swtpm.*{}", folder.display())]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(|pid| pid.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    for (version1, device) in [(false, "tpm-crb"), (false, "tpm-tis"), (true, "tpm-tis")] {
        let folder = folder();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let tpm = Some(Tpm { version1, device: device.to_owned(), state });
        let config = Config { tpm, ..config(folder.path()) };
        let machine = start(&config, folder.path(), &Events::none()).await.unwrap();
        let pids = swtpm(folder.path());
        assert_eq!(pids.len(), 1, "{device}");
        if version1 {
            assert!(Command::new("kill").args(["-KILL", &pids[0].to_string()]).status().unwrap().success());
            let ended = machine.ended().await;
            assert!(matches!(ended, Ended::Killed { program: "swtpm", signal: 9, .. }), "{ended:?}");
        }
        machine.stop().await;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !swtpm(folder.path()).is_empty() {
            assert!(std::time::Instant::now() < deadline, "swtpm is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
