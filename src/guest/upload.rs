//! Files into the guest.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::AsyncRead;

use super::{Guest, Outcome, tar};
use crate::error::{Cause, Context, Error, Kind, Result};
use crate::event::Stream;
use crate::lines::Tail;
use crate::shell_word::quote;

/// How much of a folder is on its way at once, bytes.
const PIPE: usize = 256 * 1024;

/// Where one file goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Path in the guest. A folder (there already, or with a trailing slash) gets the file `name`.
    pub path: &'a str,
    /// The file's name when `path` is a folder.
    pub name: &'a str,
    /// Permission bits.
    pub mode: u32,
}

/// The permission bits that a file of the host gets in the guest: 0755 when its owner may execute
/// it, else 0644. The umask of whoever checked the project out does not count.
pub fn file_mode(metadata: &Metadata) -> u32 {
    if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 }
}

impl Guest {
    /// Writes `content` to a file in the guest; folders above it are made as needed. The file is not
    /// readable for others before it has its mode.
    ///
    /// # Errors
    /// The guest cannot write it (its message is the cause), and what [`Guest::exec`] says.
    pub async fn upload(&mut self, content: impl AsyncRead + Unpin, target: Target<'_>) -> Result<()> {
        let Target { path, name, mode } = target;
        let script = format!(
            r#"set -e; path={}; name={}
            case $path in */) path=$path$name ;; *) if [ -d "$path" ]; then path=$path/$name; fi ;; esac
            folder=$(dirname -- "$path"); [ -d "$folder" ] || mkdir -p -- "$folder"
            umask 077; cat >"$path"; chmod {mode:04o} "$path""#,
            quote(path),
            quote(name)
        );
        self.feed(&script, content).await.map_err(|error| error.context(format!("writing {path} in the guest")))
    }

    /// Copies what is in `folder` into the folder `destination` of the guest, which is made as
    /// needed; folders that are there already keep their owner and mode. Files get `mode`, or what
    /// [`file_mode`] says.
    ///
    /// # Errors
    /// A file cannot be read, the guest cannot write it, and what [`Guest::exec`] says.
    pub async fn upload_tree(&mut self, folder: &Path, destination: &str, mode: Option<u32>) -> Result<()> {
        let entries = tar::list(folder, mode)?;
        let script = format!(
            r#"set -e; folder={}; [ -d "$folder" ] || mkdir -p -- "$folder"
            exec tar -x -p -m --no-same-owner --no-overwrite-dir --keep-directory-symlink -f - -C "$folder""#,
            quote(destination)
        );
        let (writer, reader) = tokio::io::duplex(PIPE);
        let (written, fed) = tokio::join!(tar::write(&entries, writer), self.feed(&script, reader));
        let doing = || format!("copying {} to {destination} in the guest", folder.display());
        match written {
            // The guest's tar has ended before it had all: it says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe && fed.is_err() => {}
            written => written.context(Kind::Build, doing)?,
        }
        fed.map_err(|error| error.context(doing()))
    }

    /// Makes the folder `path` in the guest, and those above it.
    ///
    /// # Errors
    /// The guest cannot make it, and what [`Guest::exec`] says.
    pub async fn make_folder(&mut self, path: &str) -> Result<()> {
        let script = format!("exec mkdir -p -- {}", quote(path));
        self.feed(&script, tokio::io::empty())
            .await
            .map_err(|error| error.context(format!("making the folder {path} in the guest")))
    }

    /// Runs a script of our own that has to succeed and prints only what went wrong.
    async fn feed(&mut self, script: &str, stdin: impl AsyncRead + Unpin) -> Result<()> {
        let mut said = Tail::default();
        let note = |_: Stream, line: &str| said.push(line);
        // The account's own shell need not be a POSIX one.
        match self.exec(&format!("exec /bin/sh -c {}", quote(script)), stdin, note).await? {
            Outcome::Exit(0) => Ok(()),
            outcome => {
                let error = Error::build(outcome.to_string()).caused_by(Cause::Command(outcome));
                Err(if said.text().is_empty() { error } else { error.because(said.text()) })
            }
        }
    }
}
