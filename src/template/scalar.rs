//! Scalars as Packer writes them: sizes, durations, modes, numbers and booleans in strings.

use std::time::Duration;

/// What a scalar should have been, with an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) what: &'static str,
    pub(crate) hint: &'static str,
}

const MIB: u64 = 1 << 20;

/// `true`, `yes`, `on`, `1` and their opposites in any case (YAML 1.1 and Go's `ParseBool`).
pub(crate) fn boolean(text: &str) -> Result<bool, Expected> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Expected { what: "a boolean", hint: "write `true` or `false`" }),
    }
}

/// A whole number from 1, such as memory in MiB.
pub(crate) fn count<T: TryFrom<u64>>(text: &str) -> Result<T, Expected> {
    let expected = Expected { what: "a whole number from 1", hint: "write it without a unit, like `4096`" };
    let number = text.trim().parse::<u64>().map_err(|_| expected)?;
    if number == 0 {
        return Err(expected);
    }
    T::try_from(number).map_err(|_| expected)
}

/// How often something is tried again.
pub(crate) fn retries(text: &str) -> Result<u32, Expected> {
    text.trim()
        .parse()
        .map_err(|_| Expected { what: "a whole number", hint: "write how many further attempts, like `3`" })
}

/// An exit code.
pub(crate) fn exit_code(text: &str) -> Result<u32, Expected> {
    let expected = Expected { what: "an exit code", hint: "write a number from 0 to 255" };
    text.trim().parse().ok().filter(|code| *code <= 255).ok_or(expected)
}

/// Bytes, from digits with an optional `b`, `k`, `m`, `g` or `t`; MiB without a unit, as Packer has it.
pub(crate) fn size(text: &str) -> Result<u64, Expected> {
    let expected = Expected { what: "a size", hint: "write it like `10G`, `40960M` or `40960` (MiB)" };
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "m" => MIB,
        "b" => 1,
        "k" => 1 << 10,
        "g" => MIB << 10,
        "t" => MIB << 20,
        _ => return Err(expected),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected);
    }
    let number = digits.parse::<u64>().map_err(|_| expected)?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or(expected)
}

/// Permission bits in octal: `"0644"`, `0644`, `644` or `0o644`.
pub(crate) fn mode(text: &str) -> Result<u32, Expected> {
    let expected = Expected { what: "a file mode", hint: "write it in octal, like `\"0644\"`" };
    let text = text.trim();
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected);
    }
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777).ok_or(expected)
}

/// A duration in Go's form: decimal numbers each with a unit, such as `1m30s` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, Expected> {
    let expected = Expected { what: "a duration", hint: "write it with a unit, like `30s`, `5m` or `1m30s`" };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(expected);
    }
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        let unit = leading(&rest[number.len()..], |c| !c.is_ascii_digit() && c != '.');
        let value = number.parse::<f64>().map_err(|_| expected)?;
        seconds += value * unit_seconds(unit).ok_or(expected)?;
        rest = &rest[number.len() + unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| expected)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

/// A word that is passed to a program: not empty, no space or comma, not an option.
pub(crate) fn word(text: &str) -> Result<String, Expected> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',';
    if text.is_empty() || text.starts_with('-') || text.contains(bad) {
        return Err(Expected {
            what: "one word",
            hint: "write a name without spaces or commas, not beginning with `-`",
        });
    }
    Ok(text.to_owned())
}

/// A QEMU CPU model with its features, such as `max,-svm`.
pub(crate) fn cpu_model(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.starts_with('-') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Expected { what: "a CPU model", hint: "write it as QEMU's `-cpu` takes it, like `max`" });
    }
    Ok(text.to_owned())
}

/// A name that can be a template variable and a shell variable.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10G", 10 << 30),
            ("40960M", 40960 << 20),
            ("10240", 10240 << 20),
            ("1t", 1 << 40),
            ("512k", 512 << 10),
            ("4096b", 4096),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "10GB", "1.5G", "-1G", "+1", "0", "99999999999999999999", "99999999t", "10 G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "-1s", "s", "1x", "1..s", "1s1", "1e5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal_however_they_are_written() {
        for text in ["0644", "644", "0o644"] {
            assert_eq!(mode(text), Ok(0o644), "{text}");
        }
        assert_eq!(mode("1777"), Ok(0o1777));
        for text in ["", "0o", "9", "420x", "17777", "u+x", "+7"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_booleans_come_as_strings() {
        assert_eq!(count::<u64>("4096"), Ok(4096));
        assert!(count::<u64>("0").is_err() && count::<u32>("4294967296").is_err() && count::<u64>("4G").is_err());
        assert_eq!(["yes", "True", "on", "1"].map(boolean), [Ok(true); 4]);
        assert_eq!(["no", "FALSE", "off", "0"].map(boolean), [Ok(false); 4]);
        assert!(boolean("y").is_err() && boolean("").is_err());
        assert_eq!(exit_code("0"), Ok(0));
        assert!(exit_code("256").is_err() && exit_code("-1").is_err());
    }

    #[test]
    fn words_are_no_options() {
        assert_eq!(word("main").as_deref(), Ok("main"));
        for text in ["", "-o", "a b", "a,b", "a\n"] {
            assert!(word(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panic(text in "\\PC*|[0-9.a-zµ]*") {
            let _ = (boolean(&text), count::<u32>(&text), exit_code(&text), size(&text), mode(&text), duration(&text), word(&text));
        }
    }
}
