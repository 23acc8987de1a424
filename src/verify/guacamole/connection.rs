//! A session on guacd: handshake, then following what it draws.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::canvas::Canvas;
use super::login::{Login, Screen, version};
use super::protocol::{Instruction, printable};
use super::status::Status;
use super::wire::{Received, Wire};
use crate::error::{Error, Kind, Result};

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a [`Connection::follow`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The canvas shows what was waited for.
    Enough,
    /// It did not within the limit; the session goes on.
    TimedOut,
    /// The session is over.
    Ended(End),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// guacd told an error.
    Error {
        /// Its number.
        status: Status,
        /// Its words.
        message: String,
    },
    /// guacd wants parameters that the login does not have, and waits for them.
    Required(Vec<String>),
    /// guacd ended the session in order: the desktop's server did.
    Disconnected,
    /// The TCP connection closed without a word.
    Closed,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { status, message } => write!(f, "guacd reports {status} (\"{message}\")"),
            Self::Required(names) => write!(f, "guacd asks for {}", names.join(", ")),
            Self::Disconnected => f.write_str("guacd ended the session"),
            Self::Closed => f.write_str("guacd closed the connection"),
        }
    }
}

/// A session on guacd. Dropping it closes the connection; [`Connection::disconnect`] says goodbye first.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    id: String,
    version: Option<String>,
    canvas: Canvas,
    ended: Option<End>,
}

impl Connection {
    /// Opens a new desktop on the guacd at `address`, as VISA does it: up to guacd's `ready`, which comes
    /// before guacd has connected to the desktop's server. `patience` is for all of it together.
    ///
    /// # Errors
    /// guacd is not there, reports an error, says something else than the protocol wants, or is too slow.
    pub async fn open(address: SocketAddr, login: &Login, patience: Duration) -> Result<Self> {
        let deadline = later(patience);
        let wire = Wire::connect(address, deadline).await?;
        let mut handshake = Handshake { wire, address, deadline };
        let answers = |name: &str| login.value(name);
        let (version, id) = handshake.shake("rdp", login.screen, answers).await?;
        Ok(Self::new(handshake.wire, id, version))
    }

    /// Joins the running desktop with the [`Connection::id`] `id`, as VISA does it for everybody but the
    /// first.
    ///
    /// # Errors
    /// As [`Connection::open`]. An id that guacd does not know is an error, or the connection is closed.
    pub async fn join(address: SocketAddr, id: &str, screen: Screen, patience: Duration) -> Result<Self> {
        let deadline = later(patience);
        let wire = Wire::connect(address, deadline).await?;
        let mut handshake = Handshake { wire, address, deadline };
        let (version, id) = handshake.shake(id, screen, |_| "".into()).await?;
        Ok(Self::new(handshake.wire, id, version))
    }

    fn new(mut wire: Wire, id: String, version: Option<String>) -> Self {
        wire.established = true;
        Self { wire, id, version, canvas: Canvas::default(), ended: None }
    }

    /// The session's id; who has it can join.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The protocol version that guacd offers, as it writes it (`VERSION_1_5_0`); none before 1.1.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What was drawn so far.
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// Follows the session until `enough` says so, which is asked at the end of every frame, and at the
    /// start if there was one already. May be called again and goes on where it stopped; between the
    /// calls guacd hears nothing, and gives up after 15 s. May be dropped at any time.
    ///
    /// # Errors
    /// What guacd sends is not the protocol, cannot be drawn, or would take too much memory.
    pub async fn follow(&mut self, limit: Duration, mut enough: impl FnMut(&Canvas) -> bool) -> Result<Followed> {
        let deadline = later(limit);
        if self.canvas.frames() > 0 && enough(&self.canvas) {
            return Ok(Followed::Enough);
        }
        loop {
            if let Some(end) = &self.ended {
                return Ok(Followed::Ended(end.clone()));
            }
            match self.wire.next(deadline).await? {
                Received::TimedOut => return Ok(Followed::TimedOut),
                Received::Closed => self.ended = Some(End::Closed),
                Received::Instruction(instruction) => {
                    self.take(&instruction)?;
                    if instruction.opcode() == "sync" && enough(&self.canvas) {
                        self.wire.write();
                        return Ok(Followed::Enough);
                    }
                }
            }
        }
    }

