//! The communicator against a real sshd.
#![allow(clippy::unwrap_used)]

mod sshd;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use sshd::{PATIENCE, Sshd};
use tokio::io::empty;
use tokio::net::TcpListener;
use visabuild::error::Kind;
use visabuild::event::Stream;
use visabuild::guest::{Guest, Key, Outcome, Target};
use visabuild::machine::Ended;
use visabuild::shell_word::quote;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Standard output of a command that succeeds.
async fn output(guest: &mut Guest, command: &str, stdin: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let outcome = guest.exec(command, stdin, |stream, line| {
        if stream == Stream::Stdout {
            lines.push(line.to_owned());
        }
    });
    assert_eq!(outcome.await.unwrap(), Outcome::Exit(0), "{lines:?}");
    lines
}

#[tokio::test]
async fn lines_come_while_the_command_runs_and_its_exit_code_at_the_end() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let seen = sshd.folder().join("seen");
    let command =
        format!("echo one; while [ ! -e {} ]; do sleep 0.02; done; echo two >&2; printf three; exit 7", text(&seen));
    let mut lines = Vec::new();
    let outcome = guest.exec(&command, empty(), |stream, line| {
        if line == "one" {
            fs::write(&seen, "").unwrap();
        }
        lines.push((stream, line.to_owned()));
    });
    assert_eq!(outcome.await.unwrap(), Outcome::Exit(7));
    lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let expected = [(Stream::Stdout, "one"), (Stream::Stdout, "three"), (Stream::Stderr, "two")];
    assert_eq!(lines, expected.map(|(stream, line)| (stream, line.to_owned())));
}

#[tokio::test]
async fn a_signal_is_told_by_its_name() {
    let sshd = Sshd::start().await;
    let outcome = sshd.connect().await.exec("kill -TERM $$", empty(), |_, _| {}).await.unwrap();
    assert_eq!(outcome, Outcome::Signal("TERM".into()));
}

#[tokio::test]
async fn no_line_is_lost_and_a_long_one_comes_in_pieces() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let lines = output(&mut guest, "seq 1 100000", b"").await;
    let wrong = lines.iter().enumerate().find(|(index, line)| **line != (index + 1).to_string());
    assert_eq!((lines.len(), wrong), (100_000, None));
    let pieces = output(&mut guest, "head -c 100000 /dev/zero | tr '\\0' x", b"").await;
    assert!(pieces.len() > 1 && pieces.concat() == "x".repeat(100_000));
}

#[tokio::test]
async fn standard_input_arrives_whole_or_is_left_unread() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let input: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    let copy = sshd.folder().join("copy");
    output(&mut guest, &format!("cat > {}", text(&copy)), &input).await;
    assert!(fs::read(&copy).unwrap() == input);
    assert_eq!(output(&mut guest, "head -c 1", &input).await.len(), 1);
    assert!(output(&mut guest, "true", &input).await.is_empty());
}

#[tokio::test]
async fn a_file_gets_its_content_its_mode_and_the_folders_above_it() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let path = sshd.folder().join("a b/it's/file");
    guest.upload(&b"one"[..], Target { path: text(&path), name: "x", mode: 0o640 }).await.unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"one"[..], 0o640));
    guest.upload(&b"two"[..], Target { path: text(&path), name: "x", mode: 0o755 }).await.unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o755));

    let folder = path.parent().unwrap();
    guest.upload(&b"3"[..], Target { path: text(folder), name: "inside", mode: 0o600 }).await.unwrap();
    assert_eq!(fs::read(folder.join("inside")).unwrap(), b"3");
    let new = format!("{}/new/", sshd.folder().display());
    guest.upload(&b"4"[..], Target { path: &new, name: "n", mode: 0o600 }).await.unwrap();
    assert_eq!(fs::read(sshd.folder().join("new/n")).unwrap(), b"4");
}

#[tokio::test]
async fn what_the_guest_says_explains_a_failed_upload() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let error = guest.upload(&b""[..], Target { path: "/dev/null/x", name: "x", mode: 0o600 }).await.unwrap_err();
    let chain = error.chain();
    assert_eq!(chain[0], "writing /dev/null/x in the guest");
    assert!(chain[2].contains("/dev/null"), "{chain:?}");
    let error = guest.upload_tree(sshd.folder(), "/dev/null/x", None).await.unwrap_err();
    assert!(error.chain()[2].contains("/dev/null"), "{:?}", error.chain());
}

