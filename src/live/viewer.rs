//! What a page may say to a machine's screen.
//!
//! A page speaks RFB 3.8 (RFC 6143) with us: it is asked for no password, because the path had the token. Then its
//! messages are read one by one. What asks for pictures is passed on; keys, the pointer and the clipboard only while
//! the page has taken over; anything else ends the connection, because where a message ends is known only of those that
//! are known. So that no others come, extensions that would bring them are taken out of what the page says it
//! understands.

use super::rfb::{NO_SECURITY, VERSION};

/// The longest text that is taken for the guest's clipboard, bytes.
const LONGEST_TEXT: usize = 256 << 10;

/// Messages of a client (section 7.5) and of QEMU's extension for keys.
mod kind {
    pub(super) const SET_PIXEL_FORMAT: u8 = 0;
    pub(super) const SET_ENCODINGS: u8 = 2;
    pub(super) const UPDATE_REQUEST: u8 = 3;
    pub(super) const KEY: u8 = 4;
    pub(super) const POINTER: u8 = 5;
    pub(super) const CUT_TEXT: u8 = 6;
    pub(super) const QEMU: u8 = 255;
    /// Of QEMU's messages, the one with a key.
    pub(super) const QEMU_KEY: u8 = 0;
}

/// Whether an encoding, real or pseudo, may be asked for: pictures, their quality, the size and name of the screen,
/// the pointer's picture, QEMU's keys and lamps. None of them brings messages that are not known here.
fn is_harmless(encoding: i32) -> bool {
    const VMWARE_CURSOR: i32 = 0x574d_5664;
    matches!(encoding, 0..=50 | -32..=-23 | -256..=-247 | -223 | -224 | -239 | -258 | -260 | -261 | -307 | -308 | VMWARE_CURSOR)
}

/// Why a page's connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It speaks another version, or wants another security type.
    Greeting,
    /// A message of an unknown type.
    Message,
    /// A text for the clipboard that is too long.
    Text,
}

/// What is to be sent after something came from the page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// To the machine.
    pub(super) to_machine: Vec<u8>,
    /// To the page.
    pub(super) to_page: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Version,
    Security,
    Init,
    Messages,
}

/// A page that looks at a screen.
#[derive(Debug)]
pub(super) struct Viewer {
    stage: Stage,
    /// Bytes of a message that has not come whole.
    rest: Vec<u8>,
    /// What releases each key that is down, in the order in which they were pressed.
    keys: Vec<Vec<u8>>,
    /// What releases the pointer's buttons, if one is down.
    buttons: Option<Vec<u8>>,
}

impl Viewer {
    /// A page that has just come, and what is said to it first.
    pub(super) fn new() -> (Self, &'static [u8]) {
        (Self { stage: Stage::Version, rest: Vec::new(), keys: Vec::new(), buttons: None }, VERSION)
    }

    /// Takes what came from the page, in pieces of any size. Keys and the pointer are passed on if the message is
    /// complete while the page `may_type`.
    ///
    /// # Errors
    /// The page says what cannot be passed on; the connection must end.
    pub(super) fn take(&mut self, bytes: &[u8], may_type: bool) -> Result<Step, Refused> {
        self.rest.extend_from_slice(bytes);
        let mut step = Step::default();
        let mut from = 0;
        while let Some(length) = self.length(&self.rest[from..])? {
            let message = self.rest[from..from + length].to_vec();
            from += length;
            self.answer(message, may_type, &mut step)?;
        }
        self.rest.drain(..from);
        Ok(step)
    }

    /// What releases all keys and buttons that the page holds down.
    pub(super) fn let_go(&mut self) -> Vec<u8> {
        self.keys.drain(..).rev().chain(self.buttons.take()).flatten().collect()
    }

    /// How long the first message is; nothing if it has not come whole.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        let length = match self.stage {
            Stage::Version => VERSION.len(),
            Stage::Security | Stage::Init => 1,
            Stage::Messages => match message_length(bytes)? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        Ok((length <= bytes.len()).then_some(length))
    }

    fn answer(&mut self, message: Vec<u8>, may_type: bool, step: &mut Step) -> Result<(), Refused> {
        match self.stage {
            Stage::Version if message == VERSION => {
                step.to_page.extend([1, NO_SECURITY]);
                self.stage = Stage::Security;
            }
            Stage::Security if message == [NO_SECURITY] => {
                step.to_page.extend([0; 4]);
                self.stage = Stage::Init;
            }
            Stage::Version | Stage::Security => return Err(Refused::Greeting),
            Stage::Init => {
                // Always shared, whatever it wants: others look too, and the boot command is typed by one of them.
                step.to_machine.push(1);
                self.stage = Stage::Messages;
            }
            Stage::Messages => self.pass(message, may_type, step),
        }
        Ok(())
    }

    fn pass(&mut self, message: Vec<u8>, may_type: bool, step: &mut Step) {
        match message[0] {
            kind::SET_PIXEL_FORMAT | kind::UPDATE_REQUEST => step.to_machine.extend(message),
            kind::SET_ENCODINGS => step.to_machine.extend(harmless(&message)),
            kind::KEY | kind::POINTER | kind::QEMU if may_type => {
                self.remember(&message);
                step.to_machine.extend(message);
            }
            kind::CUT_TEXT if may_type => step.to_machine.extend(message),
            _ => {}
        }
    }

    /// Remembers what must be released when the page types no more.
    fn remember(&mut self, message: &[u8]) {
        let mut release = message.to_vec();
        let down = match message[0] {
            kind::KEY => std::mem::take(&mut release[1]) != 0,
            kind::POINTER => {
                let buttons = std::mem::take(&mut release[1]);
                self.buttons = (buttons != 0).then_some(release);
                return;
            }
            _ => std::mem::take(&mut release[2]) | std::mem::take(&mut release[3]) != 0,
        };
        self.keys.retain(|key| *key != release);
        if down {
            self.keys.push(release);
        }
    }
}

/// How long a client's message is, as soon as that can be known.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let Some(first) = bytes.first() else { return Ok(None) };
    Ok(match *first {
        kind::SET_PIXEL_FORMAT => Some(20),
        kind::SET_ENCODINGS => {
            bytes.get(2..4).map(|count| 4 + 4 * usize::from(u16::from_be_bytes([count[0], count[1]])))
        }
        kind::UPDATE_REQUEST => Some(10),
        kind::KEY => Some(8),
        kind::POINTER => Some(6),
        kind::CUT_TEXT => match bytes.get(4..8) {
            None => None,
            Some(length) => {
                let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
                let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_TEXT);
                Some(8 + length.ok_or(Refused::Text)?)
            }
        },
        kind::QEMU => match bytes.get(1) {
            None => None,
            Some(&kind::QEMU_KEY) => Some(12),
            Some(_) => return Err(Refused::Message),
        },
        _ => return Err(Refused::Message),
    })
}

/// `SetEncodings` with the harmless ones of its encodings.
fn harmless(message: &[u8]) -> Vec<u8> {
    let encodings = message[4..].as_chunks::<4>().0.iter().filter(|bytes| is_harmless(i32::from_be_bytes(**bytes)));
    let encodings: Vec<[u8; 4]> = encodings.copied().collect();
    // Not more than there were, of which a u16 told the number.
    let count = u16::try_from(encodings.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut kept = vec![kind::SET_ENCODINGS, 0, count[0], count[1]];
    kept.extend(encodings.as_flattened());
    kept
}

#[cfg(test)]
mod tests;
