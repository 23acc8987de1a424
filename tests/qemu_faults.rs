//! What breaks a build in QEMU, and what is left then. One tiny template on the shipped base disk,
//! which is made once. What does not depend on the engine is in `nspawn_faults.rs`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use rustix::process::Signal;
use support::bench::{BOOT, BOOTSTRAP, Bench, QUICK, STEP, Small, WAITS, kill};
use support::{Run, shared, told};
use visabuild::engine::Engine;

fn bench(steps: &str) -> Bench {
    Bench::new(Engine::Qemu, steps)
}

#[test]
fn qemu_ctrl_c_and_sigterm_end_everything_with_their_exit_codes() {
    let bench = bench(WAITS);
    for (point, signal, expected) in [(BOOT, Signal::INT, 130), (STEP, Signal::TERM, 143)] {
        let (code, err) = bench.interrupted(point, signal);
        assert_eq!(code, Some(expected), "{point}: {err}");
        let word = if expected == 130 { "error: interrupted" } else { "error: terminated" };
        assert!(err.contains(word), "{point}: {err}");
        assert!(!bench.results().join("tiny.qcow2").exists());
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_kill_9_of_visabuild_leaves_no_process_and_the_next_run_succeeds() {
    let bench = bench(WAITS);
    for point in [BOOT, STEP] {
        let (code, _) = bench.interrupted(point, Signal::KILL);
        assert_eq!(code, None, "{point}");
    }
    bench.next_run_succeeds();
}

#[test]
fn qemu_signals_during_the_bootstrap_leave_no_process() {
    // A cache of its own, because the shared one has the base disk already.
    let cache = tempfile::tempdir().unwrap();
    let bench = Bench { cache: cache.path().to_owned(), ..bench(QUICK) };
    let (code, err) = bench.interrupted(BOOTSTRAP, Signal::INT);
    assert_eq!(code, Some(130), "{err}");
    let (code, _) = bench.interrupted(BOOTSTRAP, Signal::KILL);
    assert_eq!(code, None);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(cache.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn qemu_a_killed_machine_ends_the_build_at_once_with_that_reason() {
    let bench = bench(WAITS);
    for point in [BOOT, STEP] {
        let mut run = Run::start(bench.build());
        run.wait_for(point);
        kill(&run, "qemu-system");
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
    let bench = bench(QUICK);
    let mut run = Run::start(bench.build());
    run.wait_for("start QEMU (seal) done");
    kill(&run, "qemu-system");
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("QEMU was killed by signal 9"), "{err}");
    assert!(!bench.results().join("tiny.qcow2").exists());
}

#[test]
fn qemu_a_failing_step_shows_the_screen() {
    let bench = bench("    - type: shell\n      inline: [\"exit 7\"]");
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("exit code 7"), "{err}");
    let png = fs::read(bench.results().join("failure/screen.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn full_qemu_a_reboot_in_a_step_is_survived_and_an_unexpected_one_is_told() {
    bench(QUICK).survives_a_reboot("true");
}

#[test]
fn qemu_a_kernel_panic_ends_the_build_at_once_with_that_reason() {
    let bench = bench(
        "    - type: shell\n      inline: [\"echo 1 >/proc/sys/kernel/sysrq\", \"echo c >/proc/sysrq-trigger\", \"sleep 1000\"]",
    );
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("Kernel panic - not syncing: sysrq triggered crash"), "{err}");
    let serial = fs::read_to_string(bench.results().join("failure/serial.log")).unwrap();
    assert!(serial.contains("sysrq triggered crash"), "{serial}");
    assert!(fs::read_to_string(bench.results().join("failure/failure.json")).unwrap().contains("\"kernel-panic\""));
}

#[test]
fn full_qemu_a_full_disk_ends_the_build_at_once_with_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let small = Small::mount(folder.path());
    let steps = "    - type: shell\n      inline: [\"echo the step has begun\", \"sleep 5\", \"dd if=/dev/urandom of=/big bs=1M count=2000\", \"sync\", \"sleep 1000\"]";
    // The base disk is the shared one; only what this build writes goes to the small file system.
    bench(QUICK).next_run_succeeds();
    let bench = Bench { cache: folder.path().to_owned(), ..bench(steps) };
    fs::create_dir_all(folder.path().join("visabuild")).unwrap();
    std::os::unix::fs::symlink(shared().join("cache/visabuild/bases"), folder.path().join("visabuild/bases")).unwrap();
    let mut run = Run::start(bench.build());
    run.wait_for(STEP);
    small.shrink("200M");
    let (code, err) = run.end();
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("no space left on the host for"), "{err}");
    assert!(fs::read_to_string(bench.results().join("failure/failure.json")).unwrap().contains("\"disk-full\""));
}
