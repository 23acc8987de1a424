//! What guacd's status numbers mean.

use std::fmt;

/// A status of the Guacamole protocol (`guac_protocol_status` in libguac's protocol-types.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// What the protocol says about it.
    pub fn meaning(self) -> &'static str {
        match self.0 {
            0x0000 => "success",
            0x0100 => "unsupported",
            0x0200 => "internal error of guacd",
            0x0201 => "guacd is busy",
            0x0202 => "the desktop's server does not answer",
            0x0203 => "the desktop's server failed",
            0x0204 => "not found",
            0x0205 => "already in use",
            0x0206 => "closed",
            0x0207 => "the desktop's server does not exist or cannot be reached",
            0x0208 => "the desktop's server refuses service",
            0x0209 => "the session conflicts with another session",
            0x020A => "the session was ended because nobody used it",
            0x020B => "the session was ended by the desktop's server",
            0x0300 => "bad parameters",
            0x0301 => "not authorized: the login was refused",
            0x0303 => "forbidden",
            0x0308 => "the client was too slow",
            0x030D => "the client sent too much",
            0x030F => "the client sent data of an unexpected type",
            0x031D => "the client uses too many resources",
            _ => "unknown status",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} ({:#06x}): {}", self.0, self.0, self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_with_its_number_and_meaning() {
        assert_eq!(Status(769).to_string(), "status 769 (0x0301): not authorized: the login was refused");
        assert_eq!(Status(519).to_string().split(": ").last(), Some(Status(0x207).meaning()));
        assert_eq!(Status(7).to_string(), "status 7 (0x0007): unknown status");
    }
}
