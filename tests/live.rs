//! The live page of a build: who gets in, what it tells, and that who looks types nothing. The guest is a boot sector that
//! echoes keys to its serial console.
#![allow(clippy::unwrap_used)]

mod boot_sector;
#[path = "support/live.rs"]
mod client;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use client::{Page, Viewer};
use rustix::process::Signal;
use serde_json::Value;
use support::bench::Bench;
use support::{Run, planted, told};
use visabuild::engine::Engine;

/// What the build says of the page.
const WATCH: &str = "watch this run at ";
/// The machine of the planted project.
const MACHINE: &str = "tiny.layer";

fn echoes() -> Bench {
    planted::project(&boot_sector::disk(boot_sector::ECHOES), "")
}

fn watched(bench: &Bench) -> Command {
    let mut command = planted::build(bench);
    command.arg("--watch");
    command
}

/// The answer to a request written by hand: status and all.
fn answer(page: &Page, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&page.host).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// No file below `folder` has `text` in it.
fn nowhere(folder: &Path, text: &str) {
    for entry in walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let bytes = fs::read(entry.path()).unwrap();
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{} has it", entry.path().display());
    }
}

/// Who may not come in.
fn refuses(page: &Page) {
    let Page { host, token } = page;
    let request = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    let own = format!("Host: {host}\r\n");
    let wrong = "0".repeat(token.len());
    for (line, headers, status) in [
        (format!("GET /{token}/"), own.clone(), 200),
        (format!("GET /{token}/novnc/core/rfb.js"), own.clone(), 200),
        (format!("GET /{token}/"), format!("Host: localhost:{}\r\n", host.split(':').nth(1).unwrap()), 200),
        ("GET /".to_owned(), own.clone(), 404),
        ("GET /events".to_owned(), own.clone(), 404),
        (format!("GET /{wrong}/"), own.clone(), 404),
        (format!("GET /{wrong}/events"), own.clone(), 404),
        (format!("GET /{token}/nothing"), own.clone(), 404),
        (format!("GET /{token}/../Cargo.toml"), own.clone(), 404),
        (format!("GET /{token}/"), "Host: rebound.example.org\r\n".to_owned(), 403),
        (format!("GET /{token}/events"), "Host: rebound.example.org\r\n".to_owned(), 403),
        (format!("GET /{token}/"), format!("{own}Origin: http://evil.example.org\r\n"), 403),
        (format!("POST /{token}/take/x"), own.clone(), 403),
        (format!("POST /{token}/take/x"), format!("{own}Origin: null\r\n"), 403),
        (format!("POST /{token}/take/x"), format!("{own}Origin: http://{host}\r\n"), 404),
        (format!("GET /{token}/take/x"), own.clone(), 405),
    ] {
        let (found, answer) = answer(page, &request(&line, &headers));
        assert_eq!(found, status, "{line}\n{headers}");
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{line}: {header}\n{head}");
        }
        assert!(!head.contains(token.as_str()) && !head.contains("unsafe"), "{head}");
    }
}

/// Types a key and sees it come back.
async fn types(viewer: &mut Viewer, key: u8, events: &mut client::Events) -> Vec<String> {
    viewer.key(key).await;
    events.serial(&char::from(key).to_string()).await
}

