//! How others look into a running build: `visabuild attach`.
//!
//! A build writes down each machine that it boots ([`Recorded`]), in its working folder and for as long as the machine
//! runs. Whoever attaches finds these records through the lock of the folder ([`running`]): what a killed build has left
//! is not among them. Nothing is asked of the build itself, so a build that hangs can be looked at too.

pub use find::{choose, running};
pub use follow::{End, follow};
pub use machines::watch;
pub use record::{Record, Screen, Ssh};
pub use recorded::{Recorded, tell};

mod find;
mod follow;
mod machines;
mod notify;
mod record;
mod recorded;