    fn take(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction.opcode() {
            "nop" => self.wire.send("nop", [""; 0]),
            "sync" => self.wire.send("sync", [instruction.text(0)?]),
            "disconnect" => self.ended = Some(End::Disconnected),
            "error" => self.ended = Some(error(instruction)?),
            "required" => {
                let names = instruction.arguments().iter().map(|name| printable(name)).collect();
                self.ended = Some(End::Required(names));
            }
            _ => {}
        }
        if let Some(ack) = self.canvas.apply(instruction)? {
            self.wire.send("ack", [ack.stream.to_string().as_str(), ack.message, &ack.status.to_string()]);
        }
        Ok(())
    }

    /// Presses or releases a key, named by its X11 keysym. Goes out with the next
    /// [`Connection::follow`].
    pub fn key(&mut self, keysym: u32, pressed: bool) {
        self.wire.send("key", [keysym.to_string().as_str(), if pressed { "1" } else { "0" }]);
    }

    /// Moves the mouse, with the buttons that are held (1 left, 2 middle, 4 right, 8 up, 16 down). Goes
    /// out with the next [`Connection::follow`].
    pub fn mouse(&mut self, x: u32, y: u32, buttons: u32) {
        self.wire.send("mouse", [x, y, buttons].map(|number| number.to_string()));
    }

    /// Leaves the session. guacd ends it when nobody is left.
    pub async fn disconnect(mut self) {
        self.wire.send("disconnect", [""; 0]);
        self.wire.flush(later(FAREWELL)).await;
    }

    /// Changes how often guacd hears from us at least.
    #[cfg(test)]
    pub(super) fn keep_alive(&mut self, every: Duration) {
        self.wire.keep_alive = every;
    }
}

/// What guacd's `error` tells.
fn error(instruction: &Instruction) -> Result<End> {
    Ok(End::Error { status: Status(instruction.number(1)?), message: printable(instruction.text(0)?) })
}

struct Handshake {
    wire: Wire,
    address: SocketAddr,
    deadline: Instant,
}

impl Handshake {
    /// Selects a protocol or a session and answers what guacd asks. Gives its version and the session.
    async fn shake<'a>(
        &mut self,
        select: &str,
        screen: Screen,
        value: impl Fn(&str) -> std::borrow::Cow<'a, str>,
    ) -> Result<(Option<String>, String)> {
        self.wire.send("select", [select]);
        let args = self.expect("args").await?;
        let names = args.arguments();
        let answer = names.first().and_then(|name| version(name));
        let size = [screen.width, screen.height, screen.dpi].map(|number| number.to_string());
        self.wire.send("size", size);
        self.wire.send("audio", [""; 0]);
        self.wire.send("video", [""; 0]);
        self.wire.send("image", ["image/png"]);
        let values = names.iter().enumerate().map(|(index, name)| match (index, &answer) {
            (0, Some(answer)) => answer.clone().into(),
            _ => value(name),
        });
        self.wire.send("connect", values);
        let ready = self.expect("ready").await?;
        let offered = answer.and_then(|_| names.first()).map(|name| printable(name));
        Ok((offered, ready.text(0)?.to_owned()))
    }

    /// The next instruction, which must be `opcode`: VISA's library is as strict.
    async fn expect(&mut self, opcode: &str) -> Result<Instruction> {
        let message = format!("guacd at {} did not send `{opcode}` in the handshake", self.address);
        let received = match self.wire.next(self.deadline).await {
            Ok(received) => received,
            Err(error) => return Err(error.context(message)),
        };
        let reason = match received {
            Received::Instruction(instruction) if instruction.opcode() == opcode => return Ok(instruction),
            Received::Instruction(instruction) if instruction.opcode() == "error" => error(&instruction)?.to_string(),
            Received::Instruction(instruction) => format!("it sent `{}`", printable(instruction.opcode())),
            Received::Closed => "it closed the connection".to_owned(),
            Received::TimedOut => "it said nothing in time".to_owned(),
        };
        Err(Error::new(Kind::Verification, message).because(reason))
    }
}

/// So long from now; a limit beyond what the clock can count is taken for a year.
fn later(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + limit.min(YEAR)
}
