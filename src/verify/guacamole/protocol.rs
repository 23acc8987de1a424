//! The instruction codec: `LENGTH.VALUE,LENGTH.VALUE,...;`, lengths in Unicode characters.

use std::fmt::Write;

use crate::error::{Context, Error, Kind, Result};

/// The longest instruction taken, bytes. guacd's own are below 9 KiB (`GUAC_INSTRUCTION_MAX_LENGTH`);
/// only the old `png` instruction carries a whole picture in one element.
const MAX_BYTES: usize = 16 << 20;
/// The most elements of one instruction: guacd's longest, `args` of RDP, has about 90.
const MAX_ELEMENTS: usize = 1024;
/// The most digits of a length; with more it is beyond [`MAX_BYTES`] anyway.
const MAX_DIGITS: usize = 8;

/// One instruction as received: its name and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    opcode: String,
    arguments: Vec<String>,
}

impl Instruction {
    /// The instruction's name.
    pub(super) fn opcode(&self) -> &str {
        &self.opcode
    }

    /// What follows the name.
    pub(super) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The argument at `index`, from 0.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn text(&self, index: usize) -> Result<&str> {
        match self.arguments.get(index) {
            Some(argument) => Ok(argument),
            None => Err(self.malformed(format!("argument {} is missing", index + 1))),
        }
    }

    /// The argument at `index` as a number.
    ///
    /// # Errors
    /// There is none, or it is no 32-bit number.
    pub(super) fn number(&self, index: usize) -> Result<i32> {
        let text = self.text(index)?;
        text.parse().map_err(|_| self.malformed(format!("argument {} is `{}`, no number", index + 1, printable(text))))
    }

    /// The first `N` arguments as numbers.
    ///
    /// # Errors
    /// As [`Instruction::number`].
    pub(super) fn numbers<const N: usize>(&self) -> Result<[i32; N]> {
        let mut numbers = [0; N];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = self.number(index)?;
        }
        Ok(numbers)
    }

    /// An error about this instruction.
    pub(super) fn malformed(&self, reason: String) -> Error {
        Error::new(Kind::Verification, format!("guacd sent a malformed `{}`", printable(&self.opcode))).because(reason)
    }
}

/// Appends an instruction to `out`.
pub(super) fn encode(out: &mut Vec<u8>, opcode: &str, arguments: impl IntoIterator<Item = impl AsRef<str>>) {
    element(out, opcode);
    for argument in arguments {
        out.push(b',');
        element(out, argument.as_ref());
    }
    out.push(b';');
}

fn element(out: &mut Vec<u8>, value: &str) {
    let mut length = String::new();
    // Writing to a String cannot fail.
    let _ = write!(length, "{}.", value.chars().count());
    out.extend_from_slice(length.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// `text` as it may stand in a message: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    const MAX: usize = 200;
    let mut out: String = text.chars().filter(|character| !character.is_control()).take(MAX).collect();
    if text.chars().nth(MAX).is_some() {
        out.push_str("...");
    }
    out
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In an element's length.
    Length { digits: usize, value: usize },
    /// In its value, which began at byte `start` and has so many characters left.
    Value { start: usize, left: usize },
}

const NEW: State = State::Length { digits: 0, value: 0 };

/// Takes a stream of bytes apart, wherever it is cut. After an error it gives the same error again.
#[derive(Debug)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    /// Where the current instruction begins in the buffer.
    begin: usize,
    /// Up to where the buffer is understood.
    at: usize,
    state: State,
    elements: Vec<String>,
}

