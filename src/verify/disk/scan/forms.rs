//! How programs write a secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::utf8_percent_encode;

use crate::event::RESERVED;

/// A way to write a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Form {
    /// As it is.
    Plain,
    /// Base64 of a text that has it anywhere, with the standard's characters or those for URLs.
    Base64,
    /// As in a URL, with digits of either case.
    PercentEncoded,
    /// UTF-16, either byte order.
    Utf16,
    /// As in HTML and XML.
    Html,
    /// As in a JSON string.
    Json,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Base64 => "base64",
            Self::PercentEncoded => "percent-encoded",
            Self::Utf16 => "UTF-16",
            Self::Html => "HTML-escaped",
            Self::Json => "JSON-escaped",
        })
    }
}

/// The bytes of `secret` in every form, each once.
pub(super) fn of(secret: &str) -> Vec<(Form, Vec<u8>)> {
    let mut forms = vec![(Form::Plain, secret.as_bytes().to_vec())];
    forms.extend((0..3).flat_map(|before| base64(secret.as_bytes(), before)).map(|text| (Form::Base64, text)));
    forms.extend(percent_encoded(secret).map(|text| (Form::PercentEncoded, text.into_bytes())));
    forms.extend(utf16(secret).map(|bytes| (Form::Utf16, bytes)));
    forms.extend(html(secret).into_iter().map(|text| (Form::Html, text.into_bytes())));
    let json = serde_json::Value::from(secret).to_string();
    forms.push((Form::Json, json.as_bytes()[1..json.len() - 1].to_vec()));
    let mut seen = std::collections::HashSet::new();
    forms.retain(|(_, bytes)| seen.insert(bytes.clone()));
    forms
}

/// The characters that base64 has for `secret` wherever `before` bytes (modulo 3) stand before it:
/// those that depend on nothing else, so neither on what follows nor on padding.
fn base64(secret: &[u8], before: usize) -> [Vec<u8>; 2] {
    let text = [&[0; 2][..before], secret].concat();
    // A character stands for 6 bits.
    let (start, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
    [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)].map(|text| text.as_bytes()[start..end].to_vec())
}

fn percent_encoded(secret: &str) -> [String; 2] {
    let upper = utf8_percent_encode(secret, RESERVED).to_string();
    let mut pieces = upper.split('%');
    let mut lower = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    [upper, lower]
}

/// Without the zero at one end, which the rest of the text may not have; most secrets are then the same
/// in both byte orders.
fn utf16(secret: &str) -> [Vec<u8>; 2] {
    let units = || secret.encode_utf16();
    let mut little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let mut big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    if little.last() == Some(&0) {
        little.pop();
    }
    if big.first() == Some(&0) {
        big.remove(0);
    }
    [little, big]
}

/// What programs escape in text, in attributes, and how they write the quotes.
fn html(secret: &str) -> Vec<String> {
    let text = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut forms = vec![text.clone()];
    for double in ["\"", "&quot;", "&#34;"] {
        for single in ["'", "&#39;", "&#x27;", "&apos;"] {
            forms.push(text.replace('"', double).replace('\'', single));
        }
    }
    forms
}
