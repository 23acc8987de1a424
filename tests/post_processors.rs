//! Post-processors by the real binary, on images that were planted where a build would have left them: no guest runs.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::bench::{Bench, QUICK, Small, kill};
use support::built::Built;
use support::{Run, told, visabuild};
use visabuild::cache::{SealedState, SecretTags};
use visabuild::engine::Engine;

/// Bytes of the planted disk.
const SIZE: usize = 3 << 20;

/// A project of `tiny` and `app`, both built; `app` has these post-processors and an image with something in it.
fn bench(post_processors: &str) -> Built {
    let bench = Built::new();
    say(&bench, post_processors);
    let (cache, plan) = (bench.cache(), bench.plan());
    for stage in &plan.stages {
        bench.publish(&cache, &plan, stage);
    }
    plant(&bench, 1, SIZE);
    bench
}

fn say(bench: &Built, post_processors: &str) {
    let text: String = post_processors.lines().map(|line| format!("    {line}\n")).collect();
    let text = if text.is_empty() { text } else { format!("  post-processors:\n{text}") };
    bench.write("templates/app/manifest.yml", &format!("packer:\n{text}"));
    if text.is_empty() {
        bench.write("templates/app/manifest.yml", "");
    }
}

/// An image of `app`, made of this seed, as a build leaves it.
fn plant(bench: &Built, seed: u64, size: usize) {
    let image = bench.image("app");
    let raw = bench.path("disk.raw");
    fs::write(&raw, content(seed, size)).unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), image.to_str().unwrap()]);
    let sha256 = hex(&Sha256::digest(fs::read(&image).unwrap()));
    let manifest = json!({ "template": "app", "image": { "sha256": sha256 }, "packages": {} });
    bench.write("builds/app/app.manifest.json", &manifest.to_string());
    let plan = bench.plan();
    let fingerprint = plan.stage("app").unwrap().seal.fingerprint.to_string();
    let settings = vec!["compression=zstd".to_owned()];
    SealedState { fingerprint, secrets: SecretTags::new(), settings }.record(&bench.cache(), &image).unwrap();
}

/// A disk of which the last third is empty and the first is nothing that could be compressed.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes: Vec<u8> = Vec::with_capacity(size);
    while bytes.len() < size / 3 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(state.to_be_bytes());
    }
    bytes.extend(b"text that is said again and again\n".iter().cycle().take(size / 3));
    bytes.resize(size, 0);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn qemu_img(arguments: &[&str]) {
    assert!(Command::new("qemu-img").args(arguments).status().unwrap().success(), "{arguments:?}");
}

/// Runs a shell command in the folder of `app`'s results; its standard output.
fn sh(bench: &Built, command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).current_dir(bench.path("builds/app")).output().unwrap();
    let (out, err, code) = told(&output);
    assert_eq!(code, 0, "{command}: {out}{err}");
    out
}

/// Names in the folder of `app`'s results, beside those of the build.
fn names(bench: &Built) -> Vec<String> {
    let own = ["app.qcow2", "app.manifest.json", ".post-processors.json"];
    let entries = walkdir::WalkDir::new(bench.path("builds/app")).min_depth(1).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    let name = |entry: walkdir::DirEntry| {
        entry.path().strip_prefix(bench.path("builds/app")).unwrap().to_str().unwrap().to_owned()
    };
    let mut names: Vec<String> = files.map(name).filter(|name| !own.contains(&name.as_str())).collect();
    names.sort();
    names
}

/// The post-processors that a build ran, by its standard error.
fn ran(err: &str) -> Vec<String> {
    let begun = err.lines().filter_map(|line| line.split_once("post-processor ")?.1.strip_suffix(" …"));
    begun.map(str::to_owned).collect()
}

/// Builds; the post-processors that were run.
fn build(bench: &Built) -> Vec<String> {
    let (out, err, code) = bench.run(&["build"]);
    assert_eq!(code, 0, "{out}{err}");
    ran(&err)
}

#[test]
fn checksums_are_what_the_ordinary_programs_check() {
    let bench = bench(
        "- checksum\n- type: checksum\n  checksum_types: [sha1, sha224, sha256, sha384, sha512]\n  output: \"{{ .ChecksumType }}.txt\"",
    );
    assert_eq!(build(&bench), ["checksum", "checksum"]);
    let files = ["packer_app_qemu_md5.checksum", "sha1.txt", "sha224.txt", "sha256.txt", "sha384.txt", "sha512.txt"];
    assert_eq!(names(&bench), files);
    for (file, program) in files.iter().zip(["md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum"]) {
        assert_eq!(sh(&bench, &format!("{program} --strict --check {file}")), "app.qcow2: OK\n");
    }
    let line = fs::read_to_string(bench.path("builds/app/sha256.txt")).unwrap();
    assert_eq!(line, format!("{}  app.qcow2\n", hex(&Sha256::digest(fs::read(bench.image("app")).unwrap()))));
}

