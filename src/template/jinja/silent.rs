//! Expressions that tera renders otherwise than Jinja2 without saying so: they are refused, because the same template
//! would make another image with packme.
//!
//! What is printed, and what loops go over, is known only when it is computed. So the text is rendered once more with a
//! filter of our own behind each of them, which looks and changes nothing.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tera::{Kwargs, State, Tera, Value};

use super::scan;

const PRINTED: &str = "__printed";
const ITERATED: &str = "__iterated";

/// Where tera would differ, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Difference {
    /// Bytes of the text.
    pub(in super::super) range: Range<usize>,
    pub(in super::super) message: &'static str,
    pub(in super::super) hint: String,
}

/// What tera would silently render otherwise in `text`, which it has rendered with `context`.
pub(in super::super) fn differences(text: &str, context: &tera::Context) -> Vec<Difference> {
    let mut found: Vec<Difference> = tags(text).iter().filter_map(|tag| joined_word(text, tag)).collect();
    let Some(watched) = watched(text) else { return found };
    let seen: Arc<Mutex<Vec<(usize, Seen)>>> = Arc::default();
    let mut tera = Tera::new();
    super::add_filters(&mut tera);
    let look = |what: fn(&Value) -> Option<Seen>| {
        let seen = Arc::clone(&seen);
        move |value: Value, arguments: Kwargs, _: &State| -> tera::TeraResult<Value> {
            if let (Some(what), Some(at)) = (what(&value), arguments.get::<usize>("at")?) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((at, what));
            }
            Ok(value)
        }
    };
    tera.register_filter(PRINTED, look(printed));
    tera.register_filter(ITERATED, look(iterated));
    tera.autoescape_on(Vec::<&'static str>::new());
    if tera.add_raw_template("text", &watched).is_ok() {
        // What it renders, and whether it can, is known already.
        let _ = tera.render("text", context);
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.sort_unstable();
    seen.dedup_by_key(|(at, _)| *at);
    found.extend(seen.into_iter().map(|(at, what)| what.difference(text, at)));
    found
}

/// What Jinja2 does otherwise with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Boolean,
    Nothing,
    Collection,
    Mapping,
}

fn printed(value: &Value) -> Option<Seen> {
    if value.is_bool() {
        return Some(Seen::Boolean);
    }
    if value.is_none() {
        return Some(Seen::Nothing);
    }
    let plain = |items: &[Value]| {
        items.iter().all(|item| item.is_number() || item.as_array().is_some_and(|_| printed(item).is_none()))
    };
    let differs = value.is_map() || value.as_array().is_some_and(|items| !plain(items));
    differs.then_some(Seen::Collection)
}

fn iterated(value: &Value) -> Option<Seen> {
    value.is_map().then_some(Seen::Mapping)
}

impl Seen {
    fn difference(self, text: &str, at: usize) -> Difference {
        let tag = tags(text).into_iter().find(|tag| tag.inner.start == at);
        let range = tag.map_or(at..at, |tag| tag.inner);
        let expression = text[range.clone()].trim();
        let (message, hint) = match self {
            Self::Boolean => (
                "tera prints `true` or `false` here, Jinja2 `True` or `False`",
                format!("write which is meant: `{{{{ 'true' if {expression} else 'false' }}}}`"),
            ),
            Self::Nothing => ("tera prints nothing here, Jinja2 `None`", "write the text that is meant".to_owned()),
            Self::Collection => (
                "tera prints a list or mapping as JSON, Jinja2 as Python",
                "write its text, or join a list: `| join(sep=', ')`".to_owned(),
            ),
            Self::Mapping => (
                "tera's loop goes over the values of a mapping, Jinja2's over its keys",
                "write `{% for key, value in … %}`".to_owned(),
            ),
        };
        Difference { range: first_word(text, range), message, hint }
    }
}

/// The beginning of an expression, for the place of what is wrong in it.
fn first_word(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = &text[range.clone()];
    let start = range.start + inner.len() - inner.trim_start().len();
    let length = text[start..range.end].find(char::is_whitespace).unwrap_or(range.end - start);
    start..start + length
}

