//! Probes of the image's files and bytes, without a boot.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::{Bench, Offline, Probed, failed, not_given, not_run};
use crate::error::Result;
use crate::verify::contract::{Presence, What};
use crate::verify::disk::files::{Entry, EntryKind, Files};
use crate::verify::disk::scan::scan;

/// Longest file whose content is judged, bytes.
const LONGEST: usize = 4 << 20;

/// Set-uid and set-gid (inode(7)).
const PRIVILEGED: u16 = 0o6000;

/// Everybody may write.
const WRITABLE: u16 = 0o002;

impl Bench<'_, '_> {
    pub(super) async fn offline(&mut self, what: &What) -> Probed {
        let offline = self.offline;
        match what {
            What::Image => image(offline),
            What::Secrets => self.secrets(offline).await,
            What::RootPassword => with_files(offline, |files| root_password(offline, files)),
            What::File { .. } => with_files(offline, |files| self.file(files, what)),
            What::Modes { privileged, writable } => with_files(offline, |files| modes(files, privileged, writable)),
            _ => not_run("no probe of the level static"),
        }
    }

    async fn secrets(&mut self, offline: &Offline<'_>) -> Probed {
        if offline.secrets.is_empty() {
            return not_given(
                "no secret of the build is known: give the root password, proxy or public key as to the build",
            );
        }
        let found = scan(offline.disk, offline.secrets, self.phase, self.cancel).await?;
        if found.hits.is_empty() {
            return Ok(Ok(()));
        }
        let lines: Vec<_> = found.hits.iter().map(ToString::to_string).collect();
        failed("every byte of the disk".to_owned(), "no secret of the build".to_owned(), lines.join("\n"))
    }

    fn file(&self, files: &Files, what: &What) -> Probed {
        let What::File { path, presence, except, .. } = what else { return not_run("no file") };
        let mut found = files.glob(path)?;
        found.retain(|path| !except.iter().any(|except| Path::new(except) == path));
        match (found.is_empty(), presence) {
            (true, Presence::Required) => {
                return failed(format!("file {path}"), "it is there".to_owned(), "there is none".to_owned());
            }
            (false, Presence::Absent) => {
                return failed(format!("file {path}"), "no such file".to_owned(), list(&found));
            }
            _ => {}
        }
        for path in &found {
            if let Err(verdict) = self.one_file(files, path, what)? {
                return Ok(Err(verdict));
            }
        }
        Ok(Ok(()))
    }

    fn one_file(&self, files: &Files, path: &Path, what: &What) -> Probed {
        let What::File { mode, owner, empty, content, .. } = what else { return not_run("no file") };
        let name = format!("file {}", path.display());
        let Some(entry) = files.stat(path)? else {
            return failed(name, "a file".to_owned(), "a link that leads nowhere".to_owned());
        };
        if let Some(mode) = mode.filter(|mode| *mode != u32::from(entry.mode)) {
            return failed(name, format!("mode {mode:04o}"), format!("mode {:04o}", entry.mode));
        }
        if let Some(owner) = owner {
            let is = owner_of(files, &entry)?;
            if is != *owner {
                return failed(name, format!("owner {owner}"), format!("owner {is}"));
            }
        }
        if *empty && entry.size > 0 {
            return failed(name, "an empty file".to_owned(), format!("{} bytes", entry.size));
        }
        if content.is_empty() || entry.kind != EntryKind::File {
            return Ok(Ok(()));
        }
        let bytes = files.read(path, LONGEST)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        self.judge(name, content, &text)
    }
}

fn with_files(offline: &Offline<'_>, probe: impl FnOnce(&Files) -> Probed) -> Probed {
    match &offline.files {
        Ok(files) => probe(files),
        Err(why) => not_run(why.clone()),
    }
}

fn image(offline: &Offline<'_>) -> Probed {
    let info = offline.disk.info();
    let name = format!("image {}", offline.image.display());
    if !matches!(info.format.as_str(), "qcow2" | "raw") {
        return failed(name, "qcow2 or raw".to_owned(), info.format.clone());
    }
    if let Some(backing) = &info.backing_filename {
        return failed(name, "a flat image".to_owned(), format!("it lies on {backing}"));
    }
    let snapshots: Vec<_> = info.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect();
    if snapshots.is_empty() {
        return Ok(Ok(()));
    }
    failed(name, "no snapshots".to_owned(), snapshots.join(", "))
}

/// The second field of root's line of shadow(5).
fn root_password(offline: &Offline<'_>, files: &Files) -> Probed {
    let Some(bytes) = files.read("/etc/shadow", LONGEST)? else { return not_run("the image has no /etc/shadow") };
    let text = String::from_utf8_lossy(&bytes);
    let field = text.lines().find_map(|line| line.strip_prefix("root:")?.split(':').next()).unwrap_or_default();
    let locked = field.starts_with(['!', '*']);
    let name = "root's line of /etc/shadow".to_owned();
    match offline.root_password {
        _ if field.is_empty() => {
            failed(name, "a locked account, or a password".to_owned(), "no password is asked for".to_owned())
        }
        None if locked => Ok(Ok(())),
        None => not_given(
            "root has a password, and the one that was asked for is not known: give it with --root-password-file",
        ),
        Some(_) if locked => {
            failed(name, "the password that was asked for".to_owned(), "the account is locked".to_owned())
        }
        Some(password) => match is_hash_of(field, password.expose_secret()) {
            Some(true) => Ok(Ok(())),
            Some(false) => failed(name, "the password that was asked for".to_owned(), "another one".to_owned()),
            None => not_given("root's password is hashed in a way that is not known here (yescrypt is)"),
        },
    }
}

/// Whether `hash` (crypt(5)) is of `password`; none for a kind that is not known.
fn is_hash_of(hash: &str, password: &str) -> Option<bool> {
    use yescrypt::PasswordVerifier as _;
    if !hash.starts_with("$y$") {
        return None;
    }
    let hash = yescrypt::PasswordHashRef::new(hash).ok()?;
    Some(yescrypt::Yescrypt::default().verify_password(password.as_bytes(), hash).is_ok())
}

fn modes(files: &Files, privileged: &[String], writable: &[String]) -> Probed {
    let mut odd = Vec::new();
    files.walk(|path, entry| {
        let known = |list: &[String]| list.iter().any(|known| Path::new(known) == path);
        let is_link = entry.kind == EntryKind::Link;
        let set_id = entry.mode & PRIVILEGED != 0 && entry.kind == EntryKind::File;
        if set_id && !known(privileged) {
            odd.push(format!("{} is set-uid or set-gid (mode {:04o})", path.display(), entry.mode));
        }
        // A folder with the sticky bit is shared on purpose, and still must be known.
        if !is_link && entry.mode & WRITABLE != 0 && entry.kind != EntryKind::CharacterDevice && !known(writable) {
            odd.push(format!("{} may be written by everybody (mode {:04o})", path.display(), entry.mode));
        }
        Ok(())
    })?;
    if odd.is_empty() {
        return Ok(Ok(()));
    }
    failed("the modes of all files".to_owned(), "none but those known".to_owned(), odd.join("\n"))
}

fn owner_of(files: &Files, entry: &Entry) -> Result<String> {
    let user = files.user_name(entry.uid)?.map_or_else(|| entry.uid.to_string(), str::to_owned);
    let group = files.group_name(entry.gid)?.map_or_else(|| entry.gid.to_string(), str::to_owned);
    Ok(format!("{user}:{group}"))
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().take(20).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}
