//! Builds that go on from where an earlier one was: after a changed step, after one that failed, with the guest's memory
//! and without. What they make is what a build from the start makes.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use support::bench::{Bench, cache_with_the_base};
use support::tree::{differences, tree};
use support::{Run, child_template, told};
use uuid::Uuid;
use visabuild::engine::Engine;

/// A shell step of one command that nobody has run before.
fn step(salt: Uuid, command: &str) -> String {
    format!(
        "    - type: shell\n      inline:\n        - {}\n",
        serde_json::to_string(&format!("{command} # {salt}")).unwrap()
    )
}

fn all(mut build: Command) -> Command {
    build.args(["--checkpoints", "all"]);
    build
}

/// The checkpoints of one template in a cache.
fn checkpoints(bench: &Bench, ending: &str) -> usize {
    let folder = bench.cache.join("visabuild/checkpoints");
    fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(ending))
        .count()
}

#[tokio::test]
async fn nspawn_a_step_that_failed_is_gone_on_from_and_the_image_is_that_of_a_build_from_the_start() {
    let salt = Uuid::new_v4();
    let first = step(salt, "echo the first step runs; echo first >/etc/first; echo kept >/tmp/kept; touch /run/gone");
    let second = step(salt, "echo the second step runs; cp /tmp/kept /etc/second");
    let third = step(salt, "cat /etc/first /etc/second >/etc/third");
    let broken = step(salt, "echo broken >/etc/broken; exit 3");
    let bench = Bench::new(Engine::Nspawn, &format!("{first}{broken}{second}"));
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("| the first step runs"), "{err}");

    // Mended, and with another step behind it.
    bench.steps(&format!("{first}{second}{third}"));
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("steps left to do: 2"), "{err}");
    assert!(!err.contains("| the first step runs"), "{err}");
    let went_on = tree(&bench.results().join("tiny.qcow2")).await;
    assert!(went_on.contains_key("/etc/third") && !went_on.contains_key("/etc/broken"));
    for left in
        ["/var/lib/visabuild/tmp.tar", "/root/.ssh/authorized_keys", "/etc/apt/apt.conf.d/00visabuild", "/tmp/kept"]
    {
        assert!(!went_on.contains_key(left), "{left}");
    }

    // Another last step, without checkpoints of its own: what is there is used all the same.
    let third = step(salt, "cat /etc/first /etc/second >/etc/third; echo other >>/etc/third");
    bench.steps(&format!("{first}{second}{third}"));
    let (_, err, code) = told(&bench.build().args(["--checkpoints", "none"]).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("steps left to do: 1"), "{err}");
    let went_on = tree(&bench.results().join("tiny.qcow2")).await;

    let (_, err, code) = told(&bench.build().args(["--from", "1", "--checkpoints", "none"]).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("| the first step runs") && err.contains("| the second step runs"), "{err}");
    let from_the_start = tree(&bench.results().join("tiny.qcow2")).await;
    assert!(from_the_start.len() > 10_000, "{}", from_the_start.len());
    let differing = differences(&went_on, &from_the_start);
    // The base disk and all that boots leave the same are among what is compared.
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn nspawn_a_build_ends_after_a_step_and_begins_again_at_one_that_are_named() {
    let salt = Uuid::new_v4();
    let bench =
        Bench::new(Engine::Nspawn, &["one", "two", "three"].map(|text| step(salt, &format!("echo {text}"))).concat());
    let build = |arguments: &[&str]| {
        let (out, err, code) = told(&bench.build().args(["--checkpoints", "none"]).args(arguments).output().unwrap());
        let done = ["one", "two", "three"].map(|text| err.contains(&format!("| {text}\n")));
        (out, err, code, done)
    };
    let (out, err, code, done) = build(&["--until", "tiny:2"]);
    assert_eq!((code, done, out.as_str()), (0, [true, true, false], ""), "{err}");
    assert!(
        err.trim_end().ends_with("tiny: stopped after step 2 as asked; the next build goes on from there"),
        "{err}"
    );
    assert!(!bench.results().join("tiny.qcow2").exists());
    let (_, err, code, done) = build(&["--until", "2"]);
    assert_eq!((code, done), (0, [false, false, false]), "{err}");
    let (_, err, code, done) = build(&[]);
    assert_eq!((code, done), (0, [false, false, true]), "{err}");
    let (_, err, code, done) = build(&[]);
    assert_eq!((code, done), (0, [false, false, false]), "{err}");
    assert!(err.contains("nothing changed"), "{err}");
    let (_, err, code, done) = build(&["--from", "3"]);
    assert_eq!((code, done), (0, [false, false, true]), "{err}");

    let (_, err, code, _) = build(&["--from", "4", "--until", "other:1"]);
    assert_eq!(code, 2, "{err}");
    for said in ["`--from 4`: `tiny` has no such step", "1  echo one", "`--until other:1`: `tiny` has no such step"] {
        assert!(err.contains(said), "{said}: {err}");
    }
}

