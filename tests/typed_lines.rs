//! Lines typed over VNC at guests that write down what they got: a boot sector that loses keys, and Linux' console, with
//! every processor of host and guest busy. Linux is debian-installer's kernel, downloaded once from the host's own
//! mirror.
#![allow(clippy::unwrap_used)]

mod boot_sector;
#[path = "support/load.rs"]
mod load;
#[path = "support/netboot.rs"]
mod netboot;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use load::Load;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use visabuild::answers::initrd::{InitrdFile, append};
use visabuild::boot_command::{Address, BootCommand, Pace, Pictures, Screen, Typed, Typist, Unfinished};
use visabuild::error::Cause;
use visabuild::event::Events;
use visabuild::machine::{Accelerator, Boot, Config, Format, Running, Start};

/// What Linux runs instead of the installer: it reads lines from its console, beside a loop that never rests.
const READER: &str = r#"#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc
echo 1 >/proc/sys/kernel/printk
exec </dev/tty1 >/dev/tty1 2>&1
while :; do :; done &
echo "=ready" >/dev/ttyS0
while IFS= read -r line; do printf '=%s.\n' "$line" >/dev/ttyS0; done
"#;

/// A guest, a typist at its keyboard, and what it writes to its serial port.
struct Desk {
    machine: Running,
    typist: Typist,
    serial: PathBuf,
    folder: TempDir,
}

impl Desk {
    async fn start(folder: TempDir, config: Config, pace: Pace) -> Self {
        let config = Config { cpus: 1, format: Format::Raw, guest_ports: Vec::new(), unsafe_cache: true, ..config };
        let [log, serial] = ["serial.log", "serial.raw"].map(|name| folder.path().join(name));
        let (events, cancel) = (Events::none(), CancellationToken::new());
        let start = Start {
            runtime: folder.path(),
            serial_log: &log,
            serial_raw: Some(&serial),
            template: "keys",
            events: &events,
            cancel: &cancel,
        };
        let machine = Running::start(&config, start).await.unwrap();
        let address: Address = machine.vnc_url().parse().unwrap();
        let typist = Typist::connect(&address, None, pace, &cancel).await.unwrap();
        Self { machine, typist, serial, folder }
    }

    /// A boot sector that loses so many of the keys `x`.
    async fn that_loses(drops: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        std::fs::write(&disk, boot_sector::loses(drops)).unwrap();
        let config = Config { memory: 64, ..Config::new("keys", Accelerator::Tcg, disk) };
        let mut desk = Self::start(folder, config, Pace::default()).await;
        desk.serial_says(">").await;
        desk
    }

    /// Linux at its console.
    async fn linux(pace: Pace) -> Self {
        let folder = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
        let (kernel, original) = netboot::installer(folder.path()).await;
        let [initrd, disk] = ["initrd", "disk.raw"].map(|name| folder.path().join(name));
        let files = [InitrdFile { mode: 0o755, ..InitrdFile::text("/reader", READER) }];
        append(&original, &[] as &[&std::path::Path], &files, &initrd).unwrap();
        std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let append = "rdinit=/reader vga=normal quiet".to_owned();
        let boot = Boot::Kernel { kernel, initrd, append };
        let config = Config { memory: 1024, boot, ..Config::new("keys", Accelerator::Tcg, disk) };
        let mut desk = Self::start(folder, config, pace).await;
        desk.serial_says("=ready").await;
        desk.types("<waitForScreen stable 500ms 60s>").await.unwrap();
        desk
    }

    async fn types(&mut self, text: &str) -> Result<Typed, Box<Unfinished>> {
        let command = BootCommand::parse(&[text]).unwrap();
        self.typist.run(&command, &Pictures::default()).await
    }

    fn serial(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    async fn serial_says(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(240);
        while !self.serial().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.serial());
            self.typist.pause(Duration::from_millis(50)).await.unwrap();
        }
    }

    /// Types lines, and counts those that came otherwise.
    async fn types_lines(&mut self, lines: &[String]) -> (Typed, usize) {
        let (mut sum, start) = (Typed::default(), Instant::now());
        for (number, line) in lines.iter().enumerate() {
            let written = line.replace('<', "<less>").replace('{', "<braceleft>");
            sum += self.types(&format!("{written}<enter>")).await.unwrap();
            if (number + 1) % 50 == 0 {
                eprintln!("{} lines in {:?}: {sum:?}", number + 1, start.elapsed());
            }
        }
        let end = format!("end{}", lines.len());
        self.types(&format!("{end}<enter>")).await.unwrap();
        self.serial_says(&format!("={end}.")).await;
        let serial = self.serial();
        let came = serial.lines().filter_map(|line| line.strip_prefix('=')?.strip_suffix('.'));
        let came: Vec<&str> = came.collect();
        assert!(came.len() > lines.len(), "{} of {} lines came", came.len(), lines.len());
        let came = &came[came.len() - 1 - lines.len()..came.len() - 1];
        let wrong: Vec<_> = came.iter().zip(lines).filter(|(came, line)| *came != line).collect();
        wrong.iter().for_each(|(came, line)| eprintln!("{line:?} came as {came:?}"));
        let rate = |count: u64| sum.time / u32::try_from(count).unwrap();
        let (key, event) = (rate(sum.keys), rate(sum.events));
        eprintln!("{} lines in {:?}, {sum:?}: {key:?} a key, {event:?} an event", lines.len(), start.elapsed());
        (sum, wrong.len())
    }
}

