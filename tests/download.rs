//! Downloads from servers that break off, stall, lie and vanish; by processes that are killed or race.
#![allow(clippy::unwrap_used)]

#[path = "support/broken_server.rs"]
mod broken_server;
#[allow(dead_code)]
#[path = "support/openstack/tls.rs"]
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broken_server::{Act, BrokenServer};
use sha2::Digest as _;
use tokio_util::sync::CancellationToken;
use visabuild::cache::Cache;
use visabuild::download::{Checksum, Downloader, Fetched, Place, Policy, Request, Signature};
use visabuild::error::{Error, Kind};
use visabuild::event::{Event, Events, Phase, Redactor, Subscriber, Timed};
use visabuild::preflight::certificates::collect;
use visabuild::preflight::reach::Proxy;

/// Not the same at any two places.
fn content(bytes: usize) -> Vec<u8> {
    let mut block = [0_u8; 32];
    let mut content = Vec::with_capacity(bytes + 32);
    while content.len() < bytes {
        block = sha2::Sha256::digest(block).into();
        content.extend(block);
    }
    content.truncate(bytes);
    content
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Subscriber for Told {
    fn receive(&self, event: &Timed) {
        self.0.lock().unwrap().push(event.event.clone());
    }
}

/// A cache and what was told while it was used.
struct Bench {
    folder: tempfile::TempDir,
    told: Told,
    phase: Phase,
    server: BrokenServer,
}

impl Bench {
    fn new() -> Self {
        let told = Told::default();
        let phase = Events::new(vec![Box::new(told.clone())], Redactor::default()).phase("t", "download");
        Self { folder: tempfile::tempdir().unwrap(), told, phase, server: BrokenServer::start() }
    }

    fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    fn downloader(&self) -> Downloader {
        downloader(self.folder.path())
    }

    async fn get(&self, urls: &[&str], checksum: &str) -> Result<Fetched, Error> {
        let request = Request::parse(urls, checksum, self.folder.path()).unwrap();
        self.downloader().fetch(&request, &self.phase, &CancellationToken::new()).await
    }

    /// Ranges that were asked for, in order.
    fn ranges(&self) -> Vec<Option<String>> {
        self.server.seen().iter().map(|seen| seen.header("range").map(str::to_owned)).collect()
    }

    /// Names in the store without locks.
    fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(self.downloads()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    /// Waits until so many bytes of the download of `body` are on the disk.
    async fn grown(&self, body: &[u8], bytes: u64) {
        let partial = self.downloads().join(format!("sha256-{}.part", sha256(body)));
        let began = Instant::now();
        while fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < bytes {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn messages(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .filter_map(|event| if let Event::Message { text, .. } = event { Some(text.clone()) } else { None })
            .collect()
    }
}

fn downloader(cache: &Path) -> Downloader {
    let policy = Policy {
        stall: Duration::from_millis(800),
        attempts: 3,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..Policy::default()
    };
    Downloader::new(&Cache::open(cache).unwrap(), &Proxy::default(), &[], policy).unwrap()
}

fn text(error: &Error) -> String {
    error.chain().join("\n")
}

#[tokio::test]
async fn a_file_is_continued_where_its_server_broke_off() {
    let bench = Bench::new();
    let body = content(300_000);
    let url = bench.server.file("/a.iso", body.clone(), Some("\"v1\""));
    bench.server.next([Act::BreakAfter(100_000), Act::BreakAfter(0), Act::BreakAfter(70_000)]);
    let fetched = bench.get(&[&url], &format!("sha256:{}", sha256(&body))).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
    assert_eq!((fetched.bytes, fetched.sha256), (300_000, sha256(&body)));
    assert_eq!(
        bench.ranges(),
        [None, Some("bytes=100000-".to_owned()), Some("bytes=100000-".to_owned()), Some("bytes=170000-".to_owned())]
    );
    assert_eq!(bench.server.seen()[1].header("if-range"), Some("\"v1\""));
    assert_eq!(bench.server.seen()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(bench.stored(), [format!("sha256-{}", sha256(&body))]);
    let told = bench.told.0.lock().unwrap();
    let last = told.iter().rev().find(|event| matches!(event, Event::Progress { .. })).unwrap();
    let Event::Progress { done, total, unit, .. } = last else { panic!() };
    assert_eq!((*done, *total, *unit), (300_000, Some(300_000), "bytes"));
}

#[tokio::test]
async fn a_file_in_the_cache_is_not_asked_for_again_by_any_of_its_checksums() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(1000), None);
    let sha512: String = sha2::Sha512::digest(content(1000)).iter().map(|byte| format!("{byte:02x}")).collect();
    let first = bench.get(&[&url], &format!("sha512:{sha512}")).await.unwrap();
    let second = bench.get(&[&url], &sha512).await.unwrap();
    let third = bench.get(&["http://127.0.0.1:1/a.iso"], &sha256(&content(1000))).await.unwrap();
    assert_eq!((&first.path, &first.path), (&second.path, &third.path));
    assert_eq!(bench.server.seen().len(), 1);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_fetched_from_its_beginning() {
    let bench = Bench::new();
    let (old, new) = (content(200_000), content(100_000));
    let url = bench.server.file("/a.iso", old, Some("\"v1\""));
    bench.server.next([Act::BreakAfter(80_000), Act::BreakAfter(0), Act::BreakAfter(0)]);
    bench.get(&[&url], &sha256(&new)).await.unwrap_err();
    bench.server.file("/a.iso", new.clone(), Some("\"v2\""));
    let fetched = bench.get(&[&url], &sha256(&new)).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), new);
    assert_eq!(bench.server.seen().last().unwrap().header("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn pieces_of_different_files_are_noticed_and_fetched_anew() {
    let bench = Bench::new();
    let mut old = content(200_000);
    old[0] ^= 1;
    // Without validators nothing tells the versions apart.
    let url = bench.server.file("/a.iso", old, None);
    bench.server.next([Act::BreakAfter(80_000), Act::BreakAfter(0), Act::BreakAfter(0)]);
    let digest = sha256(&content(200_000));
    bench.get(&[&url], &digest).await.unwrap_err();
    bench.server.file("/a.iso", content(200_000), None);
    bench.get(&[&url], &digest).await.unwrap();
    assert_eq!(bench.ranges()[bench.ranges().len() - 2..], [Some("bytes=80000-".to_owned()), None]);
}

#[tokio::test]
async fn a_mirror_continues_what_another_began() {
    let bench = Bench::new();
    let body = content(200_000);
    let (one, two) = (
        bench.server.file("/one/a.iso", body.clone(), Some("\"one\"")),
        bench.server.file("/two/a.iso", body.clone(), Some("\"two\"")),
    );
    bench.server.next([Act::BreakAfter(90_000), Act::Status("404 Not Found", "")]);
    bench.get(&[&one, &two], &sha256(&body)).await.unwrap();
    let last = bench.server.seen().pop().unwrap();
    assert!(last.line.starts_with("GET /two/a.iso "));
    assert_eq!((last.header("range"), last.header("if-range")), (Some("bytes=90000-"), None));
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_all_again() {
    let bench = Bench::new();
    let body = content(200_000);
    let url = bench.server.whole_file("/a.iso", body.clone());
    bench.server.next([Act::BreakAfter(90_000)]);
    let fetched = bench.get(&[&url], &sha256(&body)).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), body);
}

#[tokio::test]
async fn a_server_that_always_begins_anew_and_never_ends_is_given_up() {
    let bench = Bench::new();
    let body = content(400_000);
    let url = bench.server.whole_file("/a.iso", body.clone());
    // Each other attempt comes further than the one before.
    bench.server.next([100_000, 200_000].into_iter().cycle().take(40).map(Act::BreakAfter).collect::<Vec<_>>());
    let error = bench.get(&[&url], &sha256(&body)).await.unwrap_err();
    assert!(text(&error).contains("times)"), "{}", text(&error));
    assert!(bench.server.seen().len() < 10, "{}", bench.server.seen().len());
}

#[tokio::test]
async fn a_server_that_sends_nothing_is_given_up() {
    let bench = Bench::new();
    let body = content(200_000);
    let url = bench.server.file("/a.iso", body.clone(), None);
    bench.server.next([Act::StallAfter(90_000)]);
    bench.get(&[&url], &sha256(&body)).await.unwrap();
    bench.server.next(vec![Act::StallAfter(0); 3]);
    let error = bench.get(&[&url.replace("a.iso", "a.iso?again")], &"0".repeat(64)).await.unwrap_err();
    assert!(text(&error).contains("sent nothing for 0.8 s (tried 3 times)"), "{}", text(&error));
    // No limit on the whole: this takes longer than a stall.
    bench.server.next([Act::Slowly(20_000, Duration::from_millis(120))]);
    bench.get(&[&url], "none").await.unwrap();
}

#[tokio::test]
async fn a_wrong_file_never_lands_and_the_next_url_is_tried() {
    let bench = Bench::new();
    let bad = bench.server.file("/bad/a.iso", content(5000), None);
    let digest = sha256(&content(6000));
    let error = bench.get(&[&bad], &digest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    let found = sha256(&content(5000));
    assert_eq!(
        text(&error),
        format!(
            "cannot get `a.iso` (sha256:{digest})\n{bad}: is another file (5000 bytes): its sha256 is {found}, and not {digest}"
        )
    );
    assert_eq!(bench.stored(), Vec::<String>::new());
    assert_eq!(bench.server.seen().len(), 1, "a whole file that is wrong is not asked for again");
    let good = bench.server.file("/good/a.iso", content(6000), None);
    bench.get(&[&bad, &good], &digest).await.unwrap();
    assert_eq!(bench.stored(), [format!("sha256-{digest}")]);
}

#[tokio::test]
async fn all_urls_and_why_they_failed_are_told_without_credentials() {
    let bench = Bench::new();
    let missing = bench.server.file("/x", Vec::new(), None).replace("/x", "/missing.iso");
    let secret = missing.replace("http://", "http://joe:s%40cret@") + "?token=s%40cret";
    let error = bench.get(&[&secret, "http://127.0.0.1:1/a.iso", "/no/such/a.iso"], &"0".repeat(64)).await.unwrap_err();
    let told = text(&error);
    assert!(told.contains(&format!("{missing}?…: answers 404 Not Found\n")), "{told}");
    assert!(told.contains("http://127.0.0.1:1/a.iso: Connection refused (os error 111) (tried 3 times)\n"), "{told}");
    assert!(told.ends_with("/no/such/a.iso: No such file or directory (os error 2)"), "{told}");
    assert!(!told.contains("cret"), "{told}");
    let seen = &bench.server.seen()[0];
    assert_eq!(seen.header("authorization"), Some("Basic am9lOnNAY3JldA=="));
    assert!(bench.messages().iter().all(|message| !message.contains("cret")), "{:?}", bench.messages());
}

#[tokio::test]
async fn credentials_are_not_in_the_cache() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(100_000), Some("\"1\"")).replace("http://", "http://joe:s3cret@");
    bench.server.next([Act::BreakAfter(70_000), Act::BreakAfter(0), Act::BreakAfter(0)]);
    bench.get(&[&url], &"0".repeat(64)).await.unwrap_err();
    assert_eq!(bench.stored().len(), 2);
    let grep = Command::new("grep").args(["-r", "s3cret"]).arg(bench.folder.path()).output().unwrap();
    assert!(grep.stdout.is_empty());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_refusal_is_final() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(100), None);
    bench.server.next([Act::Status("503 Busy", "Retry-After: 0\r\n"), Act::Status("429 Slow", "")]);
    bench.get(&[&url], &sha256(&content(100))).await.unwrap();
    bench.server.next([Act::Status("403 Forbidden", "")]);
    let error = bench.get(&[&url], &"0".repeat(64)).await.unwrap_err();
    assert!(text(&error).ends_with("answers 403 Forbidden"), "{}", text(&error));
    assert_eq!(bench.server.seen().len(), 4);
}

#[tokio::test]
async fn a_checksum_list_is_asked_and_remembered() {
    let bench = Bench::new();
    let body = content(1000);
    let url = bench.server.file("/images/a%20b.iso", body.clone(), None);
    let list = format!("{}  other.iso\n{} *a b.iso\n", "0".repeat(64), sha256(&body));
    let list_url = bench.server.file("/images/SHA256SUMS", list.into_bytes(), None);
    let checksum = format!("file:{list_url}");
    bench.get(&[&url], &checksum).await.unwrap();
    bench.server.remove("/images/SHA256SUMS");
    bench.get(&[&url], &checksum).await.unwrap();
    let warning = format!("the checksum list {list_url} answers 404 Not Found: `a b.iso` must be what it said last");
    assert_eq!(bench.messages(), [warning]);
    let request = Request::parse(&[&url], &checksum, Path::new("/")).unwrap();
    let offline = bench.downloader().offline(true);
    offline.fetch(&request, &bench.phase, &CancellationToken::new()).await.unwrap();
    let error = bench.get(&[&url.replace("a%20b", "c")], &checksum).await.unwrap_err();
    assert!(text(&error).starts_with("cannot get the checksum list"), "{}", text(&error));
    assert_eq!(bench.stored(), [bench.stored()[0].clone(), format!("sha256-{}", sha256(&body))]);
}

#[tokio::test]
async fn a_list_is_remembered_for_the_file_that_it_was_asked_for() {
    let bench = Bench::new();
    let (text_body, gtk_body) = (content(1000), content(2000));
    let text_url = bench.server.file("/netboot/initrd.gz", text_body.clone(), None);
    let gtk_url = bench.server.file("/netboot/gtk/initrd.gz", gtk_body.clone(), None);
    let list = format!("{}  ./netboot/initrd.gz\n{}  ./netboot/gtk/initrd.gz\n", sha256(&text_body), sha256(&gtk_body));
    let checksum = format!("file:{}", bench.server.file("/SHA256SUMS", list.into_bytes(), None));
    for (url, body) in [(&text_url, &text_body), (&gtk_url, &gtk_body)] {
        assert_eq!(bench.get(&[url], &checksum).await.unwrap().sha256, sha256(body));
    }
    bench.server.remove("/SHA256SUMS");
    for (url, body) in [(&text_url, &text_body), (&gtk_url, &gtk_body)] {
        assert_eq!(bench.get(&[url], &checksum).await.unwrap().sha256, sha256(body));
    }
}

#[tokio::test]
async fn a_list_that_does_not_name_the_file_is_the_users_fault() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("SUMS"), format!("{}  b.iso\n", "0".repeat(64))).unwrap();
    let url = bench.server.file("/a.iso", content(10), None);
    let error = bench.get(&[&url], "file:SUMS").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(text(&error).ends_with("it does not name `a.iso`; it names b.iso"), "{}", text(&error));
}

