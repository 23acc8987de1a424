//! Ways into a guest beside the build's own key, against a real sshd. Accounts are the server's alone: their files are
//! mounted over the system's where nobody else sees them, which needs root.
#![allow(clippy::unwrap_used)]

mod sshd;

use std::process::{Command, Stdio};
use std::time::Duration;

use sshd::{PATIENCE, Sshd, Variant};
use visabuild::event::Stream;
use visabuild::guest::{Credential, Guest, Key, Options, Outcome, Target};

const PASSWORD: &str = "it's a \"secret\"";

async fn with_options(sshd: &Sshd, options: Options) -> visabuild::error::Result<Guest> {
    let (mut endpoint, _reporter) = sshd.endpoint();
    endpoint.options = options;
    // A key that nobody knows: the server has to take something else.
    endpoint.key = Key::generate().unwrap();
    Guest::connect(endpoint, PATIENCE).await
}

async fn as_worker(sshd: &Sshd, options: Options) -> Guest {
    let (mut endpoint, _reporter) = sshd.endpoint();
    (endpoint.options, endpoint.user, endpoint.key) = (options, "worker".to_owned(), Key::generate().unwrap());
    Guest::connect(endpoint, PATIENCE).await.unwrap()
}

async fn said(guest: &mut Guest, command: &str) -> String {
    let mut said = Vec::new();
    let outcome = guest.exec(command, tokio::io::empty(), |stream, line| {
        if stream == Stream::Stdout {
            said.push(line.to_owned());
        }
    });
    assert_eq!(outcome.await.unwrap(), Outcome::Exit(0), "{said:?}");
    said.join("\n")
}

fn is_root() -> bool {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root {
        eprintln!("not run: only root can mount an account");
    }
    root
}

/// Makes a key pair that the server knows; returns the private key's file.
fn known_key(sshd: &Sshd, kind: &str) -> std::path::PathBuf {
    let file = sshd.folder().join(format!("id_{kind}"));
    let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&file).status().unwrap();
    assert!(made.success());
    let line = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    std::fs::write(sshd.folder().join("authorized"), line).unwrap();
    file
}

#[tokio::test]
async fn keys_in_files_of_each_kind() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let sshd = Sshd::start().await;
        let key = Key::read(&known_key(&sshd, kind)).unwrap();
        let options = Options { credentials: vec![Credential::Key(key)], ..Options::default() };
        let mut guest = with_options(&sshd, options).await.unwrap();
        assert_eq!(said(&mut guest, "echo in").await, "in", "{kind}");
    }
    assert!(Key::read("/etc/hostname".as_ref()).is_err());
}

