//! `visabuild attach`: looking into builds that run.
#![allow(clippy::unwrap_used)]

mod boot_sector;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::bench::{BOOT, Bench, STEP, WAITS};
use support::{Run, planted, told};
use visabuild::engine::Engine;

fn attach(cache: &Path, words: &[&str]) -> Command {
    let mut command = support::visabuild();
    command.env("XDG_CACHE_HOME", cache).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.arg("attach").args(words);
    command
}

fn attached(cache: &Path, words: &[&str]) -> (String, String, i32) {
    told(&attach(cache, words).output().unwrap())
}

/// Files below the working folders that end so.
fn left(cache: &Path, ending: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(cache.join("visabuild/work")).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

const NONE: &str = "\
error: no build is running
  hint: start one with `visabuild build`; a machine can be looked at from its start to its end
  hint: builds are found in the cache folder: XDG_CACHE_HOME must be that of the build
";

#[test]
fn where_no_build_runs_it_says_so() {
    let cache = tempfile::tempdir().unwrap();
    for words in [&[][..], &["vnc"], &["serial", "tiny"], &["ssh", "--", "true"], &["screenshot", "-"]] {
        assert_eq!(attached(cache.path(), words), (String::new(), NONE.to_owned(), 3), "{words:?}");
    }
    // Nor is one made to look into.
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    let (_, err, code) = attached(cache.path(), &["telepathy"]);
    assert_eq!(code, 2, "{err}");
}

/// Follows the serial console until it has said `text`, and sends `signal`; returns all that it has said and the code.
fn heard(cache: &Path, words: &[&str], text: &[u8], signal: Signal) -> (Vec<u8>, i32) {
    let mut child = attach(cache, words).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while !said.ends_with(text) {
        let count = stdout.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&buffer[..count]);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, signal).unwrap();
    (said, child.wait().unwrap().code().unwrap())
}

