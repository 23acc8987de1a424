//! Provoked failures, each with the right class in `failure.json`. Most guests are no operating system but a boot sector,
//! planted as the base disk in a cache of its own; the others are containers. `docs/failures.md` is the table of them.
#![allow(clippy::unwrap_used)]

mod boot_sector;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use boot_sector::{PANICS, POWERS_OFF, RESCUES, SITS, TAKES_NETWORK};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::bench::{BOOT, Bench, signal};
use support::planted::{self, build};
use support::{Run, told};
use visabuild::engine::Engine;
use visabuild::pipeline::FailureClass::{self, *};

/// How each class is provoked, and by which test; `docs/failures.md` is compared with it.
const ROWS: &[(FailureClass, &str, &str)] = &[
    (SitsOnScreen, "a boot sector asks “Which keyboard?” and halts", "a_guest_that_waits_for_somebody"),
    (AnswersNotFetched, "the same facts without a request, as a unit test", "pipeline::failure::class"),
    (Mistyped, "a boot sector ignores a key that it is typed", "a_guest_that_loses_a_key"),
    (
        InstallationFailed,
        "a preseed switches the machine off before anything is installed",
        "qemu_the_installers_kernel",
    ),
    (
        NoNetwork,
        "a boot sector takes the network card as a driver does, and sends nothing",
        "a_guest_without_a_network",
    ),
    (KernelPanic, "a boot sector writes one to the serial port; `sysrq` in a guest", "what_the_console_says"),
    (EmergencyShell, "a boot sector writes initramfs's prompt to the serial port", "what_the_console_says"),
    (NothingToBoot, "a disk without a boot sector", "what_the_console_says"),
    (PoweredOff, "a boot sector powers the machine off", "what_the_console_says"),
    (SshNeverAnswered, "a boot sector halts, and `idle_timeout` is off", "a_guest_that_never_answers_ssh"),
    (SshClosed, "a service says an SSH server's banner and closes", "nspawn_ssh_that_lets_nobody_in"),
    (SshRefusedKey, "sshd_config says `AuthorizedKeysFile none`", "nspawn_ssh_that_lets_nobody_in"),
    (HostKeyChanged, "the guest makes new host keys", "nspawn_ssh_that_lets_nobody_in"),
    (NotStarted, "`cpu_model` names none that QEMU knows", "a_machine_that_does_not_start_or_dies"),
    (MachineDied, "SIGKILL and SIGSEGV to QEMU", "a_machine_that_does_not_start_or_dies"),
    (MachineStopped, "QEMU's run states, as a unit test", "machine::supervisor"),
    (DiskFull, "the cache's file system is made smaller while a step writes", "full_qemu_a_full_disk_ends"),
    (IoError, "the base disk's qcow2 is damaged", "a_disk_that_cannot_be_read"),
    (TimedOut, "a step sleeps longer than its `timeout`", "nspawn_steps_that_fail"),
    (StepFailed, "`exit 7`", "nspawn_steps_that_fail"),
    (CommandFailed, "a step removes chpasswd, which sealing needs", "nspawn_steps_that_fail"),
    (NotVerified, "a contract that the image does not keep", "nspawn_an_image_that_fails"),
    (Interrupted, "Ctrl-C while SSH is waited for", "a_build_that_is_interrupted"),
    (Host, "no tool to build with, as a unit test", "pipeline::failure::class"),
    (Other, "whatever nobody has thought of", ""),
];

/// A project whose guest is a boot sector.
fn sector(code: &[u8], builder: &str) -> Bench {
    planted::project(&boot_sector::disk(code), builder)
}

/// `failure.json`, which has the class that `reason.txt` begins with, and names the files that are there.
fn report(bench: &Bench, class: FailureClass, err: &str) -> Value {
    let folder = bench.results().join("failure");
    let failure: Value = serde_json::from_slice(&fs::read(folder.join("failure.json")).unwrap()).unwrap();
    let reason = fs::read_to_string(folder.join("reason.txt")).unwrap();
    assert_eq!(failure["class"], class.code(), "{reason}\n{err}");
    assert!(reason.starts_with(class.words()), "{reason}");
    for file in failure["files"].as_array().unwrap() {
        assert!(folder.join(file.as_str().unwrap()).is_file(), "{file}");
    }
    let again = failure["reproduce"]["visabuild"].as_str().unwrap();
    assert!(again.starts_with("visabuild build ") && reason.contains(again), "{again}\n{reason}");
    keep_for_a_look(&folder, class);
    failure
}

/// Copies a report where `VISABUILD_KEEP_FAILURES` says, for whoever wants to see what users see.
fn keep_for_a_look(folder: &Path, class: FailureClass) {
    if let Some(to) = std::env::var_os("VISABUILD_KEEP_FAILURES") {
        fs::create_dir_all(&to).unwrap();
        let to = Path::new(&to).join(class.code());
        assert!(Command::new("cp").arg("-rT").arg(folder).arg(to).status().unwrap().success());
    }
}

