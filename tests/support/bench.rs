//! A tiny project on the shared cache, for what breaks a build and what is left then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use uuid::Uuid;
use visabuild::engine::Engine;

use super::{Run, shared, tiny_project, told, visabuild};

/// A project in a folder of its own, on the shared cache.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub cache: PathBuf,
    pub engine: Engine,
}

/// Steps that wait to be ended.
pub const WAITS: &str = "    - type: shell\n      inline: [\"echo the step has begun\", \"sleep 1000\"]";
/// Steps that do something small.
pub const QUICK: &str = "    - type: shell\n      inline: [\"echo quick >/etc/quick\"]";

/// Points of a build, by a line that it prints there.
pub const BOOT: &str = "wait for SSH …";
pub const STEP: &str = "| the step has begun";
pub const BOOTSTRAP: &str = "bootstrap | ";

impl Bench {
    pub fn new(engine: Engine, steps: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny_project(folder.path(), steps);
        Self { folder, cache: shared().join("cache"), engine }
    }

    pub fn steps(&self, steps: &str) {
        tiny_project(self.folder.path(), steps);
    }

    pub fn build(&self) -> Command {
        self.build_by(self.engine, "a-root-password")
    }

    pub fn build_by(&self, engine: Engine, password: &str) -> Command {
        let mut command = self.build_as_the_project_says(password);
        command.args(["--engine", &engine.to_string()]);
        command
    }

    pub fn build_as_the_project_says(&self, password: &str) -> Command {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", &self.cache);
        command.args(["build", "-C"]).arg(self.folder.path()).args(["-rp", password]);
        command
    }

    /// A step may reboot the guest and the next one, which ends with `last`, goes on; where it may not, it fails.
    pub fn survives_a_reboot(&self, last: &str) {
        // Not in the cache, where an earlier run may have left it.
        let salt = Uuid::new_v4();
        let reboot = "    - type: shell\n      inline: [\"systemctl reboot\", \"sleep 1000\"]";
        let next =
            format!("    - type: shell\n      inline: [test -d /run/systemd, \"{last}\", echo back again {salt}]");
        self.steps(&format!("{reboot}\n      expect_disconnect: true\n{next}"));
        let (_, err, code) = told(&self.build().output().unwrap());
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("| back again"), "{err}");
        self.steps(reboot);
        let (_, err, code) = told(&self.build().output().unwrap());
        assert_eq!(code, 4, "{err}");
        assert!(err.contains("expect_disconnect"), "{err}");
    }

    pub fn results(&self) -> PathBuf {
        self.folder.path().join("builds/tiny")
    }

    /// The next run succeeds, and cleans up after one that was killed. It is native: quick, and
    /// what one engine leaves is the other's business too.
    pub fn next_run_succeeds(&self) {
        self.steps(QUICK);
        let (_, err, code) = told(&self.build_by(Engine::Nspawn, "a-root-password").output().unwrap());
        assert_eq!(code, 0, "{err}");
        assert!(self.results().join("tiny.qcow2").is_file());
        assert!(!self.results().join("failure").exists());
        let left: Vec<_> = fs::read_dir(self.cache.join("visabuild/work")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Runs to `point` and sends `signal`; returns exit code and standard error.
    pub fn interrupted(&self, point: &str, signal: Signal) -> (Option<i32>, String) {
        let mut run = Run::start(self.build());
        run.wait_for(point);
        run.signal(signal);
        run.end()
    }
}

/// A cache that has the base disk of `shared` and nothing else.
pub fn cache_with_the_base(shared: &Path, at: &Path) -> PathBuf {
    fs::create_dir_all(at.join("visabuild")).unwrap();
    let bases = shared.join("visabuild/bases");
    if bases.exists() {
        assert!(Command::new("cp").arg("-al").arg(bases).arg(at.join("visabuild")).status().unwrap().success());
    }
    at.to_owned()
}

/// Kills the process of `run` whose name begins with `name`.
pub fn kill(run: &Run, name: &str) {
    signal(run, name, Signal::KILL);
}

/// Sends a signal to the process of `run` whose name begins with `name`.
pub fn signal(run: &Run, name: &str, signal: Signal) {
    let processes = run.processes();
    let found = processes.iter().find(|(_, process)| process.starts_with(name));
    let (pid, _) = found.unwrap_or_else(|| panic!("no `{name}` among {processes:?}"));
    let pid = rustix::process::Pid::from_raw(*pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A file system of its own for the cache, which can be made full.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40G", "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success(), "this test mounts a tmpfs and so needs root");
        Self(at.to_owned())
    }

    pub fn shrink(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
