//! `shell-local`: commands and scripts of the user's own, run on the build host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitStatus;

use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::error::{Cause, Context as _, Error, Kind, Result};
use crate::event::{Phase, Stream};
use crate::guest::{Outcome, private};
use crate::lines::Tail;
use crate::process::run_group;
use crate::provision::{Environment, fill, script_of};
use crate::shell_word;
use crate::template::{ShellLocal, ShellSource, Text};

/// What a shell says of a file that it may not execute (POSIX.1-2024, Shell Command Language, 2.8.2).
const NOT_EXECUTABLE: i32 = 126;

/// Where a host's command runs, and what it is told beside its own settings.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Variables of its environment; its own win.
    pub variables: &'a [(String, Text)],
    /// Folder for its scripts, which are gone when it has ended.
    pub work: &'a Path,
    /// Where its output goes.
    pub phase: &'a Phase,
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// Runs it: one script after the other, each to its end with all that it has started. Dropped, that ends at once.
///
/// # Errors
/// A script fails (kind build), cannot be read (kind usage) or run (kind host), or `cancel` fires.
pub async fn run(local: &ShellLocal, surroundings: &Surroundings<'_>) -> Result<()> {
    let variables = surroundings.variables.iter().chain(&local.environment_vars);
    let environment = Environment::new(variables.map(|(name, value)| (name.as_str(), value)))?;
    let folder = tempfile::Builder::new().prefix("local-").tempdir_in(surroundings.work);
    let folder = folder.context(Kind::Host, || format!("cannot make a folder in {}", surroundings.work.display()))?;
    match &local.source {
        ShellSource::Inline(lines) => {
            let script = folder.path().join(match local.tempfile_extension.as_str() {
                "" => "script".to_owned(),
                extension => format!("script.{extension}"),
            });
            private(&script, &script_of(lines, &local.inline_shebang))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o700))
                .context(Kind::Host, || format!("cannot make {} executable", script.display()))?;
            run_script(local, &script, &environment, (&folder, surroundings)).await
        }
        ShellSource::Scripts(scripts) => {
            for script in scripts {
                let path =
                    std::path::absolute(&script.path).context(Kind::Usage, || format!("finding {}", script.shown))?;
                let ran = run_script(local, &path, &environment, (&folder, surroundings)).await;
                ran.map_err(|error| match scripts.len() {
                    1 => error,
                    _ => error.context(format!("script {}", script.shown)),
                })?;
            }
            Ok(())
        }
    }
}

async fn run_script(
    local: &ShellLocal,
    script: &Path,
    environment: &Environment<'_>,
    (folder, surroundings): (&TempDir, &Surroundings<'_>),
) -> Result<()> {
    let words = if environment.is_secret() { in_file(environment, folder)? } else { environment.words() };
    let mut argv = Vec::new();
    for template in local.execute_command.iter().map(Text::plain) {
        let path = word(script, template)?;
        argv.push(fill(template, "{{ .Vars }}, {{ .Script }} and {{ .Command }}", |name| match name {
            "Vars" => Some(&words),
            "Script" | "Command" => Some(&path),
            _ => None,
        })?);
    }
    let (program, arguments) = argv.split_first().ok_or_else(|| Error::usage("`execute_command` is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&local.folder);
    // A command line without `{{ .Vars }}` has them as well.
    let variables = surroundings.variables.iter().chain(&local.environment_vars);
    command.envs(variables.map(|(name, value)| (name, value.plain())));
    let mut errors = Tail::default();
    let status = run_group(command, surroundings.cancel, |stream, line| {
        if stream == Stream::Stderr {
            errors.push(line);
        }
        surroundings.phase.output(stream, line);
    });
    judge(local, status.await?).map_err(|error| {
        let said = surroundings.phase.events().redact(&errors.text());
        if said.is_empty() { error } else { error.because(said) }
    })
}

/// Variables with secrets among them: words that set them from a file, which removes itself.
fn in_file(environment: &Environment<'_>, folder: &TempDir) -> Result<String> {
    let path = folder.path().join(uuid::Uuid::new_v4().simple().to_string());
    let shown = path.to_str().ok_or_else(|| Error::host("the path of the working folder is not UTF-8"))?;
    private(&path, &environment.script(shown))?;
    Ok(format!("/bin/sh {} ", shell_word::word(shown)))
}

/// The path as it stands in `template`: as it is where it is the whole argument, else as a word of a shell.
fn word(script: &Path, template: &str) -> Result<String> {
    let path = script.to_str().ok_or_else(|| Error::usage(format!("{} is not UTF-8", script.display())))?;
    let is_alone = ["{{ .Script }}", "{{ .Command }}"].contains(&template);
    Ok(if is_alone { path.to_owned() } else { shell_word::word(path).into_owned() })
}

fn judge(local: &ShellLocal, status: ExitStatus) -> Result<()> {
    let outcome = match status.code().map(u32::try_from) {
        Some(Ok(code)) if local.valid_exit_codes.contains(&code) => return Ok(()),
        Some(Ok(code)) => Outcome::Exit(code),
        _ => return Err(Error::build(format!("the command ended by {status}"))),
    };
    let error = Error::build(outcome.to_string()).caused_by(Cause::Command(outcome));
    Err(match status.code() {
        Some(NOT_EXECUTABLE) => {
            error.hint("make the script executable (`chmod +x`), or name its interpreter in `execute_command`")
        }
        _ => error,
    })
}
