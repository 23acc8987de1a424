//! What breaks a build in a container, and what is left then: on the host nothing. One tiny template
//! on the shipped base disk, which is made once.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::bench::{BOOT, Bench, QUICK, STEP, Small, WAITS, kill};
use support::{Run, shared, told};
use uuid::Uuid;
use visabuild::engine::Engine;

fn bench(steps: &str) -> Bench {
    Bench::new(Engine::Nspawn, steps)
}

/// What of a container could be left on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    loops: BTreeSet<String>,
    mounts: BTreeSet<String>,
    groups: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    run: BTreeSet<String>,
}

impl Host {
    /// As it is before a test.
    fn before() -> Self {
        let mut now = Self::now();
        // What the test before has left to the kernel.
        now.loops.clear();
        now.settles();
        now
    }

    /// Waits until there is nothing on the host that was not there: the kernel takes a mount away a
    /// moment after its last process. What another test left for the next run may be gone.
    fn settles(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = Self::now();
            let all = [
                (&now.loops, &self.loops),
                (&now.mounts, &self.mounts),
                (&now.groups, &self.groups),
                (&now.interfaces, &self.interfaces),
                (&now.run, &self.run),
            ];
            if all.iter().all(|(now, before)| now.is_subset(before)) {
                return;
            }
            assert!(Instant::now() < deadline, "was {self:?}\nis {now:?}");
            std::thread::yield_now();
        }
    }

    fn now() -> Self {
        let ours = |text: &str| text.contains(env!("CARGO_TARGET_TMPDIR")) || text.contains("visabuild");
        let loops = names("/sys/block").into_iter().filter_map(|name| {
            let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
            // The path of a file whose mount is gone is what is left of it.
            (ours(&file) || file.trim() == "/").then(|| format!("{name} {file}"))
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let groups = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten().filter(|entry| {
            entry.file_type().is_dir() && entry.file_name().to_string_lossy().starts_with("visabuild-")
        });
        let run = ["/run", "/run/systemd", "/run/systemd/nspawn", "/run/systemd/nspawn-uid"].map(names);
        Self {
            loops: loops.collect(),
            mounts: mounts.lines().filter(|line| ours(line)).map(str::to_owned).collect(),
            groups: groups.map(|entry| entry.path().display().to_string()).collect(),
            interfaces: names("/sys/class/net").into_iter().filter(|name| name.starts_with("host")).collect(),
            run: run.into_iter().flatten().filter(|name| name.contains("nspawn") || ours(name)).collect(),
        }
    }
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nspawn_ctrl_c_and_sigterm_leave_the_host_as_it_was() {
    let host = Host::before();
    let bench = bench(WAITS);
    for (point, signal, expected) in [(BOOT, Signal::INT, 130), (STEP, Signal::INT, 130), (STEP, Signal::TERM, 143)] {
        let (code, err) = bench.interrupted(point, signal);
        assert_eq!(code, Some(expected), "{point}: {err}");
        let word = if expected == 130 { "error: interrupted" } else { "error: terminated" };
        assert!(err.contains(word), "{point}: {err}");
        host.settles();
    }
    bench.next_run_succeeds();
    host.settles();
}

#[test]
fn nspawn_kill_9_of_visabuild_leaves_nothing_that_the_next_run_does_not_remove() {
    let host = Host::before();
    let bench = bench(WAITS);
    for point in [BOOT, STEP] {
        let (code, _) = bench.interrupted(point, Signal::KILL);
        assert_eq!(code, None, "{point}");
        // An empty control group is all that the kernel does not take away.
        Host { groups: Host::now().groups, ..host.clone() }.settles();
    }
    bench.next_run_succeeds();
    host.settles();
}

#[test]
fn nspawn_a_killed_program_ends_the_build_at_once_with_that_reason() {
    let host = Host::before();
    let bench = bench(WAITS);
    let cases = [
        ("systemd-nspawn", "systemd-nspawn was killed by signal 9"),
        ("qemu-storage-da", "qemu-storage-daemon was killed by signal 9"),
        ("slirp4netns", "slirp4netns was killed by signal 9"),
    ];
    for (program, reason) in cases {
        let mut run = Run::start(bench.build());
        run.wait_for(STEP);
        kill(&run, program);
        let (code, err) = run.end();
        assert_eq!(code, Some(4), "{program}: {err}");
        assert!(err.contains(reason), "{program}: {err}");
        for file in ["reason.txt", "build.log", "serial.log", "command.txt"] {
            assert!(bench.results().join("failure").join(file).is_file(), "{program}: {file}");
        }
        host.settles();
    }
    bench.next_run_succeeds();
}

#[test]
fn nspawn_a_container_killed_while_it_seals_leaves_no_image() {
    let host = Host::before();
    let bench = bench(QUICK);
    let mut run = Run::start(bench.build());
    run.wait_for("start the container (seal) done");
    kill(&run, "systemd-nspawn");
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    assert!(!bench.results().join("tiny.qcow2").exists());
    host.settles();
}

#[test]
fn nspawn_a_failing_step_keeps_the_earlier_result_and_hides_secrets() {
    let bench = bench(QUICK);
    bench.next_run_succeeds();
    let image = bench.results().join("tiny.qcow2");
    let before = fs::metadata(&image).unwrap().modified().unwrap();

    bench.steps("    - type: shell\n      name: breaks\n      inline: [\"echo a-root-password\", \"echo no such thing >&2\", \"exit 7\"]");
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("because: template `tiny`: provisioner `breaks` (templates/tiny/manifest.yml:"), "{err}");
    assert!(err.contains("exit code 7") && err.contains("no such thing"), "{err}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), before);
    for file in ["reason.txt", "build.log", "serial.log", "command.txt"] {
        let text = fs::read_to_string(bench.results().join("failure").join(file)).unwrap();
        assert!(!text.is_empty() && !text.contains("a-root-password"), "{file}: {text}");
    }
}

#[test]
fn nspawn_nothing_changed_starts_nothing_and_a_new_password_only_seals() {
    let bench = bench(QUICK);
    bench.next_run_succeeds();
    // Without a program on the path nothing could be started.
    let tools = tempfile::tempdir().unwrap();
    let (out, err, code) = told(&bench.build().env("PATH", tools.path()).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("tiny: nothing changed,"), "{err}");
    assert!(out.contains("unchanged)"), "{out}");

    let (_, err, code) = told(&bench.build_by(Engine::Nspawn, "another-password").output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("its layer is in the cache"), "{err}");
    assert!(err.contains("start the container (seal)") && !err.contains("start the container (layer)"), "{err}");
    let manifest = fs::read_to_string(bench.results().join("tiny.manifest.json")).unwrap();
    assert!(!manifest.contains("another-password") && !manifest.contains("a-root-password"));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["host"]["engine"], "nspawn");
    assert_eq!(manifest["layers"][1]["engine"], "nspawn");
}

#[test]
fn nspawn_two_builds_at_once_do_not_disturb_each_other() {
    let host = Host::before();
    let (one, two, three) = (bench(WAITS), bench(WAITS), bench(WAITS));
    let mut first = Run::start(one.build());
    first.wait_for(BOOT);
    let mut second = Run::start(two.build());
    second.wait_for("waiting for it");
    let mut third = Run::start(three.build());
    third.wait_for("waiting for it");
    third.signal(Signal::INT);
    assert_eq!(third.end().0, Some(130));
    first.signal(Signal::INT);
    second.wait_for(STEP);
    second.signal(Signal::INT);
    assert_eq!((first.end().0, second.end().0), (Some(130), Some(130)));

    one.steps(QUICK);
    two.steps("    - type: shell\n      inline: [\"echo two >/etc/two\"]");
    let (mut first, mut second) = (Run::start(one.build()), Run::start(two.build()));
    first.wait_for("tiny: done");
    second.wait_for("tiny: done");
    for (run, bench) in [(first, &one), (second, &two)] {
        let (code, err) = run.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(is_flat(&bench.results().join("tiny.qcow2")));
    }
    host.settles();
}

#[test]
fn nspawn_a_reboot_in_a_step_is_survived_and_an_unexpected_one_is_told() {
    let host = Host::before();
    bench(QUICK).survives_a_reboot("getent hosts 10.0.2.2 || ip route | grep default");
    host.settles();
}

#[test]
fn nspawn_the_guest_is_kept_apart_from_the_host() {
    // Each line that begins with `cannot` fails the build where the guest can do what it should not.
    let steps = r#"    - type: shell
      inline_shebang: "/bin/bash -e"
      inline:
        - 'cannot() { if "$@" 2>/dev/null; then echo "escaped: $*" >&2; exit 1; fi; }'
        - 'test "$(awk "{print \$2}" /proc/self/uid_map)" -gt 100000'
        - 'test "$(stat -c %U /etc/shadow)" = root'
        - 'cannot mknod /root/disk b 8 0'
        - 'for node in /dev/loop* /dev/vd* /dev/sd* /dev/nvme* /dev/mem /dev/kmsg /dev/fuse; do cannot test -e "$node"; done'
        - 'grep -E "^[0-9]+ [0-9]+ [0-9:]+ / / [^ ]*nodev" /proc/self/mountinfo'
        - 'cannot sh -c "echo 1 >/proc/sys/kernel/sysrq"'
        - 'cannot sh -c "echo c >/proc/sysrq-trigger"'
        - 'cannot sh -c "echo core >/proc/sys/kernel/core_pattern"'
        - 'cannot dmesg'
        - 'test "$(ls /sys/class/net | sort | xargs)" = "host0 lo"'
        - 'cannot pgrep visabuild'
        - 'echo all was refused'
        - 'true UNIQUE'
"#;
    // Not in the cache, where an earlier run may have left it.
    let bench = bench(&steps.replace("UNIQUE", &Uuid::new_v4().to_string()));
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("all was refused"), "{err}");
}

