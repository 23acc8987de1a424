//! The command line as a user meets it: exact output and exit codes, without a machine.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::{keys, repository, told, visabuild};

fn run(arguments: &[&str]) -> (String, String, i32) {
    let cache = tempfile::tempdir().unwrap();
    let mut command = visabuild();
    command.current_dir(repository()).env("XDG_CACHE_HOME", cache.path()).env("guacd_method", "debian");
    told(&command.args(arguments).output().unwrap())
}

#[test]
fn missing_key_and_password_are_told_together_before_anything_starts() {
    let (out, err, code) = run(&[]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert_eq!(
        err,
        "error: `pam_public_key` is used by templates visa-base, visa-apps but was not given\n  \
           hint: give it with -pp/--pam-public PATH or VISA_PAM_PUBLIC_KEY\n\
         error: `root_password` is used by templates system-base, visa-base, visa-apps but was not given\n  \
           hint: give it with -rp/--root-password PW or VISA_ROOT_PASSWORD\n"
    );
}

#[test]
fn a_bad_key_and_an_unknown_template_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let (private, _) = keys(folder.path());
    let (_, err, code) = run(&["-pp", private.to_str().unwrap(), "-rp", "pass-word", "visa-base", "visa-appz"]);
    assert_eq!(code, 2);
    assert!(err.contains("private key"), "{err}");
    assert!(err.contains("openssl pkey -in"), "{err}");
    assert!(err.contains("visa-appz"), "{err}");
    assert!(!err.contains("pass-word"), "{err}");
}

