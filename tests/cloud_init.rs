//! Autoinstall and kickstart as far as guests are to be had for them: cloud-init itself, in a guest of Debian, is told of
//! its answers in each way that Ubuntu's installer is (kernel command line, SMBIOS, a volume), and gets those of the
//! shipped example. Ubuntu's installer reads them from where they are looked for here, and was not run; nor was Anaconda,
//! whose requests are made as it makes them, and whose volume is read.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Access, images, in_image, repository, shared, told, visabuild};

/// What a guest does when cloud-init is through: compares what cloud-init made of its answers, and says so.
///
/// `/run/cloud-init/combined-cloud-config.json` is where Ubuntu's installer gets its part of the user data from
/// (subiquity, `load_cloud_config`).
const CHECK: &str = r#"
import json, re, subprocess, sys, yaml
answers = yaml.safe_load(open(sys.argv[1]))
combined = json.load(open('/run/cloud-init/combined-cloud-config.json'))
said = subprocess.run(['cloud-init', 'query', 'userdata'], capture_output=True, text=True).stdout
schema = subprocess.run(['cloud-init', 'schema', '--config-file', sys.argv[1]], capture_output=True, text=True)
print('TEST autoinstall', combined['autoinstall'] == answers['autoinstall'] == yaml.safe_load(said)['autoinstall'])
print('TEST hash', combined['autoinstall']['late-commands'][0][5].startswith('$6$'))
print('TEST schema', schema.returncode, 'Valid schema' in schema.stdout)
if schema.returncode:
    print(schema.stdout, schema.stderr)
status = json.load(open('/run/cloud-init/status.json'))['v1']
print('TEST source', re.sub('http://10.0.2.2:[0-9]+', 'URL', status['datasource']))
print('TEST vendor', combined.get('vendor_data_came'))
print('TEST errors', sum((stage['errors'] for stage in status.values() if isinstance(stage, dict)), []))
"#;

/// A guest of Debian with cloud-init, booted by its own kernel as an installer is, with the answers of the example.
struct Guest {
    folder: tempfile::TempDir,
    cmdline: &'static str,
    /// Further lines of the builder.
    builder: String,
    /// What is run in the guest when cloud-init is through, beside the comparison.
    script: String,
    /// Where the user data are, in the template's folder.
    user_data: &'static str,
}

impl Guest {
    fn new(cmdline: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix("vb").tempdir().unwrap();
        let source = repository().join("examples/ubuntu-autoinstall");
        let mut copy = Command::new("cp");
        assert!(copy.arg("-a").arg(source.join(".")).arg(folder.path()).status().unwrap().success());
        let guest =
            Self { folder, cmdline, builder: String::new(), script: String::new(), user_data: "http/user-data" };
        // The other example's answers are served, too.
        let other = repository().join("examples/rocky-kickstart/templates/rocky-base");
        fs::copy(other.join("http/ks.cfg"), guest.http().join("ks.cfg")).unwrap();
        let variables = fs::read_to_string(other.join("environment.yml")).unwrap();
        let mirror = variables.lines().find(|line| line.contains("rocky_mirror:")).unwrap();
        let environment = guest.template().join("environment.yml");
        fs::write(&environment, fs::read_to_string(&environment).unwrap() + mirror + "\n").unwrap();
        guest
    }

    fn template(&self) -> PathBuf {
        self.folder.path().join("templates/ubuntu-base")
    }

    fn http(&self) -> PathBuf {
        self.template().join("http")
    }

