//! The cloud to which other tests upload: it works, its proxies do what their rules say, and nothing of it is left.

#![allow(clippy::unwrap_used)]

#[path = "support/openstack/mod.rs"]
mod openstack;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use openstack::{Cloud, Content, Fate, Fault, Outcome, Rule, Server, Tls};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes that no format's inspector takes for anything.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[tokio::test]
async fn openstacks_own_client_works_with_client_certificates() {
    let cloud = Cloud::options().tls(Tls::Mutual).compute().start().await;
    let bytes = data(3_000_000);
    fs::write(cloud.folder().join("image"), &bytes).unwrap();
    let create = ["image", "create", "--disk-format", "raw", "--file", "image", "-f", "json", "by-the-client"];
    let image = succeeded(&cloud.openstack("builder", "visa", &create).await);
    let id = image["id"].as_str().unwrap();
    cloud.clouds_yaml(cloud.folder()).await;
    let save = ["--os-cloud", "appcred", "image", "save", "--file", "back", id];
    let find = ["--os-cloud", "token", "server", "list", "--image", id, "-f", "json"];
    let server = cloud.nova().add_server("uses-it", cloud.project_id("visa"), id);
    let (saved, servers) = tokio::join!(cloud.openstack_with(&[], &save), cloud.openstack_with(&[], &find));
    succeeded(&saved);
    assert_eq!(fs::read(cloud.folder().join("back")).unwrap(), bytes);
    assert_eq!(succeeded(&servers)[0]["ID"], server);

    let images = cloud.images().await;
    assert_eq!(images.len(), 1, "{images:#?}");
    assert_eq!(images[0]["os_hash_value"].as_str(), Some(Content::of(&bytes).sha512.as_str()));
    assert_eq!(cloud.content(id).await, Content::of(&bytes));
    assert_eq!(cloud.bytes_stored(), 3_000_000);
    let uploads = cloud.glance.requests_for("PUT", "/file");
    assert_eq!((uploads.len(), uploads[0].body_bytes, uploads[0].outcome), (1, 3_000_000, Outcome::Answered(204)));
    assert_eq!(cloud.glance.failed_handshakes(), 0);
    let stranger = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    assert!(stranger.get(cloud.glance.url()).send().await.is_err());
}

/// A client of Glance by way of the proxy, without retries and with nothing kept between requests.
struct Uploader<'a> {
    cloud: &'a Cloud,
    http: reqwest::Client,
    token: String,
}

impl<'a> Uploader<'a> {
    async fn new(cloud: &'a Cloud) -> Self {
        let http = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
        Self { cloud, http, token: cloud.token("builder", "visa").await }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.cloud.glance.url())).header("x-auth-token", &self.token)
    }

    /// Creates an image; returns its id.
    async fn image(&self) -> String {
        let image = json!({"name": "image", "disk_format": "raw", "container_format": "bare"}).to_string();
        let created = self.request(Method::POST, "/v2/images").header("content-type", "application/json").body(image);
        let created = created.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&created).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Sends an image's data; returns the status of the answer.
    async fn send(&self, id: &str, bytes: &[u8]) -> reqwest::Result<u16> {
        let request = self.request(Method::PUT, &format!("/v2/images/{id}/file"));
        let request = request.header("content-type", "application/octet-stream").body(bytes.to_vec());
        Ok(request.send().await?.status().as_u16())
    }

    /// What is downloaded of an image before the connection ends.
    async fn receive(&self, id: &str) -> (usize, reqwest::Result<()>) {
        let mut answer = self.request(Method::GET, &format!("/v2/images/{id}/file")).send().await.unwrap();
        let mut length = 0;
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) => length += piece.len(),
                ended => return (length, ended.map(drop)),
            }
        }
    }

    /// Body bytes and outcome of the last upload.
    fn last_upload(&self) -> (u64, Outcome) {
        let uploads = self.cloud.glance.requests_for("PUT", "/file");
        let last = uploads.last().unwrap();
        (last.body_bytes, last.outcome)
    }
}

const LENGTH: usize = 400_000;

