//! TCP ports of a guest, seen through QEMU's port forwarding.
//!
//! QEMU's user-mode network (libslirp) accepts a connection to a forwarded port itself, before it asks the
//! guest. When the guest refuses, it closes or resets the connection right after; while the guest does not
//! answer at all – it has no network yet, or a firewall drops the packets – the connection stays open and
//! silent. So an open connection alone says little: see [`connect`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Kind, Result};

mod rdp;

pub use rdp::{Negotiation, rdp_negotiation};

/// How much of an answer is read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// Connects to `address`, and holds the connection open for `settle` or until the guest sends something.
///
/// The guest refused when the connection is closed or reset within `settle`, which needs as long as the guest
/// takes to answer a packet: an idle emulated one took up to 11 ms, one under load takes longer. A connection
/// that is still open then, and silent, reached a program that waits for its client to speak, or a guest that
/// does not answer, as one that is still booting. Only an answer tells them apart: to wait until a service is
/// up, use [`ask`] or the like. What the guest sent can still be read from the stream.
///
/// # Errors
/// The connection is refused, or closed within `settle` (kind verification).
pub async fn connect(address: SocketAddr, settle: Duration) -> Result<TcpStream> {
    let deadline = Instant::now() + settle;
    let stream = open(address, deadline).await?;
    match timeout_at(deadline, stream.peek(&mut [0])).await {
        Err(_) => Ok(stream),
        Ok(Ok(0)) => Err(refused(address, "the connection was closed at once")),
        Ok(Ok(_)) => Ok(stream),
        Ok(Err(error)) => Err(refused(address, &error.to_string())),
    }
}

/// Connects to `address` and hangs up, `times` times one after the other, as a platform does that only
/// looks whether a port is open.
///
/// After its end of a connection is closed, the guest has `patience` to close the other, which shows that
/// it has seen the end; one that does not is no error. Neither is one that refuses, which cannot be told
/// from one that hangs up too: ask afterwards whether the service is still there.
///
/// # Errors
/// A connection cannot be made, which says that nothing is forwarded any more (kind verification).
pub async fn connect_and_close(address: SocketAddr, times: usize, patience: Duration) -> Result<()> {
    for _ in 0..times {
        let deadline = Instant::now() + patience;
        let mut stream = open(address, deadline).await?;
        // Any failure from here on is the other end's hanging up.
        let _ = timeout_at(deadline, async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        })
        .await;
    }
    Ok(())
}

/// Sends `bytes` to `address` and returns what comes first, at least one byte and perhaps not all of the
/// answer. Empty `bytes` wait for a greeting.
///
/// # Errors
/// The connection is refused or closed without an answer, or there is none within `patience` (kind verification).
pub async fn ask(address: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    exchange(address, patience, async |stream| {
        stream.write_all(bytes).await?;
        let mut answer = vec![0; CHUNK];
        let length = stream.read(&mut answer).await?;
        answer.truncate(length);
        if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
    })
    .await
}

/// Connects and does `talk`, all of it within `patience`.
async fn exchange<T>(
    address: SocketAddr,
    patience: Duration,
    talk: impl AsyncFnOnce(&mut TcpStream) -> io::Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut stream = open(address, deadline).await?;
    let why = match timeout_at(deadline, talk(&mut stream)).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) if is_close(&error) => "the connection was closed without a complete answer".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no complete answer within {} s", patience.as_secs_f64()),
    };
    Err(Error::new(Kind::Verification, format!("no answer from {address}")).because(why))
}

/// A reset is not told from a close: which of them comes depends on what the other end had read.
fn is_close(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

async fn open(address: SocketAddr, deadline: Instant) -> Result<TcpStream> {
    match timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refused(address, &error.to_string())),
        Err(_) => Err(refused(address, "no connection in time")),
    }
}

fn refused(address: SocketAddr, why: &str) -> Error {
    Error::new(Kind::Verification, format!("{address} takes no connection")).because(why)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::verify::web::fake;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    /// A server that accepts and drops connections, as QEMU does for a guest that refuses; how many yet.
    async fn dropping() -> (SocketAddr, tokio::sync::watch::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, count) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
                sender.send_modify(|count| *count += 1);
            }
        });
        (address, count)
    }

    /// A server that sends `bytes` and waits for its client's end.
    async fn speaking(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(bytes).await.unwrap();
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_silent_port_is_open_and_a_dropping_one_is_not() {
        let silent = fake::silent().await;
        connect(silent.local_addr().unwrap(), SHORT).await.unwrap();
        let (dropping, _count) = dropping().await;
        let error = connect(dropping, LONG).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Verification);
        assert_eq!(
            error.chain(),
            [format!("{dropping} takes no connection"), "the connection was closed at once".into()]
        );
        let (_socket, closed) = fake::closed();
        assert!(connect(closed, LONG).await.unwrap_err().chain()[1].contains("refused"));
    }

    #[tokio::test]
    async fn a_greeting_proves_a_port_and_can_still_be_read() {
        let started = Instant::now();
        let mut stream = connect(speaking(b"hi").await, LONG).await.unwrap();
        assert!(started.elapsed() < LONG);
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hi");
        assert_eq!(ask(speaking(b"hi").await, b"", LONG).await.unwrap(), b"hi");
    }

    #[tokio::test]
    async fn empty_connections_are_as_many_as_asked_for() {
        let (address, mut count) = dropping().await;
        connect_and_close(address, 100, LONG).await.unwrap();
        assert_eq!(*count.wait_for(|count| *count >= 100).await.unwrap(), 100);
        let silent = fake::silent().await;
        connect_and_close(silent.local_addr().unwrap(), 2, Duration::from_millis(50)).await.unwrap();
        let (_socket, closed) = fake::closed();
        assert_eq!(connect_and_close(closed, 1, LONG).await.unwrap_err().kind(), Kind::Verification);
    }

    #[tokio::test]
    async fn no_answer_is_an_error_that_says_why() {
        async fn failure(address: SocketAddr) -> String {
            ask(address, b"6.select,3.rdp;", SHORT).await.unwrap_err().chain()[1].clone()
        }
        let silent = fake::silent().await;
        assert_eq!(failure(silent.local_addr().unwrap()).await, "no complete answer within 0.2 s");
        assert_eq!(failure(fake::reset().await).await, "the connection was closed without a complete answer");
        assert_eq!(failure(dropping().await.0).await, "the connection was closed without a complete answer");
    }
}