#[tokio::test]
async fn a_tree_is_merged_into_what_is_there() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let (from, to) = (sshd.folder().join("from"), sshd.folder().join("to"));
    for folder in ["bin", "etc/deep"] {
        fs::create_dir_all(from.join(folder)).unwrap();
    }
    for number in 0..300 {
        fs::write(from.join(format!("etc/{number}")), number.to_string().repeat(100)).unwrap();
    }
    fs::write(from.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("bin/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(from.join("etc/deep/big"), vec![7; 3_000_000]).unwrap();
    // As on a merged-/usr system, and with a folder that is not to be opened up.
    fs::create_dir_all(to.join("usr/bin")).unwrap();
    symlink("usr/bin", to.join("bin")).unwrap();
    fs::create_dir(to.join("etc")).unwrap();
    fs::set_permissions(to.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(to.join("etc/old"), "old").unwrap();

    guest.upload_tree(&from, text(&to), None).await.unwrap();

    assert_eq!(mode(&to.join("usr/bin/run")), 0o755);
    assert!(fs::symlink_metadata(to.join("bin")).unwrap().is_symlink());
    assert_eq!((mode(&to.join("etc")), mode(&to.join("etc/7")), mode(&to.join("etc/deep"))), (0o700, 0o644, 0o755));
    assert_eq!(fs::read(to.join("etc/old")).unwrap(), b"old");
    assert_eq!(fs::read(to.join("etc/deep/big")).unwrap(), vec![7; 3_000_000]);
    assert_eq!(fs::read_to_string(to.join("etc/299")).unwrap(), "299".repeat(100));
    assert_eq!(output(&mut guest, &format!("cat {}", quote(text(&to.join("etc/1")))), b"").await, ["1".repeat(100)]);
}

#[tokio::test]
async fn a_lost_connection_is_told_and_made_again() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let outcome = guest.exec(&sshd.endless(), empty(), |_, _| sshd.drop_connections()).await.unwrap();
    assert_eq!(outcome, Outcome::Disconnected);
    assert!(guest.is_lost());
    sshd.refuse_next(2);
    assert_eq!(output(&mut guest, "echo again", b"").await, ["again"]);
}

#[tokio::test]
async fn a_reset_of_the_machine_ends_a_command_whose_connection_hangs() {
    let sshd = Sshd::start().await;
    let (endpoint, reporter) = sshd.endpoint();
    let mut guest = Guest::connect(endpoint, PATIENCE).await.unwrap();
    let outcome = guest.exec(&sshd.endless(), empty(), |_, _| reporter.reset()).await.unwrap();
    assert_eq!(outcome, Outcome::Disconnected);
    assert_eq!(output(&mut guest, "echo again", b"").await, ["again"]);
}

#[tokio::test]
async fn the_end_of_the_machine_ends_a_command_with_that_reason() {
    let sshd = Sshd::start().await;
    let (endpoint, reporter) = sshd.endpoint();
    let mut guest = Guest::connect(endpoint, PATIENCE).await.unwrap();
    let panic = Ended::KernelPanic { line: "Kernel panic - not syncing: x".into() };
    let error = guest.exec(&sshd.endless(), empty(), |_, _| reporter.end(panic.clone())).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest's kernel failed: Kernel panic - not syncing: x");
}

#[tokio::test]
async fn cancelling_ends_a_command() {
    let sshd = Sshd::start().await;
    let (endpoint, _reporter) = sshd.endpoint();
    let cancel = endpoint.cancel.clone();
    let mut guest = Guest::connect(endpoint, PATIENCE).await.unwrap();
    let error = guest.exec(&sshd.endless(), empty(), |_, _| cancel.cancel()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
}

#[tokio::test]
async fn a_changed_host_key_is_refused_at_once() {
    let sshd = Sshd::start().await;
    let mut guest = sshd.connect().await;
    let known = guest.endpoint().host_key.fingerprint().unwrap();
    guest.reconnect().await.unwrap();
    sshd.change_host_key();
    let error = guest.reconnect().await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("the guest's host key changed from {known} to SHA256:")), "{error}");
}

#[tokio::test]
async fn a_guest_that_never_answers_tells_the_last_cause() {
    let sshd = Sshd::start().await;
    let (endpoint, _reporter) = sshd.endpoint();
    let patience = Duration::from_millis(700);

    let mut stranger = endpoint.clone();
    stranger.key = Key::generate().unwrap();
    let chain = Guest::connect(stranger, patience).await.unwrap_err().chain();
    assert_eq!(chain[1], format!("the guest refuses the build's key for `{}`", endpoint.user));

    sshd.refuse_next(usize::MAX);
    let chain = Guest::connect(endpoint.clone(), patience).await.unwrap_err().chain();
    assert_eq!(chain[0], format!("the guest did not answer SSH on {} within 700ms", sshd.address));
    assert!(["before sshd's banner", "reset by peer"].iter().any(|text| chain[1].contains(text)), "{chain:?}");
}

#[tokio::test]
async fn the_end_of_the_machine_ends_waiting_for_a_silent_guest() {
    let sshd = Sshd::start().await;
    let (mut endpoint, reporter) = sshd.endpoint();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    endpoint.address = silent.local_addr().unwrap().into();
    let connecting = tokio::spawn(Guest::connect(endpoint, PATIENCE));
    let _connection = silent.accept().await.unwrap();
    reporter.end(Ended::Killed { program: "QEMU", signal: 9, stderr: String::new() });
    assert_eq!(connecting.await.unwrap().unwrap_err().to_string(), "QEMU was killed by signal 9");
}
