//! `visabuild verify` on the image of the shipped chain: what it keeps, what sabotage breaks, and what
//! comes of images that are none of ours.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::bench::kill;
use support::{Access, PASSWORD, Run, images, in_image, repository, shared, told, visabuild};
use tempfile::TempDir;

/// The image of visa-apps.
fn visa_apps() -> PathBuf {
    images().join("visa-apps/visa-apps.qcow2")
}

fn verify(image: &Path) -> Command {
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", shared().join("cache")).arg("verify").arg(image);
    command
}

/// Runs it with `--json`; returns the report, standard error and the exit code.
fn report(mut command: Command) -> (Value, String, i32) {
    let (out, err, code) = told(&command.arg("--json").output().unwrap());
    (serde_json::from_str(&out).unwrap_or_else(|_| panic!("no report: {out}\n{err}")), err, code)
}

/// The checks that came out like this.
fn outcome<'a>(report: &'a Value, outcome: &str) -> BTreeSet<&'a str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["outcome"] == outcome).map(|check| check["id"].as_str().unwrap()).collect()
}

/// An overlay of visa-apps that a bash script has changed; it runs in the root of its files.
struct Sabotaged {
    _folder: TempDir,
    image: PathBuf,
}

impl Sabotaged {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("sabotaged.qcow2");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(visa_apps()).arg(&image);
        assert!(create.status().unwrap().success());
        in_image(&image, Access::Write, script);
        Self { _folder: folder, image }
    }
}

/// Sabotage that shows in the files, each with the check that must catch it.
const IN_FILES: [(&str, &str); 17] = [
    ("GUAC-2", "sed -i 's/^bind_host.*/bind_host = localhost/' etc/guacamole/guacd.conf"),
    ("RDP-2", "sed -i 's/^security_layer=.*/security_layer=rdp/' etc/xrdp/xrdp.ini"),
    ("RDP-3", "sed -i 's/^require_credentials=.*/require_credentials=false/' etc/xrdp/xrdp.ini"),
    ("RDP-4", "sed -i 's/^AllowRootLogin=.*/AllowRootLogin=true/' etc/xrdp/sesman.ini"),
    (
        "PAM-11",
        "printf '@include common-auth\\n@include common-account\\n@include common-session\\n' >etc/pam.d/xrdp-sesman",
    ),
    ("PAM-12", "sed -i '1i auth sufficient pam_visa.so /etc/visa/public.pem' etc/pam.d/sshd"),
    ("NET-4", "printf 'network: {}\\n' >etc/netplan/50-cloud-init.yaml"),
    (
        "HYG-1b",
        "sed -i 's#^root:[^:]*#root:$y$j9T$0sbOYbcNaFYMJjQJj.1Hk.$1zMCaNl8.6sbNRTZCmJ5ExqSxJPnAyGL5ngkvqOqPuA#' etc/shadow",
    ),
    ("HYG-2", "echo 0123456789abcdef0123456789abcdef >etc/machine-id"),
    ("HYG-2", "ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key"),
    ("HYG-2", "mkdir -p root/.ssh; echo 'ssh-ed25519 AAAA build' >root/.ssh/authorized_keys"),
    ("HYG-2", "mkdir -p var/lib/cloud/instances/i-build"),
    ("HYG-5", "rm etc/visa-release"),
    ("HYG-8", "cp usr/bin/id usr/local/bin/shell; chmod 4755 usr/local/bin/shell"),
    ("HYG-8", "mkdir usr/local/share/open; chmod 0777 usr/local/share/open"),
    ("HYG-10", "echo 'chpasswd: root:console-Passw0rd' >var/log/build.log"),
    ("HYG-10", "printf %s console-Passw0rd | base64 >opt/visa/note; sync; rm opt/visa/note"),
];

