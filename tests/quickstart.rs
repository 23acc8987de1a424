//! `scripts/quickstart` against a made-up system: its own root folder, its own programs, no network.

#![allow(clippy::unwrap_used, reason = "what sets a test up may panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const BOOKWORM: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";
const BACKPORTS: &str = "etc/apt/sources.list.d/visabuild-backports.sources";

/// What the scripts call beside the package client and the programs that a build needs.
const ORDINARY: [&str; 21] = [
    "awk", "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "find", "grep", "head", "kill", "mkdir", "mktemp",
    "rm", "sed", "sh", "sleep", "sort", "tail", "tee",
];

/// APT as the scripts use it: it "installs" programs into `bin` and writes down what it did in `log`.
const APT_GET: &str = r#"
simulate=no suite= action= packages=
while [ $# -gt 0 ]; do
  case $1 in
    -o|--format) shift ;;
    -s) simulate=yes ;;
    -t) suite=$2; shift ;;
    -*) ;;
    update|install|indextargets) action=$1 ;;
    *) packages="$packages $1" ;;
  esac
  shift
done
if [ "$action" = indextargets ]; then
  echo "http://mirror.example/debian/|bookworm|bookworm|main|$SYSTEM_ROOT/etc/apt/sources.list.d/host.sources:1"
  if [ -e "$SYSTEM_ROOT/etc/apt/sources.list.d/visabuild-backports.sources" ]; then
    echo "http://mirror.example/debian/|bookworm-backports|bookworm-backports|main|x:1"
  fi
fi
for package in $packages; do
  version=1.0
  case $package in qemu-*) version=1:$(cat "$SYSTEM_ROOT/candidate${suite:+-backports}") ;; esac
  if [ "$action" = install ] && [ $simulate = yes ]; then
    echo "Inst $package ($version Debian [amd64])"
  elif [ "$action" = install ]; then
    echo "$package $version${suite:+ $suite}" >> "$SYSTEM_ROOT/log"
    program=$package
    case $package in
      qemu-system-x86) program=qemu-system-x86_64 ;;
      qemu-utils) program=qemu-img ;;
      gcc) program=cc ;;
    esac
    printf '#!/bin/sh\necho "QEMU emulator version %s (Debian)"\n' "${version#1:}" > "$SYSTEM_ROOT/bin/$program"
    chmod +x "$SYSTEM_ROOT/bin/$program"
  fi
done
"#;

const APT_CACHE: &str = r#"printf 'x:\n  Candidate: 1:%s\n' "$(cat "$SYSTEM_ROOT/candidate")""#;

/// "Builds" the visabuild that lies in the system's root.
const CARGO: &str = r#"
case $1 in
  --version) echo "cargo 1.999.0" ;;
  metadata) echo "{\"target_directory\":\"$SYSTEM_ROOT/target\"}" ;;
  build) mkdir -p "$SYSTEM_ROOT/target/release"; cp "$SYSTEM_ROOT/visabuild" "$SYSTEM_ROOT/target/release/visabuild" ;;
esac
"#;

/// A visabuild that says what it was given; exit code 4 shows that it ran.
const VISABUILD: &str = "echo \"arguments: $*\"; echo \"password: ${VISA_ROOT_PASSWORD-}\"; exit 4";

struct System {
    root: TempDir,
}

impl System {
    /// A system without KVM where everything is installed but the programs `without`.
    fn new(os_release: &str, qemu: &str, without: &[&str]) -> Self {
        let system = Self { root: tempfile::tempdir().unwrap() };
        for folder in
            ["bin", "etc/apt/sources.list.d", "proc", "dev", "usr/include", "usr/share/keyrings", "usr/share/OVMF"]
        {
            std::fs::create_dir_all(system.path(folder)).unwrap();
        }
        system.write("etc/os-release", os_release);
        system.write("etc/apt/sources.list.d/host.sources", "Types: deb\nSigned-By: /usr/share/keyrings/site.gpg\n");
        system.write("proc/cpuinfo", "flags\t\t: fpu sse2\n");
        system.write("candidate", "7.2.22");
        system.write("candidate-backports", "10.0.2");
        system.write("usr/include/stdio.h", "");
        system.write("usr/share/keyrings/debian-archive-keyring.gpg", "");
        for program in ORDINARY {
            std::os::unix::fs::symlink(which(program), system.path("bin").join(program)).unwrap();
        }
        for (program, script) in
            [("apt-get", APT_GET), ("apt-cache", APT_CACHE), ("cargo", CARGO), ("sudo", "exec \"$@\"")]
        {
            system.program(program, script);
        }
        for program in ["qemu-img", "mmdebstrap", "mke2fs", "gpgv", "update-ca-certificates", "cc", "newuidmap"] {
            system.program(program, "exit 0");
        }
        system.program("qemu-system-x86_64", &format!("echo 'QEMU emulator version {qemu} (Debian)'"));
        for program in without {
            std::fs::remove_file(system.path("bin").join(program)).unwrap();
        }
        system.executable("visabuild", VISABUILD);
        system
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        self.executable(&format!("bin/{name}"), script);
    }

