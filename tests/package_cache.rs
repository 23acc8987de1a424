//! The package cache against servers of the tests' own, which count, wait, break off and lie, and with real clients.
#![allow(clippy::unwrap_used)]

#[path = "support/package_bench.rs"]
mod package_bench;
#[path = "support/package_server.rs"]
mod package_server;
mod support;
#[allow(dead_code)]
#[path = "support/openstack/tls.rs"]
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use package_bench::{Bench, index};
use package_server::{PackageServer, sha256};
use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Client, StatusCode};
use support::bench::Small;
use visabuild::error::Error;
use visabuild::package_cache::Session;
use visabuild::preflight::certificates::collect;
use visabuild::preflight::reach::Proxy;
use visabuild::source::apt::{Acquire, Mirror, Mirrors};
use visabuild::template::Text;

/// A client that goes through `session` as APT does.
fn apt(session: &Session) -> Client {
    let proxy = reqwest::Proxy::http(format!("http://{}", session.address())).unwrap();
    Client::builder().no_proxy().proxy(proxy).build().unwrap()
}

/// Whether a download failed, at its beginning or before its end.
async fn is_refused(answer: reqwest::Response) -> bool {
    answer.status() == StatusCode::BAD_GATEWAY || answer.bytes().await.is_err()
}

async fn bytes(client: &Client, url: &str) -> Vec<u8> {
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_pool_file_is_fetched_once_and_one_that_was_changed_on_disk_anew() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let content = b"a package".repeat(100_000);
    let url = server.put("/debian/pool/main/x/x_1.deb", &content);
    let first = bench.session(false).await;
    assert_eq!(bytes(&apt(&first), &url).await, content);
    // Another stage, and another run.
    let second = bench.session(false).await;
    assert_eq!(bytes(&apt(&second), &url).await, content);
    assert_eq!(server.asked("/debian/pool/main/x/x_1.deb"), 1);
    for session in [&first, &second] {
        let files = session.files();
        assert_eq!((files[0].url.as_str(), files[0].size), (url.as_str(), content.len() as u64));
        assert_eq!(files[0].sha256, sha256(&content));
    }
    first.tell();
    second.tell();
    assert_eq!(
        bench.said(),
        ["packages: 0 from the cache, 1 fetched (878.9 KiB)", "packages: 1 from the cache, 0 fetched"]
    );

    let flip = || {
        let kept = bench.kept(&content);
        assert_eq!(kept.len(), 1);
        let mut changed = content.clone();
        changed[5000] ^= 1;
        fs::write(&kept[0], changed).unwrap();
    };
    flip();
    assert_eq!(bytes(&apt(&second), &url).await, content);
    assert_eq!(server.asked("/debian/pool/main/x/x_1.deb"), 2);
    assert!(bench.said().last().unwrap().contains("was not what it had been, and was thrown away"));
    flip();
    let offline = bench.session(true).await;
    let answer = apt(&offline).get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.text().await.unwrap(), format!("visabuild: --offline: {url} is not in the package cache\n"));
    assert_eq!(server.asked("/debian/pool/main/x/x_1.deb"), 2);
}

#[tokio::test]
async fn an_index_is_revalidated_and_serves_as_it_was_when_nobody_answers() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let url = server.put("/debian/dists/trixie/InRelease", b"one");
    let session = bench.session(false).await;
    let client = apt(&session);
    assert_eq!(bytes(&client, &url).await, b"one");
    assert_eq!(bytes(&client, &url).await, b"one");
    assert_eq!((server.asked("/debian/dists/trixie/InRelease"), server.sent()), (2, 1));
    // What the guest has already is not sent to it again.
    let tag = client.get(&url).send().await.unwrap().headers()[ETAG].clone();
    let answer = client.get(&url).header(IF_NONE_MATCH, tag).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
    server.put("/debian/dists/trixie/InRelease", b"two");
    assert_eq!(bytes(&client, &url).await, b"two");
    server.refuse("/debian/dists/trixie/InRelease", 503);
    assert_eq!(bytes(&client, &url).await, b"two");
    assert_eq!(bench.said(), [format!("{url}: answers 503 Service Unavailable; what it said last is used")]);
    let before = server.asked("/debian/dists/trixie/InRelease");
    assert_eq!(bytes(&apt(&bench.session(true).await), &url).await, b"two");
    assert_eq!(server.asked("/debian/dists/trixie/InRelease"), before);
}

