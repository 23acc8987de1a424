//! Commands of the user's own, which may start anything: none of it outlives the command, nor visabuild.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::{Output, die_with_parent, fork, read, take};
use crate::error::{Error, Kind, Result};
use crate::event::Stream;

/// How long a command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How long the rest of the output may take to be read once the command has ended: what has left the group may hold it.
const DRAIN: Duration = Duration::from_secs(2);

/// Waits for the end of its standard input, which comes when visabuild ends, however it ends; then its group ends. A
/// parent-death signal would reach the command alone, and not what that has started.
const KEEPER: &str = "trap '' TERM INT HUP; read -r _; kill -KILL 0";

/// A process group that ends when this value is dropped, or with visabuild.
struct Group {
    keeper: Child,
    alive: Option<ChildStdin>,
    id: Pid,
}

impl Group {
    async fn new() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = fork(command).await?;
        let id = keeper.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("a process has no number"))?;
        Ok(Self { alive: keeper.stdin.take(), keeper, id })
    }

    /// Kills all that is left of it.
    async fn end(&mut self) {
        self.alive = None;
        let _ = self.keeper.wait().await;
    }
}

/// Runs `command` to its end in a process group of its own, of which nothing is left then; `each` gets its lines as they
/// come. Dropped, it is killed with all that it has started.
///
/// # Errors
/// It cannot be started (kind host), or `cancel` fires.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn run_group(
    mut command: Command,
    cancel: &CancellationToken,
    mut each: impl FnMut(Stream, &str),
) -> Result<ExitStatus> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let fault = |error| Error::host(format!("cannot run `{program}`")).because(error);
    let mut group = Group::new().await.map_err(fault)?;
    command.process_group(group.id.as_raw_nonzero().get()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    let mut child = fork(command).await.map_err(fault)?;
    let mut stdout = child.stdout.take().map(Output::new);
    let mut stderr = child.stderr.take().map(Output::new);
    let mut ended = None;
    let late = tokio::time::sleep(Duration::MAX);
    tokio::pin!(late);
    while ended.is_none() || stdout.is_some() || stderr.is_some() {
        tokio::select! {
            biased;
            () = cancel.cancelled(), if ended.is_none() => {
                let _ = kill_process_group(group.id, Signal::TERM);
                let _ = tokio::time::timeout(GRACE, child.wait()).await;
                group.end().await;
                return Err(Error::new(Kind::Interrupted, format!("`{program}` was stopped")));
            }
            count = read(&mut stdout) => take(&mut stdout, count, |line| each(Stream::Stdout, line)),
            count = read(&mut stderr) => take(&mut stderr, count, |line| each(Stream::Stderr, line)),
            status = child.wait(), if ended.is_none() => {
                group.end().await;
                ended = Some(status);
                late.as_mut().reset(tokio::time::Instant::now() + DRAIN);
            }
            () = &mut late, if ended.is_some() => break,
        }
    }
    match ended {
        Some(Ok(status)) => Ok(status),
        Some(Err(error)) => Err(Error::host(format!("cannot wait for `{program}`")).because(error)),
        None => Err(Error::host(format!("cannot wait for `{program}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str) -> (Option<i32>, Vec<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let status = run_group(command, &CancellationToken::new(), |_, line| lines.push(line.to_owned())).await;
        (status.unwrap().code(), lines)
    }

    /// Waits until a process that was killed is gone; one that nobody has waited for is.
    async fn until_gone(pid: &str) {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while state().rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z')) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn lines_and_the_exit_code_come_through() {
        assert_eq!(run("echo a; echo b >&2; exit 7").await.0, Some(7));
        assert_eq!(run("echo a; printf b").await.1, ["a", "b"]);
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_ends_with_it_and_is_not_waited_for() {
        let (code, lines) = run("sleep 1000 & echo $!").await;
        assert_eq!(code, Some(0));
        until_gone(&lines[0]).await;
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_ends_with_all_that_it_has_started() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 1000'; :"]);
        let cancel = CancellationToken::new();
        let mut sender = Some(sender);
        let running = run_group(command, &cancel, |_, line| {
            if let Some(sender) = sender.take() {
                let _ = sender.send(line.to_owned());
            }
        });
        let pid = tokio::select! {
            result = running => panic!("{result:?}"),
            pid = receiver => pid.unwrap(),
        };
        until_gone(&pid).await;
    }

    #[tokio::test]
    async fn cancelling_is_an_interruption() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000"]);
        assert_eq!(run_group(command, &cancel, |_, _| {}).await.unwrap_err().kind(), Kind::Interrupted);
    }

    #[tokio::test]
    async fn a_missing_program_is_the_hosts_fault() {
        let command = Command::new("/nowhere/program");
        let error = run_group(command, &CancellationToken::new(), |_, _| {}).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Host, "cannot run `/nowhere/program`"));
    }
}
