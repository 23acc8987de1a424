//! What a template says about the way into its guest.

use secrecy::SecretString;

use super::Context;
use crate::error::{Error, Result};
use crate::guest::{Credential, Guest, Key, Options, Outcome, quote};
use crate::plan::Stage;

/// How connections to the guest of `stage` are made and kept.
///
/// # Errors
/// A private key cannot be read, or there is no agent.
pub(super) fn options(context: &Context<'_>, stage: &Stage) -> Result<Options> {
    let wanted = &stage.machine.communicator;
    let mut credentials = Vec::new();
    if let Some(path) = &wanted.ssh_private_key_file {
        credentials.push(Credential::Key(Key::read(path)?));
    }
    if wanted.ssh_agent_auth == Some(true) {
        let agent = context.settings.agent.clone().ok_or_else(|| {
            Error::host("`ssh_agent_auth` is set, but there is no SSH agent")
                .hint("start one and set SSH_AUTH_SOCK, as `eval $(ssh-agent)` does")
        })?;
        credentials.push(Credential::Agent(agent));
    }
    if let Some(password) = &wanted.ssh_password {
        credentials.push(Credential::Password(SecretString::from(password.plain())));
    }
    Ok(Options {
        credentials,
        attempts: wanted.ssh_handshake_attempts.filter(|attempts| *attempts > 0),
        keep_alive: wanted.ssh_keep_alive_interval.map(|interval| interval.0),
        silence: wanted.ssh_read_write_timeout.filter(|silence| !silence.is_zero()),
        pty: wanted.ssh_pty.unwrap_or_default(),
    })
}

/// Takes the build's own lines of authorized_keys(5) from the account that provisioners run as, and powers the guest
/// off: by `shutdown_command`, as that account, or by visabuild's own.
pub(super) async fn power_off(guest: &mut Guest, stage: &Stage, authorized: &[String]) -> Result<()> {
    let user = stage.machine.communicator.user();
    if user != "root" {
        let command = forget(user, authorized);
        let outcome = guest.exec(&command, tokio::io::empty(), |_, _| {}).await?;
        if outcome != Outcome::Exit(0) {
            return Err(Error::build(format!("cannot take the build's key from `{user}` in the guest ({outcome})")));
        }
    }
    match &stage.machine.communicator.shutdown_command {
        Some(command) => {
            guest.become_user();
            let hint = "`shutdown_command` is what should do it; without it visabuild powers the guest off itself";
            guest.power_off_by(command.plain()).await.map_err(|error| error.hint(hint))
        }
        None => guest.power_off().await,
    }
}

/// Only the build's own lines go: others are what the image is to have.
fn forget(user: &str, authorized: &[String]) -> String {
    let (user, lines) = (quote(user), quote(&authorized.join("\n")));
    format!(
        r#"set -e; file=$(getent passwd {user} | cut -d: -f6)/.ssh/authorized_keys; [ -e "$file" ] || exit 0
        left=$(grep -vF -e {lines} "$file" || true)
        if [ -n "$left" ]; then printf '%s\n' "$left" >"$file"; else rm "$file"; fi"#
    )
}
