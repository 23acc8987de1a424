//! `--base auto` on a host whose processors seem to run guests: KVM cannot run on every machine that runs tests, and so
//! the program sees other files in their places, in a mount name space of its own.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{PASSWORD, keys, shared, tiny_project, told};

/// Runs its arguments where /proc/cpuinfo says vmx, and /dev/kvm opens. /dev is another folder with the same devices,
/// because nothing may be added to the real one.
const WITH_KVM: &str = r#"
set -eu
work=$1; shift
sed 's/^flags[[:space:]]*:/& vmx/' /proc/cpuinfo >"$work/cpuinfo"
mount --bind "$work/cpuinfo" /proc/cpuinfo
mkdir "$work/dev"
mount -t tmpfs -o mode=0755 dev "$work/dev"
for device in /dev/*; do
  here=$work$device
  if [ "$device" = /dev/kvm ]; then continue; fi
  if [ -L "$device" ]; then cp -a "$device" "$here"; continue; fi
  if [ -d "$device" ]; then mkdir "$here"; else : >"$here"; fi
  mount --rbind "$device" "$here"
done
: >"$work/dev/kvm"
mount --move "$work/dev" /dev
exec "$@"
"#;

/// The base disk's ways: one that is in the cache of the tests, and an installer that no archive has.
fn project(folder: &Path) {
    tiny_project(folder, "    - type: shell\n      inline: [\"true\"]");
    let manifest = folder.join("templates/tiny/manifest.yml");
    let installer = "    - type: installer\n      package: no-such-installer\n      suite: \"{{ suite }}\"\n      \
                     kernel: /linux\n      initrd: /initrd.gz\n";
    let text = fs::read_to_string(&manifest).unwrap();
    let both = text.replace("  provisioners:\n", &format!("{installer}  provisioners:\n"));
    assert_ne!(text, both);
    fs::write(&manifest, both).unwrap();
}

#[test]
fn nspawn_auto_prefers_the_installer_with_kvm_and_bootstraps_where_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("project");
    fs::create_dir(&root).unwrap();
    project(&root);
    let (_, public) = keys(&shared());
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", WITH_KVM, "with-kvm"]).arg(folder.path());
    command.arg(env!("CARGO_BIN_EXE_visabuild")).args(["build", "--engine", "nspawn", "--no-verify", "-C"]).arg(&root);
    command.arg("-pp").arg(public).args(["-rp", PASSWORD]).env("XDG_CACHE_HOME", shared().join("cache"));
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("base disk: installer: KVM works here"), "{err}");
    let reason = err.lines().find(|line| line.contains("base disk: bootstrap: ")).unwrap_or_else(|| panic!("{err}"));
    assert!(reason.contains("no-such-installer"), "{reason}");
    let manifest = fs::read(root.join("builds/tiny/tiny.manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["host"]["base"].as_str().unwrap().starts_with("bootstrap: "), "{manifest:#}");
}
