//! Whose a connection over loopback is.
//!
//! Answers hold password hashes, and any process of the host reaches loopback. A guest's requests come from its QEMU
//! process, which runs as whoever builds; so connections of other users are refused. Paths stay as in Packer, which a
//! secret in them would not leave.
//!
//! The kernel tells the owner of each TCP socket in `/proc/net/tcp` and `tcp6` (Linux,
//! Documentation/networking/proc_net_tcp.rst); both ends of a connection over loopback are there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::process::geteuid;
use tokio::net::{TcpListener, TcpStream};

use crate::event::Events;

/// Tables with a socket each line; one of IPv6 may be connected to an address of IPv4.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The kernel shows a table in pieces, between which a line may move: one that is missed is looked for again.
const TRIES: usize = 3;

/// A listener that gives out connections of some users only.
#[derive(Debug)]
pub(crate) struct Guarded {
    listener: TcpListener,
    allowed: Vec<u32>,
    events: Events,
    template: String,
    /// What listens, for messages.
    what: &'static str,
    /// What was said already.
    warned: BTreeSet<String>,
}

/// What is known of a connection's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    User(u32),
    /// No socket has this address: its process is gone.
    Nobody,
    /// The tables cannot be read.
    Unknown,
}

impl Guarded {
    /// Gives out the connections of this process's own user and of root, who can read its memory anyway.
    pub(crate) fn new(listener: TcpListener, events: &Events, template: &str) -> Self {
        let allowed = vec![geteuid().as_raw(), 0];
        Self {
            listener,
            allowed,
            events: events.clone(),
            template: template.to_owned(),
            what: "the web server",
            warned: BTreeSet::new(),
        }
    }

    /// Says what listens, for messages.
    pub(crate) fn serving(self, what: &'static str) -> Self {
        Self { what, ..self }
    }

    #[cfg(test)]
    pub(super) fn allowing(self, allowed: &[u32]) -> Self {
        Self { allowed: allowed.to_owned(), ..self }
    }

    fn admits(&mut self, peer: SocketAddr, local: SocketAddr) -> bool {
        match owner(peer, local) {
            Owner::User(user) if self.allowed.contains(&user) => true,
            Owner::User(user) => {
                self.warn(format!("{} refuses connections of another user of this host (uid {user})", self.what));
                false
            }
            Owner::Nobody => false,
            Owner::Unknown => {
                self.warn(format!("{} answers every user of this host: /proc/net/tcp cannot be read", self.what));
                true
            }
        }
    }

    /// Says it, but not again and again.
    fn warn(&mut self, text: String) {
        if self.warned.insert(text.clone()) {
            self.events.warn(Some(&self.template), text);
        }
    }
}

impl axum::serve::Listener for Guarded {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
            if stream.local_addr().is_ok_and(|local| self.admits(peer, local)) {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The owner of the socket at `peer` that is connected to `local`.
fn owner(peer: SocketAddr, local: SocketAddr) -> Owner {
    for _ in 0..TRIES {
        // Without IPv6 there is no second table.
        let tables: Vec<_> = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok()).collect();
        if tables.is_empty() {
            return Owner::Unknown;
        }
        if let Some(user) = tables.iter().find_map(|table| owner_in(table, peer, local)) {
            return Owner::User(user);
        }
    }
    Owner::Nobody
}

/// Finds the line whose second field is the socket's own address and whose third is the other end's; the eighth is the
/// owner.
fn owner_in(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (own, other) = (fields.nth(1)?, fields.next()?);
        (is(own, peer) && is(other, local)).then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// Whether `field` (`0100007F:1F90`) is `address`: words in the byte order of the host, in hexadecimal, and the port.
fn is(field: &str, address: SocketAddr) -> bool {
    let Some((words, port)) = field.split_once(':') else { return false };
    if u16::from_str_radix(port, 16) != Ok(address.port()) || !words.is_ascii() || !words.len().is_multiple_of(8) {
        return false;
    }
    let bytes: Option<Vec<u8>> = (0..words.len() / 8).try_fold(Vec::new(), |mut bytes, word| {
        let word = u32::from_str_radix(&words[word * 8..][..8], 16).ok()?;
        bytes.extend(word.to_ne_bytes());
        Some(bytes)
    });
    let found = bytes.and_then(|bytes| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    });
    found.is_some_and(|found| found.to_canonical() == address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The form in which this host's kernel writes an address.
    fn field(address: &str) -> String {
        let address: SocketAddr = address.parse().unwrap();
        let bytes = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = bytes.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
        let words: String = words.map(|word| format!("{word:08X}")).collect();
        format!("{words}:{:04X}", address.port())
    }

    #[test]
    fn the_owner_is_read_from_the_line_of_the_other_end() {
        let line = |own: &str, other: &str, user: u32| {
            let (own, other) = (field(own), field(other));
            format!("   1: {own} {other} 01 00000000:00000000 02:000A7F98 00000000 {user:>5}        0 81 2 0 20 4 0\n")
        };
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
            .to_owned()
            + &line("127.0.0.1:8000", "127.0.0.1:40000", 1)
            + &line("127.0.0.2:40000", "127.0.0.1:8000", 2)
            + &line("127.0.0.1:40000", "127.0.0.1:8001", 3)
            + &line("127.0.0.1:40000", "127.0.0.1:8000", 1000)
            + &line("[::ffff:127.0.0.1]:40001", "[::ffff:127.0.0.1]:8000", 1001);
        let local = address("127.0.0.1:8000");
        assert_eq!(owner_in(&table, address("127.0.0.1:40000"), local), Some(1000));
        assert_eq!(owner_in(&table, address("127.0.0.2:40000"), local), Some(2));
        assert_eq!(owner_in(&table, address("127.0.0.1:40001"), local), Some(1001));
        assert_eq!(owner_in(&table, address("127.0.0.1:40002"), local), None);
        #[cfg(target_endian = "little")]
        assert!(is("0100007F:1F90", address("127.0.0.1:8080")));
        for bad in ["", ":", "0100007F", "0100007:1F90", "0100007F:", "é100007F:1F90", "0100007F0100007F:1F90"] {
            assert!(!is(bad, address("127.0.0.1:8080")), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_real_connection_is_ours_and_one_that_is_not_there_is_nobodys() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).await.unwrap();
        let (_server, peer) = listener.accept().await.unwrap();
        assert_eq!(client.local_addr().unwrap(), peer);
        assert_eq!(owner(peer, local), Owner::User(geteuid().as_raw()));
        assert_eq!(owner(address("127.0.0.77:1"), local), Owner::Nobody);
    }
}