/// `~` beside a word that becomes other text in Jinja2.
fn joined_word(text: &str, tag: &Tag) -> Option<Difference> {
    let inner = &text[tag.inner.clone()];
    let literal = |text: &str| ["true", "false", "none", "True", "False", "None"].contains(&text);
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let (at, ..) = scan(inner).filter(|(_, c, _)| *c == '~').find(|(at, ..)| {
        let (before, after) = (inner[..*at].trim_end(), inner[at + 1..].trim_start());
        literal(before.rsplit(word).next().unwrap_or_default()) || literal(after.split(word).next().unwrap_or_default())
    })?;
    let at = tag.inner.start + at;
    let message = "`~` makes other text of `true`, `false` and `none` in tera than in Jinja2";
    Some(Difference { range: at..at + 1, message, hint: "write the text in quotes: `'True'`".to_owned() })
}

/// A tag of a template.
#[derive(Debug, Clone)]
struct Tag {
    /// `{{ … }}` rather than `{% … %}`.
    prints: bool,
    /// What is between the braces, without the hyphens that take white space away.
    inner: Range<usize>,
}

/// The tags of `text` outside comments and `raw`.
fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        let (close, prints) = match text[open..].get(..2) {
            Some("{{") => ("}}", true),
            Some("{%") => ("%}", false),
            Some("{#") => {
                at = text[open..].find("#}").map_or(text.len(), |end| open + end + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        let rest = &text[open + 2..];
        let Some(length) = scan(rest).map(|(at, ..)| at).find(|at| rest[*at..].starts_with(close)) else { break };
        at = open + 2 + length + 2;
        let start = open + 2 + usize::from(rest.starts_with('-'));
        let end = (open + 2 + length - usize::from(rest[..length].ends_with('-'))).max(start);
        if !prints && text[start..end].trim() == "raw" {
            let Some(end) = text[at..].find("endraw") else { break };
            at += end;
            continue;
        }
        tags.push(Tag { prints, inner: start..end });
    }
    tags
}

/// `text` with our filters; none where there is nothing to look at.
fn watched(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() * 2);
    let mut done = 0;
    // Statements may set what is no string.
    let only_strings = !text.contains("{%");
    for Tag { prints, inner } in tags(text) {
        let start = inner.start;
        let (head, expression) = if prints { ("", &text[inner.clone()]) } else { split_loop(&text[inner.clone()]) };
        if expression.trim().is_empty() || (only_strings && is_variable(expression)) {
            continue;
        }
        let filter = if prints { PRINTED } else { ITERATED };
        out.push_str(&text[done..start]);
        out.push_str(&format!("{head} ({expression}) | {filter}(at={start}) "));
        done = inner.end;
    }
    out.push_str(&text[done..]);
    (done > 0).then_some(out)
}

/// `for a in` and what it goes over; nothing where there are two names or it is another statement.
fn split_loop(statement: &str) -> (&str, &str) {
    let name = statement.trim_start().strip_prefix("for ").and_then(|rest| rest.trim_start().split_once(" in "));
    match name {
        Some((name, over)) if is_variable(name) => statement.split_at(statement.len() - over.len()),
        _ => ("", ""),
    }
}

/// The name of a variable, which is a string unless a statement has set it.
fn is_variable(text: &str) -> bool {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !["true", "false", "none", "True", "False", "None"].contains(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let mut context = tera::Context::new();
        context.insert("name", "visa");
        differences(text, &context).into_iter().map(|one| (one.range.start, one.hint)).collect()
    }

    #[test]
    fn what_prints_otherwise_is_found_where_it_is() {
        assert_eq!(
            found("a {{ name }} {{- name == 'x' -}}"),
            [(17, "write which is meant: `{{ 'true' if name == 'x' else 'false' }}`".to_owned())]
        );
        let places = |text: &str| found(text).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(places("{{ none }}{{ ['a'] }}{{ [1, [2.5]] }}{{ {'k': 1} }}"), [3, 13, 40]);
        assert_eq!(places("{% set x = name == 'visa' %}{{ x }}{{ name }}"), [31]);
        assert_eq!(places("{% for x in {'k': 'v'} %}{{ x }}{% endfor %}"), [3]);
        assert!(places("{% for k, v in {'k': 'v'} %}{{ k }}{% endfor %}{% for x in [1] %}{% endfor %}").is_empty());
        assert_eq!(places("{{ 'a' ~ true }}{{ 'true ~ false' ~ name }}"), [7]);
        assert_eq!(places("{# {{ true }} #}{% raw %}{{ true }}{% endraw %}{{ true if name else 'x' }}"), [50]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|raw|endraw|for |in |[a-z.|(),'\" =}~-]|é|true)*") {
            let _ = differences(&text, &tera::Context::new());
        }
    }
}