#[tokio::test]
async fn qemu_a_page_is_told_everything_once_and_types_only_after_taking_over() {
    let bench = echoes();
    let mut run = Run::start(watched(&bench));
    let page = Page::of(&run.wait_for(WATCH));
    refuses(&page);

    // All that has happened, and then what happens; again, only what came after.
    let mut events = page.events(None).await;
    let first = events.until(|event| event["event"] == "serial" && event["line"] == "ready").await;
    let kinds: Vec<&str> = first.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["hello", "plan"]);
    assert_eq!(first[1]["stages"][0]["steps"], serde_json::json!(["true"]));
    for kind in ["stage_started", "phase_started", "machines"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let mut late = page.events(None).await;
    late.serial("ready").await;
    let mut again = page.events(Some(events.last)).await;
    assert_eq!(again.next().await.unwrap()["again"], true);

    // From elsewhere nobody sees the screen, nor one that is not there.
    let path = format!("screen/{MACHINE}/one");
    for (path, origin, status) in [
        (path.as_str(), None, 403),
        (&path, Some("http://evil.example.org"), 403),
        ("screen/tiny.install/one", Some(&*format!("http://{}", page.host)), 404),
        (&format!("screen/{MACHINE}/a%2Fb"), Some(&*format!("http://{}", page.host)), 404),
    ] {
        assert_eq!(page.socket(path, origin).await.err(), Some(status), "{path} {origin:?}");
    }

    // Who looks sees, and types nothing.
    let mut one = page.viewer(MACHINE, "one").await;
    let mut two = page.viewer(MACHINE, "two").await;
    assert_eq!(one.size, (640, 400));
    assert_eq!((one.pixel().await, two.pixel().await), ([0, 0, 168], [0, 0, 168]));
    one.key(b'x').await;
    one.pixel().await;
    assert_eq!(page.post("take/one").await, 204);
    let heard = types(&mut one, b'a', &mut again).await;
    assert_eq!(heard, ["a"], "no x came");

    // One at a time; what is given back or left is another's.
    assert_eq!(page.post("take/two").await, 409);
    two.key(b'y').await;
    two.pixel().await;
    assert_eq!(page.post("give-back/one").await, 204);
    one.key(b'z').await;
    one.pixel().await;
    assert_eq!(page.post("take/two").await, 204);
    assert_eq!(types(&mut two, b'b', &mut again).await, ["b"]);
    drop(two);
    again.until(|event| event["event"] == "taken" && event["machines"] == serde_json::json!([])).await;
    assert_eq!(page.post("take/one").await, 204);
    assert_eq!(types(&mut one, b'c', &mut again).await, ["c"]);

    // A page that says what no viewer says is shown out.
    let mut strange = page.viewer(MACHINE, "strange").await;
    strange.send(&[77]).await;
    assert_eq!(strange.closed().await, Some(1008));

    // Everybody is told the end, and nothing is left.
    run.signal(Signal::INT);
    let end = again.until(|event| event["event"] == "ended").await;
    assert_eq!((end.last().unwrap()["how"].as_str(), again.next().await), (Some("stopped"), None));
    assert_eq!(one.closed().await, Some(1000));
    let (code, err) = run.end();
    assert_eq!(code, Some(130), "{err}");
    assert_eq!(err.matches(&page.token).count(), 1, "{err}");
    for text in ["tiny: the screen was taken over in the live page", "tiny: the live page gave the screen back"] {
        assert!(err.contains(text), "{err}");
    }
    let log = fs::read_to_string(bench.results().join("failure/build.log")).unwrap();
    assert!(log.contains("the screen was taken over in the live page"), "{log}");
    nowhere(bench.folder.path(), &page.token);
}

#[tokio::test]
async fn qemu_a_failure_is_told_to_pages_and_to_programs() {
    let bench = planted::project(&boot_sector::disk(boot_sector::PANICS), "");
    let mut command = planted::build(&bench);
    command.arg("--json").env("VISABUILD_WATCH", "1");
    // Standard error is empty, so what is read is standard output.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["event"], "live_page");
    let page = Page::of(first["url"].as_str().unwrap());
    let mut events = page.events(None).await;
    let seen = events.until(|event| event["event"] == "ended").await;
    assert_eq!(events.next().await, None);
    let failed = seen.iter().find(|event| event["event"] == "stage_failed");
    let failed = failed.unwrap_or_else(|| panic!("{seen:#?}"));
    assert_eq!(failed["class"], "kernel-panic", "{failed}");
    let end = seen.last().unwrap();
    assert_eq!((end["how"].as_str(), end["error"]["exit_code"].as_u64()), (Some("failed"), Some(4)));
    assert!(end["error"]["message"].as_array().unwrap().len() > 1, "{end}");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("\"stage_failed\"")));
    assert!(!rest.iter().any(|line| line.contains(&page.token)));
    nowhere(bench.folder.path(), &page.token);
}

