//! The environment of a shell step, in the guest or on the host.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::shell_word::quote;
use crate::template::Text;

/// Variables of a shell step, sorted by name; of a name that comes twice, the last one counts.
#[derive(Debug)]
pub(crate) struct Environment<'a> {
    values: BTreeMap<&'a str, &'a Text>,
}

impl<'a> Environment<'a> {
    /// # Errors
    /// A name that a shell cannot use, or a value with a NUL.
    pub(crate) fn new(variables: impl IntoIterator<Item = (&'a str, &'a Text)>) -> Result<Self> {
        let values: BTreeMap<_, _> = variables.into_iter().collect();
        for (name, value) in &values {
            if !is_name(name) {
                return Err(Error::usage(format!("`{name}` cannot be the name of an environment variable")));
            }
            if value.plain().contains('\0') {
                return Err(Error::usage(format!("the environment variable `{name}` contains a NUL character")));
            }
        }
        Ok(Self { values })
    }

    /// Whether a value must not be on a command line, where everybody in the guest can read it.
    pub(crate) fn is_secret(&self) -> bool {
        self.values.values().any(|value| !value.secrets().is_empty())
    }

    /// `NAME='value' ` for each variable: the prefix of a command, or arguments of env(1).
    pub(crate) fn words(&self) -> String {
        self.values.iter().map(|(name, value)| format!("{name}={} ", quote(value.plain()))).collect()
    }

    /// A script for a file at `path` that sets the variables and removes itself. Sourced, that is
    /// all; run with a command as its arguments, it becomes that command. So the words
    /// `/bin/sh PATH` can stand wherever [`Environment::words`] can.
    pub(crate) fn script(&self, path: &str) -> String {
        let exports: String =
            self.values.iter().map(|(name, value)| format!("export {name}={}\n", quote(value.plain()))).collect();
        format!("{exports}rm -f -- {}\nif [ $# -gt 0 ]; then exec \"$@\"; fi\n", quote(path))
    }
}

/// A name of POSIX.1-2024, Base Definitions, 3.216.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn read_back(command: &mut Command) -> String {
        let output = command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn values_come_through_a_real_shell_in_all_three_forms(value in "[^\0]{0,60}") {
            let text = Text::public(value.clone());
            let environment = Environment::new([("V_1", &text)]).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("it's.sh").to_str().unwrap().to_owned();
            let print = r#"printf %s "$V_1""#;

            let words = format!("{}/bin/sh -c {}", environment.words(), quote(print));
            prop_assert_eq!(&read_back(Command::new("/bin/sh").args(["-c", &words])), &value);

            std::fs::write(&path, environment.script(&path)).unwrap();
            prop_assert_eq!(&read_back(Command::new("/bin/sh").args([&path, "/bin/sh", "-c", print])), &value);
            prop_assert!(!std::path::Path::new(&path).exists());

            std::fs::write(&path, environment.script(&path)).unwrap();
            let source = format!(". {} && {print}", quote(&path));
            prop_assert_eq!(&read_back(Command::new("/bin/sh").args(["-c", &source])), &value);
            prop_assert!(!std::path::Path::new(&path).exists());
        }
    }

    #[test]
    fn the_last_of_a_name_counts_and_order_is_by_name() {
        let (one, two) = (Text::public("1"), Text::public("2"));
        let environment = Environment::new([("B", &one), ("A", &one), ("B", &two)]).unwrap();
        assert_eq!(environment.words(), "A='1' B='2' ");
    }

    #[test]
    fn names_that_a_shell_cannot_use_are_refused() {
        for name in ["", "1A", "A-B", "A B", "É"] {
            let error = Environment::new([(name, &Text::public("x"))]).unwrap_err();
            assert_eq!(error.to_string(), format!("`{name}` cannot be the name of an environment variable"));
        }
        assert!(Environment::new([("A", &Text::public("x\0"))]).is_err());
    }
}
