//! What a template says about the way into its guest.

use secrecy::SecretString;

use super::Context;
use crate::error::{Error, Result};
use crate::guest::{Credential, Guest, Key, Options, Outcome, POWER_OFF};
use crate::machine::SUDO_RULES;
use crate::plan::Stage;
use crate::shell_word::quote;

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

/// Takes the build's own lines of authorized_keys(5) and its rule for sudo from the account that provisioners run as,
/// and powers the guest off: by `shutdown_command`, as that account, or by visabuild's own.
pub(super) async fn power_off(guest: &mut Guest, stage: &Stage, authorized: &[String]) -> Result<()> {
    let user = stage.machine.communicator.user();
    if user != "root" {
        let mut command = forget(user, authorized);
        if stage.machine.communicator.shutdown_command.is_some() {
            command = format!("{command}\n{}", forget_sudo_at_the_end());
        }
        let outcome = guest.exec(&command, tokio::io::empty(), |_, _| {}).await?;
        if outcome != Outcome::Exit(0) {
            return Err(Error::build(format!("cannot take the build's access from `{user}` in the guest ({outcome})")));
        }
    }
    match &stage.machine.communicator.shutdown_command {
        Some(command) => {
            guest.become_user();
            let hint = "`shutdown_command` is what should do it; without it visabuild powers the guest off itself";
            guest.power_off_by(command.plain()).await.map_err(|error| error.hint(hint))
        }
        None => guest.power_off_by(&format!("{}; {POWER_OFF}", forget_sudo())).await,
    }
}

/// Only the build's own lines go: others are what the image is to have.
fn forget(user: &str, authorized: &[String]) -> String {
    let (user, lines) = (quote(user), quote(&authorized.join("\n")));
    format!(
        r#"set -e; file=$(getent passwd {user} | cut -d: -f6)/.ssh/authorized_keys
        if [ -e "$file" ]; then
            left=$(grep -vF -e {lines} "$file" || true)
            if [ -n "$left" ]; then printf '%s\n' "$left" >"$file"; else rm "$file"; fi
        fi"#
    )
}

/// Takes the build's rule for sudo out of cloud-init's file, which goes with it where it has no other.
fn forget_sudo() -> String {
    format!(
        r#"if [ -e {SUDO_RULES} ]; then sed -i "/#visabuild$/d" {SUDO_RULES}; grep -q "^[^#]" {SUDO_RULES} || rm {SUDO_RULES}; fi"#
    )
}

/// The same when the guest goes down: a command that shuts it down may need the rule.
fn forget_sudo_at_the_end() -> String {
    let (unit, remove) = ("systemd-run --quiet --unit visabuild-forget", forget_sudo());
    // In a unit `$` begins something of systemd's (systemd.service(5), "Command lines").
    let stop = quote(&format!("ExecStop=/bin/sh -c '{}'", remove.replace('$', "$$")));
    let properties = format!("--property Type=oneshot --property RemainAfterExit=yes --property {stop}");
    format!("if [ -d /run/systemd/system ]; then {unit} {properties} true; else {remove}; fi")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::machine::SUDO_RULE;

    #[test]
    fn only_the_builds_own_rule_for_sudo_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules");
        let own = format!("# User rules for debian\ndebian {SUDO_RULE}\n");
        let other = "# User rules for debian\ndebian ALL=(ALL) NOPASSWD:ALL\n";
        for (before, after) in [(own.clone(), None), (format!("{other}\n{own}"), Some("debian ALL=(ALL) NOPASSWD:ALL"))]
        {
            fs::write(&file, before).unwrap();
            let script = forget_sudo().replace(SUDO_RULES, file.to_str().unwrap());
            assert!(Command::new("sh").arg("-ec").arg(script).status().unwrap().success());
            let left = fs::read_to_string(&file).ok();
            let rules =
                left.as_ref().map(|text| text.lines().filter(|line| line.starts_with("debian")).collect::<Vec<_>>());
            assert_eq!(rules, after.map(|rule| vec![rule]));
        }
    }
}
