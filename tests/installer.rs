//! debian-installer's own kernel, started by visabuild in three ways: directly, with the answers named on its command
//! line, and from ISOs at whose menu (isolinux with BIOS, GRUB with UEFI) the same is typed over VNC. All fetch their answers from
//! the built-in web server, and tell it their command line. Downloads some 60 MB from the host's own mirror, once.
#![allow(clippy::unwrap_used)]

#[path = "support/installer_cd.rs"]
mod installer_cd;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use installer_cd::{boot_cd, cd_tree, netboot};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{Access, images, in_image, shared, told, visabuild};
use visabuild::answers::volume::VolumeFiles;
use visabuild::answers::{Content, fat};

/// What the installer needs on its command line to come as far as its answers without a question.
const ARGUMENTS: &str = "auto=true priority=critical DEBIAN_FRONTEND=text TERM=dumb locale=C keymap=us \
                         interface=auto hostname=typed domain= \
                         url=http://{{ .HTTPIP }}:{{ .HTTPPort }}/preseed.cfg";

/// Answers that tell the server what the kernel was given, and switch the machine off.
const PRESEED: &str = "d-i preseed/early_command string \
    wget -q -O /dev/null \"http://{{ .HTTPIP }}:{{ .HTTPPort }}/said?$(tr ' ' + </proc/cmdline)\"; \
    echo o >/proc/sysrq-trigger; sleep 60\n";

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// A project of one template with this builder.
    fn new(builder: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("templates/installed");
        fs::create_dir_all(template.join("http")).unwrap();
        fs::write(folder.path().join("config.yml"), "templates:\n  installed:\n").unwrap();
        fs::write(template.join("environment.yml"), "environment:\n  suite: trixie\n").unwrap();
        fs::write(template.join("http/preseed.cfg"), PRESEED).unwrap();
        let manifest = format!("packer:\n  builders:\n    - {}\n", builder.trim().replace('\n', "\n      "));
        fs::write(template.join("manifest.yml"), manifest).unwrap();
        Self { folder }
    }

    /// Runs `build --json` under emulation: its events, standard error and exit code.
    fn build(&self) -> (Vec<Value>, String, i32) {
        self.build_with(&["--accel", "tcg"])
    }

    fn build_with(&self, more: &[&str]) -> (Vec<Value>, String, i32) {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", shared().join("cache"));
        command.args(["build", "--json", "--no-verify", "--lock-root", "-C"]).arg(self.folder.path()).args(more);
        let (out, err, code) = told(&command.output().unwrap());
        (out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), err, code)
    }

    fn failure(&self) -> PathBuf {
        self.folder.path().join("builds/installed/failure")
    }
}

/// Paths that the guest asked for, in their order.
fn requests(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|event| event["event"] == "request").filter_map(|event| event["path"].as_str()).collect()
}

/// The guest has fetched its answers, and its kernel was given the arguments; returns these and what the build told.
fn fetched_its_answers(project: &Project) -> (String, Vec<Value>) {
    let (events, err, code) = project.build();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("the installer ended without having installed anything onto the disk"), "{err}");
    let requests = requests(&events);
    assert_eq!(requests.first(), Some(&"/preseed.cfg"), "{err}");
    let said = requests.iter().find(|path| path.starts_with("/said?")).expect("the preseed's command ran");
    assert!(said.contains("auto=true+priority=critical") && said.contains("+hostname=typed+"), "{said}");
    assert!(said.contains("+url=http://10.0.2.2:"), "{said}");
    let failure: Value = serde_json::from_slice(&fs::read(project.failure().join("failure.json")).unwrap()).unwrap();
    assert_eq!(failure["class"], "installation-failed", "{failure:#}");
    ((*said).to_owned(), events)
}

#[test]
fn qemu_the_installers_kernel_is_given_its_answers_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, initrd) = netboot(folder.path());
    let builder = format!(
        "type: installer\nkernel: {}\nkernel_checksum: none\ninitrd: {}\ninitrd_checksum: none\ncmdline: \"{ARGUMENTS} console=ttyS0\"\nhttp_directory: http\nmemory: 1024\n\
         disk_size: 4G\ninstall_timeout: 15m",
        kernel.display(),
        initrd.display()
    );
    fetched_its_answers(&Project::new(&builder));
}

#[test]
fn qemu_the_installer_on_a_cd_is_typed_its_answers_at_the_boot_menu() {
    let folder = tempfile::tempdir().unwrap();
    let iso = boot_cd(folder.path());
    let builder = format!(
        "type: qemu\niso_url: {}\niso_checksum: none\nboot_wait: 0s\n\
         boot_command: [\"<waitForScreen stable 1s 2m><tab> {ARGUMENTS}<enter>\"]\n\
         http_directory: http\nmemory: 1024\ndisk_size: 4G\ninstall_timeout: 15m",
        iso.display()
    );
    let (_, events) = fetched_its_answers(&Project::new(&builder));
    let told = events.iter().filter_map(|event| event["text"].as_str()).find(|text| text.contains("boot command:"));
    assert!(told.is_some_and(|text| text.ends_with("lines read back: 1")), "{told:?}");
}

