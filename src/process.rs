//! Child processes that never outlive visabuild.
//!
//! Every child gets its own process group and a parent-death signal. The kernel sends that signal
//! when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG), and runtime threads come and
//! go, so all children are forked by one thread that lives as long as the process.
//! A Ctrl-C at the terminal does not reach the children (own group): whoever owns one stops it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::event::{Phase, Stream};
use crate::lines::{Splitter, Tail};

pub use group::run_group;

mod group;

type Request = (Command, tokio::runtime::Handle, tokio::sync::oneshot::Sender<io::Result<Child>>);

/// Starts `command` in its own process group; it is killed when visabuild ends, however it ends.
///
/// # Errors
/// What the operating system says when the program cannot be started.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.process_group(0).kill_on_drop(true);
    die_with_parent(&mut command);
    fork(command).await
}

/// Starts `command` as it is, from the thread that lives as long as the process.
async fn fork(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
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

/// A socket for a child's standard input or output, and our end of it.
///
/// # Errors
/// What the operating system says.
pub fn socket() -> io::Result<(UnixStream, OwnedFd)> {
    // The child's end must block: programs expect that of their standard input.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
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
        let mut stdout = child.stdout.take().map(Output::new);
        let mut stderr = child.stderr.take().map(Output::new);
        let status = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    let _ = stop(&mut child, Duration::from_secs(5)).await;
                    return Err(Error::new(Kind::Interrupted, format!("`{}` was stopped", self.program)));
                }
                count = read(&mut stdout) => take(&mut stdout, count, |line| each(Stream::Stdout, line)),
                count = read(&mut stderr) => take(&mut stderr, count, |line| {
                    tail.push(line);
                    each(Stream::Stderr, line);
                }),
                status = child.wait(), if stdout.is_none() && stderr.is_none() => break status,
            }
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let error = Error::new(self.kind, format!("`{}` failed: {status}", self.program));
                let said = tail.text();
                Err(if said.is_empty() { error } else { error.because(said.trim_end().to_owned()) })
            }
            Err(error) => Err(Error::new(self.kind, format!("cannot wait for `{}`", self.program)).because(error)),
        }
    }
}

/// A child's stream on its way to lines.
struct Output<R> {
    stream: R,
    buffer: Vec<u8>,
    lines: Splitter,
}

impl<R: AsyncRead + Unpin> Output<R> {
    fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; 8192], lines: Splitter::default() }
    }
}

/// Reads what is there; 0 is the end. Pending for ever once the end was seen. Cancel-safe.
async fn read<R: AsyncRead + Unpin>(output: &mut Option<Output<R>>) -> usize {
    match output {
        Some(output) => output.stream.read(&mut output.buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Passes on the lines that `count` bytes complete, or that the end leaves.
fn take<R>(output: &mut Option<Output<R>>, count: usize, mut each: impl FnMut(&str)) {
    if let Some(Output { buffer, lines, .. }) = output {
        if count > 0 {
            lines.push(&buffer[..count], &mut each);
        } else {
            lines.finish(&mut each);
            *output = None;
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