    /// Boots it: paths that it asked for with the answers' status, and what it said on its serial console.
    fn run(&self) -> (Vec<(String, u64)>, Vec<String>) {
        self.add_script();
        let disk = self.folder.path().join("guest.qcow2");
        let image = images().join("system-base/system-base.qcow2");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&image).arg(&disk);
        assert!(create.status().unwrap().success());
        let copy = format!("cp vmlinuz {0}/kernel; cp initrd.img {0}/initrd", self.folder.path().display());
        in_image(&image, Access::Read, &copy);
        self.write_manifest(&disk);
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", shared().join("cache")).args([
            "build",
            "--json",
            "--no-verify",
            "--accel",
            "tcg",
        ]);
        // A secret that is well known: what the guest says of it would be redacted otherwise.
        command.args(["-rp", "correct horse"]).arg("-C").arg(self.folder.path());
        let (out, err, code) = told(&command.output().unwrap());
        assert_eq!(code, 4, "{err}");
        let log = fs::read_to_string(self.folder.path().join("builds/ubuntu-base/failure/serial.log")).unwrap();
        assert!(err.contains("the installer ended without having installed anything onto the disk"), "{err}\n{log}");
        let events = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let requests = events.filter(|event| event["event"] == "request");
        let requests = requests.map(|event| {
            let agent = event["user_agent"].as_str().unwrap_or_default().split(['/', ' ']).next().unwrap();
            let call = [event["method"].as_str().unwrap(), event["path"].as_str().unwrap(), agent].join(" ");
            (call, event["status"].as_u64().unwrap())
        });
        let said = log.lines().filter_map(|line| Some(line.trim().strip_prefix("TEST ")?.to_owned()));
        let said: Vec<_> = said.collect();
        assert_eq!(said.last().map(String::as_str), Some("end"), "{log}");
        (requests.collect(), said)
    }

    /// Appends to the example's user data what is run in this guest, and would be in the live system of an installer.
    fn add_script(&self) {
        let user_data = self.template().join(self.user_data);
        let script = format!(
            "#!/bin/bash\nexec >/dev/ttyS0 2>&1\nset -x\n\
             cloud-init query userdata >/run/user-data\npython3 /root/check.py /run/user-data\n{}\n\
             echo 'TEST end'\nsync\necho o >/proc/sysrq-trigger\n",
            self.script
        );
        let file = |path: &str, text: &str| {
            let text = text.trim_start().replace('\n', "\n      ");
            format!("  - path: {path}\n    permissions: '0755'\n    content: |\n      {text}\n")
        };
        let files = file("/root/check.py", CHECK) + &file("/root/test.sh", &script);
        let more = format!("{{% raw %}}write_files:\n{files}{{% endraw %}}\nruncmd:\n  - [/root/test.sh]\n");
        fs::write(&user_data, fs::read_to_string(&user_data).unwrap() + &more).unwrap();
    }

    /// The example's builder without its medium and what is typed there: kernel and disk of the guest instead.
    fn write_manifest(&self, disk: &Path) {
        let folder = self.folder.path().display();
        let manifest = format!(
            "packer:\n  builders:\n    - type: qemu\n      kernel: {folder}/kernel\n      kernel_checksum: none\n      \
             initrd: {folder}/initrd\n      initrd_checksum: none\n      \
             cmdline: \"root=LABEL=root ro console=ttyS0,115200 \
             systemd.mask=serial-getty@ttyS0.service {}\"\n      http_directory: http\n      \
             disk_size: 1G\n      memory: 1024\n      install_timeout: 15m\n      idle_timeout: 3m\n      qemuargs:\n        \
             - [\"-drive\", \"file={},format=qcow2,if=virtio,cache=unsafe\"]\n{}",
            self.cmdline,
            disk.display(),
            self.builder
        );
        fs::write(self.template().join("manifest.yml"), manifest).unwrap();
    }
}

/// Requests of cloud-init below `folder` with what was answered, and one of curl.
fn calls(folder: &str, answers: [u64; 4], curl: Option<&str>) -> Vec<(String, u64)> {
    let names = ["network-config", "meta-data", "user-data", "vendor-data"];
    let seed = names.iter().zip(answers).map(|(name, status)| (format!("GET {folder}{name} Cloud-Init"), status));
    seed.chain(curl.map(|path| (format!("GET {path} curl"), 200))).collect()
}

