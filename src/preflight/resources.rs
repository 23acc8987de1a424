//! Disk space, memory, processors, and whether an ordinary user may make user namespaces.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Finding, State};

const GIB: u64 = 1 << 30;

/// Users and groups that a Debian root file system needs below the user's own (subuid(5)).
const SUBORDINATE_IDS: u64 = 65_536;

/// Space that something will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What takes it (`cache`, `output`).
    pub name: String,
    /// Where; need not exist yet.
    pub path: PathBuf,
    /// How much, bytes.
    pub bytes: u64,
}

/// Examines the free disk space; needs on one file system are added up.
pub fn disk(needs: &[Need]) -> Vec<Finding> {
    let mut systems: Vec<(u64, Vec<&Need>, u64)> = Vec::new();
    let mut findings = Vec::new();
    for need in needs {
        match file_system(&need.path) {
            Ok((device, free)) => match systems.iter_mut().find(|(known, ..)| *known == device) {
                Some((_, needs, _)) => needs.push(need),
                None => systems.push((device, vec![need], free)),
            },
            Err(error) => {
                let what = format!("cannot tell the free space at {}: {error}", need.path.display());
                findings.push(Finding::warning("disk", what));
            }
        }
    }
    findings.extend(systems.iter().map(|(_, needs, free)| judge_disk(needs, *free)));
    findings
}

/// The device and the bytes free to this user of the file system that `path` is or will be on.
fn file_system(path: &Path) -> std::io::Result<(u64, u64)> {
    let absolute = std::path::absolute(path)?;
    // The root folder always exists.
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let statistics = rustix::fs::statvfs(existing)?;
    Ok((existing.metadata()?.dev(), statistics.f_bavail.saturating_mul(statistics.f_frsize)))
}

fn judge_disk(needs: &[&Need], free: u64) -> Finding {
    let wanted: u64 = needs.iter().map(|need| need.bytes).sum();
    let places: Vec<String> = needs.iter().map(|need| format!("{} ({})", need.path.display(), need.name)).collect();
    let what = format!("{} free at {}, {} needed", gib(free), places.join(" and "), gib(wanted));
    if free >= wanted {
        return Finding::ok("disk", what);
    }
    Finding::problem("disk", what)
        .hint("make room: `visabuild cache gc`, or name another place with `XDG_CACHE_HOME` or `--output`")
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

/// Memory that can be used without swapping, MiB, by the text of /proc/meminfo and the limits of control groups.
pub fn memory_available(meminfo: &str, limits: &[String]) -> Option<u64> {
    let field = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = field.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024;
    // `max` (no limit) is no number; version 1 says a number near 2^63 for it.
    let limited = limits.iter().filter_map(|limit| limit.trim().parse::<u64>().ok()).map(|bytes| bytes / (1 << 20));
    limited.chain([available]).min()
}

/// Memory of this host that can be used without swapping, MiB.
pub fn host_memory() -> Option<u64> {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits: Vec<String> = limits.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    memory_available(&std::fs::read_to_string("/proc/meminfo").ok()?, &limits)
}

/// Processors that this process may use.
pub fn host_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Judges memory (MiB) against what the largest guest gets.
pub fn judge_memory(available: Option<u64>, needed: u64) -> Finding {
    match available {
        None => Finding::warning("memory", "cannot tell the memory of this host"),
        Some(available) => {
            let state = if available >= needed { State::Ok } else { State::Problem };
            let finding = Finding::new("memory", state, format!("{available} MiB available, {needed} MiB needed"));
            if state == State::Ok { finding } else { finding.hint("give the guest less: `--memory MiB`") }
        }
    }
}

/// Judges the number of processors.
pub fn judge_cpus(cpus: usize) -> Finding {
    match cpus {
        1 => Finding::warning("cpus", "1 processor: a build will be slow"),
        _ => Finding::ok("cpus", format!("{cpus} processors")),
    }
}

/// What decides whether an ordinary user may make the user namespaces that a bootstrap needs. Texts are those
/// of the kernel's files, none where the kernel has no such file.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    /// `/proc/sys/user/max_user_namespaces`.
    pub maximum: Option<String>,
    /// `/proc/sys/kernel/unprivileged_userns_clone` (Debian).
    pub unprivileged_clone: Option<String>,
    /// `/proc/sys/kernel/apparmor_restrict_unprivileged_userns` (Ubuntu).
    pub apparmor_restricts: Option<String>,
    /// `/etc/subuid`.
    pub subuid: String,
    /// `/etc/subgid`.
    pub subgid: String,
}