#[test]
fn nspawn_nothing_of_the_guest_listens_on_the_host() {
    let bench = bench(WAITS);
    // The package cache listens, on loopback; it is not of the guest.
    let mut build = bench.build();
    build.arg("--no-package-cache");
    let mut run = Run::start(build);
    run.wait_for(STEP);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let mut processes: Vec<i32> = run.processes().into_iter().map(|(pid, _)| pid).collect();
    processes.push(i32::try_from(run.child.id()).unwrap());
    let mut sockets = BTreeSet::new();
    for pid in processes {
        if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|name_space| name_space == host) {
            let open = names(&format!("/proc/{pid}/fd")).into_iter();
            let targets = open.filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
            let inodes = targets
                .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
            sockets.extend(inodes);
        }
    }
    assert!(!sockets.is_empty(), "the run has no socket at all");
    // A listening socket is in state 0A (proc_net_tcp of Linux's documentation). The guest's questions to
    // DNS leave through UDP sockets, which are no different from listening ones.
    for table in ["tcp", "tcp6"] {
        for line in fs::read_to_string(format!("/proc/net/{table}")).unwrap().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            assert!(fields[3] != "0A" || !sockets.contains(fields[9]), "{table}: {line}");
        }
    }
    run.signal(Signal::INT);
    assert_eq!(run.end().0, Some(130));
}

