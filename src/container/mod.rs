//! The native engine: systemd-nspawn boots the disk that QEMU would boot, at the host's full speed.
//!
//! The guest is the same system, booted by its own systemd with its services and its SSH server; only
//! the kernel is the host's. It is kept apart from the host by name spaces: users (its root is
//! nobody outside), mounts, processes, network, host name and control group, and by nspawn's seccomp
//! filter; it has no device of the host, and its own device nodes do not open. Its disk is mounted by
//! us, outside, and shown to it.
//!
//! ```text
//! qcow2 -- qemu-storage-daemon (FUSE) -- loop device -- mount -- systemd-nspawn -- sshd
//!                                     slirp4netns -- interface host0 --'
//! ```
//!
//! Everything lives in name spaces that end with visabuild, whatever ends it: processes, mounts
//! and loop devices. nspawn's own rules are in systemd-nspawn(1) and systemd's CONTAINER_INTERFACE.

pub use config::{Config, first_cpus};
pub use running::Running;
pub use tools::{BIN, REFRESH_BOOT_MENU};

mod config;
mod export;
mod host;
mod kernel_log;
mod namespaces;
mod network;
mod running;
mod storage;
mod supervisor;
mod tools;
