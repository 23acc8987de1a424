//! Servers for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// The requests that a server saw, each as it came.
pub type Seen = UnboundedReceiver<String>;

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// An answer with `headers`, a length and `body`.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A server that writes what `respond` makes of each request, then closes the connection.
pub async fn http(respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Seen) {
    site(respond, |socket| async move { drop(socket) }).await
}

/// As [`http`], but a request to upgrade that `respond` has nothing for becomes a WebSocket, which `talk` gets.
pub async fn site<F>(
    respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    talk: impl Fn(WebSocketStream<TcpStream>) -> F + Send + Sync + 'static,
) -> (SocketAddr, Seen)
where
    F: Future<Output = ()> + Send,
{
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let (sender, seen) = unbounded_channel();
    let (respond, talk) = (Arc::new(respond), Arc::new(talk));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (sender, respond, talk) = (sender.clone(), Arc::clone(&respond), Arc::clone(&talk));
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let length = stream.peek(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                if head.to_lowercase().contains("\r\nupgrade: websocket\r\n") && respond(&head).is_empty() {
                    let _ = sender.send(head);
                    return talk(accept_async(stream).await.unwrap()).await;
                }
                let request = request(&mut stream).await;
                let reply = respond(&request);
                let _ = sender.send(request);
                let _ = stream.write_all(&reply).await;
            });
        }
    });
    (address, seen)
}

/// Reads a request with its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.unwrap() > 0 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// An address that refuses as long as its socket, which does not listen, lives.
pub fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A server that resets each connection as soon as something comes.
pub async fn reset() -> SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What was not read when a socket is closed makes a reset of it.
            stream.readable().await.unwrap();
        }
    });
    address
}

/// A server that reads each request and closes the connection.
pub async fn hanging_up() -> SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            request(&mut stream).await;
        }
    });
    address
}

/// A server whose connections are open as long as it lives, and silent.
pub async fn silent() -> TcpListener {
    listener().await
}
