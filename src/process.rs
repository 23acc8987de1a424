//! Child processes that never outlive visabuild.
//!
//! Every child gets its own process group and a parent-death signal. The kernel sends that signal
//! when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG), and runtime threads come and
//! go, so all children are forked by one thread that lives as long as the process.
//! A Ctrl-C at the terminal does not reach the children (own group): whoever owns one stops it.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::event::{Phase, Stream};

/// How much of a failed child's standard error goes into the error, bytes.
const STDERR_TAIL: usize = 4096;

type Request = (Command, tokio::runtime::Handle, tokio::sync::oneshot::Sender<io::Result<Child>>);

/// Starts `command` in its own process group; it is killed when visabuild ends, however it ends.
///
/// # Errors
/// What the operating system says when the program cannot be started.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    command.process_group(0).kill_on_drop(true);
    die_with_parent(&mut command);
    let spawner = SPAWNER.get_or_init(start_spawner);
    let (reply, answer) = tokio::sync::oneshot::channel();
    spawner
        .send((command, tokio::runtime::Handle::current(), reply))
        .map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    answer.await.map_err(|_| io::Error::other("the thread that starts processes has ended"))?
}

fn start_spawner() -> mpsc::Sender<Request> {
    let (requests, queue) = mpsc::channel::<Request>();
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, runtime, reply) in queue {
                let _context = runtime.enter();
                // The receiver is gone when the caller was cancelled; dropping the child kills it.
                let _ = reply.send(command.spawn());
            }
        })
        .expect("a thread can be started");
    requests
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes only two async-signal-safe system
    // calls (prctl, getppid); it neither allocates nor takes locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the prctl took effect.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
}

/// Asks the child's process group to end with SIGTERM, waits `grace`, then kills it.
///
/// # Errors
/// What waiting for the child says.
pub async fn stop(child: &mut Child, grace: Duration) -> io::Result<ExitStatus> {
    signal_group(child, Signal::TERM);
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status;
    }
    signal_group(child, Signal::KILL);
    child.wait().await
}

fn signal_group(child: &Child, signal: Signal) {
    // A child that has been waited for has no id, and its group may be somebody else's by now.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // ESRCH: it has just ended, which is what we want.
        let _ = kill_process_group(pid, signal);
    }
}

/// A program run to its end: what to run and how its failure is told.
#[derive(Debug)]
pub struct Run {
    command: Command,
    program: String,
    kind: Kind,
}

impl Run {
    /// `program` with `args`. Arguments are visible to every user of the host: no secrets.
    pub fn new<A: Into<OsString>>(program: &str, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program);
        command.args(args.into_iter().map(Into::into)).stdin(Stdio::null());
        Self { command, program: program.to_owned(), kind: Kind::Build }
    }

    /// Changes the underlying command (environment, working directory).
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// The kind of the error when the program fails; [`Kind::Build`] if not set.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Runs it and returns its standard output as text.
    ///
    /// # Errors
    /// It cannot be started (kind host), fails (its standard error is in the message), or `cancel` fires.
    pub async fn output(self, cancel: &CancellationToken) -> Result<String> {
        let mut lines = Vec::new();
        self.lines(cancel, |stream, line| {
            if stream == Stream::Stdout {
                lines.push(line.to_owned());
            }
        })
        .await?;
        Ok(lines.join("\n"))
    }

    /// Runs it; its lines go to `phase`.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub async fn reported(self, cancel: &CancellationToken, phase: &Phase) -> Result<()> {
        self.lines(cancel, |stream, line| phase.output(stream, line)).await
    }

    /// Runs it; `each` gets every line (also those that end in a carriage return) as it comes.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub async fn lines(mut self, cancel: &CancellationToken, mut each: impl FnMut(Stream, &str)) -> Result<()> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(self.command).await.map_err(|error| {
            Error::host(format!("cannot run `{}`", self.program))
                .because(error)
                .hint("`visabuild doctor` says what is missing")
        })?;
        let mut tail = Tail::default();
        let mut stdout = child.stdout.take().map(Lines::new);
        let mut stderr = child.stderr.take().map(Lines::new);
        let status = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    let _ = stop(&mut child, Duration::from_secs(5)).await;
                    return Err(Error::new(Kind::Interrupted, format!("`{}` was stopped", self.program)));
                }
                line = next(&mut stdout) => match line {
                    Some(line) => each(Stream::Stdout, &line),
                    None => stdout = None,
                },
                line = next(&mut stderr) => match line {
                    Some(line) => { tail.push(&line); each(Stream::Stderr, &line); }
                    None => stderr = None,
                },
                status = child.wait(), if stdout.is_none() && stderr.is_none() => break status,
            }
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let error = Error::new(self.kind, format!("`{}` failed: {status}", self.program));
                Err(if tail.text.is_empty() { error } else { error.because(tail.text.trim_end().to_owned()) })
            }
            Err(error) => Err(Error::new(self.kind, format!("cannot wait for `{}`", self.program)).because(error)),
        }
    }
}

