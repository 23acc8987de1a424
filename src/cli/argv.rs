//! The command line before clap sees it.
//!
//! clap has no options of two letters after one hyphen, so `-pp PATH` becomes
//! `--pam-public=PATH`. And no command named means `build`: the command's word is moved to (or put
//! at) the front, so that options may stand before it.

use std::ffi::{OsStr, OsString};

/// Short spelling, long option, and whether a value follows.
const SPELLINGS: [(&str, &str, bool); 5] = [
    ("-pp", "--pam-public", true),
    ("-rp", "--root-password", true),
    ("-hp", "--http-proxy", true),
    ("-np", "--no-proxy", true),
    ("-nh", "--not-headless", false),
];

/// Rewrites `argv` (program name first) for `command`.
pub fn normalize(argv: impl IntoIterator<Item = OsString>, command: &clap::Command) -> Vec<OsString> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| "visabuild".into());
    let mut words: Vec<OsString> = argv.collect();
    // packme's options are others: its `-rp DIR` is `-r -p DIR`.
    if words.first().is_none_or(|word| word != "packme") {
        words = rewrite_spellings(words.into_iter());
    }
    match find_command(&words, command) {
        Found::Command(index) => {
            let word = words.remove(index);
            words.insert(0, word);
        }
        Found::Nothing => words.insert(0, "build".into()),
        Found::TopLevel => {}
    }
    words.insert(0, program);
    words
}

fn rewrite_spellings(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words);
            break;
        }
        out.push(match SPELLINGS.iter().find(|(short, ..)| matches_spelling(&word, short)) {
            Some((short, long, true)) => with_value(&word, short, long, &mut words),
            Some((_, long, false)) => (*long).into(),
            None => word,
        });
    }
    out
}

/// `-pp` or `-pp=VALUE`.
fn matches_spelling(word: &OsStr, short: &str) -> bool {
    let word = word.as_encoded_bytes();
    word.strip_prefix(short.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
}

/// `--long=VALUE`, so that a value which begins with a hyphen stays one.
fn with_value(word: &OsStr, short: &str, long: &str, words: &mut impl Iterator<Item = OsString>) -> OsString {
    let mut out = OsString::from(long);
    if word.len() > short.len() {
        // What matched is ASCII, so the rest is again a valid string of the platform's encoding.
        let rest = word.to_string_lossy();
        out.push(&rest[short.len()..]);
        return out;
    }
    if let Some(value) = words.next() {
        out.push("=");
        out.push(value);
    }
    out
}

enum Found {
    /// A command's word is at this index.
    Command(usize),
    /// There is none, and none of the options that work without one.
    Nothing,
    /// `--help` or `--version` without a command.
    TopLevel,
}

fn find_command(words: &[OsString], command: &clap::Command) -> Found {
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let word = word.to_string_lossy();
        match word.as_ref() {
            "--" => return Found::Nothing,
            "-h" | "--help" | "-V" | "--version" => return Found::TopLevel,
            option if option.starts_with('-') && option.len() > 1 => {
                let next = words.get(index + 1).map(|word| word.to_string_lossy());
                index += if takes_next_word(option, next.as_deref(), command) { 2 } else { 1 };
            }
            name if name == "help" || command.find_subcommand(name).is_some() => return Found::Command(index),
            _ => return Found::Nothing,
        }
    }
    Found::Nothing
}

/// Whether an option takes the next word as its value: for the command that this word is, else for any.
fn takes_next_word(option: &str, next: Option<&str>, command: &clap::Command) -> bool {
    let takes_value = |argument: &clap::Arg| argument.get_num_args().is_none_or(|range| range.takes_values());
    let named = |argument: &clap::Arg| match option.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => option.len() == 2 && argument.get_short() == option.chars().nth(1),
    };
    let of_next = next.and_then(|name| command.find_subcommand(name));
    if let Some(argument) = of_next.and_then(|command| command.get_arguments().find(|argument| named(argument))) {
        return takes_value(argument);
    }
    command.get_subcommands().flat_map(clap::Command::get_arguments).any(|arg| named(arg) && takes_value(arg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory;
    use proptest::prelude::*;

    fn normalized(words: &[&str]) -> Vec<String> {
        let mut command = Cli::command();
        command.build();
        normalize(words.iter().map(OsString::from), &command)
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn two_letter_spellings_become_long_options() {
        assert_eq!(
            normalized(&["v", "-pp", "k.pub", "-rp", "-secret", "-nh", "-hp=http://p:1", "-np", "a,b"]),
            [
                "v",
                "build",
                "--pam-public=k.pub",
                "--root-password=-secret",
                "--not-headless",
                "--http-proxy=http://p:1",
                "--no-proxy=a,b"
            ]
        );
    }

    #[test]
    fn no_command_means_build_and_options_may_stand_before_one() {
        assert_eq!(normalized(&["v"]), ["v", "build"]);
        assert_eq!(normalized(&["v", "visa-apps"]), ["v", "build", "visa-apps"]);
        assert_eq!(normalized(&["v", "--cpus", "2", "plan", "x"]), ["v", "plan", "--cpus", "2", "x"]);
        assert_eq!(normalized(&["v", "build", "plan"]), ["v", "build", "plan"]);
        assert_eq!(normalized(&["v", "--force", "plan"]), ["v", "plan", "--force"]);
        // Of two commands one has it with a value and one without.
        assert_eq!(normalized(&["v", "--keep", "verify", "x"]), ["v", "verify", "--keep", "x"]);
        assert_eq!(normalized(&["v", "--keep", "2", "prune"]), ["v", "prune", "--keep", "2"]);
        assert_eq!(normalized(&["v", "--", "plan"]), ["v", "build", "--", "plan"]);
    }

    #[test]
    fn packmes_options_stay_as_they_are() {
        assert_eq!(normalized(&["v", "packme", "-rp", "packages"]), ["v", "packme", "-rp", "packages"]);
    }

    #[test]
    fn help_and_version_need_no_command() {
        assert_eq!(normalized(&["v", "--help"]), ["v", "--help"]);
        assert_eq!(normalized(&["v", "-V"]), ["v", "-V"]);
        assert_eq!(normalized(&["v", "plan", "--help"]), ["v", "plan", "--help"]);
    }

    #[test]
    fn nothing_is_rewritten_after_two_hyphens() {
        assert_eq!(normalized(&["v", "build", "--", "-pp"]), ["v", "build", "--", "-pp"]);
    }

    proptest! {
        #[test]
        fn any_words_are_taken(words in prop::collection::vec("[-a-z=]{0,6}", 0..6)) {
            let words: Vec<&str> = std::iter::once("v").chain(words.iter().map(String::as_str)).collect();
            prop_assert!(!normalized(&words).is_empty());
        }
    }
}