/// Checks of the level static.
fn in_files() -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("src/verify/contracts/visa.yml")).unwrap();
    let contract: Value = serde_yaml::from_str(&text).unwrap();
    let checks = contract["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|check| check["level"] == "static");
    checks.map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

fn only(command: &mut Command, ids: impl IntoIterator<Item = impl AsRef<str>>) {
    command.arg("--only");
    for id in ids {
        command.arg(id.as_ref());
    }
}

#[test]
fn qemu_visa_apps_keeps_visas_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut command = verify(&visa_apps());
    command.args(["-rp", PASSWORD, "--html"]).arg(path("report.html")).arg("--junit").arg(path("junit.xml"));
    command.arg("--pictures").arg(path("pictures"));
    let (report, err, code) = report(command);
    let left = || (outcome(&report, "failed"), outcome(&report, "not_run"));
    assert_eq!(left(), (BTreeSet::new(), BTreeSet::new()), "{report:#}");
    assert_eq!(code, 0, "{err}");
    assert_eq!(report["verdict"], "passed");
    assert!(outcome(&report, "passed").len() > 80);
    assert_eq!(report["boots"].as_array().unwrap().len(), 4);
    // It stays, to be looked at.
    fs::copy(path("report.html"), shared().join("verification.html")).unwrap();
    assert!(fs::read_to_string(path("report.html")).unwrap().contains("data:image/png;base64,"));
    assert!(fs::read_to_string(path("junit.xml")).unwrap().contains("classname=\"visa.GUAC\""));
    let picture = fs::read(path("pictures/1.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    fs::write(shared().join("desktop.png"), picture).unwrap();
}

#[test]
fn qemu_sabotage_of_files_is_caught_by_the_checks_that_should() {
    let script: String = IN_FILES.iter().map(|(_, line)| format!("{line}\n")).collect();
    let sabotaged = Sabotaged::new(&script);
    let snapshot = Command::new("qemu-img").args(["snapshot", "-c", "build"]).arg(&sabotaged.image).status().unwrap();
    assert!(snapshot.success());
    let mut command = verify(&sabotaged.image);
    command.args(["-rp", PASSWORD, "--allow-backing"]);
    only(&mut command, in_files());
    let (report, err, code) = report(command);
    assert_eq!(code, 5, "{err}");
    // An overlay is not flat, and it has a snapshot now.
    let expected: BTreeSet<_> = IN_FILES.iter().map(|(id, _)| *id).chain(["HYG-4"]).collect();
    assert_eq!(outcome(&report, "failed"), expected, "{report:#}");
    assert_eq!(outcome(&report, "not_run"), BTreeSet::new());
    // Where to look, and never the secret itself.
    let text = report.to_string();
    assert!(text.contains("/var/log/build.log"), "{text}");
    assert!(!text.contains(PASSWORD) && !err.contains(PASSWORD));
    assert!(err.contains("error: GUAC-2: guacd is told to listen on all addresses"), "{err}");
}

/// Sabotage that shows when the image runs, each with the check that must catch it.
const AT_WORK: [(&str, &str); 9] = [
    ("JUP-2", "sed -i 's/^c.IdentityProvider.token.*/c.IdentityProvider.token = \"secret\"/' opt/visa/jupyter/etc/jupyter/visa_server_config.py"),
    ("JUP-8", "sed -i '/port_retries/d' opt/visa/jupyter/etc/jupyter/visa_server_config.py"),
    (
        "BOOT-7",
        "printf '[Unit]\\nAfter=cloud-final.service\\n[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' >etc/systemd/system/late.service
         ln -s ../late.service etc/systemd/system/multi-user.target.wants/late.service",
    ),
    ("HYG-1", "printf 'PasswordAuthentication yes\\n' >etc/ssh/sshd_config.d/00-build.conf"),
    (
        "HYG-6",
        "printf '[Service]\\nExecStart=/usr/bin/python3 -m http.server 9999\\n[Install]\\nWantedBy=multi-user.target\\n' >etc/systemd/system/open.service
         ln -s ../open.service etc/systemd/system/multi-user.target.wants/open.service",
    ),
    (
        "HYG-7",
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n' >etc/systemd/system/broken.service
         ln -s ../broken.service etc/systemd/system/multi-user.target.wants/broken.service",
    ),
    ("RDP-12", "rm etc/systemd/system/sleep.target"),
    ("RDP-1", "chmod 0600 usr/lib/visa/make-xrdp-keys; rm -f etc/xrdp/*.pem"),
    ("PAM-1", "sed -i 's#/etc/visa/public.pem#/etc/visa/private.pem#' etc/pam.d/xrdp-sesman"),
];

#[test]
fn qemu_sabotage_of_services_is_caught_by_the_checks_that_should() {
    let script: String = AT_WORK.iter().map(|(_, line)| format!("{line}\n")).collect();
    let sabotaged = Sabotaged::new(&script);
    let mut command = verify(&sabotaged.image);
    command.arg("--allow-backing");
    // And one that must not be harmed.
    let ids: BTreeSet<_> = AT_WORK.iter().map(|(id, _)| *id).chain(["LIFE-5", "GUAC-4"]).collect();
    only(&mut command, &ids);
    let (report, err, code) = report(command);
    assert_eq!(code, 5, "{err}");
    let expected: BTreeSet<_> = AT_WORK.iter().map(|(id, _)| *id).collect();
    assert_eq!(outcome(&report, "failed"), expected, "{report:#}");
    assert_eq!(outcome(&report, "passed"), BTreeSet::from(["LIFE-5", "GUAC-4"]));
}

#[test]
fn full_a_full_disk_and_a_wrong_clock_are_caught() {
    for (script, expected) in [
        // The disk is bigger than the image: it is filled when it has grown.
        (
            "printf '[Unit]\\nAfter=cloud-init-network.service\\nBefore=multi-user.target\\n[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"dd if=/dev/zero of=/full bs=1M; true\"\\n[Install]\\nWantedBy=multi-user.target\\n' >etc/systemd/system/full.service
             ln -s ../full.service etc/systemd/system/multi-user.target.wants/full.service",
            "GUAC-5",
        ),
        (
            "printf '[Service]\\nType=oneshot\\nExecStart=/bin/date -s 2030-01-01\\n[Install]\\nWantedBy=multi-user.target\\n' >etc/systemd/system/clock.service
             ln -s ../clock.service etc/systemd/system/multi-user.target.wants/clock.service
             rm -f etc/systemd/system/multi-user.target.wants/chrony.service",
            "PAM-15",
        ),
    ] {
        let sabotaged = Sabotaged::new(script);
        let mut command = verify(&sabotaged.image);
        command.arg("--allow-backing");
        only(&mut command, [expected, "PAM-1", "HYG-7"]);
        let (report, err, code) = report(command);
        assert_eq!(code, 5, "{err}");
        assert!(outcome(&report, "failed").contains(expected), "{expected}: {report:#}");
    }
}

#[test]
fn full_an_image_that_is_not_ours_fails_the_right_checks_and_does_not_hang() {
    images();
    let mut bases = fs::read_dir(shared().join("cache/visabuild/bases")).unwrap().flatten().map(|entry| entry.path());
    let base = bases.find(|path| path.extension().is_some_and(|extension| extension == "qcow2")).unwrap();
    let mut command = verify(&base);
    command.args(["--skip", "HYG-10"]);
    let (report, err, code) = report(command);
    assert_eq!(code, 5, "{err}");
    let failed = outcome(&report, "failed");
    for id in ["NET-1", "GUAC-2", "GUAC-4", "RDP-2", "RDP-4", "PAM-11", "HYG-5"] {
        assert!(failed.contains(id), "{id} did not fail: {report:#}");
    }
    assert!(outcome(&report, "passed").contains("HYG-3"), "{report:#}");
    assert!(outcome(&report, "not_applicable").contains("JUP-1"));
}

#[test]
fn full_a_raw_image_is_verified_as_a_qcow2_is() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("visa-apps.raw");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(visa_apps()).arg(&raw);
    assert!(convert.status().unwrap().success());
    let mut command = verify(&raw);
    only(&mut command, ["GUAC-2", "HYG-4", "META-4", "LIFE-5", "LIFE-3"]);
    let (report, err, code) = report(command);
    assert_eq!(code, 0, "{err}");
    assert_eq!(outcome(&report, "passed").len(), 5, "{report:#}");
}

#[test]
fn qemu_an_interrupted_verification_leaves_nothing_and_the_image_as_it_was() {
    let image = visa_apps();
    let before = fs::metadata(&image).unwrap().modified().unwrap();
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = verify(&image);
        command.args(["--only", "HYG-7"]);
        let mut run = Run::start(command);
        run.wait_for("look at the machine at vnc://");
        run.signal(signal);
        // It waits until no process is left.
        let (code, err) = run.end();
        assert_eq!(code, Some(expected), "{err}");
    }
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), before);
    let work = shared().join("cache/visabuild/work");
    assert_eq!(fs::read_dir(work).unwrap().count(), 0);
}

