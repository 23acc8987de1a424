//! Projects whose base disk is planted in a cache of their own: a guest that does one thing, and boots in a second.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use visabuild::engine::Engine;

use super::bench::Bench;
use super::{told, visabuild};

/// A project whose guest boots `disk`, a raw image; `builder` is YAML of its builder.
pub fn project(disk: &[u8], builder: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("templates/tiny");
    fs::create_dir_all(&template).unwrap();
    fs::write(folder.path().join("config.yml"), "templates:\n  tiny:\n").unwrap();
    let manifest = format!(
        "packer:\n  builders:\n    - type: bootstrap\n      suite: trixie\n{builder}  provisioners:\n    - type: shell\n      inline: [\"true\"]\n"
    );
    fs::write(template.join("manifest.yml"), manifest).unwrap();
    let cache = folder.path().join("cache");
    let bench = Bench { folder, cache, engine: Engine::Qemu };
    plant(&bench, disk);
    bench
}

/// Puts `image` where the base disk of the project is looked for.
fn plant(bench: &Bench, image: &[u8]) {
    let mut plan = visabuild();
    plan.args(["plan", "--json", "--lock-root", "-C"]).arg(bench.folder.path());
    let (out, err, code) = told(&plan.output().unwrap());
    assert_eq!(code, 0, "{err}");
    let plan: Value = serde_json::from_str(&out).unwrap();
    let key = plan["stages"][0]["base"]["fingerprint"].as_str().unwrap();
    let bases = bench.cache.join("visabuild/bases");
    fs::create_dir_all(&bases).unwrap();
    let raw = bench.folder.path().join("disk.raw");
    fs::write(&raw, image).unwrap();
    let disk = bases.join(format!("{key}.planted.qcow2"));
    let convert = Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&disk).status().unwrap();
    assert!(convert.success());
    let info = json!({ "instance": "planted", "parent": null, "template": "base", "created": 1, "seconds": 1.0, "phases": [] });
    fs::write(bases.join(format!("{key}.json")), info.to_string()).unwrap();
}

/// Builds it, emulated.
pub fn build(bench: &Bench) -> Command {
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", &bench.cache).args(["build", "--lock-root", "--no-verify", "--accel", "tcg"]);
    command.args(["--engine", &bench.engine.to_string(), "-C"]).arg(bench.folder.path());
    command
}