#[test]
fn several_checksums_may_be_in_one_file_and_a_second_run_does_not_add_to_it() {
    let bench = bench("- {type: checksum, checksum_types: [sha256, sha256, md5], output: sums}");
    assert_eq!(build(&bench), ["checksum"]);
    let first = fs::read_to_string(bench.path("builds/app/sums")).unwrap();
    assert_eq!(first.lines().count(), 2);
    assert_eq!(
        sh(&bench, "sha256sum -c sums 2>/dev/null; md5sum -c sums 2>/dev/null"),
        "app.qcow2: OK\napp.qcow2: OK\n"
    );
    plant(&bench, 2, SIZE);
    assert_eq!(build(&bench), ["checksum"]);
    let second = fs::read_to_string(bench.path("builds/app/sums")).unwrap();
    assert_eq!(second.lines().count(), 2);
    assert_ne!(first, second);
}

#[test]
fn nothing_is_done_twice_and_only_what_changed_again() {
    let three =
        "- checksum\n- - {type: compress, output: x.gz}\n  - {type: checksum, output: x.md5}\n- {type: manifest}";
    let bench = bench(three);
    assert_eq!(build(&bench), ["checksum", "compress", "checksum", "manifest"]);
    let (out, err, code) = bench.run(&["build"]);
    assert_eq!((ran(&err), code), (Vec::<String>::new(), 0));
    assert!(out.contains("x.gz  (") && out.contains(", unchanged)"), "{out}");
    // A name does not count, an option does, and with it what comes after it in its chain.
    say(&bench, &three.replace("- checksum", "- {type: checksum, name: sums}"));
    assert_eq!(build(&bench), Vec::<String>::new());
    say(&bench, &three.replace("x.gz}", "x.gz, compression_level: 9}"));
    assert_eq!(build(&bench), ["compress", "checksum"]);
    say(&bench, &three.replace("x.md5", "y.md5"));
    assert_eq!(build(&bench), ["compress", "checksum"], "the level is another one");
    // What is not there is made again, and what was changed by hand.
    fs::remove_file(bench.path("builds/app/y.md5")).unwrap();
    assert_eq!(build(&bench), ["checksum"]);
    bench.write("builds/app/x.gz", "mine");
    assert_eq!(build(&bench), ["compress", "checksum"]);
    // Another image.
    plant(&bench, 2, SIZE);
    assert_eq!(build(&bench), ["checksum", "compress", "checksum", "manifest"]);
    let (_, err, code) = bench.run(&["build"]);
    assert_eq!((ran(&err), code), (Vec::<String>::new(), 0));
}

#[test]
fn a_build_with_nothing_to_do_is_quick_and_starts_no_process() {
    let bench = bench("- checksum\n- {type: convert, format: raw}\n- {type: compress, format: zst}");
    build(&bench);
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", bench.path("cache")).args(["build", "-C"]).arg(bench.folder.path());
    // Nothing is found there.
    command.env("PATH", bench.folder.path());
    let started = Instant::now();
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!((code, ran(&err)), (0, Vec::new()), "{err}");
    println!("nothing to do: {:?}", started.elapsed());
}

/// Format, output and a command that writes the content to standard output.
const FORMATS: [(&str, &str); 16] = [
    ("x.gz", "gzip -t x.gz; gzip -dc x.gz"),
    ("x.bgzf", "gzip -dc <x.bgzf"),
    ("x.lz4", "lz4 -qt x.lz4; lz4 -qdc x.lz4"),
    ("x.xz", "xz -t x.xz; xz -dc x.xz"),
    ("x.bz2", "bzip2 -t x.bz2; bzip2 -dc x.bz2"),
    ("x.zst", "zstd -qt x.zst; zstd -qdc x.zst"),
    ("x.zip", "unzip -qt x.zip >/dev/null; unzip -p x.zip app.qcow2"),
    ("x.tar", "tar -xOf x.tar app.qcow2"),
    ("x.tgz", "tar -xzOf x.tgz app.qcow2"),
    ("x.tar.gz", "tar -xzOf x.tar.gz app.qcow2"),
    ("x.tar.bgzf", "gzip -dc <x.tar.bgzf | tar -xO app.qcow2"),
    ("x.tar.lz4", "lz4 -qdc x.tar.lz4 | tar -xO app.qcow2"),
    ("x.tar.xz", "tar -xJOf x.tar.xz app.qcow2"),
    ("x.tar.bz2", "tar -xjOf x.tar.bz2 app.qcow2"),
    ("x.tar.zst", "zstd -qdc x.tar.zst | tar -xO app.qcow2"),
    ("packer_app_qemu.tar.gz", "tar -xzOf packer_app_qemu.tar.gz app.qcow2"),
];

