//! Encodings and digests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Given, string};
use crate::packer::value::Value;

/// What stays in a query, beside letters and digits (Go's `url.QueryEscape`).
const QUERY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

pub(super) fn call(name: &str, arguments: &[Value]) -> Option<Given> {
    let [value] = arguments else { return None };
    Some(match name {
        "jsonencode" => Ok(Value::from(value.to_json().to_string())),
        "jsondecode" => string(value)
            .and_then(|text| serde_json::from_str(&text).map(Value::from_json).map_err(|error| error.to_string())),
        "yamlencode" => {
            let mut text = String::new();
            yaml_text(&value.to_json(), 0, &mut text);
            Ok(Value::from(text))
        }
        "yamldecode" => string(value).and_then(|text| yaml(&text)),
        "base64encode" => string(value).map(|text| Value::from(STANDARD.encode(text))),
        "base64decode" => string(value).and_then(|text| {
            let bytes = STANDARD.decode(&text).map_err(|error| error.to_string())?;
            String::from_utf8(bytes).map(Value::from).map_err(|_| "not UTF-8 text".to_owned())
        }),
        "urlencode" => {
            string(value).map(|text| Value::from(utf8_percent_encode(&text, &QUERY).to_string().replace(' ', "+")))
        }
        "md5" => string(value).map(|text| digest::<md5::Md5>(&text)),
        "sha1" => string(value).map(|text| digest::<sha1::Sha1>(&text)),
        "sha256" => string(value).map(|text| digest::<sha2::Sha256>(&text)),
        "sha512" => string(value).map(|text| digest::<sha2::Sha512>(&text)),
        _ => return None,
    })
}

/// YAML as HCL's `yamlencode` writes it: strings and keys in quotes, so that none becomes a number, a truth or a date.
/// A value that is a mapping or a list begins where the text is.
fn yaml_text(value: &serde_json::Value, indent: usize, out: &mut String) {
    use serde_json::Value as Json;
    let begin = |at: usize, out: &mut String| {
        if at > 0 {
            out.push_str(&" ".repeat(indent));
        }
    };
    match value {
        Json::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                begin(at, out);
                out.push_str("- ");
                yaml_text(item, indent + 2, out);
            }
        }
        Json::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in map.iter().enumerate() {
                begin(at, out);
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push(':');
                let inner = match value {
                    Json::Array(items) if !items.is_empty() => indent,
                    Json::Object(map) if !map.is_empty() => indent + 2,
                    _ => {
                        out.push(' ');
                        yaml_text(value, indent, out);
                        continue;
                    }
                };
                out.push('\n');
                out.push_str(&" ".repeat(inner));
                yaml_text(value, inner, out);
            }
        }
        // What is left is written as in JSON.
        scalar => {
            out.push_str(&scalar.to_string());
            out.push('\n');
        }
    }
}

fn digest<D: Digest>(text: &str) -> Value {
    Value::from(D::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// visabuild's own reader of YAML bounds nesting and aliases.
fn yaml(text: &str) -> Given {
    use crate::template::yaml::{Content, Kind, Node, parse};
    fn value(node: &Node) -> Value {
        match &node.content {
            Content::Null => Value::Null,
            Content::Scalar { text, kind: Kind::Boolean } => Value::Bool(text == "true"),
            Content::Scalar { text, kind: Kind::Number } => Value::from_digits(text),
            Content::Scalar { text, .. } => Value::from(text.as_str()),
            Content::List(items) => Value::List(items.iter().map(value).collect()),
            Content::Map(entries) => {
                Value::Map(entries.iter().map(|entry| (entry.key.clone(), value(&entry.value))).collect())
            }
        }
    }
    match parse(std::path::Path::new("text"), text.to_owned()) {
        Ok(node) => Ok(node.as_ref().map_or(Value::Null, value)),
        Err(problems) => Err(problems.first().map_or_else(String::new, |problem| problem.message.clone())),
    }
}
