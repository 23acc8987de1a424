//! Boot commands typed over VNC at a real guest: GRUB's command line in QEMU, which echoes what is typed on the
//! screen and writes what it understood to the serial port.
#![allow(clippy::unwrap_used)]

#[path = "support/load.rs"]
mod load;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use load::Load;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use visabuild::boot_command::{
    Address, BootCommand, PACKER_KEY_INTERVAL, Pace, Pictures, Screen, Typed, Typist, Unfinished,
};
use visabuild::error::Kind;
use visabuild::event::{Events, Redactor};
use visabuild::machine::{Accelerator, Config, Format, Running, Start};

const MODULES: &str = "/usr/lib/grub/i386-pc";

/// GRUB at its command line in a machine, and a typist at its keyboard.
struct Grub {
    machine: Option<Running>,
    typist: Typist,
    serial: PathBuf,
    folder: TempDir,
}

/// A disk that GRUB boots from; it finds no configuration and shows its command line.
fn disk(folder: &Path) -> PathBuf {
    let (config, core, disk) = (folder.join("early.cfg"), folder.join("core.img"), folder.join("disk.raw"));
    let said = "serial --unit=0 --speed=115200\nterminal_input console\nterminal_output console serial\n";
    std::fs::write(&config, said).unwrap();
    let mut make = Command::new("grub-mkimage");
    make.args(["-O", "i386-pc", "-d", MODULES, "-p", "(hd0)/none", "-c"]).arg(&config).arg("-o").arg(&core);
    make.args(["biosdisk", "serial", "terminal", "echo", "normal", "sleep", "halt", "test"]);
    assert!(make.status().expect("grub-common and grub-pc-bin are installed").success());
    let mut image = std::fs::read(Path::new(MODULES).join("boot.img")).unwrap();
    // grub-mkimage expects its image in the sectors behind the boot sector.
    assert_eq!(image.len(), 512);
    image.extend(std::fs::read(&core).unwrap());
    image.resize(1 << 20, 0);
    image[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(&disk, image).unwrap();
    disk
}

impl Grub {
    /// Boots, and waits on the screen for the prompt.
    async fn start(pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let config = Config {
            memory: 64,
            cpus: 1,
            format: Format::Raw,
            guest_ports: Vec::new(),
            unsafe_cache: true,
            ..Config::new("grub", Accelerator::Tcg, disk)
        };
        let serial = folder.path().join("serial.log");
        let (events, cancel) = (Events::new(Vec::new(), Redactor::default()), CancellationToken::new());
        let start = Start {
            runtime: folder.path(),
            serial_log: &serial,
            serial_raw: None,
            template: "grub",
            events: &events,
            cancel: &cancel,
        };
        let machine = Running::start(&config, start).await.unwrap();
        let address: Address = machine.vnc_url().parse().unwrap();
        let typist = Typist::connect(&address, None, pace, &cancel).await.unwrap();
        let mut grub = Self { machine: Some(machine), typist, serial, folder };
        grub.serial_says("file completions").await;
        grub.types("<waitForScreen stable 500ms 30s>").await.unwrap();
        grub
    }

    async fn types(&mut self, text: &str) -> Result<Typed, Box<Unfinished>> {
        let command = BootCommand::parse(&[text]).unwrap();
        let pictures = Pictures::load(&command, self.folder.path()).unwrap();
        self.typist.run(&command, &pictures).await
    }

    /// The lines that GRUB wrote to the serial port.
    fn serial(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// The lines that GRUB's `echo` wrote: those that begin with `=`.
    fn echoed(&self) -> Vec<String> {
        self.serial().lines().filter(|line| line.starts_with('=')).map(str::to_owned).collect()
    }

    fn pid(&self) -> String {
        self.machine.as_ref().unwrap().pid().to_string()
    }

    async fn serial_says(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.serial().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.serial());
            self.typist.pause(Duration::from_millis(50)).await.unwrap();
        }
    }

    async fn stop(mut self) {
        self.machine.take().unwrap().stop().await;
    }
}

/// Lines of which no two are alike, with every character that GRUB takes for itself between single quotes.
fn lines(count: usize) -> Vec<String> {
    let pool: Vec<char> = (' '..='~').filter(|c| *c != '\'').collect();
    let character = |index: usize| pool[index % pool.len()];
    let line = |number: usize| {
        let text: String = (0..8).map(|place| character(number * 8 + place * 37)).collect();
        format!("={number:04}{text}.")
    };
    (0..count).map(line).collect()
}

