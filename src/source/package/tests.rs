//! A package of our own is taken apart; the real one is fetched.

use std::process::Command;

use super::*;
use crate::cache::Cache;
use crate::download::Policy;
use crate::event::Events;
use crate::preflight::reach::Proxy;
use crate::source::apt::Mirror;

fn wanted(package: &str, version: Option<&str>) -> Wanted {
    Wanted {
        suite: "trixie".to_owned(),
        components: vec!["main".to_owned()],
        package: package.to_owned(),
        version: version.map(str::to_owned),
    }
}

/// A package with files and links.
fn deb(folder: &Path) -> PathBuf {
    let script = "mkdir -p tree/DEBIAN tree/usr/lib/x/images/13 && cd tree &&
        printf 'Package: x\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' > DEBIAN/control &&
        echo kernel > usr/lib/x/images/13/linux && ln usr/lib/x/images/13/linux usr/lib/x/hard &&
        ln -s 13 usr/lib/x/images/current && ln -s /usr/lib/x/images/current/linux usr/lib/x/vmlinuz &&
        ln -s loop usr/lib/x/loop && ln -s ../../../../../../etc/passwd usr/lib/x/out &&
        cd .. && dpkg-deb --root-owner-group -b tree x.deb";
    let made = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder.join("x.deb")
}

#[tokio::test]
async fn files_are_found_by_their_names_and_by_links() {
    let folder = tempfile::tempdir().unwrap();
    let deb = deb(folder.path());
    let names =
        ["/usr/lib/x/images/13/linux", "usr/lib/x/images/current/linux", "/usr/lib/x/vmlinuz", "./usr/lib/x/hard"];
    let outside = |number: usize| folder.path().join(format!("out-{number}"));
    let pairs: Vec<_> = names.iter().enumerate().map(|(number, name)| (PathBuf::from(name), outside(number))).collect();
    extract(&deb, &pairs, &CancellationToken::new()).await.unwrap();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(fs::read_to_string(outside(number)).unwrap(), "kernel\n", "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told_with_those_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let deb = deb(folder.path());
    let get = async |name: &str| {
        let pair = [(PathBuf::from(name), folder.path().join("out"))];
        extract(&deb, &pair, &CancellationToken::new()).await.unwrap_err()
    };
    let error = get("/boot/linux").await;
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.to_string(), "the package has no file /boot/linux");
    assert_eq!(error.hints(), ["it has /usr/lib/x/images/13/linux"]);
    for name in ["/usr/lib/x/loop", "/usr/lib/x/out", "/usr/lib/x", "/"] {
        assert_eq!(get(name).await.kind(), Kind::Usage, "{name}");
    }
    assert!(!folder.path().join("out").exists());
}

#[tokio::test]
async fn a_damaged_package_and_a_cancellation_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let deb = deb(folder.path());
    let pair = [(PathBuf::from("/usr/lib/x/vmlinuz"), folder.path().join("out"))];
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(extract(&deb, &pair, &cancel).await.unwrap_err().kind(), Kind::Interrupted);
    let bytes = fs::read(&deb).unwrap();
    fs::write(&deb, &bytes[..bytes.len() - 60]).unwrap();
    let error = extract(&deb, &pair, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    assert!(error.chain()[0].ends_with("x.deb cannot be unpacked"), "{:?}", error.chain());
}

#[test]
fn apts_list_of_uris_is_read() {
    let hex = "0".repeat(64);
    let line =
        format!("'http://mirror.example.org/debian/pool/x_1.deb' x_1%3a2.0%2bdeb13u1_amd64.deb 123 SHA256:{hex}");
    let entry = Entry::parse(&line, "x").unwrap();
    assert_eq!((entry.version.as_str(), entry.digest().unwrap().hex()), ("1:2.0+deb13u1", hex.as_str()));
    assert_eq!(Entry::parse("'http://h/x' x_1_amd64.deb 123 MD5Sum:00", "x"), None);
    assert_eq!(Entry::parse("Reading package lists...", "x"), None);
    assert_eq!(percent("dlstatus:1:20.5:Retrieving file 1 of 1"), Some(20));
}

#[test]
fn names_that_are_options_or_paths_are_refused() {
    for (package, version) in
        [("-o", None), ("../x", None), ("x y", None), ("", None), ("x", Some("1 2")), ("x", Some("-1"))]
    {
        assert_eq!(wanted(package, version).check().unwrap_err().kind(), Kind::Usage, "{package}");
    }
    assert!(wanted("g++", Some("2:9.1+dfsg~1-1")).check().is_ok());
}

fn downloader(folder: &Path) -> Downloader {
    Downloader::new(&Cache::open(folder).unwrap(), &Proxy::default(), &[], Policy::default()).unwrap()
}

#[tokio::test]
async fn offline_a_package_that_was_never_fetched_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors = Mirrors { main: Mirror::parse("http://127.0.0.1:1/debian").unwrap(), security: None };
    let host = Host { mirrors: &mirrors, acquire: &Acquire::default(), keyring: None, work_dir: folder.path() };
    let (phase, cancel) = (Events::none().phase("t", "download"), CancellationToken::new());
    let downloader = downloader(folder.path()).offline(true);
    let error = fetch(&wanted("x", Some("1")), &host, &downloader, &phase, &cancel).await.unwrap_err();
    assert_eq!(error.to_string(), "the package x=1 of trixie is not in the cache, and the network is left alone");
}
