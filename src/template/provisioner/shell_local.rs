//! `shell-local`: commands and scripts that run on the build host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::Serialize;

use super::shell::{INLINE_SHEBANG, environment, label, normalised, own_shebang, source};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};
use crate::template::keys::Table;
use crate::template::nearest::suggestion;
use crate::template::paths::Search;
use crate::template::scalar;
use crate::template::yaml::{Content, Node};
use crate::template::{ShellSource, Text};

/// What `execute_command` may use; the last two are the same.
const VARIABLES: [&str; 3] = ["Vars", "Script", "Command"];

/// What runs a command line that is one text.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// `shell-local`, the provisioner's and the post-processor's.
#[derive(Debug, Clone, Serialize)]
pub struct ShellLocal {
    /// What runs.
    pub source: ShellSource,
    /// First line of an inline script, without `#!`.
    pub inline_shebang: String,
    /// `KEY=VALUE`, in the order given.
    pub environment_vars: Vec<(String, Text)>,
    /// Program and arguments with `{{ .Vars }}` and `{{ .Script }}`, without secrets: everybody on the host sees them.
    pub execute_command: Vec<Text>,
    /// Operating systems that it is for, as Go calls them; none are all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_on: Vec<String>,
    /// Ending of an inline script's file, without its dot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tempfile_extension: String,
    /// Exit codes that mean success.
    pub valid_exit_codes: Vec<u32>,
    /// Where it runs: the folder in which its paths are looked for first.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl ShellLocal {
    /// Whether it is for this operating system; visabuild runs on Linux only.
    pub fn is_for_this_host(&self) -> bool {
        self.only_on.is_empty() || self.only_on.iter().any(|system| system == "linux")
    }
}

/// Reads what is left of `fields` by the keys of `table`, which has those of [`SHELL_LOCAL_KEYS`] among its own; also
/// returns a label made of what it runs.
///
/// [`SHELL_LOCAL_KEYS`]: crate::template::keys::provisioner::SHELL_LOCAL_KEYS
pub(in crate::template) fn read(
    reader: &mut Reader<'_>,
    mut fields: Fields<'_>,
    search: &Search,
    table: &'static Table,
) -> Option<(String, ShellLocal)> {
    let source = fields.one_of(&["command", "inline", "script", "scripts"], reader.problems);
    let place = source.map(|(_, node)| node);
    let inline_shebang = fields.get("inline_shebang");
    let (environment_vars, env) = (fields.get("environment_vars"), fields.get("env"));
    let (execute_command, only_on) = (fields.get("execute_command"), fields.get("only_on"));
    let (extension, valid_exit_codes) = (fields.get("tempfile_extension"), fields.get("valid_exit_codes"));
    fields.finish_as(table, reader.problems);

    let source = source.and_then(|(key, node)| match key {
        "command" => reader.text(node).map(|command| ShellSource::Inline(vec![command])),
        key => self::source(reader, key, node, search),
    });
    let inline_shebang = reader.optional(inline_shebang, Reader::public);
    let environment_vars = environment(reader, environment_vars, env);
    let execute_command = reader.optional(execute_command, self::execute_command);
    let only_on = reader.optional(only_on, |reader, node| reader.list(node, Reader::public));
    let extension = reader.optional(extension, tempfile_extension);
    let valid_exit_codes = reader.optional(valid_exit_codes, |reader, node| {
        reader.some(node, |reader, node| reader.parse(node, scalar::exit_code))
    });

    let mut source = source?;
    if execute_command.as_ref().is_some_and(Option::is_none) {
        are_executable(reader, &source, place?)?;
    }
    let label = label(&source);
    let shebang = inline_shebang?.or_else(|| own_shebang(&mut source)).unwrap_or_else(|| INLINE_SHEBANG.to_owned());
    let local = ShellLocal {
        source,
        inline_shebang: shebang.trim_start_matches("#!").trim().to_owned(),
        environment_vars: environment_vars?,
        execute_command: execute_command?.unwrap_or_else(|| by_shell("{{ .Vars }} {{ .Script }}".into())),
        only_on: only_on?.unwrap_or_default(),
        tempfile_extension: extension?.unwrap_or_default(),
        valid_exit_codes: valid_exit_codes?.unwrap_or_else(|| vec![0]),
        folder: search.base(),
    };
    Some((label, local))
}

/// What the shell is to run by its path must be executable.
fn are_executable(reader: &mut Reader<'_>, source: &ShellSource, node: &Node) -> Option<()> {
    let ShellSource::Scripts(scripts) = source else { return Some(()) };
    let mut all = Some(());
    for script in scripts {
        if fs::metadata(&script.path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0) {
            let problem = Problem::at(node.location(), format!("`{}` is not executable", script.shown));
            reader.problems.add(problem.hint("`chmod +x` it, or name its interpreter in `execute_command`"));
            all = None;
        }
    }
    all
}

fn by_shell(command: Text) -> Vec<Text> {
    SHELL.into_iter().map(Text::from).chain([command]).collect()
}

/// Program and arguments, or a command line for the shell, as Packer takes a list of one, too.
fn execute_command(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Text>> {
    let words = match &node.content {
        Content::List(_) => reader.some(node, word)?,
        _ => vec![word(reader, node)?],
    };
    if !words.iter().any(|word| ["{{ .Script }}", "{{ .Command }}"].iter().any(|name| word.masked().contains(name))) {
        let problem = Problem::at(node.location(), "`execute_command` does not run the script");
        reader.problems.add(problem.hint("the script's path is `{{ .Script }}`"));
        return None;
    }
    match <[Text; 1]>::try_from(words) {
        Ok([command]) => Some(by_shell(command)),
        Err(words) => Some(words),
    }
}

fn word(reader: &mut Reader<'_>, node: &Node) -> Option<Text> {
    let text = reader.without_secrets(node)?;
    let (masked, used) = normalised(text.masked());
    let unknown: Vec<_> = used.iter().filter(|name| !VARIABLES.contains(&name.as_str())).collect();
    for name in &unknown {
        let problem = Problem::at(node.location(), format!("`execute_command` has no variable `{{{{ .{name} }}}}`"));
        reader.problems.add(match suggestion(name, VARIABLES) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    unknown.is_empty().then(|| Text::new(masked, normalised(text.plain()).0, text.secrets().clone()))
}

fn tempfile_extension(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let extension = reader.public(node)?;
    if extension.contains('/') {
        reader.at(node.location(), "an ending of a file's name has no slash");
        return None;
    }
    Some(extension.trim_start_matches('.').to_owned())
}
