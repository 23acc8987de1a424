//! A page's WebSocket and a machine's VNC server, and what goes between them.

use std::future::pending;
use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::rfb::greet;
use super::seats::Taken;
use super::viewer::Viewer;
use crate::attach::Screen;
use crate::boot_command::Address;
use crate::error::{Context, Error, Kind, Result};

/// A VNC server that does not greet for so long is none.
const GREETING: Duration = Duration::from_secs(10);
/// Bytes of the screen that go to the page at once.
const PIECE: usize = 64 << 10;

/// A connection to a machine's screen on which the client's first word is due.
pub(super) type Machine = Box<dyn Stream>;

/// What carries RFB.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to a machine's screen. Its password stays here.
///
/// # Errors
/// Nobody listens, or wants something else than the password.
pub(super) async fn connect(screen: &Screen) -> Result<Machine> {
    let address = screen.url.parse::<Address>()?;
    let password = screen.password.clone().map(SecretString::from);
    let connected = async {
        let mut stream: Machine = match &address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Keys are small and must not wait for one another.
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        greet(&mut stream, password.as_ref()).await?;
        Ok::<_, io::Error>(stream)
    };
    let failed = || format!("cannot connect to the screen at {address}");
    match timeout(GREETING, connected).await {
        Ok(connected) => connected.context(Kind::Host, failed),
        Err(_) => Err(Error::host(failed()).because(format!("it was silent for {GREETING:?}"))),
    }
}

/// Shows the machine to the page until one of them ends or `stop` fires.
pub(super) async fn show(mut page: WebSocket, mut machine: Machine, mut seat: Taken, stop: CancellationToken) {
    let shown = tokio::select! {
        shown = pass(&mut page, &mut machine, &mut seat) => shown,
        () = stop.cancelled() => Ok(()),
    };
    let (code, reason) = match shown {
        Ok(()) => (close_code::NORMAL, "the machine has ended"),
        Err(why) => (close_code::POLICY, why),
    };
    // The page may be gone, or read nothing: the end must not wait for it.
    let close = page.send(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
    let _ = timeout(Duration::from_secs(1), close).await;
}

/// Passes on what either says; returns why the page is at fault, if it is.
async fn pass(page: &mut WebSocket, machine: &mut Machine, seat: &mut Taken) -> Result<(), &'static str> {
    let (mut viewer, first) = Viewer::new();
    if page.send(Message::Binary(Bytes::from_static(first))).await.is_err() {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE];
    loop {
        let passed = tokio::select! {
            // What must be let go comes before whatever comes next.
            biased;
            may_type = changed(seat) => {
                if may_type { Ok(()) } else { machine.write_all(&viewer.let_go()).await }
            }
            message = page.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let may_type = *seat.typing.borrow();
                    let step = viewer.take(&bytes, may_type).map_err(|_| "this is not what a viewer says")?;
                    answer(page, machine, step.to_page, &step.to_machine).await
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                Some(Ok(Message::Text(_))) => return Err("a viewer speaks no text"),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
            read = machine.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => answer(page, machine, buffer[..count].to_vec(), &[]).await,
            },
        };
        if passed.is_err() {
            return Ok(());
        }
    }
}

/// Waits until that changes: whether the page may type.
async fn changed(seat: &mut Taken) -> bool {
    match seat.typing.changed().await {
        Ok(()) => *seat.typing.borrow_and_update(),
        Err(_) => pending().await,
    }
}

async fn answer(page: &mut WebSocket, machine: &mut Machine, to_page: Vec<u8>, to_machine: &[u8]) -> io::Result<()> {
    if !to_page.is_empty() {
        page.send(Message::Binary(to_page.into())).await.map_err(io::Error::other)?;
    }
    machine.write_all(to_machine).await
}
