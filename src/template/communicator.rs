//! How a build gets into its guest: Packer's options of its SSH communicator.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Text;
use super::facts::{by, facts};
use super::fields::Reader;
use super::hardware::path;
use super::scalar::{self, Expected};
use super::yaml::Node;
use crate::error::Problem;

facts! {
    /// How a build gets into its guest.
    Communicator {
        /// The account that provisioners run as.
        ssh_username: String = by(account),
        /// Its password, which answers keyboard-interactive too.
        ssh_password: Text = Reader::text,
        /// Its private key, in OpenSSH's or PEM's form.
        ssh_private_key_file: PathBuf = path,
        /// Keys of the user's agent.
        ssh_agent_auth: bool = by(scalar::boolean),
        /// The port of the guest's SSH server.
        ssh_port: u16 = by(scalar::count),
        /// Give up after so many refused logins.
        ssh_handshake_attempts: u32 = by(number),
        /// A sign of life so often; none of it where it is negative.
        ssh_keep_alive_interval: Interval = by(interval),
        /// Give a connection up on which nothing comes for so long.
        ssh_read_write_timeout: Duration = by(scalar::duration),
        /// Commands have a terminal.
        ssh_pty: bool = by(scalar::boolean),
        /// The agent is never forwarded.
        ssh_disable_agent_forwarding: bool = by(scalar::boolean),
        /// The build's key is always removed.
        ssh_clear_authorized_keys: bool = by(scalar::boolean),
        /// Wait so long once the guest answers, and connect anew.
        pause_before_connecting: Duration = by(scalar::duration),
        /// What powers the guest off.
        shutdown_command: Text = shutdown_command,
    }
}

/// Time between two signs of life; none where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Interval(pub Option<Duration>);

impl Communicator {
    /// The account that provisioners run as.
    pub fn user(&self) -> &str {
        self.ssh_username.as_deref().unwrap_or("root")
    }
}

/// The name of an account or a host, which stands in command lines and messages.
fn account(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.starts_with('-') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Expected { what: "a name", hint: "write it without spaces, not beginning with `-`" });
    }
    Ok(text.to_owned())
}

/// A command that lets services end: what the build takes back at the end goes with them.
fn shutdown_command(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let command = reader.text(node)?;
    if let Some(word) = command.masked().split_whitespace().find(|word| ["-f", "-ff", "--force"].contains(word)) {
        let message = format!("`shutdown_command` has `{word}`, which stops no services");
        let hint = "leave it out: what they write at their end would be lost, and the build's own access would stay";
        reader.problems.add(Problem::at(node.location(), message).hint(hint));
        return None;
    }
    Some(command)
}

/// A whole number; 0 means no limit.
fn number(text: &str) -> Result<u32, Expected> {
    text.trim().parse().map_err(|_| Expected { what: "a whole number", hint: "write it like `10`; `0` means no limit" })
}

fn interval(text: &str) -> Result<Interval, Expected> {
    match text.trim().strip_prefix('-') {
        Some(rest) => scalar::duration(rest).map(|_| Interval(None)),
        None => scalar::duration(text).map(|time| Interval(Some(time).filter(|time| !time.is_zero()))),
    }
}
