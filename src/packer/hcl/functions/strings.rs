//! Functions of strings.

use regex::{Captures, Regex, RegexBuilder};

use super::{Given, chain, count, fits, items, literal, number, string, take, whole};
use crate::packer::budget::{Budget, Exhausted};
use crate::packer::value::{Value, number as written};

/// Most parts that a text is taken apart into.
const MOST: usize = 10_000;
/// What reading a regular expression takes, steps: it may become a megabyte.
const EXPRESSION: u64 = 500;

/// `join`, with the variables of the parts.
pub(super) fn join(arguments: &[Value], budget: &Budget) -> Result<Option<Value>, Exhausted> {
    let [separator, lists @ ..] = arguments else { return Ok(None) };
    let Some(separator) = separator.to_text() else { return Ok(None) };
    let mut parts = Vec::new();
    for list in lists {
        let Value::List(items) = list else { return Ok(None) };
        for item in items {
            budget.take(separator.size() + item.size())?;
            if !parts.is_empty() {
                parts.push(separator.clone());
            }
            let Some(text) = item.to_text() else { return Ok(None) };
            parts.push(text);
        }
    }
    Ok(Some(Value::Text(chain(parts))))
}

/// `format`, where only whole values are put in.
pub(super) fn format_kept(arguments: &[Value]) -> Option<Value> {
    let [format, values @ ..] = arguments else { return None };
    let whole = format.to_plain().filter(|_| !matches!(format, Value::Named { .. }))?;
    let mut rest = whole.as_str();
    let mut parts = Vec::new();
    for value in values {
        let at = rest.find('%')?;
        if !["%s", "%v", "%d"].contains(&rest.get(at..at + 2)?) {
            return None;
        }
        parts.push(literal(&rest[..at]));
        parts.push(value.to_text()?);
        rest = &rest[at + 2..];
    }
    parts.push(literal(rest));
    (!rest.contains('%')).then(|| Value::Text(chain(parts)))
}