impl Namespaces {
    /// This host's.
    pub fn of_host() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            maximum: read("/proc/sys/user/max_user_namespaces"),
            unprivileged_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            subuid: read("/etc/subuid").unwrap_or_default(),
            subgid: read("/etc/subgid").unwrap_or_default(),
        }
    }

    /// Whether the user `login` with number `uid` can bootstrap without root.
    pub fn judge(&self, login: &str, uid: u32) -> Finding {
        let is = |setting: &Option<String>, value: &str| setting.as_deref().is_some_and(|text| text.trim() == value);
        let name = "user namespaces";
        let mut denied = String::new();
        if is(&self.maximum, "0") {
            denied.push_str("`sysctl -w user.max_user_namespaces=15000`");
        } else if is(&self.unprivileged_clone, "0") {
            denied.push_str("`sysctl -w kernel.unprivileged_userns_clone=1`");
        }
        if !denied.is_empty() {
            return Finding::problem(name, "this host's kernel does not let ordinary users make them")
                .hint(format!("as root: {denied}, or run visabuild as root"));
        }
        for (file, text) in [("/etc/subuid", &self.subuid), ("/etc/subgid", &self.subgid)] {
            if !has_range(text, login, uid) {
                let mut hint =
                    format!("as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {login}`");
                // Writing to a string cannot fail.
                let _ = write!(hint, " (numbers that {file} does not have yet), or run visabuild as root");
                return Finding::problem(name, format!("{file} has no range of {SUBORDINATE_IDS} for {login}"))
                    .hint(hint);
            }
        }
        if is(&self.apparmor_restricts, "1") {
            return Finding::warning(name, "AppArmor restricts them for programs without a profile of their own").hint(
                "if the bootstrap is denied, as root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
            );
        }
        Finding::ok(name, format!("ordinary users may make them, and {login} has its range of users and groups"))
    }
}

/// A line `LOGIN:FIRST:COUNT` (subuid(5)) for the user that is large enough.
fn has_range(text: &str, login: &str, uid: u32) -> bool {
    text.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, count] = fields.as_slice() else { return false };
        let theirs = *user == login || user.parse() == Ok(uid);
        theirs && count.trim().parse::<u64>().is_ok_and(|count| count >= SUBORDINATE_IDS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(path: &Path, gibibytes: u64) -> Need {
        Need { name: "cache".to_owned(), path: path.to_owned(), bytes: gibibytes * GIB }
    }

    #[test]
    fn needs_on_one_file_system_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, output) = (folder.path().join("not/yet"), folder.path().join("output"));
        let findings = disk(&[need(&cache, 0), need(&output, 0)]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].state, State::Ok);
        assert!(findings[0].what.contains("not/yet (cache) and "), "{}", findings[0].what);
        let refused = judge_disk(&[&need(&cache, 3), &need(&output, 2)], 4 * GIB + GIB / 2);
        assert_eq!(refused.state, State::Problem);
        assert!(refused.what.starts_with("4.5 GiB free at ") && refused.what.ends_with("5.0 GiB needed"));
        assert_eq!(disk(&[need(folder.path(), 1 << 30)])[0].state, State::Problem);
    }

    #[test]
    fn memory_is_what_the_kernel_and_the_control_group_leave() {
        let meminfo = "MemTotal: 24678912 kB\nMemAvailable:   8388608 kB\n";
        for (limits, expected) in [
            (vec![], Some(8192)),
            (vec!["max\n".to_owned()], Some(8192)),
            (vec!["9223372036854771712\n".to_owned()], Some(8192)),
            (vec!["2147483648\n".to_owned()], Some(2048)),
        ] {
            assert_eq!(memory_available(meminfo, &limits), expected);
        }
        assert_eq!(memory_available("MemTotal: 1 kB\n", &[]), None);
        assert_eq!(judge_memory(Some(1024), 2048).state, State::Problem);
        assert_eq!(judge_memory(Some(2048), 2048).state, State::Ok);
        assert_eq!(judge_memory(None, 2048).state, State::Warning);
        assert_eq!(judge_cpus(1).state, State::Warning);
        assert!(host_cpus() >= 1 && host_memory().is_some());
    }

    #[test]
    fn user_namespaces_need_the_kernels_leave_and_a_range() {
        let good = Namespaces {
            maximum: Some("96365\n".to_owned()),
            subuid: "joe:100000:65536\n".to_owned(),
            subgid: "1000:100000:65536\n".to_owned(),
            ..Namespaces::default()
        };
        let with = |change: fn(&mut Namespaces)| {
            let mut facts = good.clone();
            change(&mut facts);
            facts.judge("joe", 1000)
        };
        type Case = (fn(&mut Namespaces), State, &'static str);
        let cases: [Case; 7] = [
            (|_| (), State::Ok, ""),
            (|facts| facts.maximum = Some("0\n".to_owned()), State::Problem, "user.max_user_namespaces"),
            (|facts| facts.unprivileged_clone = Some("0\n".to_owned()), State::Problem, "unprivileged_userns_clone=1"),
            (|facts| facts.subuid.clear(), State::Problem, "/etc/subuid"),
            (|facts| facts.subgid = "joe:1:1000\n".to_owned(), State::Problem, "/etc/subgid"),
            (|facts| facts.subgid = "jo:1:65536\nbroken".to_owned(), State::Problem, "/etc/subgid"),
            (|facts| facts.apparmor_restricts = Some("1\n".to_owned()), State::Warning, "apparmor_restrict"),
        ];
        for (change, state, hint) in cases {
            let finding = with(change);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.hint.as_deref().unwrap_or_default().contains(hint), "{finding:?}");
        }
    }
}
