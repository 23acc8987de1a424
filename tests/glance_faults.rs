//! The fault matrix of `visabuild upload`: each row breaks one thing in front of a real Keystone or a real Glance, and
//! looks at the exit code, at what is said, at how often data are sent, and at what is left. `docs/publishing-faults.md`
//! has the rows as a table.
#![allow(clippy::unwrap_used)]

#[path = "support/fault_matrix.rs"]
mod fault_matrix;
#[path = "support/openstack/mod.rs"]
mod openstack;
#[path = "support/publishing.rs"]
mod publishing;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use fault_matrix::{Bench, Case, FILE, LARGE, MIDDLE, NAME, Remains, Row, Running, documented};
use openstack::{Cloud, Fault, FaultProxy, Outcome, Rule};
use publishing::{Host, one};
use rustix::process::Signal;
use serde_json::{Value, json};

/// One image's address.
const IMAGE: &str = "/images/[0-9a-f-]{36}$";
const QUICK_STALL: &[&str] = &["--retries", "1", "--stall-timeout", "2"];
const SPENT: &str = "the project's quota of images or their size is used up";

fn reset(after: u64, forward: bool) -> Fault {
    Fault::Reset { after, forward }
}

fn status(code: u16, after: u64) -> Fault {
    Fault::Status { code, headers: Vec::new(), body: Vec::new(), after }
}

fn create(fault: Fault) -> Rule {
    Rule::matching("POST", "/images$", fault)
}

fn patch(n: usize, fault: Fault) -> Rule {
    Rule::new("PATCH", "/images/", fault).nth(n)
}

fn data_rows() -> Vec<Row> {
    let (broke, last) = ("the upload broke", LARGE - 1);
    let halfway = "the connection is reset, Glance has what came";
    vec![
        Row::new("PUT, first byte", "the connection is reset").put(reset(0, false)).says(broke).puts(2),
        Row::new("PUT, halfway", "the connection is reset, Glance has nothing")
            .large()
            .put(reset(MIDDLE, false))
            .says(broke)
            .puts(2),
        Row::new("PUT, halfway", halfway).large().put(reset(MIDDLE, true)).says(broke).puts(2),
        Row::new("PUT, last byte", halfway).large().put(reset(last, true)).says(broke).puts(2),
        Row::new("PUT, after the last byte", "the connection is reset").large().put(reset(u64::MAX, true)),
        Row::new("PUT, answer", "it is lost").put(Fault::LoseResponse),
        Row::new("PUT, answer", "a proxy says 504, Glance is done").put(Fault::ReplaceResponse { code: 504 }),
        Row::new("PUT, answer", "it never comes").with(QUICK_STALL).put(Fault::Stall { after: u64::MAX }),
        Row::new("PUT, halfway", "nothing moves any more")
            .large()
            .with(QUICK_STALL)
            .put(Fault::Stall { after: MIDDLE })
            .says("the cloud took nothing after byte")
            .puts(2),
        Row::new("PUT, all the way", "the link is slower than the stall timeout")
            .large()
            .with(&["--stall-timeout", "1"])
            .put(Fault::Slow { bytes_per_second: LARGE / 3 }),
        Row::new("PUT, on the way", "a byte is changed")
            .put(Fault::CorruptByte { at: 300_000 })
            .says("the cloud has other data (sha512")
            .puts(2),
        Row::new("PUT, on the way", "a byte is changed each time")
            .at_glance(Rule::new("PUT", FILE, Fault::CorruptByte { at: 300_000 }))
            .fails(6, "at try 2: the image did not arrive whole", Remains::Old)
            .puts(2),
        Row::new("PUT, halfway", "500 each time")
            .large()
            .at_glance(Rule::new("PUT", FILE, status(500, MIDDLE)))
            .fails(6, "at try 2: the cloud refused", Remains::Old)
            .puts(2),
    ]
}

fn delete_rows() -> Vec<Row> {
    vec![
        Row::new("DELETE of a half image, answer", "it is lost")
            .put(reset(0, false))
            .at_glance(Rule::matching("DELETE", IMAGE, Fault::LoseResponse).once())
            .puts(2),
        Row::new("DELETE of a half image", "500 each time")
            .with(&["--retries", "0"])
            .put(reset(0, false))
            .at_glance(Rule::matching("DELETE", IMAGE, Fault::status(500)))
            .fails(6, "the next upload from this host removes it", Remains::Half),
    ]
}