#[test]
fn what_is_compressed_is_read_by_the_ordinary_programs() {
    let items: String = FORMATS
        .iter()
        .map(|(name, _)| match name.strip_prefix("packer") {
            Some(_) => "- compress\n".to_owned(),
            None => format!("- {{type: compress, output: {name}}}\n"),
        })
        .collect();
    let bench = bench(&items);
    // More than one piece of each.
    plant(&bench, 1, 20 << 20);
    assert_eq!(build(&bench).len(), FORMATS.len());
    for (name, read) in FORMATS {
        sh(&bench, &format!("({read}) | cmp - app.qcow2"));
        let size = bench.path("builds/app").join(name).metadata().unwrap().len();
        assert!(name == "x.tar" || size < 12 << 20, "{name}: {size}");
    }
    // Python has decoders of its own.
    let python = "import gzip, bz2, lzma, zipfile\nwant = open('app.qcow2', 'rb').read()\n\
                  for read in gzip.open('x.gz'), gzip.open('x.bgzf'), bz2.open('x.bz2'), lzma.open('x.xz'), \
                  zipfile.ZipFile('x.zip').open('app.qcow2'):\n    assert read.read() == want, read\n";
    bench.write("builds/app/read.py", python);
    sh(&bench, "python3 read.py");
}

#[test]
fn levels_are_taken_and_an_empty_file_is_one_afterwards() {
    let levels = [("gz", 1), ("bgzf", 9), ("xz", 1), ("xz", 12), ("bz2", 1), ("zst", 19), ("lz4", 3), ("zip", 1)];
    let items: String = levels
        .iter()
        .map(|(format, level)| {
            format!("- - {{type: artifice, files: [empty]}}\n  - {{type: compress, output: e{level}.{format}, compression_level: {level}}}\n")
        })
        .collect();
    let bench = bench(&items);
    bench.write("builds/app/empty", "");
    assert_eq!(build(&bench).len(), 2 * levels.len());
    sh(
        &bench,
        "for read in 'gzip -dc e1.gz' 'gzip -dc' 'xz -dc e1.xz' 'xz -dc e12.xz' 'bzip2 -dc e1.bz2' 'zstd -qdc e19.zst' \
         'lz4 -qdc e3.lz4' 'unzip -p e1.zip'; do test \"$($read <e9.bgzf | wc -c)\" = 0; done; test -f empty",
    );
}

#[test]
fn a_chain_goes_on_with_what_was_made_and_leaves_nothing_in_between() {
    let chain = "- - {type: convert, format: raw}\n  - {type: compress, output: disk.raw.xz}\n  - {type: checksum, output: sums}";
    let bench = bench(chain);
    assert_eq!(build(&bench), ["convert", "compress", "checksum"]);
    assert_eq!(names(&bench), ["disk.raw.xz", "sums"]);
    assert_eq!(sh(&bench, "xz -dc disk.raw.xz | cmp - ../../disk.raw; md5sum -c sums"), "disk.raw.xz: OK\n");
    assert_eq!(build(&bench), Vec::<String>::new());
    // The last one alone needs nothing of what is gone; the one before does.
    fs::remove_file(bench.path("builds/app/sums")).unwrap();
    assert_eq!(build(&bench), ["checksum"]);
    fs::remove_file(bench.path("builds/app/disk.raw.xz")).unwrap();
    assert_eq!(build(&bench), ["convert", "compress", "checksum"]);
    let kept = chain.replace("disk.raw.xz}", "disk.raw.xz, keep_input_artifact: true}");
    say(&bench, &kept);
    assert_eq!(build(&bench), ["convert", "compress", "checksum"]);
    assert_eq!(names(&bench), ["app.raw", "disk.raw.xz", "sums"]);
    // The image itself stays whatever is said.
    say(&bench, "- {type: compress, output: y.gz, keep_input_artifact: false}");
    assert_eq!(build(&bench), ["compress"]);
    assert!(bench.image("app").is_file());
}

