//! What templates ask of their machines: firmware, a TPM, another QEMU, a way in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Finding;
use super::distribution::Distribution;
use super::tools;
use crate::template::Machine;

/// The program that emulates TPMs, and its package everywhere.
const SWTPM: &str = "swtpm";

/// Examines what `machines` need, with their devices where they are virtual (`are_virtual`); each thing is told once.
/// `search` is the search path, `agent` the socket of the user's SSH agent.
pub fn examine(
    machines: &[Machine],
    are_virtual: bool,
    search: &OsStr,
    agent: Option<&Path>,
    host: &Distribution,
) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut findings: Vec<Finding> = Vec::new();
    for machine in machines {
        let devices = if are_virtual { devices(machine, search, host) } else { Vec::new() };
        findings.extend(devices.into_iter().chain(way_in(machine, agent)));
    }
    findings.retain(|finding| told.insert((finding.name.clone(), finding.what.clone())));
    findings
}

fn devices(machine: &Machine, search: &OsStr, host: &Distribution) -> Vec<Finding> {
    let hardware = &machine.hardware;
    let mut findings = Vec::new();
    if let Some(program) = &hardware.board.qemu_binary {
        findings.push(qemu(program, search));
    }
    if let Some(uefi) = hardware.firmware.uefi() {
        let name = if uefi.secure_boot { "secure boot" } else { "UEFI firmware" };
        findings.push(match uefi.find() {
            Ok((code, _)) => Finding::ok(name, code.display().to_string()),
            Err(error) if uefi.code.is_some() => with_hints(Finding::problem(name, error.to_string()), error.hints()),
            Err(error) => Finding::problem(name, error.to_string()).hint(host.install("ovmf")),
        });
        if uefi.secure_boot && hardware.board.machine_type.as_deref().is_some_and(|kind| !kind.contains("q35")) {
            let what = "`efi_secure_boot` needs the `machine_type` `q35`: others cannot keep its variables safe";
            findings.push(Finding::problem(name, what).hint("write `machine_type: q35`, or leave it out"));
        }
    } else if let Some(path) = hardware.firmware.firmware.as_deref().filter(|path| !path.is_file()) {
        findings.push(
            Finding::problem("firmware", format!("{} is not there", path.display()))
                .hint("`firmware` names a file of this host"),
        );
    }
    if hardware.firmware.vtpm == Some(true) {
        findings.push(tpm(search));
    }
    findings
}

fn qemu(program: &Path, search: &OsStr) -> Finding {
    let found = if program.components().count() > 1 {
        program.is_file().then(|| program.to_owned())
    } else {
        tools::find(&program.to_string_lossy(), search)
    };
    match found {
        Some(path) => Finding::ok("qemu_binary", path.display().to_string()),
        None => Finding::problem("qemu_binary", format!("`{}` is not on this host", program.display())).hint(
            "`qemu_binary` names the QEMU that runs this template's guest; without it, it is `qemu-system-x86_64`",
        ),
    }
}

fn tpm(search: &OsStr) -> Finding {
    match tools::find(SWTPM, search) {
        Some(path) => Finding::ok(SWTPM, path.display().to_string()),
        None => Finding::problem(SWTPM, "is not on this host, but a template has `vtpm`")
            .hint(format!("install the package `{SWTPM}`, which emulates TPMs")),
    }
}

/// Whether machines may have a TPM; most need none.
pub fn tpm_is_possible(search: &OsStr) -> Finding {
    match tools::find(SWTPM, search) {
        Some(path) => Finding::ok(SWTPM, path.display().to_string()),
        None => Finding::ok(SWTPM, format!("is not there; only templates with `vtpm` need it (package `{SWTPM}`)")),
    }
}

fn way_in(machine: &Machine, agent: Option<&Path>) -> Vec<Finding> {
    let wanted = &machine.communicator;
    let mut findings = Vec::new();
    if let Some(path) = &wanted.ssh_private_key_file
        && let Err(error) = crate::guest::Key::read(path)
    {
        let finding = Finding::problem("ssh_private_key_file", error.chain().join(": "));
        findings.push(finding.hint("name a private key without a passphrase, or use an agent: `ssh_agent_auth: true`"));
    }
    if wanted.ssh_agent_auth == Some(true) {
        let there: Option<PathBuf> = agent.filter(|socket| socket.exists()).map(Path::to_owned);
        findings.push(match there {
            Some(socket) => Finding::ok("SSH agent", socket.display().to_string()),
            None => Finding::problem("SSH agent", "there is none, but a template has `ssh_agent_auth`")
                .hint("start one, add the key to it, and set SSH_AUTH_SOCK"),
        });
    }
    findings
}

fn with_hints(finding: Finding, hints: &[String]) -> Finding {
    if hints.is_empty() { finding } else { finding.hint(hints.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::State;
    use crate::template::hardware::{Board, Firmware};
    use crate::template::{Communicator, Hardware};

    fn problems(machine: Machine, are_virtual: bool) -> Vec<String> {
        let host = Distribution::parse("ID=debian\nVERSION_CODENAME=trixie");
        let found = examine(&[machine.clone(), machine], are_virtual, OsStr::new("/nonexistent"), None, &host);
        found
            .into_iter()
            .filter(|finding| finding.state == State::Problem)
            .map(|finding| format!("{}: {} ({})", finding.name, finding.what, finding.hint.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn what_is_missing_is_told_once_and_with_its_package() {
        let firmware = Firmware {
            efi_firmware_code: Some("/nonexistent/code.fd".into()),
            vtpm: Some(true),
            ..Firmware::default()
        };
        let board = Board { qemu_binary: Some("qemu-of-ours".into()), ..Board::default() };
        let hardware = Hardware { board, firmware, ..Hardware::default() };
        let communicator = Communicator {
            ssh_private_key_file: Some("/nonexistent/key".into()),
            ssh_agent_auth: Some(true),
            ..Communicator::default()
        };
        let machine = Machine { hardware, communicator, ..Machine::default() };
        let all = problems(machine.clone(), true);
        for (found, expected) in all.iter().zip([
            "qemu_binary: `qemu-of-ours` is not on this host (",
            "UEFI firmware: no variables are known for the firmware /nonexistent/code.fd (name them",
            "swtpm: is not on this host, but a template has `vtpm` (install the package `swtpm`",
            "ssh_private_key_file: reading the private SSH key /nonexistent/key: ",
            "SSH agent: there is none, but a template has `ssh_agent_auth` (",
        ]) {
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!(problems(machine, false).len(), 2);
    }

    #[test]
    fn secure_boot_needs_q35() {
        let board = Board { machine_type: Some("pc".to_owned()), ..Board::default() };
        let firmware = Firmware { efi_secure_boot: Some(true), ..Firmware::default() };
        let machine = Machine { hardware: Hardware { board, firmware, ..Hardware::default() }, ..Machine::default() };
        assert!(problems(machine, true).iter().any(|problem| problem.contains("needs the `machine_type` `q35`")));
    }
}