#[test]
fn a_host_without_a_free_port_is_told_so() {
    let bench = echoes();
    // A network of its own with one port, which is taken.
    let taken = "import os, socket, sys\n\
                 open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40000')\n\
                 held = socket.socket()\nheld.bind(('127.0.0.1', 40000))\nheld.listen()\nheld.set_inheritable(True)\n\
                 os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "python3", "-c", taken]);
    let build = watched(&bench);
    command.arg(build.get_program()).args(build.get_args()).env("XDG_CACHE_HOME", &bench.cache);
    let (_, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 3, "{err}");
    assert!(err.starts_with("error: the live page cannot listen on loopback\n"), "{err}");
}

/// An installation from a CD that boots the sector, with answers on the web server.
fn installation() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let [tree, iso, template] = ["tree", "boot.iso", "templates/tiny"].map(|name| folder.path().join(name));
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(template.join("http")).unwrap();
    fs::write(tree.join("boot.img"), &boot_sector::disk(boot_sector::ECHOES)[..2048]).unwrap();
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4", "-o"]);
    assert!(xorriso.arg(&iso).arg(&tree).stderr(Stdio::null()).status().unwrap().success());
    fs::write(folder.path().join("config.yml"), "templates:\n  tiny:\n").unwrap();
    fs::write(template.join("http/preseed.cfg"), "d-i answers\n").unwrap();
    let manifest = format!(
        "packer:\n  builders:\n    - type: qemu\n      iso_url: {}\n      iso_checksum: none\n      http_directory: http\n      \
         vnc_use_password: true\n  provisioners:\n    - type: shell\n      name: a step that waits\n      inline: [\"true\"]\n",
        iso.display()
    );
    fs::write(template.join("manifest.yml"), manifest).unwrap();
    Bench { cache: folder.path().join("cache"), folder, engine: Engine::Qemu }
}

/// TCP ports on which a process listens (proc(5), `/proc/net/tcp`).
fn listening(pid: u32) -> Vec<u16> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links: Vec<PathBuf> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let socket = PathBuf::from(format!("socket:[{}]", words[9]));
        let port = u16::from_str_radix(words[1].split_once(':').unwrap().1, 16).unwrap();
        (words[3] == "0A" && links.contains(&socket)).then_some(port)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[tokio::test]
async fn qemu_the_page_works_in_a_browser() {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser/node_modules/playwright-core");
    assert!(modules.is_dir(), "scripts/test installs playwright-core, and Chromium");
    let bench = installation();
    let mut run = Run::start(watched(&bench));
    let page = Page::of(&run.wait_for(WATCH));
    run.wait_for("look at the machine");
    // The test stands in for a guest that fetches its answers.
    let own: u16 = page.host.split(':').nth(1).unwrap().parse().unwrap();
    let web = listening(run.child.id()).into_iter().find(|port| *port != own).unwrap();
    let client = reqwest::Client::builder().user_agent("debian-installer").build().unwrap();
    for (path, status) in [("preseed.cfg", 200), ("<b>missing</b>", 404)] {
        let answer = client.get(format!("http://127.0.0.1:{web}/{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        answer.bytes().await.unwrap();
    }
    let script = support::repository().join("tests/support/browser/look.mjs");
    let profile = bench.folder.path().join("profile");
    let mut node = tokio::process::Command::new("node");
    node.arg(script).args([modules.join("index.mjs"), profile]).arg(page.url("")).kill_on_drop(true);
    let (out, err, code) = told(&node.output().await.unwrap());
    assert_eq!(code, 0, "{out}{err}");
    // The page has typed `q`, which ended the guest, and with it the build.
    let (code, err) = run.end();
    assert_eq!(code, Some(4), "{err}");
    nowhere(&bench.folder.path().join("builds"), &page.token);
}