#[test]
fn archives_hold_all_files_of_the_artifact() {
    let bench = bench(
        "- - {type: checksum, checksum_types: [md5, sha1], output: sums}\n  - {type: compress, output: a/x.tar.zst}",
    );
    assert_eq!(build(&bench), ["checksum", "compress"]);
    assert_eq!(names(&bench), ["a/x.tar.zst"]);
    assert_eq!(sh(&bench, "zstd -qdc a/x.tar.zst | tar -t"), "app.qcow2\nsums\n");
}

#[test]
fn the_image_is_converted_to_what_other_clouds_take() {
    let formats = [
        ("raw", "", "raw"),
        ("vmdk", ", options: {subformat: streamOptimized}", "vmdk"),
        ("vdi", "", "vdi"),
        ("vpc", ", options: {subformat: fixed}", "vpc"),
        ("vhdx", "", "vhdx"),
        ("qcow2", ", options: {compat: '0.10'}, output: old.qcow2", "qcow2"),
    ];
    let items: String =
        formats.iter().map(|(format, more, _)| format!("- {{type: convert, format: {format}{more}}}\n")).collect();
    let bench = bench(&items);
    assert_eq!(build(&bench).len(), formats.len());
    assert_eq!(names(&bench), ["app.raw", "app.vdi", "app.vhd", "app.vhdx", "app.vmdk", "old.qcow2"]);
    for (file, (_, _, format)) in
        ["app.raw", "app.vmdk", "app.vdi", "app.vhd", "app.vhdx", "old.qcow2"].iter().zip(formats)
    {
        sh(&bench, &format!("qemu-img compare -q -f qcow2 -F {format} app.qcow2 {file}"));
        let info: Value =
            serde_json::from_str(&sh(&bench, &format!("qemu-img info --output=json -f {format} {file}"))).unwrap();
        assert_eq!(info["virtual-size"], SIZE, "{file}");
    }
    // The last third is a hole.
    assert_eq!(
        sh(&bench, "test $(stat -c %b app.raw) -lt $(($(stat -c %s app.raw) / 512 * 4 / 5)); stat -c %s app.raw")
            .trim(),
        SIZE.to_string()
    );
    assert!(sh(&bench, "head -c 2048 app.vmdk | tr -cd '[:alnum:]'").contains("streamOptimized"));
}

#[test]
fn lists_of_packers_form_grow_and_are_not_mistaken() {
    let list = "- {type: manifest, custom_data: {beamline: ID01, name: '{{ .BuildName }}'}}";
    let bench = bench(list);
    assert_eq!(build(&bench), ["manifest"]);
    let read = || -> Value {
        serde_json::from_slice(&fs::read(bench.path("builds/app/packer-manifest.json")).unwrap()).unwrap()
    };
    let first = read();
    let build_one = &first["builds"][0];
    let size = bench.image("app").metadata().unwrap().len();
    assert_eq!(build_one["name"], "app");
    assert_eq!(build_one["builder_type"], "qemu");
    assert_eq!(build_one["files"], json!([{ "name": "builds/app/app.qcow2", "size": size }]));
    assert_eq!(build_one["artifact_id"], "VM");
    assert_eq!(build_one["custom_data"], json!({ "beamline": "ID01", "name": "app" }));
    assert_eq!(build_one["packer_run_uuid"], first["last_run_uuid"]);
    assert!(build_one["build_time"].as_u64().unwrap() > 1_700_000_000);
    // The same again is not added, another image is.
    assert_eq!(build(&bench), Vec::<String>::new());
    plant(&bench, 2, SIZE);
    assert_eq!(build(&bench), ["manifest"]);
    let second = read();
    assert_eq!(second["builds"].as_array().unwrap().len(), 2);
    assert_eq!(second["builds"][0], first["builds"][0]);
    assert_ne!(second["last_run_uuid"], first["last_run_uuid"]);
    say(&bench, "- - compress\n  - {type: manifest, strip_path: true, strip_time: true}");
    assert_eq!(build(&bench), ["compress", "manifest"]);
    let third = &read()["builds"][2];
    assert_eq!((&third["files"][0]["name"], &third["artifact_id"]), (&json!("packer_app_qemu.tar.gz"), &json!("")));
    assert_eq!((&third["custom_data"], third.get("build_time")), (&Value::Null, None));
    // Somebody else's file is not touched.
    bench.write("builds/app/other.json", "[1]");
    say(&bench, "- {type: manifest, output: other.json}");
    let (_, err, code) = bench.run(&["build"]);
    assert_eq!(code, 4);
    assert!(err.contains("other.json is there already, and is no list of builds in Packer's form"), "{err}");
    assert_eq!(fs::read_to_string(bench.path("builds/app/other.json")).unwrap(), "[1]");
}

