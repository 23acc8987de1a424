//! One connection to a VNC server: key events out, drawings in.
//!
//! vnc-rs has two traps. `recv_event` holds a lock for as long as nothing is drawn, and `input` needs that lock: so
//! one task does both, never at once. And a server draws only when it is asked to: each drawing that comes is
//! answered with the next request, of which [`Vnc::update`] keeps account, so that it may be dropped at any time.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vnc::{ClientKeyEvent, PixelFormat, VncClient, VncConnector, VncEncoding, VncError, VncEvent, X11Event};

use super::command::Region;
use super::key::KeyEvent;
use super::screen::Screen;
use crate::error::{Context, Error, Kind, Result};

/// A server that does not greet, or draw its first picture, for so long is none.
const GREETING: Duration = Duration::from_secs(20);

/// Where a VNC server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    /// `vnc://ADDRESS:PORT`, `ADDRESS:PORT` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("vnc://").unwrap_or(text);
        address.parse().map(Self::Tcp).context(Kind::Usage, || format!("`{text}` is not the address of a VNC server"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "vnc://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the server still has to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Nothing,
    Changes,
    Everything,
}

/// A connected client with the screen as it was drawn last.
pub struct Vnc {
    client: VncClient,
    screen: Screen,
    owed: Owed,
    /// Pixels that were drawn since the screen has its size.
    drawn: u64,
}

impl Vnc {
    /// Connects, shares the server with other viewers, and waits for the first picture.
    ///
    /// # Errors
    /// Nobody listens, it is not a VNC server or wants another password, or `cancel` fires.
    pub async fn connect(
        address: &Address,
        password: Option<&SecretString>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let connected = async {
            let mut vnc = match address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    // Key events are small and must not wait for one another.
                    stream.set_nodelay(true)?;
                    Self::greet(stream, password).await?
                }
                Address::Unix(path) => Self::greet(UnixStream::connect(path).await?, password).await?,
            };
            // The first picture comes in parts.
            while !vnc.is_whole() {
                vnc.next().await?;
            }
            Ok::<_, VncError>(vnc)
        };
        let failed = || format!("cannot connect to the screen at {address}");
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(interrupted()),
            connected = timeout(GREETING, connected) => match connected {
                Ok(connected) => connected.context(Kind::Build, failed),
                Err(_) => Err(Error::build(failed()).because(format!("it was silent for {GREETING:?}"))),
            }
        }
    }

    async fn greet<S>(stream: S, password: Option<&SecretString>) -> Result<Self, VncError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
    {
        let password = password.map(|password| password.expose_secret().to_owned());
        // No Tight: it may carry JPEG. No cursor: it would not be on the screen.
        let client = VncConnector::new(stream)
            .set_auth_method(async move { password.ok_or(VncError::NoPassword) })
            .add_encoding(VncEncoding::Zrle)
            .add_encoding(VncEncoding::Raw)
            .add_encoding(VncEncoding::DesktopSizePseudo)
            .allow_shared(true)
            .set_pixel_format(PixelFormat::rgba())
            .build()?
            .try_start()
            .await?
            .finish()?;
        Ok(Self { client, screen: Screen::default(), owed: Owed::Nothing, drawn: 0 })
    }

    fn is_whole(&self) -> bool {
        let (width, height) = self.screen.size();
        self.drawn > 0 && self.drawn >= u64::from(width) * u64::from(height)
    }

    /// The screen as it was drawn last.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Sends a key event.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn send(&mut self, event: KeyEvent) -> Result<()> {
        let event = X11Event::KeyEvent(ClientKeyEvent { keycode: event.keysym, down: event.down });
        self.client.input(event).await.map_err(gone)
    }

    /// Waits until something is drawn. Nothing is lost when it is dropped before it is ready.
    ///
    /// # Errors
    /// The server is gone, or draws what cannot be.
    pub async fn update(&mut self) -> Result<()> {
        self.next().await.map_err(gone)
    }

    /// Draws what has already come, without waiting.
    ///
    /// # Errors
    /// As [`Vnc::update`].
    pub async fn catch_up(&mut self) -> Result<()> {
        self.drain().await.map_err(gone)
    }

    /// Asks for the whole screen; the answer comes when the server has read all that was sent before.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn request_all(&mut self) -> Result<()> {
        self.owed = Owed::Everything;
        self.ask().await.map_err(gone)
    }

    async fn next(&mut self) -> Result<(), VncError> {
        self.ask().await?;
        let event = self.client.recv_event().await?;
        self.take(event)?;
        self.drain().await
    }

    async fn drain(&mut self) -> Result<(), VncError> {
        while let Some(event) = self.client.poll_event().await? {
            self.take(event)?;
        }
        self.ask().await
    }

    async fn ask(&mut self) -> Result<(), VncError> {
        match self.owed {
            Owed::Nothing => return Ok(()),
            Owed::Changes => self.client.input(X11Event::Refresh).await?,
            Owed::Everything => self.client.input(X11Event::FullRefresh).await?,
        }
        self.owed = Owed::Nothing;
        Ok(())
    }

    fn take(&mut self, event: VncEvent) -> Result<(), VncError> {
        match event {
            VncEvent::SetResolution(size) => {
                self.screen.resize(size.width.into(), size.height.into());
                (self.owed, self.drawn) = (Owed::Everything, 0);
            }
            VncEvent::RawImage(at, data) => {
                let [x, y, width, height] = [at.x, at.y, at.width, at.height].map(u32::from);
                let region = Region { x, y, width, height };
                self.screen.draw(region, &data).map_err(|error| VncError::General(error.to_string()))?;
                self.owed = self.owed.max(Owed::Changes);
                self.drawn += u64::from(width) * u64::from(height);
            }
            VncEvent::Error(message) => return Err(VncError::General(message)),
            // A bell, or text of the guest's clipboard.
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Vnc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vnc").field("screen", &self.screen).finish_non_exhaustive()
    }
}

fn gone(error: VncError) -> Error {
    Error::build("the connection to the machine's screen and keyboard broke").because(error)
}

pub(super) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "typing the boot command was stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["vnc://127.0.0.1:5901", "unix:/run/vnc"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:5900".parse::<Address>().unwrap().to_string(), "vnc://[::1]:5900");
        assert!("localhost".parse::<Address>().is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_says_where() {
        let address = Address::Unix("/no-such-socket".into());
        let error = Vnc::connect(&address, None, &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot connect to the screen at unix:/no-such-socket");
    }

    #[tokio::test]
    async fn a_silent_server_can_be_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vnc");
        let _silent = tokio::net::UnixListener::bind(&path).unwrap();
        let cancel = CancellationToken::new();
        let address = Address::Unix(path);
        let connecting = Vnc::connect(&address, None, &cancel);
        let interrupt = async {
            tokio::task::yield_now().await;
            cancel.cancel();
        };
        let (connected, ()) = tokio::join!(connecting, interrupt);
        assert_eq!(connected.unwrap_err().kind(), Kind::Interrupted);
    }
}
