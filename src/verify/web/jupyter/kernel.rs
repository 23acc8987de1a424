//! Kernels: starting them, and running code in them (Jupyter's messaging protocol 5.3).

use std::time::SystemTime;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Jupyter, json as parse, text_at};
use crate::error::{Context, Error, Kind, Result};
use crate::verify::web::websocket::{Opened, Socket};

/// Whose page it is that must not reach a kernel.
const FOREIGN: &str = "https://evil.example.org";

/// The version of the protocol whose messages are sent.
const PROTOCOL: &str = "5.3";

/// What code in a kernel gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The last expression's value as plain text, if there is one.
    pub result: Option<String>,
    /// How it failed, if it did.
    pub exception: Option<Exception>,
}

/// An exception that ended code in a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exception {
    /// Its name: `ZeroDivisionError`.
    pub name: String,
    /// Its message: `division by zero`.
    pub value: String,
}

impl Jupyter {
    /// Starts a kernel of the default kind and returns its id.
    ///
    /// # Errors
    /// The server answers another status than 201, or no id (kind verification), or not at all.
    pub async fn start_kernel(&self) -> Result<String> {
        let what = "POST /api/kernels";
        let answer = self.change(Method::POST, "/api/kernels", Some(&json!({})), &[201]).await?;
        text_at(&parse(what, &answer)?, "id", what)
    }

    /// Asks for a kernel without the cookie against cross-site requests, and returns the status: 403 is right.
    ///
    /// # Errors
    /// The server does not answer (kind verification).
    pub async fn start_kernel_without_cookie(&self) -> Result<u16> {
        let path = self.below("/api/kernels");
        Ok(self.http.request(Method::POST, &path, &[], Some(b"{}".to_vec())).await?.status)
    }

    /// Ends `kernel`.
    ///
    /// # Errors
    /// The server answers another status than 204 (kind verification), or not at all.
    pub async fn delete_kernel(&self, kernel: &str) -> Result<()> {
        self.change(Method::DELETE, &format!("/api/kernels/{kernel}"), None, &[204]).await.map(drop)
    }

    /// Runs `code` in `kernel` over a WebSocket, and waits for its end as long as this client's patience.
    /// An exception in the code is an output.
    ///
    /// # Errors
    /// The WebSocket is refused or lost, the kernel dies, does not end in time, or sends what is no message
    /// of the protocol (kind verification).
    pub async fn run(&self, kernel: &str, code: &str) -> Result<Output> {
        let deadline = Instant::now() + self.patience;
        let session = id();
        let mut socket = self.own_socket(&channels(kernel, &session)).await?;
        let mut run = Run { request: id(), output: Output::default(), idle: false, replied: false };
        socket.send(&execute_request(&run.request, &session, code).to_string(), self.patience).await?;
        self.follow(&mut socket, &mut run, deadline).await?;
        socket.close().await;
        Ok(run.output)
    }

    async fn follow(&self, socket: &mut Socket, run: &mut Run, deadline: Instant) -> Result<()> {
        while !(run.idle && run.replied) {
            let Some(text) = socket.receive(deadline).await? else {
                let message = format!("the kernel did not end within {} s", self.patience.as_secs_f64());
                return Err(Error::new(Kind::Verification, message).because(run.state()));
            };
            let message =
                serde_json::from_str(&text).context(Kind::Verification, || "the kernel's message is no JSON")?;
            run.take(&message)?;
        }
        Ok(())
    }

    /// Opens `kernel`'s WebSocket as a page of another site would, and returns the status: 403 is right, and
    /// 101 says that any site that the owner visits can run code here.
    ///
    /// # Errors
    /// The server does not answer (kind verification).
    pub async fn foreign_origin(&self, kernel: &str) -> Result<u16> {
        match self.socket(&channels(kernel, &id()), FOREIGN).await? {
            Opened::Accepted(socket) => {
                socket.close().await;
                Ok(101)
            }
            Opened::Refused { status, .. } => Ok(status),
        }
    }
}

/// A new id, hexadecimal.
fn id() -> String {
    Uuid::new_v4().simple().to_string()
}

fn channels(kernel: &str, session: &str) -> String {
    format!("/api/kernels/{kernel}/channels?session_id={session}")
}

fn execute_request(request: &str, session: &str, code: &str) -> Value {
    json!({
        "header": {
            "msg_id": request, "msg_type": "execute_request", "username": "", "session": session,
            "date": humantime::format_rfc3339_millis(SystemTime::now()).to_string(), "version": PROTOCOL,
        },
        "parent_header": {},
        "metadata": {},
        "content": {
            "code": code, "silent": false, "store_history": false, "user_expressions": {},
            "allow_stdin": false, "stop_on_error": true,
        },
        "buffers": [],
        "channel": "shell",
    })
}

/// The run of one request.
struct Run {
    request: String,
    output: Output,
    idle: bool,
    replied: bool,
}

impl Run {
    /// Takes in what a kernel sent; messages about other requests count only when they say that it died.
    fn take(&mut self, message: &Value) -> Result<()> {
        let kind = message["header"]["msg_type"].as_str().unwrap_or_default();
        let content = &message["content"];
        let state = content["execution_state"].as_str().unwrap_or_default();
        if kind == "status" && matches!(state, "dead" | "restarting" | "autorestarting") {
            return Err(Error::new(Kind::Verification, format!("the kernel died: its state is `{state}`")));
        }
        if message["parent_header"]["msg_id"].as_str() != Some(&self.request) {
            return Ok(());
        }
        let text = |key: &str| content[key].as_str().unwrap_or_default();
        match kind {
            "stream" if text("name") == "stderr" => self.output.stderr.push_str(text("text")),
            "stream" => self.output.stdout.push_str(text("text")),
            "execute_result" => self.output.result = content["data"]["text/plain"].as_str().map(str::to_owned),
            "error" => self.fail(text("ename"), text("evalue")),
            "status" => self.idle |= state == "idle",
            "execute_reply" => {
                self.replied = true;
                if text("status") != "ok" && self.output.exception.is_none() {
                    // An aborted request has no name of an error.
                    let name = if text("ename").is_empty() { text("status") } else { text("ename") };
                    self.fail(name, text("evalue"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, name: &str, value: &str) {
        self.output.exception = Some(Exception { name: name.to_owned(), value: value.to_owned() });
    }

    /// How far it came.
    fn state(&self) -> &'static str {
        match (self.replied, self.idle) {
            (false, false) => "it sent neither a reply nor that it is idle",
            (true, _) => "it sent a reply, but not that it is idle",
            (false, true) => "it sent that it is idle, but no reply",
        }
    }
}