/// Lines of 20 to 60 random printable characters, always the same ones. No spaces at the ends, which nobody could see.
fn lines(count: usize) -> Vec<String> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    // Xorshift (Marsaglia 2003), 13/7/17.
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut line = || {
        let length = 20 + random(41);
        let text: String = (0..length).map(|_| char::from(b' ' + random(95) as u8)).collect();
        format!("{}|", text.trim())
    };
    (0..count).map(|_| line()).collect()
}

#[tokio::test]
async fn qemu_a_line_that_lost_a_key_is_typed_again() {
    let mut desk = Desk::that_loses(1).await;
    let typed = desk.types("root=/dev/vda1 vga=x quiet<enter>the next line is as it was typed<enter>").await.unwrap();
    assert_eq!((typed.retyped, typed.read_back), (1, 2), "{typed:?}");
    desk.serial_says("typed\n").await;
    let expected = ">root=/dev/vda1 vga=x quiet\n>the next line is as it was typed\n";
    assert!(desk.serial().replace('\r', "").starts_with(expected), "{:?}", desk.serial());
    desk.machine.stop().await;
}

#[tokio::test]
async fn qemu_a_line_that_loses_a_key_again_is_not_entered() {
    let mut desk = Desk::that_loses(u8::MAX).await;
    // What is not to be seen is no fault: the first key of a line, and a short answer.
    desk.types("x<enter>xab<enter>").await.unwrap();
    let unfinished = desk.types("the quick brown fox jumps<enter>").await.unwrap_err();
    assert_eq!((unfinished.at, unfinished.error.cause()), ((0, 25), Some(&Cause::Mistyped)));
    let chain = unfinished.error.chain().join(": ");
    assert!(
        chain.contains("typed was \"the quick brown fox jumps\"; the screen shows \"the quick brown fo jumps\""),
        "{chain}"
    );
    assert!(chain.contains("the first 18 of 25 characters are right"), "{chain}");
    assert_eq!(Screen::from_png(&unfinished.picture.unwrap()).unwrap().size(), (720, 400));
    desk.serial_says("ab\n").await;
    assert_eq!(desk.serial().replace('\r', ""), ">\n>ab\n>");
    // Whoever does not want to know is not told.
    let pace = Pace { read_back: false, ..Pace::default() };
    let address: Address = desk.machine.vnc_url().parse().unwrap();
    let mut blind = Typist::connect(&address, None, pace, &CancellationToken::new()).await.unwrap();
    let command = BootCommand::parse(&["<enter>the quick fox<enter>"]).unwrap();
    let typed = blind.run(&command, &Pictures::default()).await.unwrap();
    assert_eq!((typed.read_back, typed.retyped), (0, 0));
    desk.serial_says("\n>the quick fo\n").await;
    assert!(desk.folder.path().exists());
    desk.machine.stop().await;
}

/// All lines came and were read back, and none had to be typed again.
fn all_were_read((typed, wrong): (Typed, usize), lines: u64) {
    assert_eq!((wrong, typed.read_back, typed.retyped), (0, lines, 0), "{typed:?}");
}

#[tokio::test]
async fn full_qemu_lines_arrive_at_a_busy_linux_as_they_were_typed() {
    let mut desk = Desk::linux(Pace::default()).await;
    let _load = Load::start();
    all_were_read(desk.types_lines(&lines(25)).await, 25);
    desk.machine.stop().await;
}

#[tokio::test]
async fn full_a_thousand_lines_arrive_at_a_busy_linux_as_they_were_typed() {
    let mut desk = Desk::linux(Pace::default()).await;
    let load = Load::start();
    all_were_read(desk.types_lines(&lines(1000)).await, 1000);
    drop(load);
    desk.machine.stop().await;
}

#[tokio::test]
async fn full_packers_pace_at_a_busy_linux_is_compared() {
    let mut desk = Desk::linux(Pace::default()).await;
    let load = Load::start();
    all_were_read(desk.types_lines(&lines(20)).await, 20);
    // Whatever is lost of it is printed: nobody looks at the screen.
    let address: Address = desk.machine.vnc_url().parse().unwrap();
    let pace = Pace { read_back: false, ..Pace::packer() };
    desk.typist = Typist::connect(&address, None, pace, &CancellationToken::new()).await.unwrap();
    let (typed, wrong) = desk.types_lines(&lines(20)).await;
    eprintln!("at Packer's pace {wrong} of 20 lines came otherwise");
    assert_eq!((typed.read_back, typed.retyped), (0, 0));
    drop(load);
    desk.machine.stop().await;
}
