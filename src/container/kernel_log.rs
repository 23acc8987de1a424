//! The kernel's log, for errors of a disk: nobody else tells that a write was lost.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Longest record, bytes (`CONSOLE_EXT_LOG_MAX` of Linux).
const RECORD: usize = 8192;

/// What the kernel logs from now on.
#[derive(Debug)]
pub(super) struct KernelLog(Receiver);

impl KernelLog {
    /// Opens it at its end; none where this process may not read it.
    pub(super) fn open() -> Option<Self> {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).ok()?;
        let mut file = File::options().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        // It is no pipe, but like one it is waited for and read to what there is.
        Receiver::from_file_unchecked(file).ok().map(Self)
    }

    /// Waits for an error of the block device `name` (`loop0`) and returns its text; waits for ever
    /// where the log cannot be read on.
    pub(super) async fn error_of(&mut self, name: &str) -> String {
        loop {
            match self.record().await {
                Ok(record) => {
                    if let Some(text) = device_error(&record, name) {
                        return text.to_owned();
                    }
                }
                // Older records were overwritten before they were read: the next one comes.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// One read returns one record (Linux, Documentation/ABI/testing/dev-kmsg).
    async fn record(&mut self) -> io::Result<String> {
        let mut buffer = vec![0; RECORD];
        let count = self.0.read(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
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
    async fn the_log_is_open_only_for_what_comes() {
        if let Some(mut log) = KernelLog::open() {
            let quiet = tokio::time::timeout(std::time::Duration::from_millis(20), log.error_of("loop-none")).await;
            assert!(quiet.is_err());
        }
    }
}