#[test]
fn artifice_takes_files_that_are_there() {
    let bench = bench("- - {type: artifice, files: [one.txt, ../../note]}\n  - {type: checksum, output: sums}");
    bench.write("note", "note");
    let (out, err, code) = bench.run(&["build"]);
    assert_eq!((out.as_str(), code), ("", 4));
    let folder = bench.path("builds/app");
    let told = format!(
        "error: post-processor `artifice` of template `app` (templates/app/manifest.yml:3:9)\n  because: {}/one.txt does not exist\n",
        folder.display()
    );
    assert!(err.contains(&told), "{err}");
    assert!(err.contains("hint: the image is built, and stays; `visabuild build` goes on with what is left"), "{err}");
    bench.write("builds/app/one.txt", "1");
    assert_eq!(build(&bench), ["artifice", "checksum"]);
    assert_eq!(sh(&bench, "md5sum -c sums").lines().count(), 2);
    assert_eq!(build(&bench), Vec::<String>::new());
    bench.write("builds/app/one.txt", "another");
    assert_eq!(build(&bench), ["artifice", "checksum"]);
}

#[test]
fn artifice_of_what_its_own_chain_makes_is_done_once_and_made_again_where_it_is_gone() {
    let bench = bench(
        "- - {type: convert, format: raw}\n  - {type: artifice, files: [app.raw]}\n  - compress\n\
         - - {type: shell-local, command: 'echo made >\"$(dirname \"$VISABUILD_IMAGE\")\"/made.txt'}\n  - {type: artifice, files: [made.txt]}",
    );
    assert_eq!(build(&bench).len(), 5);
    assert_eq!(build(&bench), Vec::<String>::new());
    fs::remove_file(bench.path("builds/app/made.txt")).unwrap();
    assert_eq!(build(&bench).len(), 2);
    assert_eq!(build(&bench), Vec::<String>::new());
}

#[test]
fn a_failure_leaves_what_was_done_and_the_next_run_does_the_rest() {
    let good = "- checksum\n- {type: convert, format: vmdk, options: {subformat: streamOptimized}}\n- {type: compress, output: x.gz}";
    let bench = bench(&good.replace("streamOptimized", "nonsense"));
    let image = fs::read(bench.image("app")).unwrap();
    let (out, err, code) = bench.run(&["build"]);
    assert_eq!((out.as_str(), code), ("", 4), "{err}");
    let place = "error: post-processor `convert` of template `app` (templates/app/manifest.yml:4:7)\n  because: `qemu-img` failed";
    assert!(err.contains(place) && err.contains("nonsense"), "{err}");
    assert_eq!(names(&bench), ["packer_app_qemu_md5.checksum"]);
    assert_eq!(fs::read(bench.image("app")).unwrap(), image);
    say(&bench, good);
    assert_eq!(build(&bench), ["convert", "compress"]);
    // What failed later leaves the good result of earlier.
    let before = fs::read(bench.path("builds/app/app.vmdk")).unwrap();
    say(&bench, &good.replace("streamOptimized", "nonsense"));
    assert_eq!(bench.run(&["build"]).2, 4);
    assert_eq!(fs::read(bench.path("builds/app/app.vmdk")).unwrap(), before);
}

#[test]
fn plan_and_why_say_what_is_left() {
    let bench = bench("- checksum\n- - {type: compress, output: x.gz}\n  - {type: manifest, name: list}");
    let plan = bench.says(&["plan"]);
    let post: Vec<&str> =
        plan.lines().filter_map(|line| line.strip_prefix("  post   ")?.split_once(' ')).map(|(_, rest)| rest).collect();
    let lines = ["checksum packer_app_qemu_md5.checksum", "compress x.gz", "manifest `list` packer-manifest.json"];
    assert_eq!(post, lines.map(|line| format!("{line}  [miss]")));
    assert!(plan.ends_with("no image to build, 3 post-processors to run\n"), "{plan}");
    let why = bench.says(&["why", "app"]);
    assert!(why.contains("app: up to date\n  to run: post-processor checksum packer_app_qemu_md5.checksum (templates/app/manifest.yml:3:7)\n"), "{why}");
    build(&bench);
    let plan = bench.says(&["plan"]);
    assert_eq!(plan.lines().filter(|line| line.starts_with("  post") && line.ends_with("[hit]")).count(), 3, "{plan}");
    assert!(plan.ends_with("nothing to do: every image is there with nothing changed\n"), "{plan}");
    assert!(bench.says(&["why", "app"]).ends_with("app: up to date\n"));
    let json: Value = serde_json::from_str(&bench.says(&["plan", "--format", "json"])).unwrap();
    assert_eq!(json["stages"][1]["post_processors"][1][0]["type"], "compress");
    assert_eq!(json["status"][1]["post_processors"][2]["is_done"], true);
    assert_eq!(bench.says(&["validate"]), "2 templates are valid: tiny, app\n");
    assert_eq!(build(&bench), Vec::<String>::new());
}

