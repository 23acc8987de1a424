//! Templates written for Jinja2, which packme uses: hints where tera's form is another, and what tera renders otherwise.

use tera::{Kwargs, State, Tera};

pub(super) use silent::differences;

mod absent;
mod silent;

/// Names of the positional arguments of Jinja2's filters and functions, as tera calls them.
const ARGUMENTS: [(&str, &str, &[&str]); 12] = [
    ("default", "default", &["value", "boolean"]),
    ("d", "default", &["value", "boolean"]),
    ("join", "join", &["sep"]),
    ("replace", "replace", &["from", "to"]),
    ("split", "split", &["pat"]),
    ("trim", "trim", &["pat"]),
    ("strip", "trim", &["pat"]),
    ("truncate", "truncate", &["length"]),
    ("indent", "indent", &["width", "first"]),
    ("round", "round", &["precision", "method"]),
    ("int", "int", &["default", "base"]),
    ("range", "range", &["start", "end", "step_by"]),
];

/// Filters and methods of Jinja2 and Python that tera calls by another name.
const NAMES: [(&str, &str); 11] = [
    ("upper", "upper"),
    ("lower", "lower"),
    ("title", "title"),
    ("capitalize", "capitalize"),
    ("strip", "trim"),
    ("lstrip", "trim_start"),
    ("rstrip", "trim_end"),
    ("count", "length"),
    ("string", "str"),
    ("e", "escape"),
    ("items", "pairs"),
];

/// What tera's form would be for the expression at byte `at` of `text` that gave `message`.
pub(super) fn hint(text: &str, at: usize, message: &str) -> Option<String> {
    let expression = expression(text, at)?;
    if expression.contains('`') {
        return Some("this is Packer's own form: write `{{ name }}` and set `name` in environment.yml".to_owned());
    }
    if message.ends_with("but expected else") {
        return Some("tera's `if` needs an `else`: `{{ a if b else '' }}`".to_owned());
    }
    absent::hint(expression, message).or_else(|| called(expression)).or_else(|| renamed(expression, message))
}

/// Filters that tera has with another result.
pub(super) fn add_filters(tera: &mut Tera) {
    tera.register_filter("round", |number: f64, arguments: Kwargs, _: &State| round(number, &arguments));
}

/// Python's `round`: a half goes to the even neighbour, and digits are those of the decimal number.
fn round(number: f64, arguments: &Kwargs) -> tera::TeraResult<f64> {
    let precision = arguments.get::<i32>("precision")?.unwrap_or_default();
    let scale = 10_f64.powi(precision);
    match arguments.get::<&str>("method")? {
        Some("ceil") => Ok((number * scale).ceil() / scale),
        Some("floor") => Ok((number * scale).floor() / scale),
        None | Some("common") => match usize::try_from(precision) {
            Ok(digits) => Ok(format!("{number:.digits$}").parse().unwrap_or(number)),
            Err(_) => Ok((number * scale).round_ties_even() / scale),
        },
        Some(other) => Err(tera::Error::message(format!("`round` has no method `{other}`"))),
    }
}