#[tokio::test]
async fn data_that_break_on_their_way_are_sent_again_and_no_half_image_stays() {
    let mut bench = Bench::new(Cloud::start().await).await;
    bench.all(data_rows()).await;
    bench.all(delete_rows()).await;
}

/// The status once at each kind of request.
fn once_everywhere(happened: &'static str, fault: &Fault) -> Row {
    Row::new("POST, PUT, GET and PATCH of the image, each once", happened)
        .at_glance(create(fault.clone()).once())
        .put(fault.clone())
        .at_glance(Rule::matching("GET", IMAGE, fault.clone()).once())
        .at_glance(patch(1, fault.clone()))
        .says("the upload broke")
        .puts(2)
}

fn request_rows() -> Vec<Row> {
    let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
    let busy = Fault::Status { code: 503, headers, body: b"busy".to_vec(), after: 0 };
    let gone = "the cloud was not reachable";
    vec![
        once_everywhere("500", &Fault::status(500)),
        once_everywhere("502", &Fault::status(502)),
        once_everywhere("503 with Retry-After: 1", &busy),
        once_everywhere("504", &Fault::status(504)),
        once_everywhere("the connection is reset", &reset(0, false)),
        Row::new("POST of the image, answer", "it is lost").at_glance(create(Fault::LoseResponse).once()),
        Row::new("POST of the image, answer", "it is cut")
            .at_glance(create(Fault::TruncateResponse { after: 10 }).once()),
        Row::new("GET of the image, answer", "it is cut")
            .at_glance(Rule::matching("GET", IMAGE, Fault::TruncateResponse { after: 10 }).once()),
        Row::new("POST of the image", "500 each time")
            .at_glance(create(Fault::status(500)))
            .fails(6, "the cloud refused", Remains::Old)
            .puts(0),
        Row::new("POST of the image", "the connection is reset each time")
            .at_glance(create(reset(0, false)))
            .fails(6, gone, Remains::OldRecorded)
            .puts(0),
        Row::new("GET of the image", "nothing answers each time")
            .with(&["--retries", "0", "--stall-timeout", "1"])
            .at_glance(Rule::matching("GET", IMAGE, Fault::Stall { after: 0 }))
            .fails(6, gone, Remains::Old),
        Row::new("PATCH that makes it a candidate", "500 each time")
            .at_glance(Rule::new("PATCH", "/images/", Fault::status(500)))
            .fails(6, "the cloud has a fault", Remains::Old),
    ]
}

fn patch_rows() -> Vec<Row> {
    let patches = ["PATCH that makes it a candidate", "PATCH that promotes it", "PATCH that hides the old one"];
    let lost = (1..).zip(patches);
    let lost = lost.map(|(n, broke)| Row::new(broke, "the answer is lost").at_glance(patch(n, Fault::LoseResponse)));
    let fails = |n: usize, remains| {
        let row = Row::new(patches[n - 1], "500 each time").with(&["--retries", "0"]);
        row.at_glance(patch(n, Fault::status(500))).fails(6, "promoting", remains)
    };
    lost.chain([fails(2, Remains::Candidate), fails(3, Remains::Both)]).collect()
}

#[tokio::test]
async fn requests_that_fail_once_heal_and_those_that_always_fail_change_nothing() {
    let mut bench = Bench::new(Cloud::start().await).await;
    bench.all(request_rows()).await;
    bench.all(patch_rows()).await;
}

