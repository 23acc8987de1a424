//! What a YAML scalar is to packme: PyYAML follows YAML 1.1 (<https://yaml.org/type/>), where `yes` is a boolean and
//! `0644` is octal, and Python says how a value becomes text.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Number;

use crate::template::yaml::{Content, Kind, Node};

/// The forms of YAML 1.1 that are numbers, each whole.
static INTEGER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let form = r"^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*(?::[0-5]?[0-9])*|0x[0-9a-fA-F_]+)$";
    Regex::new(form).ok()
});
static FLOAT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let sexagesimal = r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*";
    let decimal = r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?";
    Regex::new(&format!("^(?:{sexagesimal}|{decimal})$")).ok()
});

/// A scalar as packme sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Boolean(bool),
    Integer(i128),
    Float(f64),
    /// Everything else as it is written, also what PyYAML takes for a date: JSON has none.
    Text(String),
}

impl Scalar {
    /// What `node` is; none when it is no scalar.
    pub(super) fn of(node: &Node) -> Option<Self> {
        match &node.content {
            Content::Scalar { text, kind } if node.is_plain() || *kind != Kind::String => Some(Self::plain(text)),
            Content::Scalar { text, .. } => Some(Self::Text(text.clone())),
            _ => None,
        }
    }

    /// What a scalar without quotes is.
    fn plain(text: &str) -> Self {
        match text {
            "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Self::Boolean(true),
            "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Self::Boolean(false),
            _ => {}
        }
        let is = |form: &LazyLock<Option<Regex>>| form.as_ref().is_some_and(|form| form.is_match(text));
        let number = if is(&INTEGER) {
            integer(text).map(Self::Integer)
        } else if is(&FLOAT) {
            float(text).map(Self::Float)
        } else {
            None
        };
        number.unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// As Python's `str` writes it.
    pub(super) fn printed(&self) -> String {
        match self {
            Self::Boolean(true) => "True".to_owned(),
            Self::Boolean(false) => "False".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => float_text(*number),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The sign and the digits, `_` left out.
fn signed(text: &str) -> (i8, String) {
    let digits = text.trim_start_matches(['-', '+']).replace('_', "");
    (if text.starts_with('-') { -1 } else { 1 }, digits)
}

fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = signed(text);
    let number = if let Some(binary) = digits.strip_prefix("0b") {
        i128::from_str_radix(binary, 2).ok()?
    } else if let Some(hexadecimal) = digits.strip_prefix("0x") {
        i128::from_str_radix(hexadecimal, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits, 8).ok()?
    } else {
        digits.split(':').try_fold(0_i128, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))?
    };
    Some(i128::from(sign) * number)
}

fn float(text: &str) -> Option<f64> {
    let (sign, digits) = signed(text);
    let parts = digits.split(':').map(|part| part.trim_end_matches('.').parse::<f64>().ok());
    let number = parts.collect::<Option<Vec<f64>>>()?.into_iter().fold(0.0, |sum, part| sum * 60.0 + part);
    Some(f64::from(sign) * number)
}

/// A float as Python's `repr` has it: the shortest that is read back, an exponent of two digits at least.
pub(super) fn float_text(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// An integer for JSON; none where it is too large for 64 bits.
pub(super) fn json_integer(number: i128) -> Option<Number> {
    i64::try_from(number).map(Number::from).or_else(|_| u64::try_from(number).map(Number::from)).ok()
}

/// A value of environment.yml as the text that templates get: Python's, but versions, modes and times (`1.10`, `0644`,
/// `12:30`) as they are written, and nothing where nothing is.
pub(super) fn variable(node: &Node) -> String {
    match &node.content {
        Content::Null => String::new(),
        Content::Scalar { text, .. }
            if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':')) =>
        {
            text.clone()
        }
        Content::Scalar { text, .. } => Scalar::of(node).map_or_else(|| text.clone(), |scalar| scalar.printed()),
        Content::List(_) | Content::Map(_) => representation(node),
    }
}

/// As Python's `repr` writes it.
fn representation(node: &Node) -> String {
    match &node.content {
        Content::Null => "None".to_owned(),
        Content::Scalar { text, .. } => match Scalar::of(node) {
            Some(Scalar::Text(text)) => quoted(&text),
            Some(scalar) => scalar.printed(),
            None => quoted(text),
        },
        Content::List(items) => format!("[{}]", items.iter().map(representation).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let entries =
                entries.iter().map(|entry| format!("{}: {}", quoted(&entry.key), representation(&entry.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A string in Python's quotes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn yaml_1_1_decides_what_a_scalar_is() {
        for (text, expected) in [
            ("yes", Scalar::Boolean(true)),
            ("Off", Scalar::Boolean(false)),
            ("y", Scalar::Text("y".into())),
            ("0644", Scalar::Integer(420)),
            ("0o644", Scalar::Text("0o644".into())),
            ("0x1F", Scalar::Integer(31)),
            ("-0b11", Scalar::Integer(-3)),
            ("1_000", Scalar::Integer(1000)),
            ("12:30", Scalar::Integer(750)),
            ("08", Scalar::Text("08".into())),
            ("1e3", Scalar::Text("1e3".into())),
            ("1.5e+3", Scalar::Float(1500.0)),
            ("1.10", Scalar::Float(1.1)),
            (".5", Scalar::Float(0.5)),
            ("1.", Scalar::Float(1.0)),
            ("1:30.5", Scalar::Float(90.5)),
            ("2024-01-02", Scalar::Text("2024-01-02".into())),
            (".", Scalar::Text(".".into())),
        ] {
            assert_eq!(Scalar::plain(text), expected, "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [(1.0, "1.0"), (1e16, "1e+16"), (1.5e-7, "1.5e-07"), (0.0001, "0.0001")] {
            assert_eq!(float_text(number), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_something(text in "\\PC*|[-+0-9._:ex]*") {
            let _ = Scalar::plain(&text).printed();
        }
    }
}
