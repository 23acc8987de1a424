//! Boot commands: what is typed at a machine's keyboard before it has a network (Packer's `boot_command`).
//!
//! A template's list of strings is parsed by [`BootCommand::parse`] before anything runs, and typed by a [`Typist`]
//! over VNC when the machine does. Each string of the list is a group.
//!
//! # The language
//! Packer's, with its rules of case (packer-plugin-sdk, `bootcommand`):
//!
//! | written | done |
//! |---|---|
//! | any character | typed; on a US keyboard, with shift where it needs it |
//! | `<enter>`, `<f1>`, `<pageUp>`, … | a special key ([`Key::names`]), in any case |
//! | `<leftCtrlOn>`, `<leftCtrlOff>` | a special key is held, let go; in any case |
//! | `<aOn>`, `<aOff>` | any one character's key is held, let go |
//! | `<wait>`, `<wait5>`, `<wait1m30s>` | one second, so many seconds, a duration as Go writes it; in this case |
//! | `{{ .HTTPIP }}`, `{{ .Name \| urlquery }}` | a variable's value ([`Variable`]), through Go's `urlquery` |
//!
//! and beyond it
//!
//! | written | done |
//! |---|---|
//! | `<waitForScreen stable 5s>` | waits until nothing but a cursor's blinking has changed for so long |
//! | `<waitForScreen image menu.png [0,0,640,80] 60s>` | until a part of the screen looks like a PNG |
//! | `<waitForScreen text "login:" 60s>` | until a text can be read |
//! | `<less>`, `<braceleft>` | the characters `<` and `{`, where they would begin something else |
//!
//! Where Packer types an unknown `<name>` letter by letter, it is a fault here, with the nearest name. A `<` that
//! cannot begin a key (no `>`, or something else than a name between) is a character, as in Packer.
//! The grammar of the waits for the screen is in `screen_wait.rs`.

pub use command::{BootCommand, Region, SCREEN_TIMEOUT, ScreenWait, Step, Until};
pub use fault::Fault;
pub use key::{Key, KeyEvent, Keyboard};
pub use pace::{PACKER_KEY_INTERVAL, Pace};
pub use pictures::Pictures;
pub use screen::{Change, Screen, Tolerance};
pub use typist::{Typed, Typist, Unfinished};
pub use variable::{Use, Values, Variable, fill};
pub use vnc::{Address, Vnc};

mod ahead;
mod cells;
mod command;
#[cfg(test)]
mod console;
mod duration;
mod eyes;
mod fault;
mod key;
pub mod ocr;
mod pace;
mod parse;
mod pictures;
mod read_back;
mod retype;
mod screen;
mod screen_wait;
mod typist;
mod variable;
mod vnc;
