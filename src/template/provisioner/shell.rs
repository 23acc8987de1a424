//! The `shell` provisioner.

use super::shortened;
use crate::error::Problem;
use crate::template::fields::{Fields, Reader, entries};
use crate::template::keys::provisioner::SHELL;
use crate::template::nearest::suggestion;
use crate::template::paths::{Search, Want};
use crate::template::render::is_go_variable;
use crate::template::scalar;
use crate::template::yaml::Node;
use crate::template::{HostPath, Shell, ShellSource, Text};

const EXECUTE_COMMAND: &str = "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}";
pub(super) const INLINE_SHEBANG: &str = "/bin/sh -e";
const REMOTE_FOLDER: &str = "/tmp";

/// The same with the variables in a file.
const EXECUTE_WITH_FILE: &str = "chmod +x {{ .Path }}; . {{ .EnvVarFile }} && {{ .Path }}";

/// What `execute_command` may use, and with `use_env_var_file` a third.
const VARIABLES: [&str; 3] = ["Path", "Vars", FILE];
const FILE: &str = "EnvVarFile";

/// Reads the rest of a shell provisioner; also returns a label made of what it runs.
pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, search: &Search) -> Option<(String, Shell)> {
    let source = fields.one_of(&["inline", "script", "scripts"], reader.problems);
    let inline_shebang = fields.get("inline_shebang");
    let (environment_vars, env) = (fields.get("environment_vars"), fields.get("env"));
    let (execute_command, in_file) = (fields.get("execute_command"), fields.get("use_env_var_file"));
    let remote = ["remote_folder", "remote_file", "remote_path"].map(|key| fields.get(key));
    let skip_clean = fields.get("skip_clean");
    let (expect_disconnect, binary) = (fields.get("expect_disconnect"), fields.get("binary"));
    let (valid_exit_codes, pause_after) = (fields.get("valid_exit_codes"), fields.get("pause_after"));
    fields.finish_as(&SHELL, reader.problems);

    let source = source.and_then(|(key, node)| self::source(reader, key, node, search));
    let inline_shebang = reader.optional(inline_shebang, Reader::public);
    let environment_vars = environment(reader, environment_vars, env);
    let in_file = reader.optional(in_file, |reader, node| reader.parse(node, scalar::boolean));
    let with_file = in_file.flatten().unwrap_or(false);
    let execute_command =
        reader.optional(execute_command, |reader, node| self::execute_command(reader, node, with_file));
    let [remote_folder, remote_file, remote_path] = remote.map(|node| reader.optional(node, Reader::public));
    let skip_clean = reader.optional(skip_clean, |reader, node| reader.parse(node, scalar::boolean));
    let expect_disconnect = reader.optional(expect_disconnect, |reader, node| reader.parse(node, scalar::boolean));
    let valid_exit_codes = reader.optional(valid_exit_codes, |reader, node| {
        reader.some(node, |reader, node| reader.parse(node, scalar::exit_code))
    });
    let pause_after = reader.optional(pause_after, |reader, node| reader.parse(node, scalar::duration));
    let binary = reader.optional(binary, |reader, node| reader.parse(node, scalar::boolean));

    in_file?;
    let mut source = source?;
    let label = label(&source);
    let shebang = inline_shebang?.or_else(|| own_shebang(&mut source)).unwrap_or_else(|| INLINE_SHEBANG.to_owned());
    let shell = Shell {
        source,
        inline_shebang: shebang.trim_start_matches("#!").trim().to_owned(),
        environment_vars: environment_vars?,
        execute_command: execute_command?
            .unwrap_or_else(|| if with_file { EXECUTE_WITH_FILE } else { EXECUTE_COMMAND }.into()),
        remote_folder: remote_folder?.unwrap_or_else(|| REMOTE_FOLDER.to_owned()),
        remote_file: remote_file?.filter(|name| !name.is_empty()),
        remote_path: remote_path?.filter(|path| !path.is_empty()),
        skip_clean: skip_clean?.unwrap_or(false),
        expect_disconnect: expect_disconnect?.unwrap_or(false),
        valid_exit_codes: valid_exit_codes?.unwrap_or_else(|| vec![0]),
        pause_after: pause_after?,
        binary: binary?.unwrap_or(false),
    };
    Some((label, shell))
}

pub(super) fn source(reader: &mut Reader<'_>, key: &str, node: &Node, search: &Search) -> Option<ShellSource> {
    match key {
        "inline" => reader.some(node, Reader::text).map(ShellSource::Inline),
        "script" => script(reader, node, search).map(|path| ShellSource::Scripts(vec![path])),
        _ => reader.some(node, |reader, node| script(reader, node, search)).map(ShellSource::Scripts),
    }
}

