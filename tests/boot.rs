//! A real guest from its first boot to its end, when there is a disk for it.
//!
//! `VISABUILD_TEST_BASE` names a folder with `base.qcow2`, `vmlinuz` and `initrd.img` of a Debian
//! with cloud-init and openssh-server whose root file system has the label `root`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use visabuild::error::Location;
use visabuild::event::{Event, Events, Redactor, Subscriber, Timed};
use visabuild::guest::{Endpoint, Guest, HostKey, Key, Target};
use visabuild::machine::{
    Accelerator, Boot, Config, Ended, PowerOff, Running, Seed, Start, build_user_data, size_to_host, write_seed,
};
use visabuild::provision::{Context, run};
use visabuild::template::{Action, Provisioner, Shell, ShellSource};

/// Shows what comes, with its time.
struct Print;

impl Subscriber for Print {
    fn receive(&self, event: &Timed) {
        match &event.event {
            Event::Output { line, .. } => println!("{:8.2} {line}", event.elapsed),
            Event::Console { url, .. } => println!("{:8.2} {url}", event.elapsed),
            Event::Message { text, .. } => println!("{:8.2} {text}", event.elapsed),
            _ => {}
        }
    }
}

fn shell(line: &str, expect_disconnect: bool) -> Provisioner {
    let shell = Shell {
        source: ShellSource::Inline(vec![line.into()]),
        inline_shebang: "/bin/sh -e".into(),
        environment_vars: Vec::new(),
        execute_command: "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}".into(),
        remote_folder: "/tmp".into(),
        expect_disconnect,
        valid_exit_codes: vec![0],
        pause_after: None,
        binary: false,
    };
    let location = Location { file: "manifest.yml".into(), line: 1, column: 1 };
    Provisioner { label: line.into(), action: Action::Shell(shell), pause_before: None, timeout: None, location }
}

struct Boots {
    folder: tempfile::TempDir,
    base: PathBuf,
    key: Key,
    events: Events,
    cancel: CancellationToken,
}

impl Boots {
    fn new() -> Self {
        let base = std::env::var_os("VISABUILD_TEST_BASE").expect("VISABUILD_TEST_BASE names the base folder").into();
        let folder = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
        let key = Key::generate().unwrap();
        let seed = Seed {
            instance_id: "boot-test".into(),
            user_data: build_user_data(key.authorized_line()),
            meta_data: serde_json::Map::new(),
            network_config: None,
        };
        write_seed(&folder.path().join("seed.img"), &seed).unwrap();
        let events = Events::new(vec![Box::new(Print)], Redactor::default());
        Self { folder, base, key, events, cancel: CancellationToken::new() }
    }

    fn config(&self) -> Config {
        let (cpus, memory) = size_to_host(None, None);
        Config {
            cpus,
            memory,
            snapshot: true,
            seed: Some(self.folder.path().join("seed.img")),
            boot: Boot::Kernel {
                kernel: self.base.join("vmlinuz"),
                initrd: self.base.join("initrd.img"),
                append: "root=LABEL=root ro console=tty0 console=ttyS0,115200".into(),
            },
            ..Config::new("boot-test", Accelerator::Tcg, self.base.join("base.qcow2"))
        }
    }

    async fn start(&self, config: &Config) -> Running {
        let runtime = self.folder.path();
        let start =
            Start { runtime, serial_log: &self.serial(), template: "t", events: &self.events, cancel: &self.cancel };
        Running::start(config, start).await.unwrap()
    }

    fn serial(&self) -> PathBuf {
        self.folder.path().join("serial.log")
    }

    async fn connect(&self, machine: &Running) -> Guest {
        let endpoint = Endpoint {
            address: machine.forwarded(22).unwrap(),
            user: "root".into(),
            key: self.key.clone(),
            host_key: HostKey::default(),
            watch: machine.watch(),
            cancel: self.cancel.clone(),
        };
        match Guest::connect(endpoint, Duration::from_secs(900)).await {
            Ok(guest) => guest,
            Err(error) => panic!("{:?}\n{}", error.chain(), std::fs::read_to_string(self.serial()).unwrap()),
        }
    }
}