fn fails(bench: &Bench, class: FailureClass) -> Value {
    let (_, err, code) = told(&build(bench).output().unwrap());
    assert!([3, 4].contains(&code), "{err}");
    report(bench, class, &err)
}

fn text(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.results().join("failure").join(name)).unwrap()
}

#[test]
fn a_guest_that_waits_for_somebody_ends_the_build_with_what_it_asks() {
    let bench = sector(SITS, "      idle_timeout: 3s\n");
    let (_, err, code) = told(&build(&bench).output().unwrap());
    assert_eq!(code, 4, "{err}");
    let failure = report(&bench, SitsOnScreen, &err);
    assert_eq!(failure["phase"], "wait for SSH");
    assert!(failure["seconds"].as_f64().unwrap() >= 3.0);
    assert_eq!(failure["machine"], "it was running");
    assert!(failure["reproduce"]["machine"].as_str().unwrap().starts_with("qemu-system-x86_64 "));
    assert!(fs::read(bench.results().join("failure/screen.png")).unwrap().starts_with(b"\x89PNG"));
    let screen = text(&bench, "screen.txt");
    assert!(visabuild::boot_command::ocr::shows(&screen, "Which keyboard?"), "{screen}");
    assert!(err.contains("its screen shows:"), "{err}");
}