#[test]
fn other_programs_get_events() {
    let bench = bench("- {type: checksum, name: sums, output: x}");
    let (out, err, code) = bench.run(&["build", "--json"]);
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> =
        out.lines().chain(err.lines()).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let made = events.iter().find(|event| event["event"] == "post_processed").unwrap();
    assert_eq!((&made["template"], &made["post_processor"]), (&json!("app"), &json!("sums")));
    assert_eq!(made["path"], json!(bench.path("builds/app/x").to_str().unwrap()));
    assert!(events.iter().any(|event| event["phase"] == "post-processor sums" && event["event"] == "phase_finished"));
}

#[test]
fn commands_of_the_host_get_the_artifact_and_run_again_when_they_change() {
    let chain = "- - {type: compress, output: x.gz}\n  - {type: checksum, output: sums}\n  - type: shell-local\n    name: ship\n    script: ship.sh\n    environment_vars: [TO=there]\n  - {type: artifice, files: [made.txt]}\n  - {type: checksum, name: last, output: last}";
    let script = "#!/bin/sh -e\ncd \"$VISABUILD_RESULTS\"\n{ echo \"$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $TO\"; echo \"$VISABUILD_ARTIFACT_FILES\"; \
                  echo \"$VISABUILD_IMAGE\"; echo \"$VISABUILD_MANIFEST\"; } >made.txt\necho shipped\n";
    let bench = bench("");
    bench.write("templates/app/ship.sh", script);
    sh(&bench, "chmod +x ../../templates/app/ship.sh");
    say(&bench, chain);
    let (_, err, code) = bench.run(&["build"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(ran(&err), ["compress", "checksum", "ship", "artifice", "last"]);
    assert!(err.contains("app: post-processor ship | shipped"), "{err}");
    let folder = bench.path("builds/app").display().to_string();
    let wanted = ["x.gz", "sums", "app.qcow2", "app.manifest.json"].map(|name| format!("{folder}/{name}\n")).concat();
    assert_eq!(fs::read_to_string(bench.path("builds/app/made.txt")).unwrap(), format!("app qemu there\n{wanted}"));
    // What the artifice leaves behind is gone, and nothing has to be done for that.
    assert_eq!(names(&bench), ["last", "made.txt"]);
    assert_eq!(build(&bench), Vec::<String>::new());
    bench.write("templates/app/ship.sh", &script.replace("shipped", "again"));
    assert_eq!(build(&bench), ["compress", "checksum", "ship", "artifice", "last"]);
    // A failure, and an operating system that this is not.
    bench.write("templates/app/ship.sh", "#!/bin/sh\necho no ship >&2\nexit 3\n");
    let (_, err, code) = bench.run(&["build"]);
    assert_eq!(code, 4);
    let told =
        "error: post-processor `ship` of template `app` (templates/app/manifest.yml:5:9)\n  because: exit code 3\n";
    assert!(err.contains(told) && err.contains("no ship"), "{err}");
    say(
        &bench,
        "- {type: shell-local, inline: ['exit 1'], only_on: [windows]}\n- {type: shell-local, inline: ['echo hello']}",
    );
    assert_eq!(build(&bench), ["echo hello"]);
}

#[test]
fn ctrl_c_ends_a_command_of_the_host_with_all_that_it_started() {
    let bench = bench("- {type: shell-local, name: slow, inline: ['sleep 1000 & echo begun; wait']}");
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", bench.path("cache")).args(["build", "-C"]).arg(bench.folder.path());
    let mut run = Run::start(command);
    run.wait_for("| begun");
    run.signal(Signal::INT);
    let (code, err) = run.end();
    assert_eq!(code, Some(130), "{err}");
}

#[test]
fn absolute_names_go_where_they_say_but_not_among_results() {
    let bench = bench("");
    let elsewhere = bench.path("elsewhere/sums");
    say(&bench, &format!("- {{type: checksum, output: {}}}", elsewhere.display()));
    assert_eq!(build(&bench), ["checksum"]);
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("/builds/app/app.qcow2\n"));
    let inside = bench.path("builds/app/app.manifest.json");
    say(&bench, &format!("- {{type: checksum, output: {}}}", inside.display()));
    let (_, err, code) = bench.run(&["build"]);
    assert_eq!(code, 2);
    let told = format!(
        "error: templates/app/manifest.yml:3:7: `{}` of post-processor `checksum` is among the results of a build",
        inside.display()
    );
    assert!(err.contains(&told), "{err}");
    let (_, err, code) = bench.run(&["validate"]);
    assert_eq!((code, err.contains(&told)), (2, true), "{err}");
    // Whatever way leads there.
    std::os::unix::fs::symlink("builds", bench.path("link")).unwrap();
    let before = fs::read(bench.image("app")).unwrap();
    for around in ["builds/../builds/app/app.qcow2", "link/app/app.qcow2"] {
        say(&bench, &format!("- {{type: compress, output: {}}}", bench.path(around).display()));
        for output in ["builds", "link", "templates/../builds"] {
            let (_, err, code) = bench.run(&["build", "--output", bench.path(output).to_str().unwrap()]);
            assert_eq!(code, 2, "{around} {output}: {err}");
        }
    }
    assert_eq!(fs::read(bench.image("app")).unwrap(), before);
}

#[test]
fn force_does_all_again() {
    // Without images that would have to be built for it.
    let bench = bench("- {type: checksum, output: x}");
    assert_eq!(build(&bench), ["checksum"]);
    fs::remove_file(bench.path("builds/app/.post-processors.json")).unwrap();
    assert_eq!(build(&bench), ["checksum"]);
    bench.write("builds/app/.post-processors.json", "nonsense");
    assert_eq!(build(&bench), ["checksum"]);
    assert_eq!(build(&bench), Vec::<String>::new());
}

/// A build that compresses long enough to be met there.
fn slow(bench: &Built) -> Run {
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", bench.path("cache")).args(["build", "-C"]).arg(bench.folder.path());
    let mut run = Run::start(command);
    run.wait_for("post-processor slow …");
    run
}

#[test]
fn ctrl_c_sigterm_and_kill_leave_no_part_of_a_file() {
    let bench = bench("- checksum\n- {type: compress, name: slow, output: x.xz, compression_level: 9}");
    plant(&bench, 1, 400 << 20);
    for (signal, expected) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let run = slow(&bench);
        run.signal(signal);
        let (code, err) = run.end();
        assert_eq!(code, expected, "{err}");
        let left = names(&bench);
        let part = left.iter().filter(|name| name.ends_with(".new")).count();
        // Only who is killed leaves one, if it had begun to write.
        assert!(!left.contains(&"x.xz".to_owned()) && part <= usize::from(signal == Signal::KILL), "{left:?}");
    }
    plant(&bench, 1, SIZE);
    assert_eq!(build(&bench), ["checksum", "slow"]);
    assert_eq!(names(&bench), ["packer_app_qemu_md5.checksum", "x.xz"]);
}

