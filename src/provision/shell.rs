//! The `shell` provisioner.

use std::time::Duration;

use uuid::Uuid;

use super::Context;
use super::command::fill;
use super::environment::Environment;
use crate::error::{self, Cause, Error, Kind, Result};
use crate::event::Stream;
use crate::guest::{Guest, Outcome, Target};
use crate::lines::Tail;
use crate::shell_word::quote;
use crate::template::{Shell, ShellSource, Text};

/// What Packer calls the exit code of a command whose connection was lost; a manifest may list it
/// among its valid exit codes.
const DISCONNECTED: u32 = 2_300_218;

/// After a step that may reboot the guest: how long the connection may still last although the
/// service manager is not on its way down (a reboot that was only just asked for).
const REBOOT_BEGINS: Duration = Duration::from_secs(1);

/// Mode of a script that nobody else may read.
const SECRET_SCRIPT: u32 = 0o700;

/// One script, ready to be sent.
struct Script {
    text: Vec<u8>,
    mode: u32,
}

/// Runs the provisioner's scripts in order.
pub(super) async fn run(guest: &mut Guest, shell: &Shell, context: &Context<'_>) -> Result<()> {
    let told = context.told();
    let variables = told.iter().chain(context.environment).chain(&shell.environment_vars);
    let environment = Environment::new(variables.map(|(name, value)| (name.as_str(), value)))?;
    match &shell.source {
        ShellSource::Inline(lines) => {
            let script = inline(lines, &shell.inline_shebang);
            run_script(guest, shell, &script, &environment, context).await
        }
        ShellSource::Scripts(paths) => {
            for path in paths {
                let wrap = |error: Error| match paths.len() {
                    1 => error,
                    _ => error.context(format!("script {}", path.shown)),
                };
                let script = read(&path.path, shell.binary)?;
                run_script(guest, shell, &script, &environment, context).await.map_err(wrap)?;
            }
            Ok(())
        }
    }
}

/// Packer's script of inline lines: the shebang, then the lines.
fn inline(lines: &[Text], shebang: &str) -> Script {
    let secret = lines.iter().any(|line| !line.secrets().is_empty());
    Script { text: script_of(lines, shebang).into_bytes(), mode: if secret { SECRET_SCRIPT } else { 0o755 } }
}

/// The text of such a script. A first line of its own that has a secret stays what it is: it was not taken for `shebang`.
pub(crate) fn script_of(lines: &[Text], shebang: &str) -> String {
    let is_own = |line: &Text| line.plain().starts_with("#!") && !line.secrets().is_empty();
    let mut text = if lines.first().is_some_and(is_own) { String::new() } else { format!("#!{shebang}\n") };
    for line in lines {
        text.push_str(line.plain());
        text.push('\n');
    }
    text
}

fn read(path: &std::path::Path, binary: bool) -> Result<Script> {
    let mut text =
        error::Context::context(std::fs::read(path), Kind::Usage, || format!("reading the script {}", path.display()))?;
    if !binary {
        text = without_returns(&text);
    }
    Ok(Script { text, mode: 0o755 })
}

