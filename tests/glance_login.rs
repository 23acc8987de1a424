//! Who logs in to the cloud, and what is said to those who cannot.
#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;
#[path = "support/publishing.rs"]
mod publishing;

use std::fs;

use openstack::{Cloud, Tls, password};
use publishing::{Host, Told};

const EMPTY: &str = "no image of visabuild is in the project visa\n";

fn refused(told: &Told, code: i32, sentences: &[&str]) {
    assert_eq!(told.code, code, "{told:?}");
    for sentence in sentences {
        assert!(told.stderr.contains(sentence), "no `{sentence}` in {told:?}");
    }
    for secret in [password("builder"), "wrong-Passw0rd".into(), openstack::APPLICATION_CREDENTIAL_SECRET.into()] {
        assert!(!told.stderr.contains(&secret) && !told.stdout.contains(&secret), "{told:?}");
    }
}

#[tokio::test]
async fn every_way_in_that_the_openstack_client_knows() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let works = async |host: &Host, arguments: &[&str], expected: &str| {
        let told = host.run(&[&["images"], arguments].concat()).await;
        assert_eq!((told.code, told.stdout.as_str()), (0, expected), "{told:?}");
    };
    works(&host, &[], EMPTY).await;
    // An openrc file of old, and what Horizon leaves empty.
    let old = host.without(&["OS_PROJECT_NAME"]).and("OS_TENANT_NAME", "visa").and("OS_REGION_NAME", "");
    works(&old.and("OS_PROJECT_ID", "").and("OS_ENDPOINT_TYPE", "publicURL"), &[], EMPTY).await;
    // The address with and without its version, with and without its slash.
    for end in ["", "/", "/v3", "/v3/"] {
        works(&host.and("OS_AUTH_URL", &format!("{}{end}", cloud.keystone.url())), &[], EMPTY).await;
    }
    works(&host.with(cloud.application_credential_environment()), &[], EMPTY).await;
    works(&host.with(cloud.application_credential_environment()), &["--project", "visa"], EMPTY).await;

    let other = "no image of visabuild is in the project other\n";
    works(&host, &["--project", "other"], other).await;
    works(&host, &["--project", cloud.project_id("other")], other).await;
    works(&host.without(&["OS_PROJECT_NAME"]), &["--project", "other", "--project-domain", "Default"], other).await;

    cloud.clouds_yaml(host.path()).await;
    let files = host.with(Vec::new());
    for name in ["password", "appcred", "token"] {
        works(&files, &["--os-cloud", name], EMPTY).await;
        works(&files.and("OS_CLOUD", name), &[], EMPTY).await;
    }
    works(&files, &["--os-cloud", "password", "--project", "other"], other).await;
    let told = files.run(&["images"]).await;
    refused(&told, 2, &["no cloud is named", "clouds.yaml has appcred, password, token"]);
    let elsewhere = host.path().join("my clouds.yaml");
    fs::copy(host.path().join("clouds.yaml"), &elsewhere).unwrap();
    let named = files.and("OS_CLIENT_CONFIG_FILE", elsewhere.to_str().unwrap());
    works(&named, &["--os-cloud", "password"], EMPTY).await;
    assert!(!host.path().join("home").exists(), "a token was kept on disk");
}