#[test]
fn nspawn_a_full_disk_ends_the_build_at_once_with_that_reason() {
    let host = Host::before();
    {
        let folder = tempfile::tempdir().unwrap();
        let small = Small::mount(folder.path());
        let steps = "    - type: shell\n      inline: [\"echo the step has begun\", \"sleep 3\", \"dd if=/dev/urandom of=/big bs=1M count=2000 || true\", \"sync\", \"sleep 1000\"]";
        // The base disk is the shared one; only what this build writes goes to the small file system.
        bench(QUICK).next_run_succeeds();
        let bench = Bench { cache: folder.path().to_owned(), ..bench(steps) };
        fs::create_dir_all(folder.path().join("visabuild")).unwrap();
        let bases = folder.path().join("visabuild/bases");
        std::os::unix::fs::symlink(shared().join("cache/visabuild/bases"), bases).unwrap();
        let mut run = Run::start(bench.build());
        run.wait_for(STEP);
        small.shrink("200M");
        let (code, err) = run.end();
        assert_eq!(code, Some(3), "{err}");
        assert!(err.contains("no space left on the host for"), "{err}");
        let json = fs::read_to_string(bench.results().join("failure/failure.json")).unwrap();
        assert!(json.contains("\"disk-full\""), "{json}");
    }
    host.settles();
}