/// `text` with LF for CRLF.
fn without_returns(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        if !(*byte == b'\r' && text.get(at + 1) == Some(&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// Sends one script, runs it, judges its end, and takes it away again.
async fn run_script(
    guest: &mut Guest,
    shell: &Shell,
    script: &Script,
    environment: &Environment<'_>,
    context: &Context<'_>,
) -> Result<()> {
    let number = Uuid::new_v4().as_u128() % 10_000;
    let folder = shell.remote_folder.trim_end_matches('/');
    let path = match (&shell.remote_path, &shell.remote_file) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => format!("{folder}/{name}"),
        (None, None) => format!("{folder}/script_{number:04}.sh"),
    };
    let variables = format!("{folder}/varfile_{number:04}.sh");
    let template = shell.execute_command.plain();
    let in_file = environment.is_secret() || template.contains("EnvVarFile");
    let words = if in_file { format!("/bin/sh {variables} ") } else { environment.words() };
    let command = fill(template, "{{ .Path }}, {{ .Vars }} and {{ .EnvVarFile }}", |name| match name {
        "Path" => Some(&path),
        "Vars" => Some(&words),
        "EnvVarFile" => Some(&variables),
        _ => None,
    })?;

    send(guest, &script.text, Target { path: &path, name: "script", mode: script.mode }).await?;
    if in_file {
        let text = environment.script(&variables);
        send(guest, text.as_bytes(), Target { path: &variables, name: "varfile", mode: 0o600 }).await?;
    }
    let mut errors = Tail::default();
    let outcome = guest
        .exec_on_terminal(&command, |stream, line| {
            if stream == Stream::Stderr {
                errors.push(line);
            }
            context.phase.output(stream, line);
        })
        .await?;
    let judged = judge(guest, shell, &outcome).await;
    if !guest.is_lost() {
        let keep = shell.skip_clean && script.mode != SECRET_SCRIPT;
        let script = (!keep).then_some(path.as_str());
        let paths: Vec<_> = script.into_iter().chain([variables.as_str()]).collect();
        remove(guest, &paths, context).await?;
    }
    judged.map_err(|error| {
        let said = context.phase.events().redact(&errors.text());
        if said.is_empty() { error } else { error.because(said) }
    })
}

/// Sends a file; a connection that is lost on the way is made again, as Packer's start retry does.
async fn send(guest: &mut Guest, content: &[u8], target: Target<'_>) -> Result<()> {
    match guest.upload(content, target).await {
        Err(_) if guest.is_lost() => {
            guest.come_back().await?;
            guest.upload(content, target).await
        }
        result => result,
    }
}

/// Whether the step succeeded; after a reboot that was expected, the guest is back.
async fn judge(guest: &mut Guest, shell: &Shell, outcome: &Outcome) -> Result<()> {
    let disconnect_is_valid = shell.expect_disconnect || shell.valid_exit_codes.contains(&DISCONNECTED);
    let valid = match outcome {
        Outcome::Exit(code) => shell.valid_exit_codes.contains(code),
        Outcome::Signal(_) | Outcome::Disconnected => false,
    };
    if disconnect_is_valid && goes_down(guest, valid).await? {
        return guest.come_back().await;
    }
    if valid {
        return Ok(());
    }
    // A command fails, too, because its machine does.
    guest.reason_of_loss().await?;
    let error = match outcome {
        Outcome::Exit(code) => Error::build(format!("exit code {code}")),
        Outcome::Signal(_) => Error::build(format!("the command was {outcome}")),
        Outcome::Disconnected => Error::build("the guest closed the connection while the command ran")
            .hint("a step that reboots the guest needs `expect_disconnect: true`"),
    };
    Err(error.caused_by(Cause::Command(outcome.clone())))
}

/// Whether the connection is lost or about to be. A reboot may end the command in any way: by an
/// exit code before the guest goes down, or by the signal that goes with it.
async fn goes_down(guest: &mut Guest, succeeded: bool) -> Result<bool> {
    if guest.is_lost() {
        return Ok(true);
    }
    if succeeded && guest.is_stopping().await? {
        return guest.lost_within(guest.patience()).await;
    }
    guest.lost_within(REBOOT_BEGINS).await
}

/// Takes scripts away. That it fails does not fail the build, but may leave something in the image.
async fn remove(guest: &mut Guest, paths: &[&str], context: &Context<'_>) -> Result<()> {
    let words: Vec<_> = paths.iter().map(|path| quote(path)).collect();
    let command = format!("rm -f -- {}", words.join(" "));
    let outcome = guest.exec(&command, tokio::io::empty(), |_, _| {}).await?;
    if outcome != Outcome::Exit(0) {
        let template = Some(context.phase.template());
        context.phase.events().warn(template, format!("cannot remove {} from the guest: {outcome}", paths.join(" ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_lines_stand_under_their_shebang() {
        let lines = [Text::public("a"), Text::public("b\nc")];
        assert_eq!(inline(&lines, "/bin/sh -e").text, b"#!/bin/sh -e\na\nb\nc\n");
        // What the manifest says wins over a line of the script's own.
        assert_eq!(inline(&[Text::public("#!/bin/sh\nx")], "/bin/sh -e").text, b"#!/bin/sh -e\n#!/bin/sh\nx\n");
        let secret = Text::new("#!***".into(), "#!/bin/sh".into(), ["shell".to_owned()].into());
        assert_eq!(inline(&[secret], "/bin/sh -e").text, b"#!/bin/sh\n");
    }

    #[test]
    fn an_inline_script_with_a_secret_is_for_its_owner_only() {
        let secret = Text::new("***".into(), "pw".into(), ["root_password".to_owned()].into());
        assert_eq!((inline(&[secret], "/bin/sh").mode, inline(&[], "/bin/sh").mode), (0o700, 0o755));
    }

    #[test]
    fn only_returns_before_a_newline_go() {
        assert_eq!(without_returns(b"a\r\nb\rc\r\n\r"), b"a\nb\rc\n\r");
    }
}
