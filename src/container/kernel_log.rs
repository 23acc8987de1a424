//! The kernel's log, for errors of a disk: nobody else tells that a write was lost.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use tokio::net::unix::pipe::Receiver;

use crate::error::{Error, Result};

/// Where it is read.
const PATH: &str = "/dev/kmsg";

/// Longest record, bytes (`CONSOLE_EXT_LOG_MAX` of Linux).
const RECORD: usize = 8192;

/// What the kernel logs from now on.
#[derive(Debug)]
pub(super) struct KernelLog {
    /// One read returns one record (Linux, Documentation/ABI/testing/dev-kmsg).
    file: File,
    /// The same open file. It is no pipe, but like one it is waited for.
    ready: Receiver,
}

impl KernelLog {
    /// Opens it at its end.
    ///
    /// # Errors
    /// This process may not read it (kind host).
    pub(super) fn open() -> Result<Self> {
        let open = || -> io::Result<Self> {
            let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
            let mut file = File::options().read(true).custom_flags(nonblocking).open(PATH)?;
            file.seek(SeekFrom::End(0))?;
            Ok(Self { ready: Receiver::from_file_unchecked(file.try_clone()?)?, file })
        };
        open().map_err(|error| {
            Error::host(format!("cannot read {PATH}, where the kernel tells of writes that failed"))
                .because(error)
                .hint("in a container, pass the device in; or use `--engine qemu`")
        })
    }

    /// Waits for an error of the block device `name` (`loop0`) and returns its text. Cancel-safe.
    pub(super) async fn error_of(&mut self, name: &str) -> String {
        loop {
            if let Some(text) = first_error(name, |buffer| self.ready.try_read(buffer)) {
                return text;
            }
            if let Err(error) = self.ready.readable().await {
                return format!("{PATH}: {error}");
            }
        }
    }

    /// Reads all that is there; returns the text of the first error of the block device `name`.
    pub(super) fn errors_so_far(&mut self, name: &str) -> Option<String> {
        first_error(name, |buffer| self.file.read(buffer))
    }
}

/// Reads records until there are no more, or one tells of an error of `device`, and returns its text.
fn first_error(device: &str, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Option<String> {
    let mut buffer = [0; RECORD];
    loop {
        match read(&mut buffer) {
            Ok(count) => {
                let record = String::from_utf8_lossy(&buffer[..count]);
                if let Some(text) = device_error(&record, device) {
                    return Some(text.to_owned());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            // Older records were overwritten before they were read: the next one comes.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) => return Some(format!("{PATH}: {error}")),
        }
    }
}

/// The text of a record `PRIORITY,NUMBER,TIME,FLAGS;TEXT` that tells of an error of `device`.
fn device_error<'a>(record: &'a str, device: &str) -> Option<&'a str> {
    let text = record.split_once(';')?.1.lines().next()?;
    let names_it = text.contains(&format!("dev {device},")) || text.contains(&format!("(device {device})"));
    // A discard that fails loses nothing.
    (names_it && text.contains("error") && !text.contains("(DISCARD)")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn errors_of_the_device_are_known() {
        let full = "3,1,2,-;critical space allocation error, dev loop3, sector 8 op 0x1:(WRITE)\n SUBSYSTEM=block\n";
        let io = "3,1,2,-;I/O error, dev loop3, sector 2048 op 0x1:(WRITE) flags 0x800\n";
        let ext4 = "2,9,9,-;EXT4-fs error (device loop3): ext4_find_entry:1455: inode #2\n";
        for record in [full, io, ext4] {
            assert!(device_error(record, "loop3").is_some(), "{record}");
            assert_eq!(device_error(record, "loop"), None);
            assert_eq!(device_error(record, "loop33"), None);
        }
        let discard = "3,1,2,-;operation not supported error, dev loop3, sector 8 op 0x3:(DISCARD) flags 0x800\n";
        assert_eq!(device_error(discard, "loop3"), None);
        assert_eq!(device_error("6,1,2,-;loop3: detected capacity change from 0 to 8\n", "loop3"), None);
        assert_eq!(device_error("no record", "loop3"), None);
    }

    #[tokio::test]
    async fn an_error_among_other_records_is_found_whether_or_not_it_is_waited_for() {
        let Ok(mut log) = KernelLog::open() else { return };
        let quiet = log.error_of("visabuild-test0");
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), quiet).await.is_err());
        // Root may write to the log.
        let Ok(mut kernel) = File::options().write(true).open(PATH) else { return };
        // A record without its line end may be continued, and is not shown yet.
        let mut say = |text: &str| kernel.write_all(format!("{text}\n").as_bytes()).unwrap();
        let error = "I/O error, dev visabuild-test0, sector 8 (a test of visabuild)";
        for text in ["a test of visabuild", error, "a test of visabuild"] {
            say(text);
        }
        assert_eq!(log.error_of("visabuild-test0").await, error);
        say(error);
        assert_eq!(log.errors_so_far("visabuild-test0").as_deref(), Some(error));
        assert_eq!(log.errors_so_far("visabuild-test0"), None);
    }
}