fn script(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<HostPath> {
    reader.public(node)?;
    search.find(reader, node, Want::File)
}

/// An inline script that begins with its own `#!` line keeps it, as in Packer.
pub(super) fn own_shebang(source: &mut ShellSource) -> Option<String> {
    let ShellSource::Inline(lines) = source else { return None };
    let first = lines.first().filter(|first| first.secrets().is_empty() && first.plain().starts_with("#!"))?.clone();
    let split = |text: &str| {
        text.split_once('\n')
            .map_or((text.to_owned(), String::new()), |(head, rest)| (head.to_owned(), rest.to_owned()))
    };
    let (shebang, plain) = split(first.plain());
    let (_, masked) = split(first.masked());
    lines[0] = Text::new(masked, plain, first.secrets().clone());
    Some(shebang)
}

pub(super) fn label(source: &ShellSource) -> String {
    match source {
        ShellSource::Inline(lines) => {
            let lines: Vec<&str> = lines.iter().map(Text::masked).collect();
            shortened(&lines.join("\n"))
        }
        ShellSource::Scripts(scripts) => {
            let names = scripts.iter().filter_map(|script| script.path.file_name());
            names.map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ")
        }
    }
}

/// `environment_vars` in its order, then `env`, which wins, in its own.
pub(super) fn environment(
    reader: &mut Reader<'_>,
    list: Option<&Node>,
    map: Option<&Node>,
) -> Option<Vec<(String, Text)>> {
    let list = reader.optional(list, |reader, node| reader.list(node, assignment))?;
    let map = reader.optional(map, |reader, node| {
        let entries = entries(node, reader.problems)?;
        let read = entries.iter().map(|entry| {
            let value = if entry.value.is_null() { Some(Text::public("")) } else { reader.text(&entry.value) };
            if !scalar::is_identifier(&entry.key) {
                reader.at(entry.location(), format!("`{}` cannot be the name of an environment variable", entry.key));
                return None;
            }
            Some((entry.key.clone(), value?))
        });
        read.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()
    })?;
    let map = map.unwrap_or_default();
    let mut variables = list.unwrap_or_default();
    variables.retain(|(name, _)| !map.iter().any(|(other, _)| other == name));
    variables.extend(map);
    Some(variables)
}

/// `KEY=VALUE`, where only the value may hold secrets.
fn assignment(reader: &mut Reader<'_>, node: &Node) -> Option<(String, Text)> {
    let text = reader.text(node)?;
    let (Some((name, masked)), Some((same, plain))) = (text.masked().split_once('='), text.plain().split_once('='))
    else {
        let message = format!("expected `KEY=VALUE`, found `{}`", text.masked());
        reader.at(node.location(), message);
        return None;
    };
    if name != same || !scalar::is_identifier(name) {
        reader.at(node.location(), format!("`{name}` cannot be the name of an environment variable"));
        return None;
    }
    Some((name.to_owned(), Text::new(masked.to_owned(), plain.to_owned(), text.secrets().clone())))
}

/// A command line with `{{ .Path }}` and `{{ .Vars }}` or `{{ .EnvVarFile }}`, in this spelling.
fn execute_command(reader: &mut Reader<'_>, node: &Node, with_file: bool) -> Option<Text> {
    let known = if with_file { &VARIABLES[..] } else { &VARIABLES[..2] };
    let text = reader.text(node)?;
    let (masked, used) = normalised(text.masked());
    for name in used.iter().filter(|name| !known.contains(&name.as_str())) {
        let problem = Problem::at(node.location(), format!("`execute_command` has no variable `{{{{ .{name} }}}}`"));
        reader.problems.add(match suggestion(name, known.iter().copied()) {
            _ if name == FILE => problem.hint("it needs `use_env_var_file: true`"),
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    if used.iter().any(|name| !known.contains(&name.as_str())) {
        return None;
    }
    if !used.iter().any(|name| name == "Path") {
        let problem = Problem::at(node.location(), "`execute_command` does not run the script");
        reader.problems.add(problem.hint("the script's path is `{{ .Path }}`"));
        return None;
    }
    Some(Text::new(masked, normalised(text.plain()).0, text.secrets().clone()))
}

/// The text with one space inside the braces of Go's variables, and their names.
pub(in crate::template) fn normalised(text: &str) -> (String, Vec<String>) {
    let mut names = Vec::new();
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once("{{") {
        result.push_str(before);
        match tag.split_once("}}").filter(|(inner, _)| is_go_variable(inner)) {
            Some((inner, after)) => {
                let name = inner.trim().trim_start_matches('.');
                result.push_str(&format!("{{{{ .{name} }}}}"));
                names.push(name.to_owned());
                rest = after;
            }
            None => {
                result.push_str("{{");
                rest = tag;
            }
        }
    }
    result.push_str(rest);
    (result, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_variables_get_one_spelling() {
        let (text, names) = normalised("a {{.Vars}} {{  .Path }} {{ x }} }} {{");
        assert_eq!(text, "a {{ .Vars }} {{ .Path }} {{ x }} }} {{");
        assert_eq!(names, ["Vars", "Path"]);
    }

    #[test]
    fn an_inline_script_may_bring_its_shebang() {
        let mut source = ShellSource::Inline(vec!["#!/bin/bash -eu\necho a".into(), "echo b".into()]);
        assert_eq!(own_shebang(&mut source).as_deref(), Some("#!/bin/bash -eu"));
        let ShellSource::Inline(lines) = source else { panic!("not inline") };
        assert_eq!(lines[0].plain(), "echo a");
    }
}