#[tokio::test]
async fn proxies_break_uploads_as_their_rules_say() {
    let cloud = Cloud::start().await;
    let uploader = Uploader::new(&cloud).await;
    let (glance, bytes) = (&cloud.glance, data(LENGTH));
    let once = |fault| glance.add(Rule::new("PUT", "/file", fault).once());

    // An image for each: of one whose data broke off Glance may find that out late, and take it back to `queued` in
    // the middle of what comes next.
    for forward in [false, true] {
        let id = uploader.image().await;
        once(Fault::Reset { after: 100_000, forward });
        uploader.send(&id, &bytes).await.unwrap_err();
        assert_eq!(uploader.last_upload(), (100_000, Outcome::Reset));
        cloud.wait_for_status(&id, "queued").await;
    }

    // The client is killed at a point that is known, and Glance notices.
    let id = uploader.image().await;
    let rule = once(Fault::Stall { after: 300_000 });
    tokio::select! {
        answer = uploader.send(&id, &bytes) => panic!("{answer:?}"),
        _ = async { (glance.reached(rule).await, cloud.wait_for_status(&id, "saving").await) } => {}
    }
    assert_eq!(uploader.last_upload(), (300_000, Outcome::Stalled));
    cloud.wait_for_status(&id, "queued").await;

    let id = uploader.image().await;
    let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
    once(Fault::Status { code: 503, headers, body: b"busy".to_vec(), after: 200_000 });
    assert_eq!(uploader.send(&id, &bytes).await.unwrap(), 503);
    assert_eq!(uploader.last_upload(), (200_000, Outcome::Replied(503)));
    once(Fault::unauthorized());
    assert_eq!(uploader.send(&id, &bytes).await.unwrap(), 401);

    let began = Instant::now();
    once(Fault::Slow { bytes_per_second: LENGTH as u64 * 2 });
    assert_eq!(uploader.send(&id, &bytes).await.unwrap(), 204);
    assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
    assert_eq!(cloud.content(&id).await, Content::of(&bytes));
    // Glance answers a second time of data without reading it.
    assert_eq!(uploader.send(&id, &bytes).await.unwrap(), 409);
}

#[tokio::test]
async fn proxies_break_answers_as_their_rules_say() {
    let cloud = Cloud::start().await;
    let uploader = Uploader::new(&cloud).await;
    let (glance, bytes) = (&cloud.glance, data(LENGTH));

    let id = uploader.image().await;
    glance.add(Rule::new("PUT", "/file", Fault::LoseResponse).once());
    uploader.send(&id, &bytes).await.unwrap_err();
    assert_eq!(uploader.last_upload(), (LENGTH as u64, Outcome::LostResponse(204)));
    assert_eq!(cloud.image(&id).await.unwrap()["status"], "active");

    let rule = glance.add(Rule::matching("GET", "/file$", Fault::TruncateResponse { after: 1000 }));
    let (length, end) = uploader.receive(&id).await;
    assert!(length == 1000 && end.is_err(), "{length} {end:?}");
    glance.remove(rule);
    let rule = glance.add(Rule::new("GET", "/file", Fault::StallResponse { after: 1000 }).nth(2));
    assert_eq!(uploader.receive(&id).await.0, LENGTH);
    tokio::select! {
        (length, _) = uploader.receive(&id) => panic!("{length}"),
        () = glance.reached(rule) => {}
    }

    let id = uploader.image().await;
    let rule = glance.add(Rule::new("*", "/file", Fault::CorruptByte { at: 300_000 }));
    let mut wrong = bytes.clone();
    wrong[300_000] ^= 1;
    send_in_chunks(&uploader, &id, &bytes).await;
    glance.reached(rule).await;
    assert_eq!(cloud.content(&id).await, Content::of(&wrong));

    // An expired token is Keystone's affair, and Glance believes it.
    let token = cloud.token("builder", "visa").await;
    cloud.revoke(&token).await;
    assert_eq!(uploader.request(Method::GET, "/v2/images").send().await.unwrap().status(), 200);
    let late = Uploader { token, ..Uploader::new(&cloud).await };
    assert_eq!(late.request(Method::GET, "/v2/images").send().await.unwrap().status(), 401);
}

