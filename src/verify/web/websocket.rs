//! WebSocket connections to a guest, with headers as a browser behind a proxy sends them.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::header::{self, HeaderValue};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::http::{BODY_LIMIT, Headers, header_map};
use crate::error::{Context, Error, Kind, Result};

/// What a WebSocket is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    /// A port of this host that is forwarded to the guest.
    pub address: SocketAddr,
    /// The `Host` header: `visa.example.org`.
    pub host: &'a str,
    /// The path, with a query, if there is one.
    pub path: &'a str,
    /// The `Origin` header, which says whose page opens it: `https://visa.example.org`.
    pub origin: Option<&'a str>,
    /// More headers: `Cookie`.
    pub headers: &'a Headers,
}

/// How a server answered a handshake.
#[derive(Debug)]
pub enum Opened {
    /// The connection is open.
    Accepted(Socket),
    /// The server answered something else than 101.
    Refused {
        /// The status code.
        status: u16,
        /// As much of the body as came together with the headers; what is not UTF-8 is replaced.
        body: String,
    },
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    // The stream is large, and a socket is passed about.
    stream: Box<WebSocketStream<TcpStream>>,
    what: String,
}

/// Opens a WebSocket; connection and handshake together may take `patience`.
///
/// # Errors
/// The handshake cannot be sent as it is (kind usage); the connection is refused, reset or closed without an
/// answer, or there is no proper one in time (kind verification). A refused handshake is no error.
pub async fn open(handshake: &Handshake<'_>, patience: Duration) -> Result<Opened> {
    let request = request(handshake)?;
    let what = format!("the WebSocket {}", request.uri());
    let config = WebSocketConfig::default().max_message_size(Some(BODY_LIMIT)).max_frame_size(Some(BODY_LIMIT));
    let opened = timeout(patience, async {
        let stream = TcpStream::connect(handshake.address).await?;
        client_async_with_config(request, stream, Some(config)).await
    })
    .await;
    let why = match opened {
        Ok(Ok((stream, _))) => return Ok(Opened::Accepted(Socket { stream: Box::new(stream), what })),
        Ok(Err(WsError::Http(answer))) => {
            let status = answer.status().as_u16();
            let body = answer.into_body().unwrap_or_default();
            return Ok(Opened::Refused { status, body: String::from_utf8_lossy(&body).into_owned() });
        }
        Ok(Err(error)) => cause(&error),
        Err(_) => late(patience),
    };
    Err(failed(format!("{what} (at {}) cannot be opened", handshake.address), why))
}

fn request(handshake: &Handshake<'_>) -> Result<Request> {
    let bad = || format!("`{}{}` cannot be asked for", handshake.host, handshake.path);
    let mut request =
        Request::get(format!("ws://{}{}", handshake.host, handshake.path)).body(()).context(Kind::Usage, bad)?;
    *request.headers_mut() = header_map(handshake.headers)?;
    let mut insert = |name, value: &str| -> Result<()> {
        request.headers_mut().insert(name, HeaderValue::from_str(value).context(Kind::Usage, bad)?);
        Ok(())
    };
    insert(header::HOST, handshake.host)?;
    insert(header::CONNECTION, "Upgrade")?;
    insert(header::UPGRADE, "websocket")?;
    insert(header::SEC_WEBSOCKET_VERSION, "13")?;
    insert(header::SEC_WEBSOCKET_KEY, &generate_key())?;
    if let Some(origin) = handshake.origin {
        insert(header::ORIGIN, origin)?;
    }
    Ok(request)
}

impl Socket {
    /// Sends a text message within `patience`.
    ///
    /// # Errors
    /// The connection is lost, or the server does not take the message in time (kind verification).
    pub async fn send(&mut self, text: &str, patience: Duration) -> Result<()> {
        let why = match timeout(patience, self.stream.send(Message::text(text))).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => cause(&error),
            Err(_) => late(patience),
        };
        Err(failed(format!("{} takes no message", self.what), why))
    }

    /// The next text message; others are skipped. None: there is none before `deadline`.
    ///
    /// # Errors
    /// The connection is closed or lost (kind verification).
    pub async fn receive(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            let why = match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Ok(Some(text.as_str().to_owned())),
                Ok(Some(Ok(Message::Close(Some(frame))))) => format!("the server closed it: {frame}"),
                Ok(Some(Ok(Message::Close(None)))) => "the server closed it".to_owned(),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => cause(&error),
                Ok(None) => "it is closed".to_owned(),
                Err(_) => return Ok(None),
            };
            return Err(failed(format!("{} was lost", self.what), why));
        }
    }

    /// Closes the connection in order, as far as the server still listens.
    pub async fn close(mut self) {
        // The server's answer is not waited for: nothing depends on it.
        let _ = timeout(Duration::from_secs(1), WebSocketStream::close(&mut self.stream, None)).await;
    }
}

