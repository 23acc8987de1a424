//! Whether the native engine can run here: systemd-nspawn and what its container is made of.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;

use super::distribution::Distribution;
use super::tools::{self, Tool};
use super::{Finding, State};

/// Where a user has all rights over the host: the first user name space (user_namespaces(7)).
const ALL_USERS: u64 = 4_294_967_295;

/// Bit of the capability to mount and to make name spaces (capabilities(7)).
const SYS_ADMIN: u32 = 21;

/// The first Linux that can map the owners of files on ext4 (mount_setattr(2)).
const KERNEL: (u32, u32) = (5, 12);

/// The first systemd-nspawn that maps owners (`--private-users-ownership=`).
const NSPAWN_VERSION: u32 = 250;

/// Name of the findings.
const NAME: &str = "engine nspawn";

/// Devices that the engine opens on the host, and what to do where one does not open; the guest gets
/// none of them.
const DEVICES: [(&str, &str); 4] = [
    ("/dev/kmsg", "in a container, pass the device in: the kernel tells there of writes that failed"),
    ("/dev/fuse", "load the module: `modprobe fuse`; in a container, pass the device in"),
    ("/dev/loop-control", "load the module: `modprobe loop`; in a container, pass the loop devices in, too"),
    ("/dev/net/tun", "load the module: `modprobe tun`; in a container, pass the device in"),
];

/// Programs that the engine runs.
const TOOLS: [Tool; 8] = [
    NSPAWN,
    Tool { program: "qemu-storage-daemon", version_argument: Some("--version"), package: "qemu-utils" },
    Tool { program: "slirp4netns", version_argument: Some("--version"), package: "slirp4netns" },
    Tool { program: "unshare", version_argument: Some("--version"), package: "util-linux" },
    Tool { program: "nsenter", version_argument: Some("--version"), package: "util-linux" },
    Tool { program: "fstrim", version_argument: Some("--version"), package: "util-linux" },
    Tool { program: "mount", version_argument: Some("--version"), package: "mount" },
    Tool { program: "resize2fs", version_argument: None, package: "e2fsprogs" },
];

const NSPAWN: Tool =
    Tool { program: "systemd-nspawn", version_argument: Some("--version"), package: "systemd-container" };

/// What is known of the host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `/proc/self/uid_map`.
    pub uid_map: String,
    /// `/proc/self/status`.
    pub status: String,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// `/proc/filesystems`.
    pub filesystems: String,
    /// Devices that do not open, what to do about it, and why.
    pub closed: Vec<(&'static str, &'static str, io::ErrorKind)>,
}

impl Facts {
    /// This host's.
    pub fn of_host() -> Self {
        // What cannot be read judges as missing.
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let open = |device: &str| OpenOptions::new().read(true).write(true).open(device);
        Self {
            uid_map: read("/proc/self/uid_map"),
            status: read("/proc/self/status"),
            kernel: read("/proc/sys/kernel/osrelease"),
            filesystems: read("/proc/filesystems"),
            closed: DEVICES
                .iter()
                .filter_map(|(device, hint)| Some((*device, *hint, open(device).err()?.kind())))
                .collect(),
        }
    }

    /// What forbids the engine here; nothing where it can run.
    pub fn judge(&self) -> Vec<Finding> {
        let problem = |what: String, hint: &str| Finding::problem(NAME, what).hint(hint);
        let mut findings = Vec::new();
        let privileged = self.is_privileged();
        if !privileged {
            let hint = "run visabuild as root, in a container only with all its rights; or use `--engine qemu`";
            findings.push(problem("only root of the host can mount a guest's disk".to_owned(), hint));
        }
        if version(&self.kernel).is_none_or(|version| version < KERNEL) {
            let kernel = self.kernel.trim();
            let what = format!("Linux {kernel} cannot map the owners of files; {}.{} can", KERNEL.0, KERNEL.1);
            findings.push(problem(what, "use `--engine qemu`"));
        }
        if !self.filesystems.lines().any(|line| line.split_whitespace().last() == Some("cgroup2")) {
            findings.push(problem("the kernel has no control groups of version 2".to_owned(), "use `--engine qemu`"));
        }
        // Whoever is not root is told that first.
        for (device, hint, error) in self.closed.iter().filter(|_| privileged) {
            findings.push(problem(format!("{device} does not open ({error})"), hint));
        }
        findings
    }

