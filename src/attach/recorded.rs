//! A record for as long as its machine runs.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use super::record::{self, Record, Screen, Ssh};
use crate::cache::replace_file;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::guest::{Address, HostKey, Key};

/// A machine that is written down, until this value is dropped. All files of it are the user's alone.
#[derive(Debug)]
pub struct Recorded {
    record: Record,
}

impl Recorded {
    /// What will be written down of the machine that is about to be started for `purpose`, in the working folder `work`.
    pub fn new(work: &Path, output: &Path, template: &str, purpose: &str) -> Self {
        let run = work.file_name().unwrap_or_default().to_string_lossy();
        let run = run.strip_prefix("run-").unwrap_or(&run).to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            build: format!("{template}-{run}"),
            template: template.to_owned(),
            run,
            purpose: purpose.to_owned(),
            output: output.to_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            started: now.as_secs(),
            serial: work.join(format!("{template}.{purpose}.serial.raw")),
            screen: None,
            ssh: None,
        };
        Self { record }
    }

    /// The file for what the serial console says, byte by byte.
    pub fn serial(&self) -> PathBuf {
        self.record.serial.clone()
    }

    /// The machine runs, with this screen.
    ///
    /// # Errors
    /// The record cannot be written (kind host).
    pub fn running(&mut self, screen: Option<(&str, Option<&SecretString>)>) -> Result<()> {
        self.record.screen = screen.map(|(url, password)| Screen {
            url: url.to_owned(),
            password: password.map(|password| password.expose_secret().to_owned()),
        });
        self.write()
    }

    /// SSH has let the build in. From now on its key is in a file, which goes with the record.
    ///
    /// # Errors
    /// The files cannot be written (kind host).
    pub fn reachable(&mut self, address: &Address, user: &str, key: &Key, host_key: &HostKey) -> Result<()> {
        let (host, port, name_space) = match address {
            Address::Host(address) => (address.ip().to_string(), address.port(), None),
            Address::NameSpace { current, port } => {
                let current = current.borrow().as_ref().map(AsRawFd::as_raw_fd);
                let current = current.ok_or_else(|| Error::host("the container is not up"))?;
                let name_space = format!("/proc/{}/fd/{current}", self.record.pid);
                ("127.0.0.1".to_owned(), *port, Some(name_space.into()))
            }
        };
        let known = host_key.line().ok_or_else(|| Error::host("the guest's host key is not known"))?;
        let [key_file, known_hosts] = self.files();
        write(&key_file, key.file()?.expose_secret().as_bytes())?;
        write(&known_hosts, format!("{} {known}\n", Ssh::ALIAS).as_bytes())?;
        self.record.ssh = Some(Ssh { host, port, name_space, user: user.to_owned(), key: key_file, known_hosts });
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.record).context(Kind::Host, || "writing a machine down")?;
        write(&self.record.path(), &text)
    }

    /// Where the private key and the host key are.
    fn files(&self) -> [PathBuf; 2] {
        [".key", ".known_hosts"].map(|ending| {
            let path = record::path(Path::new(""), &self.record.template, &self.record.purpose);
            let name = path.to_string_lossy().replace(record::ENDING, ending);
            self.record.serial.with_file_name(name)
        })
    }
}

/// A machine that is not written down cannot be attached to, which is no reason to end its build: it is only told.
pub fn tell(written: Result<()>, events: &Events, template: &str) {
    if let Err(error) = written {
        events.warn(Some(template), format!("nobody can attach to this machine: {}", error.chain().join(": ")));
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let [key, known_hosts] = self.files();
        for path in [key, known_hosts, self.record.path(), self.record.serial.clone()] {
            // What is not there was not written; what cannot be removed goes with the working folder.
            let _ = fs::remove_file(&path);
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_file(path, bytes, 0o600).context(Kind::Host, || format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_machine_is_written_down_for_its_user_alone_and_leaves_nothing() {
        let work = tempfile::Builder::new().prefix("run-").rand_bytes(6).tempdir().unwrap();
        let mut recorded = Recorded::new(work.path(), Path::new("/out"), "tiny", "layer");
        fs::write(recorded.serial(), "said").unwrap();
        recorded.running(Some(("vnc://127.0.0.1:5900", Some(&"geheim".to_owned().into())))).unwrap();
        let path = work.path().join("tiny.layer.machine.json");
        let record = Record::read(&path).unwrap();
        let run = work.path().file_name().unwrap().to_str().unwrap().strip_prefix("run-").unwrap();
        assert_eq!(record.build, format!("tiny-{run}"));
        assert_eq!(record.screen.as_ref().unwrap().password.as_deref(), Some("geheim"));
        assert!(record.is_current());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let address = Address::Host("127.0.0.1:2222".parse().unwrap());
        let key = Key::generate().unwrap();
        // No login yet: there is no host key to hold to.
        assert!(recorded.reachable(&address, "root", &key, &HostKey::default()).is_err());
        drop(recorded);
        assert!(!record.is_current());
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    }
}