#[tokio::test]
async fn who_asks_meanwhile_follows_and_another_visabuild_waits() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let content = b"a big package".repeat(20_000);
    let path = "/debian/pool/main/b/big_1.deb";
    let url = server.put(path, &content);
    let gate = server.hold(path, 1000);
    let (cache, other) = (bench.open(false), bench.open(false));
    let events = bench.events();
    let one = cache.serve("one", &events).await.unwrap();
    let two = cache.serve("two", &events).await.unwrap();
    let three = other.serve("three", &events).await.unwrap();
    let mut first = apt(&one).get(&url).send().await.unwrap();
    let mut second = apt(&two).get(&url).send().await.unwrap();
    // Both have the beginning of what is not there yet.
    let beginnings = [first.chunk().await.unwrap().unwrap(), second.chunk().await.unwrap().unwrap()];
    assert!(beginnings.iter().all(|beginning| content.starts_with(beginning)));
    let client = apt(&three);
    let waiting = {
        let url = url.clone();
        tokio::spawn(async move { bytes(&client, &url).await })
    };
    gate.send(()).unwrap();
    for (answer, beginning) in [first, second].into_iter().zip(beginnings) {
        assert_eq!([&beginning[..], &answer.bytes().await.unwrap()].concat(), content);
    }
    assert_eq!(waiting.await.unwrap(), content);
    assert_eq!(server.asked(path), 1);
    for session in [&one, &two, &three] {
        session.tell();
    }
    let told: Vec<_> = bench.said().iter().map(|text| text.contains("1 fetched")).collect();
    assert_eq!(told, [true, false, false]);
}

#[tokio::test]
async fn what_breaks_off_is_not_kept_and_a_client_that_goes_breaks_off_nothing() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let content = b"torn".repeat(50_000);
    let path = "/debian/pool/main/t/torn_1.deb";
    let url = server.put(path, &content);
    server.break_off(path, 70_000);
    let session = bench.session(false).await;
    let answer = apt(&session).get(&url).send().await.unwrap();
    assert!(is_refused(answer).await);
    assert!(bench.kept(&content).is_empty() && session.files().is_empty());
    assert_eq!(bytes(&apt(&session), &url).await, content);
    assert_eq!(server.asked(path), 2);

    let path = "/debian/pool/main/g/gone_1.deb";
    let url = server.put(path, &content);
    let gate = server.hold(path, 1000);
    let mut answer = apt(&session).get(&url).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    gate.send(()).unwrap();
    assert_eq!(bytes(&apt(&session), &url).await, content);
    assert_eq!(server.asked(path), 1);
}

#[tokio::test]
async fn on_a_full_disk_files_are_passed_on_and_that_is_said_once() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let small = Small::mount(bench.folder.path());
    let session = bench.session(false).await;
    let first = server.put("/debian/pool/first.deb", b"first");
    assert_eq!(bytes(&apt(&session), &first).await, b"first");
    small.shrink("64M");
    let second = server.put("/debian/pool/second.deb", b"second");
    let third = server.put("/debian/pool/third.deb", b"third");
    for (url, content) in [(&first, &b"first"[..]), (&second, b"second"), (&third, b"third"), (&third, b"third")] {
        assert_eq!(bytes(&apt(&session), url).await, content);
    }
    assert_eq!(server.asked("/debian/pool/first.deb"), 1);
    let said = bench.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("packages are fetched, but not kept any more in "), "{said:?}");
    assert_eq!(session.files().len(), 3);
}

#[tokio::test]
async fn a_file_with_another_hash_than_its_index_says_is_not_kept() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let path = format!("/debian/dists/trixie/main/by-hash/SHA256/{}", "0".repeat(64));
    let url = server.put(&path, b"something else");
    let session = bench.session(false).await;
    let answer = apt(&session).get(&url).send().await.unwrap();
    assert!(is_refused(answer).await);
    assert!(bench.kept(b"something else").is_empty());
    assert!(bench.said()[0].ends_with("it is not kept"), "{:?}", bench.said());
}

