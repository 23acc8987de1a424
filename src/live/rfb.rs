//! The beginning of RFB (RFC 6143, section 7.1 and 7.2) towards a machine, up to where the client's first word is due.

use std::io;

use des::Des;
use des::cipher::{Block, BlockCipherEncrypt, KeyInit};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The protocol's version as it is said, 12 bytes.
pub(super) const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Nothing is asked for.
pub(super) const NO_SECURITY: u8 = 1;
/// A password is asked for.
const VNC_AUTHENTICATION: u8 = 2;
/// The longest reason of a refusal that is read.
const LONGEST_REASON: u32 = 4096;

/// Greets a VNC server and proves that the password is known. What comes next is the client's `ClientInit`.
///
/// # Errors
/// It is no VNC server of version 3.8, wants something else, or another password; or the connection breaks.
pub(super) async fn greet<S>(stream: &mut S, password: Option<&SecretString>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut version = [0; VERSION.len()];
    stream.read_exact(&mut version).await?;
    if &version != VERSION {
        return Err(io::Error::other("it does not speak RFB 3.8"));
    }
    stream.write_all(VERSION).await?;
    let count = stream.read_u8().await?;
    if count == 0 {
        return Err(refused(stream).await);
    }
    let mut types = vec![0; count.into()];
    stream.read_exact(&mut types).await?;
    if types.contains(&NO_SECURITY) {
        stream.write_all(&[NO_SECURITY]).await?;
    } else if let Some(password) = password.filter(|_| types.contains(&VNC_AUTHENTICATION)) {
        stream.write_all(&[VNC_AUTHENTICATION]).await?;
        let mut challenge = [0; 16];
        stream.read_exact(&mut challenge).await?;
        stream.write_all(&response(challenge, password)).await?;
    } else {
        return Err(io::Error::other("it asks for what is not known"));
    }
    match stream.read_u32().await? {
        0 => Ok(()),
        _ => Err(refused(stream).await),
    }
}

/// Why a server refused.
async fn refused(stream: &mut (impl AsyncRead + Unpin)) -> io::Error {
    let read = async {
        let length = stream.read_u32().await?.min(LONGEST_REASON);
        let mut reason = Vec::new();
        stream.take(length.into()).read_to_end(&mut reason).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&reason).into_owned())
    };
    io::Error::other(format!("it refused: {}", read.await.unwrap_or_default()))
}

/// The answer to a challenge (section 7.2.2): DES with the password as key, whose bytes have their bits the other way
/// round.
fn response(challenge: [u8; 16], password: &SecretString) -> [u8; 16] {
    let mut key = [0; 8];
    for (place, byte) in key.iter_mut().zip(password.expose_secret().bytes()) {
        *place = byte.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut answer = challenge;
    for half in answer.as_chunks_mut::<8>().0 {
        let mut block = Block::<Des>::from(*half);
        cipher.encrypt_block(&mut block);
        *half = block.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_answered_as_viewers_answer_it() {
        // DES of zeros under the key 0x0123456789abcdef (FIPS 81's example), whose bits are turned here.
        let password: String =
            [0x01_u8, 0x23, 0x45, 0x67].iter().map(|byte| char::from(byte.reverse_bits() & 0x7f)).collect();
        let long = SecretString::from(format!("{password}abcdefgh"));
        let short = SecretString::from(format!("{password}abcd"));
        let challenge = *b"0123456789abcdef";
        assert_eq!(response(challenge, &long), response(challenge, &short), "eight bytes count");
        assert_ne!(response(challenge, &short), challenge);
        // The two halves are enciphered alone.
        let twice = response(*b"0123456701234567", &short);
        assert_eq!(twice[..8], twice[8..]);
    }

    async fn greeted(said: &[u8], password: Option<&str>) -> (io::Result<()>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(said).await.unwrap();
        let password = password.map(|password| SecretString::from(password.to_owned()));
        let greeting = async move { greet(&mut ours, password.as_ref()).await };
        let read = async move {
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            heard
        };
        tokio::join!(greeting, read)
    }

    #[tokio::test]
    async fn servers_are_greeted_with_a_password_and_without() {
        let (greeting, heard) = greeted(b"RFB 003.008\n\x02\x02\x01\0\0\0\0", None).await;
        greeting.unwrap();
        assert_eq!(heard, b"RFB 003.008\n\x01");
        let (greeting, heard) = greeted(b"RFB 003.008\n\x01\x020123456789abcdef\0\0\0\0", Some("geheim")).await;
        greeting.unwrap();
        assert_eq!((heard.len(), heard[12]), (12 + 1 + 16, 2));
    }

    #[tokio::test]
    async fn refusals_are_told() {
        for (said, password, told) in [
            (&b"SSH-2.0-Open"[..], None, "it does not speak RFB 3.8"),
            (b"RFB 003.008\n\x01\x02", None, "it asks for what is not known"),
            (b"RFB 003.008\n\x01\x10", Some("x"), "it asks for what is not known"),
            (b"RFB 003.008\n\0\0\0\0\x04busy", None, "it refused: busy"),
            (b"RFB 003.008\n\x01\x020123456789abcdef\0\0\0\x01\0\0\0\x05wrong", Some("x"), "it refused: wrong"),
        ] {
            assert_eq!(greeted(said, password).await.0.unwrap_err().to_string(), told);
        }
    }
}