fn refusal_rows() -> Vec<Row> {
    let put = |fault: Fault| Rule::new("PUT", FILE, fault);
    vec![
        Row::new("PUT, first byte", "413, before anything is read").large().put(Fault::status(413)).fails(
            6,
            SPENT,
            Remains::Old,
        ),
        Row::new("POST of the image", "413")
            .at_glance(create(Fault::status(413)))
            .fails(6, SPENT, Remains::Old)
            .puts(0),
        Row::new("PUT", "409 once").put(Fault::status(409)).says("the upload broke").puts(2),
        Row::new("PUT", "409 each time")
            .at_glance(put(Fault::status(409)))
            .fails(6, "something else changes the image at the same time", Remains::Old)
            .puts(2),
        Row::new("PUT", "403, and the cloud offers glance-direct")
            .put(Fault::status(403))
            .says("the cloud takes no data straight: staging them for an import")
            .puts(2),
        Row::new("PUT", "403 with --method put").with(&["--method", "put"]).put(Fault::status(403)).fails(
            6,
            "the user may not do that in this project",
            Remains::Old,
        ),
        Row::new("POST of the image", "403")
            .at_glance(create(Fault::status(403)))
            .fails(6, "the user may not do that in this project", Remains::Old)
            .puts(0),
        Row::new("staging, halfway", "the connection is reset")
            .large()
            .with(&["--retries", "1", "--method", "glance-direct"])
            .at_glance(Rule::new("PUT", "/stage", reset(MIDDLE, true)).once())
            .says("the upload broke")
            .puts(2),
        Row::new("POST of the import, answer", "it is lost")
            .with(&["--retries", "1", "--method", "glance-direct"])
            .at_glance(Rule::new("POST", "/import", Fault::LoseResponse).once()),
        Row::new("web-download", "the cloud cannot fetch the image")
            .with(&["--retries", "0", "--method", "web-download", "--uri", "http://127.0.0.1:1/image"])
            .fails(6, "(the cloud was to fetch http://127.0.0.1:1/image)", Remains::Old)
            .puts(0),
    ]
}

/// The limit is used up while the image is sent, and before.
fn quota_rows() -> [Row; 2] {
    [
        Row::new("PUT, after the last byte", "413: the quota is used up")
            .at_glance(Rule::new("GET", "/info/usage", Fault::status(404)))
            .fails(6, SPENT, Remains::Old),
        Row::new("before anything is sent", "the quota is used up")
            .fails(6, "the project's quota `image_size_total` has", Remains::Old)
            .puts(0),
    ]
}

#[tokio::test]
async fn what_the_cloud_refuses_is_explained_or_done_another_way() {
    let methods = ["glance-direct", "web-download"];
    Bench::new(Cloud::options().import_methods(&methods).start().await).await.all(refusal_rows()).await;
}

fn token_rows() -> Vec<Row> {
    let late = Fault::Status { code: 401, headers: Vec::new(), body: Vec::new(), after: MIDDLE };
    let keystone = |fault: Fault| Rule::new("*", "/v3", fault);
    let login = "logging in at";
    vec![
        Row::new("POST of the image", "401 once").at_glance(create(Fault::unauthorized()).once()),
        Row::new("PUT, first byte", "401 once").put(Fault::unauthorized()).puts(2),
        Row::new("PUT, halfway", "401 once").large().put(late).puts(2),
        Row::new("GET of the image", "401 once").at_glance(Rule::matching("GET", IMAGE, Fault::unauthorized()).once()),
        Row::new("PATCH that promotes it", "401 once").at_glance(patch(2, Fault::unauthorized())),
        Row::new("PUT", "401 each time")
            .at_glance(Rule::new("PUT", FILE, Fault::unauthorized()))
            .fails(6, "log in again", Remains::Old)
            .puts(2),
        Row::new("Keystone, at the login", "500 once").at_keystone(keystone(Fault::status(500)).once()),
        Row::new("Keystone, at the login", "503 each time")
            .at_keystone(keystone(Fault::status(503)))
            .fails(6, login, Remains::Old)
            .puts(0),
        Row::new("Keystone, at the login", "the connection is reset each time")
            .at_keystone(keystone(reset(0, false)))
            .fails(6, "the cloud was not reachable", Remains::Old)
            .puts(0),
        Row::new("Keystone, at the login", "nothing answers")
            .with(&["--retries", "0", "--stall-timeout", "1"])
            .at_keystone(keystone(Fault::Stall { after: 0 }))
            .fails(6, "Keystone did not answer", Remains::Old)
            .puts(0),
    ]
}

fn revoked_row() -> Row {
    Row::new("PUT, halfway", "the token is revoked").large().put(Fault::Hold { after: MIDDLE })
}

#[tokio::test]
async fn tokens_that_end_are_renewed_and_a_keystone_that_is_away_is_named() {
    Bench::new(Cloud::start().await).await.all(token_rows()).await;
}

