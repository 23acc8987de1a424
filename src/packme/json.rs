//! JSON as Python's `json.dump` writes it with `indent=4`: nothing beyond ASCII, floats as Python has them. So a
//! manifest.json in version control does not change when visabuild writes it.

use std::fmt::Write;

use serde_json::Value;

use super::scalar::float_text;

/// The text of `value`, without a newline at its end, as packme leaves it.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&float_text(float)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(out, text),
        Value::Array(items) => write_items(out, ['[', ']'], depth, items, |out, item| {
            write_value(out, item, depth + 1);
        }),
        Value::Object(map) => write_items(out, ['{', '}'], depth, map, |out, (key, value)| {
            write_string(out, key);
            out.push_str(": ");
            write_value(out, value, depth + 1);
        }),
    }
}

fn write_items<T>(
    out: &mut String,
    brackets: [char; 2],
    depth: usize,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push(brackets[0]);
    let mut empty = true;
    for item in items {
        if !empty {
            out.push(',');
        }
        empty = false;
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth + 1));
        write(out, item);
    }
    if !empty {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    }
    out.push(brackets[1]);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn is_as_python_writes_it() {
        let value = json!({ "a": [], "b": {}, "c": [1, 1.0, 1e20, true, null], "d": "é\u{7f}😀\n\"\\" });
        let expected = "{\n    \"a\": [],\n    \"b\": {},\n    \"c\": [\n        1,\n        1.0,\n        1e+20,\n        \
            true,\n        null\n    ],\n    \"d\": \"\\u00e9\\u007f\\ud83d\\ude00\\n\\\"\\\\\"\n}";
        assert_eq!(text(&value), expected);
    }

    proptest! {
        #[test]
        fn is_read_back(key in "\\PC*", value in any::<String>(), number in any::<i64>()) {
            let value = json!({ key: [value, number] });
            let read: Value = serde_json::from_str(&text(&value)).unwrap();
            prop_assert_eq!(read.to_string(), value.to_string());
        }
    }
}
