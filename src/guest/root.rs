//! From the account that provisioners run as to root, where they are not the same.

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Credential, Guest, Outcome};
use crate::error::{Error, Result};
use crate::shell_word::quote;

/// How a command becomes root's.
#[derive(Debug, Clone, Default)]
pub(super) enum Elevation {
    /// It stays the account's own.
    #[default]
    None,
    /// sudo(8) asks for nothing.
    Sudo,
    /// sudo(8) reads this password.
    Password(SecretString),
}

impl Elevation {
    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The command for the account's shell.
    pub(super) fn command(&self, command: &str) -> String {
        match self {
            Self::None => command.to_owned(),
            Self::Sudo => format!("sudo -n -H -- /bin/sh -c {}", quote(command)),
            // -k: it asks in any case, so that the password never goes to the command.
            Self::Password(_) => format!("sudo -S -k -H -p '' -- /bin/sh -c {}", quote(command)),
        }
    }

    /// What the command is to read.
    pub(super) fn stdin<R: AsyncRead + Unpin>(&self, stdin: R) -> impl AsyncRead + Unpin + use<R> {
        let line = match self {
            Self::Password(password) => format!("{}\n", password.expose_secret()),
            _ => String::new(),
        };
        std::io::Cursor::new(line.into_bytes()).chain(stdin)
    }
}

impl Guest {
    /// From now on commands are root's, and files too.
    ///
    /// # Errors
    /// The account may not become root, and what [`Guest::exec`] says.
    pub async fn become_root(&mut self) -> Result<()> {
        if self.endpoint().user == "root" || self.elevation.is_some() {
            return Ok(());
        }
        let passwords = self.endpoint().options.credentials.iter().filter_map(|credential| match credential {
            Credential::Password(password) => Some(password.clone()),
            _ => None,
        });
        let passwords: Vec<_> = passwords.map(Elevation::Password).collect();
        let mut said = String::new();
        for way in std::iter::once(Elevation::Sudo).chain(passwords) {
            self.elevation = way;
            // What was allowed a while ago does not count: it would not last.
            let command = if matches!(self.elevation, Elevation::Sudo) { "sudo -k; " } else { "" };
            let command = format!("{command}{}", self.elevation.command("exit 0"));
            let stdin = self.elevation.stdin(tokio::io::empty());
            said.clear();
            let outcome = self.exec_as_it_is(&command, stdin, |_, line| said = line.to_owned()).await?;
            if outcome == Outcome::Exit(0) {
                return Ok(());
            }
        }
        self.elevation = Elevation::None;
        let user = &self.endpoint().user;
        Err(Error::build(format!("the account `{user}` cannot become root in the guest")).because(said).hint(
            "visabuild itself needs root: give the account `NOPASSWD: ALL` in sudoers(5), or its password by \
             `ssh_password`, or leave `ssh_username` out",
        ))
    }

    /// From now on commands are the account's own.
    pub fn become_user(&mut self) {
        self.elevation = Elevation::None;
    }
}
