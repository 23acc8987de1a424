//! `visabuild cache` on made-up caches: exact output and exit codes, faults, and processes that are killed.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use support::{told, visabuild};
use visabuild::cache::{Cache, LayerInfo};

const DAY: u64 = 86400;

/// A cache below a folder of its own.
struct Made {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("visabuild")).unwrap();
        Self { folder, cache }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cache.root().join(name)
    }

    /// Puts a disk of its own into `store`, made and last used `days` ago, on the disk `on` (its id).
    fn disk(&self, store: &str, key: &str, on: Option<&str>, days: u64) -> String {
        let (instance, id) = (format!("{key}-i"), format!("{store}/{key}.{key}-i.qcow2"));
        let disk = self.folder.path().join("disk.qcow2");
        qcow2(&disk, on.map(|id| self.path(id)).as_deref());
        let parent = on.map(|id| id.split('.').nth(1).unwrap());
        let template = if store == "bases" { "base".to_owned() } else { format!("{key}-template") };
        let info = info(&instance, parent, &template, now() - days * DAY);
        let store = match store {
            "bases" => self.cache.bases(),
            "layers" => self.cache.layers(),
            _ => self.cache.checkpoints(),
        };
        let layer = store.put(key, &disk, &info).unwrap();
        let sum = layer.disk.with_extension("sum.json");
        wait(|| fs::read_to_string(&sum).is_ok_and(|text| text.contains("blake3")));
        drop(layer);
        self.used(&format!("{}/{key}.json", id.split('/').next().unwrap()), days);
        id
    }

    /// Sets when something was last used.
    fn used(&self, name: &str, days: u64) {
        let then = SystemTime::now() - Duration::from_secs(days * DAY);
        File::open(self.path(name)).unwrap().set_modified(then).unwrap();
    }

    /// Writes down that the checkpoint `key` has the memory of its guest.
    fn guest(&self, key: &str, blake3: &str) {
        let path = self.path(&format!("checkpoints/{key}.json"));
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["guest"] = serde_json::json!({ "authorized": [], "memory": { "machine": "m", "blake3": blake3 } });
        fs::write(path, record.to_string()).unwrap();
    }

    /// base ← system ← visa, a checkpoint on system, and a download.
    fn chain(&self) {
        let base = self.disk("bases", "aaaa", None, 50);
        let system = self.disk("layers", "bbbb", Some(&base), 40);
        self.disk("layers", "cccc", Some(&system), 10);
        self.disk("checkpoints", "dddd", Some(&system), 3);
        fs::create_dir_all(self.path("downloads")).unwrap();
        let sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let file = self.path(&format!("downloads/sha256-{sha256}"));
        fs::write(&file, "foo").unwrap();
        self.used(&format!("downloads/sha256-{sha256}"), 90);
    }

    /// An entry of the package cache.
    fn package(&self, key: &str, content: &str) -> PathBuf {
        let path = self.path(&format!("packages/{}/{key}", &key[..2]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let record = serde_json::json!({ "url": "http://u/p.deb", "status": 200, "size": 3, "sha256": sha256 });
        fs::write(path.with_extension("json"), record.to_string()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> (String, String, i32) {
        let mut command = visabuild();
        command.current_dir(&self.folder).env("XDG_CACHE_HOME", self.folder.path()).arg("cache").args(arguments);
        let (out, err, code) = told(&command.output().unwrap());
        (self.redacted(&out), self.redacted(&err), code)
    }

    /// Output without sizes (the file system's) and folders; runs of spaces are two.
    fn redacted(&self, text: &str) -> String {
        let text = text.replace(&self.cache.root().display().to_string(), "[cache]");
        let size = regex::Regex::new(r"\d+(\.\d+)? ([KMGT]i)?B").unwrap();
        let spaces = regex::Regex::new(r" {2,}").unwrap();
        spaces.replace_all(&size.replace_all(&text, "[size]"), "  ").into_owned()
    }

    /// Names of what is in the stores, without locks.
    fn left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for store in ["bases", "layers", "checkpoints", "downloads", "work"] {
            let entries = fs::read_dir(self.path(store)).into_iter().flatten().flatten();
            names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        names.retain(|name| {
            name.ends_with(".qcow2")
                || name.starts_with("sha256") && !name.ends_with(".lock")
                || name.starts_with("run-")
        });
        names.sort();
        names
    }
}

fn qcow2(path: &Path, on: Option<&Path>) {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    match on {
        Some(on) => command.args(["-F", "qcow2", "-b"]).arg(on).arg(path),
        None => command.arg(path).arg("1M"),
    };
    assert!(command.status().unwrap().success());
    if on.is_none() {
        let write = ["-f", "qcow2", "-c", "write -q -P 7 0 256k"];
        assert!(Command::new("qemu-io").args(write).arg(path).status().unwrap().success());
    }
}

fn info(instance: &str, parent: Option<&str>, template: &str, created: u64) -> LayerInfo {
    let record = serde_json::json!({ "instance": instance, "parent": parent, "template": template, "created": created,
        "seconds": 1.0, "phases": [] });
    serde_json::from_value(record).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn wait(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_empty_cache_is_listed_collected_and_whole() {
    let made = Made::new();
    assert_eq!(made.run(&["ls"]), ("[cache]: [size]; free: [size]\n".to_owned(), String::new(), 0));
    assert_eq!(made.run(&["gc", "--all"]), ("freed: [size]\n".to_owned(), String::new(), 0));
    let verified = "verified: 0 of [size]; broken: 0\n";
    assert_eq!(made.run(&["verify"]), (verified.to_owned(), String::new(), 0));
}

#[test]
fn everything_is_listed_by_kind_with_age_and_use() {
    let made = Made::new();
    made.chain();
    let _in_use = File::open(made.path("layers/cccc.cccc-i.qcow2")).unwrap();
    _in_use.lock_shared().unwrap();
    fs::create_dir_all(made.path("packages/aa")).unwrap();
    fs::write(made.path("packages/aa/aa01"), "deb").unwrap();
    fs::write(made.path("packages/aa/aa01.json"), "{}").unwrap();
    fs::create_dir_all(made.path("work/run-kept")).unwrap();
    fs::write(made.path("work/run-kept/lock"), "").unwrap();
    fs::write(made.path("work/run-kept/kept"), "").unwrap();
    fs::create_dir_all(made.folder.path().join("builds/visa")).unwrap();
    let manifest = r#"{"layers": [{"fingerprint": "aaaa"}, {"fingerprint": "bbbb"}]}"#;
    fs::write(made.folder.path().join("builds/visa/visa.manifest.json"), manifest).unwrap();
    let (out, err, code) = made.run(&["ls"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(
        out,
        "\
KIND  TEMPLATE  FINGERPRINT  SIZE  AGE  USED  STATE
base  base  aaaa  [size]  50 d  50 d  ready, 1 on it, in visa
layer  bbbb-template  bbbb  [size]  40 d  40 d  ready, 2 on it, in visa
layer  cccc-template  cccc  [size]  10 d  10 d  in use
checkpoint  dddd-template  dddd  [size]  3 d  3 d  ready
download  -  2c26b46b68ff  [size]  90 d  90 d  ready
work folder  run-kept  -  [size]  0 s  0 s  kept (by --on-error keep)
packages  -  -  [size]  0 s  0 s  1 file

[cache]: [size]; free: [size]
"
    );
    let (out, _, _) = made.run(&["ls", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    let items: BTreeMap<_, _> =
        json["items"].as_array().unwrap().iter().map(|item| (item["id"].as_str().unwrap(), item)).collect();
    let system = items["layers/bbbb.bbbb-i.qcow2"];
    assert_eq!(system["needs"][0], "bases/aaaa.aaaa-i.qcow2");
    assert_eq!(system["needed_by"].as_array().unwrap().len(), 2);
    assert!(system["bytes"].as_u64().unwrap() > 100_000);
}

#[test]
fn a_replaced_parent_makes_its_children_garbage_which_is_collected_first() {
    let made = Made::new();
    made.chain();
    let disk = made.folder.path().join("new.qcow2");
    qcow2(&disk, None);
    drop(made.cache.bases().put("aaaa", &disk, &info("other", None, "base", now())).unwrap());
    let (out, _, _) = made.run(&["ls"]);
    assert!(out.contains("stale (its parent was replaced or is gone), 2 on it"), "{out}");
    assert!(out.contains("stale (lies on one that no build can take)"), "{out}");
    let dry = made.run(&["gc", "--dry-run"]);
    let before = made.left();
    let (out, err, code) = made.run(&["gc"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(dry.0.replace("would remove", "removed").replace("would be freed", "freed"), out);
    assert_eq!(before.len(), 6);
    assert_eq!(
        out,
        "\
removed  layer cccc-template cccc  [size]  stale: lies on one that no build can take
removed  checkpoint dddd-template dddd  [size]  stale: lies on one that no build can take
removed  layer bbbb-template bbbb  [size]  stale: its parent was replaced or is gone
removed  base aaaa  [size]  orphan: was replaced
freed: [size]
"
    );
    assert_eq!(made.left().len(), 2);
    assert_eq!(made.run(&["gc"]).0, "freed: [size]\n");
}

#[test]
fn age_size_and_all_remove_children_before_parents() {
    let made = Made::new();
    made.chain();
    // The base was used longest ago, but others lie on it.
    let (out, _, code) = made.run(&["gc", "--older-than", "30d"]);
    assert_eq!(code, 0);
    assert_eq!(out, "removed  download 2c26b46b68ff  [size]  not used for long\nfreed: [size]\n");
    let (out, _, _) = made.run(&["gc", "--older-than", "9d", "--dry-run"]);
    assert_eq!(out, "would remove  layer cccc-template cccc  [size]  not used for long\nwould be freed: [size]\n");
    let all: Value = serde_json::from_str(&made.run(&["ls", "--json"]).0).unwrap();
    let most = (all["bytes"].as_u64().unwrap() - 1).to_string();
    let (out, _, _) = made.run(&["gc", "--max-size", &most]);
    assert_eq!(out, "removed  layer cccc-template cccc  [size]  the cache is too big\nfreed: [size]\n");
    let (out, _, _) = made.run(&["gc", "--all"]);
    assert_eq!(
        out,
        "\
removed  checkpoint dddd-template dddd  [size]  all was asked for
removed  layer bbbb-template bbbb  [size]  all was asked for
removed  base base aaaa  [size]  all was asked for
freed: [size]
"
    );
    assert!(made.left().is_empty());
}

#[test]
fn what_a_build_uses_stays_with_all_that_it_lies_on() {
    let made = Made::new();
    made.chain();
    let layer = made.cache.layers().get("cccc", Some("bbbb-i")).unwrap().unwrap();
    let (out, _, code) = made.run(&["gc", "--all", "--max-size", "0"]);
    assert_eq!(code, 0);
    assert!(out.ends_with("left: [size], more than [size]: it is in use, kept or needed\n"), "{out}");
    assert_eq!(made.left(), ["aaaa.aaaa-i.qcow2", "bbbb.bbbb-i.qcow2", "cccc.cccc-i.qcow2"]);
    drop(layer);
    let lock = made.cache.layers().build_lock("bbbb").unwrap();
    assert!(lock.try_take().unwrap());
    made.run(&["gc", "--all"]);
    assert_eq!(made.left(), ["aaaa.aaaa-i.qcow2", "bbbb.bbbb-i.qcow2"]);
}

#[test]
fn a_kept_disk_keeps_what_it_lies_on() {
    let made = Made::new();
    made.chain();
    let folder = made.path("work/run-kept");
    fs::create_dir(&folder).unwrap();
    qcow2(&folder.join("t.layer.qcow2"), Some(&made.path("layers/cccc.cccc-i.qcow2")));
    fs::write(folder.join("lock"), "").unwrap();
    fs::write(folder.join("kept"), "").unwrap();
    let abandoned = made.path("work/run-abandoned");
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join("lock"), "").unwrap();
    let (out, _, _) = made.run(&["gc"]);
    assert_eq!(
        out,
        "removed  work folder run-abandoned  [size]  abandoned: of a build that was killed\nfreed: [size]\n"
    );
    made.run(&["gc", "--all"]);
    assert_eq!(made.left(), ["aaaa.aaaa-i.qcow2", "bbbb.bbbb-i.qcow2", "cccc.cccc-i.qcow2", "run-kept"]);
    let (out, _, _) = made.run(&["gc", "--kept", "--older-than", "1d"]);
    assert!(out.starts_with("freed"), "{out}");
    let (out, _, _) = made.run(&["gc", "--kept"]);
    assert_eq!(out, "removed  work folder run-kept  [size]  not kept any more\nfreed: [size]\n");
    made.run(&["gc", "--all"]);
    assert!(made.left().is_empty());
}

#[test]
fn what_the_project_needs_and_what_its_images_were_made_from_stays() {
    let made = Made::new();
    let project = made.folder.path();
    let template = project.join("templates/tiny");
    fs::create_dir_all(&template).unwrap();
    fs::write(project.join("config.yml"), "templates:\n  tiny:\n").unwrap();
    let manifest = "packer:\n  builders:\n    - type: bootstrap\n      suite: trixie\n  provisioners:\n\
                    \x20   - type: shell\n      inline: [\"true\"]\n";
    fs::write(template.join("manifest.yml"), manifest).unwrap();
    let mut plan = visabuild();
    plan.args(["plan", "--json", "-C"]).arg(project);
    let plan: Value = serde_json::from_str(&told(&plan.output().unwrap()).0).unwrap();
    let stage = &plan["stages"][0];
    let base = made.disk("bases", stage["base"]["fingerprint"].as_str().unwrap(), None, 99);
    // What is made of secrets is part of a key, and need not be known here.
    made.disk("layers", &format!("{}-12ab", stage["fingerprint"].as_str().unwrap()), Some(&base), 99);
    made.chain();
    fs::create_dir_all(project.join("builds/old")).unwrap();
    let manifest = r#"{"layers": [{"fingerprint": "bbbb"}]}"#;
    fs::write(project.join("builds/old/old.manifest.json"), manifest).unwrap();
    let (out, err, code) = made.run(&["gc", "--unreachable"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(
        out,
        "\
removed  layer cccc-template cccc  [size]  not needed by the project
removed  checkpoint dddd-template dddd  [size]  not needed by the project
freed: [size]
"
    );
    // With -C they stay, whatever else is asked for.
    made.run(&["gc", "--all", "-C", "."]);
    assert_eq!(made.left().len(), 4);
    fs::write(project.join("config.yml"), "templates:\n  nothing:\n").unwrap();
    let (out, err, code) = made.run(&["gc", "--unreachable"]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert!(err.contains("nothing was removed"), "{err}");
    assert_eq!(made.left().len(), 4);
}

#[test]
fn a_wrong_call_is_told() {
    let made = Made::new();
    for arguments in [&["gc", "--older-than", "soon"][..], &["gc", "--max-size", "huge"], &[], &["sweep"]] {
        let (out, err, code) = made.run(arguments);
        assert_eq!((out.as_str(), code), ("", 2), "{err}");
    }
    let lock = File::create(made.path("gc.lock")).unwrap();
    lock.lock().unwrap();
    let (_, err, code) = made.run(&["gc"]);
    assert_eq!(code, 3);
    assert_eq!(err, "error: another visabuild is collecting the cache [cache]\n  hint: wait until it is done\n");
}

#[test]
fn every_way_to_be_broken_is_found_and_repaired() {
    let made = Made::new();
    made.chain();
    made.package("ab00", "foo");
    assert_eq!(made.run(&["verify"]), ("verified: 6 of [size]; broken: 0\n".to_owned(), String::new(), 0));
    let package = made.package("ab00", "fox");
    let memory = made.path("checkpoints/dddd.dddd-i.memory");
    made.guest("dddd", &blake3::hash(b"what it held").to_hex());
    fs::write(&memory, "what it held").unwrap();
    assert!(!made.run(&["verify"]).1.contains("dddd"));
    fs::write(&memory, "what it hold").unwrap();
    let sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    fs::write(made.path(&format!("downloads/sha256-{sha256}")), "bar").unwrap();
    // One byte of the data, with the time as it was.
    let disk = made.path("bases/aaaa.aaaa-i.qcow2");
    let modified = fs::metadata(&disk).unwrap().modified().unwrap();
    let mut bytes = fs::read(&disk).unwrap();
    let byte = bytes.iter().rposition(|byte| *byte == 7).unwrap();
    bytes[byte] ^= 1;
    fs::write(&disk, &bytes).unwrap();
    File::open(&disk).unwrap().set_modified(modified).unwrap();
    let lone = made.disk("layers", "eeee", None, 1);
    File::options().write(true).open(made.path(&lone)).unwrap().set_len(70_000).unwrap();
    fs::write(made.path("layers/ffff.json"), "{\"inst").unwrap();
    let gone = made.disk("bases", "0000", None, 1);
    made.disk("layers", "1111", Some(&gone), 1);
    fs::remove_file(made.path(&gone)).unwrap();
    let (out, err, code) = made.run(&["verify"]);
    assert_eq!(code, 3, "{err}");
    assert!(out.contains("broken: 8\n"), "{out}");
    for fault in [
        "base base aaaa (bases/aaaa.aaaa-i.qcow2): its content is not what was put into the cache (BLAKE3 differs)\n  \
         hint: `visabuild cache verify --repair` removes it with 3 on it; the next build makes it anew\n",
        "checkpoint dddd-template dddd (checkpoints/dddd.dddd-i.qcow2): its guest's memory is not what was put into",
        "package (packages/ab/ab00): has the SHA-256 ",
        "base base 0000 (bases/0000.0000-i.qcow2): its disk is not there\n",
        "layer eeee-template eeee (layers/eeee.eeee-i.qcow2): has 70000 bytes instead of",
        "layer ffff (layers/ffff.json): its record cannot be read\n",
        "layer 1111-template 1111 (layers/1111.1111-i.qcow2): lies on [cache]/bases/0000.0000-i.qcow2, which is not",
        "has the SHA-256 fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 instead of that in its",
    ] {
        assert!(err.contains(fault), "{fault} is not in\n{err}");
    }
    let used = made.cache.layers().get("cccc", Some("bbbb-i")).unwrap();
    let (_, err, code) = made.run(&["verify", "--repair"]);
    assert_eq!(code, 3, "{err}");
    assert_eq!(made.left(), ["aaaa.aaaa-i.qcow2", "bbbb.bbbb-i.qcow2", "cccc.cccc-i.qcow2"]);
    drop(used);
    let (out, err, code) = made.run(&["verify", "--repair"]);
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    assert!(made.left().is_empty() && !memory.exists() && !package.exists());
    assert_eq!(made.run(&["verify"]).0, "verified: 0 of [size]; broken: 0\n");
}

#[test]
fn a_layer_of_an_older_version_gets_its_digest_when_it_is_verified() {
    let made = Made::new();
    made.chain();
    fs::remove_file(made.path("bases/aaaa.aaaa-i.sum.json")).unwrap();
    let (out, _, code) = made.run(&["verify"]);
    assert_eq!((out.as_str(), code), ("verified: 5 of [size]; broken: 0\nwithout a digest until now: 1\n", 0));
    assert!(fs::read_to_string(made.path("bases/aaaa.aaaa-i.sum.json")).unwrap().contains("blake3"));
}

#[test]
fn leftovers_beginnings_and_other_names_go_with_what_they_belong_to() {
    let made = Made::new();
    fs::create_dir_all(made.path("downloads")).unwrap();
    fs::create_dir_all(made.path("packages/aa")).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3 * DAY);
    let file = |name: &str| {
        fs::write(made.path(name), "foo").unwrap();
        File::options().write(true).open(made.path(name)).unwrap().set_modified(old).unwrap();
    };
    let there = |name: &str| made.path(name).is_symlink() || made.path(name).exists();
    // A process of this number cannot be.
    for name in
        ["layers/.k.json.4194999.new", "downloads/.x.4194999.new", "layers/gone.lock", "downloads/sha256-gone.lock"]
    {
        file(name);
    }
    fs::write(made.path("layers/.k.json.4194998.new"), "being written").unwrap();
    for name in ["downloads/sha256-one", "downloads/two.part", "downloads/two.part.json", "downloads/three.part"] {
        file(name);
    }
    for name in ["aa01", "aa01.json", "aa02", "aa02.json", "aa03", "aa03.json", "aa04.part", "aa05.lock"] {
        file(&format!("packages/aa/{name}"));
    }
    // The last use is when the record was touched.
    let young = File::options().write(true).open(made.path("packages/aa/aa03.json")).unwrap();
    young.set_modified(SystemTime::now()).unwrap();
    std::os::unix::fs::symlink("sha256-one", made.path("downloads/sha512-one")).unwrap();
    std::os::unix::fs::symlink("sha256-gone", made.path("downloads/sha512-gone")).unwrap();
    file("layers/young.lock");
    File::options().write(true).open(made.path("layers/young.lock")).unwrap().set_modified(SystemTime::now()).unwrap();
    let (out, err, code) = made.run(&["gc"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(
        out,
        "\
removed  package  [size]  orphan: no record names it
removed  layer  [size]  orphan: left by a process that is gone
removed  download  [size]  orphan: left by a process that is gone
removed  download  [size]  orphan: the file that it names is not there
freed: [size]
"
    );
    for gone in [
        "layers/.k.json.4194999.new",
        "layers/gone.lock",
        "downloads/sha256-gone.lock",
        "downloads/sha512-gone",
        "packages/aa/aa04.part",
        "packages/aa/aa05.lock",
    ] {
        assert!(!there(gone), "{gone}");
    }
    for stays in ["layers/.k.json.4194998.new", "layers/young.lock", "downloads/sha512-one", "downloads/two.part"] {
        assert!(there(stays), "{stays}");
    }
    let downloading = File::create(made.path("downloads/three.lock")).unwrap();
    downloading.lock().unwrap();
    let fetching = File::create(made.path("packages/aa/aa02.lock")).unwrap();
    fetching.lock().unwrap();
    made.run(&["gc", "--older-than", "2d"]);
    for gone in ["downloads/sha256-one", "downloads/sha512-one", "downloads/two.part", "downloads/two.part.json"] {
        assert!(!there(gone), "{gone}");
    }
    assert!(!there("packages/aa/aa01") && !there("packages/aa/aa01.json"));
    for stays in ["packages/aa/aa02", "packages/aa/aa02.json", "packages/aa/aa03", "downloads/three.part"] {
        assert!(there(stays), "{stays}");
    }
}

#[test]
fn a_build_makes_a_cut_disk_anew_and_says_so() {
    let bench = support::planted::project(&[0; 512], "");
    let bases = bench.cache.join("visabuild/bases");
    let disk = fs::read_dir(&bases).unwrap().flatten().map(|entry| entry.path());
    let disk = disk.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "qcow2")).unwrap();
    fs::write(disk.with_extension("sum.json"), r#"{"size": 7, "modified": 0}"#).unwrap();
    let mut run = support::Run::start(support::planted::build(&bench));
    let line = run.wait_for("it is made anew");
    assert!(line.contains("bytes instead of 7"), "{line}");
    run.signal(rustix::process::Signal::TERM);
    run.end();
}

/// The variable that makes this very program put layers for ever, to be killed.
const VICTIM: &str = "VISABUILD_TEST_VICTIM";

/// Not a test of its own: what the tests below start.
#[test]
#[ignore = "runs until it is killed"]
fn puts_layers_until_it_is_killed() {
    let Ok(root) = std::env::var(VICTIM) else { return };
    let cache = Cache::open(Path::new(&root)).unwrap();
    let layers = cache.layers();
    for number in 0_u32.. {
        let lock = layers.build_lock("k").unwrap();
        assert!(lock.try_take().is_ok());
        let instance = format!("{}x{number}", std::process::id());
        let disk = Path::new(&root).join("work").join(&instance);
        fs::write(&disk, [instance.as_bytes(), &[0; 300_000]].concat()).unwrap();
        let layer = layers.put("k", &disk, &info(&instance, None, "t", 1)).unwrap();
        let bytes = fs::read(&layer.disk).unwrap();
        assert!(bytes.starts_with(instance.as_bytes()) && bytes.len() == instance.len() + 300_000);
    }
}

fn victim(made: &Made) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "puts_layers_until_it_is_killed", "--ignored"]).env(VICTIM, made.cache.root());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_kill_never_leaves_a_torn_layer() {
    let made = Made::new();
    for round in 0..25_u64 {
        let mut child = victim(&made);
        // Moments that differ from round to round, most of them amid the work.
        std::thread::sleep(Duration::from_millis(30 + round * 7919 % 61));
        child.kill().unwrap();
        child.wait().unwrap();
        let warned = std::cell::Cell::new(false);
        let found = made.cache.layers().find("k", None, |_| warned.set(true)).unwrap();
        assert!(!warned.get(), "a torn layer in round {round}");
        if let Some(layer) = found {
            let bytes = fs::read(&layer.disk).unwrap();
            assert!(bytes.starts_with(layer.info.instance.as_bytes()), "round {round}");
            assert_eq!(bytes.len(), layer.info.instance.len() + 300_000, "round {round}");
        }
        let (out, err, code) = made.run(&["gc"]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(made.left().len() <= 1, "{:?}", made.left());
    }
}

#[test]
fn a_collection_never_takes_a_layer_from_who_makes_it() {
    let made = Made::new();
    let mut child = victim(&made);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        let (out, err, code) = made.run(&["gc", "--all"]);
        assert_eq!(code, 0, "{out}{err}");
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            panic!("{status}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
