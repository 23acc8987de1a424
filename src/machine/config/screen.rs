//! The screen, and what looks at it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use secrecy::{ExposeSecret, SecretString};

use super::Config;
use super::arguments::{Arguments, Value};

/// Where the screen is shown, beside VNC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Display {
    /// Nowhere.
    Headless,
    /// QEMU's own window.
    Window,
    /// As QEMU's `-display` says it: `sdl`, `gtk,gl=on` …
    Named(String),
    /// Where QEMU shows it by itself.
    Default,
}

/// The VNC server that QEMU has in every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnc {
    /// An address of the loopback interface.
    pub address: IpAddr,
    /// First and last port that may be taken, 5900 at least; QEMU takes the first that is free.
    pub ports: (u16, u16),
    /// What a client must know; it is told to QEMU over its monitor.
    pub password: Option<VncPassword>,
}

impl Default for Vnc {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), ports: (FIRST_PORT, FIRST_PORT + 99), password: None }
    }
}

/// Milliseconds of the guest's time between two key events, which QEMU keeps 10 apart by default: half of the time that
/// typing takes. How many may be on their way is what `boot_command` counts.
const KEY_DELAY: u32 = 2;

/// The port of display 0 (RFC 6143, section 9).
const FIRST_PORT: u16 = 5900;

/// A password for the screen, at most 8 bytes (RFC 6143, section 7.2.2).
#[derive(Clone)]
pub struct VncPassword(SecretString);

impl VncPassword {
    /// `password` as it is.
    pub fn new(password: impl Into<SecretString>) -> Self {
        Self(password.into())
    }

    /// The password.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for VncPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VncPassword")
    }
}

impl PartialEq for VncPassword {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for VncPassword {}

impl Config {
    pub(super) fn screen(&self, arguments: &mut Arguments) {
        match &self.vga {
            Some(vga) => arguments.option("-vga", Value::new(vga)),
            None => arguments.option("-device", Value::new("VGA")),
        }
        if self.usb {
            arguments.option("-device", Value::new("usb-tablet"));
            arguments.option("-device", Value::new("usb-kbd"));
        }
        let address = match self.vnc.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let (first, last) = self.vnc.ports;
        let (first, last) = (first.saturating_sub(FIRST_PORT), last.saturating_sub(FIRST_PORT));
        let password = if self.vnc.password.is_some() { ",password=on" } else { "" };
        let listen = format!("{address}:{first},to={last},key-delay-ms={KEY_DELAY}{password}");
        arguments.option("-vnc", Value::new(&listen));
        match &self.display {
            Display::Headless => arguments.option("-display", Value::new("none")),
            Display::Window => arguments.option("-display", Value::new("gtk")),
            Display::Named(name) => arguments.option("-display", Value::new(name)),
            Display::Default => {}
        }
    }
}