#[test]
fn a_killed_qemu_img_is_told_and_leaves_nothing() {
    let bench = bench("- {type: convert, name: slow, format: vmdk, options: {subformat: streamOptimized}}");
    plant(&bench, 1, 400 << 20);
    let run = slow(&bench);
    while !run.processes().iter().any(|(_, name)| name.starts_with("qemu-img")) {
        std::thread::yield_now();
    }
    kill(&run, "qemu-img");
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("post-processor `slow` of template `app`") && err.contains("signal: 9"), "{err}");
    assert_eq!(names(&bench), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_the_hosts_fault_and_the_earlier_result_stays() {
    let bench = bench("");
    let small = bench.path("small");
    fs::create_dir(&small).unwrap();
    let _mounted = Small::mount(&small);
    _mounted.shrink("6M");
    for item in ["{type: compress, output: OUT/x.gz}", "{type: convert, format: vdi, output: OUT/x.gz}"] {
        say(&bench, &format!("- {}", item.replace("OUT", small.to_str().unwrap())));
        plant(&bench, 1, SIZE);
        assert_eq!(build(&bench).len(), 1);
        let before = fs::read(small.join("x.gz")).unwrap();
        plant(&bench, 1, 30 << 20);
        let (_, err, code) = bench.run(&["build"]);
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("No space left on device"), "{err}");
        assert!(fs::read(small.join("x.gz")).unwrap() == before);
        assert_eq!(fs::read_dir(&small).unwrap().count(), 1);
    }
}