    fn is_privileged(&self) -> bool {
        let whole = self.uid_map.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>();
        let capabilities = self.status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        whole.is_ok_and(|numbers| numbers == [0, 0, ALL_USERS]) && capabilities >> SYS_ADMIN & 1 == 1
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Everything that the engine needs: problems where it is asked for.
pub async fn examine(search: &OsStr, host: &Distribution) -> Vec<Finding> {
    let mut findings = Facts::of_host().judge();
    for tool in &TOOLS {
        findings.push(judge_nspawn(tool, tools::examine_one(tool, search, true, host).await));
    }
    findings
}

/// An nspawn that is too old is a problem.
fn judge_nspawn(tool: &Tool, finding: Finding) -> Finding {
    let version = |text: &str| text.rsplit("version ").next()?.split('.').next()?.parse().ok();
    match version(&finding.what) {
        Some(0..NSPAWN_VERSION) if tool == &NSPAWN && finding.state == State::Ok => {
            let what = format!("{}; {NSPAWN_VERSION} is needed, which maps the owners of files", finding.what);
            Finding::problem(finding.name, what).hint("build on a newer release, or use `--engine qemu`")
        }
        _ => finding,
    }
}

/// Whether the engine would run where it was not asked for, in one finding that forbids nothing.
pub async fn possible(search: &OsStr, host: &Distribution) -> Finding {
    let findings = examine(search, host).await;
    let problems: Vec<String> = findings
        .iter()
        .filter(|finding| finding.state == State::Problem)
        .map(|finding| match finding.name.as_str() {
            NAME => finding.what.clone(),
            program => format!("{program} {}", finding.what),
        })
        .collect();
    if problems.is_empty() {
        Finding::ok(NAME, "can run here: the host's full speed without KVM (`--engine nspawn`)")
    } else {
        Finding::ok(NAME, format!("cannot run here: {}", problems.join("; ")))
    }
}

/// Whether the engine can run here, as far as that can be told at once.
pub fn seems_possible(search: &OsStr) -> bool {
    Facts::of_host().judge().is_empty() && TOOLS.iter().all(|tool| tools::find(tool.program, search).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            uid_map: "         0          0 4294967295\n".to_owned(),
            status: "Name:\tx\nCapEff:\t000001ffffffffff\n".to_owned(),
            kernel: "6.1.0-40-amd64\n".to_owned(),
            filesystems: "nodev\tcgroup\nnodev\tcgroup2\n\text4\n".to_owned(),
            closed: Vec::new(),
        }
    }

    #[test]
    fn every_reason_is_told() {
        type Case = (fn(&mut Facts), &'static str);
        let cases: [Case; 7] = [
            (|facts| facts.uid_map = "0 1000 1\n1 100000 65536\n".to_owned(), "only root"),
            (|facts| facts.status = "CapEff:\t00000000a80425fb\n".to_owned(), "only root"),
            (|facts| facts.status = "CapEff:\t0000000000000000\n".to_owned(), "only root"),
            (|facts| facts.kernel = "5.10.0-30-amd64\n".to_owned(), "5.12 can"),
            (|facts| facts.kernel.clear(), "5.12 can"),
            (|facts| facts.filesystems = "nodev\tcgroup\n".to_owned(), "control groups"),
            (
                |facts| facts.closed = vec![("/dev/fuse", "fuse", io::ErrorKind::NotFound)],
                "/dev/fuse does not open (entity not found)",
            ),
        ];
        assert_eq!(good().judge(), []);
        for (change, what) in cases {
            let mut facts = good();
            change(&mut facts);
            let findings = facts.judge();
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].what.contains(what), "{findings:?}");
            assert!(findings[0].hint.is_some() && findings[0].state == State::Problem);
        }
    }

    #[test]
    fn an_old_nspawn_is_a_problem() {
        for (version, state) in
            [("249.11-0ubuntu3", State::Problem), ("252.39-1~deb12u2", State::Ok), ("257", State::Ok)]
        {
            let finding = Finding::ok("systemd-nspawn", format!("/usr/bin/systemd-nspawn, version {version}"));
            assert_eq!(judge_nspawn(&NSPAWN, finding).state, state, "{version}");
        }
    }

    #[tokio::test]
    async fn where_it_is_not_asked_for_nothing_is_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        let finding = possible(folder.path().as_os_str(), &Distribution::parse("ID=debian")).await;
        assert_eq!(finding.state, State::Ok);
    }
}