#[tokio::test]
async fn what_keystone_says_of_tokens_and_quotas_counts_at_once() {
    // Glance is to ask each time.
    let cloud = Cloud::options().limits().glance_lines("[keystone_authtoken]\ntoken_cache_time = -1").start().await;
    let mut bench = Bench::new(cloud).await;
    let revoke = async |bench: &Bench, _: &_, _: &_| {
        let put = bench.cloud.glance.requests_for("PUT", FILE).pop().unwrap();
        // Glance has taken the token, and does not refuse the request itself.
        bench.cloud_shows(|images| images.iter().any(|image| image["status"] == "saving")).await.unwrap();
        bench.cloud.revoke(put.header("x-auth-token").unwrap()).await;
        bench.cloud.glance.clear();
    };
    bench.reaching(&revoked_row(), revoke).await;
    bench.cloud.set_limit("visa", "image_size_total", 1).await;
    bench.all(quota_rows().into()).await;
}

/// A run that ends by a signal at that point.
fn signal_rows() -> Vec<(Signal, Row)> {
    let stopped = |happened| Row::new("PUT, halfway", happened).large().put(Fault::Stall { after: MIDDLE });
    let held = |broke, happened, n| Row::new(broke, happened).at_glance(patch(n, Fault::Stall { after: 0 }));
    let killed = "kill -9";
    let unpromoted = "before the PATCH that promotes it";
    vec![
        (Signal::INT, stopped("Ctrl-C").fails(130, "error: interrupted", Remains::Old)),
        (Signal::TERM, stopped("SIGTERM").fails(143, "error: terminated", Remains::Old)),
        (Signal::KILL, stopped(killed).fails(-1, "", Remains::Half)),
        (
            Signal::INT,
            Row::new("POST of the image", "Ctrl-C")
                .at_glance(create(Fault::Stall { after: 0 }))
                .fails(130, "error: interrupted", Remains::OldRecorded)
                .puts(0),
        ),
        (
            Signal::KILL,
            held("between PUT and the PATCH that makes it a candidate", killed, 1).fails(-1, "", Remains::Unjudged),
        ),
        (Signal::KILL, held(unpromoted, killed, 2).fails(-1, "", Remains::Candidate)),
        (Signal::INT, held(unpromoted, "Ctrl-C", 2).fails(130, "error: interrupted", Remains::Candidate)),
        (Signal::KILL, held("between promoting it and hiding the old one", killed, 3).fails(-1, "", Remains::Both)),
    ]
}

fn gone_row() -> Row {
    Row::new("PUT, halfway", "Glance is gone for good")
        .large()
        .with(&["--retries", "0", "--stall-timeout", "1"])
        .put(Fault::Stall { after: MIDDLE })
        .fails(6, "the next upload from this host removes it", Remains::Half)
}

#[tokio::test]
async fn a_run_that_is_stopped_anywhere_leaves_what_the_next_one_brings_to_its_end() {
    let mut bench = Bench::new(Cloud::start().await).await;
    for (signal, row) in signal_rows() {
        bench.reaching(&row, async |_: &Bench, _: &_, run: &Running| run.signal(signal)).await;
    }
    let vanish = async |bench: &Bench, _: &_, _: &_| {
        bench.cloud.glance.add(Rule::new("*", "", reset(0, false)));
    };
    bench.reaching(&gone_row(), vanish).await;
    somebody_elses_half_image_stays(&mut bench).await;
    somebody_elses_whole_image_is_not_taken(&mut bench).await;
    two_uploads_of_one_image(&mut bench).await;
}

/// Two hosts, or one host twice.
fn others_rows() -> [Row; 3] {
    [
        Row::new("beside it", "another host was killed halfway: its half image is left alone"),
        Row::new("beside it", "another host has sent the same image and not judged it yet: it is left alone")
            .says("the same data are being uploaded by another run"),
        Row::new("beside it", "the same host uploads the same image: one of the two is current, both exit 0").puts(2),
    ]
}

/// A host whose run has come to the row's point.
async fn at_that_point(bench: &mut Bench, row: &Row) -> (Case, Running) {
    let case = bench.case(row).await;
    let rule = bench.add(row)[0];
    let running = case.start(row);
    bench.cloud.glance.reached(rule).await;
    (case, running)
}

