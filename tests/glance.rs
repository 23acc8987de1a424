//! `visabuild upload` and its like against a real Keystone and a real Glance.
#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;
#[path = "support/publishing.rs"]
mod publishing;

use std::fs;

use openstack::{Cloud, Content, Tls};
use publishing::{Host, names, one};
use serde_json::{Value, json};

#[tokio::test]
async fn an_image_becomes_the_current_one_of_its_name_and_the_last_one_steps_back() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let first = host.image("visa-apps", 1);
    let told = host.run(&["upload", first.to_str().unwrap(), "--property", "os_admin_user=root", "--tag", "ci"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let image = one(&cloud, "visa-apps").await;
    let id = image["id"].as_str().unwrap().to_owned();
    assert_eq!(told.stdout, format!("visa-apps  {id}  (current, shared, project visa)\n"));
    let bytes = fs::read(&first).unwrap();
    assert_eq!(cloud.content(&id).await, Content::of(&bytes));
    let of = |name: &str| image[name].clone();
    assert_eq!((of("status"), of("visibility"), of("os_hidden")), (json!("active"), json!("shared"), json!(false)));
    assert_eq!((of("disk_format"), of("container_format"), of("min_disk")), (json!("qcow2"), json!("bare"), json!(1)));
    assert_eq!(
        (of("os_admin_user"), of("tags"), of("owner")),
        (json!("root"), json!(["ci"]), json!(cloud.project_id("visa")))
    );
    assert_eq!((of("os_distro"), of("os_version"), of("hw_disk_bus")), (json!("debian"), json!("13"), json!("virtio")));
    assert_eq!((of("visabuild_fingerprint"), of("visabuild_commit")), (json!("f1"), json!("abc")));
    let sent = cloud.glance.requests_for("PUT", "/file");
    let length = bytes.len().to_string();
    assert_eq!(sent[0].header("content-length"), Some(length.as_str()));
    assert_eq!(sent[0].header("x-openstack-image-size"), Some(length.as_str()));
    assert!(sent[0].header("transfer-encoding").is_none());

    // Nothing has changed: nothing is sent, and nothing else happens.
    let again = host.run(&["upload", first.to_str().unwrap()]).await;
    assert_eq!((again.code, cloud.glance.requests_for("PUT", "/file").len()), (0, 1), "{again:?}");
    assert_eq!(again.stdout, format!("visa-apps  {id}  (current, shared, project visa, was there already)\n"));

    let lines = host.run(&["upload", first.to_str().unwrap(), "--json"]).await;
    let events: Vec<Value> = lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let published = events.iter().find(|event| event["event"] == "published").unwrap();
    assert_eq!((&published["image"], &published["was_there"]), (&json!(id), &json!(true)), "{lines:?}");

    let second = host.image("visa-apps", 2);
    let told = host.run(&["upload", second.to_str().unwrap()]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let new = one(&cloud, "visa-apps").await["id"].as_str().unwrap().to_owned();
    let old = cloud.image(&id).await.unwrap();
    let dated = format!("visa-apps {}", image["created_at"].as_str().unwrap());
    assert_eq!(
        (old["name"].as_str(), &old["os_hidden"], &old["status"]),
        (Some(dated.as_str()), &json!(true), &json!("active"))
    );
    assert_eq!(
        told.stdout,
        format!("visa-apps  {new}  (current, shared, project visa)\n  replaces {id}  now `{dated}`, hidden\n")
    );
    assert_eq!(cloud.images().await.len(), 2);
    host.nothing_is_left();

    let listed = host.run(&["images"]).await;
    let rows: Vec<_> = listed.stdout.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>()).collect();
    assert_eq!(
        rows,
        [vec!["NAME", "STATE", "ID"], vec!["visa-apps", "current", &new], vec!["visa-apps", "previous", &id]]
    );

    let back = host.run(&["rollback", "visa-apps"]).await;
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(one(&cloud, "visa-apps").await["id"], json!(id));
    let withdrawn = cloud.image(&new).await.unwrap();
    assert_eq!((&withdrawn["visabuild_state"], &withdrawn["os_hidden"]), (&json!("withdrawn"), &json!(true)));
    let further = host.run(&["rollback", "visa-apps"]).await;
    assert_eq!(further.code, 6);
    assert!(further.stderr.contains("no image was `visa-apps` before the current one"), "{further:?}");

    let forth = host.run(&["promote", &new]).await;
    assert_eq!((forth.code, one(&cloud, "visa-apps").await["id"].as_str()), (0, Some(new.as_str())), "{forth:?}");
    assert_eq!(names(&cloud).await.iter().filter(|name| *name == "visa-apps").count(), 1);
}

#[tokio::test]
async fn a_cloud_whose_authority_is_named_is_believed_and_no_other() {
    let cloud = Cloud::options().tls(Tls::Mutual).start().await;
    let host = Host::new(&cloud);
    let image = host.image("visa-apps", 1);
    let path = image.to_str().unwrap();
    let told = host.without(&["OS_CACERT"]).run(&["upload", path]).await;
    assert_eq!(told.code, 6, "{told:?}");
    assert!(told.stderr.contains("name the certificate authority of the cloud with --os-cacert FILE"), "{told:?}");
    let told = host.without(&["OS_CERT", "OS_KEY"]).run(&["upload", path]).await;
    assert_eq!(told.code, 6, "{told:?}");
    assert!(told.stderr.contains("the cloud asks for a client certificate"), "{told:?}");
    assert!(cloud.glance.requests().is_empty());
    let told = host.run(&["upload", path]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let told = host.without(&["OS_CACERT"]).run(&["images", "--insecure"]).await;
    assert_eq!(told.code, 0, "{told:?}");
}
