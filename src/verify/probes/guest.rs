//! Probes that are commands in the guest.

use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::ExposeSecret;
use serde_json::json;

use super::expect::{shown, unmet};
use super::{Bench, Probed, failed, not_run};
use crate::error::Result;
use crate::shell_word::quote;
use crate::verify::contract::{Expect, Login, PamResult, Presence, What, variables};

/// Longest a command may take, seconds.
const LIMIT: u32 = 180;

/// A login by PAM; see the script.
const PAM_LOGIN: &str = include_str!("pam-login.py");

/// UDP ports of DHCP clients (RFC 2131, RFC 8415).
const DHCP: [u16; 2] = [68, 546];

impl Bench<'_, '_> {
    /// Runs a command as root; the inner result says why that could not be.
    pub(super) async fn in_guest(&mut self, command: &str, stdin: &[u8]) -> Result<Result<(u32, String), String>> {
        let Some(instance) = self.instance.as_deref_mut() else { return Ok(Err("no instance".to_owned())) };
        match instance.run(command, stdin).await {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(error) if self.ends_all(&error) => Err(error),
            Err(error) => Ok(Err(error.chain().join(": "))),
        }
    }

    pub(super) async fn command(&mut self, run: &str, user: Option<&str>, status: u32, output: &Expect) -> Probed {
        let text = variables::fill(run, self.values(), quote);
        let user = user.map(|user| self.fill(user));
        let program = match &user {
            Some(user) => format!(
                "runuser -u {} -- env HOME=\"$(getent passwd {0} | cut -d : -f 6)\" timeout {LIMIT} bash -c",
                quote(user)
            ),
            None => format!("timeout {LIMIT} bash -c"),
        };
        let what =
            format!("command `{}`{}", one_line(&text), user.map(|user| format!(" as {user}")).unwrap_or_default());
        let (code, said) = match self.in_guest(&format!("cd / && {program} {}", quote(&text)), b"").await? {
            Ok(outcome) => outcome,
            Err(why) => return not_run(why),
        };
        if code == 124 && status != 124 {
            return failed(
                what,
                format!("an end within {LIMIT} s"),
                format!("it was still running; it said: {}", shown(&said)),
            );
        }
        // A pipeline's text may be right where its code is not.
        if code != status {
            return failed(what, format!("exit code {status}"), format!("exit code {code}: {}", shown(&said)));
        }
        self.judge(what, output, &said)
    }

    pub(super) async fn unit(&mut self, name: &str, active: Option<bool>, enabled: Option<bool>) -> Probed {
        let name = self.fill(name);
        let command = format!(
            "systemctl show -p LoadState -p ActiveState -p UnitFileState -p SubState -p Result {}",
            quote(&name)
        );
        let said = match self.in_guest(&command, b"").await? {
            Ok((_, said)) => said,
            Err(why) => return not_run(why),
        };
        let property =
            |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
        let is_active = property("ActiveState") == "active";
        let is_enabled = property("UnitFileState") == "enabled";
        let seen = format!(
            "{} ({}), {}, {}",
            property("ActiveState"),
            property("SubState"),
            Some(property("UnitFileState")).filter(|state| !state.is_empty()).unwrap_or("not installed"),
            property("Result")
        );
        for (wanted, is, word) in [(active, is_active, "active"), (enabled, is_enabled, "enabled")] {
            if wanted.is_some_and(|wanted| wanted != is) {
                let not = if is { "not " } else { "" };
                return failed(format!("unit {name}"), format!("{not}{word}"), seen);
            }
        }
        Ok(Ok(()))
    }

    pub(super) async fn listening(&mut self, ports: &[u16], only: bool) -> Probed {
        let said = match self.in_guest("ss -H -ltunp", b"").await? {
            Ok((0, said)) => said,
            Ok((code, said)) => return not_run(format!("`ss` ended with exit code {code}: {}", shown(&said))),
            Err(why) => return not_run(why),
        };
        let sockets: Vec<Socket> = said.lines().filter_map(Socket::parse).collect();
        if sockets.is_empty() {
            return not_run(format!("`ss` tells of no socket: {}", shown(&said)));
        }
        let what = "listening sockets".to_owned();
        if only {
            let odd = sockets.iter().filter(|socket| !socket.is_loopback && !ports.contains(&socket.port));
            let odd: Vec<_> =
                odd.filter(|socket| !socket.udp || !DHCP.contains(&socket.port)).map(|socket| socket.line).collect();
            if !odd.is_empty() {
                return failed(what, format!("nothing but {ports:?}"), odd.join("\n"));
            }
            return Ok(Ok(()));
        }
        let missing: Vec<_> = ports
            .iter()
            .filter(|port| !sockets.iter().any(|socket| socket.is_any && !socket.udp && socket.port == **port))
            .collect();
        if missing.is_empty() {
            return Ok(Ok(()));
        }
        failed(what, format!("{missing:?} on all addresses"), shown(&said))
    }

    pub(super) fn serial(&mut self, expect: &Expect) -> Probed {
        let Some(instance) = self.instance.as_deref() else { return not_run("no instance") };
        let text = instance.serial();
        match unmet(expect, &text, self.values()) {
            None => Ok(Ok(())),
            Some(expected) => {
                let tail: Vec<_> = text.lines().rev().take(15).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                failed("serial console".to_owned(), expected, shown(&tail.join("\n")))
            }
        }
    }

