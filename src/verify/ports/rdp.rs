//! What security an RDP server agrees to (MS-RDPBCGR, sections 2.2.1.1 and 2.2.1.2).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exchange;
use crate::error::{Error, Kind, Result};

/// An X.224 connection request (ITU-T X.224, 13.3) in a TPKT (RFC 1006) with an RDP_NEG_REQ that offers TLS.
const REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];

/// A TPKT's header, bytes: version, a reserved byte, length of all.
const TPKT: usize = 4;

/// An X.224 connection confirm without user data, bytes; the first, its length indicator, does not count itself.
const CONFIRM: usize = 7;

/// No connection confirm is longer: its length indicator is a byte.
const LONGEST: usize = TPKT + 256;

/// What a server that was offered TLS agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// RDP_NEG_RSP: the protocol `selectedProtocol` (0 RDP's own security, 1 TLS, 2 CredSSP) with `flags`.
    Selected {
        /// The protocol; 1 is what was offered.
        protocol: u32,
        /// What else the server can do.
        flags: u8,
    },
    /// RDP_NEG_FAILURE: none, with this failure code.
    Failed(u32),
    /// The server knows no negotiation: RDP's own security.
    None,
}

impl Negotiation {
    /// Whether TLS was agreed on.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Selected { protocol: 1, .. })
    }
}

impl fmt::Display for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected { protocol, .. } => match protocol_name(*protocol) {
                Some(name) => f.write_str(name),
                None => write!(f, "protocol {protocol}"),
            },
            Self::Failed(code) => match failure_name(*code) {
                Some(name) => f.write_str(name),
                None => write!(f, "failure {code}"),
            },
            Self::None => f.write_str("no negotiation, RDP's own security"),
        }
    }
}

/// The values of `selectedProtocol` (2.2.1.2.1).
fn protocol_name(protocol: u32) -> Option<&'static str> {
    Some(match protocol {
        0 => "RDP's own security",
        1 => "TLS",
        2 => "CredSSP",
        4 => "RDSTLS",
        8 => "CredSSP with early user authorization",
        16 => "RDS-AAD",
        _ => return None,
    })
}

/// The values of `failureCode` (2.2.1.2.2).
fn failure_name(code: u32) -> Option<&'static str> {
    Some(match code {
        1 => "SSL_REQUIRED_BY_SERVER",
        2 => "SSL_NOT_ALLOWED_BY_SERVER",
        3 => "SSL_CERT_NOT_ON_SERVER",
        4 => "INCONSISTENT_FLAGS",
        5 => "HYBRID_REQUIRED_BY_SERVER",
        6 => "SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER",
        _ => return None,
    })
}

/// Offers TLS to the RDP server at `address` and says what it agrees to; it has `patience` for it.
///
/// # Errors
/// The connection is refused or closed without an answer, there is none in time, or it is no connection
/// confirm (kind verification).
pub async fn rdp_negotiation(address: SocketAddr, patience: Duration) -> Result<Negotiation> {
    let answer = exchange(address, patience, async |stream| {
        stream.write_all(&REQUEST).await?;
        let mut answer = vec![0; TPKT];
        stream.read_exact(&mut answer).await?;
        // What is no TPKT is left to the parser, which says so.
        if answer[0] == REQUEST[0] {
            let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
            let rest = u64::try_from(length.min(LONGEST).saturating_sub(TPKT)).map_err(io::Error::other)?;
            stream.take(rest).read_to_end(&mut answer).await?;
        }
        Ok(answer)
    })
    .await?;
    parse(&answer).ok_or_else(|| {
        Error::new(Kind::Verification, format!("{address} does not speak RDP"))
            .because(format!("it sent {answer:02x?}"))
    })
}

/// The meaning of a whole connection confirm; none: it is not one.
fn parse(answer: &[u8]) -> Option<Negotiation> {
    let (header, x224) = answer.split_at_checked(TPKT)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] != REQUEST[0] || length != answer.len() {
        return None;
    }
    let (fixed, data) = x224.split_at_checked(CONFIRM)?;
    // The low half of the code is credit, 0 in class 0.
    if usize::from(fixed[0]) + 1 != x224.len() || fixed[1] & 0xf0 != 0xd0 {
        return None;
    }
    match *data {
        [] => Some(Negotiation::None),
        [kind, flags, 8, 0, a, b, c, d] => {
            let value = u32::from_le_bytes([a, b, c, d]);
            match kind {
                2 => Some(Negotiation::Selected { protocol: value, flags }),
                3 => Some(Negotiation::Failed(value)),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// The sample of MS-RDPBCGR, section 4.1.2.
    const SAMPLE: [u8; 19] = [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 0, 0, 0, 0];

    fn with(kind: u8, value: u8) -> Vec<u8> {
        let mut answer = SAMPLE.to_vec();
        (answer[11], answer[15]) = (kind, value);
        answer
    }

    #[test]
    fn answers_are_read_as_the_specification_has_them() {
        assert_eq!(parse(&SAMPLE), Some(Negotiation::Selected { protocol: 0, flags: 0 }));
        let tls = parse(&with(2, 1)).unwrap();
        assert!(tls.is_tls() && tls.to_string() == "TLS");
        let failed = parse(&with(3, 2)).unwrap();
        assert_eq!((failed, failed.to_string().as_str()), (Negotiation::Failed(2), "SSL_NOT_ALLOWED_BY_SERVER"));
        assert!(!failed.is_tls());
        assert_eq!(parse(&[3, 0, 0, 11, 6, 0xd0, 0, 0, 0x12, 0x34, 0]), Some(Negotiation::None));
        assert_eq!(Negotiation::Selected { protocol: 32, flags: 0 }.to_string(), "protocol 32");
        for bad in [&SAMPLE[..18], &REQUEST, &with(4, 1), b"SSH-2.0-OpenSSH\r\n", &[]] {
            assert_eq!(parse(bad), None, "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&bytes);
        }
    }

    /// What a server gets that answers with `pieces`, one write each, and what the client makes of them.
    async fn negotiated(pieces: &[&[u8]]) -> (Vec<u8>, Result<Negotiation>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; REQUEST.len()];
            stream.read_exact(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
            request
        };
        tokio::join!(server, rdp_negotiation(address, LONG))
    }

    #[tokio::test]
    async fn a_server_is_offered_tls_and_its_answer_may_come_in_pieces() {
        let (request, negotiation) = negotiated(&[&SAMPLE[..3], &SAMPLE[3..10], &SAMPLE[10..]]).await;
        assert_eq!(request, REQUEST);
        assert_eq!(negotiation.unwrap(), Negotiation::Selected { protocol: 0, flags: 0 });
    }

    #[tokio::test]
    async fn what_is_not_rdp_is_an_error_that_shows_it() {
        let error = negotiated(&[b"SSH-2.0-"]).await.1.unwrap_err();
        assert!(error.to_string().ends_with("does not speak RDP"), "{error}");
        assert_eq!(error.chain()[1], "it sent [53, 53, 48, 2d]");
        let error = negotiated(&[&SAMPLE[..12]]).await.1.unwrap_err();
        assert!(error.to_string().ends_with("does not speak RDP"), "{error}");
        let error = negotiated(&[&SAMPLE[..2]]).await.1.unwrap_err();
        assert_eq!(error.chain()[1], "the connection was closed without a complete answer");
        assert_eq!(error.kind(), Kind::Verification);
    }
}
