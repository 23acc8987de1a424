//! A web server with one file, which breaks off, stalls or refuses as a test tells it, and writes all requests down.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Closes the connection after so many bytes of the body.
    BreakAfter(usize),
    /// Sends so many bytes of the body and then nothing.
    StallAfter(usize),
    /// Sends the body in pieces of so many bytes, each after a pause.
    Slowly(usize, Duration),
    /// Sends the body without telling its size.
    Unsized,
    /// Answers with this status line and these headers.
    Status(&'static str, &'static str),
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub line: String,
    pub headers: BTreeMap<String, String>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, File>,
    acts: VecDeque<Act>,
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
struct File {
    body: Arc<Vec<u8>>,
    etag: Option<String>,
    ranges: bool,
}

pub struct BrokenServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl BrokenServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    /// Serves `body` at `path`, with ranges.
    pub fn file(&self, path: &str, body: Vec<u8>, etag: Option<&str>) -> String {
        self.put(path, body, etag, true)
    }

    /// Serves `body` at `path` as a server does that knows no ranges.
    pub fn whole_file(&self, path: &str, body: Vec<u8>) -> String {
        self.put(path, body, None, false)
    }

    fn put(&self, path: &str, body: Vec<u8>, etag: Option<&str>, ranges: bool) -> String {
        let file = File { body: Arc::new(body), etag: etag.map(str::to_owned), ranges };
        self.state.lock().unwrap().files.insert(path.to_owned(), file);
        format!("http://{}{path}", self.address)
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    /// What is done with the next requests, one after the other; all others are served whole.
    pub fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().acts.extend(acts);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(line) = lines.first().cloned() else { return Ok(()) };
    let headers = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let seen = Seen { line, headers };
    let path = seen.line.split(' ').nth(1).unwrap_or_default();
    // As a proxy is asked.
    let path = path.strip_prefix("http://file.example.org").unwrap_or(path).split('?').next().unwrap_or_default();
    let (act, file) = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        (state.acts.pop_front(), state.files.get(path).cloned())
    };
    answer(stream, &seen, act.as_ref(), file)
}

fn answer(mut stream: TcpStream, seen: &Seen, act: Option<&Act>, file: Option<File>) -> std::io::Result<()> {
    if let Some(Act::Status(status, headers)) = act {
        return write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let Some(file) = file else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let etag = file.etag.as_ref().map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
    if file.etag.is_some() && seen.header("if-none-match") == file.etag.as_deref() {
        return write!(stream, "HTTP/1.1 304 Not Modified\r\n{etag}Connection: close\r\n\r\n");
    }
    let start = seen.header("range").filter(|_| file.ranges);
    let start = start.filter(|_| seen.header("if-range").is_none_or(|tag| Some(tag) == file.etag.as_deref()));
    let start = start.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let total = file.body.len();
    let from = start.unwrap_or(0);
    if from >= total && from > 0 {
        return write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let head = match start {
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", total - 1),
        None => "200 OK".to_owned(),
    };
    let body = &file.body[from..];
    if matches!(act, Some(Act::Unsized)) {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        return stream.write_all(body);
    }
    write!(stream, "HTTP/1.1 {head}\r\n{etag}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    send(stream, body, act)
}

/// Sends the body, as far as the act lets it.
fn send(mut stream: TcpStream, body: &[u8], act: Option<&Act>) -> std::io::Result<()> {
    match act {
        Some(Act::BreakAfter(count)) => stream.write_all(&body[..body.len().min(*count)]),
        Some(Act::StallAfter(count)) => {
            stream.write_all(&body[..body.len().min(*count)])?;
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        Some(Act::Slowly(count, pause)) => {
            for piece in body.chunks(*count) {
                stream.write_all(piece)?;
                std::thread::sleep(*pause);
            }
            Ok(())
        }
        _ => stream.write_all(body),
    }
}
