//! The virtual machine: QEMU's command line as data, its process, and what goes wrong with it.
//!
//! QEMU is driven directly rather than through libvirt: a build needs one throw-away machine that
//! dies with its builder, started by an ordinary user, with a command line that can be shown and
//! tested. libvirt would add a daemon, its own lifetime of machines and its own XML.
//!
//! A machine is described by [`Config`], started by [`Running::start`] and observed through
//! [`Watch`], which says at once why it can no longer go on ([`Ended`]).

pub use activity::NetworkUse;
pub use config::{
    Accelerator, Boot, Cache, Config, DetectZeroes, Display, Drive, Extra, Firmware, Format, Interface, Smbios,
    Topology, Tpm, Vnc, VncPassword,
};
pub(crate) use console::log_tail;
pub use ended::Ended;
pub use firmware::{Uefi, has_uefi, uefi};
pub use idle::IDLE_TIMEOUT;
pub(crate) use running::{PROGRAM, powered_off};
pub use running::{PowerOff, Running, Start};
pub(crate) use runtime::{runtime_folder, short_folder};
pub use seed::{SUDO_RULE, SUDO_RULES, Seed, build_user_data, write_seed, write_seed_folder, write_volume};
pub use size::{cpus_of_one, how_many, how_many_fit, size_to_host};
pub(crate) use stderr::Stderr;
pub use watch::{Reporter, Watch};

mod activity;
mod config;
pub(crate) mod console;
mod ended;
mod firmware;
mod idle;
pub(crate) mod live_disk;
pub(crate) mod memory;
pub(crate) mod qmp;
mod running;
mod runtime;
pub(crate) mod seed;
mod size;
mod stderr;
mod supervisor;
mod swtpm;
mod watch;
