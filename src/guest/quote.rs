//! Quoting for a POSIX shell.

/// `text` as one word of a POSIX shell: in single quotes, a single quote itself as `'"'"'`
/// (POSIX.1-2024, Shell Command Language, 2.2.2). A NUL cannot be in a shell's word.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_reads_back_what_was_quoted(words in prop::collection::vec("[^\0]{0,40}", 0..5)) {
            let command = words.iter().fold("printf '%s\\0'".to_owned(), |line, word| line + " " + &quote(word));
            let output = Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
            let mut expected = words.iter().fold(String::new(), |text, word| text + word + "\0");
            if words.is_empty() {
                expected.push('\0');
            }
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