/// Types lines that GRUB repeats, and holds what arrived against them.
async fn type_lines(grub: &mut Grub, count: usize) -> Typed {
    let lines = lines(count);
    let (mut sum, start) = (Typed::default(), Instant::now());
    for line in &lines {
        let escaped = line.replace('<', "<less>").replace('{', "<braceleft>");
        sum += grub.types(&format!("echo '{escaped}'<enter>")).await.unwrap();
    }
    grub.types("echo '=end'<enter>").await.unwrap();
    grub.serial_says("\n=end").await;
    let mut echoed = grub.echoed();
    echoed.pop();
    let expected: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(echoed, expected, "in {:?}", start.elapsed());
    assert_eq!((sum.read_back, sum.retyped), (count as u64, 0));
    let rate = sum.time / u32::try_from(sum.events).unwrap();
    eprintln!("{count} lines, {sum:?}: {rate:?} an event; Packer takes {PACKER_KEY_INTERVAL:?}");
    sum
}

#[tokio::test]
async fn qemu_typing_takes_less_than_packers_interval() {
    let mut grub = Grub::start(Pace::default()).await;
    let typed = type_lines(&mut grub, 10).await;
    assert_eq!(typed.unseen, 0);
    assert!(typed.time / u32::try_from(typed.events).unwrap() < PACKER_KEY_INTERVAL, "{typed:?}");
    grub.stop().await;
}

#[tokio::test]
async fn qemu_typed_lines_arrive_once_and_in_order_under_load() {
    let mut grub = Grub::start(Pace::default()).await;
    let load = Load::start();
    type_lines(&mut grub, 15).await;
    drop(load);
    grub.stop().await;
}

#[tokio::test]
async fn qemu_a_guest_that_does_not_listen_for_a_while_loses_nothing() {
    // Typed blindly, a line is lost: the BIOS keeps 15 keys.
    let mut grub = Grub::start(Pace { echo: false, ..Pace::default() }).await;
    grub.types("sleep 2<enter>echo '=0123456789abcdefghijklmnopqrstuvwxyz'<enter><wait3>").await.unwrap();
    let blind = grub.echoed();
    grub.stop().await;
    assert!(blind.is_empty(), "{blind:?}");
    let mut grub = Grub::start(Pace::default()).await;
    grub.types("sleep 2<enter>echo '=0123456789abcdefghijklmnopqrstuvwxyz'<enter>").await.unwrap();
    grub.serial_says("\n=0123456789abcdefghijklmnopqrstuvwxyz").await;
    // A whole machine that does not get the processor.
    let pid = grub.pid();
    let stalls = std::thread::spawn(move || {
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(400));
            for signal in ["-STOP", "-CONT"] {
                Command::new("kill").args([signal, &pid]).status().unwrap();
                std::thread::sleep(Duration::from_millis(if signal == "-STOP" { 900 } else { 0 }));
            }
        }
    });
    grub.types("echo '=The Quick Brown Fox'<enter>echo '=Jumps Over'<enter>echo '=The Lazy Dog'<enter>").await.unwrap();
    stalls.join().unwrap();
    grub.serial_says("\n=The Lazy Dog").await;
    assert_eq!(grub.echoed()[1..], ["=The Quick Brown Fox", "=Jumps Over", "=The Lazy Dog"]);
    grub.stop().await;
}

#[tokio::test]
async fn qemu_special_keys_and_modifiers_do_what_they_are_for() {
    let mut grub = Grub::start(Pace::default()).await;
    // GRUB's line editor has Emacs' keys.
    grub.types("=first<home>echo <end>!<bs>?<enter>").await.unwrap();
    grub.types("=second<leftCtrlOn>a<leftCtrlOff>echo <enter>").await.unwrap();
    grub.types("echo '=<leftShiftOn>abcD12;<leftShiftOff>abc'<enter>").await.unwrap();
    grub.types("echo '=<AOn><AOff><aOn><aOff>x<left><left><del><spacebar>'<enter>").await.unwrap();
    grub.types("<up><up><f12><enter>").await.unwrap();
    grub.serial_says("=Aax").await;
    grub.types("echo '=end'<enter>").await.unwrap();
    grub.serial_says("\n=end").await;
    let expected = ["=first?", "=second", "=ABCD!@:abc", "=A x", "=ABCD!@:abc", "=end"];
    assert_eq!(grub.echoed(), expected, "{}", grub.serial());
    grub.stop().await;
}

#[tokio::test]
async fn qemu_packers_pace_is_kept_when_it_is_asked_for() {
    let mut grub = Grub::start(Pace::packer()).await;
    let typed = grub.types("echo =Ab<enter>").await.unwrap();
    assert_eq!((typed.keys, typed.events), (9, 20));
    assert!(typed.time >= PACKER_KEY_INTERVAL * 20, "{typed:?}");
    grub.serial_says("\n=Ab").await;
    grub.stop().await;
}

