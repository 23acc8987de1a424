//! The programs that visabuild drives: where they are, their versions, and versions known to be bad.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Finding;
use super::distribution::Distribution;
use crate::error::{Error, Kind, Result};
use crate::process::Run;

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where administration programs are that an ordinary user's search path leaves out.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program that a build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// The argument that makes it tell its version; none where it has none.
    pub version_argument: Option<&'static str>,
    /// The Debian package that has it.
    pub package: &'static str,
}

const fn tool(program: &'static str, version_argument: &'static str, package: &'static str) -> Tool {
    Tool { program, version_argument: Some(version_argument), package }
}

/// QEMU itself.
pub const QEMU: Tool = tool("qemu-system-x86_64", "--version", "qemu-system-x86");

/// What every build needs.
pub const ALWAYS: [Tool; 4] = [
    tool("qemu-img", "--version", "qemu-utils"),
    tool("mmdebstrap", "--version", "mmdebstrap"),
    tool("mke2fs", "-V", "e2fsprogs"),
    tool("gpgv", "--version", "gpgv"),
];

/// What a build needs beside that when an ordinary user runs it.
pub const UNPRIVILEGED: [Tool; 2] = [
    tool("unshare", "--version", "util-linux"),
    Tool { program: "newuidmap", version_argument: None, package: "uidmap" },
];