#[tokio::test]
async fn without_the_network_hits_are_served_refusals_are_known_and_misses_are_named() {
    let (bench, server) = (Bench::new(), PackageServer::start().await);
    let there = server.put("/debian/pool/there.deb", b"there");
    let refused = there.replace("pool/there.deb", "dists/trixie/Release");
    let session = bench.session(false).await;
    assert_eq!(bytes(&apt(&session), &there).await, b"there");
    assert_eq!(apt(&session).get(&refused).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    drop(session);
    drop(server);
    let session = bench.session(true).await;
    let client = apt(&session);
    assert_eq!(bytes(&client, &there).await, b"there");
    assert_eq!(client.get(&refused).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let miss = there.replace("there.deb", "missing.deb?token=secret");
    assert_eq!(client.get(&miss).send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    let error = session.explain(Error::build("the step failed"));
    let named = there.replace("there.deb", "missing.deb");
    assert_eq!(
        error.hints(),
        [format!(
            "with `--offline`, what is not in the package cache cannot be had:\n  {named}\n\
             build once without `--offline`"
        )]
    );
}

#[tokio::test]
async fn credentials_reach_the_server_and_nothing_else() {
    let server = PackageServer::start().await;
    let mut bench = Bench::new();
    server.demand("/", "Basic am9lOmh1c2gtaHVzaA==");
    let page = format!("<a href=\"../../files/x-1.whl?t=1#sha256={}\">x-1.whl</a>", sha256(b"wheel"));
    server.put_as("/simple/x/", page.as_bytes(), "text/html");
    server.put("/files/x-1.whl", b"wheel");
    let deb = server.put("/debian/pool/x.deb", b"package");
    let full = server.url("/").replace("http://", "http://joe:hush-hush@");
    bench.pip = index(format!("{full}simple"));
    bench.mirrors = Some(Mirrors { main: Mirror::parse(&format!("{full}debian")).unwrap(), security: None });
    let session = bench.session(false).await;
    assert_eq!(bytes(&apt(&session), &deb).await, b"package");
    let here = format!("http://{}", session.address());
    let client = Client::builder().no_proxy().build().unwrap();
    let page = String::from_utf8(bytes(&client, &format!("{here}/.pip/simple/x/")).await).unwrap();
    let link = page.split('"').nth(1).unwrap().split('#').next().unwrap();
    assert_eq!(bytes(&client, &format!("{here}{link}")).await, b"wheel");
    assert_eq!(session.files().len(), 3);
    let before = vec![("PIP_INDEX_URL".to_owned(), Text::new("public".to_owned(), full, ["x".to_owned()].into()))];
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        session.files(),
        session.environment(&before),
        session.apt_configuration(""),
        bench.said()
    );
    assert!(!shown.contains("hush") && !shown.contains("am9l"), "{shown}");
    for entry in walkdir::WalkDir::new(bench.folder.path()).into_iter().flatten().filter(|entry| entry.path().is_file())
    {
        let text = format!("{} {}", entry.path().display(), String::from_utf8_lossy(&fs::read(entry.path()).unwrap()));
        assert!(!text.contains("hush") && !text.contains("am9l"), "{text}");
    }
    // What is for one client only is passed on, and not kept.
    let answer = apt(&session).get(server.url("/debian/pool/own.deb")).header("authorization", "Basic b3du").send();
    assert_eq!(answer.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_goes_out_by_the_sites_proxy_but_for_its_exceptions() {
    // A proxy sees whole URLs; this one answers for hosts that do not exist.
    let (gateway, direct) = (PackageServer::start().await, PackageServer::start().await);
    gateway.put("http://mirror.invalid/debian/pool/x.deb", b"by the proxy");
    let near = direct.put("/debian/pool/x.deb", b"directly");
    let far = "http://mirror.invalid/debian/pool/x.deb";
    let mut site = Bench::new();
    site.proxy = Proxy { url: Some(gateway.url("/")), no_proxy: Some("127.0.0.1,.example".to_owned()) };
    let mut apts = Bench::new();
    let lines =
        format!("Acquire::http::Proxy \"{}\";\nAcquire::http::Proxy::127.0.0.1 \"DIRECT\";\n", gateway.url("/"));
    apts.acquire = Acquire::parse(&lines);
    for bench in [site, apts] {
        let session = bench.session(false).await;
        assert_eq!(bytes(&apt(&session), far).await, b"by the proxy");
        assert_eq!(bytes(&apt(&session), &near).await, b"directly");
    }
}

#[tokio::test]
async fn guests_are_told_the_way_here_and_nothing_else() {
    let mut bench = Bench::new();
    bench.npm = index("https://registry.example:8443/npm");
    let session = bench.session(true).await;
    let here = format!("http://10.0.2.2:{}", session.address().port());
    let before = [("no_proxy", "a.example"), ("NPM_CONFIG_REGISTRY", "https://registry.example:8443/npm")];
    let before: Vec<_> = before.map(|(name, value)| (name.to_owned(), Text::public(value))).into();
    let variables = session.environment(&before);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.plain())).collect();
    let registry = format!("{here}/npm/");
    assert_eq!(
        variables,
        [
            ("no_proxy", "a.example,10.0.2.2"),
            ("npm_config_registry", registry.as_str()),
            ("npm_config_replace_registry_host", "registry.example:8443"),
            ("PIP_RETRIES", "0"),
            ("npm_config_fetch_retries", "0"),
            ("npm_config_audit", "false"),
        ]
    );
    let apt = session
        .apt_configuration("Acquire::Retries \"3\";\nAcquire::http::Proxy::x \"DIRECT\";\nDpkg::Use-Pty \"0\";\n");
    assert_eq!(
        apt,
        format!(
            "Dpkg::Use-Pty \"0\";\nAcquire::http::Proxy \"{here}\";\nAcquire::http::Timeout \"300\";\n\
             Dir::Bin::Methods::https \"/etc/apt/visabuild-https\";\n\
             Acquire::Retries \"0\";\nAcquire::Check-Valid-Until \"false\";\n"
        )
    );
}

/// A program with nothing of the caller's environment but its search path.
fn plain(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home).current_dir(home);
    command
}

async fn output(mut command: Command) -> (bool, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn pip_downloads_through_it_and_without_the_network() {
    let (mut bench, server) = (Bench::new(), PackageServer::start().await);
    let home = tempfile::tempdir().unwrap();
    let wheel = "import zipfile\nwith zipfile.ZipFile('w','w') as z:\n \
                 z.writestr('tiny-1.0.dist-info/METADATA','Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n \
                 z.writestr('tiny-1.0.dist-info/WHEEL','Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n \
                 z.writestr('tiny-1.0.dist-info/RECORD','')\n";
    let mut python = plain("python3", home.path());
    python.args(["-c", wheel]);
    assert_eq!(output(python).await, (true, String::new()));
    let wheel = fs::read(home.path().join("w")).unwrap();
    let name = "tiny-1.0-py3-none-any.whl";
    let page = format!("<!DOCTYPE html><a href=\"/files/{name}#sha256={}\">{name}</a>", sha256(&wheel));
    server.put_as("/root/simple/tiny/", page.as_bytes(), "text/html");
    server.put(&format!("/files/{name}"), &wheel);
    bench.pip = index(server.url("/root/simple"));
    for offline in [false, true] {
        let session = bench.session(offline).await;
        let folder = home.path().join(offline.to_string());
        let mut pip = plain("python3", home.path());
        pip.args(["-m", "pip", "download", "-q", "--no-cache-dir", "--disable-pip-version-check", "tiny", "-d"]);
        pip.arg(&folder).env("PIP_INDEX_URL", format!("http://{}/.pip/simple/", session.address()));
        let (done, said) = output(pip).await;
        assert!(done, "{said}");
        assert_eq!(fs::read(folder.join(name)).unwrap(), wheel);
        assert_eq!(session.files().len(), 2);
    }
    assert_eq!(server.asked(&format!("/files/{name}")), 1);
}

#[tokio::test]
async fn npm_installs_through_it_and_its_lock_files_name_the_registry() {
    let (mut bench, server) = (Bench::new(), PackageServer::start().await);
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("package")).unwrap();
    fs::write(home.path().join("package/package.json"), "{\"name\":\"tiny\",\"version\":\"1.0.0\"}").unwrap();
    let mut tar = plain("tar", home.path());
    tar.args(["-czf", "t.tgz", "package"]);
    assert_eq!(output(tar).await, (true, String::new()));
    let tarball = server.put("/npm/tiny/-/tiny-1.0.0.tgz", &fs::read(home.path().join("t.tgz")).unwrap());
    let packument = format!(
        "{{\"name\":\"tiny\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":{{\"1.0.0\":{{\"name\":\"tiny\",\
         \"version\":\"1.0.0\",\"dist\":{{\"tarball\":\"{tarball}\"}}}}}}}}"
    );
    server.put_as("/npm/tiny", packument.as_bytes(), "application/json");
    bench.npm = index(server.url("/npm/"));
    for offline in [false, true] {
        let session = bench.session(offline).await;
        let folder = home.path().join(offline.to_string());
        fs::create_dir(&folder).unwrap();
        let mut npm = plain("npm", home.path());
        npm.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--loglevel=error", "tiny"]);
        npm.env("npm_config_cache", folder.join("cache"));
        for (name, value) in session.environment(&[]) {
            npm.env(name, value.plain().replace("10.0.2.2", "127.0.0.1"));
        }
        let (done, said) = output(npm).await;
        assert!(done, "{said}");
        for file in ["package-lock.json", "node_modules/.package-lock.json"] {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(&tarball) && !text.contains(&session.address().port().to_string()), "{text}");
        }
        assert_eq!(session.files().len(), 2, "{:?}", session.files());
    }
    assert_eq!(server.asked("/npm/tiny/-/tiny-1.0.0.tgz"), 1);
}

/// apt-get with a state of its own and nothing of the host's but its mirror.
fn apt_get(folder: &Path, source: &str, configuration: &str) -> Command {
    fs::create_dir_all(folder.join("state/lists/partial")).unwrap();
    fs::create_dir_all(folder.join("cache/archives/partial")).unwrap();
    fs::write(folder.join("status"), "").unwrap();
    fs::write(folder.join("sources.list"), source).unwrap();
    let own =
        [("State", "state"), ("State::Status", "status"), ("Cache", "cache"), ("Etc::SourceList", "sources.list")];
    let own = own.map(|(name, file)| format!("Dir::{name} \"{}\";\n", folder.join(file).display())).concat();
    let none = "Dir::Etc::Parts \"/dev/null\";\nDir::Etc::Main \"/dev/null\";\nDir::Etc::SourceParts \"/dev/null\";\n";
    fs::write(folder.join("apt.conf"), format!("{none}{own}{configuration}APT::Update::Error-Mode \"any\";\n"))
        .unwrap();
    let mut command = plain("apt-get", folder);
    command.env("APT_CONFIG", folder.join("apt.conf")).args(["-q", "update"]);
    command
}

#[tokio::test]
async fn apt_updates_through_it_and_without_the_network() {
    let mut bench = Bench::new();
    let mirrors = Mirrors::from_sources(&visabuild::source::apt::read_sources(Path::new("/etc/apt")).unwrap()).unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    bench.acquire = Acquire::of_host(&cancel).await.unwrap();
    // The smallest suite; its signature is not what this is about.
    let source = format!("deb [trusted=yes] {} trixie-updates main\n", mirrors.main.url());
    bench.mirrors = Some(mirrors);
    for offline in [false, true] {
        let session = bench.session(offline).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = session.acquire(&bench.acquire).configuration;
        let command = apt_get(folder.path(), &source, secrecy::ExposeSecret::expose_secret(&configuration));
        let (done, said) = output(command).await;
        assert!(done, "{said}");
        let urls: Vec<_> = session.files().into_iter().map(|file| file.url).collect();
        assert!(urls.iter().any(|url| url.ends_with("/dists/trixie-updates/InRelease")), "{urls:?}");
        assert!(urls.iter().any(|url| url.contains("/main/binary-amd64/by-hash/SHA256/")), "{urls:?}");
    }
    let session = bench.session(true).await;
    let folder = tempfile::tempdir().unwrap();
    let configuration = session.acquire(&bench.acquire).configuration;
    let source = source.replace("trixie-updates", "no-such-suite");
    let command = apt_get(folder.path(), &source, secrecy::ExposeSecret::expose_secret(&configuration));
    let (done, said) = output(command).await;
    assert!(!done && said.contains("--offline: ") && said.contains("is not in the package cache"), "{said}");
}

#[tokio::test]
async fn an_archive_by_https_is_cached_and_apt_knows_it_by_its_own_address() {
    let (mut bench, server) = (Bench::new(), PackageServer::start().await);
    let authority = tls::Authority::create(&bench.folder.path().join("authority"));
    bench.authorities = collect::<PathBuf>(&[], &[authority.certificate_file()]).unwrap().certificates;
    let index = format!(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: x\nFilename: ./tiny.deb\nSize: 4\nSHA256: {}\n",
        sha256(b"tiny")
    );
    server.put("/flat/Packages", index.as_bytes());
    let archive = format!("https://localhost:{}/flat", authority.relay(server.address()).await);
    for offline in [false, true] {
        let session = bench.session(offline).await;
        let folder = tempfile::tempdir().unwrap();
        let configuration = session.acquire(&bench.acquire).configuration;
        let source = format!("deb [trusted=yes] {archive} ./\n");
        let configuration =
            format!("{}Acquire::Languages \"none\";\n", secrecy::ExposeSecret::expose_secret(&configuration));
        let (done, said) = output(apt_get(folder.path(), &source, &configuration)).await;
        assert!(done, "{said}");
        let urls: Vec<_> = session.files().into_iter().map(|file| file.url).collect();
        assert_eq!(urls, [format!("{archive}/Packages")]);
        let lists = fs::read_dir(folder.path().join("state/lists")).unwrap().flatten();
        let lists: Vec<_> = lists.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(
            lists.iter().any(|name| name.starts_with("localhost:") && name.ends_with("_flat_._Packages")),
            "{lists:?}"
        );
    }
    assert_eq!(server.asked("/flat/Packages"), 1);
}

/// The same command in a network name space with nothing but loopback.
fn cut_off(command: &Command, arguments: &[&str]) -> Command {
    let mut cut = Command::new("unshare");
    cut.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    cut.arg(command.get_program()).args(command.get_args()).arg("--offline").args(arguments);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => cut.env(name, value),
            None => cut.env_remove(name),
        };
    }
    cut.stdin(std::process::Stdio::null());
    cut
}

