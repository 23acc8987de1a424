//! The shipped chain, built once for all end-to-end tests: what its images, layers and manifests hold.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::{PASSWORD, images, keys, shared};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use visabuild::event::Events;
use visabuild::guest::{Attempts, Endpoint, Guest, HostKey, Key, Outcome};
use visabuild::machine::{Accelerator, Config, Firmware, PowerOff, Running, Seed, Start, size_to_host, write_seed};

fn image(template: &str) -> PathBuf {
    images().join(template).join(format!("{template}.qcow2"))
}

/// A booted overlay of an image.
struct Instance {
    machine: Running,
    guest: Guest,
    cancel: CancellationToken,
    folder: TempDir,
}

impl Instance {
    /// Boots `image` from its own boot loader with a bigger disk and a NoCloud seed.
    async fn boot(image: &Path, firmware: Firmware, meta: Value) -> Self {
        let folder = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
        let cancel = CancellationToken::new();
        let disk = folder.path().join("disk.qcow2");
        visabuild::image::qemu_img::create_overlay(image, &disk, Some(16 << 30), &cancel).await.unwrap();
        let key = Key::generate().unwrap();
        let seed = folder.path().join("seed.img");
        let meta_data = match json!({ "meta": meta, "local-hostname": "instance" }) {
            Value::Object(map) => map,
            _ => unreachable!(),
        };
        let instance_id = "i-1234".to_owned();
        // As a platform's administrators would: a key for root, and nothing else changed.
        let key_line = json!([key.authorized_line()]);
        let user_data = format!("#cloud-config\ndisable_root: false\nssh_authorized_keys: {key_line}\n");
        write_seed(&seed, &Seed { instance_id, user_data, meta_data, network_config: None }).unwrap();
        let (cpus, _) = size_to_host(None, None);
        let config = Config {
            cpus,
            memory: 3072,
            seed: Some(seed),
            firmware,
            guest_ports: vec![22],
            unsafe_cache: true,
            ..Config::new("instance", Accelerator::Tcg, &disk)
        };
        let log = folder.path().join("serial.log");
        let start = Start {
            runtime: folder.path(),
            serial_log: &log,
            serial_raw: None,
            template: "instance",
            events: &Events::none(),
            cancel: &cancel,
        };
        let machine = Running::start(&config, start).await.unwrap();
        let endpoint = Endpoint {
            address: machine.forwarded(22).unwrap().into(),
            user: "root".into(),
            key,
            options: visabuild::guest::Options::default(),
            attempts: Attempts::default(),
            host_key: HostKey::default(),
            watch: machine.watch(),
            cancel: cancel.clone(),
        };
        let guest = Guest::connect(endpoint, Duration::from_secs(600)).await.unwrap();
        let mut instance = Self { machine, guest, cancel, folder };
        // SSH answers before the owner is made.
        let owner = "until systemctl --quiet is-active visa-owner.target; do sleep 1; done";
        instance.run(&format!("timeout 300 sh -c '{owner}'")).await;
        instance
    }

