//! What is sent: an image file as it is, or what a guest sees of it, read as it goes out.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha512};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::failure::Failure;
use crate::checksum::hex;
use crate::error::{Context, Error, Kind, Result};
use crate::process;

/// What is read at once, bytes.
const CHUNK: usize = 1 << 20;

/// Chunks that wait to be sent; more would only cost memory.
const WAITING: usize = 3;

const DAEMON: &str = "qemu-storage-daemon";

/// An image on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The file.
    pub path: PathBuf,
    /// Its format, as qemu-img names it.
    pub format: String,
    /// Whether a guest's view (raw) is sent in place of the file.
    pub as_raw: bool,
    /// How much is sent, bytes.
    pub length: u64,
}

impl Content {
    /// The file as it is.
    pub fn of_file(path: PathBuf, format: String, length: u64) -> Self {
        Self { path, format, as_raw: false, length }
    }

    /// What a guest sees of it, `virtual_size` bytes.
    pub fn of_guest(path: PathBuf, format: String, virtual_size: u64) -> Self {
        Self { path, as_raw: format != "raw", format, length: virtual_size }
    }

    /// Begins to read it, once.
    ///
    /// # Errors
    /// It cannot be opened, or is not as long as it was.
    pub(super) async fn read(&self) -> Result<Reading> {
        let fail = || format!("cannot read {}", self.path.display());
        let source = Source::look(&self.path).context(Kind::Usage, fail)?;
        if self.as_raw {
            let (daemon, stream) = export(&self.path, &self.format).await?;
            let length = self.length;
            let path = self.path.display().to_string();
            return Ok(Reading::start(source, Some(daemon), self.length, move || guest_view(stream, length, &path)));
        }
        let file = File::open(&self.path).context(Kind::Usage, fail)?;
        let length = file.metadata().context(Kind::Usage, fail)?.len();
        if length != self.length {
            return Err(Error::usage(format!(
                "{} has changed: it was {} bytes, and is {length}",
                self.path.display(),
                self.length
            )));
        }
        Ok(Reading::start(source, None, length, move || Ok(Box::new(file) as Box<dyn Read>)))
    }

    /// SHA-512 of all that would be sent, hexadecimal.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn sha512(&self) -> Result<String> {
        let mut reading = self.read().await?;
        while let Some(chunk) = reading.chunks.recv().await {
            chunk.context(Kind::Usage, || format!("cannot read {}", self.path.display()))?;
        }
        reading.hashing.finish().await.map_err(|failure| failure.explain("reading the image"))
    }
}

/// The file that is read, and what tells whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Source {
    fn look(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// What was read is a mixture, or nobody's file, if the file is another one now.
    fn is_unchanged(&self) -> Result<()> {
        let changed = || Error::usage(format!("{} has changed while it was read", self.path.display()));
        match Self::look(&self.path) {
            Ok(now) if now == *self => Ok(()),
            Ok(_) => Err(changed().hint("begin again once nothing writes to it any more")),
            Err(error) => Err(changed().because(error)),
        }
    }
}

/// One reading of a content: its chunks, and then its hash.
#[derive(Debug)]
pub(super) struct Reading {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    hashing: Hashing,
}

impl Reading {
    fn start<F>(source: Source, daemon: Option<Child>, length: u64, open: F) -> Self
    where
        F: FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static,
    {
        let (sender, chunks) = mpsc::channel(WAITING);
        let hash = tokio::task::spawn_blocking(move || {
            let result = open().and_then(|mut opened| pass_on(&mut opened, length, &sender));
            if let Err(error) = &result {
                // Whoever sends must not take a torn image for a whole one.
                let _ = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
            }
            result
        });
        Self { chunks, hashing: Hashing { hash, _daemon: daemon, source } }
    }

    /// The body of a request, and how far it is, in bytes.
    pub fn into_body(self) -> (reqwest::Body, Arc<AtomicU64>, Hashing) {
        let taken = Arc::<AtomicU64>::default();
        let count = Arc::clone(&taken);
        let stream = futures_util::stream::unfold(self.chunks, move |mut chunks| {
            let count = Arc::clone(&count);
            async move {
                let chunk = chunks.recv().await?;
                if let Ok(bytes) = &chunk {
                    count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Some((chunk, chunks))
            }
        });
        (reqwest::Body::wrap_stream(stream), taken, self.hashing)
    }
}

/// The hash of what is being sent.
#[derive(Debug)]
pub(super) struct Hashing {
    hash: JoinHandle<io::Result<String>>,
    /// Dies with the reading.
    _daemon: Option<Child>,
    source: Source,
}

impl Hashing {
    /// SHA-512 of all that was read, hexadecimal, once all was taken.
    pub async fn finish(self) -> std::result::Result<String, Failure> {
        let fail = || "cannot read the image";
        let joined = self.hash.await.context(Kind::Build, fail).map_err(Failure::Ours)?;
        let hash = joined.context(Kind::Usage, fail).map_err(Failure::Ours)?;
        self.source.is_unchanged().map_err(Failure::Ours)?;
        Ok(hash)
    }