pub(super) fn call(name: &str, arguments: &[Value], budget: &Budget) -> Option<Given> {
    let texts: Result<Vec<String>, String> = match name {
        "upper" | "lower" | "title" | "trimspace" | "chomp" | "strrev" | "trim" | "trimprefix" | "trimsuffix"
        | "replace" | "regex_replace" | "regex" | "regexall" | "split" | "startswith" | "endswith" | "strcontains" => {
            arguments.iter().map(string).collect()
        }
        _ => return other(name, arguments, budget),
    };
    let texts = match texts {
        Ok(texts) => texts,
        Err(message) => return Some(Err(message)),
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let text = |text: String| Ok(Value::from(text));
    let wrong = || Err(format!("does not take {} arguments", texts.len()));
    Some(match (name, &texts[..]) {
        ("upper", [one]) => text(one.to_uppercase()),
        ("lower", [one]) => text(one.to_lowercase()),
        ("title", [one]) => text(title(one)),
        ("trimspace", [one]) => text(one.trim().to_owned()),
        ("chomp", [one]) => text(one.trim_end_matches(['\n', '\r']).to_owned()),
        ("strrev", [one]) => text(one.chars().rev().collect()),
        ("trim", [one, set]) => text(one.trim_matches(|c| set.contains(c)).to_owned()),
        ("trimprefix", [one, prefix]) => text(one.strip_prefix(prefix).unwrap_or(one).to_owned()),
        ("trimsuffix", [one, suffix]) => text(one.strip_suffix(suffix).unwrap_or(one).to_owned()),
        ("startswith", [one, prefix]) => Ok(Value::Bool(one.starts_with(prefix))),
        ("endswith", [one, suffix]) => Ok(Value::Bool(one.ends_with(suffix))),
        ("strcontains", [one, part]) => Ok(Value::Bool(one.contains(part))),
        ("split", [separator, one]) if one.matches(separator).take(MOST + 1).count() > MOST => {
            Err(budget.limit(format!("more than {MOST} parts")))
        }
        ("split", ["", one]) => Ok(Value::List(one.chars().map(|c| Value::from(c.to_string())).collect())),
        ("split", [separator, one]) => Ok(Value::List(one.split(separator).map(Value::from).collect())),
        ("replace", [one, from, to]) => match from.strip_prefix('/').and_then(|from| from.strip_suffix('/')) {
            // Between slashes is a regular expression.
            Some(pattern) => replaced(one, pattern, to, budget),
            None => fits(one.len().saturating_add((one.matches(from).count()).saturating_mul(to.len())), budget)
                .map(|()| Value::from(one.replace(from, to))),
        },
        ("regex_replace", [one, pattern, to]) => replaced(one, pattern, to, budget),
        ("regex", [pattern, one]) => compiled(pattern, budget).and_then(|pattern| {
            let found = pattern.captures(one).ok_or("nothing matches")?;
            Ok(matched(&pattern, &found))
        }),
        ("regexall", [pattern, one]) => compiled(pattern, budget)
            .map(|pattern| pattern.captures_iter(one).take(MOST + 1).map(|found| matched(&pattern, &found)).collect())
            .and_then(|all: Vec<_>| match all.len() {
                0..=MOST => Ok(Value::List(all)),
                _ => Err(budget.limit(format!("more than {MOST} parts"))),
            }),
        _ => wrong(),
    })
}

fn other(name: &str, arguments: &[Value], budget: &Budget) -> Option<Given> {
    Some(match (name, arguments) {
        ("join", [separator, lists @ ..]) => joined(separator, lists, budget),
        ("format", [format, values @ ..]) => {
            string(format).and_then(|format| formatted(&format, values, budget)).map(Value::from)
        }
        ("formatlist", [format, values @ ..]) => string(format).and_then(|format| format_list(&format, values, budget)),
        ("indent", [spaces, text]) => whole(spaces).and_then(|spaces| {
            let text = string(text)?;
            fits(text.len().saturating_add(text.matches('\n').count().saturating_mul(spaces)), budget)?;
            Ok(Value::from(text.replace('\n', &format!("\n{}", " ".repeat(spaces)))))
        }),
        ("substr", [text, offset, length]) => substring(text, offset, length),
        ("length", [text @ Value::Text(_)]) => string(text).map(|text| count(text.chars().count())),
        _ => return None,
    })
}

/// `format` for each row of lists that are equally long; other values are in every row.
fn format_list(format: &str, values: &[Value], budget: &Budget) -> Given {
    let mut lengths = values.iter().filter_map(|value| items(value).ok()).map(<[Value]>::len);
    let rows = lengths.next().unwrap_or(1);
    if let Some(other) = lengths.find(|length| *length != rows) {
        return Err(format!("the lists have {rows} and {other} elements"));
    }
    let mut all = Vec::new();
    for row in 0..rows {
        let of_row = |value: &Value| items(value).ok().and_then(|items| items.get(row)).unwrap_or(value).clone();
        let values: Vec<Value> = values.iter().map(of_row).collect();
        take(values.iter().map(Value::size).sum(), budget)?;
        all.push(Value::from(formatted(format, &values, budget)?));
    }
    Ok(Value::List(all))
}

fn joined(separator: &Value, lists: &[Value], budget: &Budget) -> Given {
    let separator = string(separator)?;
    let mut texts = Vec::new();
    for list in lists {
        for item in items(list)? {
            take(separator.len().saturating_add(item.size()), budget)?;
            texts.push(string(item)?);
        }
    }
    Ok(Value::from(texts.join(&separator)))
}

fn title(text: &str) -> String {
    let mut begins = true;
    let letter = |c: char| {
        let changed: String = if begins { c.to_uppercase().collect() } else { c.to_string() };
        // Go's `strings.Title`: each character of ASCII but letters, digits and `_` parts words.
        begins = if c.is_ascii() { !c.is_ascii_alphanumeric() && c != '_' } else { c.is_whitespace() };
        changed
    };
    text.chars().map(letter).collect()
}

fn compiled(pattern: &str, budget: &Budget) -> Result<Regex, String> {
    budget.spend(EXPRESSION).map_err(|fault| fault.0.to_owned())?;
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().to_owned();
        format!("`{pattern}` is no regular expression: {last}")
    })
}

fn replaced(text: &str, pattern: &str, to: &str, budget: &Budget) -> Given {
    let pattern = compiled(pattern, budget)?;
    let groups = to.matches('$').count();
    let mut out = String::new();
    let mut last = 0;
    for found in pattern.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        // No group is longer than what is found.
        let most = groups.saturating_mul(whole.len()).saturating_add(to.len());
        take(most.saturating_add(whole.start() - last), budget)?;
        out.push_str(&text[last..whole.start()]);
        // Go's `$1x` is the group 1 followed by x only as `${1}x`, as here.
        found.expand(to, &mut out);
        last = whole.end();
    }
    out.push_str(&text[last..]);
    Ok(Value::from(out))
}

fn matched(pattern: &Regex, found: &Captures<'_>) -> Value {
    let text = |part: Option<regex::Match<'_>>| part.map_or(Value::Null, |part| Value::from(part.as_str()));
    if pattern.captures_len() == 1 {
        return text(found.get(0));
    }
    let names: Vec<_> = pattern.capture_names().flatten().collect();
    if names.is_empty() {
        return Value::List(found.iter().skip(1).map(text).collect());
    }
    Value::Map(names.into_iter().map(|name| (name.to_owned(), text(found.name(name)))).collect())
}

fn substring(text: &Value, offset: &Value, length: &Value) -> Given {
    let text = string(text)?;
    let (offset, length) = (number(offset)?, number(length)?);
    #[allow(clippy::cast_precision_loss, reason = "texts are far shorter")]
    let all = text.chars().count() as f64;
    let start = if offset < 0.0 { (all + offset).max(0.0) } else { offset };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
    let (start, length) = (start as usize, if length < 0.0 { usize::MAX } else { length as usize });
    Ok(Value::from(text.chars().skip(start).take(length).collect::<String>()))
}