    pub(super) async fn pam(&mut self, service: &str, login: &Login, result: PamResult) -> Probed {
        let user = self.fill(&login.user);
        let password = self.token(&user, login.token)?;
        let stdin = json!({ "service": service, "user": user, "password": password.expose_secret() }).to_string();
        // The script travels as an argument, so that standard input is free for the password.
        let command = format!("timeout {LIMIT} python3 -c {}", quote(PAM_LOGIN));
        let said = match self.in_guest(&command, stdin.as_bytes()).await? {
            Ok((0, said)) => said,
            Ok((code, said)) => return not_run(format!("python3 ended with exit code {code}: {}", shown(&said))),
            Err(why) => return not_run(why),
        };
        let accepted = said.trim() == "accepted";
        // Refused by the token and by nothing else.
        let refused = said.trim().starts_with("refused at authenticate");
        if if result == PamResult::Accepted { accepted } else { refused } {
            return Ok(Ok(()));
        }
        let expected = if accepted { "a refusal" } else { "acceptance" };
        failed(format!("PAM login at {service} as {user}, {}", login.token.name()), expected.to_owned(), shown(&said))
    }

    /// Asked between two looks at the host's own clock.
    pub(super) async fn clock(&mut self, tolerance: std::time::Duration) -> Probed {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let before = now();
        let said = match self.in_guest("date +%s.%N", b"").await? {
            Ok((_, said)) => said,
            Err(why) => return not_run(why),
        };
        let after = now();
        let Ok(guest) = said.trim().parse::<f64>() else { return not_run(format!("`date` says {}", shown(&said))) };
        let off = if guest < before { before - guest } else { (guest - after).max(0.0) };
        if off <= tolerance.as_secs_f64() {
            return Ok(Ok(()));
        }
        failed("clock".to_owned(), format!("at most {tolerance:?} off"), format!("{off:.0} s off"))
    }

    /// A file in the running guest.
    pub(super) async fn file_in_guest(&mut self, what: &What) -> Probed {
        let What::File { path, presence, mode, owner, empty, content, .. } = what else { return not_run("no file") };
        let path = self.fill(path);
        let command = format!("test -e {0} || exit 44; stat -L -c '%a %U:%G %s' {0} && cat {0}", quote(&path));
        let (code, said) = match self.in_guest(&command, b"").await? {
            Ok(outcome) => outcome,
            Err(why) => return not_run(why),
        };
        let name = format!("file {path}");
        match (code, presence) {
            (44, Presence::Required) => return failed(name, "it is there".to_owned(), "there is none".to_owned()),
            (44, _) => return Ok(Ok(())),
            (0, Presence::Absent) => return failed(name, "no such file".to_owned(), "it is there".to_owned()),
            (0, _) => {}
            (code, _) => return not_run(format!("reading {path} ended with exit code {code}: {}", shown(&said))),
        }
        let (facts, text) = said.split_once('\n').unwrap_or((&said, ""));
        let facts: Vec<_> = facts.split(' ').collect();
        let is = |index: usize| facts.get(index).copied().unwrap_or_default();
        if mode.is_some_and(|mode| u32::from_str_radix(is(0), 8) != Ok(mode)) {
            return failed(name, format!("mode {:04o}", mode.unwrap_or_default()), format!("mode {}", is(0)));
        }
        if owner.as_ref().is_some_and(|owner| owner != is(1)) {
            return failed(name, format!("owner {}", owner.clone().unwrap_or_default()), format!("owner {}", is(1)));
        }
        if *empty && is(2) != "0" {
            return failed(name, "an empty file".to_owned(), format!("{} bytes", is(2)));
        }
        self.judge(name, content, text)
    }
}

/// A line of `ss -H -ltunp`.
struct Socket<'a> {
    line: &'a str,
    udp: bool,
    port: u16,
    is_loopback: bool,
    is_any: bool,
}

impl<'a> Socket<'a> {
    /// `tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:…`; an address may have a scope, `10.0.2.15%ens3:68`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let udp = fields.next()? == "udp";
        let (address, port) = fields.nth(3)?.rsplit_once(':')?;
        let address = address.split('%').next()?.trim_matches(['[', ']']);
        let address = address.strip_prefix("::ffff:").unwrap_or(address);
        Some(Self {
            line,
            udp,
            port: port.parse().ok()?,
            is_loopback: address == "::1" || address.starts_with("127."),
            is_any: matches!(address, "*" | "0.0.0.0" | "::"),
        })
    }
}

/// A command in one line, not too long.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((at, _)) => format!("{} …", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_ss_prints_them() {
        let read = |line| {
            let socket = Socket::parse(line).unwrap();
            (socket.udp, socket.port, socket.is_loopback, socket.is_any)
        };
        assert_eq!(read("tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\"))"), (false, 22, false, true));
        assert_eq!(read("tcp   LISTEN 0      2                  *:3389             *:*"), (false, 3389, false, true));
        assert_eq!(read("tcp LISTEN 0 5 [::1]:3350 [::]:*"), (false, 3350, true, false));
        assert_eq!(read("tcp LISTEN 0 5 [::ffff:127.0.0.1]:3350 *:*"), (false, 3350, true, false));
        assert_eq!(read("udp UNCONN 0 0 10.0.2.15%ens3:68 0.0.0.0:*"), (true, 68, false, false));
        assert_eq!(read("udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*"), (true, 53, true, false));
        assert!(Socket::parse("").is_none());
    }
}
