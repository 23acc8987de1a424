//! Words of a POSIX shell's command line: the one place where text is quoted for it.

use std::borrow::Cow;

/// `text` as one word of a POSIX shell: always in single quotes, a single quote itself as `'"'"'`
/// (POSIX.1-2024, Shell Command Language, 2.2.2). A NUL cannot be in a shell's word.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
}

/// `text` as people would write it on a command line: in quotes only where it has to be.
pub fn word(text: &str) -> Cow<'_, str> {
    // Only a NUL cannot be quoted, and no argument and no path has one.
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}

/// A command line of these words.
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn a_single_quote_is_quoted_as_packer_does() {
        assert_eq!(quote("o'neil"), r#"'o'"'"'neil'"#);
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn people_quote_only_what_needs_it() {
        assert_eq!(line(["visabuild", "-C", "my project", ""]), "visabuild -C 'my project' ''");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_reads_back_what_was_quoted(words in prop::collection::vec("[^\0]{0,40}", 0..5)) {
            let mut expected = words.iter().fold(String::new(), |text, word| text + word + "\0");
            if words.is_empty() {
                expected.push('\0');
            }
            let always = words.iter().fold("printf '%s\\0'".to_owned(), |line, word| line + " " + &quote(word));
            let needed = format!("printf '%s\\0' {}", line(words.iter().map(String::as_str)));
            for command in [always, needed] {
                let output = Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
                prop_assert_eq!(&String::from_utf8(output.stdout).unwrap(), &expected);
            }
        }
    }
}
