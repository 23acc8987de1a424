//! The shipped image in a real Glance: what comes back is what was built and verified.
#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;
#[path = "support/publishing.rs"]
mod publishing;
mod support;

use std::fs;
use std::process::Command;

use openstack::{Cloud, Content};
use publishing::{Host, one};
use serde_json::{Value, json};
use support::bench::{Bench, QUICK};
use support::{PASSWORD, images, told};
use visabuild::engine::Engine;

/// The contract's checks of the level static that every image passes or fails.
const STATIC: &str = "NET-4,GUAC-2,RDP-2,RDP-3,RDP-4,PAM-11,PAM-12,HYG-1b,HYG-2,HYG-4,HYG-5,HYG-8,HYG-10";

#[tokio::test]
async fn nspawn_visa_apps_comes_back_from_glance_as_it_was_built() {
    let built = tokio::task::spawn_blocking(images).await.unwrap().join("visa-apps/visa-apps.qcow2");
    let manifest: Value = serde_json::from_slice(&fs::read(built.with_extension("manifest.json")).unwrap()).unwrap();
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let upload =
        ["upload", built.to_str().unwrap(), "--name", "VISA desktop", "--property", "facility=ill", "--min-ram"];
    let told = host.run(&[&upload[..], &["2048", "--allow-eol"]].concat()).await;
    assert_eq!(told.code, 0, "{told:?}");
    let image = one(&cloud, "VISA desktop").await;
    let id = image["id"].as_str().unwrap();
    assert_eq!(image["os_hash_value"], manifest["image"]["sha512"]);
    assert_eq!(cloud.content(id).await.sha512, manifest["image"]["sha512"].as_str().unwrap());

    // What OpenStack's own client shows.
    let show = cloud.openstack("builder", "visa", &["image", "show", "-f", "json", "VISA desktop"]).await;
    let shown: Value = serde_json::from_slice(&show.stdout).unwrap();
    assert_eq!((&shown["id"], &shown["owner"]), (&json!(id), &json!(cloud.project_id("visa"))));
    assert_eq!(
        (&shown["min_ram"], &shown["visibility"], &shown["status"]),
        (&json!(2048), &json!("shared"), &json!("active"))
    );
    let gib = manifest["image"]["virtual_size"].as_u64().unwrap().div_ceil(1 << 30);
    assert_eq!(shown["min_disk"], json!(gib));
    let properties = &shown["properties"];
    let of = |name: &str| properties[name].as_str().unwrap_or_default();
    assert_eq!((of("facility"), of("os_distro"), of("os_version")), ("ill", "debian", "13"), "{properties:#}");
    assert_eq!(of("visabuild_fingerprint"), manifest["inputs"]["seal_fingerprint"].as_str().unwrap());

    // Saved by that client, it is the very image, and keeps the contract as far as it can be read.
    let saved = cloud.folder().join("saved.qcow2");
    let save = cloud.openstack("builder", "visa", &["image", "save", "--file", "saved.qcow2", id]).await;
    assert!(save.status.success(), "{}", String::from_utf8_lossy(&save.stderr));
    let bytes = fs::read(&saved).unwrap();
    assert_eq!(Content::of(&bytes).sha512, manifest["image"]["sha512"].as_str().unwrap());
    drop(bytes);
    let verify = ["verify", saved.to_str().unwrap(), "-rp", PASSWORD, "--json", "--only", STATIC];
    let told = host.run(&verify).await;
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((told.code, &report["verdict"]), (0, &json!("passed")), "{told:?}");
    assert_eq!(report["counts"]["passed"], json!(STATIC.split(',').count()));
}

#[tokio::test]
async fn nspawn_a_build_that_is_to_be_uploaded_asks_the_cloud_first() {
    let cloud = Cloud::options().limits().start().await;
    cloud.set_limit("other", "image_count_total", 0).await;
    let bench = Bench::new(Engine::Nspawn, QUICK);
    let build = |project: &str, more: &[&str]| -> Command {
        let mut command = bench.build();
        command.args(["--no-verify", "--upload", "--project", project]).args(more);
        command.envs(cloud.environment("builder", "visa"));
        command
    };
    let cases = [
        ("secret", &[][..], "user `builder` has no role in a project `secret`"),
        ("other", &[], "the project's quota `image_count_total` has 0 left of 0, and 1 is needed"),
        ("visa", &["--store", "tape"], "the cloud has no store `tape`"),
        ("visa", &["--boot-test"], "--boot-test (flavour any) needs Nova"),
    ];
    for (project, more, expected) in cases {
        let (_, err, code) = told(&build(project, more).output().unwrap());
        assert_eq!(code, 6, "{err}");
        assert!(err.contains(expected) && !err.contains("tiny: started"), "{err}");
    }
    let (_, err, code) = told(&build("visa", &["--name", " "]).output().unwrap());
    assert!(code == 2 && err.contains("cannot be the name of an image"), "{err}");
    assert!(cloud.images().await.is_empty() && !bench.results().join("tiny.qcow2").exists());

    let (out, err, code) = told(&build("visa", &["--tag", "nightly"]).output().unwrap());
    assert_eq!(code, 0, "{err}");
    let image = one(&cloud, "tiny").await;
    assert_eq!((&image["tags"], &image["status"]), (&json!(["nightly"]), &json!("active")));
    assert!(
        out.contains(&format!("tiny  {}  (current, shared, project visa)", image["id"].as_str().unwrap())),
        "{out}"
    );
    let built = fs::read(bench.results().join("tiny.qcow2")).unwrap();
    assert_eq!(cloud.content(image["id"].as_str().unwrap()).await, Content::of(&built));
}