#[tokio::test]
async fn only_a_list_that_the_keyring_signed_is_believed() {
    let bench = Bench::new();
    let home = tempfile::tempdir().unwrap();
    let (folder, body) = (bench.folder.path(), content(1000));
    fs::write(folder.join("SUMS"), format!("{}  a.iso\n", sha256(&body))).unwrap();
    let script = "gpg --batch --quiet --passphrase '' --quick-gen-key a@example.org ed25519 sign never &&
        gpg --batch --export > keys.gpg && gpg --batch --detach-sign SUMS && gpg --batch --clear-sign SUMS && : > none.gpg";
    let made =
        Command::new("sh").args(["-c", script]).current_dir(folder).env("GNUPGHOME", home.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let url = bench.server.file("/a.iso", body, None);
    let clear = fs::read(folder.join("SUMS.asc")).unwrap();
    let forged = [format!("{}  a.iso\n", "0".repeat(64)).as_bytes(), &clear].concat();
    let signed_url = bench.server.file("/SUMS.asc", forged, None);
    let place = |text: &str| Place::parse(text, folder).unwrap();
    let request = |list: &str, signature: Option<&str>, keys: &str| Request {
        places: vec![place(&url)],
        checksum: Checksum::List {
            place: place(list),
            signature: Some(Signature { place: signature.map(place), keyring: folder.join(keys) }),
        },
    };
    let cancel = CancellationToken::new();
    let downloader = bench.downloader();
    // What stands before the signed text does not count.
    downloader.fetch(&request(&signed_url, None, "keys.gpg"), &bench.phase, &cancel).await.unwrap();
    downloader.fetch(&request("SUMS", Some("SUMS.sig"), "keys.gpg"), &bench.phase, &cancel).await.unwrap();
    for (list, signature, keys) in [("SUMS", Some("SUMS.sig"), "none.gpg"), ("SUMS", None, "keys.gpg")] {
        let error = downloader.fetch(&request(list, signature, keys), &bench.phase, &cancel).await.unwrap_err();
        assert!(text(&error).contains("is not signed as it must be"), "{}", text(&error));
    }
    fs::write(folder.join("SUMS"), format!("{}  a.iso\n", "0".repeat(64))).unwrap();
    let forged = request("SUMS", Some("SUMS.sig"), "keys.gpg");
    assert_eq!(downloader.fetch(&forged, &bench.phase, &cancel).await.unwrap_err().kind(), Kind::Host);
}

#[tokio::test]
async fn without_a_checksum_the_server_is_asked_whether_it_changed() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(1000), Some("\"v1\""));
    let first = bench.get(&[&url], "none").await.unwrap();
    let second = bench.get(&[&url], "none").await.unwrap();
    assert_eq!(first.path, second.path);
    assert_eq!(bench.server.seen()[1].header("if-none-match"), Some("\"v1\""));
    bench.server.file("/a.iso", content(2000), Some("\"v2\""));
    assert_eq!(bench.get(&[&url], "none").await.unwrap().sha256, sha256(&content(2000)));
    bench.server.remove("/a.iso");
    assert_eq!(bench.get(&[&url], "none").await.unwrap().bytes, 2000);
    assert_eq!(bench.messages(), ["`a.iso` cannot be had now: the copy in the cache is used, unchecked"]);
}

