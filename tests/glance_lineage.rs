//! Which image stands for a name: promotion, sharing, pruning, trying on a server.
#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;
#[path = "support/publishing.rs"]
mod publishing;

use std::fs;

use openstack::{Cloud, Content, Fate, Fault, Rule, Server};
use publishing::{Host, Told, names, one};
use serde_json::{Value, json};

fn done(told: &Told) -> &str {
    assert_eq!(told.code, 0, "{told:?}");
    &told.stdout
}

fn refused(told: &Told, code: i32, sentence: &str) {
    assert_eq!(told.code, code, "{told:?}");
    assert!(told.stderr.contains(sentence), "no `{sentence}` in {told:?}");
}

fn id(image: &Value) -> &str {
    image["id"].as_str().unwrap()
}

/// Uploads the image of `seed` and returns its id.
async fn publish(cloud: &Cloud, host: &Host, seed: u8, more: &[&str]) -> String {
    let image = host.image("visa-apps", seed);
    let told = host.run(&[&["upload", image.to_str().unwrap()], more].concat()).await;
    done(&told);
    id(&one(cloud, "visa-apps").await).to_owned()
}

#[tokio::test]
async fn a_candidate_waits_until_it_is_promoted() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let hand = cloud.create_by_hand("visa-apps", "visa", b"by hand", json!({"disk_format": "raw"})).await;
    let image = host.image("visa-apps", 1);
    let path = image.to_str().unwrap();

    let dry = host.run(&["upload", path, "--dry-run", "--community"]).await;
    let lines: Vec<_> = done(&dry).lines().collect();
    assert!(lines[0].ends_with("visa-apps.qcow2 to `visa-apps` in project `visa`"), "{lines:?}");
    assert!(lines.contains(&"  promote it: community, named `visa-apps`"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("  replace {}: renamed", id(&hand)))), "{lines:?}");
    assert!(lines.contains(&"  os_distro: debian"), "{lines:?}");
    assert_eq!(cloud.images().await.len(), 1);

    // The image that it is to replace is raw, and so nobody need say that the store wants that.
    let told = host.run(&["upload", path, "--candidate", "--community", "--format", "qcow2"]).await;
    assert!(
        done(&told).contains("visa-apps (candidate)") && told.stdout.contains("(candidate, private, project visa)")
    );
    let images = cloud.images().await;
    let candidate = images.iter().find(|image| id(image) != id(&hand)).unwrap();
    assert_eq!((&candidate["visibility"], &candidate["os_hidden"]), (&json!("private"), &json!(true)));
    assert_eq!(id(&one(&cloud, "visa-apps").await), id(&hand));

    done(&host.run(&["promote", "visa-apps"]).await);
    let now = one(&cloud, "visa-apps").await;
    assert_eq!((id(&now), &now["visibility"], &now["os_hidden"]), (id(candidate), &json!("community"), &json!(false)));
    let old = cloud.image(id(&hand)).await.unwrap();
    assert_eq!((&old["os_hidden"], &old["visabuild_state"]), (&json!(true), &json!("previous")));
    refused(&host.run(&["promote", "visa-apps"]).await, 6, "neither an image's id nor a name with a candidate");

    let listed: Value = serde_json::from_str(done(&host.run(&["images", "--json"]).await)).unwrap();
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|image| image["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["current", "previous"]);
}

