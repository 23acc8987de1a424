//! The cloud that other tests upload to: it works, and its proxies do what their rules say.

#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;

use openstack::{Cloud, Content};

#[tokio::test]
async fn openstacks_own_client_uploads_and_downloads() {
    let cloud = Cloud::start().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(cloud.folder().join("image"), &bytes).unwrap();
    let create = ["image", "create", "--disk-format", "raw", "--file", "image", "by-the-client"];
    let output = cloud.openstack("builder", "visa", &create).await;
    assert!(output.status.success(), "{output:?}");
    let images = cloud.images().await;
    assert_eq!(images.len(), 1, "{images:#?}");
    assert_eq!(images[0]["os_hash_value"].as_str(), Some(Content::of(&bytes).sha512.as_str()));
}