/// The inside of the tag around byte `at`.
fn expression(text: &str, at: usize) -> Option<&str> {
    let head = text.get(..at)?;
    let start = head.rfind("{{").max(head.rfind("{%"))? + 2;
    let rest = text.get(start..)?;
    let end = rest.find("}}").into_iter().chain(rest.find("%}")).min().unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The first call with positional arguments, or a method call, in tera's form.
fn called(expression: &str) -> Option<String> {
    for (open, _) in expression.match_indices('(') {
        let head = &expression[..open];
        let start = open - head.bytes().rev().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let name = &head[start..];
        let arguments = &expression[open + 1..open + 1 + closing(&expression[open + 1..])];
        if head[..start].ends_with('.') {
            return method(name, arguments);
        }
        if let Some(call) = named(name, arguments) {
            return Some(format!("tera names arguments: `{call}`"));
        }
    }
    None
}

fn method(name: &str, arguments: &str) -> Option<String> {
    if !arguments.trim().is_empty() {
        return named(name, arguments).map(|call| format!("tera has no methods: write `| {call}`"));
    }
    let (_, filter) = NAMES.iter().find(|(jinja, _)| *jinja == name)?;
    Some(format!("tera has no methods: write `| {filter}`"))
}

/// `name(arguments)` with tera's names; none when there is no positional argument to name.
fn named(name: &str, arguments: &str) -> Option<String> {
    let (_, filter, names) = ARGUMENTS.iter().find(|(jinja, ..)| *jinja == name)?;
    let arguments = split(arguments);
    // range(3) is range(end=3).
    let names = if name == "range" && arguments.len() == 1 { &names[1..] } else { names };
    let mut positional = false;
    let named: Vec<String> = arguments
        .iter()
        .enumerate()
        .map(|(at, argument)| match names.get(at) {
            Some(name) if !is_named(argument) => {
                positional = true;
                format!("{name}={argument}")
            }
            _ => (*argument).to_owned(),
        })
        .collect();
    positional.then(|| format!("{filter}({})", named.join(", ")))
}

fn is_named(argument: &str) -> bool {
    argument.split_once('=').is_some_and(|(name, value)| {
        !value.starts_with('=') && name.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn renamed(expression: &str, message: &str) -> Option<String> {
    let name = message.strip_prefix("unknown filter `")?.split('`').next()?;
    if !expression.contains(name) {
        return None;
    }
    if let Some((_, filter)) = NAMES.iter().find(|(jinja, _)| *jinja == name) {
        return Some(format!("tera calls it `{filter}`"));
    }
    (name == "d").then(|| "tera calls it `default(value=…)`".to_owned())
}

/// Arguments between commas that are not in quotes or brackets.
fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in scan(arguments).filter(|(_, c, depth)| *c == ',' && *depth == 0).map(|(at, ..)| at) {
        parts.push(arguments[start..at].trim());
        start = at + 1;
    }
    parts.push(arguments[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Where the bracket that is open at the start closes.
fn closing(text: &str) -> usize {
    scan(text).find(|(_, c, depth)| *c == ')' && *depth < 0).map_or(text.len(), |(at, ..)| at)
}

/// The characters outside quotes, with their place and how many brackets are open after them.
fn scan(text: &str) -> impl Iterator<Item = (usize, char, i32)> {
    let mut quote = None;
    let mut depth = 0;
    text.char_indices().filter_map(move |(at, c)| {
        match (quote, c) {
            (Some(open), _) => {
                if c == open {
                    quote = None;
                }
                return None;
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                return None;
            }
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ => {}
        }
        Some((at, c, depth))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_the_call_in_teras_form() {
        for (call, expected) in [
            ("default('x')", "default(value='x')"),
            ("default('a, b', true)", "default(value='a, b', boolean=true)"),
            ("d(')')", "default(value=')')"),
            ("join(',')", "join(sep=',')"),
            ("replace('a','b')", "replace(from='a', to='b')"),
        ] {
            let text = format!("{{{{ x | {call} }}}}");
            assert_eq!(hint(&text, text.len() - 4, ""), Some(format!("tera names arguments: `{expected}`")), "{text}");
        }
        assert_eq!(hint("{{ range(3) }}", 9, "").unwrap(), "tera names arguments: `range(end=3)`");
        assert_eq!(hint("{{ range(1, 3) }}", 9, "").unwrap(), "tera names arguments: `range(start=1, end=3)`");
        assert_eq!(hint("{{ x | default(value='x') }}", 9, ""), None);
    }

    #[test]
    fn shows_filters_for_methods() {
        assert_eq!(hint("{{ x.upper() }}", 5, "").unwrap(), "tera has no methods: write `| upper`");
        assert_eq!(hint("{{ x.split(',') }}", 5, "").unwrap(), "tera has no methods: write `| split(pat=',')`");
        assert_eq!(hint("{{ x.strip() }}", 5, "").unwrap(), "tera has no methods: write `| trim`");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(\\{\\{|[a-z.|(),'\" =}é]|default|join)*", at in 0usize..40) {
            let _ = hint(&text, at, "unknown filter `d`");
        }
    }
}