async fn somebody_elses_half_image_stays(bench: &mut Bench) {
    let stopped = Row::new("", "").large().put(Fault::Stall { after: MIDDLE });
    let (other, running) = at_that_point(bench, &stopped).await;
    running.signal(Signal::KILL);
    assert_eq!(running.ended().await.code, -1);
    bench.cloud.glance.clear();
    bench.settled("another host").await;
    let [row, ..] = others_rows();
    bench.all(vec![row]).await;
    let told = other.run(&Row::new("", "")).await;
    assert!(told.code == 0 && told.stderr.contains("removed the image"), "{told:?}");
    other.host.nothing_is_left();
}

async fn somebody_elses_whole_image_is_not_taken(bench: &mut Bench) {
    let held = Row::new("", "").at_glance(patch(1, Fault::Stall { after: 0 }));
    let (other, running) = at_that_point(bench, &held).await;
    let [_, row, _] = others_rows();
    let case = bench.case_like(&other).await;
    bench.add(&row);
    let told = case.run(&row).await;
    running.signal(Signal::KILL);
    assert_eq!(running.ended().await.code, -1);
    bench.judge(&row, &case, &told).await;
    let told = other.run(&Row::new("", "")).await;
    assert!(told.code == 0 && told.stderr.contains("removed the image"), "{told:?}");
    assert!(told.stdout.contains("was there already"), "{told:?}");
    other.host.nothing_is_left();
}

/// Holds two runs until both have looked for what they replace, and neither has its name.
async fn promoting_at_once(glance: &FaultProxy) {
    let stall = || Fault::Stall { after: 0 };
    let first = glance.add(Rule::new("PATCH", "/images/", stall()).first(2));
    glance.reached_times(first, 2).await;
    let images: BTreeSet<_> = glance.requests_for("PATCH", "/images/").into_iter().map(|patch| patch.path).collect();
    assert_eq!(images.len(), 2);
    let promoting: Vec<_> = images.iter().map(|path| glance.add(Rule::new("PATCH", path, stall()).nth(2))).collect();
    glance.remove(first);
    for rule in promoting {
        glance.reached(rule).await;
    }
    glance.clear();
}

async fn two_uploads_of_one_image(bench: &mut Bench) {
    let old = one(&bench.cloud, NAME).await;
    let [.., row] = others_rows();
    let row = row.with(&["--retries", "3"]);
    let case = bench.case(&row).await;
    bench.add(&row);
    let (told, other, ()) = tokio::join!(case.run(&row), case.run(&row), promoting_at_once(&bench.cloud.glance));
    assert_eq!((told.code, other.code), (0, 0), "{told:?} {other:?}");
    // Two that write at once may find SQLite locked, and try again: two images were taken, whatever was sent.
    let sent = bench.cloud.glance.requests_for("PUT", FILE);
    let taken = sent.iter().filter(|put| put.outcome == Outcome::Answered(204)).count();
    assert_eq!(taken, 2, "{told:?} {other:?}");
    case.host.nothing_is_left();
    let new = one(&bench.cloud, NAME).await;
    let behind = |image: &&Value| image["visabuild_replaced_by"] == new["id"] || image["id"] == old["id"];
    let images = bench.cloud.images().await;
    let behind: Vec<_> = images.iter().filter(behind).collect();
    assert_eq!(behind.len(), 2, "{behind:#?}");
    for image in behind {
        assert_eq!((&image["os_hidden"], &image["visabuild_state"]), (&json!(true), &json!("previous")), "{image:#}");
    }
    assert_eq!(bench.cloud.images_named(NAME).await.len(), 1);
    bench.settled("two at once").await;
}

/// What is done to the file before the run, or while its data are sent.
type Deed = fn(&Path);

fn change(path: &Path) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::End(-9)).unwrap();
    file.write_all(b"x").unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn cut(path: &Path) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(LARGE / 2).unwrap();
}

fn block_records(path: &Path) {
    let folder = path.ancestors().find(|folder| folder.join("builds").exists()).unwrap();
    fs::create_dir_all(folder.join("cache/visabuild")).unwrap();
    fs::write(folder.join("cache/visabuild/uploads"), "").unwrap();
}

