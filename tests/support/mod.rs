//! What the end-to-end tests share: the binary, keys, one cache, fixture projects, and a census of
//! the processes that a run started.
#![allow(dead_code, clippy::unwrap_used)]

pub mod bench;
pub mod built;
pub mod planted;
pub mod random;
pub mod tree;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder that stays between tests and runs: caches and images that take minutes to make.
pub fn shared() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("end-to-end");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The binary, with nothing of the caller's environment that would change what it does.
pub fn visabuild() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visabuild"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VISA") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// An RSA key pair: paths of the private and the public key.
pub fn keys(folder: &Path) -> (PathBuf, PathBuf) {
    let (private, public) = (folder.join("private.pem"), folder.join("public.pem"));
    if !public.exists() {
        let new = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out"];
        assert!(Command::new("openssl").args(new).arg(&private).status().unwrap().success());
        let out = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).output().unwrap();
        assert!(out.status.success());
        fs::write(&public, out.stdout).unwrap();
    }
    (private, public)
}

/// Root's password of the shared images.
pub const PASSWORD: &str = "console-Passw0rd";

/// Folder of the images; the first test that asks builds them, which takes minutes.
pub fn images() -> PathBuf {
    let folder = shared();
    let (_, public) = keys(&folder);
    let output = folder.join("images");
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command.args(["build", "--engine", "nspawn", "-C"]).arg(repository()).arg("--output").arg(&output);
    command.arg("-pp").arg(public).args(["-rp", PASSWORD, "--no-verify"]);
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    fs::write(folder.join("last-build.log"), err).unwrap();
    output
}

/// What is done with the files of an image.
#[derive(Clone, Copy)]
pub enum Access {
    Read,
    Write,
}

/// Runs a bash script in the root of an image's files, without booting it; returns its standard output.
pub fn in_image(image: &Path, access: Access, script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(repository().join("tests/support/in-image.sh")).args([image, folder.path()]);
    command.arg(match access {
        Access::Read => "read",
        Access::Write => "write",
    });
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let (out, err, code) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{err}");
    out
}

/// Standard output, standard error, exit code.
pub fn told(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

/// A project of one or more templates on the base disk that the shipped system-base has, so that
/// one base disk serves all tests. `steps` are the YAML items of the provisioners.
pub fn tiny_project(folder: &Path, steps: &str) {
    let shipped = fs::read_to_string(repository().join("templates/system-base/manifest.yml")).unwrap();
    // The bootstrap alone: the installer has files of its own.
    let builders = shipped.split_once("    # The same disk by debian-installer").unwrap().0;
    let template = folder.join("templates/tiny");
    fs::create_dir_all(&template).unwrap();
    fs::write(folder.join("config.yml"), "templates:\n  tiny:\n").unwrap();
    let environment = repository().join("templates/system-base/environment.yml");
    fs::copy(environment, template.join("environment.yml")).unwrap();
    fs::write(
        template.join("manifest.yml"),
        format!("{builders}  provisioners:\n{steps}\nseal:\n  root_password: \"{{{{ root_password }}}}\"\n"),
    )
    .unwrap();
}

/// The template `name` on another one, with these provisioners.
pub fn child_template(project: &Path, name: &str, steps: &str) {
    let folder = project.join("templates").join(name);
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "packer:\n  builders:\n    - name: qemu\n      type: qemu\n      disk_image: true\n  provisioners:\n{steps}\n\
         seal:\n  root_password: \"{{{{ root_password }}}}\"\n"
    );
    fs::write(folder.join("manifest.yml"), text).unwrap();
}

/// A running visabuild whose processes can be counted.
pub struct Run {
    pub child: Child,
    mark: String,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// The variable that all processes of a run inherit.
const MARK: &str = "VISABUILD_TEST_MARK";

impl Run {
    /// Starts `command`, reading its standard error.
    pub fn start(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        let mark = format!("{}-{:?}", std::process::id(), Instant::now());
        // Its own group, as a shell would give it: signals are sent to it alone.
        let mut child =
            command.env(MARK, &mark).process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, mark, lines, seen: Vec::new() }
    }

    /// Waits for a line with `text`, and returns it.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(600)) {
                Ok(line) => {
                    self.seen.push(line);
                    if self.seen.last().unwrap().contains(text) {
                        return self.seen.last().unwrap().clone();
                    }
                }
                Err(_) => panic!("no line with `{text}`; seen:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for so many lines, or the end; returns how many came.
    pub fn lines_or_end(&mut self, count: usize, patience: Duration) -> usize {
        for seen in 0..count {
            match self.lines.recv_timeout(patience) {
                Ok(line) => self.seen.push(line),
                Err(_) => return seen,
            }
        }
        count
    }

    /// Sends a signal to visabuild alone, which may have ended.
    pub fn signal_if_running(&mut self, signal: rustix::process::Signal) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(signal);
        }
    }

    /// Sends a signal to visabuild alone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; returns the exit code (none when killed) and all of standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // The kernel kills what is left when visabuild is gone; that takes a moment.
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "still running: {:?}", self.processes());
            std::thread::yield_now();
        }
        self.seen.extend(self.lines.iter());
        (status.code(), self.seen.join("\n"))
    }

    /// Ids and names of the processes of this run, without visabuild itself; those in its containers too.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}", self.mark);
        let own = i32::try_from(self.child.id()).unwrap();
        let group = format!("/visabuild-{own}-");
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
            let contained = fs::read_to_string(entry.path().join("cgroup")).ok()?.contains(&group);
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            ((marked || contained) && pid != own).then(|| (pid, name.trim().to_owned()))
        });
        processes.collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
