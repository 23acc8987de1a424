//! Follows a running QEMU and finds out why it ended or can no longer go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ended::QEMU;
use super::qmp::{Qmp, QmpEvent};
use super::{Ended, Reporter, Stderr};
use crate::disk_space::free;
use crate::process;

/// How long QEMU may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How long what QEMU wrote before its end may take to be read.
const DRAIN: Duration = Duration::from_secs(2);

/// How long the serial console may lag behind the panic device with the panic's text.
const PANIC_TEXT: Duration = Duration::from_millis(500);

/// What the supervisor knows about the machine.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub qmp: Arc<Qmp>,
    pub reporter: Reporter,
    pub stderr: Stderr,
    /// The drives' files by block node name, and whether writes really go there.
    pub drives: BTreeMap<String, PathBuf>,
    pub snapshot: bool,
    /// Whether visabuild itself makes the guest stand still for a moment.
    pub held: Held,
    /// Gets the states of migrations (QMP `MigrationStatus`).
    pub migration: watch::Sender<String>,
}

/// Whether visabuild itself makes the guest stand still. Clones say the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<AtomicBool>);

impl Held {
    /// Said before the guest is stopped, and after it goes on.
    pub(super) fn hold(&self, held: bool) {
        self.0.store(held, Ordering::SeqCst);
    }

    fn is_held(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Facts {
    /// Follows QEMU's events to their end; returns the reason of the last `SHUTDOWN`.
    pub(super) async fn follow_events(self, mut events: mpsc::UnboundedReceiver<QmpEvent>) -> Option<String> {
        let mut shutdown = None;
        while let Some(event) = events.recv().await {
            match event.name.as_str() {
                "SHUTDOWN" => shutdown = event.data["reason"].as_str().map(str::to_owned),
                "RESET" => self.reporter.reset(),
                "BLOCK_IO_ERROR" => self.block_error(&event.data),
                // It is answered by a task, because QEMU's answer comes over the socket of these events.
                "STOP" if !self.held.is_held() => drop(tokio::spawn(self.clone().stopped())),
                "MIGRATION" => {
                    self.migration.send_replace(event.data["status"].as_str().unwrap_or_default().to_owned());
                }
                "GUEST_PANICKED" => drop(tokio::spawn(self.clone().panicked())),
                _ => {}
            }
        }
        shutdown
    }

    /// QMP `BLOCK_IO_ERROR`; only one that stops the guest ends the build.
    fn block_error(&self, data: &Value) {
        if data["action"] != "stop" {
            return;
        }
        let node = data["node-name"].as_str().unwrap_or("disk");
        let path = self.drives.get(node).or_else(|| self.drives.get("disk")).cloned().unwrap_or_default();
        if data["nospace"] == true {
            let free = if self.snapshot { None } else { free(&path) };
            self.reporter.end(Ended::DiskFull { path, free });
        } else {
            let text = |key: &str| data[key].as_str().unwrap_or("use").to_owned();
            self.reporter.end(Ended::IoError { path, operation: text("operation"), reason: text("reason") });
        }
    }

    /// QMP `STOP`: QEMU's run state says whether somebody asked for it.
    async fn stopped(self) {
        let Ok(status) = self.qmp.execute("query-status", json!({})).await else { return };
        match status["status"].as_str() {
            Some(state @ ("internal-error" | "io-error" | "watchdog" | "paused" | "shutdown")) => {
                self.reporter.end(Ended::Paused { state: state.to_owned(), stderr: self.stderr.text() });
            }
            Some("guest-panicked") => self.panicked().await,
            _ => {}
        }
    }

    /// The guest told the panic device; the text comes over the serial console, if it has one.
    async fn panicked(self) {
        if tokio::time::timeout(PANIC_TEXT, self.reporter.told()).await.is_err() {
            self.reporter.end(Ended::KernelPanic { line: "panic, without a message on the serial console".into() });
        }
    }
}

/// What reads QEMU's output, each to its end.
pub(super) struct Readers {
    pub events: JoinHandle<Option<String>>,
    pub serial: JoinHandle<()>,
    pub firmware: JoinHandle<()>,
    pub stderr: JoinHandle<()>,
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.events.abort();
        self.serial.abort();
        self.firmware.abort();
        self.stderr.abort();
    }
}

/// Owns QEMU to its end: reports how it ended, and ends it when `stop` fires.
pub(super) async fn supervise(mut child: Child, mut readers: Readers, facts: Facts, stop: CancellationToken) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = stop.cancelled() => {
            facts.reporter.end(Ended::Stopped);
            process::stop(&mut child, GRACE).await
        }
    };
    // What QEMU wrote last is still in the sockets; a panic's text or the reason of a shutdown
    // explains more than an exit code.
    let drained = tokio::time::timeout(DRAIN, async {
        let _ = (&mut readers.serial).await;
        let _ = (&mut readers.stderr).await;
        (&mut readers.events).await.ok().flatten()
    });
    let shutdown = drained.await.ok().flatten();
    facts.reporter.end(classify(status.ok(), shutdown.as_deref(), facts.stderr.text()));
    facts.reporter.gone();
}