/// Go's verbs with their flags and width, as far as HCL has them.
fn formatted(format: &str, values: &[Value], budget: &Budget) -> Result<String, String> {
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, tag)) = rest.split_once('%') {
        out.push_str(before);
        let end = tag.find(|c: char| c.is_ascii_alphabetic() || c == '%').ok_or("`%` has no verb")?;
        let (flags, verb) = (&tag[..end], &tag[end..=end]);
        rest = &tag[end + 1..];
        if verb == "%" {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or("there are fewer values than verbs")?;
        let text = verb_text(flags, verb, value)?;
        take(before.len().saturating_add(text.len()), budget)?;
        out.push_str(&text);
    }
    take(rest.len(), budget)?;
    out.push_str(rest);
    match values.next() {
        Some(_) => Err("there are more values than verbs".to_owned()),
        None => Ok(out),
    }
}

fn verb_text(flags: &str, verb: &str, value: &Value) -> Result<String, String> {
    let numbers = flags.trim_start_matches(['-', '0', '+', ' ', '#']);
    let flags = &flags[..flags.len() - numbers.len()];
    let (left, zero, plus) = (flags.contains('-'), flags.contains('0'), flags.contains('+'));
    let (width, precision) = numbers.split_once('.').map_or((numbers, None), |(width, more)| (width, Some(more)));
    let limit = |text: &str| match text {
        "" => Ok(0),
        digits => digits.parse::<usize>().ok().filter(|width| *width <= 1000).ok_or("a width is at most 1000"),
    };
    let width = limit(width)?;
    let precision = precision.map(limit).transpose()?;
    let text = match verb {
        "s" | "v" => {
            let text = value.to_plain().unwrap_or_else(|| value.to_json().to_string());
            precision.map_or(text.clone(), |most| text.chars().take(most).collect())
        }
        "q" => serde_json::Value::String(string(value)?).to_string(),
        "d" => written(number(value)?.trunc()),
        "f" => format!("{:.*}", precision.unwrap_or(6), number(value)?),
        "t" => string(value)?,
        "x" | "X" | "b" | "o" => {
            let number = whole(value)?;
            match verb {
                "x" => format!("{number:x}"),
                "X" => format!("{number:X}"),
                "b" => format!("{number:b}"),
                _ => format!("{number:o}"),
            }
        }
        other => return Err(format!("unknown verb `%{other}`")),
    };
    let text = if plus && !text.starts_with('-') { format!("+{text}") } else { text };
    let padding = width.saturating_sub(text.chars().count());
    Ok(match (left, zero) {
        (true, _) => format!("{text}{}", " ".repeat(padding)),
        (false, true) => {
            // Zeros stand behind the sign.
            let digits = text.trim_start_matches(['-', '+']);
            format!("{}{}{digits}", &text[..text.len() - digits.len()], "0".repeat(padding))
        }
        (false, false) => format!("{}{text}", " ".repeat(padding)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_gos() {
        let budget = Budget::default();
        let formatted = |format: &str, values: &[Value]| formatted(format, values, &budget);
        assert_eq!(
            formatted("%s-%03d|%-4s|%5.1f%%", &["a".into(), 7.0.into(), "b".into(), 2.25.into()]).as_deref(),
            Ok("a-007|b   |  2.2%")
        );
        assert_eq!(formatted("%04d|%+04d", &[(-5.0).into(), 5.0.into()]).as_deref(), Ok("-005|+005"));
        assert!(formatted("%s", &[]).is_err() && formatted("", &["a".into()]).is_err());
        assert!(formatted("%999999999d", &[1.0.into()]).is_err() && formatted("%", &[]).is_err());
        let name = Value::Named { name: "n".to_owned(), value: Box::new("x".into()) };
        let kept = format_kept(&["%s/%v".into(), name, "y".into()]).unwrap().to_text().unwrap();
        assert_eq!((kept.plain().as_str(), kept.0.len()), ("x/y", 2));
    }

    #[test]
    fn expressions_are_replaced() {
        let call = |name: &str, arguments: &[&str]| {
            let arguments: Vec<Value> = arguments.iter().map(|text| Value::from(*text)).collect();
            call(name, &arguments, &Budget::default()).unwrap()
        };
        assert_eq!(call("regex_replace", &["a1b22", "[0-9]+", "-"]), Ok("a-b-".into()));
        assert_eq!(call("replace", &["a.b", ".", "_"]), Ok("a_b".into()));
        assert_eq!(call("replace", &["a.b", "/[.]/", "_"]), Ok("a_b".into()));
        assert_eq!(call("title", &["hello wide_world-ünd.x"]), Ok("Hello Wide_world-Ünd.X".into()));
        assert!(call("regex_replace", &["a", "(", ""]).is_err());
    }

    impl From<f64> for Value {
        fn from(number: f64) -> Self {
            Self::Number(number)
        }
    }

    #[test]
    fn texts_are_cut() {
        let cut = |offset: f64, length: f64| substring(&"añejo".into(), &offset.into(), &length.into()).unwrap();
        assert_eq!([cut(1.0, 2.0), cut(-2.0, -1.0), cut(9.0, 1.0)], ["ñe", "jo", ""].map(Value::from));
    }
}