/// A project whose guest boots `image` from a CD and is typed at, with no disk to install to.
fn typed_at(image: &[u8], command: &str) -> Bench {
    let bench = planted::project(image, "");
    let folder = bench.folder.path();
    let (tree, iso) = (folder.join("tree"), folder.join("keys.iso"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("boot.img"), &image[..2048]).unwrap();
    let mut make = Command::new("xorriso");
    make.args(["-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4", "-o"]);
    assert!(make.args([&iso, &tree]).status().unwrap().success());
    let manifest = format!(
        "packer:\n  builders:\n    - type: qemu\n      iso_url: {}\n      iso_checksum: none\n      boot_wait: 0s\n      \
         boot_command: [{command:?}]\n      memory: 64\n      disk_size: 1G\n      install_timeout: 5m\n",
        iso.display()
    );
    fs::write(folder.join("templates/tiny/manifest.yml"), manifest).unwrap();
    bench
}

#[test]
fn a_guest_that_loses_a_key_again_ends_the_build_with_what_it_shows() {
    let bench =
        typed_at(&boot_sector::loses(u8::MAX), "<waitForScreen stable 1s 60s>root=/dev/sda vga=x quiet<enter><wait1h>");
    let failure = fails(&bench, Mistyped);
    let causes = failure["causes"].to_string();
    assert!(causes.contains("root=/dev/sda vga=x quiet") && causes.contains("root=/dev/sda vga= quiet"), "{failure}");
    assert!(causes.contains("the first 18 of 25 characters are right"), "{failure}");
    assert!(failure["hints"].to_string().contains("boot_read_back"), "{failure}");
    assert!(fs::read(bench.results().join("failure/screen.png")).unwrap().starts_with(b"\x89PNG"));
    let screen = text(&bench, "screen.txt");
    assert!(visabuild::boot_command::ocr::shows(&screen, "vga= quiet"), "{screen}");
}

#[test]
fn a_guest_without_a_network_is_told_from_one_that_waits() {
    let failure = fails(&sector(TAKES_NETWORK, "      idle_timeout: 3s\n"), NoNetwork);
    assert!(failure["hints"].to_string().contains("configured"), "{failure}");
}

#[test]
fn what_the_console_says_is_the_class() {
    for (code, class) in
        [(PANICS, KernelPanic), (RESCUES, EmergencyShell), (&b""[..], NothingToBoot), (POWERS_OFF, PoweredOff)]
    {
        let bench = sector(code, "");
        let failure = fails(&bench, class);
        assert!(failure["seconds"].as_f64().unwrap() < 60.0, "{failure}");
        assert_eq!(bench.results().join("failure/screen.png").is_file(), class != PoweredOff, "{class:?}");
    }
}

#[test]
fn a_guest_that_never_answers_ssh_is_not_waited_for_longer_than_its_time() {
    let failure = fails(&sector(SITS, "      idle_timeout: 0\n      ssh_timeout: 4s\n"), SshNeverAnswered);
    assert!(failure["causes"].to_string().contains("banner"), "{failure}");
}

#[test]
fn a_machine_that_does_not_start_or_dies_is_told_with_its_end() {
    let failure = fails(&sector(SITS, "      cpu_model: no-such-cpu\n"), NotStarted);
    assert!(failure["causes"].to_string().contains("no-such-cpu"), "{failure}");
    assert_eq!(failure["machine"], Value::Null);
    for (number, sent) in [("9", Signal::KILL), ("11", Signal::SEGV)] {
        let bench = sector(SITS, "");
        let mut run = Run::start(build(&bench));
        run.wait_for(BOOT);
        signal(&run, "qemu-system", sent);
        let (code, err) = run.end();
        assert_eq!(code, Some(4), "{err}");
        let failure = report(&bench, MachineDied, &err);
        assert_eq!(failure["signal"], number);
        assert_eq!(failure["machine"], format!("QEMU was killed by signal {number}"));
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_an_io_error() {
    let bench = sector(SITS, "");
    let bases = fs::read_dir(bench.cache.join("visabuild/bases")).unwrap().flatten();
    let disk = bases.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "qcow2")).unwrap();
    // The place of the first table of data (qcow2.txt, "l1_table_offset"), whose first entry then points between clusters.
    let mut bytes = fs::read(&disk).unwrap();
    let table = usize::try_from(u64::from_be_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    bytes[table + 6] ^= 0x02;
    fs::write(&disk, bytes).unwrap();
    let failure = fails(&bench, IoError);
    assert!(failure["causes"].to_string().contains("the host cannot read"), "{failure}");
}

#[test]
fn a_build_that_is_interrupted_says_so() {
    let bench = sector(SITS, "");
    let mut run = Run::start(build(&bench));
    run.wait_for(BOOT);
    run.signal(Signal::INT);
    let (code, err) = run.end();
    assert_eq!(code, Some(130), "{err}");
    report(&bench, Interrupted, &err);
}

/// A project on the shared base disk whose guest is a container.
fn container(steps: &str) -> Bench {
    let bench = Bench::new(Engine::Nspawn, steps);
    let manifest = bench.folder.path().join("templates/tiny/manifest.yml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("      type: bootstrap\n", "      type: bootstrap\n      ssh_timeout: 30s\n"))
        .unwrap();
    bench
}

fn fails_by(bench: &Bench, class: FailureClass) -> Value {
    let (_, err, code) = told(&bench.build().arg("--no-verify").output().unwrap());
    assert_eq!(code, 4, "{err}");
    let failure = report(bench, class, &err);
    assert!(failure["reproduce"]["visabuild"].as_str().unwrap().contains("\"$VISA_ROOT_PASSWORD\""), "{failure}");
    failure
}

#[test]
fn nspawn_steps_that_fail_are_named() {
    let failure = fails_by(&container("    - type: shell\n      name: seven\n      inline: [\"exit 7\"]"), StepFailed);
    assert_eq!((&failure["step"], &failure["exit_code"]), (&json!("seven"), &json!(7)));
    let step = "    - type: shell\n      timeout: 2s\n      name: sleeper\n      inline: [\"sleep 1000\"]";
    let failure = fails_by(&container(step), TimedOut);
    assert_eq!(failure["phase"], "sleeper");
    let bench = container("    - type: shell\n      inline: [\"rm /usr/sbin/chpasswd\"]");
    assert_eq!(fails_by(&bench, CommandFailed)["exit_code"], 127);
}

#[test]
fn nspawn_ssh_that_lets_nobody_in_is_told_apart() {
    // Without this step's connection, which is lost on purpose, the build connects anew.
    let after = |change: &str| {
        let lines =
            format!("      inline:\n        - |\n          {change}\n          pkill -9 sshd\n          sleep 1000");
        container(&format!("    - type: shell\n      expect_disconnect: true\n{lines}"))
    };
    let refuses = after("echo 'AuthorizedKeysFile none' >/etc/ssh/sshd_config.d/00-none.conf; systemctl restart ssh");
    fails_by(&refuses, SshRefusedKey);
    let units = "printf '[Socket]\\nListenStream=22\\nAccept=yes\\n' >/run/systemd/system/closes.socket; \
                 printf '[Service]\\nExecStart=/bin/echo SSH-2.0-closes\\nStandardOutput=socket\\n' >/run/systemd/system/closes@.service; \
                 systemctl daemon-reload; systemctl stop ssh.socket ssh.service; systemctl start closes.socket";
    fails_by(&after(units), SshClosed);
    fails_by(&after("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh"), HostKeyChanged);
}

#[test]
fn the_documentation_has_every_class() {
    let mut table = "| class | `reason.txt` begins with | provoked by |\n|---|---|---|\n".to_owned();
    for (class, how, _) in ROWS {
        table += &format!("| `{}` | {} | {how} |\n", class.code(), class.words());
    }
    let classes: Vec<_> = ROWS.iter().map(|(class, ..)| *class).collect();
    assert_eq!(classes, FailureClass::ALL);
    let path = support::repository().join("docs/failures.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find("| class |").unwrap();
    let length: usize =
        text[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(&path, format!("{}{table}{}", &text[..begin], &text[begin + length..])).unwrap();
    } else {
        assert_eq!(&text[begin..begin + length], table, "INSTA_UPDATE=always writes it");
    }
    // Whoever provokes it is there.
    let tests = ["failures", "installer", "qemu_faults", "verified_build"]
        .map(|name| fs::read_to_string(support::repository().join(format!("tests/{name}.rs"))).unwrap());
    for (class, _, test) in ROWS.iter().filter(|(_, _, test)| !test.contains("::")) {
        assert!(tests.iter().any(|text| text.contains(&format!("fn {test}"))), "{class:?}: {test}");
    }
}
