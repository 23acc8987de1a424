//! NoCloud seeds: what the guest's cloud-init reads at a boot of the build.
//!
//! A seed is a FAT file system labelled `CIDATA` with the files `user-data`, `meta-data` and
//! perhaps `network-config` (cloud-init's NoCloud data source).

use std::fs::{File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use serde_json::{Map, Value, json};

use crate::error::{Context, Kind, Result};

/// Smallest seed, bytes.
const MINIMUM: u64 = 1 << 20;

/// A clock that stands still, so that the same seed gives the same bytes.
#[derive(Debug)]
pub(crate) struct Standstill;

/// The one clock of all volumes.
pub(crate) static STANDSTILL: Standstill = Standstill;

impl TimeProvider for Standstill {
    fn get_current_date(&self) -> Date {
        // FAT's first day.
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// What goes into a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Seed {
    /// cloud-init does its once-per-instance work when this differs from the last boot's.
    pub instance_id: String,
    /// The file `user-data`.
    pub user_data: String,
    /// Further keys of `meta-data`, for example `local-hostname`, or `meta` with `owner` and `id`.
    pub meta_data: Map<String, Value>,
    /// The file `network-config`.
    pub network_config: Option<String>,
}

/// What lets `user` become root for as long as the guest runs: cloud-init writes it into [`SUDO_RULES`]. A comment
/// (sudoers(5)) tells it from rules that the image is to have.
pub const SUDO_RULE: &str = "ALL=(ALL) NOPASSWD: ALL #visabuild";

/// The file of cloud-init's rules for sudo (module Users and Groups).
pub const SUDO_RULES: &str = "/etc/sudoers.d/90-cloud-init-users";

/// The user-data of a build's boots: root and `user` log in with the build's key, `user` becomes root by sudo, and
/// nothing else changes. An account that is not there yet is made, and a password that is there stays.
///
/// `authorized_key` is a line of authorized_keys(5).
pub fn build_user_data(user: &str, authorized_key: &str) -> String {
    let users = match user {
        "root" => json!([]),
        user => json!([{
            "name": user,
            "ssh_authorized_keys": [authorized_key],
            "sudo": SUDO_RULE,
            "lock_passwd": false,
        }]),
    };
    // Without a default user, cloud-init gives the key to root. It still grows the root
    // partition and file system, as it does by default. JSON is YAML.
    let config = json!({
        "disable_root": false,
        "users": users,
        "ssh_authorized_keys": [authorized_key],
        "ssh_genkeytypes": ["ed25519"],
        // Growing the disk and writing keys are of the stages before these.
        "cloud_config_modules": [],
        "cloud_final_modules": [],
        "package_update": false,
        "package_upgrade": false,
    });
    format!("#cloud-config\n{config:#}\n")
}

/// Writes `seed` to the new file `path`. The same seed gives the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write_seed(path: &Path, seed: &Seed) -> Result<()> {
    write_volume(path, "CIDATA", &files(seed)).context(Kind::Host, || format!("writing the seed {}", path.display()))
}

/// Writes the files of `seed` into the new folder `path`, for everybody to read.
///
/// # Errors
/// The folder or a file cannot be written (kind host).
pub fn write_seed_folder(path: &Path, seed: &Seed) -> Result<()> {
    let write = || {
        std::fs::create_dir(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
        files(seed).iter().try_for_each(|(name, text)| {
            std::fs::write(path.join(name), text)?;
            std::fs::set_permissions(path.join(name), Permissions::from_mode(0o644))
        })
    };
    write().context(Kind::Host, || format!("writing the seed {}", path.display()))
}

/// The names and texts of a seed's files.
fn files(seed: &Seed) -> Vec<(&'static str, String)> {
    let mut meta_data = Map::new();
    meta_data.insert("instance-id".to_owned(), seed.instance_id.clone().into());
    meta_data.extend(seed.meta_data.clone());
    let mut files =
        vec![("meta-data", format!("{:#}\n", Value::Object(meta_data))), ("user-data", seed.user_data.clone())];
    files.extend(seed.network_config.clone().map(|text| ("network-config", text)));
    files
}

/// Writes a FAT file system with `label` (at most 11 characters of ASCII) to the new file `path`; names of files
/// may have folders. The same files give the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write_volume(path: &Path, label: &str, files: &[(&str, String)]) -> std::io::Result<()> {
    let content: u64 = files.iter().map(|(_, text)| text.len() as u64).sum();
    // Room for the file system's own tables and the clusters' slack.
    let size = (content * 2 + MINIMUM / 2).max(MINIMUM).next_multiple_of(512);
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let mut padded = [b' '; 11];
    padded.iter_mut().zip(label.bytes()).for_each(|(to, from)| *to = from);
    let options = FormatVolumeOptions::new().volume_label(padded).volume_id(0x5649_5341);
    fatfs::format_volume(&mut file, options)?;
    file.seek(SeekFrom::Start(0))?;
    let volume = FileSystem::new(file, FsOptions::new().time_provider(&STANDSTILL))?;
    for (name, text) in files {
        let mut folder = volume.root_dir();
        let mut parts: Vec<&str> = name.split('/').collect();
        let last = parts.pop().unwrap_or(name);
        for part in parts {
            folder = folder.create_dir(part)?;
        }
        folder.create_file(last)?.write_all(text.as_bytes())?;
    }
    volume.unmount()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn seed(user_data: &str) -> Seed {
        Seed {
            instance_id: "i-1".into(),
            user_data: user_data.into(),
            meta_data: serde_json::from_str(r#"{"meta": {"owner": "jdoe", "id": "7"}}"#).unwrap(),
            network_config: None,
        }
    }

    fn read(path: &Path, name: &str) -> Option<String> {
        let volume = FileSystem::new(File::open(path).map(ReadOnly).unwrap(), FsOptions::new()).unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        let mut text = String::new();
        volume.root_dir().open_file(name).ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    /// A file that must not be written.
    struct ReadOnly(File);
    impl Read for ReadOnly {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Seek for ReadOnly {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    impl Write for ReadOnly {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_seed_reads_back_and_is_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let seed = Seed { network_config: Some("version: 2\n".into()), ..seed("#cloud-config\n{}\n") };
        write_seed(&one, &seed).unwrap();
        write_seed(&two, &seed).unwrap();
        assert_eq!(read(&one, "user-data").unwrap(), "#cloud-config\n{}\n");
        assert_eq!(read(&one, "network-config").unwrap(), "version: 2\n");
        let meta: Value = serde_json::from_str(&read(&one, "meta-data").unwrap()).unwrap();
        assert_eq!(meta, json!({ "instance-id": "i-1", "meta": { "owner": "jdoe", "id": "7" } }));
        assert_eq!(std::fs::metadata(&one).unwrap().len(), MINIMUM);
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "the seeds differ");
    }

    #[test]
    fn a_seed_in_a_folder_is_for_everybody_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        write_seed_folder(&path, &seed("#cloud-config\n{}\n")).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("user-data")).unwrap(), "#cloud-config\n{}\n");
        let mode = std::fs::metadata(path.join("meta-data")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert!(write_seed_folder(&path, &seed("")).is_err(), "a folder that is there is not written over");
    }

    #[test]
    fn a_seed_grows_with_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let long = "x".repeat(3 << 20);
        write_seed(&path, &seed(&long)).unwrap();
        assert!(read(&path, "user-data").unwrap() == long);
        assert_eq!(read(&path, "network-config"), None);
    }

    #[test]
    fn the_build_logs_in_as_root_with_its_key_only() {
        let text = build_user_data("root", "ssh-ed25519 AAAA \"x\"");
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "#cloud-config");
        let config: Value = serde_yaml::from_str(rest).unwrap();
        assert_eq!(config["ssh_authorized_keys"][0], "ssh-ed25519 AAAA \"x\"");
        assert_eq!(config["ssh_genkeytypes"], json!(["ed25519"]));
        assert_eq!(config["disable_root"], json!(false));
    }

    #[test]
    fn a_seed_that_cannot_be_written_names_its_path() {
        let error = write_seed(Path::new("/nowhere/seed"), &seed("")).unwrap_err();
        assert_eq!(error.to_string(), "writing the seed /nowhere/seed");
    }
}