#[tokio::test]
async fn who_cannot_get_in_is_told_what_is_wrong() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let image = host.image("visa-apps", 1);
    let upload = async |host: &Host, arguments: &[&str]| {
        host.run(&[&["upload", image.to_str().unwrap(), "--retries", "0"], arguments].concat()).await
    };
    let told = upload(&host.and("OS_PASSWORD", "wrong-Passw0rd"), &[]).await;
    refused(&told, 6, &["user `builder` of the domain `Default`, or the password, is wrong", "OS_PASSWORD"]);
    let told = upload(&host.and("OS_USERNAME", "stranger"), &[]).await;
    refused(&told, 6, &["user `stranger` of the domain `Default`, or the password, is wrong"]);
    let told = upload(&host, &["--project", "secret"]).await;
    refused(
        &told,
        6,
        &["user `builder` has no role in a project `secret`", "the user's projects are", "`other`", "`visa`"],
    );
    let told = upload(&host.with(cloud.environment("nobody", "visa")), &[]).await;
    refused(&told, 6, &["user `nobody` has no role in a project `visa`", "a role in no project"]);
    let told = upload(&host.with(cloud.environment("reader", "visa")), &[]).await;
    refused(&told, 6, &["the cloud refused", "a role (`member`, say) or the cloud's policy is missing"]);
    let told = upload(&host.with(cloud.application_credential_environment()), &["--project", "other"]).await;
    refused(
        &told,
        6,
        &["the token is for the project `visa`, not `other`", "an application credential belongs to one project"],
    );
    let credential = host.with(cloud.application_credential_environment());
    let told = upload(&credential.and("OS_APPLICATION_CREDENTIAL_SECRET", "wrong-Passw0rd"), &[]).await;
    refused(&told, 6, &["the application credential or its secret is wrong, or it has expired"]);
    let token = host.and("OS_AUTH_TYPE", "token").and("OS_TOKEN", "wrong-Passw0rd");
    refused(&upload(&token, &[]).await, 6, &["the token is not valid (any more), or not for this project"]);

    let told = upload(&host, &["--os-region-name", "Mars"]).await;
    refused(&told, 6, &["Glance is not in the region `Mars`", "it is in RegionOne"]);
    let told = upload(&host, &["--os-interface", "moon"]).await;
    refused(&told, 6, &["Glance has no interface `moon`", "public"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = upload(&host.and("OS_AUTH_URL", &format!("http://{closed}/v3")), &[]).await;
    refused(&told, 6, &["the cloud was not reachable", "Connection refused", "look at the port in OS_AUTH_URL"]);
    let told = upload(&host.and("OS_AUTH_URL", "http://keystone.invalid:5000/v3"), &[]).await;
    refused(&told, 6, &["the host's name is not known here"]);
    let told = upload(&host.and("OS_AUTH_URL", &cloud.glance.url()), &[]).await;
    refused(&told, 6, &["there is no Keystone at that address"]);
    let told = upload(&host.and("OS_AUTH_URL", "cloud"), &[]).await;
    refused(&told, 2, &["`cloud` is not the address of Keystone"]);
    let told = upload(&host.without(&["OS_PROJECT_NAME"]), &[]).await;
    refused(&told, 2, &["name no project", "--project NAME"]);
    let told = upload(&host, &["--os-cloud", "mycloud"]).await;
    refused(&told, 2, &["there is no clouds.yaml with the cloud `mycloud`"]);
    assert!(cloud.images().await.is_empty());
    host.nothing_is_left();
}

#[tokio::test]
async fn a_catalogue_without_images_and_a_certificate_that_is_none() {
    let cloud = Cloud::options().without_image_endpoint().tls(Tls::Server).start().await;
    let host = Host::new(&cloud);
    let image = host.image("visa-apps", 1);
    let path = image.to_str().unwrap();
    let told = host.run(&["upload", path]).await;
    refused(&told, 6, &["the cloud's catalogue has no Glance (service type `image`)", "it has identity"]);
    // Where the address is known, the catalogue need not have it.
    let told = host.and("OS_IMAGE_ENDPOINT_OVERRIDE", &cloud.glance.url()).run(&["upload", path]).await;
    assert_eq!(told.code, 0, "{told:?}");
    let told = host.and("OS_CACERT", "/none.pem").run(&["images"]).await;
    refused(&told, 2, &["cannot read the cloud's certificate authority /none.pem"]);
    let told = host.and("OS_CERT", path).run(&["images"]).await;
    refused(&told, 2, &["is no client certificate"]);
    let told = host.without(&["OS_CACERT"]).and("OS_INSECURE", "true").run(&["images"]).await;
    refused(&told, 6, &["the cloud's catalogue has no Glance"]);
}