#[test]
fn full_nspawn_a_layer_of_one_engine_is_built_on_by_the_other_with_the_boot_menu_that_it_made() {
    let tiny = r#"    - type: shell
      inline:
        - sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0 asked_for=1"/' /etc/default/grub
        - update-grub
    - type: shell
      inline: ["cp /boot/vmlinuz-* /boot/vmlinuz-1.0-old", "cp /boot/initrd.img-* /boot/initrd.img-1.0-old"]
"#;
    let bench = bench(tiny);
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 0, "{err}");
    let child = bench.folder.path().join("templates/child");
    fs::create_dir_all(&child).unwrap();
    let config = "engine: qemu\ntemplates:\n  tiny:\n  child:\n    extends: tiny\n";
    fs::write(bench.folder.path().join("config.yml"), config).unwrap();
    // Not in the cache, where an earlier run may have left it.
    let step = r#"packer:
  provisioners:
    - type: shell
      inline:
        - true UNIQUE
        - grep asked_for=1 /proc/cmdline
        - grep vmlinuz-1.0-old /boot/grub/grub.cfg
        - cp /boot/grub/grub.cfg /tmp/before
        - update-grub
        - cmp /tmp/before /boot/grub/grub.cfg
"#;
    fs::write(child.join("manifest.yml"), step.replace("UNIQUE", &Uuid::new_v4().to_string())).unwrap();
    let mut command = bench.build_as_the_project_says("a-root-password");
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("start QEMU (layer)"), "{err}");
    let manifest = fs::read(bench.folder.path().join("builds/child/child.manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let engines: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["engine"].clone()).collect();
    assert_eq!(engines, [serde_json::Value::Null, "nspawn".into(), "qemu".into()]);
    assert_eq!(manifest["host"]["engine"], "qemu");
}

#[test]
fn full_twenty_native_builds_in_a_row_leave_the_host_as_it_was() {
    let name_spaces = || {
        let links = walkdir::WalkDir::new("/proc").min_depth(3).max_depth(3).into_iter().flatten();
        let links = links.filter(|entry| entry.path().parent().is_some_and(|parent| parent.ends_with("ns")));
        links.filter_map(|entry| fs::read_link(entry.path()).ok()).collect::<BTreeSet<_>>()
    };
    let bench = bench(QUICK);
    bench.next_run_succeeds();
    let (host, spaces, files) = (Host::before(), name_spaces(), files(&bench.cache));
    for round in 0..20 {
        bench.steps(&format!("    - type: shell\n      inline: [\"echo {round} >/etc/round\"]"));
        let (_, err, code) = told(&bench.build().output().unwrap());
        assert_eq!(code, 0, "{round}: {err}");
        host.settles();
    }
    assert!(name_spaces().is_subset(&spaces));
    assert_eq!(self::files(&bench.cache), files);
}

/// What is in a cache beside layers, which are meant to stay.
fn files(cache: &Path) -> BTreeSet<std::path::PathBuf> {
    let kept = ["layers", "sealed"].map(|name| cache.join("visabuild").join(name));
    let cached = walkdir::WalkDir::new(cache).into_iter().flatten().map(walkdir::DirEntry::into_path);
    cached.filter(|path| !kept.iter().any(|kept| path.starts_with(kept))).collect()
}

fn is_flat(image: &Path) -> bool {
    let info = Command::new("qemu-img").args(["info", "--output=json"]).arg(image).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    info["format"] == "qcow2" && info.get("backing-filename").is_none()
}