#[tokio::test]
#[ignore = "needs VISABUILD_TEST_BASE and minutes"]
async fn a_guest_boots_is_provisioned_reboots_and_powers_off() {
    let boots = Boots::new();
    let began = Instant::now();
    let machine = boots.start(&boots.config()).await;
    let mut guest = boots.connect(&machine).await;
    println!("SSH after {:?}", began.elapsed());
    machine.screenshot(&boots.folder.path().join("screen.png")).await.unwrap();

    let phase = boots.events.phase("t", "provision");
    let context = Context { phase: &phase, environment: &[], builder_type: "qemu" };
    for (line, expect_disconnect) in [
        ("uname -a; id; cat /proc/sys/kernel/random/boot_id; df -h /; ls /dev/disk/by-label", false),
        ("cloud-init status --wait || true; passwd -S root; ls -l /root/.ssh", false),
        ("echo rebooting; systemctl reboot", true),
        ("cat /proc/sys/kernel/random/boot_id; ls /tmp", false),
        ("reboot -f", true),
        ("cat /proc/sys/kernel/random/boot_id", false),
    ] {
        let began = Instant::now();
        run(&mut guest, &shell(line, expect_disconnect), &context).await.map_err(|error| error.chain()).unwrap();
        println!("{line}: {:?}", began.elapsed());
    }
    transfers(&mut guest).await;

    let began = Instant::now();
    guest.power_off().await.unwrap();
    machine.shutdown(PowerOff::Guest, Duration::from_secs(120), &boots.cancel).await.unwrap();
    println!("off after {:?}", began.elapsed());
}

async fn transfers(guest: &mut Guest) {
    let began = Instant::now();
    for number in 0..20 {
        let path = format!("/tmp/small/{number}");
        guest.upload(&b"x"[..], Target { path: &path, name: "x", mode: 0o644 }).await.unwrap();
    }
    println!("20 small files one by one: {:?}", began.elapsed());

    let began = Instant::now();
    let big = vec![7; 100 << 20];
    guest.upload(&big[..], Target { path: "/var/tmp/big", name: "big", mode: 0o644 }).await.unwrap();
    println!("100 MiB: {:?}", began.elapsed());

    let began = Instant::now();
    guest.upload_tree(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "/tmp/tree", None).await.unwrap();
    println!("src as a tree: {:?}", began.elapsed());
}

#[tokio::test]
#[ignore = "needs VISABUILD_TEST_BASE and minutes"]
async fn a_kernel_panic_is_seen_and_its_screen_too() {
    let boots = Boots::new();
    let mut config = boots.config();
    if let Boot::Kernel { append, .. } = &mut config.boot {
        append.push_str(" init=/bin/false");
    }
    let machine = boots.start(&config).await;
    let began = Instant::now();
    let ended = machine.ended().await;
    println!("{ended} after {:?}", began.elapsed());
    assert!(matches!(ended, Ended::KernelPanic { .. } | Ended::EmergencyShell { .. }), "{ended}");
    machine.screenshot(&boots.folder.path().join("screen.png")).await.unwrap();
    machine.stop().await;
}

#[tokio::test]
#[ignore = "needs VISABUILD_TEST_BASE and minutes"]
async fn the_power_button_works() {
    let boots = Boots::new();
    let machine = boots.start(&boots.config()).await;
    let mut guest = boots.connect(&machine).await;
    guest
        .exec("systemctl is-active systemd-logind; true", tokio::io::empty(), |_, line| println!("{line}"))
        .await
        .unwrap();
    let began = Instant::now();
    machine.shutdown(PowerOff::Button, Duration::from_secs(300), &boots.cancel).await.unwrap();
    println!("off after {:?}", began.elapsed());
}
