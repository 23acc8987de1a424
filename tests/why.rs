//! What `why` and `plan` say of projects that were built before: exact output, without a machine but in one test.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::built::{APP, Built, NOON, built};
use support::{shared, told, visabuild};
use visabuild::plan::{OwnScripts, Plan};
use visabuild::template::{Inputs, Value, load, resolve};

const APP_MANIFEST: &str = "templates/app/manifest.yml";

#[test]
fn nothing_changed_is_said_so() {
    let bench = built();
    assert_eq!(bench.says(&["why"]), "tiny: up to date\napp: up to date\n");
    assert_eq!(bench.says(&["why", "tiny"]), "tiny: up to date\n");
    let json: serde_json::Value = serde_json::from_str(&bench.says(&["why", "--json"])).unwrap();
    assert_eq!(json["templates"][1]["image"]["state"], "hit");
    assert_eq!(json["templates"][1]["estimate_seconds"], 0.0);
    // Neither comments nor times nor the umask are inputs.
    bench.edit(APP_MANIFEST, "packer:", "# a comment\npacker:\n  description: other");
    bench.edit("templates/app/install.sh", "exit", "exit");
    fs::set_permissions(bench.path("templates/app/install.sh"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bench.says(&["why"]), "tiny: up to date\napp: up to date\n");
}

#[test]
fn a_project_that_was_never_built_is_built_for_the_first_time() {
    let bench = Built::new();
    let never = "building for the first time\n  time: unknown: it was never done here\n";
    assert_eq!(bench.says(&["why"]), format!("tiny: {never}app: {never}"));
    // One elsewhere that has the same name is compared with.
    bench.built();
    let other = Built { folder: tempfile::tempdir().unwrap(), password: None };
    let mut copy = std::process::Command::new("cp");
    copy.arg("-r").arg(bench.path("templates")).arg(bench.path("config.yml")).arg(other.folder.path());
    assert!(copy.status().unwrap().success());
    other.edit("templates/tiny/manifest.yml", "echo one", "echo two");
    std::os::unix::fs::symlink(bench.path("cache"), other.path("cache")).unwrap();
    let out = other.says(&["why", "tiny"]);
    assert!(out.starts_with("tiny: rebuilding from step 1 `prepare`: inline `echo one` → `echo two`"), "{out}");
}

#[test]
fn edits_are_named_with_their_diffs() {
    let bench = built();
    bench.edit("templates/app/install.sh", "install vim", "install emacs");
    insta::assert_snapshot!("script", bench.says(&["why"]));
    bench.edit(APP_MANIFEST, "LANG: C", "LANG: fr_FR.UTF-8\n        MORE: \"1\"");
    bench.edit(APP_MANIFEST, "colour: blue", "colour: green");
    fs::set_permissions(bench.path("templates/app/files/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(bench.path("templates/app/files/a.txt")).unwrap();
    bench.write("templates/app/files/b.bin", "\0");
    bench.edit("templates/tiny/environment.yml", "hello", "goodbye");
    insta::assert_snapshot!("everything", bench.says(&["why"]));
}

#[test]
fn a_build_goes_on_from_the_last_checkpoint_before_the_change() {
    let bench = built();
    bench.edit(APP_MANIFEST, "echo end", "echo the end");
    insta::assert_snapshot!("resume", bench.says(&["why"]));
    insta::assert_snapshot!("resume_plan", without_fingerprints(&bench.says(&["plan"])));
    let plan: serde_json::Value = serde_json::from_str(&bench.says(&["plan", "--json"])).unwrap();
    let status = &plan["status"][1];
    assert_eq!(status["layer"], serde_json::json!({ "state": "resume", "done": 2 }));
    let states: Vec<_> = status["steps"].as_array().unwrap().iter().map(|step| step["state"].clone()).collect();
    assert_eq!(states, ["hit", "hit", "resume", "miss"]);
    // The wait for SSH, the step that changed (by its name), compression, the seal's step.
    assert_eq!(plan["estimate"], serde_json::json!({ "seconds": 10.0 + 62.0 + 5.0 + 1.0, "complete": true }));
}

#[test]
fn an_image_that_is_older_than_records_gets_one_when_it_is_found_unchanged() {
    let bench = built();
    let forget = || fs::remove_dir_all(bench.path("cache/visabuild/inputs/records")).unwrap();
    forget();
    let (_, err, code) = bench.run(&["build", "--no-verify", "--lock-root"]);
    assert_eq!(code, 0, "{err}");
    bench.edit(APP_MANIFEST, "echo end", "echo the end");
    let out = bench.says(&["why"]);
    assert!(out.contains("app: rebuilding from step 3 `finish`: inline changed\n"), "{out}");
    forget();
    let out = bench.says(&["why"]);
    let why = "the image there was made of something else, which is not known";
    assert!(out.contains(&format!("app: rebuilding from step 3 `finish`: {why}\n")), "{out}");
}

#[test]
fn times_that_are_not_remembered_are_those_of_the_manifest() {
    let bench = built();
    fs::remove_dir_all(bench.path("cache/visabuild/inputs/times")).unwrap();
    let timing = |phase: &str, seconds: f64| serde_json::json!({ "phase": phase, "seconds": seconds });
    let layers = serde_json::json!([
        { "template": "base", "timings": [timing("bootstrap", 1000.0)] },
        { "template": "tiny", "timings": [timing("prepare", 2000.0)] },
        { "template": "app", "timings": [timing("wait for SSH", 3.0), timing("finish", 4.0)] },
    ]);
    let manifest = serde_json::json!({ "layers": layers, "timings": [timing("compress", 5.0), timing("last", 6.0)] });
    bench.write("builds/app/app.manifest.json", &manifest.to_string());
    bench.edit(APP_MANIFEST, "echo end", "echo the end");
    let out = bench.says(&["why"]);
    assert!(out.ends_with("  time: about 18.0 s\n"), "{out}");
}

/// Fingerprints change with visabuild's own scripts.
fn without_fingerprints(text: &str) -> String {
    let is_fingerprint = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(' ')
        .map(|word| {
            if is_fingerprint(word.trim_end()) { word.replace(word.trim_end(), "FINGERPRINT") } else { word.to_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn steps_that_come_go_and_move_are_named() {
    let step = "    - type: shell\n      name: extra\n      inline: [\"true\"]\n";
    let bench = built();
    bench.edit(APP_MANIFEST, "    - type: file\n", &format!("{step}    - type: file\n"));
    insta::assert_snapshot!("added", bench.says(&["why", "app"]));
    bench.built();
    bench.edit(APP_MANIFEST, step, "");
    insta::assert_snapshot!("removed", bench.says(&["why", "app"]));
    bench.edit(APP_MANIFEST, "    - type: file\n      source: files/\n      destination: /srv\n", "");
    bench.edit(
        APP_MANIFEST,
        "    - type: shell\n      script",
        "    - type: file\n      source: files/\n      destination: /srv\n    - type: shell\n      script",
    );
    insta::assert_snapshot!("moved", bench.says(&["why", "app"]));
}

#[test]
fn the_base_disk_and_the_parent_are_named() {
    let bench = built();
    bench.edit("templates/tiny/manifest.yml", "[cloud-init]", "[cloud-init, vim]");
    insta::assert_snapshot!("base", bench.says(&["why"]));
}

#[test]
fn the_seal_and_the_settings_of_the_image_leave_the_layer_as_it_is() {
    let bench = built();
    insta::assert_snapshot!("compression", bench.says(&["why", "--compression", "zlib"]));
    bench.edit(APP_MANIFEST, "inline: [\"true\"]", "inline: [\"false\"]");
    insta::assert_snapshot!("seal", bench.says(&["why"]));
}

#[test]
fn results_that_are_gone_or_not_as_they_were_built_are_told() {
    let bench = built();
    fs::remove_file(bench.image("tiny")).unwrap();
    fs::write(bench.image("app"), "by hand").unwrap();
    insta::assert_snapshot!("results", bench.says(&["why"]));
    bench.built();
    fs::remove_file(bench.path("builds/app/app.manifest.json")).unwrap();
    let out = bench.says(&["why"]);
    assert!(out.contains("app: sealing its layer anew: the image's manifest is not there any more\n"), "{out}");
    let elsewhere = bench.path("elsewhere");
    let out = bench.says(&["why", "--output", elsewhere.to_str().unwrap()]);
    assert!(out.contains("app: sealing its layer anew: the image is not there any more\n"), "{out}");
}

#[test]
fn layers_that_are_not_in_the_cache_any_more_are_made_only_where_they_are_needed() {
    let bench = built();
    for folder in ["layers", "checkpoints"] {
        fs::remove_dir_all(bench.path("cache/visabuild").join(folder)).unwrap();
    }
    assert_eq!(bench.says(&["why"]), "tiny: up to date\napp: up to date\n");
    bench.edit(APP_MANIFEST, "echo end", "echo the end");
    insta::assert_snapshot!("evicted", bench.says(&["why"]));
}

#[test]
fn what_a_secret_does_is_told_without_its_value() {
    let mut bench = Built { password: Some("hunter2"), ..Built::new() };
    bench.write(APP_MANIFEST, &APP.replace("seal:\n", "seal:\n  root_password: \"{{ root_password }}\"\n"));
    bench.built();
    let out = bench.says(&["why"]);
    assert_eq!(out, "tiny: up to date\napp: up to date\n");
    bench.password = Some("hunter3");
    let out = bench.says(&["why"]);
    insta::assert_snapshot!("secret", out);
    bench.edit("templates/app/install.sh", "exit 0", "echo hunter3");
    let out = bench.says(&["why"]);
    assert!(out.contains("+echo ‹secret›") && !out.contains("hunter"), "{out}");
    bench.edit("templates/app/install.sh", "echo hunter3", "exit 0");
    bench.password = None;
    let out = bench.says(&["why"]);
    assert_eq!(out, "tiny: up to date\napp: up to date unless secrets changed; unknown without -rp\n");
    let out = bench.says(&["plan"]);
    assert!(
        out.contains("true  [unknown without -rp, 1.0 s]") || out.contains("last  [unknown without -rp, 1.0 s]"),
        "{out}"
    );
    let kept =
        walkdir::WalkDir::new(bench.path("cache")).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    for file in kept {
        let text = String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned();
        assert!(!text.contains("hunter"), "{}", file.path().display());
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o077, file_mode(file.path()));
    }
}

/// Disks are written by qemu-img, which the umask decides for; what lies in the inputs is nobody else's.
fn file_mode(path: &Path) -> u32 {
    let is_ours = path.components().any(|part| part.as_os_str() == "inputs");
    if is_ours { 0 } else { fs::metadata(path).unwrap().permissions().mode() & 0o077 }
}

#[test]
fn a_layer_that_a_secret_is_in_cannot_be_looked_up_without_it() {
    let mut bench = Built { password: Some("hunter2"), ..Built::new() };
    bench.edit(APP_MANIFEST, "LANG: C", "PASSWORD: \"{{ root_password }}\"");
    bench.built();
    bench.password = None;
    bench.edit(APP_MANIFEST, "echo end", "echo the end");
    insta::assert_snapshot!("unknown", bench.says(&["why"]));
    let out = bench.says(&["plan"]);
    assert!(out.contains("install.sh  [unknown without -rp, 1 min 00 s]"), "{out}");
}

#[test]
fn a_step_that_says_never_is_done_in_every_build() {
    let bench = Built::new();
    bench.edit(APP_MANIFEST, "    - type: file\n", "    - type: file\n      cache: never\n");
    bench.built();
    insta::assert_snapshot!("never", bench.says(&["why"]));
    // In the seal, what is sealed is kept.
    let bench = Built::new();
    bench.edit(APP_MANIFEST, "      name: last\n", "      name: last\n      cache: never\n");
    bench.built();
    let out = bench.says(&["why", "app"]);
    assert!(out.contains("app: sealing its layer anew: a step of the seal says `cache: never`\n"), "{out}");
}

#[test]
fn days_and_weeks_are_part_of_what_an_image_is_made_of() {
    let bench = Built::new();
    bench.edit(APP_MANIFEST, "      script: install.sh\n", "      script: install.sh\n      cache: daily\n");
    bench.edit(APP_MANIFEST, "      name: finish\n", "      name: finish\n      cache: weekly\n");
    bench.built();
    let at = |time: u64| {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", bench.path("cache")).env("SOURCE_DATE_EPOCH", time.to_string());
        told(&command.args(["why", "app", "-C"]).arg(bench.folder.path()).output().unwrap())
    };
    let until_midnight = 12 * 3600;
    assert!(at(NOON + until_midnight - 1).0.ends_with("app: up to date\n"));
    insta::assert_snapshot!("daily", at(NOON + until_midnight).0);
    let mut command = visabuild();
    command.env("SOURCE_DATE_EPOCH", "soon").args(["validate", "-C"]).arg(bench.folder.path());
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 2);
    let expected =
        "error: SOURCE_DATE_EPOCH is `soon`, not a number of seconds since 1970\n  hint: unset it to go by the clock\n";
    assert_eq!(err, expected);
}

#[test]
fn a_key_is_compared_and_a_secret_in_it_is_not_shown() {
    let mut bench = Built { password: Some("hunter2"), ..Built::new() };
    let key = "      name: finish\n      cache:\n        key: \"{{ word }} {{ root_password }}\"\n";
    bench.edit(APP_MANIFEST, "      name: finish\n", key);
    let plan = bench.plan();
    assert!(plan.stages[1].secrets.contains("root_password"));
    bench.built();
    bench.password = Some("hunter3");
    let out = bench.says(&["why", "app"]);
    assert!(out.contains("the secret `root_password` changed") && !out.contains("hunter"), "{out}");
    bench.edit("templates/tiny/environment.yml", "hello", "goodbye");
    let out = bench.says(&["why", "app"]);
    let changed = "cache.key: `hello ‹secret:root_password›` → `goodbye ‹secret:root_password›`\n";
    assert!(out.contains(changed), "{out}");
}

#[test]
fn wrong_rules_are_told_with_their_place() {
    let bench = Built::new();
    let told = |rule: &str| {
        bench.write(
            APP_MANIFEST,
            &APP.replace("      name: finish\n", &format!("      name: finish\n      cache: {rule}\n")),
        );
        let (_, err, code) = bench.run(&["validate"]);
        assert_eq!(code, 2);
        err
    };
    let place = "error: templates/app/manifest.yml:14";
    let err = told("dayly");
    assert_eq!(
        err,
        format!(
            "{place}:14: expected `never`, `daily`, `weekly` or `key: TEXT`, found `dayly`\n  \
             hint: did you mean `daily`?\n"
        )
    );
    let err = told("{ key: \"{{ mirror }}\" }");
    assert_eq!(
        err,
        format!(
            "{place}:21: a fact of the host cannot be a cache key: it is in no fingerprint\n  \
             hint: use a variable of the environment\n"
        )
    );
    let err = told("{ keys: a }");
    assert!(err.contains("`key` is missing") && err.contains("unknown key `keys`"), "{err}");
}

#[test]
fn files_that_are_secrets_are_not_kept() {
    let mut bench = Built { password: Some("unused"), ..Built::new() };
    bench.password = None;
    bench.write("key.pem", "the-platforms-key");
    let inline = "      inline: [\"true\"]\n";
    let file = "    - type: file\n      source: \"{{ pam_public_key }}\"\n      destination: /etc/key\n";
    bench.edit(APP_MANIFEST, inline, &format!("{inline}{file}"));
    let key = bench.path("key.pem").display().to_string();
    let values = BTreeMap::from([("pam_public_key".to_owned(), Value::Secret(key.into()))]);
    let project = load(bench.folder.path()).unwrap();
    let resolved = resolve(&project, &[], &Inputs { values, ..Inputs::default() }).unwrap();
    let scripts = OwnScripts { configure: "", boot_loader: "", session: "", seal: "" };
    let plan = Plan::new(&resolved, scripts, false).unwrap();
    let cache = bench.cache();
    for stage in &plan.stages {
        bench.publish(&cache, &plan, stage);
    }
    let files = walkdir::WalkDir::new(bench.path("cache/visabuild/inputs")).into_iter().flatten();
    let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    assert!(texts.iter().any(|text| text.contains("install vim")));
    assert!(texts.iter().all(|text| !text.contains("the-platforms-key") && !text.contains("key.pem")));
}

#[test]
fn a_cache_that_cannot_be_used_leaves_the_plan() {
    let bench = Built::new();
    fs::write(bench.path("cache"), "a file").unwrap();
    let out = bench.says(&["plan"]);
    assert!(out.contains("not looked up: cannot make the cache folder"), "{out}");
    let (_, err, code) = bench.run(&["why"]);
    assert_eq!(code, 3);
    assert!(err.contains("cannot make the cache folder"), "{err}");
}

/// What `why` and `plan` say before a build is what the build does.
#[test]
fn nspawn_a_build_does_what_was_said() {
    let steps = |last: &str| {
        let one = "    - type: shell\n      name: one\n      inline: [\"sleep 0.3\"]\n";
        let two = "    - type: shell\n      name: two\n      inline: [\"true\"]\n";
        format!("{one}{two}    - type: shell\n      name: three\n      inline: [\"{last}\"]")
    };
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir_all(cache.join("visabuild")).unwrap();
    let shared_bases = shared().join("cache/visabuild/bases");
    fs::create_dir_all(&shared_bases).unwrap();
    std::os::unix::fs::symlink(shared_bases, cache.join("visabuild/bases")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", &cache).args(arguments).arg("-C").arg(folder.path());
        let (out, err, code) = told(&command.args(["-rp", "a-root-password"]).output().unwrap());
        assert_eq!(code, 0, "{err}");
        (out, err)
    };
    let build = || run(&["build", "--engine", "nspawn", "--checkpoints", "all"]).1;
    let why = || run(&["why"]).0;
    let headline = |out: &str| out.lines().next().unwrap().to_owned();

    support::tiny_project(folder.path(), &steps("true"));
    assert_eq!(headline(&why()), "tiny: building for the first time");
    let err = build();
    assert!(err.contains("tiny: building for the first time"), "{err}");
    assert_eq!(why(), "tiny: up to date\n");
    assert!(build().contains("nothing changed"));

    support::tiny_project(folder.path(), &steps("echo changed"));
    let said = headline(&why());
    assert_eq!(said, "tiny: rebuilding from step 3 `three`: inline `true` → `echo changed`");
    let plan: serde_json::Value = serde_json::from_str(&run(&["plan", "--json"]).0).unwrap();
    let status = &plan["status"][0];
    assert_eq!(status["layer"], serde_json::json!({ "state": "resume", "done": 2 }));
    assert!(status["steps"][0]["seconds"].as_f64().unwrap() >= 0.3, "{status}");
    assert_eq!(plan["estimate"]["complete"], true);
    let err = build();
    assert!(err.contains(&said), "{err}");
    assert!(err.contains("steps left to do: 1"), "{err}");
    assert!(!err.contains("tiny: one"), "{err}");

    // What is done in every build is, and what lies before it is not.
    let never = steps("true").replace("name: two\n", "name: two\n      cache: never\n");
    support::tiny_project(folder.path(), &never);
    build();
    let said = headline(&why());
    assert_eq!(said, "tiny: rebuilding from step 2 `two`: it says `cache: never`");
    let err = build();
    assert!(err.contains(&said) && err.contains("steps left to do: 2") && !err.contains("tiny: one"), "{err}");

    // The time of a step that was not done again is known still.
    fs::remove_dir_all(cache.join("visabuild/checkpoints")).unwrap();
    fs::remove_dir_all(cache.join("visabuild/layers")).unwrap();
    support::tiny_project(folder.path(), &steps("echo changed again"));
    let plan: serde_json::Value = serde_json::from_str(&run(&["plan", "--json"]).0).unwrap();
    let status = &plan["status"][0];
    assert_eq!(status["layer"]["state"], "miss");
    assert!(status["steps"][0]["seconds"].as_f64().unwrap() >= 0.3, "{status}");
}
