//! The virtual machine: QEMU's command line as data, its process, and what goes wrong with it.
//!
//! QEMU is driven directly rather than through libvirt: a build needs one throw-away machine that
//! dies with its builder, started by an ordinary user, with a command line that can be shown and
//! tested. libvirt would add a daemon, its own lifetime of machines and its own XML.
//!
//! A machine is described by [`Config`], started by [`Running::start`] and observed through
//! [`Watch`], which says at once why it can no longer go on ([`Ended`]).

pub use config::{Accelerator, Boot, Config, Display, Drive, Firmware, Format};
pub(crate) use console::log_tail;
pub use ended::Ended;
pub(crate) use ended::free;
pub use firmware::{has_uefi, uefi};
pub(crate) use running::{PROGRAM, powered_off};
pub use running::{PowerOff, Running, Start};
pub(crate) use runtime::runtime_folder;
pub use seed::{Seed, build_user_data, write_seed, write_seed_folder, write_volume};
pub use size::{cpus_of_one, how_many, size_to_host};
pub(crate) use stderr::Stderr;
pub use watch::{Reporter, Watch};

mod config;
pub(crate) mod console;
mod ended;
mod firmware;
pub(crate) mod qmp;
mod running;
mod runtime;
mod seed;
mod size;
mod stderr;
mod supervisor;
mod watch;
