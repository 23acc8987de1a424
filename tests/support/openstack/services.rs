//! Keystone and Glance as processes that never outlive the test, on a copy of the prepared state.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

const MISSING: &str = "run scripts/test once: it installs Keystone and Glance";

/// What `scripts/lib/openstack.sh` makes a state of, in its order.
const SOURCES: [&str; 6] = [
    "requirements.txt",
    "constraints.txt",
    "prepare_state.py",
    "services/glance-api.conf",
    "services/gunicorn.conf.py",
    "services/keystone.conf",
];

fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("openstack")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/openstack")
}

/// A program of the virtual environment.
pub fn program(name: &str) -> PathBuf {
    let program = installed().join("venv/bin").join(name);
    assert!(program.exists(), "{} is missing: {MISSING}", program.display());
    program
}

/// The prepared state that belongs to these sources.
fn state() -> PathBuf {
    let mut hash = Sha256::new();
    for file in SOURCES {
        hash.update(fs::read(sources().join(file)).unwrap());
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let state = installed().join(format!("state-{hash}"));
    assert!(state.is_dir(), "{} is missing: {MISSING}", state.display());
    state
}

/// A folder for one cloud. Those of tests that were killed before they could tidy up are removed.
pub fn cloud_folder() -> TempDir {
    let clouds = installed().join("clouds");
    fs::create_dir_all(&clouds).unwrap();
    for entry in fs::read_dir(&clouds).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let owner = name.split('-').next().unwrap();
        if !Path::new("/proc").join(owner).exists() {
            // Another test may be at the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(&format!("{}-", std::process::id())).tempdir_in(clouds).unwrap()
}

/// Copies the prepared state into `folder`; returns the ids that Keystone chose when it was made.
pub fn copy_state(folder: &Path) -> serde_json::Value {
    let state = state();
    for entry in walkdir::WalkDir::new(&state) {
        let entry = entry.unwrap();
        let target = folder.join(entry.path().strip_prefix(&state).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
            // Keystone's keys are nobody else's.
            fs::set_permissions(target, entry.metadata().unwrap().permissions()).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    serde_json::from_slice(&fs::read(folder.join("facts.json")).unwrap()).unwrap()
}

/// Writes the catalogue of the copy in `folder`: items are `TYPE:INTERFACE=URL`.
pub fn write_catalogue(folder: &Path, endpoints: &[String]) {
    let mut command = Command::new(program("python"));
    command.arg(sources().join("catalogue.py")).arg(folder.join("keystone/keystone.sqlite")).args(endpoints);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Appends lines to a configuration file of the copy.
pub fn configure(file: &Path, lines: &str) {
    let configuration = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{configuration}\n{lines}\n")).unwrap();
}

/// A socket that listens already, so that nobody has to choose a port or to wait for it.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// The running services. Dropping them returns when all their processes are gone.
#[derive(Debug)]
pub struct Services {
    logs: Vec<(&'static str, Log)>,
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

type Log = Arc<Mutex<Vec<u8>>>;

impl Services {
    /// Starts Keystone and Glance, whose folders are below `folder`.
    pub fn start(folder: &Path, keystone: Listening, glance: Listening) -> Self {
        let services = [
            ("keystone", "keystone.wsgi.api:application", "OS_KEYSTONE_CONFIG_DIR", keystone),
            ("glance", "glance.wsgi.api:application", "OS_GLANCE_CONFIG_DIR", glance),
        ];
        let (mut logs, mut commands) = (Vec::new(), Vec::new());
        for (name, application, configuration, listening) in services {
            let mut command = gunicorn(&folder.join(name), application, configuration, listening);
            let (mut output, writer) = std::io::pipe().unwrap();
            command.stdout(writer.try_clone().unwrap()).stderr(writer);
            let log = Log::default();
            logs.push((name, Arc::clone(&log)));
            commands.push((command, move || {
                let mut piece = [0; 4096];
                // It ends when the last process that could write has ended.
                while let Some(length) = output.read(&mut piece).ok().filter(|length| *length > 0) {
                    log.lock().unwrap().extend(&piece[..length]);
                }
            }));
        }
        let (end, ended) = channel();
        // The parent death signal comes when the thread that forked ends: this one lives as long as it should.
        let keeper = std::thread::spawn(move || {
            let mut running = Vec::new();
            for (mut command, read) in commands {
                running.push((command.spawn().unwrap(), std::thread::spawn(read)));
            }
            let _ = ended.recv();
            running.iter_mut().for_each(|(child, _)| kill(child));
            running.into_iter().for_each(|(_, reader)| reader.join().unwrap());
        });
        Self { logs, end: Some(end), keeper: Some(keeper) }
    }

    /// What the services printed.
    pub fn log(&self, name: &str) -> String {
        let (_, log) = self.logs.iter().find(|(other, _)| *other == name).unwrap();
        String::from_utf8_lossy(&log.lock().unwrap()).into_owned()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.keeper.take().map(JoinHandle::join);
        if std::thread::panicking() {
            for name in ["keystone", "glance"] {
                let log = self.log(name);
                let lines: Vec<_> = log.lines().rev().take(40).collect();
                eprintln!("--- the last lines of {name}:");
                lines.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// The master kills no worker on its way, but the worker dies with it.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn gunicorn(folder: &Path, application: &str, configuration: &str, listening: Listening) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program("python")).arg(program("gunicorn"));
    command.current_dir(folder).stdin(Stdio::from(OwnedFd::from(listening.0))).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.env("WSGI_APPLICATION", application).env(configuration, folder).env("PYTHONWARNINGS", "ignore");
    command
}