/// Where `program` is on the search path `search` (as the variable PATH has it) or in the system's folders.
pub fn find(program: &str, search: &OsStr) -> Option<PathBuf> {
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let mut candidates = std::env::split_paths(search).chain(system).map(|folder| folder.join(program));
    candidates.find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Asks the program at `path` for its version.
///
/// # Errors
/// It cannot be run, fails, does not answer in time, or says nothing that looks like a version (kind host).
pub async fn version(path: &Path, argument: &str) -> Result<String> {
    let mut lines = Vec::new();
    let run = Run::new(&path.to_string_lossy(), [argument]).kind(Kind::Host);
    // mke2fs tells its version on standard error.
    let cancel = CancellationToken::new();
    let done = run.lines(&cancel, |_, line| lines.push(line.to_owned()));
    tokio::time::timeout(PATIENCE, done)
        .await
        .map_err(|_| Error::host(format!("`{} {argument}` does not answer", path.display())))??;
    lines
        .iter()
        .find_map(|line| version_in(line))
        .ok_or_else(|| Error::host(format!("`{} {argument}` tells no version", path.display())))
}

/// The first word of `line` that is like `10.0.2`, with or without parentheses (systemd's).
fn version_in(line: &str) -> Option<String> {
    let like_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
    line.split_whitespace().map(|word| word.trim_matches(['(', ')'])).find(like_version).map(str::to_owned)
}

/// Examines every tool that a build with the engine `qemu` needs, or only what it needs beside its
/// engine. `search` is the search path, `root` whether root runs it, `qemu` whether guests run in QEMU and then
/// with KVM.
pub async fn examine(search: &OsStr, root: bool, qemu: Option<bool>, host: &Distribution) -> Vec<Finding> {
    let engine: &[Tool] = if qemu.is_some() { &[QEMU] } else { &[] };
    let unprivileged: &[Tool] = if root { &[] } else { &UNPRIVILEGED };
    let mut findings = Vec::new();
    for tool in engine.iter().chain(&ALWAYS).chain(unprivileged) {
        findings.push(examine_one(tool, search, qemu.unwrap_or_default(), host).await);
    }
    findings
}

/// Examines one; `kvm` counts for QEMU only.
pub(super) async fn examine_one(tool: &Tool, search: &OsStr, kvm: bool, host: &Distribution) -> Finding {
    let name = tool.program;
    let Some(path) = find(name, search) else {
        return Finding::problem(name, "is not on this host").hint(host.install(tool.package));
    };
    let shown = path.display();
    let Some(argument) = tool.version_argument else {
        return Finding::ok(name, shown.to_string());
    };
    match version(&path, argument).await {
        Ok(version) if tool == &QEMU => judge_qemu(&format!("{shown}, version {version}"), &version, kvm, host),
        Ok(version) => Finding::ok(name, format!("{shown}, version {version}")),
        Err(error) => Finding::problem(name, error.chain().join(": ")).hint(host.install(tool.package)),
    }
}

/// What is known of QEMU's versions without KVM: 7.2 crashed Debian 13's kernel (6.12) under load with several
/// translator threads (a panic in `__kmalloc`, at cmpxchg16b); 10.0.2 did the same work to its end.
fn judge_qemu(what: &str, version: &str, kvm: bool, host: &Distribution) -> Finding {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(0..8) if !kvm => Finding::problem(
            QEMU.program,
            format!("{what}: without KVM, QEMU 7.2 crashed the guest's kernel under load, 10.0.2 did not"),
        )
        .hint(host.newer_qemu()),
        Some(8 | 9) if !kvm => Finding::warning(
            QEMU.program,
            format!("{what}: not tried without KVM; 7.2 crashed the guest's kernel under load, 10.0.2 did not"),
        ),
        _ => Finding::ok(QEMU.program, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::State;

    fn program(folder: &Path, name: &str, script: &str) {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn bookworm() -> Distribution {
        Distribution::parse("ID=debian\nVERSION_CODENAME=bookworm")
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (line, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Some("7.2.22")),
            ("mke2fs 1.47.0 (5-Feb-2023)", Some("1.47.0")),
            ("gpgv (GnuPG) 2.2.40", Some("2.2.40")),
            ("systemd 252 (252.39-1~deb12u2)", Some("252.39-1~deb12u2")),
            ("1.3.5", Some("1.3.5")),
            ("usage: none", None),
        ] {
            assert_eq!(version_in(line).as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_broken_is_named_with_its_package() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "good", "echo good 1.2 >&2");
        program(folder.path(), "broken", "echo 'cannot open shared object' >&2; exit 127");
        program(folder.path(), "silent", "true");
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let search = folder.path().as_os_str();
        for (name, state, what) in [
            ("good", State::Ok, "good, version 1.2"),
            ("broken", State::Problem, "cannot open shared object"),
            ("silent", State::Problem, "tells no version"),
            ("plain", State::Problem, "is not on this host"),
            ("none", State::Problem, "is not on this host"),
        ] {
            let tool = Tool { program: name, version_argument: Some("--version"), package: "a-package" };
            let finding = examine_one(&tool, search, true, &bookworm()).await;
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.what.contains(what), "{finding:?}");
            assert_eq!(finding.hint.is_some_and(|hint| hint.contains("a-package")), state == State::Problem);
        }
    }

    #[tokio::test]
    async fn ordinary_users_need_two_tools_more() {
        let folder = tempfile::tempdir().unwrap();
        let names = |findings: Vec<Finding>| findings.into_iter().map(|finding| finding.name).collect::<Vec<_>>();
        let as_root = names(examine(folder.path().as_os_str(), true, Some(true), &bookworm()).await);
        let as_user = names(examine(folder.path().as_os_str(), false, Some(true), &bookworm()).await);
        assert_eq!(as_root, ["qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "gpgv"]);
        assert_eq!(as_user[5..], ["unshare", "newuidmap"]);
        let native = names(examine(folder.path().as_os_str(), true, None, &bookworm()).await);
        assert_eq!(native[..], as_root[1..]);
    }

    #[test]
    fn an_old_qemu_is_a_problem_only_without_kvm() {
        for (version, kvm, state) in [
            ("6.2.0", false, State::Problem),
            ("7.2.22", false, State::Problem),
            ("7.2.22", true, State::Ok),
            ("8.2.2", false, State::Warning),
            ("8.2.2", true, State::Ok),
            ("10.0.2", false, State::Ok),
            ("11.1.0", false, State::Ok),
        ] {
            let finding = judge_qemu("qemu", version, kvm, &bookworm());
            assert_eq!(finding.state, state, "{version} {kvm}");
            assert_eq!(finding.hint.is_some(), state == State::Problem);
        }
    }
}
