//! Clients of a live page: plain requests, its events, and what a viewer of the screen says.
#![allow(dead_code, clippy::unwrap_used)]

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Where a live page is.
#[derive(Debug, Clone)]
pub struct Page {
    /// `127.0.0.1:PORT`.
    pub host: String,
    pub token: String,
}

impl Page {
    /// Out of the line in which the run says it.
    pub fn of(line: &str) -> Self {
        let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("no address in `{line}`"));
        let (host, token) = url.trim_end_matches('/').split_once('/').unwrap();
        assert!(host.starts_with("127.0.0.1:") && token.len() >= 32, "{line}");
        Self { host: host.to_owned(), token: token.to_owned() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{}/{path}", self.host, self.token)
    }

    fn origin(&self) -> String {
        format!("http://{}", self.host)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        reqwest::get(self.url(path)).await.unwrap()
    }

    /// The status of a POST from a page of the server.
    pub async fn post(&self, path: &str) -> u16 {
        let post = reqwest::Client::new().post(self.url(path)).header("Origin", self.origin());
        post.send().await.unwrap().status().as_u16()
    }

    /// All events after the number `seen`, and those that come.
    pub async fn events(&self, seen: Option<u64>) -> Events {
        let mut get = reqwest::Client::new().get(self.url("events"));
        if let Some(seen) = seen {
            get = get.header("Last-Event-ID", seen);
        }
        let response = get.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, rest: String::new(), last: 0 }
    }

    /// A viewer's connection, from a page of `origin`; the status if it is refused.
    pub async fn socket(&self, path: &str, origin: Option<&str>) -> Result<WebSocketStream<TcpStream>, u16> {
        let stream = TcpStream::connect(&self.host).await.unwrap();
        let mut request = self.url(path).replace("http:", "ws:").into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().unwrap());
        }
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A viewer that has been shown the screen's size.
    pub async fn viewer(&self, machine: &str, name: &str) -> Viewer {
        let socket = self.socket(&format!("screen/{machine}/{name}"), Some(&self.origin())).await.unwrap();
        let mut viewer = Viewer { socket, rest: Vec::new(), size: (0, 0) };
        assert_eq!(viewer.read(12).await, b"RFB 003.008\n");
        viewer.send(b"RFB 003.008\n").await;
        assert_eq!(viewer.read(2).await, [1, 1], "nothing is asked for");
        // Wants the screen for itself, which it does not get.
        viewer.send(&[1]).await;
        assert_eq!(viewer.read(4).await, [0; 4]);
        viewer.send(&[0]).await;
        let init = viewer.read(24).await;
        viewer.size = (u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]]));
        let name = u32::from_be_bytes([init[20], init[21], init[22], init[23]]);
        viewer.read(name as usize).await;
        viewer
    }
}

/// Events as they come.
pub struct Events {
    response: reqwest::Response,
    rest: String,
    /// The number of the last one.
    pub last: u64,
}

impl Events {
    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let (number, data) = (field("id").map(|id| id.parse().unwrap()), field("data").map(str::to_owned));
                self.rest = rest.to_owned();
                if let Some(number) = number {
                    assert!(number > self.last, "{number} after {}", self.last);
                    self.last = number;
                }
                match data {
                    Some(data) => return Some(serde_json::from_str(&data).unwrap()),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// All up to the first event of which `is` is so.
    pub async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the end came first: {seen:#?}"));
            let found = is(&event);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    /// Waits for a line of the serial console; returns all lines of it on the way.
    pub async fn serial(&mut self, line: &str) -> Vec<String> {
        let seen = self.until(|event| event["event"] == "serial" && event["line"] == line).await;
        let line = |event: &Value| (event["event"] == "serial").then(|| event["line"].as_str().unwrap().to_owned());
        seen.iter().filter_map(line).collect()
    }
}

/// Someone who looks at a screen.
pub struct Viewer {
    pub socket: WebSocketStream<TcpStream>,
    rest: Vec<u8>,
    pub size: (u16, u16),
}

impl Viewer {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    /// The next bytes that the server says.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.rest.len() < count {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => self.rest.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        self.rest.drain(..count).collect()
    }

    /// Presses and releases a key (RFC 6143, section 7.5.4).
    pub async fn key(&mut self, key: u8) {
        for down in [1, 0] {
            self.send(&[4, down, 0, 0, 0, 0, 0, key]).await;
        }
    }

    /// Asks for the screen's first pixel, and waits for it: what was said before has been read then. Returns red, green
    /// and blue as they are sent unasked (Raw, 32 bits).
    pub async fn pixel(&mut self) -> [u8; 3] {
        self.send(&[3, 0, 0, 0, 0, 0, 0, 1, 0, 1]).await;
        let head = self.read(4).await;
        assert_eq!(head[0], 0, "an update of the screen");
        let mut first = Vec::new();
        for _ in 0..u16::from_be_bytes([head[2], head[3]]) {
            let rectangle = self.read(12).await;
            assert_eq!(rectangle[8..], [0; 4], "raw");
            let [width, height] = [4, 6].map(|at| usize::from(rectangle[at]) << 8 | usize::from(rectangle[at + 1]));
            let pixels = self.read(width * height * 4).await;
            // It may send more than it was asked for.
            if rectangle[..4] == [0; 4] {
                first = pixels;
            }
        }
        [first[2], first[1], first[0]]
    }

    /// Reads to the end of the connection; returns the code that it closed with.
    pub async fn closed(mut self) -> Option<u16> {
        while let Some(message) = self.socket.next().await {
            if let Ok(Message::Close(frame)) = message {
                return frame.map(|frame| frame.code.into());
            }
        }
        None
    }
}