#[tokio::test]
async fn what_is_past_its_end_of_life_or_for_everybody_is_not_published_by_the_way() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let image = host.image("visa-apps", 1);
    let path = image.to_str().unwrap();
    host.describe(&image, &json!({"end_of_life": true, "warnings": ["guacd 1.3.0 is past its end of life"]}));
    let told = host.run(&["upload", path]).await;
    refused(&told, 2, "content past its end of life");
    assert!(told.stderr.contains("guacd 1.3.0 is past its end of life") && cloud.images().await.is_empty(), "{told:?}");
    done(&host.run(&["upload", path, "--candidate"]).await);
    refused(&host.run(&["promote", "visa-apps"]).await, 2, "--allow-eol promotes it all the same");
    done(&host.run(&["promote", "visa-apps", "--allow-eol"]).await);

    // Only administrators make images public here: the image waits as a candidate, the old one stays.
    let before = id(&one(&cloud, "visa-apps").await).to_owned();
    let second = host.image("visa-apps", 2);
    let told = host.run(&["upload", second.to_str().unwrap(), "--public"]).await;
    refused(&told, 6, "who may make images public promotes it with `visabuild promote");
    assert!(told.stderr.contains("everybody can read the hash of root's password"), "{told:?}");
    assert_eq!(id(&one(&cloud, "visa-apps").await), before);
    assert_eq!(names(&cloud).await.iter().filter(|name| *name == "visa-apps (candidate)").count(), 1);
    let admin = host.with(cloud.environment("admin", "visa"));
    done(&admin.run(&["promote", "visa-apps", "--public", "--protected"]).await);
    let now = one(&cloud, "visa-apps").await;
    assert_eq!((&now["visibility"], &now["protected"]), (&json!("public"), &json!(true)));
    host.nothing_is_left();
}

#[tokio::test]
async fn projects_that_share_an_image_share_the_next_one_too() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let first = publish(&cloud, &host, 1, &["--share-with", "other"]).await;
    let accepted = vec![(cloud.project_id("other").to_owned(), "accepted".to_owned())];
    assert_eq!(cloud.members(&first).await, accepted);
    let second = publish(&cloud, &host, 2, &[]).await;
    assert_ne!(first, second);
    assert_eq!(cloud.members(&second).await, accepted);
    let shown = host.run(&["images", "visa-apps"]).await;
    assert!(done(&shown).contains(&format!("shared with 1: {}", cloud.project_id("other"))), "{shown:?}");
    let told = host.run(&["promote", &second, "--share-with", "nowhere"]).await;
    refused(&told, 6, "there is no project `nowhere` that the user may see");

    // A user who is not at home there shares all the same; the others have to accept.
    let third = host.image("visa-apps", 3);
    let credential = host.with(cloud.application_credential_environment());
    let told = credential.run(&["upload", third.to_str().unwrap()]).await;
    assert!(told.stderr.contains("has to accept the image itself"), "{told:?}");
    done(&told);
    let now = one(&cloud, "visa-apps").await;
    assert_eq!(cloud.members(id(&now)).await[0].1, "pending");
}

#[tokio::test]
async fn old_images_are_deleted_but_for_those_that_someone_may_use() {
    let cloud = Cloud::options().compute().start().await;
    let host = Host::new(&cloud);
    let mut ids = Vec::new();
    for seed in 1..=5 {
        ids.push(publish(&cloud, &host, seed, &["--private"]).await);
    }
    cloud.change(&ids[1], json!([{"op": "replace", "path": "/protected", "value": true}])).await;
    cloud.nova().add_server("in-use", cloud.project_id("visa"), &ids[0]);
    let dry = host.run(&["prune", "--keep", "1", "--dry-run"]).await;
    assert!(done(&dry).contains(&format!("would delete  {}", ids[2])), "{dry:?}");
    assert_eq!(cloud.images().await.len(), 5);
    let told = host.run(&["prune", "visa-apps", "--keep", "1"]).await;
    let said = done(&told);
    assert!(said.contains(&format!("deleted  {}", ids[2])), "{said}");
    assert!(said.contains("it is protected") && said.contains("the server `in-use` runs on it"), "{said}");
    let left: Vec<_> = cloud.images().await.iter().map(|image| id(image).to_owned()).collect();
    assert_eq!(left.len(), 4);
    assert!(!left.contains(&ids[2]));

    // Who sees only one project cannot know who uses a shared image.
    let sixth = publish(&cloud, &host, 6, &["--shared"]).await;
    publish(&cloud, &host, 7, &["--shared"]).await;
    let told = host.run(&["prune", "visa-apps", "--keep", "0"]).await;
    assert!(done(&told).contains("only an administrator sees them"), "{told:?}");
    assert!(cloud.image(&sixth).await.is_some());
    // Pruning comes with publishing, too, and Nova's silence keeps everything.
    cloud.nova().proxy.add(Rule::new("GET", "/servers", Fault::status(500)));
    let last = host.image("visa-apps", 8);
    let told = host.run(&["upload", last.to_str().unwrap(), "--keep", "0", "--retries", "0"]).await;
    assert!(done(&told).contains("Nova did not say"), "{told:?}");
    assert!(cloud.image(&sixth).await.is_some());
}