#[tokio::test]
async fn offline_means_the_cache_or_an_error_that_names_the_file() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(1000), None);
    let digest = sha256(&content(1000));
    let request = Request::parse(&[&url], &digest, Path::new("/")).unwrap();
    let (offline, cancel) = (bench.downloader().offline(true), CancellationToken::new());
    let error = offline.fetch(&request, &bench.phase, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    assert!(text(&error).starts_with(&format!("`a.iso` (sha256:{digest}) is not in the cache")), "{}", text(&error));
    assert!(bench.server.seen().is_empty());
    bench.get(&[&url], &digest).await.unwrap();
    offline.fetch(&request, &bench.phase, &cancel).await.unwrap();
}

#[tokio::test]
async fn the_users_own_file_is_used_where_it_is() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("a.iso"), content(1000)).unwrap();
    let fetched = bench.get(&["a.iso"], &sha256(&content(1000))).await.unwrap();
    assert_eq!(fetched.path, bench.folder.path().join("a.iso"));
    let url = bench.server.file("/a.iso", content(2000), None);
    let fetched = bench.get(&["a.iso", &url], &sha256(&content(2000))).await.unwrap();
    assert!(fetched.path.starts_with(bench.downloads()));
}

#[tokio::test]
async fn a_proxy_is_asked_where_one_is_set() {
    let bench = Bench::new();
    bench.server.file("/a.iso", content(100), None);
    let proxy = Proxy { url: Some(format!("http://{}", bench.server.address())), no_proxy: None };
    let cache = Cache::open(bench.folder.path()).unwrap();
    let downloader = Downloader::new(&cache, &proxy, &[], Policy::default()).unwrap();
    let request = Request::parse(&["http://file.example.org/a.iso"], &sha256(&content(100)), Path::new("/")).unwrap();
    downloader.fetch(&request, &bench.phase, &CancellationToken::new()).await.unwrap();
    assert!(bench.server.seen()[0].line.starts_with("GET http://file.example.org/a.iso "));
}

