//! Where a guest's SSH server listens.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

/// How long a connection within a network name space may take: it never leaves the host.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a guest's SSH server listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// A port of the host.
    Host(SocketAddr),
    /// A port in a network name space of its own, on its loopback address; nothing of it is to be
    /// seen on the host.
    NameSpace {
        /// The name space that the guest has now; none while there is none, another after a reboot.
        current: watch::Receiver<Option<Arc<OwnedFd>>>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => address.fmt(f),
            Self::NameSpace { port, .. } => write!(f, "port {port} of the container"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Host(address)
    }
}

impl Address {
    /// Connects once.
    ///
    /// # Errors
    /// What the operating system says; nobody listens, or there is no name space now.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        match self {
            Self::Host(address) => TcpStream::connect(address).await,
            Self::NameSpace { current, port } => {
                let name_space = current.borrow().clone();
                let name_space =
                    name_space.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the container is not up"))?;
                let stream = connect_within(name_space, (Ipv4Addr::LOCALHOST, *port).into()).await?;
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
        }
    }
}

/// Connects from within a network name space. A thread of its own enters it and ends with the
/// connection made: a socket stays in the name space that it was made in (network_namespaces(7)).
async fn connect_within(name_space: Arc<OwnedFd>, address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let (reply, answer) = oneshot::channel();
    std::thread::Builder::new().name("connect".to_owned()).spawn(move || {
        let connected = move_into_link_name_space(name_space.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io::Error::from)
            .and_then(|()| std::net::TcpStream::connect_timeout(&address, CONNECT));
        // Whoever asked may have given up.
        let _ = reply.send(connected);
    })?;
    answer.await.map_err(|_| io::Error::other("the connecting thread ended"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_container_that_is_not_up_is_not_connected() {
        let (_sender, current) = watch::channel(None);
        let address = Address::NameSpace { current, port: 22 };
        assert_eq!(address.connect().await.unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(address.to_string(), "port 22 of the container");
    }

    #[tokio::test]
    async fn a_port_is_reached_through_the_name_space_that_it_is_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours: OwnedFd = std::fs::File::open("/proc/self/ns/net").unwrap().into();
        let (_sender, current) = watch::channel(Some(Arc::new(ours)));
        let address = Address::NameSpace { current, port };
        // Entering a name space, even one's own, is for who may administer it (setns(2)).
        match address.connect().await {
            Ok(stream) => assert_eq!(stream.peer_addr().unwrap().port(), port),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