#[tokio::test]
async fn without_nova_nobody_knows_whether_an_image_is_used() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let first = publish(&cloud, &host, 1, &[]).await;
    publish(&cloud, &host, 2, &[]).await;
    let told = host.run(&["prune", "--keep", "0"]).await;
    assert!(done(&told).contains("the cloud's catalogue has no Nova to ask"), "{told:?}");
    assert!(cloud.image(&first).await.is_some());
    let third = host.image("visa-apps", 3);
    let told = host.run(&["upload", third.to_str().unwrap(), "--boot-test"]).await;
    refused(&told, 6, "--boot-test (flavour any) needs Nova");
    assert_eq!(cloud.images().await.len(), 2);
}

#[tokio::test]
async fn an_image_that_does_not_boot_in_the_cloud_is_not_promoted() {
    let cloud = Cloud::options().compute().start().await;
    let host = Host::new(&cloud);
    let first = publish(&cloud, &host, 1, &[]).await;
    let second = host.image("visa-apps", 2);
    let upload = ["upload", second.to_str().unwrap(), "--boot-test"];
    cloud.nova().servers_become(Fate::Error("No valid host was found".into()));
    let told = host.run(&upload).await;
    refused(&told, 5, "Nova cannot run a server on the image: No valid host was found");
    cloud.nova().servers_become(Fate::Build);
    let told = host.run(&[&upload[..], &["--boot-timeout", "1"]].concat()).await;
    refused(&told, 5, "the server is not active after 1 s");
    assert_eq!((id(&one(&cloud, "visa-apps").await), cloud.images().await.len()), (first.as_str(), 1));
    assert_eq!((cloud.nova().servers().len(), cloud.nova().created()), (0, 2));
    host.nothing_is_left();

    // One that is up shows a login on its console; a run that is killed before leaves a server and an image,
    // which the next one removes.
    cloud.nova().servers_become(Fate::Active);
    let looked = cloud.nova().proxy.add(Rule::new("POST", "/action", Fault::None { after: 0 }));
    let mut killed = host.command(&upload).spawn().unwrap();
    cloud.nova().proxy.reached(looked).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!((cloud.nova().servers().len(), cloud.images().await.len(), host.records().len()), (1, 2, 1));
    cloud.nova().proxy.clear();
    let made = cloud.nova().proxy.add(Rule::new("POST", "/action", Fault::None { after: 0 }));
    let (told, ()) = tokio::join!(host.run(&upload), async {
        cloud.nova().proxy.reached(made).await;
        let server = cloud.nova().servers().remove(0);
        cloud.nova().set_console(server["id"].as_str().unwrap(), "Debian GNU/Linux 13 visa ttyS0\n\nvisa login: ");
    });
    done(&told);
    assert_eq!((cloud.nova().servers().len(), cloud.nova().created()), (0, 4));
    assert_ne!(id(&one(&cloud, "visa-apps").await), first);
    assert_eq!(cloud.images().await.len(), 2);
    host.nothing_is_left();
}

