//! The client against servers that do what a Jupyter server does, or should not do.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::verify::web::fake::{self, Seen, answer};

type Talk = WebSocketStream<TcpStream>;

const LAB: &str = "GET /jupyter/1234/lab ";
const KERNELS: &str = "/jupyter/1234/api/kernels ";

fn client(address: SocketAddr) -> Jupyter {
    Jupyter::new(address, "/jupyter/1234/", "visa.example.org").unwrap()
}

/// Answers as a Jupyter server does, WebSockets with nothing.
fn jupyter(request: &str) -> Vec<u8> {
    let line = request.lines().next().unwrap_or_default();
    let lower = request.to_lowercase();
    let trusted = lower.contains("\r\ncookie: _xsrf=2|x\r\n") && lower.contains("\r\nx-xsrftoken: 2|x\r\n");
    if line.starts_with(LAB) {
        answer("200 OK", &["Set-Cookie: user=joe", "Set-Cookie: _xsrf=2|x; Path=/jupyter/1234/"], "<!doctype html>")
    } else if line.contains("/channels?") || line.contains("/terminals/websocket/") {
        Vec::new()
    } else if !line.starts_with("GET ") && !trusted {
        answer("403 Forbidden", &[], "'_xsrf' argument missing from POST")
    } else if line.starts_with("DELETE ") {
        answer("204 No Content", &[], "")
    } else if line.contains(KERNELS) {
        answer("201 Created", &[], r#"{"id": "k1", "name": "python3"}"#)
    } else if line.contains("/api/terminals ") {
        answer("200 OK", &[], r#"{"name": "1"}"#)
    } else if line.starts_with("PUT ") {
        answer("200 OK", &[], "{}")
    } else {
        answer("404 Not Found", &[], "<html>")
    }
}

/// A Jupyter server whose WebSockets `talk`.
async fn server<F: Future<Output = ()> + Send>(talk: impl Fn(Talk) -> F + Send + Sync + 'static) -> (Jupyter, Seen) {
    let (address, seen) = fake::site(jupyter, talk).await;
    (client(address), seen)
}

async fn plain(respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Jupyter {
    client(fake::http(respond).await.0)
}

/// The next message of the client.
async fn heard(socket: &mut Talk) -> Value {
    serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

async fn say(socket: &mut Talk, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// Listens until the client goes.
async fn linger(mut socket: Talk) {
    while let Some(Ok(_)) = socket.next().await {}
}

/// A kernel that answers the request with `messages`: type and content; a type with a `!` is another request's.
async fn kernel(mut socket: Talk, messages: &[(&str, Value)]) {
    let request = heard(&mut socket).await;
    assert_eq!(request["header"]["msg_type"], "execute_request");
    assert_eq!((&request["channel"], &request["content"]["code"]), (&json!("shell"), &json!("print(6*7)")));
    for (kind, content) in messages {
        let parent = if kind.starts_with('!') { "other" } else { request["header"]["msg_id"].as_str().unwrap() };
        let header = json!({ "msg_type": kind.trim_start_matches('!') });
        let message = json!({ "header": header, "parent_header": { "msg_id": parent }, "content": content });
        say(&mut socket, &message).await;
    }
    linger(socket).await;
}

fn status(state: &str) -> Value {
    json!({ "execution_state": state })
}

/// What the client makes of a kernel that answers with `messages`.
async fn run(messages: Vec<(&'static str, Value)>) -> Result<Output> {
    let messages = std::sync::Arc::new(messages);
    let talk = move |socket| {
        let messages = std::sync::Arc::clone(&messages);
        async move { kernel(socket, &messages).await }
    };
    server(talk).await.0.patience(Duration::from_millis(500)).run("k1", "print(6*7)").await
}

#[tokio::test]
async fn the_version_is_asked_for_below_the_base_url() {
    let (address, mut seen) = fake::http(|_| answer("200 OK", &[], r#"{"version": "2.21.1"}"#)).await;
    assert_eq!(client(address).api_version().await.unwrap(), "2.21.1");
    assert!(seen.recv().await.unwrap().starts_with("GET /jupyter/1234/api HTTP/1.1\r\n"));
    for (status, body, expected) in [
        ("404 Not Found", "<html>", ["GET /api answers 404 instead of 200", "it sends an HTML page"]),
        ("502 Bad Gateway", "", ["GET /api answers 502 instead of 200", "it says nothing about it"]),
        ("200 OK", "hello", ["GET /api answers no JSON", "expected value at line 1 column 1"]),
    ] {
        let error = plain(move |_| answer(status, &[], body)).await.api_version().await.unwrap_err();
        assert_eq!(error.chain(), expected);
        assert_eq!(error.kind(), Kind::Verification);
    }
    let error = plain(|_| answer("200 OK", &[], "{}")).await.api_version().await.unwrap_err();
    assert_eq!(error.to_string(), "GET /api answers no `version`");
}

#[tokio::test]
async fn changes_carry_the_cookie_and_the_header_and_come_from_the_platforms_origin() {
    let (jupyter, mut seen) = server(linger).await;
    assert_eq!(jupyter.start_kernel_without_cookie().await.unwrap(), 403);
    assert_eq!(jupyter.start_kernel().await.unwrap(), "k1");
    jupyter.delete_kernel("k1").await.unwrap();
    let mut lines = Vec::new();
    while let Ok(request) = seen.try_recv() {
        lines.push(request.lines().next().unwrap().to_owned());
        let lower = request.to_lowercase();
        assert_eq!(lower.contains("\r\norigin: https://visa.example.org\r\n"), lower.contains("x-xsrftoken"));
    }
    assert_eq!(
        lines,
        [
            "POST /jupyter/1234/api/kernels HTTP/1.1",
            "GET /jupyter/1234/lab HTTP/1.1",
            "POST /jupyter/1234/api/kernels HTTP/1.1",
            "DELETE /jupyter/1234/api/kernels/k1 HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn a_server_that_sets_no_cookie_or_refuses_one_is_told_about() {
    let error = plain(|_| answer("200 OK", &[], "")).await.start_kernel().await.unwrap_err();
    assert_eq!(error.to_string(), "GET /lab sets no cookie `_xsrf`");
    let refusing =
        plain(|request| if request.starts_with(LAB) { jupyter(request) } else { answer("403 Forbidden", &[], "no") });
    let error = refusing.await.start_kernel().await.unwrap_err();
    assert_eq!(error.chain(), ["POST /api/kernels answers 403 instead of 201", "no"]);
}

#[tokio::test]
async fn a_run_gives_what_its_own_messages_say() {
    let text = |name: &str, text: &str| ("stream", json!({ "name": name, "text": text }));
    let output = run(vec![
        ("!stream", json!({ "name": "stdout", "text": "other" })),
        ("!execute_reply", json!({ "status": "ok" })),
        ("!status", status("idle")),
        ("status", status("busy")),
        text("stdout", "4"),
        text("stderr", "e"),
        text("stdout", "2\n"),
        ("execute_result", json!({ "data": { "text/plain": "'v'", "text/html": "<b>" } })),
        ("unheard-of", json!(null)),
        ("execute_reply", json!({ "status": "ok" })),
        ("status", status("idle")),
    ]);
    let expected = Output { stdout: "42\n".into(), stderr: "e".into(), result: Some("'v'".into()), exception: None };
    assert_eq!(output.await.unwrap(), expected);
}

#[tokio::test]
async fn exceptions_are_outputs_and_the_reply_may_come_after_idle() {
    let failure = json!({ "status": "error", "ename": "NameError", "evalue": "name 'x' is not defined" });
    let expected = Exception { name: "NameError".into(), value: "name 'x' is not defined".into() };
    let idle = || ("status", status("idle"));
    let output = run(vec![("error", failure.clone()), idle(), ("execute_reply", failure)]).await.unwrap();
    assert_eq!(output.exception, Some(expected));
    let output = run(vec![("execute_reply", json!({ "status": "aborted" })), idle()]).await.unwrap();
    assert_eq!(output.exception.unwrap().name, "aborted");
}

#[tokio::test]
async fn kernels_that_do_not_end_or_die_are_told_apart() {
    let late = "the kernel did not end within 0.5 s";
    for (messages, expected) in [
        (vec![], [late, "it sent neither a reply nor that it is idle"].as_slice()),
        (vec![("execute_reply", json!({ "status": "ok" }))], &[late, "it sent a reply, but not that it is idle"]),
        (vec![("status", status("idle"))], &[late, "it sent that it is idle, but no reply"]),
        (vec![("!status", status("restarting"))], &["the kernel died: its state is `restarting`"]),
    ] {
        let error = run(messages).await.unwrap_err();
        assert_eq!(error.chain(), expected);
        assert_eq!(error.kind(), Kind::Verification);
    }
    let (jupyter, _seen) = server(|mut socket| async move {
        heard(&mut socket).await;
    })
    .await;
    let error = jupyter.run("k1", "1").await.unwrap_err();
    assert_eq!(error.chain()[1], "the connection was closed without a close message");
    let (jupyter, _seen) = server(|mut socket| async move {
        socket.send(Message::text("hello")).await.unwrap();
        linger(socket).await;
    })
    .await;
    assert_eq!(jupyter.run("k1", "1").await.unwrap_err().to_string(), "the kernel's message is no JSON");
}

#[tokio::test]
async fn a_page_of_another_site_is_seen_to_be_refused_or_let_in() {
    let refusing = |request: &str| {
        let foreign = request.contains("\r\nOrigin: https://evil.example.org\r\n");
        if foreign { answer("403 Forbidden", &[], "") } else { jupyter(request) }
    };
    assert_eq!(client(fake::site(refusing, linger).await.0).foreign_origin("k1").await.unwrap(), 403);
    assert_eq!(server(linger).await.0.foreign_origin("k1").await.unwrap(), 101);
    let closed = client(fake::site(|_| answer("403 Forbidden", &["Set-Cookie: _xsrf=1"], "no"), linger).await.0);
    assert_eq!(closed.run("k1", "1").await.unwrap_err().to_string(), "GET /lab answers 403 instead of 200");
    let own = |request: &str| {
        if request.contains("/channels?") { answer("403 Forbidden", &[], "") } else { jupyter(request) }
    };
    let error = client(fake::site(own, linger).await.0).run("k1", "1").await.unwrap_err();
    assert!(error.to_string().starts_with("the WebSocket /api/kernels/k1/channels?session_id="), "{error}");
    assert!(error.to_string().ends_with(" is refused with 403"), "{error}");
}

/// A terminal that shows what is typed as it comes, then what a shell would write.
async fn shell(mut socket: Talk) {
    say(&mut socket, &json!(["setup", {}])).await;
    let message = heard(&mut socket).await;
    assert_eq!(message[0], "stdin");
    let line = message[1].as_str().unwrap().trim_end_matches('\r');
    let id = line.rsplit(' ').next().unwrap();
    let out = format!("$ {line}\r\n\u{1b}[?2004l\rbegin-{id}\r\n1000\r\nend-{id}\r\n$ ");
    // In pieces that part the marks.
    for piece in out.as_bytes().chunks(7) {
        say(&mut socket, &json!(["stdout", String::from_utf8_lossy(piece)])).await;
    }
    linger(socket).await;
}

/// The methods and paths that a server saw, without HTTP's version.
fn requests(seen: &mut Seen) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(request) = seen.try_recv() {
        lines.push(request.lines().next().unwrap().replace(" HTTP/1.1", ""));
    }
    lines
}

#[tokio::test]
async fn a_command_in_a_terminal_gives_its_output_and_leaves_no_terminal() {
    let (jupyter, mut seen) = server(shell).await;
    assert_eq!(jupyter.terminal_run("id -u").await.unwrap(), "1000\n");
    let expected = [
        LAB.trim_end(),
        "POST /jupyter/1234/api/terminals",
        "GET /jupyter/1234/terminals/websocket/1",
        "DELETE /jupyter/1234/api/terminals/1",
    ];
    assert_eq!(requests(&mut seen), expected);
}

#[tokio::test]
async fn a_terminal_that_fails_is_deleted_too() {
    let (jupyter, mut seen) = server(|mut socket| async move {
        heard(&mut socket).await;
        say(&mut socket, &json!(["stdout", "logout"])).await;
        say(&mut socket, &json!(["disconnect", 1])).await;
        linger(socket).await;
    })
    .await;
    let error = jupyter.terminal_run("exit").await.unwrap_err();
    assert_eq!(error.chain(), ["the terminal's shell ended", "it wrote \"logout\""]);
    assert_eq!(requests(&mut seen).last().unwrap(), "DELETE /jupyter/1234/api/terminals/1");
    let (jupyter, mut seen) = server(linger).await;
    let error = jupyter.patience(Duration::from_millis(500)).terminal_run("id").await.unwrap_err();
    assert_eq!(error.chain(), ["the terminal did not end within 0.5 s", "it wrote \"\""]);
    assert_eq!(requests(&mut seen).last().unwrap(), "DELETE /jupyter/1234/api/terminals/1");
}

#[tokio::test]
async fn files_go_up_in_numbered_pieces_that_the_proxy_lets_through() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    const MIB: usize = 1024 * 1024;
    for (length, expected) in [
        (3, vec![json!(null)]),
        (MIB, vec![json!(null)]),
        (MIB + 1, vec![json!(1), json!(-1)]),
        (2 * MIB + 5, vec![json!(1), json!(2), json!(-1)]),
    ] {
        let (jupyter, mut seen) = server(linger).await;
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        jupyter.upload("a b/ü.bin", &bytes).await.unwrap();
        seen.recv().await.unwrap();
        let (mut numbers, mut sent) = (Vec::new(), Vec::new());
        while let Ok(request) = seen.try_recv() {
            assert!(request.starts_with("PUT /jupyter/1234/api/contents/a%20b/%C3%BC.bin "), "{request:.80}");
            assert!(request.len() < 2_000_000);
            let model: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!((&model["type"], &model["name"]), (&json!("file"), &json!("ü.bin")));
            numbers.push(model["chunk"].clone());
            sent.extend(BASE64_STANDARD.decode(model["content"].as_str().unwrap()).unwrap());
        }
        assert_eq!(numbers, expected);
        assert!(sent == bytes);
    }
}

#[tokio::test]
async fn files_come_down_to_pages_of_the_same_site_and_refusals_are_errors() {
    let files = |request: &str| {
        let own = request.to_lowercase().contains("\r\nreferer: https://visa.example.org/jupyter/1234/lab\r\n");
        match request {
            _ if own && request.starts_with("GET /jupyter/1234/files/a%20b ") => answer("200 OK", &[], "bytes"),
            _ if request.starts_with("PUT ") => answer("413 Request Entity Too Large", &[], "<html>"),
            _ => jupyter(request),
        }
    };
    let jupyter = client(fake::http(files).await.0);
    assert_eq!(jupyter.download("a b").await.unwrap(), b"bytes");
    assert_eq!(jupyter.download("b").await.unwrap_err().to_string(), "GET /files/b answers 404 instead of 200");
    let error = jupyter.upload("b", b"x").await.unwrap_err();
    assert_eq!(error.to_string(), "PUT /api/contents/b answers 413 instead of 200 or 201");
    jupyter.delete_file("b").await.unwrap();
}
