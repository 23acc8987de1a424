//! systemd-nspawn's command line as data.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::network::INTERFACE;
use super::tools;

/// Where the container finds the seed.
const SEED: &str = "/run/visabuild/seed";

/// A container, as it is given to systemd-nspawn(1); pure data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the machine.
    pub name: String,
    /// The qcow2 whose root file system is booted; it is written to.
    pub disk: PathBuf,
    /// Folder with the NoCloud seed's files, readable by everybody.
    pub seed: PathBuf,
    /// Numbers of the host's CPUs that it may use; none is all.
    pub cpus: Option<Vec<usize>>,
}

impl Config {
    /// nspawn's arguments, in an order that depends on nothing but `self`; the tree of the disk is
    /// mounted below `runtime`.
    pub fn arguments(&self, runtime: &Path) -> Vec<OsString> {
        let mut arguments = isolation(&self.name, &root(runtime));
        arguments.extend(["--boot", "--kill-signal=SIGRTMIN+3", "--console=read-only"].map(OsString::from));
        // Moved into the container's own network name space. The guest may administer that one.
        arguments.push(format!("--network-interface={INTERFACE}").into());
        arguments.push(bind_read_only(&self.seed, SEED));
        arguments.push(bind_read_only(&tools::folder(runtime), tools::MOUNT_POINT));
        if let Some(cpus) = &self.cpus {
            let numbers: Vec<_> = cpus.iter().map(usize::to_string).collect();
            arguments.push(format!("--cpu-affinity={}", numbers.join(",")).into());
        }
        // What a kernel's command line would say; cloud-init and systemd read their manager's arguments in a container.
        arguments.push("--".into());
        arguments.push(format!("ds=nocloud;s={SEED}/").into());
        // The file system is mounted by us, and a user name space may not mount it again.
        arguments.push("systemd.mask=systemd-remount-fs.service".into());
        arguments
    }
}

/// The first `count` of the CPUs that this process may use (sched_setaffinity(2)).
pub fn first_cpus(count: u32) -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(count).collect()
}

/// Where the tree of the disk is mounted.
pub(super) fn root(runtime: &Path) -> PathBuf {
    runtime.join("root")
}

/// A bind mount; a colon would end the path (systemd-nspawn(1), `--bind=`).
fn bind_read_only(from: &Path, to: &str) -> OsString {
    let mut bytes = Vec::from("--bind-ro=");
    for byte in from.as_os_str().as_bytes() {
        if matches!(byte, b':' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    bytes.push(b':');
    bytes.extend(to.as_bytes());
    OsString::from_vec(bytes)
}

/// What every container is started with: users of its own, its own host name, nothing of the
/// host's settings, files or logs. Seccomp filters and the set of devices are nspawn's defaults.
fn isolation(name: &str, root: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "--quiet",
        "--settings=no",
        "--keep-unit",
        "--register=no",
        "--hostname=localhost",
        // Root of the container is nobody outside; the file system is mapped, so that owners on the disk are right.
        "--private-users=pick",
        "--private-users-ownership=map",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
    ]
    .map(OsString::from)
    .into();
    arguments.push(format!("--machine={name}").into());
    let mut directory = OsString::from("--directory=");
    directory.push(root);
    arguments.push(directory);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cpus_that_may_be_used_are_named() {
        assert_eq!(first_cpus(1).len(), 1);
        let all = std::thread::available_parallelism().unwrap().get();
        assert!(first_cpus(u32::MAX).len() >= all);
    }

    #[test]
    fn a_boot() {
        let config = Config {
            name: "visabuild-x".into(),
            disk: "/w/d.qcow2".into(),
            seed: "/w/seed".into(),
            cpus: Some(vec![0, 2]),
        };
        let arguments = config.arguments("/w".as_ref());
        let text = arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join("\n");
        assert_eq!(bind_read_only(Path::new("/a:b\\c"), "/d"), r"--bind-ro=/a\:b\\c:/d");
        insta::assert_snapshot!(text, @r"
        --quiet
        --settings=no
        --keep-unit
        --register=no
        --hostname=localhost
        --private-users=pick
        --private-users-ownership=map
        --resolv-conf=off
        --timezone=off
        --link-journal=no
        --machine=visabuild-x
        --directory=/w/root
        --boot
        --kill-signal=SIGRTMIN+3
        --console=read-only
        --network-interface=host0
        --bind-ro=/w/seed:/run/visabuild/seed
        --bind-ro=/w/tools:/run/visabuild/tools
        --cpu-affinity=0,2
        --
        ds=nocloud;s=/run/visabuild/seed/
        systemd.mask=systemd-remount-fs.service
        ");
    }
}
