//! Requests as installers make them, and as nobody should.

use std::sync::Mutex as StdMutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::event::{Redactor, Subscriber, Timed};

#[derive(Clone, Default)]
struct Told(Arc<StdMutex<Vec<Event>>>);

impl Subscriber for Told {
    fn receive(&self, event: &Timed) {
        self.0.lock().unwrap().push(event.event.clone());
    }
}

async fn serve(site: Site) -> (WebServer, Told) {
    let told = Told::default();
    let events = Events::new(vec![Box::new(told.clone())], Redactor::new(["s3cret"]));
    (BoundServer::bind().await.unwrap().serve(site, &events, "system-base"), told)
}

fn site() -> Site {
    let mut site = Site::new();
    site.add("preseed.cfg", "d-i x string y\n").unwrap();
    site.add("nocloud/user-data", "#cloud-config\n").unwrap();
    site.add("big", vec![b'x'; 1 << 20]).unwrap();
    site
}

/// Sends `request` and reads all that comes.
async fn raw(server: &WebServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    if !request.contains("Connection: close") {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    // A server that resets the connection has said what it had to say.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(server: &WebServer, method: &str, path: &str) -> String {
    raw(
        server,
        &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: debian-installer\r\nConnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn answers_are_served_and_told() {
    let (server, told) = serve(site()).await;
    let answer = ask(&server, "GET", "/d-i/../x").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let answer = ask(&server, "GET", "/./preseed.cfg?from=s3cret").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-length: 15\r\n") && answer.contains("content-type: text/plain; charset=utf-8\r\n")
    );
    assert!(answer.ends_with("\r\n\r\nd-i x string y\n"), "{answer}");
    let requests = server.stop().await;
    let (path, status, bytes, complete) =
        (&requests[1].path, requests[1].status, requests[1].bytes, requests[1].complete);
    assert_eq!((path.as_str(), status, bytes, complete), ("/./preseed.cfg?from=s3cret", 200, 15, true));
    let told = told.0.lock().unwrap();
    let request = |method: &str, path: &str, status, bytes| Event::Request {
        template: "system-base".into(),
        method: method.into(),
        path: path.into(),
        status,
        user_agent: Some("debian-installer".into()),
        bytes,
    };
    assert_eq!(*told, [request("GET", "/d-i/../x", 404, 30), request("GET", "/./preseed.cfg?from=‹secret›", 200, 15)]);
}

#[tokio::test]
async fn head_tells_the_size_and_sends_nothing() {
    let (server, _) = serve(site()).await;
    let answer = ask(&server, "HEAD", "/big").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-length: 1048576\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"));
    assert!(ask(&server, "HEAD", "/none").await.starts_with("HTTP/1.1 404 "));
    let requests = server.stop().await;
    assert_eq!((requests[0].method.as_str(), requests[0].bytes, requests[0].complete), ("HEAD", 0, true));
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let (server, _) = serve(site()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(&server, method, "/preseed.cfg").await;
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"));
    }
}

#[tokio::test]
async fn files_come_from_the_folder_and_from_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(folder.path().join("initrd.gz"), &content).unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let mut site = Site::new();
    for name in ["initrd.gz", "empty"] {
        site.add_file(name, &folder.path().join(name)).unwrap();
    }
    let (server, _) = serve(site).await;
    let url = |path: &str| format!("http://{}{path}", server.address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url("/initrd.gz")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/gzip");
    assert!(answer.bytes().await.unwrap() == content);
    assert_eq!(client.get(url("/empty")).send().await.unwrap().bytes().await.unwrap().len(), 0);
    for path in
        ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%2f..%2fetc/passwd", "/initrd.gz/x"]
    {
        let answer = ask(&server, "GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    std::fs::remove_file(folder.path().join("initrd.gz")).unwrap();
    assert_eq!(client.get(url("/initrd.gz")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_client_that_goes_away_is_told_with_what_it_got() {
    let mut site = Site::new();
    site.add("big", vec![b'x'; 64 << 20]).unwrap();
    let (server, told) = serve(site).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = vec![0; 1000];
    stream.read_exact(&mut some).await.unwrap();
    assert!(!server.requests()[0].complete);
    drop(stream);
    for _ in 0..100 {
        if !told.0.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = told.0.lock().unwrap();
    let Some(Event::Request { bytes, .. }) = told.first() else { panic!("{told:?}") };
    assert!(*bytes > 0 && *bytes < 64 << 20, "{bytes}");
}

#[tokio::test]
async fn a_stopped_server_ends_also_when_clients_do_not() {
    let mut site = Site::new();
    site.add("big", vec![b'x'; 64 << 20]).unwrap();
    let (server, told) = serve(site).await;
    let address = server.address();
    // One that reads nothing, one that says nothing.
    let mut stuck = TcpStream::connect(address).await.unwrap();
    stuck.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let _silent = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let requests = server.stop().await;
    assert!(began.elapsed() < GRACE + Duration::from_secs(1));
    assert_eq!(requests.len(), 1);
    assert!(TcpStream::connect(address).await.is_err());
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(rest.len() < 64 << 20);
    drop(told);
}

#[tokio::test]
async fn nonsense_does_no_harm() {
    let (server, _) = serve(site()).await;
    let nonsense = [
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET preseed.cfg HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nConnection: close\r\n\r\n", "x".repeat(9000)),
        "GET /\u{0} HTTP/1.1\r\n\r\n".to_owned(),
        "\u{1}\u{2}\r\n\r\n".to_owned(),
    ];
    for request in nonsense {
        let answer = raw(&server, &request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    assert!(ask(&server, "GET", "/preseed.cfg").await.starts_with("HTTP/1.1 200 "));
    assert!(server.requests().iter().all(|request| request.path.len() <= LONGEST_TEXT));
}

#[tokio::test]
async fn a_server_is_on_loopback_only() {
    let server = BoundServer::bind().await.unwrap();
    assert!(server.address().ip().is_loopback() && server.address().port() > 0);
}

#[tokio::test]
async fn another_user_gets_no_answer() {
    let told = Told::default();
    let events = Events::new(vec![Box::new(told.clone())], Redactor::new([]));
    let bound = BoundServer::bind().await.unwrap();
    let address = bound.address;
    let own = rustix::process::geteuid().as_raw();
    // Who asks here is this test's own user, so it is the server that takes somebody else for its own.
    let listener = Guarded::new(bound.listener, &events, "system-base").allowing(&[own + 1]);
    let server = super::serve(listener, address, site(), &events, "system-base");
    for _ in 0..2 {
        assert_eq!(ask(&server, "GET", "/preseed.cfg").await, "");
    }
    assert_eq!(server.stop().await, []);
    let told = told.0.lock().unwrap();
    let [Event::Message { text, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*text, format!("the web server refuses connections of another user of this host (uid {own})"));
}