#[test]
fn a_machine_is_looked_at_for_as_long_as_it_runs() {
    let bench = planted::project(&boot_sector::disk(boot_sector::PROMPTS), "");
    let cache = bench.cache.as_path();
    let mut run = Run::start(planted::build(&bench));
    run.wait_for(BOOT);

    let (list, err, code) = attached(cache, &[]);
    assert_eq!((err.as_str(), code), ("", 0));
    let (build, rest) = list.split_once("  ").unwrap();
    assert!(build.starts_with("tiny-") && build.len() == 11, "{list}");
    let output = bench.folder.path().canonicalize().unwrap().join("builds");
    assert!(rest.starts_with(&format!("(layer, into {}, for ", output.display())), "{list}");
    let records = left(cache, ".machine.json");
    assert_eq!(records.len(), 1);
    for private in records.iter().chain(&left(cache, ".serial.raw")) {
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let (url, err, code) = attached(cache, &["vnc"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let port = url.trim().strip_prefix("vnc://127.0.0.1:").unwrap();
    port.parse::<u16>().unwrap();
    // A viewer is taken where there is one, and is told the port.
    let tools = tempfile::tempdir().unwrap();
    let viewer = tools.path().join("vncviewer");
    fs::write(&viewer, "#!/bin/sh\necho \"shows $*\"\nexit 9\n").unwrap();
    fs::set_permissions(&viewer, fs::Permissions::from_mode(0o755)).unwrap();
    let shown = attach(cache, &["vnc", build]).env("DISPLAY", ":0").env("PATH", tools.path()).output().unwrap();
    assert_eq!(told(&shown), (format!("{url}shows 127.0.0.1::{port}\n"), String::new(), 9));

    for signal in [Signal::INT, Signal::TERM] {
        let (said, code) = heard(cache, &["serial"], b"hello\r\n\x1b[1mlogin: ", signal);
        assert!(said.ends_with(b"hello\r\n\x1b[1mlogin: "));
        assert_eq!(code, if signal == Signal::INT { 0 } else { 143 });
    }

    let png = attach(cache, &["screenshot", "-"]).output().unwrap();
    assert_eq!(png.status.code(), Some(0));
    let screen = visabuild::boot_command::Screen::from_png(&png.stdout).unwrap();
    assert_eq!(screen.size(), (720, 400), "the BIOS's text");
    let file = bench.folder.path().join("shot.png");
    let shot = attached(cache, &["screenshot", file.to_str().unwrap()]);
    assert_eq!(shot, (format!("{}\n", file.display()), String::new(), 0));
    assert!(fs::read(&file).unwrap().starts_with(b"\x89PNG"));
    let here = attach(cache, &["screenshot", "tiny"]).current_dir(bench.folder.path()).output().unwrap();
    assert_eq!(told(&here), (format!("{build}.png\n"), String::new(), 0));

    let (_, err, code) = attached(cache, &["ssh"]);
    assert_eq!(code, 3);
    assert!(err.starts_with(&format!("error: the guest of `{build}` has not let the build in yet\n")), "{err}");
    let (_, err, code) = attached(cache, &["vnc", "other"]);
    assert_eq!((err, code), (format!("error: no build `other` is running\n  hint: {}", attached(cache, &[]).0), 2));

    // Whoever follows hears the end, also of a build that is killed, which cannot take its record back.
    let following = attach(cache, &["serial"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    run.signal(Signal::KILL);
    assert_eq!(run.end().0, None);
    let (_, err, code) = told(&following.wait_with_output().unwrap());
    assert!(code == 0 || err == NONE, "{err}");
    assert_eq!(left(cache, ".machine.json").len(), 1);
    assert_eq!(attached(cache, &["vnc"]), (String::new(), NONE.to_owned(), 3));
    // What the next run does away with; its own goes with its machine.
    let mut next = Run::start(planted::build(&bench));
    next.wait_for(BOOT);
    assert_eq!(left(cache, ".machine.json").len(), 1);
    next.signal(Signal::INT);
    assert_eq!(next.end().0, Some(130));
    assert_eq!(fs::read_dir(cache.join("visabuild/work")).unwrap().count(), 0);
}

#[test]
fn an_installation_has_a_screen_with_a_password_and_no_way_in_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, iso, template) = ["tree", "boot.iso", "templates/tiny"].map(|name| folder.path().join(name)).into();
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&template).unwrap();
    fs::write(tree.join("boot.img"), &boot_sector::disk(boot_sector::PROMPTS)[..2048]).unwrap();
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4", "-o"]);
    assert!(xorriso.arg(&iso).arg(&tree).stderr(Stdio::null()).status().unwrap().success());
    fs::write(folder.path().join("config.yml"), "templates:\n  tiny:\n").unwrap();
    let builder = format!(
        "packer:\n  builders:\n    - type: qemu\n      iso_url: {}\n      iso_checksum: none\n      vnc_use_password: true\n",
        iso.display()
    );
    fs::write(template.join("manifest.yml"), builder).unwrap();
    let bench = Bench { cache: folder.path().join("cache"), folder, engine: Engine::Qemu };
    let mut run = Run::start(planted::build(&bench));
    run.wait_for("install …");
    let cache = bench.cache.as_path();
    while attached(cache, &[]).2 == 3 {
        assert!(run.child.try_wait().unwrap().is_none());
    }
    let (_, code) = heard(cache, &["serial"], b"login: ", Signal::INT);
    assert_eq!(code, 0);
    let png = attach(cache, &["screenshot", "-"]).output().unwrap();
    assert!(png.stdout.starts_with(b"\x89PNG"), "{png:?}");
    let (_, err, code) = attached(cache, &["ssh", "tiny/install"]);
    assert_eq!(code, 3);
    assert!(err.contains("is being installed: the way in is made later\n"), "{err}");
    run.signal(Signal::INT);
    assert_eq!(run.end().0, Some(130));
    assert!(left(cache, "").is_empty());
}

#[test]
fn of_the_machines_of_a_verification_one_must_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let [cache, raw, disk] = ["cache", "disk.raw", "disk.qcow2"].map(|name| folder.path().join(name));
    fs::write(&raw, boot_sector::disk(boot_sector::PROMPTS)).unwrap();
    let convert = Command::new("qemu-img").args(["convert", "-O", "qcow2"]).args([&raw, &disk]).status().unwrap();
    assert!(convert.success());
    let mut verify = support::visabuild();
    verify.env("XDG_CACHE_HOME", &cache).args(["verify", "--contract", "cloud", "--accel", "tcg", "--jobs", "2"]);
    verify.arg(&disk);
    let mut run = Run::start(verify);
    run.wait_for("boot `");
    let names = loop {
        let (list, err, code) = attached(&cache, &[]);
        assert!(code == 0 || err == NONE, "{err}");
        let purpose = |line: &str| Some(line.split_once('(')?.1.split_once(',')?.0.to_owned());
        let names: Vec<String> = list.lines().filter_map(purpose).collect();
        if names.len() == 2 {
            break names;
        }
        assert!(run.child.try_wait().unwrap().is_none(), "{list}{err}");
    };
    let (_, err, code) = attached(&cache, &["serial"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("error: 2 machines of one build are running: name the one that is meant\n"), "{err}");
    assert!(names.contains(&"verify-config-drive".to_owned()), "{names:?}");
    let (_, code) = heard(&cache, &["serial", "disk/verify-config-drive"], b"login: ", Signal::INT);
    assert_eq!(code, 0);
    run.signal(Signal::INT);
    assert_eq!(run.end().0, Some(130));
    assert!(left(&cache, "").is_empty());
}

/// Commands in the guest of the build that is called `build`.
fn talks(bench: &Bench, build: &str) {
    let cache = bench.cache.as_path();
    let (out, err, code) = attached(cache, &["ssh", build, "--", "echo \"I am $(id -un)\"; exit 7"]);
    assert_eq!((out.as_str(), code), ("I am root\n", 7), "{err}");
    let (_, err, code) = attached(cache, &["ssh", build, "--", "pgrep", "-f", "'sleep 1000'"]);
    assert_eq!(code, 0, "{err}");
    for private in left(cache, ".key") {
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn qemu_a_step_is_looked_at_from_within() {
    let bench = Bench::new(Engine::Qemu, WAITS);
    let mut run = Run::start(bench.build());
    run.wait_for(STEP);
    talks(&bench, "tiny");
    let (said, code) = heard(&bench.cache, &["serial"], b"login: ", Signal::INT);
    assert_eq!(code, 0);
    assert!(String::from_utf8_lossy(&said).contains("Linux version"));
    let png = attach(&bench.cache, &["screenshot", "-"]).output().unwrap();
    assert!(png.stdout.starts_with(b"\x89PNG"));
    assert_eq!(left(&bench.cache, ".key").len(), 1);
    run.signal(Signal::INT);
    assert_eq!(run.end().0, Some(130));
    assert!(left(&bench.cache, "").is_empty());
}

#[test]
fn nspawn_of_two_builds_one_must_be_named() {
    let steps = |text: &str| format!("{WAITS}\n    - type: shell\n      inline: [\"echo {text}\"]");
    let benches = ["one", "two"].map(|text| Bench::new(Engine::Nspawn, &steps(text)));
    let mut runs = benches.each_ref().map(|bench| Run::start(bench.build()));
    for run in &mut runs {
        run.wait_for(STEP);
    }
    let cache = benches[0].cache.as_path();
    let (list, _, code) = attached(cache, &[]);
    assert_eq!((list.lines().count(), code), (2, 0));
    for words in [&["serial"][..], &["ssh", "tiny", "--", "true"]] {
        let (out, err, code) = attached(cache, words);
        assert_eq!((out.as_str(), code), ("", 2), "{err}");
        assert!(err.starts_with("error: 2 builds are running: name the one that is meant\n  hint: tiny-"), "{err}");
        assert_eq!(err.lines().count(), 3);
    }
    let names: Vec<&str> = list.lines().map(|line| line.split_once("  ").unwrap().0).collect();
    for name in &names {
        talks(&benches[0], name);
    }
    let (_, err, code) = attached(cache, &["screenshot", names[0]]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with(&format!("error: the machine of `{}` is a container: it has no screen\n", names[0])),
        "{err}"
    );
    for run in runs {
        run.signal(Signal::INT);
        assert_eq!(run.end().0, Some(130));
    }
    assert!(left(cache, "").is_empty());
}