#[test]
fn full_nspawn_a_chain_is_built_anew_without_a_network_and_a_miss_is_named() {
    let installs = |package: &str| {
        format!(
            "    - type: shell\n      inline:\n        - apt-get -q update\n        \
             - apt-get -q -y --no-install-recommends install {package}\n"
        )
    };
    // A cache of its own: in the shared one are disks that were made before packages were kept.
    let cache = support::shared().join("cut-off");
    let bench = support::bench::Bench {
        cache,
        ..support::bench::Bench::new(visabuild::engine::Engine::Nspawn, &installs("hello"))
    };
    let mut command = bench.build();
    command.arg("--no-verify");
    let (_, err, code) = support::told(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    let manifest = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(bench.results().join("tiny.manifest.json")).unwrap()).unwrap()
    };
    let before = manifest();

    let (_, err, code) = support::told(&cut_off(&command, &["--force"]).output().unwrap());
    assert_eq!(code, 0, "{err}");
    let told: Vec<_> = err.lines().filter(|line| line.contains("packages: ")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.ends_with(" from the cache, 0 fetched")), "{told:?}");
    let after = manifest();
    for layer in 0..2 {
        let fetched = &after["layers"][layer]["fetched"];
        assert_eq!(fetched, &before["layers"][layer]["fetched"]);
        assert!(!fetched.as_array().unwrap().is_empty());
    }
    assert_ne!(before["layers"][1]["created"], after["layers"][1]["created"]);
    let fetched = after["layers"][1]["fetched"].as_array().unwrap();
    assert!(fetched.iter().any(|file| file["url"].as_str().unwrap().contains("/pool/main/h/hello/hello_")));
    let script = "grep -rlE '10\\.0\\.2\\.2|VISABUILD' etc root home var usr/local || true";
    let image = bench.results().join("tiny.qcow2");
    assert_eq!(support::in_image(&image, support::Access::Read, script), "");

    // On the base disk that is there.
    bench.steps(&installs("sl"));
    let (_, err, code) = support::told(&cut_off(&command, &[]).output().unwrap());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("with `--offline`, what is not in the package cache cannot be had:\n"), "{err}");
    assert!(err.contains("/pool/main/s/sl/sl_") && err.contains("build once without `--offline`"), "{err}");
}

#[test]
fn options_that_contradict_each_other_and_choices_that_nobody_knows_are_told() {
    let cache = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let mut command = support::visabuild();
        command.env("XDG_CACHE_HOME", cache.path()).env("VISABUILD_OFFLINE", "1").current_dir(support::repository());
        let (_, err, code) = support::told(&command.args(arguments).output().unwrap());
        (code, err)
    };
    let (code, err) = said(&["build", "--no-package-cache"]);
    assert!(code == 2 && err.contains("`--offline` takes packages from the cache"), "{code} {err}");
    let (code, err) = said(&["build", "--upload"]);
    assert!(code == 2 && err.contains("`--upload` needs the network"), "{code} {err}");
    let (code, err) = said(&["plan"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("which of the alternatives for `guacd_method` is there"), "{err}");
    assert!(err.contains("build once without `--offline`, or name one with the variable guacd_method"), "{err}");
    let project = fs::canonicalize(support::repository()).unwrap().display().to_string();
    let choices = visabuild::package_cache::Choices::below(&cache.path().join("visabuild"));
    choices.put(&project, "guacd_method", "debian");
    assert_eq!(said(&["plan"]), (0, String::new()));
}