#[test]
fn full_qemu_the_installer_on_a_cd_is_typed_its_answers_at_grub_under_uefi() {
    let folder = tempfile::tempdir().unwrap();
    let iso = uefi_cd(folder.path());
    let builder = format!(
        "type: qemu\niso_url: {}\niso_checksum: none\nefi_boot: true\nboot_wait: 0s\nboot_command:\n\
         - <waitForScreen text \"GNU GRUB\" 3m>c<waitForScreen stable 1s 30s>\n\
         - 'linux /linux {ARGUMENTS} \"words=one;two\"<enter>'\n\
         - <waitForScreen stable 1s 1m>initrd /initrd.gz<enter>\n\
         - <waitForScreen stable 2s 2m>boot<enter>\n\
         http_directory: http\nmemory: 1024\ndisk_size: 4G\ninstall_timeout: 15m",
        iso.display()
    );
    let (said, _) = fetched_its_answers(&Project::new(&builder));
    assert!(said.contains("+words=one;two"), "{said}");
}

#[test]
fn nspawn_a_ready_disk_image_is_a_first_disk() {
    let image = images().join("system-base/system-base.qcow2");
    let bytes = fs::read(&image).unwrap();
    let sha256 = visabuild::checksum::hex(&Sha256::digest(&bytes));
    let other = image.with_file_name("missing.qcow2");
    let builder = |sha256: &str| {
        format!(
            "type: qemu\ndisk_image: true\niso_urls: [\"{}\", \"{}\"]\niso_checksum: sha256:{sha256}\ndisk_size: 12G",
            other.display(),
            image.display()
        )
    };
    let project = Project::new(&builder(&sha256));
    let manifest = project.folder.path().join("templates/installed/manifest.yml");
    let steps = "  provisioners:\n    - type: shell\n      inline: [\"echo here >/etc/a-step\"]\n";
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + steps).unwrap();
    let (_, err, code) = project.build_with(&["--engine", "nspawn"]);
    assert_eq!(code, 0, "{err}");
    let built = project.folder.path().join("builds/installed/installed.qcow2");
    assert_eq!(in_image(&built, Access::Read, "cat etc/a-step"), "here\n");
    let facts = fs::read_to_string(built.with_extension("manifest.json")).unwrap();
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["image"]["virtual_size"], 12_u64 << 30, "{facts:#}");

    let project = Project::new(&builder(&"0".repeat(64)));
    let (_, err, code) = project.build_with(&["--engine", "nspawn"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("is another file"), "{err}");
}

/// A CD with the installer that UEFI boots: GRUB, whose menu is left for its command line by `c`.
fn uefi_cd(folder: &Path) -> PathBuf {
    let (tree, iso) = (cd_tree(folder), folder.join("installer.iso"));
    fs::create_dir_all(tree.join("boot/grub")).unwrap();
    fs::write(tree.join("boot/grub/grub.cfg"), "set timeout=30\nmenuentry Install { linux /linux }\n").unwrap();
    let (program, early) = (folder.join("BOOTX64.EFI"), folder.join("early.cfg"));
    fs::write(&early, "search --no-floppy --file --set=root /initrd.gz\nset prefix=($root)/boot/grub\n").unwrap();
    let mut image = Command::new("grub-mkimage");
    image.args(["-O", "x86_64-efi", "-p", "/boot/grub", "-c"]).arg(&early).arg("-o").arg(&program);
    image.args(["iso9660", "fat", "part_gpt", "search", "search_fs_file", "configfile", "normal", "linux", "boot"]);
    let modules = Path::new("/usr/lib/grub/x86_64-efi");
    assert!(modules.is_dir(), "grub-efi-amd64-bin is not installed");
    assert!(image.args(["all_video", "gfxterm", "efi_gop", "echo", "test"]).status().unwrap().success());
    let content = std::collections::BTreeMap::from([("EFI/BOOT/BOOTX64.EFI".to_owned(), Content::File(program))]);
    fat::write_volume(&tree.join("efi.img"), "ESP", &VolumeFiles::new(content).unwrap()).unwrap();
    let mut make = Command::new("xorriso");
    make.args(["-as", "mkisofs", "-quiet", "-r", "-e", "efi.img", "-no-emul-boot", "-o"]).args([&iso, &tree]);
    assert!(make.status().unwrap().success());
    iso
}
