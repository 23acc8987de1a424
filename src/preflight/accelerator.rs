//! Whether KVM can run a guest here.
//!
//! That `/dev/kvm` opens is not enough: where the CPU offers no hardware virtualisation, a module
//! may still answer, and a guest then hangs without a word.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

use super::Finding;
use crate::error::{Error, Result};
use crate::machine::Accelerator;

const DEVICE: &str = "/dev/kvm";

/// What the user asks for (`--accel`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Request {
    /// KVM where it can run a guest, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG even where KVM works.
    Tcg,
}

impl FromStr for Request {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("`{text}` is not one of auto, kvm, tcg")),
        }
    }
}

/// What came of opening `/dev/kvm` for reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// It opens.
    Opens,
    /// There is none.
    Missing,
    /// This user may not.
    Denied {
        /// The group that may, where it has a name.
        group: Option<String>,
    },
    /// The operating system's other answer.
    Fails(String),
}

/// Whether KVM can run a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// It can.
    pub kvm: bool,
    /// Why, or why not: a sentence.
    pub reason: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// Judges this host.
pub fn detect() -> Detection {
    // A host without /proc/cpuinfo shows no flag, which is the safe side.
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    judge(std::env::consts::ARCH, &cpuinfo, &open(Path::new(DEVICE)))
}

fn open(device: &Path) -> Device {
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Device::Opens,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Device::Missing,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Device::Denied { group: group_of(device) },
        Err(error) => Device::Fails(error.to_string()),
    }
}

fn group_of(device: &Path) -> Option<String> {
    let id = std::fs::metadata(device).ok()?.gid();
    group_name(&std::fs::read_to_string("/etc/group").ok()?, id)
}

fn group_name(groups: &str, id: u32) -> Option<String> {
    groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| match fields.as_slice() {
        [name, _, gid, ..] if gid.parse() == Ok(id) => Some((*name).to_owned()),
        _ => None,
    })
}

/// Judges a host of architecture `arch` (as Rust names it) by `/proc/cpuinfo` and its KVM device.
pub fn judge(arch: &str, cpuinfo: &str, device: &Device) -> Detection {
    let no = |reason: String| Detection { kvm: false, reason, hint: None };
    if arch != "x86_64" {
        return no(format!("the CPU is {arch}: KVM cannot run an x86-64 guest; using emulation"));
    }
    let flag = virtualisation_flag(cpuinfo);
    match (device, flag) {
        (Device::Opens, Some(flag)) => {
            Detection { kvm: true, reason: format!("{DEVICE} opens and the CPU has the {flag} flag"), hint: None }
        }
        (Device::Opens, None) => {
            no(format!("{DEVICE} opens, but the CPU has no vmx or svm flag: a guest would hang; using emulation"))
        }
        (Device::Missing, None) => {
            no(format!("there is no {DEVICE} and the CPU has no vmx or svm flag; using emulation"))
        }
        (Device::Missing, Some(flag)) => Detection {
            hint: Some(format!("load the module: `modprobe {}`", if flag == "vmx" { "kvm_intel" } else { "kvm_amd" })),
            ..no(format!("the CPU has the {flag} flag, but there is no {DEVICE}; using emulation"))
        },
        (Device::Denied { group }, flag) => denied(group.as_deref(), flag.is_some()),
        (Device::Fails(error), _) => no(format!("{DEVICE} does not open ({error}); using emulation")),
    }
}

fn denied(group: Option<&str>, capable: bool) -> Detection {
    let who = group.map_or_else(|| "root".to_owned(), |group| format!("group {group}"));
    let hint = match group {
        Some(group) if capable => Some(format!("`usermod -aG {group} LOGIN`, then log in again")),
        _ => None,
    };
    Detection { kvm: false, reason: format!("{DEVICE} is only for {who}; using emulation"), hint }
}

/// `vmx` (Intel) or `svm` (AMD), where a processor has it.
fn virtualisation_flag(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == "flags");
    let mut words = flags.flat_map(|(_, flags)| flags.split_whitespace());
    words.find_map(|word| ["vmx", "svm"].into_iter().find(|flag| *flag == word))
}

/// The accelerator to use for what was asked.
///
/// # Errors
/// KVM was asked for and cannot run a guest (kind host).
pub fn choose(request: Request, detection: &Detection) -> Result<Accelerator> {
    match request {
        Request::Tcg => Ok(Accelerator::Tcg),
        _ if detection.kvm => Ok(Accelerator::Kvm),
        Request::Auto => Ok(Accelerator::Tcg),
        Request::Kvm => {
            let reason = detection.reason.trim_end_matches("; using emulation");
            let error = Error::host(format!("`--accel kvm`, but KVM cannot run a guest here: {reason}"));
            Err(error.hint(detection.hint.as_deref().unwrap_or("leave `--accel` out to use emulation")))
        }
    }
}

