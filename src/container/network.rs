//! The guest's way to the network: slirp4netns(1), the same user-mode network as QEMU's, with the
//! same addresses (10.0.2.2 is the host, 10.0.2.3 answers DNS) and DHCP.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::namespaces::NameSpaces;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Events;
use crate::machine::Stderr;
use crate::process;

/// Its name, for messages.
pub(super) const PROGRAM: &str = "slirp4netns";

/// The interface, called as systemd-networkd expects a container's.
pub(super) const INTERFACE: &str = "host0";

/// Bytes of a packet: large ones cost less, and nothing on the way is smaller.
const MTU: &str = "--mtu=65520";

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// A running slirp4netns; dropping it kills it.
#[derive(Debug)]
pub(super) struct Network {
    child: Child,
    stderr: Stderr,
    reader: JoinHandle<()>,
}

impl Network {
    /// Makes the interface in the network name space of `name_spaces`; it serves it wherever it is
    /// moved to.
    ///
    /// # Errors
    /// slirp4netns cannot be run (kind host) or does not come up (kind build; its words are the cause).
    pub(super) async fn start(name_spaces: &NameSpaces, template: &str, events: &Events) -> Result<Self> {
        let fail = || format!("cannot run `{PROGRAM}`");
        let (mut ready, theirs) = process::socket().context(Kind::Host, fail)?;
        let mut command = Command::new(PROGRAM);
        command.args([MTU, "--enable-sandbox", "--enable-seccomp", "--ready-fd=0", "--netns-type=path"]);
        command.arg(name_spaces.network()).arg(INTERFACE);
        // Its standard input is where it says that it is ready: the only descriptor that needs no plumbing.
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = process::spawn(command).await.context(Kind::Host, fail)?;
        let (stderr, mut reader) = Stderr::follow(child.stderr.take(), PROGRAM, events, template);
        let said = tokio::time::timeout(READY, ready.read_u8()).await;
        if matches!(said, Ok(Ok(_))) {
            return Ok(Self { child, stderr, reader });
        }
        let _ = child.kill().await;
        Err(Error::build(format!("`{PROGRAM}` did not come up")).because(stderr.last_words(&mut reader).await))
    }

    /// Waits for its end; cancel-safe.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What it said before it ended.
    pub(super) async fn last_words(&mut self) -> String {
        self.stderr.last_words(&mut self.reader).await
    }

    /// Ends it, and waits until it has.
    pub(super) async fn stop(&mut self) {
        // It is gone already where the container's network is.
        let _ = self.child.kill().await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
