//! What breaks a build, and what is left then: signals and kills at three points each, a failing
//! step, two builds at once. One tiny template on the shipped base disk, which is made once.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::{Run, shared, tiny_project, told, visabuild};

/// A project in a folder of its own, on the shared cache.
struct Bench {
    folder: tempfile::TempDir,
    cache: PathBuf,
}

const WAITS: &str = "    - type: shell\n      inline: [\"echo the step has begun\", \"sleep 1000\"]";
const QUICK: &str = "    - type: shell\n      inline: [\"echo quick >/etc/quick\"]";

impl Bench {
    fn new(steps: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny_project(folder.path(), steps);
        Self { folder, cache: shared().join("cache") }
    }

    fn steps(&self, steps: &str) {
        tiny_project(self.folder.path(), steps);
    }

    fn build(&self) -> Command {
        self.build_with("a-root-password")
    }

    fn build_with(&self, password: &str) -> Command {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", &self.cache);
        command.args(["build", "-C"]).arg(self.folder.path()).args(["-rp", password]);
        command
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("builds/tiny")
    }

    /// The next run succeeds, and cleans up after one that was killed.
    fn next_run_succeeds(&self) {
        self.steps(QUICK);
        let (_, err, code) = told(&self.build().output().unwrap());
        assert_eq!(code, 0, "{err}");
        assert!(self.results().join("tiny.qcow2").is_file());
        assert!(!self.results().join("failure").exists());
        let left: Vec<_> = fs::read_dir(self.cache.join("visabuild/work")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Points of a build, by a line that it prints there.
const BOOT: &str = "wait for SSH …";
const STEP: &str = "the step has begun";
const BOOTSTRAP: &str = "bootstrap | ";

fn interrupted(bench: &Bench, point: &str, signal: Signal) -> (Option<i32>, String) {
    let mut run = Run::start(bench.build());
    run.wait_for(point);
    run.signal(signal);
    run.end()
}

#[test]
fn qemu_ctrl_c_and_sigterm_end_everything_with_their_exit_codes() {
    let bench = Bench::new(WAITS);
    for (point, signal, expected) in [(BOOT, Signal::INT, 130), (STEP, Signal::INT, 130), (STEP, Signal::TERM, 143)] {
        let (code, err) = interrupted(&bench, point, signal);
        assert_eq!(code, Some(expected), "{point}: {err}");
        let word = if expected == 130 { "error: interrupted" } else { "error: terminated" };
        assert!(err.contains(word), "{point}: {err}");
        assert!(!bench.results().join("tiny.qcow2").exists());
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_kill_9_of_visabuild_leaves_no_process_and_the_next_run_succeeds() {
    let bench = Bench::new(WAITS);
    for point in [BOOT, STEP] {
        let (code, _) = interrupted(&bench, point, Signal::KILL);
        assert_eq!(code, None, "{point}");
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_signals_during_the_bootstrap_leave_no_process() {
    // A cache of its own, because the shared one has the base disk already.
    let cache = tempfile::tempdir().unwrap();
    let bench = Bench { cache: cache.path().to_owned(), ..Bench::new(QUICK) };
    let (code, err) = interrupted(&bench, BOOTSTRAP, Signal::INT);
    assert_eq!(code, Some(130), "{err}");
    let (code, _) = interrupted(&bench, BOOTSTRAP, Signal::KILL);
    assert_eq!(code, None);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(cache.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn qemu_a_killed_machine_ends_the_build_at_once_with_that_reason() {
    let bench = Bench::new(WAITS);
    for point in [BOOT, STEP] {
        let mut run = Run::start(bench.build());
        run.wait_for(point);
        kill_qemu(&run);
        let (code, err) = run.end();
        assert_eq!(code, Some(4), "{point}: {err}");
        assert!(err.contains("QEMU was killed by signal 9"), "{point}: {err}");
        let failure = bench.results().join("failure");
        assert!(err.contains(failure.to_str().unwrap()), "{err}");
        for file in ["reason.txt", "build.log", "serial.log", "command.txt"] {
            assert!(failure.join(file).is_file(), "{point}: {file}");
        }
        assert!(fs::read_to_string(failure.join("reason.txt")).unwrap().contains("QEMU was killed"));
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_a_machine_killed_while_it_seals_leaves_no_image() {
    let bench = Bench::new(QUICK);
    let mut run = Run::start(bench.build());
    run.wait_for("start QEMU (seal) done");
    kill_qemu(&run);
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("QEMU was killed by signal 9"), "{err}");
    assert!(!bench.results().join("tiny.qcow2").exists());
}

fn kill_qemu(run: &Run) {
    let (qemu, _) = run.processes().into_iter().find(|(_, name)| name.starts_with("qemu-system")).unwrap();
    let pid = rustix::process::Pid::from_raw(qemu).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn qemu_a_failing_step_keeps_the_earlier_result_and_shows_the_screen() {
    let bench = Bench::new(QUICK);
    bench.next_run_succeeds();
    let image = bench.results().join("tiny.qcow2");
    let before = fs::metadata(&image).unwrap().modified().unwrap();

    bench.steps("    - type: shell\n      name: breaks\n      inline: [\"echo a-root-password\", \"echo no such thing >&2\", \"exit 7\"]");
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("because: template `tiny`: provisioner `breaks` (templates/tiny/manifest.yml:"), "{err}");
    assert!(err.contains("exit code 7"), "{err}");
    assert!(err.contains("no such thing"), "{err}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), before);
    let failure = bench.results().join("failure");
    let png = fs::read(failure.join("screen.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    for file in ["reason.txt", "build.log"] {
        let text = fs::read_to_string(failure.join(file)).unwrap();
        assert!(!text.contains("a-root-password"), "{file}: {text}");
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_nothing_changed_starts_no_machine_and_a_new_password_only_seals() {
    let bench = Bench::new(QUICK);
    bench.next_run_succeeds();
    // Without QEMU on the path nothing could be started.
    let tools = tempfile::tempdir().unwrap();
    let (out, err, code) = told(&bench.build().env("PATH", tools.path()).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("tiny: nothing changed,"), "{err}");
    assert!(out.contains("unchanged)"), "{out}");

    let (_, err, code) = told(&bench.build_with("another-password").output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("its layer is in the cache"), "{err}");
    assert!(err.contains("start QEMU (seal)") && !err.contains("start QEMU (layer)"), "{err}");
    let manifest = fs::read_to_string(bench.results().join("tiny.manifest.json")).unwrap();
    assert!(!manifest.contains("another-password") && !manifest.contains("a-root-password"));
}

#[test]
fn qemu_two_builds_in_two_checkouts_do_not_disturb_each_other() {
    let (one, two) = (Bench::new(QUICK), Bench::new("    - type: shell\n      inline: [\"echo two >/etc/two\"]"));
    let (mut first, mut second) = (Run::start(one.build()), Run::start(two.build()));
    first.wait_for("tiny: done");
    second.wait_for("tiny: done");
    for (run, bench) in [(first, &one), (second, &two)] {
        let (code, err) = run.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(is_flat(&bench.results().join("tiny.qcow2")));
    }
}

#[test]
fn qemu_a_reboot_in_a_step_is_survived_and_an_unexpected_one_is_told() {
    let reboot = "    - type: shell\n      inline: [\"systemctl reboot\", \"sleep 1000\"]\n      expect_disconnect: true\n    - type: shell\n      inline: [\"test -d /run/systemd\", \"echo back again\"]";
    let bench = Bench::new(reboot);
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("back again"), "{err}");
    bench.steps("    - type: shell\n      inline: [\"systemctl reboot\", \"sleep 1000\"]");
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("expect_disconnect"), "{err}");
}

#[test]
fn qemu_a_kernel_panic_ends_the_build_at_once_with_that_reason() {
    let bench = Bench::new(
        "    - type: shell\n      inline: [\"echo 1 >/proc/sys/kernel/sysrq\", \"echo c >/proc/sysrq-trigger\", \"sleep 1000\"]",
    );
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("Kernel panic - not syncing: sysrq triggered crash"), "{err}");
    let serial = fs::read_to_string(bench.results().join("failure/serial.log")).unwrap();
    assert!(serial.contains("sysrq triggered crash"), "{serial}");
}

/// A file system of its own for the cache, which can be made full.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40G", "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success(), "this test mounts a tmpfs and so needs root");
        Self(at.to_owned())
    }

    fn shrink(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn qemu_a_full_disk_ends_the_build_at_once_with_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let small = Small::mount(folder.path());
    let steps = "    - type: shell\n      inline: [\"echo the step has begun\", \"sleep 5\", \"dd if=/dev/urandom of=/big bs=1M count=2000\", \"sync\", \"sleep 1000\"]";
    let bench = Bench { cache: folder.path().to_owned(), ..Bench::new(steps) };
    // The base disk is the shared one; only what this build writes goes to the small file system.
    Bench::new(QUICK).next_run_succeeds();
    fs::create_dir_all(folder.path().join("visabuild")).unwrap();
    std::os::unix::fs::symlink(shared().join("cache/visabuild/bases"), folder.path().join("visabuild/bases")).unwrap();
    let mut run = Run::start(bench.build());
    run.wait_for(STEP);
    small.shrink("200M");
    let (code, err) = run.end();
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("no space left on the host for"), "{err}");
    assert!(bench.results().join("failure/reason.txt").is_file());
}

fn is_flat(image: &Path) -> bool {
    let info = Command::new("qemu-img").args(["info", "--output=json"]).arg(image).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    info["format"] == "qcow2" && info.get("backing-filename").is_none()
}
