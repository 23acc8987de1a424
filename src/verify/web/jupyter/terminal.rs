//! Terminals (terminado's protocol: JSON arrays over a WebSocket).

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Jupyter, json as parse, text_at};
use crate::error::{Context, Error, Kind, Result};
use crate::verify::web::http::BODY_LIMIT;
use crate::verify::web::websocket::Socket;

/// The longest line that a terminal takes whole, bytes (Linux: N_TTY_BUF_SIZE).
const LINE: usize = 4095;

impl Jupyter {
    /// Runs `command` in the shell of a new terminal, and returns what it wrote, with Unix line ends. The
    /// terminal is deleted afterwards.
    ///
    /// # Errors
    /// `command` is too long to be typed (kind usage); the terminal is refused, lost, does not end within
    /// this client's patience, or cannot be deleted (kind verification).
    pub async fn terminal_run(&self, command: &str) -> Result<String> {
        let what = "POST /api/terminals";
        // jupyter_server_terminals answers 200; 201 would be as good.
        let answer = self.change(Method::POST, "/api/terminals", None, &[200, 201]).await?;
        let name = text_at(&parse(what, &answer)?, "name", what)?;
        let output = self.type_in(&name, command).await;
        let deleted = self.change(Method::DELETE, &format!("/api/terminals/{name}"), None, &[204]).await;
        let output = output?;
        deleted?;
        Ok(output)
    }

    async fn type_in(&self, name: &str, command: &str) -> Result<String> {
        let deadline = Instant::now() + self.patience;
        let typed = Typed::new(command)?;
        let mut socket = self.own_socket(&format!("/terminals/websocket/{name}")).await?;
        socket.send(&json!(["stdin", typed.line]).to_string(), self.patience).await?;
        let output = self.watch(&mut socket, &typed, deadline).await?;
        socket.close().await;
        Ok(output)
    }

    async fn watch(&self, socket: &mut Socket, typed: &Typed, deadline: Instant) -> Result<String> {
        let mut screen = String::new();
        loop {
            if let Some(output) = typed.output(&screen) {
                return Ok(output);
            }
            let Some(text) = socket.receive(deadline).await? else {
                let message = format!("the terminal did not end within {} s", self.patience.as_secs_f64());
                return Err(Error::new(Kind::Verification, message).because(shown(&screen)));
            };
            let message: Value =
                serde_json::from_str(&text).context(Kind::Verification, || "the terminal's message is no JSON")?;
            match (message[0].as_str(), message[1].as_str()) {
                (Some("stdout"), Some(text)) => screen.push_str(text),
                (Some("disconnect"), _) => {
                    return Err(Error::new(Kind::Verification, "the terminal's shell ended").because(shown(&screen)));
                }
                // `setup` and what later versions may send.
                _ => {}
            }
            if screen.len() > BODY_LIMIT {
                let message = format!("the terminal wrote more than {BODY_LIMIT} bytes");
                return Err(Error::new(Kind::Verification, message));
            }
        }
    }
}

/// The end of what a terminal wrote, for a message.
fn shown(screen: &str) -> String {
    let start = screen.char_indices().rev().nth(199).map_or(0, |(at, _)| at);
    format!("it wrote {:?}", &screen[start..])
}

/// A line to type, and what encloses its output.
struct Typed {
    line: String,
    begin: String,
    end: String,
}

impl Typed {
    fn new(command: &str) -> Result<Self> {
        let id = Uuid::new_v4().simple().to_string();
        // The terminal shows what is typed: there the marks are in two halves, so that only output has whole
        // ones. Base64 keeps the command from the shell's line editor, for which a tab or a `!` means something.
        let line = format!(
            " printf '%s%s\\n' begin- {id}; eval \"$(printf %s {} | base64 -d)\"; printf '%s%s\\n' end- {id}\r",
            BASE64_STANDARD.encode(command)
        );
        if line.len() > LINE {
            return Err(Error::usage(format!("a command of {} bytes is too long for a terminal", command.len())));
        }
        Ok(Self { line, begin: format!("begin-{id}\r\n"), end: format!("end-{id}") })
    }

    /// The command's output, when `screen` has all of it.
    fn output(&self, screen: &str) -> Option<String> {
        let (_, after) = screen.split_once(&self.begin)?;
        let (output, _) = after.split_once(&self.end)?;
        Some(output.replace("\r\n", "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_found_between_the_marks_and_not_in_the_echo() {
        let typed = Typed::new("id -u").unwrap();
        let id = typed.end.trim_start_matches("end-");
        let echo = format!("joe@visa:~$ {}\n", typed.line);
        assert_eq!(typed.output(&echo), None);
        let screen = format!("{echo}begin-{id}\r\n1000\r\n");
        assert_eq!(typed.output(&screen), None);
        assert_eq!(typed.output(&format!("{screen}end-{id}\r\n$ ")).as_deref(), Some("1000\n"));
        assert_eq!(typed.output(&format!("{screen}no newlineend-{id}\r\n")).as_deref(), Some("1000\nno newline"));
    }

    #[test]
    fn a_command_must_fit_into_a_line() {
        assert_eq!(Typed::new(&"x".repeat(4000)).map(drop).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn the_end_of_a_screen_is_shown_whatever_it_holds() {
        assert_eq!(shown(""), "it wrote \"\"");
        assert_eq!(shown(&"é".repeat(300)), format!("it wrote {:?}", "é".repeat(200)));
    }
}