#[tokio::test]
async fn keys_of_an_agent() {
    for kind in ["ed25519", "rsa"] {
        let sshd = Sshd::start().await;
        let file = known_key(&sshd, kind);
        let socket = sshd.folder().join("agent");
        let mut agent = tokio::process::Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut tries = 0;
        while !socket.exists() {
            tries += 1;
            assert!(tries < 500, "no agent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let added = Command::new("ssh-add").arg("-q").arg(&file).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
        let options = Options { credentials: vec![Credential::Agent(socket)], ..Options::default() };
        let mut guest = with_options(&sshd, options).await.unwrap();
        assert_eq!(
            said(&mut guest, "echo in; echo \"$SSH_AUTH_SOCK\"").await,
            "in\n",
            "{kind}: the agent is not forwarded"
        );
        agent.kill().await.unwrap();
    }
}

#[tokio::test]
async fn refused_logins_are_counted_and_tell_what_was_tried() {
    let sshd = Sshd::start().await;
    let credentials = vec![Credential::Key(Key::generate().unwrap()), Credential::Password("x".to_owned().into())];
    let options = Options { credentials, attempts: Some(1), ..Options::default() };
    let error = with_options(&sshd, options).await.unwrap_err();
    let chain = error.chain();
    assert_eq!(chain[0], "the guest refused 1 login(s)");
    assert!(chain[1].contains("refuses the build's key, the private key, the password for `"), "{chain:?}");
}

#[tokio::test]
async fn a_password_answers_both_ways_of_asking() {
    if !is_root() {
        return;
    }
    for config in [
        "UsePAM no\nPasswordAuthentication yes\n",
        "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\n",
    ] {
        let variant = Variant { config: config.to_owned(), account: Some(("worker", PASSWORD)), sudo: "" };
        let sshd = Sshd::with(variant).await;
        let options =
            Options { credentials: vec![Credential::Password(PASSWORD.to_owned().into())], ..Options::default() };
        let mut guest = as_worker(&sshd, options).await;
        assert_eq!(said(&mut guest, "id -un").await, "worker", "{config}");
    }
}

#[tokio::test]
async fn an_account_works_as_itself_and_visabuild_as_root() {
    if !is_root() {
        return;
    }
    for (sudo, asks) in [("worker ALL=(ALL) NOPASSWD: ALL", false), ("worker ALL=(ALL) ALL", true)] {
        let config = "UsePAM no\nPasswordAuthentication yes\n".to_owned();
        let sshd = Sshd::with(Variant { config, account: Some(("worker", PASSWORD)), sudo }).await;
        let credentials = vec![Credential::Password(PASSWORD.to_owned().into())];
        let mut guest = as_worker(&sshd, Options { credentials, ..Options::default() }).await;
        assert_eq!(said(&mut guest, "id -un").await, "worker");
        guest.become_root().await.unwrap();
        assert_eq!(said(&mut guest, "id -un; echo \"it's $HOME\"").await, "root\nit's /root", "{asks}");
        let path = sshd.folder().join("of-root");
        let target = Target { path: path.to_str().unwrap(), name: "", mode: 0o600 };
        guest.upload(&b"content"[..], target).await.unwrap();
        // The password went to sudo and to nobody else.
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap()), 0);
        guest.become_user();
        assert_eq!(said(&mut guest, "id -un").await, "worker");
    }
}

#[tokio::test]
async fn an_account_without_sudo_is_told_what_is_missing() {
    if !is_root() {
        return;
    }
    let config = "UsePAM no\nPasswordAuthentication yes\n".to_owned();
    let sshd = Sshd::with(Variant { config, account: Some(("worker", PASSWORD)), sudo: "" }).await;
    let credentials = vec![Credential::Password(PASSWORD.to_owned().into())];
    let mut guest = as_worker(&sshd, Options { credentials, ..Options::default() }).await;
    let error = guest.become_root().await.unwrap_err();
    assert_eq!(error.chain()[0], "the account `worker` cannot become root in the guest");
    assert!(error.hints()[0].contains("NOPASSWD"), "{:?}", error.hints());
    assert_eq!(said(&mut guest, "id -un").await, "worker");
}

#[tokio::test]
async fn commands_have_a_terminal_where_it_is_asked_for() {
    let sshd = Sshd::start().await;
    let (mut endpoint, _reporter) = sshd.endpoint();
    for (pty, expected) in [(true, ["a tty", "two"]), (false, ["not a tty", "two"])] {
        endpoint.options = Options { pty, ..Options::default() };
        let mut guest = Guest::connect(endpoint.clone(), PATIENCE).await.unwrap();
        let mut lines = Vec::new();
        let command = "if [ -t 1 ]; then echo a tty; else echo not a tty; fi; cat; echo two >&2; exit 3";
        let outcome = guest.exec_on_terminal(command, |_, line| lines.push(line.to_owned())).await.unwrap();
        lines.sort();
        assert_eq!((outcome, lines), (Outcome::Exit(3), expected.map(str::to_owned).to_vec()));
    }
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_signs_of_life_keep_one() {
    let sshd = Sshd::start().await;
    let (mut endpoint, _reporter) = sshd.endpoint();
    let silence = Some(Duration::from_secs(1));
    for (keep_alive, lost) in [(Some(None), true), (Some(Some(Duration::from_millis(200))), false)] {
        endpoint.options = Options { silence, keep_alive, ..Options::default() };
        let guest = Guest::connect(endpoint.clone(), PATIENCE).await.unwrap();
        assert_eq!(guest.lost_within(Duration::from_secs(3)).await.unwrap(), lost, "{keep_alive:?}");
    }
}