    fn executable(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn allow_kvm(&self) {
        self.write("dev/kvm", "");
        self.write("proc/cpuinfo", "flags\t\t: fpu vmx sse2\n");
    }

    fn quickstart(&self, arguments: &[&str]) -> Outcome {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/quickstart");
        let output = Command::new(script)
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.root.path())
            .env("SYSTEM_ROOT", self.root.path())
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Outcome::new(&output)
    }

    /// Runs it with a key and a password.
    fn build(&self, arguments: &[&str]) -> Outcome {
        self.quickstart(&[&["-pp", "key.pub", "-rp", "se cret"], arguments].concat())
    }

    /// The packages installed, with version and suite, in order.
    fn installed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn assert_ran(&self) {
        assert_eq!(self.code, Some(4), "{self:?}");
    }

    fn assert_stopped(&self, code: i32, reason: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(reason), "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.exists()).unwrap()
}

#[test]
fn help_tells_the_options_and_changes_nothing() {
    let system = System::new(BOOKWORM, "7.2.22", &[]);
    let outcome = system.quickstart(&["--help"]);
    assert_eq!(outcome.code, Some(0));
    for option in ["-pp", "-rp", "--yes", "--no-install"] {
        assert!(outcome.stdout.contains(option), "{}", outcome.stdout);
    }
    assert!(system.installed().is_empty());
}

#[test]
fn key_password_and_values_are_asked_for_before_anything_starts() {
    let system = System::new(BOOKWORM, "10.0.2", &["gpgv"]);
    system.quickstart(&["-rp", "x"]).assert_stopped(2, "-pp/--pam-public KEY or VISA_PAM_PUBLIC_KEY");
    system.quickstart(&["-pp", "key.pub"]).assert_stopped(2, "-rp/--root-password PW or VISA_ROOT_PASSWORD");
    system.quickstart(&["-pp"]).assert_stopped(2, "-pp needs a value");
    assert!(system.installed().is_empty());
    System::new(BOOKWORM, "10.0.2", &[]).quickstart(&["-pp", "key.pub", "--lock-root"]).assert_ran();
}

#[test]
fn visabuild_gets_its_options_the_password_apart_and_its_exit_code_is_passed_on() {
    let system = System::new(BOOKWORM, "10.0.2", &[]);
    let outcome = system.build(&["--output", "out", "--ca-cert=/etc/ca.crt", "visa-apps"]);
    outcome.assert_ran();
    let here = system.root.path().display();
    let arguments = format!("-pp {here}/key.pub --output {here}/out --ca-cert /etc/ca.crt visa-apps");
    assert_eq!(outcome.stdout, format!("arguments: {arguments}\npassword: se cret\n"));
    let times = outcome.stderr.lines().last().unwrap();
    let mut words = times.split([' ', ',']).filter(|word| !word.is_empty() && !word.starts_with(char::is_numeric));
    assert!(words.by_ref().eq(["quickstart:", "install", "s", "build", "s", "run", "s"]), "{times}");
    assert!(!outcome.stderr.contains("se cret"));
}

#[test]
fn what_is_missing_is_listed_with_versions_and_with_no_install_nothing_is_changed() {
    let system = System::new(BOOKWORM, "10.0.2", &["gpgv", "mmdebstrap"]);
    let outcome = system.build(&["--no-install"]);
    outcome.assert_stopped(3, "  packages\n      mmdebstrap 1.0\n      gpgv 1.0\n");
    assert!(!outcome.stderr.contains("qemu"), "{}", outcome.stderr);
    assert!(system.installed().is_empty());
    assert!(!system.path(BACKPORTS).exists());
    System::new(BOOKWORM, "10.0.2", &[]).build(&["--no-install"]).assert_ran();
}

#[test]
fn without_a_terminal_what_is_missing_is_installed_unasked() {
    let system = System::new(BOOKWORM, "10.0.2", &["gpgv", "cc"]);
    system.build(&[]).assert_ran();
    assert_eq!(system.installed(), ["gpgv 1.0", "gcc 1.0"]);
}

#[test]
fn a_bad_qemu_without_kvm_is_replaced_once_from_the_hosts_own_archive() {
    let system = System::new(BOOKWORM, "7.2.22", &["gpgv"]);
    system.build(&["--yes"]).assert_ran();
    let expected =
        ["qemu-system-x86 1:10.0.2 bookworm-backports", "qemu-utils 1:10.0.2 bookworm-backports", "gpgv 1.0"];
    assert_eq!(system.installed(), expected);
    let sources = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm-backports\nComponents: main\n\
                   Signed-By: /usr/share/keyrings/site.gpg\n";
    assert_eq!(std::fs::read_to_string(system.path(BACKPORTS)).unwrap(), sources);

    system.build(&["--yes"]).assert_ran();
    assert_eq!(system.installed(), expected, "the second run has nothing to do");
    // The suite is known by now: QEMU is replaced without another sources file.
    system.program("qemu-system-x86_64", "echo 'QEMU emulator version 7.2.22 (Debian)'");
    let outcome = system.build(&["--yes"]);
    outcome.assert_ran();
    assert!(!outcome.stderr.contains("new file"), "{}", outcome.stderr);
    assert_eq!(system.installed().len(), 5);
    assert_eq!(std::fs::read_to_string(system.path(BACKPORTS)).unwrap(), sources);
}

#[test]
fn a_missing_qemu_comes_from_backports_where_the_hosts_own_is_bad() {
    let system = System::new(BOOKWORM, "", &["qemu-system-x86_64", "qemu-img"]);
    let outcome = system.build(&["--no-install"]);
    outcome.assert_stopped(3, "  packages from bookworm-backports");
    assert!(outcome.stderr.contains("      Suites: bookworm-backports\n"), "{}", outcome.stderr);
    system.write("candidate", "10.0.2");
    system.build(&[]).assert_ran();
    assert_eq!(system.installed(), ["qemu-system-x86 1:10.0.2", "qemu-utils 1:10.0.2"]);
    assert!(!system.path(BACKPORTS).exists());
}

#[test]
fn qemu_is_left_alone_where_it_is_good_or_kvm_works() {
    let good = System::new(BOOKWORM, "10.0.2", &["gpgv"]);
    good.build(&[]).assert_ran();
    assert_eq!(good.installed(), ["gpgv 1.0"]);

    let kvm = System::new(BOOKWORM, "7.2.22", &[]);
    kvm.allow_kvm();
    kvm.build(&[]).assert_ran();
    assert!(kvm.installed().is_empty());
    kvm.build(&["--accel", "tcg", "--no-install"])
        .assert_stopped(3, "because QEMU before 8 crashes guests without KVM");

    // A device that opens is not enough.
    kvm.write("proc/cpuinfo", "flags\t\t: fpu svm_lock\n");
    kvm.build(&["--no-install"]).assert_stopped(3, "qemu-system-x86 1:10.0.2");
}

#[test]
fn no_newer_qemu_is_the_end() {
    let system = System::new(BOOKWORM, "7.2.22", &[]);
    system.write("candidate-backports", "7.2.22");
    system.build(&["--yes"]).assert_stopped(3, "bookworm-backports has no newer one");
    assert!(system.installed().is_empty());
}

#[test]
fn elsewhere_what_is_missing_is_only_named() {
    let system = System::new("ID=fedora\n", "10.0.2", &["gpgv", "mmdebstrap"]);
    let reason = "neither Debian nor a child of it; install what Debian calls:\nquickstart: mmdebstrap gpgv\n";
    system.build(&["--yes"]).assert_stopped(3, reason);
    System::new("ID=fedora\n", "7.2.22", &[]).build(&["--yes"]).assert_stopped(3, "QEMU 10 or newer");
    System::new("ID=fedora\n", "10.0.2", &[]).build(&["--yes"]).assert_ran();
}

#[test]
fn a_missing_or_old_cargo_is_told_before_anything_is_installed() {
    let system = System::new(BOOKWORM, "10.0.2", &["cargo", "gpgv"]);
    system.build(&["--yes"]).assert_stopped(3, "there is no cargo: install Rust 1.91 or newer");
    system.program("cargo", "echo 'cargo 1.63.0'");
    system.build(&["--yes"]).assert_stopped(3, "cargo is 1.63.0, Rust 1.91 or newer is needed");
    assert!(system.installed().is_empty());
}

#[test]
fn sigterm_to_the_script_reaches_visabuild() {
    let system = System::new(BOOKWORM, "10.0.2", &[]);
    let script = "trap 'echo terminated; exit 143' TERM\nkill -TERM $PPID\nwhile :; do sleep 0.02; done";
    system.executable("visabuild", script);
    let outcome = system.build(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(143), "terminated\n"), "{outcome:?}");
}
