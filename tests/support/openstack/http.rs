//! HTTP/1.1 messages as bytes on a connection: heads, and bodies that may be cut anywhere.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most that is read or written at once.
const PIECE: usize = 64 * 1024;

/// Everything of a message before its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request line or the status line.
    pub start: String,
    /// Names as they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A response without headers.
    pub fn response(status: u16) -> Self {
        let code = http::StatusCode::from_u16(status).unwrap();
        let reason = code.canonical_reason().unwrap_or("Unknown");
        Self { start: format!("HTTP/1.1 {status} {reason}"), headers: Vec::new() }
    }

    /// Reads a head; none where the connection ended before it.
    pub async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut start = String::new();
        if reader.read_line(&mut start).await? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Some(Self { start: start.trim_end().to_owned(), headers }))
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Sets a header, in the place of all that have its name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Method and target of a request.
    pub fn request_line(&self) -> (String, String) {
        let mut words = self.start.split(' ').map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The status of a response; 0 where there is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// How the body of a request is framed.
    pub fn request_framing(&self) -> Framing {
        self.framing().unwrap_or(Framing::Length(0))
    }

    /// How the body of the response to a request by `method` is framed.
    pub fn response_framing(&self, method: &str) -> Framing {
        let status = self.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Framing::Length(0);
        }
        self.framing().unwrap_or(Framing::ToEnd)
    }

    fn framing(&self) -> Option<Framing> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        self.header("content-length").and_then(|value| value.parse().ok()).map(Framing::Length)
    }

    pub async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let lines = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let text = format!("{}\r\n{}\r\n", self.start, lines.collect::<String>());
        writer.write_all(text.as_bytes()).await?;
        writer.flush().await
    }
}

/// The first value of a header among `headers`.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    ToEnd,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// What is left of the body, or of the present chunk.
    left: u64,
    ended: bool,
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Self { framing, left, ended: framing == Framing::Length(0) }
    }

    /// The next bytes, at most `most`; none at the body's end.
    pub async fn next(&mut self, reader: &mut (impl AsyncBufRead + Unpin), most: u64) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        if self.framing == Framing::Chunked && self.left == 0 {
            self.left = next_chunk(reader).await?;
            if self.left == 0 {
                self.ended = true;
                return Ok(None);
            }
        }
        let most = if self.framing == Framing::ToEnd { most } else { most.min(self.left) };
        let mut piece = vec![0; PIECE.min(usize::try_from(most).unwrap_or(PIECE))];
        let length = reader.read(&mut piece).await?;
        piece.truncate(length);
        match (self.framing, length) {
            (Framing::ToEnd, 0) => {
                self.ended = true;
                return Ok(None);
            }
            (Framing::ToEnd, _) => {}
            (_, 0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (framing, _) => {
                self.left -= length as u64;
                if self.left == 0 && framing == Framing::Chunked {
                    reader.read_line(&mut String::new()).await?;
                }
                self.ended = self.left == 0 && framing != Framing::Chunked;
            }
        }
        Ok(Some(piece))
    }

    /// All that is left.
    pub async fn rest(&mut self, reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next(reader, u64::MAX).await? {
            all.extend(piece);
        }
        Ok(all)
    }
}

/// Reads the line before a chunk, and after the last one the trailers; returns the chunk's length.
async fn next_chunk(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<u64> {
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    let length = u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    while length == 0 && !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line).await?;
    }
    Ok(length)
}

/// Writes a piece of a body; an empty one is its end.
pub async fn write_piece(writer: &mut (impl AsyncWrite + Unpin), framing: Framing, piece: &[u8]) -> io::Result<()> {
    if framing == Framing::Chunked {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend(piece);
        chunk.extend(b"\r\n");
        writer.write_all(&chunk).await?;
    } else {
        writer.write_all(piece).await?;
    }
    writer.flush().await
}
