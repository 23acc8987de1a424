//! The communicator: commands and files over SSH.
//!
//! Files go by `cat` and `tar` in ordinary sessions rather than by SFTP: the messages of the
//! guest's own tools ("No space left on device") say more than SFTP's codes, many small files cost
//! one round trip, and nothing beside a shell is needed in the guest.

pub use address::Address;
pub use connection::{Endpoint, Guest, POWER_OFF};
pub use exec::Outcome;
pub use fault::{Attempts, SshFault};
pub use host_key::HostKey;
pub use key::Key;
pub use login::{Credential, Options};
pub use upload::{Target, file_mode};
pub use way_in::WayIn;
pub(crate) use way_in::private;

mod address;
mod connection;
mod exec;
mod fault;
mod host_key;
mod key;
mod login;
mod root;
mod tar;
mod upload;
mod way_in;
