//! Commands in the guest.

use std::fmt;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelWriteHalf, Pty};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::{Guest, SshFault};
use crate::error::{Cause, Context, Error, Kind, Result};
use crate::event::Stream;
use crate::lines::Splitter;

/// How much of standard input is read at once, bytes; two packets.
const CHUNK: usize = 64 * 1024;

/// Extended data of this type is standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// Size of a terminal, as Packer has it.
const COLUMNS: u32 = 80;
const LINES: u32 = 40;

/// Modes of a terminal: it neither repeats what it is told nor changes the ends of lines (RFC 4254, section 8).
const MODES: [(Pty, u32); 2] = [(Pty::ECHO, 0), (Pty::ONLCR, 0)];

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this exit code.
    Exit(u32),
    /// Killed by the signal of this name (`TERM`).
    Signal(String),
    /// Unknown: the connection was lost.
    Disconnected,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "killed by signal {name}"),
            Self::Disconnected => f.write_str("the connection was lost"),
        }
    }
}

impl Guest {
    /// Runs `command` in the account's shell and waits for its end; `on_line` gets every line as it
    /// comes. When the connection is already lost, a new one is made first.
    ///
    /// # Errors
    /// `stdin` cannot be read, the guest refuses the command, the machine ends, the build is
    /// cancelled, or a lost connection cannot be made again.
    pub async fn exec(
        &mut self,
        command: &str,
        stdin: impl AsyncRead + Unpin,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Outcome> {
        let (command, stdin) = (self.elevation.command(command), self.elevation.stdin(stdin));
        self.exec_as_it_is(&command, stdin, on_line).await
    }

    /// As [`Guest::exec`], on a terminal where the build asks for one. The command has no input, and
    /// what it says is one stream.
    ///
    /// # Errors
    /// As [`Guest::exec`].
    pub async fn exec_on_terminal(&mut self, command: &str, on_line: impl FnMut(Stream, &str)) -> Result<Outcome> {
        if self.endpoint().options.pty {
            let channel = self.channel().await?;
            if channel.request_pty(false, "xterm", COLUMNS, LINES, 0, 0, &MODES).await.is_err() {
                return Ok(Outcome::Disconnected);
            }
            // The end of input does not go through a terminal: whoever reads would wait for ever.
            let command = self.elevation.command(&format!("exec </dev/null; {command}"));
            return self.run(channel, &command, tokio::io::empty(), on_line).await;
        }
        self.exec(command, tokio::io::empty(), on_line).await
    }

    /// As [`Guest::exec`], whoever commands are run as.
    pub(super) async fn exec_as_it_is(
        &mut self,
        command: &str,
        stdin: impl AsyncRead + Unpin,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Outcome> {
        let channel = self.channel().await?;
        self.run(channel, command, stdin, on_line).await
    }

    /// As [`Guest::exec`], but never over a new connection.
    pub(super) async fn run_here(
        &self,
        command: &str,
        stdin: impl AsyncRead + Unpin,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Outcome> {
        match self.open().await? {
            Some(channel) => {
                let (command, stdin) = (self.elevation.command(command), self.elevation.stdin(stdin));
                self.run(channel, &command, stdin, on_line).await
            }
            None => Ok(Outcome::Disconnected),
        }
    }

    /// A channel, over a new connection where the old one is lost.
    async fn channel(&mut self) -> Result<Channel<Msg>> {
        let deadline = Instant::now() + self.patience();
        loop {
            if let Some(channel) = self.open().await? {
                return Ok(channel);
            }
            if Instant::now() >= deadline {
                return Err(Error::build("the guest takes connections but loses them at once")
                    .caused_by(Cause::Ssh(SshFault::Closed)));
            }
            self.reason_of_loss().await?;
            self.reconnect().await?;
        }
    }

    /// A channel, or none when the connection is lost.
    async fn open(&self) -> Result<Option<Channel<Msg>>> {
        if self.is_lost() {
            return Ok(None);
        }
        self.unless_ended(async {
            tokio::select! {
                channel = self.session.handle.channel_open_session() => match channel {
                    Ok(channel) => Ok(Some(channel)),
                    Err(error @ russh::Error::ChannelOpenFailure(_)) => {
                        Err(error).context(Kind::Build, || "the guest's sshd refuses a session")
                    }
                    Err(_) => Ok(None),
                },
                () = self.lost() => Ok(None),
            }
        })
        .await
    }

    async fn run(
        &self,
        channel: Channel<Msg>,
        command: &str,
        stdin: impl AsyncRead + Unpin,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Outcome> {
        let outcome = self.unless_ended(follow(channel, command, stdin, on_line, self.lost())).await?;
        if outcome == Outcome::Disconnected {
            self.reason_of_loss().await?;
        }
        Ok(outcome)
    }
}

/// Runs `command` on `channel` to its end.
async fn follow(
    channel: Channel<Msg>,
    command: &str,
    stdin: impl AsyncRead + Unpin,
    on_line: impl FnMut(Stream, &str),
    lost: impl Future<Output = ()>,
) -> Result<Outcome> {
    let (mut reader, writer) = channel.split();
    if writer.exec(true, command).await.is_err() {
        return Ok(Outcome::Disconnected);
    }
    let mut output = Output { stdout: Splitter::default(), stderr: Splitter::default(), on_line };
    let mut outcome = None;
    let feed = feed(&writer, stdin);
    tokio::pin!(feed, lost);
    let mut fed = false;
    loop {
        tokio::select! {
            // What has come is read before the loss of the connection is looked at.
            biased;
            message = reader.wait() => match message {
                Some(ChannelMsg::Data { data }) => output.push(Stream::Stdout, &data),
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => output.push(Stream::Stderr, &data),
                Some(ChannelMsg::ExitStatus { exit_status }) => outcome = Some(Outcome::Exit(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    outcome = Some(Outcome::Signal(format!("{signal_name:?}")));
                }
                Some(ChannelMsg::Failure) => {
                    return Err(Error::build("the guest's sshd refuses to run a command"));
                }
                // The status may come after the end of output: only the end of the channel is the end.
                Some(_) => {}
                None => break,
            },
            result = &mut feed, if !fed => {
                result?;
                fed = true;
            }
            () = &mut lost => break,
        }
    }
    output.finish();
    Ok(outcome.unwrap_or(Outcome::Disconnected))
}

/// Gives `stdin` to the command, then its end.
async fn feed(writer: &ChannelWriteHalf<Msg>, mut stdin: impl AsyncRead + Unpin) -> Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let count = stdin.read_buf(&mut chunk).await.context(Kind::Host, || "reading what the guest is to get")?;
        // A command need not read its input, and a lost connection is told by the reading side.
        if count == 0 {
            let _ = writer.eof().await;
            return Ok(());
        }
        if writer.data_bytes(chunk).await.is_err() {
            return Ok(());
        }
    }
}

struct Output<F> {
    stdout: Splitter,
    stderr: Splitter,
    on_line: F,
}

impl<F: FnMut(Stream, &str)> Output<F> {
    fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        splitter.push(bytes, |line| (self.on_line)(stream, line));
    }

    fn finish(&mut self) {
        self.stdout.finish(|line| (self.on_line)(Stream::Stdout, line));
        self.stderr.finish(|line| (self.on_line)(Stream::Stderr, line));
    }
}
