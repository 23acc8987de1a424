//! The command line that does the same again, for the report of a failure.

use std::any::TypeId;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use secrecy::SecretString;

use crate::shell_word::word;

/// `visabuild build` with the options of `matches`, of which `command` has the names. Secrets stand there as variables:
/// they are in no report, and a shell fills them in. What came from a variable and is no secret is written out.
pub(super) fn command_line(command: &Command, matches: &ArgMatches) -> String {
    let mut words = vec!["visabuild".to_owned(), command.get_name().to_owned()];
    let given = |argument: &&Arg| {
        let source = matches.try_contains_id(argument.get_id().as_str()).ok().filter(|there| *there);
        let source = source.and_then(|_| matches.value_source(argument.get_id().as_str()));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    // What has no name comes last, in case an option takes any number of values.
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(given).partition(|argument| argument.is_positional());
    for argument in options.into_iter().chain(positional) {
        words.extend(written(argument, matches));
    }
    words.join(" ")
}

/// An argument as it is written on a command line.
fn written(argument: &Arg, matches: &ArgMatches) -> Vec<String> {
    let name = argument.get_long().map(|long| format!("--{long}"));
    if !argument.get_action().takes_values() {
        return name.into_iter().collect();
    }
    let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
    let values = values.map(|value| shown(argument, &value.to_string_lossy()));
    values.flat_map(|value| name.iter().cloned().chain([value])).collect()
}

fn shown(argument: &Arg, value: &str) -> String {
    // A URL with a user's name in it may have a password too.
    let secret = argument.get_value_parser().type_id() == TypeId::of::<SecretString>()
        || (value.contains("://") && value.contains('@'));
    match argument.get_env().filter(|_| secret) {
        Some(variable) => format!("\"${}\"", variable.to_string_lossy()),
        None if secret => "\"$SECRET\"".to_owned(),
        None => word(value).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::argv;

    fn again(line: &[&str]) -> String {
        let command = super::super::command_line();
        let argv = argv::normalize(line.iter().map(Into::into), &command);
        let matches = command.clone().try_get_matches_from(argv).unwrap();
        let (name, matches) = matches.subcommand().unwrap();
        super::command_line(command.find_subcommand(name).unwrap(), matches)
    }

    #[test]
    fn options_are_written_as_they_were_given_and_defaults_left_out() {
        let line =
            ["visabuild", "-C", "my project", "-nh", "--engine=nspawn", "--ca-cert", "a", "--ca-cert", "b", "x", "y"];
        assert_eq!(
            again(&line),
            "visabuild build --directory 'my project' --ca-cert a --ca-cert b --not-headless --engine nspawn x y"
        );
    }

    #[test]
    fn secrets_stay_variables() {
        let line = ["visabuild", "build", "-rp", "geheim", "-hp", "http://u:p@proxy:3128"];
        assert_eq!(
            again(&line),
            "visabuild build --root-password \"$VISA_ROOT_PASSWORD\" --http-proxy \"$VISA_HTTP_PROXY\""
        );
    }
}