/// The detection as a finding; a request that cannot be met is a problem.
pub fn examine(request: Request, detection: &Detection) -> Finding {
    let finding = match choose(request, detection) {
        Err(error) => Finding::problem("accelerator", error.to_string()),
        Ok(Accelerator::Tcg) if request == Request::Tcg => Finding::ok("accelerator", "emulation, as asked"),
        Ok(Accelerator::Kvm) => Finding::ok("accelerator", detection.reason.clone()),
        Ok(Accelerator::Tcg) => Finding::warning("accelerator", detection.reason.clone()),
    };
    match &detection.hint {
        Some(hint) if request != Request::Tcg => finding.hint(hint),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::preflight::State;

    const INTEL: &str = "processor\t: 0\nflags\t\t: fpu vme vmx sse2\nvmx flags\t: vnmi\n";
    const AMD: &str = "flags\t\t: fpu svm sse2\n";
    /// `svm_lock` is another flag, and the line `vmx flags` is not the line of flags.
    const PLAIN: &str = "flags\t\t: fpu vme svm_lock hypervisor\nvmx flags\t: vmx\n";

    #[test]
    fn kvm_needs_a_device_that_opens_and_a_flag() {
        let denied = Device::Denied { group: Some("kvm".to_owned()) };
        let cases = [
            ("x86_64", INTEL, &Device::Opens, true, "/dev/kvm opens and the CPU has the vmx flag", None),
            ("x86_64", AMD, &Device::Opens, true, "/dev/kvm opens and the CPU has the svm flag", None),
            (
                "x86_64",
                PLAIN,
                &Device::Opens,
                false,
                "/dev/kvm opens, but the CPU has no vmx or svm flag: a guest would hang; using emulation",
                None,
            ),
            (
                "x86_64",
                "",
                &Device::Missing,
                false,
                "there is no /dev/kvm and the CPU has no vmx or svm flag; using emulation",
                None,
            ),
            (
                "x86_64",
                AMD,
                &Device::Missing,
                false,
                "the CPU has the svm flag, but there is no /dev/kvm; using emulation",
                Some("load the module: `modprobe kvm_amd`"),
            ),
            (
                "x86_64",
                INTEL,
                &denied,
                false,
                "/dev/kvm is only for group kvm; using emulation",
                Some("`usermod -aG kvm LOGIN`, then log in again"),
            ),
            ("x86_64", PLAIN, &denied, false, "/dev/kvm is only for group kvm; using emulation", None),
            (
                "x86_64",
                INTEL,
                &Device::Denied { group: None },
                false,
                "/dev/kvm is only for root; using emulation",
                None,
            ),
            (
                "x86_64",
                INTEL,
                &Device::Fails("No such device".to_owned()),
                false,
                "/dev/kvm does not open (No such device); using emulation",
                None,
            ),
            (
                "aarch64",
                "",
                &Device::Opens,
                false,
                "the CPU is aarch64: KVM cannot run an x86-64 guest; using emulation",
                None,
            ),
        ];
        for (arch, cpuinfo, device, kvm, reason, hint) in cases {
            let expected = Detection { kvm, reason: reason.to_owned(), hint: hint.map(str::to_owned) };
            assert_eq!(judge(arch, cpuinfo, device), expected);
        }
    }

    #[test]
    fn what_is_asked_is_what_is_used_or_an_error() {
        let (yes, no) = (judge("x86_64", INTEL, &Device::Opens), judge("x86_64", PLAIN, &Device::Opens));
        for (request, detection, expected) in [
            (Request::Auto, &yes, Some(Accelerator::Kvm)),
            (Request::Auto, &no, Some(Accelerator::Tcg)),
            (Request::Tcg, &yes, Some(Accelerator::Tcg)),
            (Request::Kvm, &yes, Some(Accelerator::Kvm)),
            (Request::Kvm, &no, None),
        ] {
            assert_eq!(choose(request, detection).ok(), expected, "{request:?}");
        }
        let error = choose(Request::Kvm, &no).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(
            error.to_string(),
            "`--accel kvm`, but KVM cannot run a guest here: /dev/kvm opens, but the CPU has no vmx or svm flag: a guest would hang"
        );
        assert_eq!(examine(Request::Kvm, &no).state, State::Problem);
        assert_eq!(examine(Request::Auto, &no).state, State::Warning);
        assert_eq!(examine(Request::Tcg, &no).state, State::Ok);
    }

    #[test]
    fn a_device_is_tried_and_a_group_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(&folder.path().join("kvm")), Device::Missing);
        std::fs::write(folder.path().join("kvm"), "").unwrap();
        assert_eq!(open(&folder.path().join("kvm")), Device::Opens);
        assert!(matches!(open(folder.path()), Device::Fails(_)));
        assert_eq!(group_name("root:x:0:\nkvm:x:104:joe\nbroken\n", 104).as_deref(), Some("kvm"));
        assert_eq!(group_name("root:x:0:\n", 104), None);
    }

    #[test]
    fn requests_are_read_by_name() {
        assert_eq!("kvm".parse(), Ok(Request::Kvm));
        assert_eq!("KVM".parse::<Request>(), Err("`KVM` is not one of auto, kvm, tcg".to_owned()));
    }
}
