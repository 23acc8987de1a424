//! The TCP connection to guacd: instructions in, instructions out, and a sign of life now and then.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::protocol::{Instruction, Parser, encode};
use crate::error::{Context, Error, Kind, Result};

/// How often guacd hears from us at least. It gives a client up after 15 s without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How much may wait for guacd to read it, bytes.
const MAX_WAITING: usize = 1 << 20;
/// How much is read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// What comes next.
#[derive(Debug)]
pub(super) enum Received {
    /// An instruction.
    Instruction(Instruction),
    /// guacd closed the connection.
    Closed,
    /// Nothing until the deadline.
    TimedOut,
}

/// The connection. Nothing is lost if a method's future is dropped: what was read and what is still to
/// be written stay here.
pub(super) struct Wire {
    stream: TcpStream,
    parser: Parser,
    chunk: Vec<u8>,
    waiting: Vec<u8>,
    /// Writing failed. What guacd said before is still to be read.
    deaf: bool,
    pub(super) keep_alive: Duration,
    quiet_since: Instant,
    /// The handshake has no room for a `nop`.
    pub(super) established: bool,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens at `address`, or nobody answers in time.
    pub(super) async fn connect(address: SocketAddr, deadline: Instant) -> Result<Self> {
        let failed = || format!("cannot connect to guacd at {address}");
        let stream = timeout_at(deadline, TcpStream::connect(address))
            .await
            .context(Kind::Verification, failed)?
            .context(Kind::Verification, failed)?;
        // Answers are small, and guacd measures how long they take.
        stream.set_nodelay(true).context(Kind::Verification, failed)?;
        Ok(Self {
            stream,
            parser: Parser::new(),
            chunk: vec![0; CHUNK],
            waiting: Vec::new(),
            deaf: false,
            keep_alive: KEEP_ALIVE,
            quiet_since: Instant::now(),
            established: false,
        })
    }

    /// Puts an instruction in the queue; it goes out while [`Wire::next`] waits.
    pub(super) fn send(&mut self, opcode: &str, arguments: impl IntoIterator<Item = impl AsRef<str>>) {
        self.quiet_since = Instant::now();
        if !self.deaf {
            encode(&mut self.waiting, opcode, arguments);
        }
    }

    /// The next instruction.
    ///
    /// # Errors
    /// What comes is not the Guacamole protocol, or guacd reads nothing of what it is sent.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Received> {
        loop {
            if Instant::now() >= deadline {
                return Ok(Received::TimedOut);
            }
            if let Some(instruction) = self.parser.next()? {
                return Ok(Received::Instruction(instruction));
            }
            if self.waiting.len() > MAX_WAITING {
                return Err(Error::new(Kind::Verification, "guacd does not read what it is sent"));
            }
            let mut until = deadline;
            if self.established {
                if self.quiet_since.elapsed() >= self.keep_alive {
                    self.send("nop", [""; 0]);
                }
                until = until.min(self.quiet_since + self.keep_alive);
            }
            if let Ok(Err(Closed)) = timeout_at(until, self.exchange()).await {
                return Ok(Received::Closed);
            }
            // A guacd that always has something to say must not keep others from running.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for one direction to be ready, and moves bytes.
    async fn exchange(&mut self) -> Result<(), Closed> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if self.waiting.is_empty() { Interest::READABLE } else { both };
        let ready = self.stream.ready(interest).await.map_err(|_| Closed)?;
        if ready.is_writable() {
            self.write();
        }
        if !ready.is_readable() {
            return Ok(());
        }
        match self.stream.try_read(&mut self.chunk) {
            Ok(0) => Err(Closed),
            Ok(count) => {
                self.parser.push(&self.chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    /// Writes what can be written without waiting.
    pub(super) fn write(&mut self) {
        while !self.waiting.is_empty() {
            match self.stream.try_write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.deaf = true;
                    self.waiting.clear();
                }
            }
        }
    }

    /// Writes what waits, as long as `deadline` allows.
    pub(super) async fn flush(&mut self, deadline: Instant) {
        while !self.waiting.is_empty() {
            match timeout_at(deadline, self.stream.writable()).await {
                Ok(Ok(())) => self.write(),
                _ => return,
            }
        }
    }
}

/// What waits may hold the password.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.stream.peer_addr().ok()).finish_non_exhaustive()
    }
}

/// guacd closed the connection, orderly or not.
#[derive(Debug)]
struct Closed;