#[test]
fn validate_needs_no_secrets() {
    let (out, err, code) = run(&["validate"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(out, "3 templates are valid: system-base, visa-base, visa-apps\n");
    let (out, _, code) = run(&["validate", "visa-base", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(out, "{\"event\":\"valid\",\"templates\":[\"system-base\",\"visa-base\"]}\n");
}

#[test]
fn the_plan_of_the_shipped_templates_is_the_recorded_one() {
    let (out, err, code) = run(&["plan", "--json"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    // Facts of the host stand apart: what is recorded is the same on every host.
    insta::assert_json_snapshot!("shipped_plan", plan["stages"]);
}

#[test]
fn the_plan_does_not_depend_on_key_password_mirror_or_place() {
    let folder = tempfile::tempdir().unwrap();
    let (_, public) = keys(folder.path());
    let copy = folder.path().join("a copy");
    copy_project(&copy);
    let stages = |arguments: &[&str]| {
        let (out, err, code) = run(arguments);
        assert_eq!((err.as_str(), code), ("", 0));
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["stages"].clone()
    };
    let plain = stages(&["plan", "--json"]);
    let public = public.to_str().unwrap();
    assert_eq!(plain, stages(&["plan", "--json", "-pp", public, "-rp", "other", "-hp", "http://u:secret@p:1"]));
    assert_eq!(plain, stages(&["plan", "--json", "--mirror", "http://mirror.example.org/debian", "-nh"]));
    assert_eq!(plain, stages(&["plan", "--json", "-C", copy.to_str().unwrap()]));
    let (out, _, _) = run(&["plan", "--json", "-rp", "hush-hush", "-hp", "http://u:secret@p:1"]);
    assert!(!out.contains("hush-hush") && !out.contains("secret@"), "{out}");
}

#[test]
fn a_named_alternative_changes_the_stages_that_use_it() {
    let stages = |method: &str| {
        let cache = tempfile::tempdir().unwrap();
        let mut command = visabuild();
        command.current_dir(repository()).env("XDG_CACHE_HOME", cache.path()).env("guacd_method", method);
        let (out, err, code) = told(&command.args(["plan", "--json"]).output().unwrap());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["stages"].clone()
    };
    let (debian, source) = (stages("debian"), stages("source"));
    assert_eq!(debian[0], source[0]);
    assert_ne!(debian[1]["fingerprint"], source[1]["fingerprint"]);
    assert_eq!(debian[1]["alternatives"]["guacd_method"]["end_of_life"], true);
    assert_eq!(source[1]["alternatives"]["guacd_method"]["end_of_life"], false);
}

fn copy_project(to: &Path) {
    for folder in ["templates", "scripts", "packages"] {
        for entry in walkdir::WalkDir::new(repository().join(folder)) {
            let entry = entry.unwrap();
            let target = to.join(entry.path().strip_prefix(repository()).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir_all(target).unwrap();
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    fs::copy(repository().join("config.yml"), to.join("config.yml")).unwrap();
}

#[test]
fn a_changed_script_changes_its_step_and_everything_after_it() {
    let folder = tempfile::tempdir().unwrap();
    copy_project(folder.path());
    let stages = || {
        let (out, ..) = run(&["plan", "--json", "-C", folder.path().to_str().unwrap()]);
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["stages"].clone()
    };
    let before = stages();
    let script = folder.path().join("scripts/configure-xrdp.sh");
    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, format!("{text}\n# changed\n")).unwrap();
    let after = stages();
    assert_eq!(before[0], after[0]);
    let step = |plan: &serde_json::Value, label: &str| {
        let steps = plan[1]["steps"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["label"] == label).unwrap()["fingerprint"].clone()
    };
    assert_eq!(step(&before, "guacd"), step(&after, "guacd"));
    assert_ne!(step(&before, "xrdp"), step(&after, "xrdp"));
    assert_ne!(step(&before, "first boot"), step(&after, "first boot"));
    assert_ne!(before[2]["fingerprint"], after[2]["fingerprint"]);
}

#[test]
fn an_installed_disk_depends_on_local_media_and_on_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("templates/installed");
    fs::create_dir_all(&template).unwrap();
    fs::write(folder.path().join("config.yml"), "templates:\n  installed:\n").unwrap();
    fs::write(template.join("environment.yml"), "environment:\n  suite: trixie\n").unwrap();
    let base = |medium: &str, more: &str| {
        fs::write(template.join("medium.iso"), medium).unwrap();
        let builder = format!("type: qemu\n      iso_url: medium.iso\n      iso_checksum: none\n      {more}");
        fs::write(template.join("manifest.yml"), format!("packer:\n  builders:\n    - {builder}\n")).unwrap();
        let (out, err, code) = run(&["plan", "--json", "-C", folder.path().to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
        let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
        plan["stages"][0]["base"]["fingerprint"].clone()
    };
    let before = base("one", "");
    assert_eq!(before, base("one", ""));
    assert_ne!(before, base("another", ""));
    assert_ne!(before, base("one", "net_device: e1000"));
    assert_eq!(before, base("one", "headless: false"));
}

#[test]
fn wrong_options_are_exit_2() {
    for arguments in [
        &["--no-such-option"][..],
        &["--cpus", "0"],
        &["--engine", "docker"],
        &["--on-error", "ask"],
        &["-pp"],
        &["-rp", "x", "--lock-root"],
    ] {
        let (_, err, code) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(err.starts_with("error:"), "{err}");
    }
    let (_, err, code) = run(&["-C", "/no/such/folder"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn help_names_the_short_spellings_and_exit_codes() {
    let (out, _, code) = run(&["--help"]);
    assert_eq!(code, 0);
    for text in ["build", "validate", "plan", "doctor", "-pp PATH", "Exit codes"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let (out, _, code) = run(&["build", "--help"]);
    assert_eq!(code, 0);
    for text in ["-rp PW", "--on-error", "--base", "VISA_PAM_PUBLIC_KEY", "--root-password-file"] {
        assert!(out.contains(text), "{text}: {out}");
    }
}

#[test]
fn a_file_instead_of_the_output_folder_is_the_hosts_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (_, public) = keys(folder.path());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (_, err, code) =
        run(&["-pp", public.to_str().unwrap(), "-rp", "pass-word", "--output", file.to_str().unwrap()]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("choose another one with --output"), "{err}");
}

#[test]
fn errors_are_json_too_when_asked_for() {
    let (out, _, code) = run(&["--json", "nothing"]);
    assert_eq!(code, 2);
    let error: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &2.into()));
}

#[test]
fn what_the_native_engine_misses_is_named_with_its_package() {
    let tools = tempfile::tempdir().unwrap();
    let mut command = visabuild();
    // Programs are looked for in the system's folders too, and so only those of /usr/bin are missing.
    let output = command.args(["doctor", "--engine", "nspawn"]).env("PATH", tools.path()).output().unwrap();
    let (out, _, code) = told(&output);
    assert_eq!(code, 3, "{out}");
    for (program, package) in [("systemd-nspawn", "systemd-container"), ("slirp4netns", "slirp4netns")] {
        let line = out.lines().position(|line| line.starts_with(program)).unwrap_or_else(|| panic!("{program}: {out}"));
        assert!(out.lines().nth(line).unwrap().contains("problem"), "{out}");
        assert!(out.lines().nth(line + 1).unwrap().contains(package), "{out}");
    }
    assert!(!out.contains("qemu-system-x86_64"), "{out}");
}

#[test]
fn an_installer_needs_qemu_whatever_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (_, public) = keys(folder.path());
    for (base, needed) in [("installer", true), ("bootstrap", false)] {
        let mut command = visabuild();
        command.args(["build", "system-base", "--engine", "nspawn", "--no-verify", "--base", base, "-rp", "pass-word"]);
        command.arg("-pp").arg(&public).arg("-C").arg(repository()).arg("--output").arg(folder.path().join("builds"));
        command.env("XDG_CACHE_HOME", folder.path()).env("PATH", folder.path().join("empty"));
        let (_, err, code) = told(&command.output().unwrap());
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("systemd-nspawn: is not on this host"), "{err}");
        assert_eq!(err.contains("qemu-system-x86_64: is not on this host"), needed, "{err}");
    }
}

#[test]
fn kvm_that_cannot_run_a_guest_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (_, public) = keys(folder.path());
    let arguments = ["-pp", public.to_str().unwrap(), "-rp", "pass-word", "--accel", "kvm"];
    let usable = fs::read_to_string("/proc/cpuinfo").unwrap().contains(" vmx ")
        && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !usable {
        let (_, err, code) = run(&arguments);
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("kvm"), "{err}");
    }
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (out, err, code) = run(&["completions", shell]);
        assert_eq!((err.as_str(), code), ("", 0), "{shell}");
        assert!(out.contains("rollback") && out.contains("pam-public"), "{shell}");
    }
    let (out, _, code) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(out.starts_with(".ie") && out.contains("6 the cloud refused or was not reachable"), "{out}");
    let (out, _, code) = run(&["man", "upload"]);
    assert_eq!(code, 0);
    assert!(out.contains("visabuild\\-upload") && out.contains("share\\-with"), "{out}");
    let (_, err, code) = run(&["man", "nothing"]);
    assert_eq!(
        (err.as_str(), code),
        ("error: there is no command `nothing`\n  hint: `visabuild --help` lists them\n", 2)
    );
    let folder = tempfile::tempdir().unwrap();
    let (_, err, code) = run(&["man", "--output", folder.path().to_str().unwrap()]);
    assert_eq!((err.as_str(), code), ("", 0));
    for page in
        ["visabuild.1", "visabuild-build.1", "visabuild-verify.1", "visabuild-prune.1", "visabuild-attach-ssh.1"]
    {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
}

/// A project with one template, and these provisioners in it.
fn project(folder: &Path, provisioners: &str) {
    let template = folder.join("templates/tiny");
    fs::create_dir_all(&template).unwrap();
    fs::write(folder.join("config.yml"), "templates:\n  tiny:\n").unwrap();
    let builders = "packer:\n  builders:\n    - type: bootstrap\n      suite: trixie\n";
    fs::write(template.join("manifest.yml"), format!("{builders}  provisioners:\n{provisioners}")).unwrap();
    fs::write(template.join("site.yml"), "- hosts: all\n").unwrap();
}

#[test]
fn a_breakpoint_without_a_terminal_is_refused_and_a_disabled_one_is_in_no_plan() {
    let folder = tempfile::tempdir().unwrap();
    project(
        folder.path(),
        "    - type: breakpoint\n      note: look around\n    - {type: breakpoint, disable: true}\n",
    );
    let there = folder.path().to_str().unwrap();
    let (_, err, code) = run(&["build", "-C", there, "--engine", "nspawn", "--no-verify"]);
    assert_eq!(code, 2, "{err}");
    let place = "templates/tiny/manifest.yml:6:7: this breakpoint waits for Enter at a terminal, and there is none";
    assert!(err.contains(place) && err.contains("hint: take it out, or set `disable: true`"), "{err}");
    let (out, _, code) = run(&["plan", "-C", there]);
    assert_eq!((out.matches("breakpoint").count(), code), (1, 0), "{out}");
    assert!(out.contains("breakpoint look around"), "{out}");
}

#[test]
fn a_missing_ansible_is_told_with_its_package_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), "    - {type: ansible, playbook_file: site.yml}\n");
    let mut command = visabuild();
    command.args(["build", "--engine", "nspawn", "--no-verify", "--offline", "-C"]).arg(folder.path());
    command.env("XDG_CACHE_HOME", folder.path()).env("PATH", folder.path().join("empty"));
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("ansible-playbook: is not on this host, and a provisioner needs it"), "{err}");
    assert!(err.contains("ansible-core"), "{err}");
}