/// Why QEMU ended, from its exit status and the reason that it gave (QMP `ShutdownCause`).
fn classify(status: Option<ExitStatus>, shutdown: Option<&str>, stderr: String) -> Ended {
    match Ended::of(QEMU, status, stderr) {
        // A reset ends QEMU only where the guest is to power off instead (`no_reboot`).
        Ended::Exited { code: 0, .. } if matches!(shutdown, Some("guest-shutdown" | "guest-reset")) => {
            Ended::PoweredOff
        }
        ended => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Watch;
    use std::os::unix::process::ExitStatusExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    /// The reason that a machine ends with when QEMU sends `events`; `status` answers query-status.
    async fn reason(events: &str, status: &str) -> Option<Ended> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let answers = ["{}", status].map(|result| format!("{{\"return\": {result}, \"id\": ID}}\n"));
        let events = events.to_owned();
        let qemu = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"{\"QMP\": {}}\n").await.unwrap();
            let mut buffer = vec![0; 4096];
            for (number, answer) in answers.iter().enumerate() {
                if stream.read(&mut buffer).await.unwrap() == 0 {
                    return;
                }
                let id = (number + 1).to_string();
                stream.write_all(answer.replace("ID", &id).as_bytes()).await.unwrap();
                if number == 0 {
                    stream.write_all(events.as_bytes()).await.unwrap();
                }
            }
        });
        let (qmp, receiver) = Qmp::open(UnixStream::connect(path).await.unwrap()).await.unwrap();
        let (reporter, watch) = Watch::channel();
        let drives = BTreeMap::from([("disk".to_owned(), folder.path().to_owned())]);
        let (held, migration) = (Held::default(), watch::channel(String::new()).0);
        let stderr = Stderr::default();
        let facts = Facts { qmp: Arc::new(qmp), reporter, stderr, drives, snapshot: true, held, migration };
        let following = tokio::spawn(facts.follow_events(receiver));
        let ended = tokio::time::timeout(Duration::from_secs(1), watch.ended()).await.ok();
        following.abort();
        qemu.abort();
        ended.map(|ended| match ended {
            Ended::DiskFull { free, .. } => Ended::DiskFull { path: "disk".into(), free },
            Ended::IoError { operation, reason, .. } => Ended::IoError { path: "disk".into(), operation, reason },
            other => other,
        })
    }

    #[tokio::test]
    async fn a_full_disk_is_told_as_such() {
        let events = r#"{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk", "reason": "No space left on device",
            "operation": "write", "action": "stop", "nospace": true}}"#;
        let ended = reason(&format!("{}\n", events.replace('\n', "")), "{}").await;
        assert_eq!(ended, Some(Ended::DiskFull { path: "disk".into(), free: None }));
    }

    #[tokio::test]
    async fn another_error_of_a_disk_tells_operation_and_reason() {
        let events = "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"node-name\": \"disk\", \"reason\": \"Input/output error\", \
                      \"operation\": \"read\", \"action\": \"stop\", \"nospace\": false}}\n";
        let expected =
            Ended::IoError { path: "disk".into(), operation: "read".into(), reason: "Input/output error".into() };
        assert_eq!(reason(events, "{}").await, Some(expected));
    }

    #[tokio::test]
    async fn a_stop_is_explained_by_qemus_run_state() {
        let stop = "{\"event\": \"STOP\"}\n";
        let paused = Ended::Paused { state: "internal-error".into(), stderr: String::new() };
        assert_eq!(reason(stop, "{\"status\": \"internal-error\"}").await, Some(paused));
        let Some(Ended::KernelPanic { .. }) = reason(stop, "{\"status\": \"guest-panicked\"}").await else {
            panic!("not a panic")
        };
    }

    #[tokio::test]
    async fn a_panic_without_a_serial_console_is_a_panic_too() {
        let Some(Ended::KernelPanic { .. }) = reason("{\"event\": \"GUEST_PANICKED\", \"data\": {}}\n", "{}").await
        else {
            panic!("not a panic")
        };
    }

    #[tokio::test]
    async fn a_reset_is_not_the_end() {
        let events = "{\"event\": \"RESET\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n\
                      {\"event\": \"STOP\"}\n{\"event\": \"RESUME\"}\n";
        assert_eq!(reason(events, "{\"status\": \"save-vm\"}").await, None);
    }

    #[test]
    fn exit_status_and_shutdown_reason_make_the_end() {
        let exit = |code: i32| Some(ExitStatus::from_raw(code << 8));
        let none = String::new;
        for reason in ["guest-shutdown", "guest-reset"] {
            assert_eq!(classify(exit(0), Some(reason), none()), Ended::PoweredOff);
        }
        assert_eq!(
            classify(exit(0), Some("host-signal"), none()),
            Ended::Exited { program: QEMU, code: 0, stderr: none() }
        );
        assert_eq!(classify(exit(1), None, "x".into()), Ended::Exited { program: QEMU, code: 1, stderr: "x".into() });
        assert_eq!(
            classify(Some(ExitStatus::from_raw(9)), None, none()),
            Ended::Killed { program: QEMU, signal: 9, stderr: none() }
        );
    }
}
