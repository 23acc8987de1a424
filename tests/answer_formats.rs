//! The shipped examples of other distributions: they are valid, and their answers are what the formats' own parsers and
//! documents ask for.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use secrecy::SecretString;
use serde_json::Value;
use support::{repository, told, visabuild};
use visabuild::answers::password;
use visabuild::download::{ChecksumList, Place};

/// What the example's template is made of, as the plan has it, with a site's `mirror` or none.
fn planned(example: &str, mirror: &str) -> Value {
    let cache = tempfile::tempdir().unwrap();
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", cache.path()).env("VISA_HTTP_PROXY", "http://proxy.example.org:3128");
    command.env("ubuntu_mirror", mirror).args(["plan", "--json", "--lock-root", "-C"]);
    command.arg(repository().join("examples").join(example));
    let (out, err, code) = told(&command.output().unwrap());
    assert_eq!((err.as_str(), code), ("", 0));
    let plan: Value = serde_json::from_str(&out).unwrap();
    plan["stages"][0]["base"]["installer"].clone()
}

/// A file of its web server, with a proxy and a hash where the plan hides them.
fn served(installer: &Value, path: &str) -> String {
    let hash = password::hash(&SecretString::from("correct horse")).unwrap();
    let text = installer["http"][path]["content"].as_str().unwrap();
    let text = text.replace("‹host:proxy›", "http://proxy.example.org:3128");
    let text = text.replace("‹secret:root_password_hash›", &hash);
    assert!(!text.contains('‹') && text.contains(&hash) && text.contains("proxy.example.org"), "{text}");
    text
}

#[test]
fn the_examples_are_valid() {
    for (example, template) in [("ubuntu-autoinstall", "ubuntu-base"), ("rocky-kickstart", "rocky-base")] {
        let mut command = visabuild();
        command.args(["validate", "-C"]).arg(repository().join("examples").join(example));
        let (out, err, code) = told(&command.output().unwrap());
        assert_eq!((err.as_str(), code), ("", 0), "{example}");
        assert_eq!(out, format!("1 template is valid: {template}\n"));
    }
}

/// pykickstart is Anaconda's parser; `scripts/test` installs it.
#[test]
fn the_kickstart_example_is_read_by_anacondas_parser() {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("formats/venv/bin");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ks.cfg");
    let check = |text: &str, release: &str| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(venv.join("python"));
        command.arg(venv.join("ksvalidator")).args(["-v", release]).arg(&file);
        let output = command.output().expect("scripts/test has installed pykickstart");
        let (out, err, code) = told(&output);
        (code, out + &err)
    };
    let kickstart = served(&planned("rocky-kickstart", ""), "ks.cfg");
    for release in ["RHEL9", "RHEL10"] {
        let (code, text) = check(&kickstart, release);
        assert_eq!(code, 0, "{release}: {text}");
    }
    // It does tell what is wrong.
    let (code, text) = check(&kickstart.replace("--iscrypted", "--hashed"), "RHEL9");
    assert!(code == 1 && text.contains("--hashed"), "{text}");
    let (code, text) = check(&kickstart.replacen("%end", "", 1), "RHEL9");
    assert!(code == 1 && text.contains("%end"), "{text}");
}

/// Top-level keys, of the "Autoinstall configuration reference manual" of Ubuntu's installation documentation.
const KEYS: &str = "version interactive-sections early-commands locale refresh-installer keyboard source network proxy \
    apt storage identity active-directory ubuntu-pro ssh codecs drivers oem snaps debconf-selections packages kernel \
    kernel-crash-dumps timezone updates shutdown late-commands error-commands reporting user-data zdevs";

/// The installer's own schema is not in a package that is reachable here; what it demands of the keys used is restated.
#[test]
fn the_autoinstall_example_has_the_documented_form() {
    let with = |mirror: &str| served(&planned("ubuntu-autoinstall", mirror), "user-data");
    let without: serde_yaml::Value = serde_yaml::from_str(&with("")).unwrap();
    assert!(without["autoinstall"]["apt"].get("mirror-selection").is_none());
    let text = with("http://mirror.example.org/ubuntu");
    // cloud-init tells the kind of user data by its first line.
    assert!(text.starts_with("#cloud-config\n"));
    let all: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let all = serde_json::to_value(all).unwrap();
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["autoinstall"]);
    let answers = &all["autoinstall"];
    for key in answers.as_object().unwrap().keys() {
        assert!(KEYS.split_whitespace().any(|known| known == key), "{key}");
    }
    assert_eq!(answers["version"], 1);
    for (key, allowed) in [("shutdown", ["reboot", "poweroff"]), ("updates", ["security", "all"])] {
        assert!(allowed.contains(&answers[key].as_str().unwrap()), "{key}");
    }
    for key in ["locale", "timezone", "proxy"] {
        assert!(answers[key].is_string(), "{key}");
    }
    assert!(answers["keyboard"]["layout"].is_string());
    assert!(["abort", "offline-install", "continue-anyway"].contains(&answers["apt"]["fallback"].as_str().unwrap()));
    assert_eq!(answers["apt"]["mirror-selection"]["primary"][0]["uri"], "http://mirror.example.org/ubuntu");
    // Without `user-data`, it would have to have `identity`.
    assert!(answers["user-data"].is_object());
    for key in ["late-commands", "error-commands"] {
        for command in answers[key].as_array().unwrap() {
            let words = command.as_array().is_some_and(|words| words.iter().all(Value::is_string));
            assert!(words || command.is_string(), "{command}");
        }
    }
}

/// The lists that the examples name, in the form in which they are published.
#[test]
fn the_examples_media_are_found_in_lists_of_the_published_form() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    // Ubuntu's: GNU coreutils, binary mode. Rocky's: BSD, with the size as a comment before each line.
    let ubuntu = format!("{b} *ubuntu-24.04.4-desktop-amd64.iso\n{a} *ubuntu-24.04.4-live-server-amd64.iso\n");
    let rocky =
        format!("# Rocky-9-latest-x86_64-boot.iso: 1480048640 bytes\nSHA256 (Rocky-9-latest-x86_64-boot.iso) = {a}\n");
    for (example, list) in [("ubuntu-autoinstall", ubuntu), ("rocky-kickstart", rocky)] {
        let installer = planned(example, "");
        let url = installer["iso"]["urls"][0].as_str().unwrap();
        let place = Place::parse(url, Path::new("/")).unwrap();
        assert_eq!(ChecksumList::parse(&list).checksum_of(&place).unwrap().hex(), a, "{example}");
        assert!(installer["iso"]["checksum"].as_str().unwrap().starts_with("file:https://"), "{example}");
    }
}
