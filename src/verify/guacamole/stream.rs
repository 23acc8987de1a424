//! Streams that guacd opens: pictures are collected, the rest is taken and dropped, or refused.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::protocol::Instruction;
use crate::error::{Error, Kind, Result};

/// The most streams open at once; guacd has 64 for all clients and 64 for each.
const MAX_STREAMS: usize = 256;
/// The most bytes in all streams that are open, together.
const MAX_BYTES: usize = 64 << 20;
/// What a stream is refused with that nobody wants (`GUAC_PROTOCOL_STATUS_UNSUPPORTED`).
const UNSUPPORTED: i32 = 0x0100;

/// Where a picture goes that comes in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) mode: i32,
    pub(super) layer: i32,
    pub(super) mime: String,
    pub(super) at: [i32; 2],
}

/// What is answered to guacd about a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) stream: i32,
    pub(super) message: &'static str,
    pub(super) status: i32,
}

impl Ack {
    fn ok(stream: i32) -> Self {
        Self { stream, message: "OK", status: 0 }
    }

    fn refused(stream: i32) -> Self {
        Self { stream, message: "unsupported", status: UNSUPPORTED }
    }
}

#[derive(Debug)]
enum Stream {
    Picture { target: Target, data: Vec<u8> },
    Dropped,
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<i32, Stream>,
    bytes: usize,
}

impl Streams {
    /// Takes `img`, `audio` and `clipboard`; refuses the others that open a stream.
    ///
    /// # Errors
    /// Too many are open, or the instruction is malformed.
    pub(super) fn open(&mut self, instruction: &Instruction) -> Result<Option<Ack>> {
        let index = instruction.number(0)?;
        let stream = match instruction.opcode() {
            "img" => {
                let [mode, layer] = [instruction.number(1)?, instruction.number(2)?];
                let at = [instruction.number(4)?, instruction.number(5)?];
                let target = Target { mode, layer, mime: instruction.text(3)?.to_owned(), at };
                Stream::Picture { target, data: Vec::new() }
            }
            "audio" | "clipboard" => Stream::Dropped,
            _ => return Ok(Some(Ack::refused(index))),
        };
        // A picture needs no answer before its data come; who sends the others may wait for one.
        let answer = matches!(stream, Stream::Dropped).then(|| Ack::ok(index));
        self.close(index);
        if self.open.len() == MAX_STREAMS {
            return Err(fault(format!("guacd opens more than {MAX_STREAMS} streams")));
        }
        self.open.insert(index, stream);
        Ok(answer)
    }

    /// Takes a `blob`. One for a stream that is not open is ignored, as Guacamole's own client does.
    ///
    /// # Errors
    /// It is not base64, or too much is open.
    pub(super) fn blob(&mut self, instruction: &Instruction) -> Result<Option<Ack>> {
        let index = instruction.number(0)?;
        let Some(stream) = self.open.get_mut(&index) else { return Ok(None) };
        if let Stream::Picture { data, .. } = stream {
            let bytes = decode(instruction, 1)?;
            self.bytes += bytes.len();
            if self.bytes > MAX_BYTES {
                return Err(fault(format!("guacd sends streams of more than {MAX_BYTES} bytes")));
            }
            data.extend_from_slice(&bytes);
        }
        Ok(Some(Ack::ok(index)))
    }

    /// Takes an `end`; gives the picture if the stream was one.
    ///
    /// # Errors
    /// The instruction is malformed.
    pub(super) fn end(&mut self, instruction: &Instruction) -> Result<Option<(Target, Vec<u8>)>> {
        Ok(self.close(instruction.number(0)?))
    }

    fn close(&mut self, index: i32) -> Option<(Target, Vec<u8>)> {
        match self.open.remove(&index)? {
            Stream::Picture { target, data } => {
                self.bytes -= data.len();
                Some((target, data))
            }
            Stream::Dropped => None,
        }
    }
}

/// The bytes of a base64 argument.
///
/// # Errors
/// There is none, or it is not base64.
pub(super) fn decode(instruction: &Instruction, index: usize) -> Result<Vec<u8>> {
    STANDARD.decode(instruction.text(index)?).map_err(|error| instruction.malformed(error.to_string()))
}

fn fault(message: String) -> Error {
    Error::new(Kind::Verification, message)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::tests::instruction;
    use super::*;

    #[test]
    fn pictures_are_collected_and_acknowledged() {
        let mut streams = Streams::default();
        assert_eq!(streams.open(&instruction("img", &["3", "14", "0", "image/png", "5", "-6"])).unwrap(), None);
        assert_eq!(streams.blob(&instruction("blob", &["3", "aGVs"])).unwrap(), Some(Ack::ok(3)));
        assert_eq!(streams.blob(&instruction("blob", &["3", "bG8="])).unwrap(), Some(Ack::ok(3)));
        assert_eq!(streams.blob(&instruction("blob", &["4", "bG8="])).unwrap(), None);
        let target = Target { mode: 14, layer: 0, mime: "image/png".to_owned(), at: [5, -6] };
        assert_eq!(streams.end(&instruction("end", &["3"])).unwrap(), Some((target, b"hello".to_vec())));
        assert_eq!(streams.end(&instruction("end", &["3"])).unwrap(), None);
        assert_eq!(streams.bytes, 0);
    }

    #[test]
    fn other_streams_are_dropped_or_refused() {
        let mut streams = Streams::default();
        assert_eq!(streams.open(&instruction("clipboard", &["0", "text/plain"])).unwrap(), Some(Ack::ok(0)));
        assert_eq!(streams.blob(&instruction("blob", &["0", "bG8="])).unwrap(), Some(Ack::ok(0)));
        assert_eq!(streams.end(&instruction("end", &["0"])).unwrap(), None);
        assert_eq!(streams.open(&instruction("file", &["1", "x/y", "f"])).unwrap(), Some(Ack::refused(1)));
        assert_eq!(streams.blob(&instruction("blob", &["1", "bG8="])).unwrap(), None);
    }

    #[test]
    fn what_is_too_much_or_broken_is_refused() {
        let mut streams = Streams::default();
        for index in 0..256 {
            streams.open(&instruction("audio", &[&index.to_string(), "x"])).unwrap();
        }
        streams.open(&instruction("audio", &["0", "x"])).unwrap();
        let error = streams.open(&instruction("audio", &["256", "x"])).unwrap_err();
        assert_eq!(error.to_string(), "guacd opens more than 256 streams");
        streams.open(&instruction("img", &["0", "14", "0", "image/png", "0", "0"])).unwrap();
        let error = streams.blob(&instruction("blob", &["0", "%"])).unwrap_err();
        assert_eq!(error.to_string(), "guacd sent a malformed `blob`");
        let much = instruction("blob", &["0", &"AAAA".repeat(4 << 20)]);
        let error = (0..6).find_map(|_| streams.blob(&much).err()).unwrap();
        assert_eq!(error.to_string(), "guacd sends streams of more than 67108864 bytes");
    }
}