    /// Why reading ended early, if it did, and not because nobody took the data any more. A connection that
    /// hangs keeps its data, and the reading waits.
    pub async fn reason(self) -> Option<Failure> {
        match tokio::time::timeout(Duration::from_secs(1), self.hash).await.ok()? {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Some(Failure::Ours(Error::usage("cannot read the image").because(error)))
            }
            _ => None,
        }
    }
}

fn pass_on(source: &mut dyn Read, length: u64, sender: &mpsc::Sender<io::Result<Vec<u8>>>) -> io::Result<String> {
    let mut hash = Sha512::new();
    let mut left = length;
    while left > 0 {
        let wanted = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        let mut chunk = Vec::with_capacity(wanted);
        if source.take(wanted as u64).read_to_end(&mut chunk)? < wanted {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        hash.update(&chunk);
        left -= wanted as u64;
        if sender.blocking_send(Ok(chunk)).is_err() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more"));
        }
    }
    Ok(hex(&hash.finalize()))
}

/// The image over NBD, from a daemon that only reads it. The socket that it listens on is made here,
/// so nobody else can be there first and nothing has to be waited for.
async fn export(path: &Path, format: &str) -> Result<(Child, UnixStream)> {
    let fail = || format!("cannot run `{DAEMON}`, which reads {} as a guest does", path.display());
    let folder = tempfile::tempdir().context(Kind::Host, fail)?;
    let socket = folder.path().join("nbd");
    let listener = UnixListener::bind(&socket).context(Kind::Host, fail)?;
    let stream = UnixStream::connect(&socket).context(Kind::Host, fail)?;
    let file = path.to_str().ok_or_else(|| Error::usage(format!("{} is not UTF-8", path.display())))?;
    let node = json!({
        "driver": format, "node-name": "image", "read-only": true,
        "file": { "driver": "file", "filename": file, "read-only": true },
    });
    let mut command = Command::new(DAEMON);
    command
        .args(["--blockdev", &node.to_string(), "--nbd-server", "addr.type=fd,addr.str=0,max-connections=1"])
        .args(["--export", "type=nbd,id=image,node-name=image,name=image,writable=off"])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let daemon = process::spawn(command).await.map_err(|error| {
        Error::host(fail()).because(error).hint(
            "install it (package `qemu-utils` on Debian and Ubuntu), or send the file as it is with --format qcow2",
        )
    })?;
    Ok((daemon, stream))
}

fn guest_view(mut stream: UnixStream, length: u64, path: &str) -> io::Result<Box<dyn Read>> {
    let export = nbd::client::handshake(&mut stream, b"image")?;
    if export.size != length {
        let text = format!("{path} is {} bytes for a guest, not {length}", export.size);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Box::new(nbd::client::NbdClient::new(stream, &export)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    async fn qemu_img(args: &[&str]) {
        let run = crate::process::Run::new("qemu-img", args.iter().copied());
        run.output(&CancellationToken::new()).await.unwrap();
    }

    #[tokio::test]
    async fn a_guests_view_of_a_compressed_qcow2_is_the_raw_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        // Not a whole number of chunks, with holes and data.
        let mut raw = vec![0; 5 * CHUNK + 512 * 3];
        for (index, byte) in raw[CHUNK..2 * CHUNK].iter_mut().enumerate() {
            *byte = u8::try_from(index % 251).unwrap();
        }
        *raw.last_mut().unwrap() = 7;
        std::fs::write(path("raw"), &raw).unwrap();
        qemu_img(&["convert", "-c", "-O", "qcow2", &path("raw"), &path("q")]).await;

        let view = Content::of_guest(path("q").into(), "qcow2".into(), raw.len() as u64);
        assert!(view.as_raw);
        let of_raw = Content::of_file(path("raw").into(), "raw".into(), raw.len() as u64);
        assert_eq!(view.sha512().await.unwrap(), of_raw.sha512().await.unwrap());
        let wrong = Content { length: 512, ..view };
        assert!(wrong.sha512().await.unwrap_err().chain().join(" ").contains("not 512"));
    }

    #[tokio::test]
    async fn a_file_that_is_no_image_or_has_changed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "short").unwrap();
        let changed = Content::of_file(path.clone(), "raw".into(), 6);
        assert!(changed.sha512().await.unwrap_err().chain()[0].contains("it was 6 bytes, and is 5"));
        let no_image = Content::of_guest(path, "qcow2".into(), 512);
        assert!(no_image.sha512().await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let change: [fn(&Path); 3] = [
            |path| std::fs::remove_file(path).unwrap(),
            |path| {
                std::fs::write(path.with_extension("new"), "x").unwrap();
                std::fs::rename(path.with_extension("new"), path).unwrap();
            },
            |path| std::fs::File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(),
        ];
        for change in change {
            std::fs::write(&path, "x").unwrap();
            let reading = Content::of_file(path.clone(), "raw".into(), 1).read().await.unwrap();
            change(&path);
            let error = reading.hashing.finish().await.unwrap_err().explain("reading the image");
            assert!(error.chain()[0].ends_with("x has changed while it was read"), "{error:?}");
        }
    }
}