impl Parser {
    /// A parser at the start of a stream.
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), begin: 0, at: 0, state: NEW, elements: Vec::new() }
    }

    /// Takes more of the stream. What it takes stays in memory until [`Parser::next`] has given it out.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.begin);
        self.at -= self.begin;
        if let State::Value { start, .. } = &mut self.state {
            *start -= self.begin;
        }
        self.begin = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole instruction, none if the stream must go on first.
    ///
    /// # Errors
    /// The stream is not the Guacamole protocol, or an instruction is absurdly long.
    pub(super) fn next(&mut self) -> Result<Option<Instruction>> {
        self.parse().context(Kind::Verification, || "what was received is not the Guacamole protocol")
    }

    fn parse(&mut self) -> Result<Option<Instruction>, String> {
        loop {
            if self.at - self.begin > MAX_BYTES {
                return Err(format!("an instruction of more than {MAX_BYTES} bytes"));
            }
            match self.state {
                State::Length { digits, value } => {
                    let Some(&byte) = self.buffer.get(self.at) else { return Ok(None) };
                    self.state = self.length(byte, digits, value)?;
                    self.at += 1;
                }
                State::Value { start, left: 0 } => {
                    let Some(&byte) = self.buffer.get(self.at) else { return Ok(None) };
                    if let Some(instruction) = self.terminator(byte, start)? {
                        return Ok(Some(instruction));
                    }
                }
                State::Value { start, left } => {
                    let Some(&byte) = self.buffer.get(self.at) else { return Ok(None) };
                    let width = width(byte).ok_or("text that is not UTF-8")?;
                    if self.buffer.len() - self.at < width {
                        return Ok(None);
                    }
                    self.at += width;
                    self.state = State::Value { start, left: left - 1 };
                }
            }
        }
    }

    fn length(&self, byte: u8, digits: usize, value: usize) -> Result<State, String> {
        match byte {
            b'0'..=b'9' if digits < MAX_DIGITS => {
                Ok(State::Length { digits: digits + 1, value: value * 10 + usize::from(byte - b'0') })
            }
            b'0'..=b'9' => Err(format!("a length of more than {MAX_DIGITS} digits")),
            b'.' if digits > 0 && value <= MAX_BYTES => Ok(State::Value { start: self.at + 1, left: value }),
            b'.' if digits > 0 => Err(format!("an element of {value} characters")),
            _ => Err(format!("the byte {byte:#04x} where the length of an element should be")),
        }
    }

    /// Takes the byte behind an element, and the element with it.
    fn terminator(&mut self, byte: u8, start: usize) -> Result<Option<Instruction>, String> {
        if byte != b',' && byte != b';' {
            return Err(format!("the byte {byte:#04x} behind an element"));
        }
        if self.elements.len() == MAX_ELEMENTS {
            return Err(format!("an instruction of more than {MAX_ELEMENTS} elements"));
        }
        let value = std::str::from_utf8(&self.buffer[start..self.at]).map_err(|_| "text that is not UTF-8")?;
        self.elements.push(value.to_owned());
        self.at += 1;
        self.state = NEW;
        if byte == b',' {
            return Ok(None);
        }
        self.begin = self.at;
        let mut elements = std::mem::take(&mut self.elements).into_iter();
        Ok(elements.next().map(|opcode| Instruction { opcode, arguments: elements.collect() }))
    }
}

