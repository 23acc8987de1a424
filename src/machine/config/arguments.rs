//! Options and their values as QEMU's option parser takes them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The command line so far: switches, each with its value.
#[derive(Default)]
pub(super) struct Arguments(pub(super) Vec<(OsString, Option<OsString>)>);

impl Arguments {
    pub(super) fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push((flag.into(), None));
        self
    }

    pub(super) fn option(&mut self, option: &str, value: Value) {
        self.0.push((option.into(), Some(value.0)));
    }

    pub(super) fn into_vec(self) -> Vec<OsString> {
        self.0.into_iter().flat_map(|(switch, value)| std::iter::once(switch).chain(value)).collect()
    }
}

/// The value of one option.
pub(super) struct Value(OsString);

impl Value {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(super) fn verbatim(text: &OsStr) -> Self {
        Self(text.to_owned())
    }

    /// Appends text that is already in QEMU's form.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(text);
        self
    }

    /// Appends a path or name; QEMU's option parser takes a comma as the end of a value unless it is doubled.
    pub(super) fn path(mut self, path: &OsStr) -> Self {
        let mut bytes = Vec::with_capacity(path.len());
        for byte in path.as_bytes() {
            bytes.push(*byte);
            if *byte == b',' {
                bytes.push(b',');
            }
        }
        self.0.push(OsString::from_vec(bytes));
        self
    }
}