/// Sends data whose length is not told.
async fn send_in_chunks(uploader: &Uploader<'_>, id: &str, bytes: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(uploader.cloud.glance.address()).await.unwrap();
    let head = format!(
        "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: glance\r\nX-Auth-Token: {}\r\nExpect: 100-continue\r\n\
         Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        uploader.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in bytes.chunks(70_001) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
        stream.write_all(&[chunk, b"\r\n"].concat()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn glance_imports_and_keystone_limits() {
    let methods = ["glance-direct", "web-download"];
    let cloud = Cloud::options().import_methods(&methods).limits().compute().start().await;
    let uploader = Uploader::new(&cloud).await;
    let bytes = data(LENGTH);

    let (staged, downloaded) = (uploader.image().await, uploader.image().await);
    let stage = uploader.request(Method::PUT, &format!("/v2/images/{staged}/stage"));
    let stage = stage.header("content-type", "application/octet-stream").body(bytes.clone());
    assert_eq!(stage.send().await.unwrap().status(), 204);
    assert!(!cloud.staging_is_empty());
    let source = Server::of_bytes(bytes.clone());
    for (id, method) in [
        (&staged, json!({"name": "glance-direct"})),
        (&downloaded, json!({"name": "web-download", "uri": format!("{}/image.raw", source.url())})),
    ] {
        let import = uploader.request(Method::POST, &format!("/v2/images/{id}/import"));
        let import = import.header("content-type", "application/json").body(json!({"method": method}).to_string());
        assert_eq!(import.send().await.unwrap().status(), 202);
        // One after the other: SQLite knows no two that write.
        cloud.wait_for_status(id, "active").await;
        assert_eq!(cloud.content(id).await, Content::of(&bytes));
    }
    cloud.staging_empties().await;

    let other = cloud.create_by_hand("elsewhere", "other", b"x", json!({"os_hidden": true, "made_by": "hand"})).await;
    assert_eq!(cloud.images_named("elsewhere").await, [other]);
    cloud.set_limit("visa", "image_count_total", 2).await;
    let third = uploader.request(Method::POST, "/v2/images").header("content-type", "application/json").body("{}");
    assert_eq!(third.send().await.unwrap().status(), 413);
    cloud.delete(&staged).await;
    assert_eq!(uploader.image().await.len(), 36);
    a_server_fails_as_told(&cloud, &downloaded).await;
}

async fn a_server_fails_as_told(cloud: &Cloud, image: &str) {
    let (http, token) = (reqwest::Client::builder().no_proxy().build().unwrap(), cloud.token("builder", "visa").await);
    let servers = format!("{}/v2.1/servers", cloud.nova().proxy.url());
    let get = async |url: &str| {
        let answer = http.get(url).header("x-auth-token", &token).send().await.unwrap();
        serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap()
    };
    cloud.nova().servers_become(Fate::Error("no room".to_owned()));
    let server = json!({"server": {"name": "probe", "imageRef": image, "flavorRef": "1"}}).to_string();
    let created = http.post(&servers).header("x-auth-token", &token).body(server).send().await.unwrap();
    assert_eq!(created.status(), 202);
    let id = get(&servers).await["servers"][0]["id"].as_str().unwrap().to_owned();
    let server = format!("{servers}/{id}");
    assert_eq!(get(&server).await["server"]["status"], "BUILD");
    assert_eq!(get(&server).await["server"]["fault"]["message"], "no room");
    assert_eq!(get(&format!("{servers}/detail?all_tenants=True")).await["forbidden"]["code"], 403);
}

/// A test of this file that is run on its own and says where its cloud is.
fn run_alone(name: &str) -> (Child, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folder = lines.filter_map(|line| line.split_once("cloud in ").map(|(_, folder)| PathBuf::from(folder))).next();
    (child, folder.unwrap())
}

/// Ids of processes that have the folder in their command line.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    });
    processes.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[tokio::test]
#[ignore = "run by a_cloud_leaves_nothing_behind"]
async fn stays_until_killed() {
    let cloud = Cloud::start().await;
    println!("cloud in {}", cloud.folder().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "run by a_cloud_leaves_nothing_behind"]
async fn panics() {
    let cloud = Cloud::start().await;
    println!("cloud in {}", cloud.folder().display());
    panic!("as it was told");
}

#[test]
fn a_cloud_leaves_nothing_behind() {
    let (mut panicking, left_by_panic) = run_alone("panics");
    assert!(!panicking.wait().unwrap().success());
    assert!(!left_by_panic.exists());
    assert_eq!(processes_of(&left_by_panic), Vec::<String>::new());

    let (mut killed, left_by_kill) = run_alone("stays_until_killed");
    // Master and worker, twice.
    assert_eq!(processes_of(&left_by_kill).len(), 4);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes_of(&left_by_kill).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", processes_of(&left_by_kill));
        std::thread::yield_now();
    }
    // Nobody could remove the folder; the next cloud does.
    fs::remove_dir_all(left_by_kill).unwrap();
}