#[test]
fn qemu_a_killed_machine_leaves_its_checks_not_run_with_that_reason() {
    let mut command = verify(&visa_apps());
    command.args(["--only", "HYG-7", "--junit"]);
    let folder = tempfile::tempdir().unwrap();
    command.arg(folder.path().join("junit.xml"));
    let mut run = Run::start(command);
    run.wait_for("look at the machine at vnc://");
    kill(&run, "qemu-system-x86");
    let (code, err) = run.end();
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains("killed by signal 9"), "{err}");
    let junit = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    assert!(junit.contains("HYG-7") && junit.contains("killed by signal 9"), "{junit}");
}

#[test]
fn what_is_wrong_with_a_call_is_told_and_is_no_failed_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("notes.qcow2"), "just text, and more than five hundred bytes of it? no").unwrap();
    fs::write(
        path("contract.yml"),
        "name: x\nchecks:\n  - {id: A-1, statement: s, level: static, probes: [{flie: /etc}]}\n",
    )
    .unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["no-such.qcow2"], "error: there is no image no-such.qcow2\n"),
        (&["no-such"], "error: there is no image no-such\n  hint: a template's image is looked for at"),
        (&["notes.qcow2", "--contract", "vsia"], "error: unknown contract `vsia`\n"),
        (&["notes.qcow2", "--only", "GUAC-99"], "error: the contract `visa` has no check `GUAC-99`\n"),
        (&["notes.qcow2", "--require", "jupiter"], "error: the contract `visa` has no component `jupiter`\n"),
        (&["notes.qcow2", "--contract", "./contract.yml"], "unknown key `flie`"),
    ];
    for (arguments, expected) in cases {
        let mut command = visabuild();
        command.current_dir(folder.path()).env("XDG_CACHE_HOME", folder.path()).arg("verify").args(arguments);
        let (out, err, code) = told(&command.output().unwrap());
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    let mut command = visabuild();
    command.current_dir(folder.path()).env("XDG_CACHE_HOME", folder.path()).args(["verify", "notes.qcow2"]);
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("notes.qcow2"), "{err}");
}
