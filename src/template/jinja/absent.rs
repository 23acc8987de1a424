//! What Jinja2 has and tera has not at all, and what to write instead.

use super::scan;

/// Filters, each with what to do; those of Jinja2 that are not here tera has, by this or another name.
const FILTERS: [(&str, &str); 27] = [
    ("attr", VARIABLE),
    ("batch", LOOP),
    ("center", VARIABLE),
    ("dictsort", LOOP),
    ("filesizeformat", VARIABLE),
    ("forceescape", "write `| escape`"),
    ("format", "join strings with `~`: `{{ a ~ '-' ~ b }}`"),
    ("groupby", "write `| group_by(attribute=…)`"),
    ("list", "leave it out: `for`, `first` and `join` take what is a list already"),
    ("map", LOOP),
    ("max", VARIABLE),
    ("min", VARIABLE),
    ("pprint", VARIABLE),
    ("random", VARIABLE),
    ("reject", LOOP),
    ("rejectattr", LOOP),
    ("select", LOOP),
    ("selectattr", LOOP),
    ("slice", LOOP),
    ("striptags", VARIABLE),
    ("sum", VARIABLE),
    ("tojson", "write the JSON around it: `\"{{ name }}\"`"),
    ("urlencode", VARIABLE),
    ("urlize", VARIABLE),
    ("wordwrap", VARIABLE),
    ("xmlattr", VARIABLE),
    ("zip", LOOP),
];

const VARIABLE: &str = "set the result as a variable in environment.yml";
const LOOP: &str = "write a `{% for %}` loop with `{% if %}`";

/// Methods of Python's strings.
const METHODS: [(&str, &str); 3] = [
    ("startswith", "write `{% if a is starting_with(pat='…') %}`"),
    ("endswith", "write `{% if a is ending_with(pat='…') %}`"),
    ("format", "join strings with `~`: `{{ a ~ '-' ~ b }}`"),
];

/// Functions.
const FUNCTIONS: [(&str, &str); 5] = [
    ("namespace", "write `{% set a = … %}`, and `{% set_global a = … %}` inside a loop"),
    ("dict", "write `{'key': value}`"),
    ("cycler", VARIABLE),
    ("joiner", "write `{% if not loop.last %}`"),
    ("lipsum", VARIABLE),
];

/// Statements.
const STATEMENTS: [(&str, &str); 8] = [
    ("with", "write `{% set a = … %}`"),
    ("endwith", "write `{% set a = … %}`"),
    ("macro", "write its text where it is called, or a `{% for %}` loop around it"),
    ("endmacro", "write its text where it is called, or a `{% for %}` loop around it"),
    ("call", VARIABLE),
    ("import", "write its text where it is used"),
    ("from", "write its text where it is used"),
    ("do", VARIABLE),
];

/// Tests.
const TESTS: [(&str, &str); 8] = [
    ("sameas", "write `==`"),
    ("divisibleby", "write `is divisible_by(divisor=…)`"),
    ("mapping", "write `is map`"),
    ("sequence", "write `is array`"),
    ("boolean", "write `is bool`"),
    ("lower", "write `a == a | lower`"),
    ("upper", "write `a == a | upper`"),
    ("in", "write `a in b`"),
];

/// What to write instead of the first thing in `expression` that tera has not, which gave `message`.
pub(super) fn hint(expression: &str, message: &str) -> Option<String> {
    by_name(expression).or_else(|| by_message(expression, message).map(str::to_owned))
}

fn by_name(expression: &str) -> Option<String> {
    let statement = word(expression.trim_start_matches('-'));
    if let Some((name, instead)) = found(&STATEMENTS, statement) {
        return Some(format!("tera has no `{name}`: {instead}"));
    }
    let mut before = String::new();
    for (at, c, _) in scan(expression) {
        let rest = &expression[at + c.len_utf8()..];
        let name = word(rest);
        let is_called = rest.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with('('));
        let absent = match c {
            '|' => found(&FILTERS, name),
            '.' if is_called => found(&METHODS, name),
            ' ' if before.ends_with("is") || before.ends_with("is not") => found(&TESTS, name),
            '(' => found(&FUNCTIONS, last_word(&before)),
            _ => None,
        };
        if let Some((name, instead)) = absent {
            return Some(format!("tera has no `{name}`: {instead}"));
        }
        before.push(c);
    }
    None
}

fn by_message(expression: &str, message: &str) -> Option<&'static str> {
    let operator = |operator: char| scan(expression).any(|(_, c, _)| c == operator);
    let underscore = |text: &str| {
        let mut parts = text.split('_');
        let first = parts.next().unwrap_or_default();
        parts.next().is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()))
            && first.ends_with(|c: char| c.is_ascii_digit())
    };
    match message {
        _ if message.starts_with("`+` requires") && message.contains("`array`") => Some("write the list as a whole"),
        _ if message.starts_with("`+` requires") => Some("join strings with `~`"),
        _ if message.starts_with("math operations") && operator('%') => Some("join strings with `~`: `{{ 'a-' ~ b }}`"),
        _ if message.starts_with("math operations") => {
            Some("a string becomes a number by `| int`, and is written out to repeat it")
        }
        _ if message.starts_with("invalid type for the value") && message.contains("got `string`") => {
            Some("characters of a string are `{{ a[0] }}` and `{{ a[-1] }}`")
        }
        _ if message.starts_with("cannot compare `string`") => Some("a variable is a string: compare `a | int`"),
        _ if message.starts_with("missing keyword argument `value`") => Some("write `default(value='')`"),
        _ if message.starts_with("field `") => Some("a variable is a string and has no fields"),
        _ if underscore(expression) => Some("write the number without `_`"),
        _ => None,
    }
}

fn found(names: &'static [(&'static str, &'static str)], wanted: &str) -> Option<(&'static str, &'static str)> {
    names.iter().find(|(name, _)| *name == wanted).copied()
}

/// The word that `text` begins with.
fn word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// The word that `text` ends with, unless it is a method's or a filter's.
fn last_word(text: &str) -> &str {
    let start = text
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    if text[..start].trim_end().ends_with(['.', '|']) { "" } else { &text[start..] }
}