fn rows_before() -> Vec<(Deed, Row)> {
    let (before, built) = ("the image file, before the run", "has changed since it was built");
    vec![
        (remove, Row::new(before, "it is removed").fails(2, "there is no image", Remains::Old).puts(0)),
        (change, Row::new(before, "it is changed, with the same length").fails(2, built, Remains::Old)),
        (
            change,
            Row::new(before, "it is changed, and sent as raw")
                .with(&["--format", "raw"])
                .fails(2, built, Remains::Old)
                .puts(0),
        ),
        (
            block_records,
            Row::new("the cache, before the run", "there is no room for records")
                .fails(3, "cannot read", Remains::Old)
                .puts(0),
        ),
    ]
}

fn rows_while() -> Vec<(Deed, Row)> {
    let row = |happened| Row::new("the image file, while it is sent", happened).large();
    let slow = Fault::Slow { bytes_per_second: LARGE };
    let changed = "has changed while it was read";
    vec![
        (remove, row("it is removed").put(slow.clone()).fails(2, changed, Remains::Old)),
        (change, row("it is changed").put(slow.clone()).fails(2, changed, Remains::Old)),
        (cut, row("it is cut").put(slow).fails(2, "cannot read the image", Remains::Old)),
    ]
}

fn boot_row() -> Row {
    Row::new("while a server tries it (--boot-test)", "kill -9; the next run removes the server too")
        .with(&["--boot-test"])
        .fails(-1, "", Remains::Unjudged)
}

#[tokio::test]
async fn a_file_that_changes_is_not_published_and_a_test_server_does_not_stay() {
    let mut bench = Bench::new(Cloud::options().compute().start().await).await;
    for (deed, row) in rows_before() {
        let case = bench.case(&row).await;
        deed(&case.image);
        bench.add(&row);
        let told = case.run(&row).await;
        fs::remove_file(case.host.path().join("cache/visabuild/uploads")).ok();
        bench.judge(&row, &case, &told).await;
    }
    for (deed, row) in rows_while() {
        bench.reaching(&row, async |_: &Bench, case: &Case, _: &_| deed(&case.image)).await;
    }
    let row = boot_row();
    let case = bench.case(&row).await;
    bench.add(&row);
    let nova = &bench.cloud.nova().proxy;
    let rule = nova.add(Rule::matching("GET", "/servers/[^/?]+$", Fault::Stall { after: 0 }));
    let running = case.start(&row);
    nova.reached(rule).await;
    running.signal(Signal::KILL);
    let told = running.ended().await;
    nova.clear();
    assert_eq!(bench.cloud.nova().servers().len(), 1);
    bench.judge(&row, &case, &told).await;
    assert!(bench.cloud.nova().servers().is_empty());
}

#[tokio::test]
async fn little_of_an_image_is_in_memory_while_it_is_sent() {
    let cloud = Cloud::start().await;
    let host = Host::new(&cloud);
    let image = host.path().join("sparse.raw");
    fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
    let rule = cloud.glance.add(Rule::new("PUT", FILE, Fault::Stall { after: (1 << 30) - (32 << 20) }));
    let mut command = tokio::process::Command::from(host.command(&["upload", "sparse.raw", "--format", "raw"]));
    let mut run = command.kill_on_drop(true).spawn().unwrap();
    cloud.glance.reached(rule).await;
    let status = fs::read_to_string(format!("/proc/{}/status", run.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    let peak: u64 = peak.unwrap();
    eprintln!("{peak} KiB");
    assert!(peak < 64 << 10, "{peak} KiB");
    run.kill().await.unwrap();
}

#[test]
fn the_documentation_has_these_rows() {
    let mut rows = data_rows();
    rows.extend(delete_rows());
    rows.extend(request_rows());
    rows.extend(patch_rows());
    rows.extend(refusal_rows());
    rows.extend(quota_rows());
    rows.extend(token_rows());
    rows.push(revoked_row());
    rows.extend(signal_rows().into_iter().map(|(_, row)| row));
    rows.extend([boot_row(), gone_row()]);
    rows.extend(others_rows());
    rows.extend(rows_before().into_iter().chain(rows_while()).map(|(_, row)| row));
    documented(&rows);
}