/// How many bytes the character has that begins with `byte` (RFC 3629); none begins with some.
fn width(byte: u8) -> Option<usize> {
    match byte {
        0x00..=0x7f => Some(1),
        0xc2..=0xdf => Some(2),
        0xe0..=0xef => Some(3),
        0xf0..=0xf4 => Some(4),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An instruction for other modules' tests.
    pub(in super::super) fn instruction(opcode: &str, arguments: &[&str]) -> Instruction {
        Instruction { opcode: opcode.to_owned(), arguments: arguments.iter().map(|&text| text.to_owned()).collect() }
    }

    fn all(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<Instruction>> {
        let mut parser = Parser::new();
        let mut found = Vec::new();
        for chunk in chunks {
            parser.push(chunk.as_ref());
            while let Some(instruction) = parser.next()? {
                found.push(instruction);
            }
        }
        Ok(found)
    }

    fn reason(bytes: &[u8]) -> String {
        all([bytes]).unwrap_err().chain().pop().unwrap()
    }

    #[test]
    fn the_manuals_example_is_understood() {
        assert_eq!(all(["4.size,1.0,4.1024,3.768;"]).unwrap(), [instruction("size", &["0", "1024", "768"])]);
        let mut out = Vec::new();
        encode(&mut out, "size", ["0", "1024", "768"]);
        encode(&mut out, "video", [""; 0]);
        assert_eq!(String::from_utf8(out).unwrap(), "4.size,1.0,4.1024,3.768;5.video;");
    }

    #[test]
    fn lengths_count_characters_and_values_may_hold_anything() {
        let text = "6.pass;,,4.a,;b,2.\u{e9}\u{1f600},0.;";
        assert_eq!(all([text]).unwrap(), [instruction("pass;,", &["a,;b", "\u{e9}\u{1f600}", ""])]);
    }

    #[test]
    fn malformed_streams_are_refused() {
        assert_eq!(reason(b"SSH-2.0-x"), "the byte 0x53 where the length of an element should be");
        assert_eq!(reason(b".x;"), "the byte 0x2e where the length of an element should be");
        assert_eq!(reason(b"3.nopx"), "the byte 0x78 behind an element");
        assert_eq!(reason(b"1.\xff;"), "text that is not UTF-8");
        assert_eq!(reason(b"1.\xe0\x80\x80;"), "text that is not UTF-8");
        assert_eq!(reason(b"-1.x;"), "the byte 0x2d where the length of an element should be");
    }

    #[test]
    fn absurd_lengths_are_refused_before_they_are_received() {
        assert_eq!(reason(b"99999999."), "an element of 99999999 characters");
        assert_eq!(reason(b"000000001"), "a length of more than 8 digits");
        assert_eq!(reason("1.a,".repeat(1025).as_bytes()), "an instruction of more than 1024 elements");
        let mut parser = Parser::new();
        parser.push(b"16000000.");
        parser.push(&vec![b'a'; 16_000_000]);
        assert_eq!(parser.next().unwrap(), None);
        parser.push(b",16000000.");
        parser.push(&vec![b'a'; 16_000_000]);
        let error = parser.next().unwrap_err().chain();
        assert_eq!(error.last().unwrap(), "an instruction of more than 16777216 bytes");
        assert_eq!(parser.next().unwrap_err().chain(), error);
    }

    #[test]
    fn arguments_are_checked() {
        let copy = instruction("copy", &["1", "x"]);
        assert_eq!(copy.numbers::<1>().unwrap(), [1]);
        let chain = copy.numbers::<2>().unwrap_err().chain();
        assert_eq!(chain, ["guacd sent a malformed `copy`", "argument 2 is `x`, no number"]);
        assert_eq!(copy.number(2).unwrap_err().chain()[1], "argument 3 is missing");
    }

    #[test]
    fn what_is_shown_is_short_and_plain() {
        assert_eq!(printable("\x1b[31mred\n"), "[31mred");
        assert_eq!(printable(&"a".repeat(300)).len(), 203);
    }

    prop_compose! {
        fn instructions()(list in prop::collection::vec(prop::collection::vec(any::<String>(), 1..6), 0..6)) -> Vec<Instruction> {
            list.into_iter().map(|mut elements| Instruction { opcode: elements.remove(0), arguments: elements }).collect()
        }
    }

    proptest! {
        #[test]
        fn round_trips_however_the_stream_is_cut(list in instructions(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let mut bytes = Vec::new();
            for instruction in &list {
                encode(&mut bytes, instruction.opcode(), instruction.arguments());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(all(cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]])).unwrap(), list.clone());
            prop_assert_eq!(all(bytes.chunks(1)).unwrap(), list);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_cuts_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            same_whole_and_cut(&bytes)?;
        }

        #[test]
        fn nearly_right_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"0123.,;a\xc3\xa9\xf0".to_vec()), 0..200)) {
            same_whole_and_cut(&bytes)?;
        }
    }

    fn same_whole_and_cut(bytes: &[u8]) -> Result<(), TestCaseError> {
        let outcome = |result: Result<Vec<Instruction>>| result.map_err(|error| error.chain());
        prop_assert_eq!(outcome(all([bytes])), outcome(all(bytes.chunks(1))));
        Ok(())
    }
}