#[tokio::test]
async fn images_come_in_by_every_way_that_the_cloud_offers() {
    let cloud = Cloud::options().import_methods(&["glance-direct", "web-download"]).start().await;
    let host = Host::new(&cloud);
    let staged = publish(&cloud, &host, 1, &["--method", "glance-direct"]).await;
    let bytes = fs::read(host.path().join("builds/visa-apps/visa-apps.qcow2")).unwrap();
    assert_eq!(cloud.content(&staged).await, Content::of(&bytes));
    cloud.staging_empties().await;

    let image = host.image("visa-apps", 2);
    let path = image.to_str().unwrap();
    let server = Server::of_bytes(fs::read(&image).unwrap());
    let told = host.run(&["upload", path, "--method", "web-download", "--uri", &server.url()]).await;
    done(&told);
    let fetched = id(&one(&cloud, "visa-apps").await).to_owned();
    assert_eq!(cloud.content(&fetched).await, Content::of(&fs::read(&image).unwrap()));

    // What lies at the address is something else.
    let third = host.image("visa-apps", 3);
    let arguments = ["upload", third.to_str().unwrap(), "--method", "web-download", "--retries", "0", "--uri"];
    let told = host.run(&[&arguments[..], &[&server.url()]].concat()).await;
    refused(&told, 6, "the cloud has other data");
    assert_eq!((id(&one(&cloud, "visa-apps").await), cloud.images().await.len()), (fetched.as_str(), 2));

    // Raw, unpacked on the way; and once more, which sends nothing.
    let told = host.run(&["upload", third.to_str().unwrap(), "--format", "raw"]).await;
    done(&told);
    let raw = one(&cloud, "visa-apps").await;
    assert_eq!((&raw["disk_format"], &raw["size"]), (&json!("raw"), &json!(3 << 20)));
    assert_eq!(cloud.content(id(&raw)).await, Content::of(&fs::read(third.with_file_name("raw")).unwrap()));
    let sent = cloud.glance.requests_for("PUT", "/file").len();
    let again = host.run(&["upload", third.to_str().unwrap()]).await;
    assert!(done(&again).contains("was there already"), "{again:?}");
    assert_eq!(cloud.glance.requests_for("PUT", "/file").len(), sent);

    // Raw is also what a store in Ceph wants, where the cloud tells what its stores are.
    let stores = json!({"stores": [{"id": "fast", "type": "rbd", "default": "true"}, {"id": "tape", "type": "file"}]});
    let (headers, body) = (Vec::new(), stores.to_string().into_bytes());
    cloud.glance.add(Rule::new("GET", "/info/stores", Fault::Status { code: 200, headers, body, after: 0 }));
    let other = host.image("notebook", 4);
    let dry = host.run(&["upload", other.to_str().unwrap(), "--dry-run"]).await;
    assert!(done(&dry).contains("upload 3145728 bytes as raw, private and hidden"), "{dry:?}");
    let dry = host.run(&["upload", other.to_str().unwrap(), "--dry-run", "--store", "tape"]).await;
    assert!(done(&dry).contains("bytes as qcow2, private and hidden"), "{dry:?}");
    let told = host.run(&["upload", other.to_str().unwrap(), "--store", "disk"]).await;
    refused(&told, 6, "the cloud has no store `disk`");
    assert!(told.stderr.contains("it has fast, tape"), "{told:?}");
    host.nothing_is_left();
}

#[tokio::test]
async fn the_call_and_the_files_are_looked_at_before_the_cloud() {
    let host = Host::of(Vec::new());
    let told = host.run(&["upload"]).await;
    refused(&told, 2, "there is no config.yml");
    host.project();
    for template in ["base", "visa-apps", "notebook"] {
        let folder = host.path().join("templates").join(template);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.yml"), "{}\n").unwrap();
    }
    let told = host.run(&["upload"]).await;
    refused(&told, 2, "no image is finished in");
    assert!(told.stderr.contains("makes those of visa-apps, notebook"), "{told:?}");
    host.image("visa-apps", 1);
    host.image("notebook", 2);
    let told = host.run(&["upload", "--name", "x"]).await;
    refused(&told, 2, "2 images cannot all be named `x`");
    refused(&host.run(&["upload", "none"]).await, 2, "there is no image none");
    refused(&host.run(&["upload", "config.yml", "--name", "x"]).await, 2, "is no disk image");
    refused(&host.run(&["upload"]).await, 2, "no cloud is named");
}