    /// Runs a command as root; returns its output.
    async fn run(&mut self, command: &str) -> String {
        let mut lines = Vec::new();
        let outcome =
            self.guest.exec(command, tokio::io::empty(), |_, line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(outcome, Outcome::Exit(0), "{command}: {lines:?}");
        lines.join("\n")
    }

    async fn power_off(mut self) {
        self.guest.power_off().await.unwrap();
        drop(self.guest);
        self.machine.shutdown(PowerOff::Guest, Duration::from_secs(300), &self.cancel).await.unwrap();
        drop(self.folder);
    }
}

fn manifest(template: &str) -> Value {
    let path = images().join(template).join(format!("{template}.manifest.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_a_sealed_image_boots_under_uefi_and_has_no_traces_of_the_build() {
    let image = image("visa-base");
    let folder = tempfile::tempdir().unwrap();
    let vars = folder.path().join("vars.fd");
    fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
    let uefi = Firmware::Uefi { code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(), vars, secure_boot: false };
    let mut instance = Instance::boot(&image, uefi, json!({ "owner": "a.b-c_1", "id": "7" })).await;
    assert!(instance.run("test -d /sys/firmware/efi && id a.b-c_1").await.contains("(a.b-c_1)"));
    // HYG-1: the password asked for, in yescrypt, and no way in with it but the console.
    let shadow = instance.run("getent shadow root | cut -d: -f2").await;
    assert!(shadow.starts_with("$y$"), "{shadow}");
    let sshd = instance.run("sshd -T | grep -E '^(passwordauthentication|permitrootlogin|kbdinteractive)'").await;
    assert!(sshd.contains("passwordauthentication no"), "{sshd}");
    assert!(
        sshd.contains("permitrootlogin without-password") || sshd.contains("permitrootlogin prohibit-password"),
        "{sshd}"
    );
    // The platform's key, and HYG-2.
    let (_, public) = keys(&shared());
    assert_eq!(instance.run("cat /etc/visa/public.pem").await, fs::read_to_string(public).unwrap().trim());
    assert_eq!(instance.run("stat -c '%U %a' /etc/visa/public.pem").await, "root 644");
    for gone in [
        "/usr/local/share/ca-certificates/visabuild",
        "/etc/apt/apt.conf.d/00visabuild",
        "/etc/dpkg/dpkg.cfg.d/visabuild",
        "/root/.bash_history",
    ] {
        instance.run(&format!("test ! -e {gone}")).await;
    }
    assert_eq!(instance.run("ls /var/lib/apt/lists | grep -c Packages || true").await, "0");
    assert_eq!(
        instance.run("dpkg-query -W -f '${Package}\\n' | grep -cE '^(gcc|gcc-14|libssl-dev|eatmydata|libeatmydata1)$' || true").await,
        "0"
    );
    assert_eq!(instance.run("systemctl --failed --no-legend --plain").await, "");
    // The bootstrap's stand-in for grub-probe answered as the real one does here.
    instance.run("cp /boot/grub/grub.cfg /tmp && update-grub && cmp /boot/grub/grub.cfg /tmp/grub.cfg").await;
    instance.power_off().await;
}

#[test]
fn qemu_layers_hold_no_password_hash_and_manifests_tell_the_whole_story() {
    images();
    let manifest = manifest("visa-apps");
    let layers: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["template"].clone()).collect();
    assert_eq!(layers, ["base", "system-base", "visa-base", "visa-apps"]);
    assert_eq!(manifest["host"]["engine"], "nspawn");
    assert_eq!(manifest["image"]["format"], "qcow2");
    assert_eq!(manifest["image"]["sha512"].as_str().unwrap().len(), 128);
    assert!(manifest["packages"]["xrdp"].is_string());
    assert!(!manifest["timings"].as_array().unwrap().is_empty());
    if manifest["inputs"]["alternatives"]["guacd_method"]["value"] == "debian" {
        assert_eq!(manifest["end_of_life"], true);
        assert!(manifest["warnings"][0].as_str().unwrap().contains("Debian 11"));
    }
    let text = manifest.to_string();
    assert!(!text.contains(PASSWORD) && !text.contains("$y$"), "a secret is in the manifest");

    // The password in no form, and no hash of one, anywhere in a layer.
    let cache = shared().join("cache/visabuild/layers");
    for layer in fs::read_dir(cache).unwrap().flatten().map(|entry| entry.path()) {
        if layer.extension().is_some_and(|extension| extension == "qcow2") {
            for needle in [PASSWORD, "root:$y$"] {
                let mut grep = std::process::Command::new("grep");
                let status = grep.args(["--quiet", "--text", "--fixed-strings", "--", needle]).arg(&layer).status();
                assert_eq!(status.unwrap().code(), Some(1), "{} holds `{needle}`", layer.display());
            }
        }
    }
}