/// What every guest has to say.
fn expected(source: &str, vendor: &str, more: &[&str]) -> Vec<String> {
    let source = format!("source {source}");
    let vendor = format!("vendor {vendor}");
    let first = ["autoinstall True", "hash True", "schema 0 True", &source, &vendor, "errors []"];
    first.into_iter().chain(more.iter().copied()).chain(["end"]).map(str::to_owned).collect()
}

/// What Anaconda sends beside its requests (its documentation, "inst.ks.sendmac", and dracut's module), and what it looks
/// for on a volume.
const KICKSTART: &str = r#"
device=$(blkid -L OEMDRV)
echo "TEST volume $(blkid -o value -s TYPE "$device")"
mount -o ro "$device" /mnt
curl -sS -H 'X-Anaconda-Architecture: x86_64' -H 'X-Anaconda-System-Release: Rocky Linux' \
  -H "X-RHN-Provisioning-MAC-0: $(cd /sys/class/net; ls -d en*) $(cat /sys/class/net/en*/address)" \
  -o /run/ks.cfg http://{{ .HTTPIP }}:{{ .HTTPPort }}/ks.cfg
# Each has a salt of its own.
hashes=$(cat /run/ks.cfg /mnt/ks.cfg | grep -c '^rootpw --iscrypted [$]6[$]')
cmp <(grep -v ^rootpw /run/ks.cfg) <(grep -v ^rootpw /mnt/ks.cfg) && echo "TEST kickstart $hashes"
echo "TEST name $(cat '/mnt/Sub Folder/A Rather Long Name.with.dots')"
"#;

#[test]
fn full_qemu_cloud_init_is_told_of_its_answers_on_the_command_line() {
    let mut guest = Guest::new("ds=nocloud;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/");
    guest.builder =
        "      cd_files: [http/ks.cfg]\n      cd_content: {\"Sub Folder/A Rather Long Name.with.dots\": found}\n      \
                     cd_label: OEMDRV\n"
            .to_owned();
    guest.script = KICKSTART.to_owned();
    let (requests, said) = guest.run();
    assert_eq!(
        said,
        expected("DataSourceNoCloudNet [seed=cmdline,URL/]", "None", &["volume iso9660", "kickstart 2", "name found"])
    );
    assert_eq!(requests, calls("/", [200, 200, 200, 200], Some("/ks.cfg")));
}

#[test]
fn qemu_cloud_init_is_told_of_its_answers_by_the_serial_number() {
    let mut guest = Guest::new("");
    fs::create_dir(guest.http().join("seed")).unwrap();
    for name in ["user-data", "meta-data"] {
        fs::rename(guest.http().join(name), guest.http().join("seed").join(name)).unwrap();
    }
    fs::write(guest.http().join("seed/vendor-data"), "#cloud-config\nvendor_data_came: true\n").unwrap();
    guest.user_data = "http/seed/user-data";
    guest.builder =
        "        - [\"-smbios\", \"type=1,serial=ds=nocloud;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/seed/\"]\n"
            .to_owned();
    let (requests, said) = guest.run();
    assert_eq!(said, expected("DataSourceNoCloudNet [seed=dmi,URL/seed/]", "True", &[]));
    // What is not there it asks for again and again, and does without.
    let mut requests = requests;
    requests.dedup();
    assert_eq!(requests, calls("/seed/", [404, 200, 200, 200], None));
}

#[test]
fn full_qemu_cloud_init_finds_its_answers_on_a_cd() {
    let mut guest = Guest::new("");
    guest.builder = "      cd_files: [http/user-data, http/meta-data]\n      cd_label: cidata\n".to_owned();
    let (requests, said) = guest.run();
    assert_eq!(said, expected("DataSourceNoCloud [seed=/dev/sr0]", "None", &[]));
    assert_eq!(requests, []);
}
