//! The command line of a shell step.

use crate::error::{Error, Result};

/// `command` with `{{ .Name }}` replaced by what `value` gives for the name, of which there are those in `known`; spaces
/// inside the braces do not matter.
///
/// # Errors
/// A name that `value` does not know, or braces that are not closed.
pub(crate) fn fill<'a>(command: &str, known: &str, value: impl Fn(&str) -> Option<&'a str>) -> Result<String> {
    let mut out = String::with_capacity(command.len());
    let mut rest = command;
    while let Some((before, after)) = rest.split_once("{{") {
        let fault = |text: &str| Error::usage(format!("{text} in execute_command")).hint(format!("known are {known}"));
        let (inside, after) = after.split_once("}}").ok_or_else(|| fault("`{{` is not closed"))?;
        let name = inside.trim().strip_prefix('.').unwrap_or_default();
        let value = value(name).ok_or_else(|| fault(&format!("unknown variable `{{{{{inside}}}}}`")))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(command: &str) -> Result<String> {
        fill(command, "{{ .Path }} and {{ .Vars }}", |name| match name {
            "Path" => Some("/tmp/s.sh"),
            "Vars" => Some("A='1' "),
            _ => None,
        })
    }

    #[test]
    fn both_spellings_are_replaced() {
        assert_eq!(
            filled("chmod +x {{ .Path }}; {{.Vars}} {{.Path}}").unwrap(),
            "chmod +x /tmp/s.sh; A='1'  /tmp/s.sh"
        );
        assert_eq!(filled("true").unwrap(), "true");
    }

    #[test]
    fn what_is_unknown_or_open_is_refused() {
        assert_eq!(filled("{{ .Foo }}").unwrap_err().to_string(), "unknown variable `{{ .Foo }}` in execute_command");
        assert_eq!(filled("{{ Path }}").unwrap_err().to_string(), "unknown variable `{{ Path }}` in execute_command");
        assert_eq!(filled("a {{ .Path").unwrap_err().to_string(), "`{{` is not closed in execute_command");
    }
}