#[tokio::test]
async fn a_sites_own_certificate_authority_is_trusted() {
    let bench = Bench::new();
    let authority = tls::Authority::create(&bench.folder.path().join("authority"));
    bench.server.file("/a.iso", content(100_000), None);
    let url = format!("https://127.0.0.1:{}/a.iso", authority.relay(bench.server.address()).await);
    let error = bench.get(&[&url], &sha256(&content(100_000))).await.unwrap_err();
    assert!(text(&error).contains("certificate"), "{}", text(&error));
    let found = collect::<PathBuf>(&[], &[authority.certificate_file()]).unwrap();
    let cache = Cache::open(bench.folder.path()).unwrap();
    let downloader = Downloader::new(&cache, &Proxy::default(), &found.certificates, Policy::default()).unwrap();
    let request = Request::parse(&[&url], &sha256(&content(100_000)), Path::new("/")).unwrap();
    downloader.fetch(&request, &bench.phase, &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_download_keeps_what_it_has() {
    let bench = Bench::new();
    let body = content(400_000);
    let url = bench.server.file("/a.iso", body.clone(), None);
    bench.server.next([Act::Slowly(100_000, Duration::from_millis(100))]);
    let cancel = CancellationToken::new();
    let request = Request::parse(&[&url], &sha256(&body), Path::new("/")).unwrap();
    let downloader = bench.downloader();
    let stop = async {
        bench.grown(&body, 1).await;
        cancel.cancel();
    };
    let (fetched, ()) = tokio::join!(downloader.fetch(&request, &bench.phase, &cancel), stop);
    assert_eq!(fetched.unwrap_err().kind(), Kind::Interrupted);
    bench.get(&[&url], &sha256(&body)).await.unwrap();
    assert!(bench.ranges()[1].is_some(), "{:?}", bench.ranges());
}

/// Not a test of its own: the process that others start to kill it or to race with it.
#[tokio::test]
async fn child_process_that_downloads() {
    let Ok(arguments) = std::env::var("VISABUILD_TEST_DOWNLOAD") else { return };
    let [cache, url, digest]: [&str; 3] = arguments.split('|').collect::<Vec<_>>().try_into().unwrap();
    let request = Request::parse(&[url], digest, Path::new("/")).unwrap();
    let phase = Events::none().phase("t", "download");
    match downloader(Path::new(cache)).fetch(&request, &phase, &CancellationToken::new()).await {
        Ok(fetched) => println!("FETCHED {}", fetched.sha256),
        Err(error) => println!("FAILED {}", text(&error)),
    }
}

fn child(mut command: Command, cache: &Path, url: &str, digest: &str) -> Child {
    command
        .args(["--exact", "child_process_that_downloads", "--nocapture"])
        .env("VISABUILD_TEST_DOWNLOAD", format!("{}|{url}|{digest}", cache.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this_binary() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn said(child: Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_killed_process_leaves_what_the_next_one_continues() {
    let bench = Bench::new();
    let body = content(6 << 20);
    let url = bench.server.file("/a.iso", body.clone(), Some("\"v1\""));
    bench.server.next([Act::Slowly(64 << 10, Duration::from_millis(20))]);
    let mut killed = child(this_binary(), bench.folder.path(), &url, &sha256(&body));
    bench.grown(&body, 1 << 20).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let fetched = bench.get(&[&url], &sha256(&body)).await.unwrap();
    assert!(fs::read(fetched.path).unwrap() == body);
    let seen = bench.server.seen();
    let from: usize = seen[1].header("range").unwrap()[6..].trim_end_matches('-').parse().unwrap();
    assert!(from >= 1 << 20, "{from}");
    assert_eq!(seen[1].header("if-range"), Some("\"v1\""));
    assert_eq!(bench.stored(), [format!("sha256-{}", sha256(&body))]);
}

#[tokio::test]
async fn two_processes_download_a_file_once() {
    let bench = Bench::new();
    let body = content(1 << 20);
    let url = bench.server.file("/a.iso", body.clone(), None);
    bench.server.next([Act::Slowly(128 << 10, Duration::from_millis(50))]);
    let children = [(); 3].map(|()| child(this_binary(), bench.folder.path(), &url, &sha256(&body)));
    for child in children {
        let said = said(child);
        assert!(said.contains(&format!("FETCHED {}", sha256(&body))), "{said}");
    }
    assert_eq!(bench.server.seen().len(), 1);
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_wrong() {
    // The first server tells the size, so that nothing is begun; the second does not.
    for (acts, because) in [(Vec::new(), "3.0 MiB are wanted"), (vec![Act::Unsized], "No space left on device")] {
        let bench = Bench::new();
        let body = content(3 << 20);
        let mut inside = Command::new("unshare");
        inside.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        inside.args(["mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\""]).arg(bench.folder.path());
        inside.arg(std::env::current_exe().unwrap());
        let url = bench.server.file("/a.iso", body.clone(), None);
        bench.server.next(acts);
        let said = said(child(inside, bench.folder.path(), &url, &sha256(&body)));
        if !said.contains("FA") && !said.contains("FETCHED") {
            eprintln!("no name spaces: {said}");
            return;
        }
        assert!(said.contains("FAILED there is no room for `a.iso`") && said.contains(because), "{said}");
        assert_eq!(bench.server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_file_of_unknown_size_is_judged_by_its_checksum() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(100_000), None);
    bench.server.next([Act::Unsized]);
    bench.get(&[&url], &sha256(&content(100_000))).await.unwrap();
}

#[tokio::test]
async fn a_server_that_breaks_off_and_has_another_file_is_given_up() {
    let bench = Bench::new();
    let url = bench.server.file("/a.iso", content(200_000), None);
    bench.server.next(vec![Act::BreakAfter(80_000); 100]);
    let error = bench.get(&[&url], &"0".repeat(64)).await.unwrap_err();
    assert!(text(&error).contains("is another file (200000 bytes)"), "{}", text(&error));
    assert_eq!(bench.server.seen().len(), 6);
}