fn failed(message: String, why: String) -> Error {
    Error::new(Kind::Verification, message).because(why)
}

fn late(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs_f64())
}

fn cause(error: &WsError) -> String {
    match error {
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the connection was closed without an answer".to_owned()
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the connection was closed without a close message".to_owned()
        }
        WsError::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::web::fake;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    fn handshake(address: SocketAddr) -> Handshake<'static> {
        Handshake { address, host: "visa.example.org", path: "/ws?a=b", origin: None, headers: &[] }
    }

    async fn accepted(address: SocketAddr) -> Socket {
        match open(&handshake(address), LONG).await.unwrap() {
            Opened::Accepted(socket) => socket,
            refused => panic!("{refused:?}"),
        }
    }

    #[tokio::test]
    async fn the_handshake_carries_host_origin_and_cookie() {
        let (address, mut seen) = fake::site(|_| Vec::new(), |socket| async move { drop(socket) }).await;
        let headers = [("Cookie".to_owned(), "_xsrf=1".to_owned())];
        let asked = Handshake { origin: Some("https://visa.example.org"), headers: &headers, ..handshake(address) };
        assert!(matches!(open(&asked, LONG).await.unwrap(), Opened::Accepted(_)));
        let request = seen.recv().await.unwrap();
        assert!(request.starts_with("GET /ws?a=b HTTP/1.1\r\nHost: visa.example.org\r\n"), "{request}");
        assert!(request.contains("\r\nOrigin: https://visa.example.org\r\n"), "{request}");
        assert!(request.contains("\r\ncookie: _xsrf=1\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let (address, _seen) = fake::http(|_| fake::answer("403 Forbidden", &[], "go away")).await;
        let Opened::Refused { status, body } = open(&handshake(address), LONG).await.unwrap() else { panic!() };
        assert_eq!(status, 403);
        assert!("go away".starts_with(&body), "{body}");
    }

    #[tokio::test]
    async fn messages_go_both_ways_and_only_text_counts() {
        let (address, _seen) = fake::site(
            |_| Vec::new(),
            |mut socket| async move {
                let text = socket.next().await.unwrap().unwrap();
                for message in [Message::binary(vec![1]), Message::Ping(vec![2].into()), text, Message::Close(None)] {
                    socket.send(message).await.unwrap();
                }
                // Until the client goes.
                while let Some(Ok(_)) = socket.next().await {}
            },
        )
        .await;
        let mut socket = accepted(address).await;
        socket.send("hello", LONG).await.unwrap();
        assert_eq!(socket.receive(Instant::now() + LONG).await.unwrap().as_deref(), Some("hello"));
        let error = socket.receive(Instant::now() + LONG).await.unwrap_err();
        assert_eq!(error.chain(), ["the WebSocket ws://visa.example.org/ws?a=b was lost", "the server closed it"]);
        socket.close().await;
    }

    #[tokio::test]
    async fn silence_and_loss_after_the_handshake_differ() {
        let (silent, _seen) =
            fake::site(|_| Vec::new(), |mut socket| async move { while let Some(Ok(_)) = socket.next().await {} })
                .await;
        assert_eq!(accepted(silent).await.receive(Instant::now() + SHORT).await.unwrap(), None);
        let (lost, _seen) = fake::site(|_| Vec::new(), |socket| async move { drop(socket) }).await;
        let error = accepted(lost).await.receive(Instant::now() + LONG).await.unwrap_err();
        assert_eq!(error.chain()[1], "the connection was closed without a close message");
    }

    #[tokio::test]
    async fn no_proper_answer_is_an_error_that_says_why() {
        async fn failure(address: SocketAddr) -> String {
            let error = open(&handshake(address), SHORT).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Verification);
            error.chain()[1].clone()
        }
        let (_socket, refusing) = fake::closed();
        assert!(failure(refusing).await.starts_with("Connection refused"));
        let early = failure(fake::hanging_up().await).await;
        assert_eq!(early, "the connection was closed without an answer");
        let (wrong, _seen) = fake::http(|_| b"SSH-2.0-OpenSSH_10\r\n".to_vec()).await;
        assert!(failure(wrong).await.contains("HTTP"));
        assert_eq!(failure(fake::silent().await.local_addr().unwrap()).await, "no answer within 0.2 s");
    }

    #[tokio::test]
    async fn what_is_no_http_is_not_sent() {
        let asked = Handshake { origin: Some("a\nb"), ..handshake("127.0.0.1:1".parse().unwrap()) };
        assert_eq!(open(&asked, SHORT).await.unwrap_err().kind(), Kind::Usage);
    }
}
