//! A way into the guest for programs of the host: a port on loopback, and files for OpenSSH's client.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Address, Credential, Endpoint};
use crate::error::{Context, Error, Kind, Result};
use crate::machine::short_folder;

/// Bytes of the longest working folder in which OpenSSH's sockets still have room: 107 less `/q-XXXXXX/`, ten digits and
/// the seventeen that ssh adds while it makes one.
const LONGEST_WORK: usize = 65;

/// A port of the host that leads to the guest's SSH server, whatever boots the guest and also after it has rebooted.
/// When this value is dropped, the port, all connections through it and the files are gone: clients that stay behind,
/// as OpenSSH's masters of shared connections do, end by that.
#[derive(Debug)]
pub struct WayIn {
    port: u16,
    user: String,
    folder: TempDir,
    _serving: DropGuard,
}

impl WayIn {
    /// Opens a way to the guest at `endpoint`, which has let the build in; its files lie below the working folder `work`.
    ///
    /// # Errors
    /// A file cannot be written, or no port is free (kind host).
    pub async fn open(endpoint: &Endpoint, work: &Path) -> Result<Self> {
        let folder = short_folder(work, LONGEST_WORK)?;
        // What the manifest names opens the guest in any case; the build's own key is not known to every image.
        let given = endpoint.options.credentials.iter().find_map(|credential| match credential {
            Credential::Key(key) => Some(key),
            _ => None,
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context(Kind::Host, || "cannot open a port for the programs of this host")?;
        let port = listener.local_addr().context(Kind::Host, || "a port has no number")?.port();
        let host_key = endpoint.host_key.line().ok_or_else(|| Error::host("the guest's host key is not known"))?;
        let key = given.unwrap_or(&endpoint.key).file()?;
        private(&folder.path().join("key"), key.expose_secret())?;
        private(&folder.path().join("known_hosts"), &format!("[{}]:{port} {host_key}\n", Ipv4Addr::LOCALHOST))?;
        let done = CancellationToken::new();
        tokio::spawn(done.clone().run_until_cancelled_owned(serve(listener, endpoint.address.clone())));
        Ok(Self { port, user: endpoint.user.clone(), folder, _serving: done.drop_guard() })
    }

    /// Where the guest's SSH server is reached.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The account that provisioners run as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A file with the private key that opens it.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// A known_hosts file with the guest's host key.
    pub fn known_hosts_file(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }

    /// A folder for further files and sockets; its path is short enough for those (unix(7)).
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Writes a file that only the user can read.
///
/// # Errors
/// What the operating system says (kind host).
pub(crate) fn private(path: &Path, text: &str) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .context(Kind::Host, || format!("cannot write {}", path.display()))
}

/// Passes connections on until it is dropped, and they with it.
async fn serve(listener: TcpListener, address: Address) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut client, _)) = accepted else {
                    // There is no file descriptor for it: one comes free with another connection.
                    connections.join_next().await;
                    continue;
                };
                let address = address.clone();
                connections.spawn(async move {
                    if let Ok(mut guest) = address.connect().await {
                        let _ = copy_bidirectional(&mut client, &mut guest).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
