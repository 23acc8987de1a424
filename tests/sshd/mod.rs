//! A real sshd on a port that the kernel chose: `sshd -i` for each accepted connection.

#![allow(dead_code, clippy::unwrap_used)]

pub mod bench;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use visabuild::guest::{Attempts, Endpoint, Guest, HostKey, Key, Options};
use visabuild::machine::{Reporter, Watch};

const SSHD: &str = "/usr/sbin/sshd";

/// More than any test needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Sshd {
    folder: TempDir,
    pub address: SocketAddr,
    pub key: Key,
    connections: Arc<Mutex<Vec<Child>>>,
    refuse: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.accepting.abort();
        self.drop_connections();
    }
}

/// How a server differs from one that takes the build's key only.
#[derive(Default)]
pub struct Variant {
    /// Lines for sshd_config(5), before all others: the first counts.
    pub config: String,
    /// An account that is on the server only, with this password; needs root.
    pub account: Option<(&'static str, &'static str)>,
    /// What sudo allows it, as sudoers(5) says it.
    pub sudo: &'static str,
}

impl Sshd {
    pub async fn start() -> Self {
        Self::with(Variant::default()).await
    }

    pub async fn with(variant: Variant) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: install openssh-server");
        // sshd of root wants its privilege separation folder, which its service unit makes.
        let _ = std::fs::create_dir("/run/sshd");
        let folder = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
        let key = Key::generate().unwrap();
        std::fs::write(folder.path().join("authorized"), key.authorized_line()).unwrap();
        let at = folder.path().display();
        // With a home of its own, so that the account's shell files neither run nor print.
        let config = format!(
            "{}HostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n\
             SetEnv HOME={at}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
            variant.config
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        make_host_key(folder.path());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, refuse) = (Arc::<Mutex<Vec<Child>>>::default(), Arc::<AtomicUsize>::default());
        let accepting = tokio::spawn({
            let (connections, refuse) = (Arc::clone(&connections), Arc::clone(&refuse));
            let path = folder.path().to_owned();
            let private = variant.account.map(|(name, password)| files(&path, name, password, variant.sudo));
            async move {
                loop {
                    let stream = listener.accept().await.unwrap().0.into_std().unwrap();
                    if refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                        continue;
                    }
                    stream.set_nonblocking(false).unwrap();
                    let stream = OwnedFd::from(stream);
                    let mut command = match &private {
                        None => tokio::process::Command::new(SSHD),
                        Some(mounts) => {
                            let mut command = tokio::process::Command::new("unshare");
                            command.args(["--mount", "sh", "-c"]).arg(format!("{mounts} && exec {SSHD} \"$@\""));
                            command.arg("sshd");
                            command
                        }
                    };
                    let child = command
                        .args(["-i", "-f"])
                        .arg(path.join("config"))
                        .arg("-E")
                        .arg(path.join("log"))
                        .stdin(Stdio::from(stream.try_clone().unwrap()))
                        .stdout(Stdio::from(stream))
                        .stderr(Stdio::null())
                        .kill_on_drop(true)
                        .spawn()
                        .unwrap();
                    connections.lock().unwrap().push(child);
                }
            }
        });
        Self { folder, address, key, connections, refuse, accepting }
    }

    /// Ends all connections, and the commands that run over them, as a reset machine would.
    pub fn drop_connections(&self) {
        let mut doomed: Vec<u32> = self.connections.lock().unwrap().drain(..).filter_map(|child| child.id()).collect();
        let table = Command::new("ps").args(["-e", "-o", "pid=,ppid="]).output().unwrap().stdout;
        let table: Vec<(u32, u32)> = String::from_utf8(table)
            .unwrap()
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(pid, parent)| (pid.parse().unwrap(), parent.trim().parse().unwrap()))
            .collect();
        // Commands have sessions of their own: they are found by their parents, while those live.
        let mut at = 0;
        while at < doomed.len() {
            doomed.extend(
                table.iter().filter(|(_, parent)| *parent == doomed[at]).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            at += 1;
        }
        if !doomed.is_empty() {
            let pids = doomed.iter().map(u32::to_string);
            let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        }
    }

    /// Closes the next `count` connections at once.
    pub fn refuse_next(&self, count: usize) {
        self.refuse.store(count, Ordering::SeqCst);
    }

    pub fn change_host_key(&self) {
        std::fs::remove_file(self.folder.path().join("host")).unwrap();
        make_host_key(self.folder.path());
    }

    /// A command that prints `up` and ends only with the test, even when it is orphaned.
    pub fn endless(&self) -> String {
        format!("echo up; while [ -d {} ]; do sleep 0.1; done", self.folder.path().display())
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn endpoint(&self) -> (Endpoint, Reporter) {
        let (reporter, watch) = Watch::channel();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let endpoint = Endpoint {
            address: self.address.into(),
            user: user.trim().to_owned(),
            key: self.key.clone(),
            options: Options::default(),
            attempts: Attempts::default(),
            host_key: HostKey::default(),
            watch,
            cancel: CancellationToken::new(),
        };
        (endpoint, reporter)
    }

    pub async fn connect(&self) -> Guest {
        Guest::connect(self.endpoint().0, PATIENCE).await.unwrap()
    }
}

/// Files with an account that only this server sees: a command that mounts them over the system's.
fn files(folder: &Path, name: &str, password: &str, sudo: &str) -> String {
    let hash = Command::new("openssl").args(["passwd", "-6", password]).output().unwrap().stdout;
    let hash = String::from_utf8(hash).unwrap();
    let with = |file: &str, line: String| std::fs::read_to_string(file).unwrap() + &line + "\n";
    let home = folder.join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(54321), Some(54321)).unwrap();
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let pam = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";
    let files = [
        ("/etc/passwd", with("/etc/passwd", format!("{name}:x:54321:54321::{}:/bin/sh", home.display()))),
        ("/etc/group", with("/etc/group", format!("{name}:x:54321:"))),
        ("/etc/shadow", with("/etc/shadow", format!("{name}:{}:19000:0:99999:7:::", hash.trim()))),
        ("/etc/pam.d/sshd", pam.to_owned()),
        ("/etc/pam.d/sudo", pam.to_owned()),
        ("/etc/sudoers", format!("{sudo}\n")),
    ];
    let mount = |(at, text): (&str, String)| {
        let file = folder.join(at.replace('/', "_"));
        std::fs::write(&file, text).unwrap();
        let mode = if at == "/etc/sudoers" { 0o440 } else { 0o644 };
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        format!("mount --bind {} {at}", file.display())
    };
    files.into_iter().map(mount).collect::<Vec<_>>().join(" && ")
}

fn make_host_key(folder: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(folder.join("host"))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}