#[tokio::test]
async fn qemu_the_screen_is_waited_for() {
    let mut grub = Grub::start(Pace::default()).await;
    let menu = grub.typist.screenshot().await.unwrap();
    std::fs::write(grub.folder.path().join("prompt.png"), &menu).unwrap();
    assert_eq!(Screen::from_png(&menu).unwrap().size(), (720, 400));
    let start = Instant::now();
    grub.types("clear<enter>sleep 2<enter>").await.unwrap();
    // The picture is there again only when the screen was cleared and the prompt stands where it stood.
    grub.types("<waitForScreen text \"GRUB> sleep 2\" [0,0,720,48] 20s><waitForScreen stable 3s 30s>").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    grub.types("sleep 2; normal<enter><waitForScreen image prompt.png [0,0,720,120] 30s>").await.unwrap();
    grub.types("<waitForScreen image prompt.png 30s>").await.unwrap();
    grub.stop().await;
}

#[tokio::test]
async fn qemu_what_is_not_seen_in_time_is_an_error_with_the_screen() {
    let mut grub = Grub::start(Pace::default()).await;
    std::fs::write(grub.folder.path().join("other.png"), Screen::new(720, 400).png().unwrap()).unwrap();
    std::fs::write(grub.folder.path().join("small.png"), Screen::new(7, 4).png().unwrap()).unwrap();
    for (wait, why) in [
        ("<waitForScreen text \"login:\" 2s>", "the last text that was read on the screen:"),
        ("<waitForScreen text \"login:\" [700,0,100,9] 1s>", "the region [700,0,100,9] is not on the screen"),
        ("<waitForScreen image other.png 1s>", "of the pixels were other when it was nearest; 0.05 % may be"),
        ("<waitForScreen image small.png 1s>", "the screen is 720x400 and the picture 7x4"),
    ] {
        let start = Instant::now();
        let unfinished = grub.types(&format!("x{wait}y")).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert_eq!(unfinished.at, (0, 1));
        assert_eq!(unfinished.error.kind(), Kind::Build);
        let chain = unfinished.error.chain().join(": ");
        assert!(chain.contains("the screen did not show what") && chain.contains(why), "{chain}");
        let picture = Screen::from_png(&unfinished.picture.unwrap()).unwrap();
        assert_eq!(&picture, grub.typist.screen());
    }
    // Something that never rests.
    grub.types("<wait1><enter>while true; do echo x; sleep 0; done<enter>").await.unwrap();
    let chain = grub.types("<waitForScreen stable 2s 4s>").await.unwrap_err().error.chain().join(": ");
    assert!(chain.contains("it never rested"), "{chain}");
    grub.stop().await;
}

#[tokio::test]
async fn qemu_typing_ends_with_the_token_and_with_the_machine() {
    let mut grub = Grub::start(Pace::default()).await;
    let cancel = CancellationToken::new();
    let address: Address = grub.machine.as_ref().unwrap().vnc_url().parse().unwrap();
    // A second viewer: the server is shared.
    let mut second = Typist::connect(&address, None, Pace::default(), &cancel).await.unwrap();
    let command = BootCommand::parse(&["echo <wait1h>"]).unwrap();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    };
    let none = Pictures::default();
    let (stopped, ()) = tokio::join!(second.run(&command, &none), stop);
    let unfinished = stopped.unwrap_err();
    assert_eq!((unfinished.error.kind(), unfinished.at), (Kind::Interrupted, (0, 5)));
    assert!(unfinished.picture.is_some());
    grub.machine.take().unwrap().stop().await;
    let error = grub.types("x<wait1h>").await.unwrap_err().error;
    assert_eq!(error.chain()[1], "the connection to the machine's screen and keyboard broke");
}

#[tokio::test]
async fn qemu_a_password_and_a_unix_socket_are_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vnc");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-machine", "q35", "-accel", "tcg", "-m", "16", "-device", "VGA", "-display", "none"]);
    qemu.args(["-object", "secret,id=password,data=sesame", "-vnc"]);
    qemu.arg(format!("unix:{},password-secret=password", path.display()));
    let mut qemu = qemu.spawn().unwrap();
    while !path.exists() {
        assert!(qemu.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (address, cancel) = (Address::Unix(path), CancellationToken::new());
    let mut outcomes = Vec::new();
    for password in [None, Some("wrong"), Some("sesame")] {
        let password = password.map(secrecy::SecretString::from);
        let connected = Typist::connect(&address, password.as_ref(), Pace::default(), &cancel).await;
        outcomes.push(connected.map_err(|error| error.chain().join(": ")).is_ok());
    }
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert_eq!(outcomes, [false, false, true]);
}
