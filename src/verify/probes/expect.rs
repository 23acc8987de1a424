//! Judging a text by what is expected of it.

use std::collections::BTreeMap;

use regex::RegexBuilder;

use crate::verify::contract::{Expect, variables};

/// Longest text that is shown of what was seen, characters.
const SHOWN: usize = 4000;

/// What was expected and is not so: a sentence fragment; none if all is so.
pub(super) fn unmet(expect: &Expect, text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let plain = |wanted: &str| variables::fill(wanted, values, str::to_owned);
    let pattern = |wanted: &str| {
        let filled = variables::fill(wanted, values, regex::escape);
        // Patterns were tried when the contract was read.
        RegexBuilder::new(&filled).multi_line(true).build().ok()
    };
    if let Some(wanted) = &expect.equals
        && plain(wanted).trim() != text.trim()
    {
        return Some(if plain(wanted).trim().is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", plain(wanted))
        });
    }
    let contains = expect.contains.iter().map(|wanted| plain(wanted)).find(|wanted| !text.contains(wanted.as_str()));
    let matches = expect.matches.iter().find(|wanted| !pattern(wanted).is_some_and(|regex| regex.is_match(text)));
    let excludes = expect.excludes.iter().find(|wanted| pattern(wanted).is_none_or(|regex| regex.is_match(text)));
    contains
        .map(|wanted| format!("`{wanted}` in it"))
        .or_else(|| matches.map(|wanted| format!("a match of `{wanted}`")))
        .or_else(|| excludes.map(|wanted| format!("no match of `{wanted}`")))
}

/// A text as it is shown: not empty, and not endless.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        _ if text.is_empty() => "nothing".to_owned(),
        None => text.to_owned(),
        Some((at, _)) => format!("{} … ({} bytes)", &text[..at], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        BTreeMap::from([("owner".to_owned(), "a.b".to_owned())])
    }

    #[test]
    fn each_kind_of_expectation_is_judged() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let cases = [
            (Expect { equals: Some("{{ owner }}".into()), ..Expect::default() }, " a.b\n", None),
            (Expect { equals: Some(String::new()), ..Expect::default() }, "x", Some("nothing")),
            (Expect { contains: texts(&["b"]), ..Expect::default() }, "a", Some("`b` in it")),
            (Expect { matches: texts(&["^{{ owner }}$"]), ..Expect::default() }, "x\na.b\n", None),
            (
                Expect { matches: texts(&["^{{ owner }}$"]), ..Expect::default() },
                "aXb",
                Some("a match of `^{{ owner }}$`"),
            ),
            (Expect { excludes: texts(&["^b"]), ..Expect::default() }, "a\nb", Some("no match of `^b`")),
            (Expect::default(), "anything", None),
        ];
        for (expect, text, result) in cases {
            assert_eq!(unmet(&expect, text, &values()).as_deref(), result, "{expect:?} {text}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown("  "), "nothing");
        assert!(shown(&"é".repeat(5000)).ends_with("é … (10000 bytes)"));
    }
}