async fn next<R: AsyncRead + Unpin>(lines: &mut Option<Lines<R>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// Lines of a child's stream; not necessarily UTF-8, and `\r` ends a line too (progress bars).
struct Lines<R> {
    reader: BufReader<R>,
    pending: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(stream: R) -> Self {
        Self { reader: BufReader::new(stream), pending: Vec::new() }
    }

    /// The next line; cancel-safe, because what was read so far stays in `pending`.
    async fn next(&mut self) -> Option<String> {
        loop {
            let available = match self.reader.fill_buf().await {
                Ok(bytes) if !bytes.is_empty() => bytes,
                _ if self.pending.is_empty() => return None,
                _ => return Some(take_line(&mut self.pending)),
            };
            let (used, ended) = match available.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(end) => (end + 1, true),
                None => (available.len(), false),
            };
            self.pending.extend_from_slice(&available[..used]);
            self.reader.consume(used);
            if ended {
                self.pending.pop();
                if self.pending.is_empty() {
                    continue;
                }
                return Some(take_line(&mut self.pending));
            }
        }
    }
}

fn take_line(bytes: &mut Vec<u8>) -> String {
    let line = String::from_utf8_lossy(bytes).into_owned();
    bytes.clear();
    line
}

/// The last part of what a child wrote to standard error.
#[derive(Default)]
struct Tail {
    text: String,
}

impl Tail {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() > STDERR_TAIL {
            let excess = self.text.len() - STDERR_TAIL;
            let cut = self.text[excess..].find('\n').map_or(self.text.len(), |end| excess + end + 1);
            self.text.drain(..cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_returned_without_its_last_newline() {
        let output = Run::new("sh", ["-c", "printf 'a\\nb\\n'"]).output(&CancellationToken::new()).await.unwrap();
        assert_eq!(output, "a\nb");
    }

    #[tokio::test]
    async fn a_failure_tells_status_and_standard_error() {
        let error =
            Run::new("sh", ["-c", "echo broken >&2; exit 3"]).output(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.chain(), ["`sh` failed: exit status: 3", "broken"]);
        assert_eq!(error.kind(), Kind::Build);
    }

    #[tokio::test]
    async fn a_missing_program_is_the_hosts_fault() {
        let none: [&str; 0] = [];
        let error = Run::new("visabuild-no-such-program", none).output(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
    }

    #[tokio::test]
    async fn cancelling_ends_the_whole_group() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let error = Run::new("sh", ["-c", "sleep 1000 & wait"]).output(&cancel).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }

    #[tokio::test]
    async fn a_carriage_return_ends_a_line() {
        let mut seen = Vec::new();
        Run::new("printf", ["10%%\\r20%%\\rdone"])
            .lines(&CancellationToken::new(), |_, line| seen.push(line.to_owned()))
            .await
            .unwrap();
        assert_eq!(seen, ["10%", "20%", "done"]);
    }
}