#[test]
fn a_missing_program_is_told_before_anything_is_done() {
    let bench = bench("- checksum\n- {type: convert, format: raw}");
    let mut command = visabuild();
    command.env("XDG_CACHE_HOME", bench.path("cache")).args(["build", "-C"]).arg(bench.folder.path());
    let (_, err, code) = told(&command.env("PATH", bench.folder.path()).output().unwrap());
    if Path::new("/usr/sbin/qemu-img").exists() || Path::new("/sbin/qemu-img").exists() {
        return;
    }
    assert_eq!(code, 3, "{err}");
    let told = "post-processor `convert` (templates/app/manifest.yml:4:7) needs `qemu-img`, which is not on this host";
    assert!(err.contains(told), "{err}");
    assert_eq!(names(&bench), Vec::<String>::new());
}

#[test]
fn nspawn_post_processors_follow_a_build_and_never_cause_one() {
    let bench = Bench::new(Engine::Nspawn, QUICK);
    let manifest = bench.folder.path().join("templates/tiny/manifest.yml");
    let before = fs::read_to_string(&manifest).unwrap();
    let say = |items: &str| {
        let items: String = items.lines().map(|line| format!("    {line}\n")).collect();
        fs::write(&manifest, before.replace("seal:\n", &format!("  post-processors:\n{items}seal:\n"))).unwrap();
    };
    let build = || {
        let (out, err, code) = told(&bench.build().output().unwrap());
        let guest = err.contains("echo quick") || err.contains("compress …\n") || err.contains("tiny: started");
        (ran(&err), guest, code, out + &err)
    };
    let good = "- {type: checksum, checksum_types: [sha256], output: sums}\n- - {type: convert, format: raw}\n  \
                - {type: compress, output: tiny.raw.zst}";
    say(good);
    let (ran, guest, code, text) = build();
    assert_eq!((ran, guest, code), (vec!["checksum".into(), "convert".into(), "compress".into()], true, 0), "{text}");
    let results = bench.results();
    let check = "sha256sum -c sums && zstd -qdc tiny.raw.zst >x.raw && qemu-img compare -q -f qcow2 -F raw tiny.qcow2 x.raw && rm x.raw";
    assert!(Command::new("sh").args(["-c", check]).current_dir(&results).status().unwrap().success());
    let image = fs::metadata(results.join("tiny.qcow2")).unwrap().modified().unwrap();
    let (ran, guest, code, text) = build();
    assert_eq!((ran, guest, code), (vec![], false, 0), "{text}");
    say(&good.replace("sums}", "SUMS}"));
    let (ran, guest, code, text) = build();
    assert_eq!((ran, guest, code), (vec!["checksum".into()], false, 0), "{text}");
    say(&format!("{good}\n- {{type: shell-local, name: broken, inline: ['exit 7']}}"));
    let (_, guest, code, text) = build();
    assert_eq!((guest, code), (false, 4), "{text}");
    assert!(text.contains("post-processor `broken` of template `tiny`"), "{text}");
    assert_eq!(fs::metadata(results.join("tiny.qcow2")).unwrap().modified().unwrap(), image);
}

/// What `validate` says of a manifest with these post-processors.
fn refused(items: &str) -> String {
    let bench = Built::new();
    say(&bench, items);
    let (_, err, code) = bench.run(&["validate"]);
    assert_eq!(code, 2, "{err}");
    err
}

#[test]
fn clashes_and_places_are_told_before_a_build() {
    insta::assert_snapshot!(refused(
        "- {type: compress, output: ../x.gz}\n- {type: compress, output: app.qcow2}\n- {type: compress, output: build.log}\n\
         - {type: checksum, output: a}\n- {type: checksum, output: a}\n- {type: compress, output: a/b.gz}\n\
         - {type: manifest}\n- {type: manifest}\n- {type: convert, format: qcow2}\n\
         - - {type: checksum, output: c}\n  - {type: compress, output: c.gz}"
    ));
}

#[test]
fn bad_post_processors_are_told_at_their_places() {
    insta::assert_snapshot!(refused(
        "- chksum\n- vagrant\n- 1\n-\n- {name: x}\n- {type: checksum, checksum_types: [sha3], only: [a]}\n\
         - {type: compress, format: rar, compression_level: best}\n- {type: compress, output: '{{ .Foo }}'}\n\
         - {type: convert}\n- {type: convert, format: iso, options: {backing_file: x}}\n- {type: artifice}\n\
         - {type: artifice, files: []}\n- {type: manifest, custom: x, strip_path: maybe}\n- [compress, [checksum]]\n- docker-push"
    ));
}