/// A program at a terminal of its own, made by script(1).
struct AtTerminal {
    child: std::process::Child,
    said: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl AtTerminal {
    fn start(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap().into_owned()).collect::<Vec<_>>();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, said) = std::sync::mpsc::channel();
        let mut output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Some(length) = output.read(&mut piece).ok().filter(|length| *length > 0) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, said, seen: String::new() }
    }

    /// Waits until it says `text` behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let piece = self.said.recv_timeout(Duration::from_secs(300));
            let piece = piece.unwrap_or_else(|_| panic!("no `{text}` in {}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        status.code().unwrap()
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nspawn_who_is_asked_about_a_failed_step_looks_into_the_guest_tries_it_again_or_skips_it() {
    let salt = Uuid::new_v4();
    let [first, fails, mended, last] =
        ["echo in the guest >/etc/first", "exit 3", "echo mended", "exit 4"].map(|command| step(salt, command));
    let bench = Bench::new(Engine::Nspawn, &format!("{first}{fails}{last}"));
    let mut build = bench.build();
    build.args(["--on-error", "ask"]);
    let (_, err, code) = told(&build.output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("`--on-error ask` asks at a terminal, and there is none"), "{err}");

    let mut terminal = AtTerminal::start(&build);
    terminal.wait_for("tiny: step `exit 3");
    terminal.wait_for("or [a]bort? ");
    terminal.say("what?\n");
    terminal.wait_for("or [a]bort? ");
    terminal.say("s\n");
    terminal.wait_for("# ");
    terminal.say("cat /etc/first; exit\n");
    terminal.wait_for("in the guest\r\n");
    terminal.wait_for("or [a]bort? ");
    bench.steps(&format!("{first}{mended}{last}"));
    terminal.say("r\n");
    terminal.wait_for("steps left to do: 2");
    terminal.wait_for("| mended");
    terminal.wait_for("tiny: step `exit 4");
    terminal.wait_for("or [a]bort? ");
    terminal.say("k\n");
    terminal.wait_for("is skipped: the image is without it");
    terminal.wait_for("tiny.qcow2");
    assert_eq!(terminal.end(), 0);
    let manifest = fs::read_to_string(bench.results().join("tiny.manifest.json")).unwrap();
    assert!(!manifest.contains("exit 4"), "{manifest}");

    // Numbers are the template's, whatever is skipped of it.
    bench.steps(&format!("{first}{last}{mended}{first}"));
    let mut until = bench.build();
    until.args(["--on-error", "ask", "--until", "tiny:3"]);
    let mut terminal = AtTerminal::start(&until);
    terminal.wait_for("tiny: step `exit 4");
    terminal.wait_for("or [a]bort? ");
    terminal.say("k\n");
    terminal.wait_for("is skipped: the image is without it");
    // What is left was done before, without that step.
    terminal.wait_for("steps left to do: 1");
    terminal.wait_for("tiny: stopped after step 3 as asked");
    assert_eq!(terminal.end(), 0);

    // The step is still asked for.
    bench.steps(&format!("{first}{mended}{last}"));
    let mut terminal = AtTerminal::start(&build);
    terminal.wait_for("tiny: step `exit 4");
    terminal.wait_for("or [a]bort? ");
    terminal.say("a\n");
    terminal.wait_for("error: building `tiny`");
    assert_eq!(terminal.end(), 4);
}

#[test]
fn nspawn_templates_are_built_side_by_side_and_a_failure_stops_only_what_lies_on_it() {
    let salt = Uuid::new_v4();
    let bench = Bench::new(Engine::Nspawn, &step(salt, "echo root"));
    let child = |name: &str, command: &str| child_template(bench.folder.path(), name, &step(salt, command));
    child("good", "echo good");
    child("bad", "exit 3");
    child("on-bad", "echo never");
    let config =
        "templates:\n  tiny:\n  bad:\n    extends: tiny\n  on-bad:\n    extends: bad\n  good:\n    extends: tiny\n";
    fs::write(bench.folder.path().join("config.yml"), config).unwrap();
    let (_, err, code) = told(&bench.build().args(["--jobs", "2"]).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(
        err.contains("error: building `bad`") && err.contains("not built because of it: `on-bad` (on `bad`)"),
        "{err}"
    );
    let image = |name: &str| bench.folder.path().join("builds").join(name).join(format!("{name}.qcow2"));
    for (name, is_built) in [("tiny", true), ("good", true), ("bad", false), ("on-bad", false)] {
        assert_eq!(image(name).is_file(), is_built, "{name}: {err}");
    }
    assert!(bench.folder.path().join("builds/bad/failure/reason.txt").is_file());
    // The child began before its parent's image was there.
    assert!(err.find("good: started").unwrap() < err.find("tiny: done in").unwrap(), "{err}");
}

#[test]
fn nspawn_a_failed_step_says_that_the_steps_before_it_were_not_done_in_this_build() {
    let salt = Uuid::new_v4();
    // Neither that its apt.conf is gone nor that something writes to /tmp keeps the guest from being kept.
    let busy = "sh -c 'while sleep 0.01; do date >>/tmp/log; done >/dev/null 2>&1 </dev/null &'";
    let first = step(salt, &format!("rm /etc/apt/apt.conf.d/00visabuild; {busy}"));
    let bench = Bench::new(Engine::Nspawn, &format!("{first}{}", step(salt, "exit 3")));
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(!err.contains("went on from a checkpoint"), "{err}");
    let (_, err, code) = told(&all(bench.build()).args(["--on-error", "keep"]).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("hint: this build went on from a checkpoint after `rm /etc/apt"), "{err}");
    // Who looks at the disk that is kept writes to it, and to nothing of the cache.
    let kept = err.split_once("the disk is kept: the qcow2 in ").unwrap().1.split_once(';').unwrap().0;
    let disks: Vec<_> = fs::read_dir(kept)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension() == Some("qcow2".as_ref()))
        .collect();
    assert!(!disks.is_empty(), "{err}");
    for disk in disks {
        assert_eq!(disk.metadata().unwrap().nlink(), 1, "{disk:?}");
    }
    fs::remove_dir_all(kept).unwrap();
}

#[tokio::test]
async fn nspawn_who_goes_on_twice_as_a_user_other_than_root_leaves_no_key_in_the_image() {
    let salt = Uuid::new_v4();
    let bench = Bench::new(
        Engine::Nspawn,
        &step(
            salt,
            "echo 'builder ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/builder; chmod 0440 /etc/sudoers.d/builder",
        ),
    );
    let root = bench.folder.path();
    let build = |commands: [&str; 3]| {
        child_template(root, "app", &commands.map(|command| step(salt, command)).concat());
        let manifest = root.join("templates/app/manifest.yml");
        let text = fs::read_to_string(&manifest).unwrap();
        let text = text.replace("      disk_image: true\n", "      disk_image: true\n      ssh_username: builder\n");
        fs::write(&manifest, text).unwrap();
        fs::write(root.join("config.yml"), "templates:\n  tiny:\n  app:\n    extends: tiny\n").unwrap();
        let (_, err, code) = told(&all(bench.build()).arg("app").output().unwrap());
        (code, err)
    };
    for (commands, left) in [(["id -un", "exit 3", ""], 3), (["id -un", "whoami", "exit 3"], 2)] {
        let (code, err) = build(commands);
        assert_eq!(code, 4, "{err}");
        assert_eq!(err.contains("steps left to do: 2"), left == 2, "{err}");
    }
    let (code, err) = build(["id -un", "whoami", "sudo touch /etc/made"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("steps left to do: 1"), "{err}");
    let image = tree(&root.join("builds/app/app.qcow2")).await;
    assert!(image.contains_key("/etc/made") && image.contains_key("/etc/sudoers.d/builder"));
    assert!(!image.contains_key("/etc/sudoers.d/90-cloud-init-users"), "the build's own rule for sudo is gone");
    let keys: Vec<_> = image.keys().filter(|path| path.ends_with("/authorized_keys")).collect();
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn nspawn_a_script_that_changes_while_the_build_runs_is_not_taken_for_what_it_was() {
    let salt = Uuid::new_v4();
    let script = "    - type: shell\n      script: templates/tiny/script.sh\n";
    let bench = Bench::new(Engine::Nspawn, &format!("{}{script}", step(salt, "echo the first runs; sleep 3")));
    let path = bench.folder.path().join("templates/tiny/script.sh");
    fs::write(&path, format!("echo as planned # {salt}\n")).unwrap();
    let mut run = Run::start(all(bench.build()));
    run.wait_for("| the first runs");
    fs::write(&path, format!("echo otherwise # {salt}\n")).unwrap();
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("`script.sh` was changed while the build ran"), "{err}");
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("| otherwise") && !err.contains("| the first runs"), "{err}");
}

#[test]
fn qemu_a_guest_goes_on_with_its_memory_and_boots_from_the_disk_where_that_does_not_fit() {
    let salt = Uuid::new_v4();
    let first =
        step(salt, "echo kept >/tmp/kept; touch /run/in-memory; sh -c 'sleep 100000 >/dev/null 2>&1 </dev/null &'");
    let look = "cat /tmp/kept; ls /run/in-memory; pgrep -x sleep; date +now=%s";
    let ends = |number: u32| format!("{first}{}", step(salt, &format!("{look}; exit {number}")));
    let mut bench = Bench::new(Engine::Qemu, &ends(3));
    // What the checkpoints of other tests do is not counted.
    let cache = tempfile::tempdir_in(bench.cache.parent().unwrap()).unwrap();
    bench.cache = cache_with_the_base(&bench.cache, cache.path());
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert_eq!((checkpoints(&bench, ".memory"), checkpoints(&bench, ".key"), checkpoints(&bench, ".qcow2")), (1, 1, 1));

    let seconds = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let before = seconds();
    bench.steps(&ends(4));
    let (_, err, code) = told(&all(bench.build()).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("restore the memory of QEMU (layer) done in"), "{err}");
    assert!(!err.contains("start QEMU"), "{err}");
    for seen in ["| kept", "| /run/in-memory", "exit code 4"] {
        assert!(err.contains(seen), "{seen}: {err}");
    }
    let now: u64 = err.split("| now=").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!((before..=seconds() + 1).contains(&now), "{now} is not between {before} and {}", seconds());

    // A byte of the memory is another one.
    bench.steps(&ends(5));
    let memory = fs::read_dir(bench.cache.join("visabuild/checkpoints")).unwrap().flatten().map(|entry| entry.path());
    let memory = memory.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "memory")).unwrap();
    let file = fs::File::options().read(true).write(true).open(&memory).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1 << 20).unwrap();
    file.write_all_at(&[!byte[0]], 1 << 20).unwrap();
    let mut run = Run::start(all(bench.build()));
    run.wait_for("the guest boots from its disk, as its memory is of no use");
    run.signal(Signal::INT);
    let (code, err) = run.end();
    assert_eq!(code, Some(130), "{err}");
    assert!(err.contains(".memory is not what was written there"), "{err}");
    file.write_all_at(&byte, 1 << 20).unwrap();

    // Another machine: the disk is all that is left.
    let (_, err, code) = told(&all(bench.build()).args(["--memory", "1100"]).output().unwrap());
    assert_eq!(code, 4, "{err}");
    let why =
        "the guest boots from its disk, as its memory is of no use: it is of another machine than this one of QEMU";
    assert!(err.contains(why), "{err}");
    assert!(err.contains("start QEMU (layer) done in") && err.contains("| kept"), "{err}");
    assert!(!err.contains("| /run/in-memory"), "{err}");
}
