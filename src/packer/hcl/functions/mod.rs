//! HCL's functions, as Packer has them.

use super::evaluate::{Evaluator, Result, exhausted};
use crate::error::{Location, Problem};
use crate::packer::value::{Part, Text, Value, exact, number as written};
use crate::template::nearest::nearest;

mod collections;
mod encoding;
mod files;
mod numbers;
mod strings;

/// What a function gives, or why not.
type Given = std::result::Result<Value, String>;

/// All names, for hints.
const NAMES: [&str; 85] = [
    "abs",
    "abspath",
    "alltrue",
    "anytrue",
    "base64decode",
    "base64encode",
    "basename",
    "can",
    "ceil",
    "chomp",
    "coalesce",
    "coalescelist",
    "compact",
    "concat",
    "contains",
    "dirname",
    "distinct",
    "element",
    "env",
    "file",
    "fileexists",
    "fileset",
    "flatten",
    "floor",
    "format",
    "formatdate",
    "formatlist",
    "indent",
    "index",
    "join",
    "jsondecode",
    "jsonencode",
    "keys",
    "legacy_isotime",
    "legacy_strftime",
    "length",
    "lookup",
    "lower",
    "max",
    "md5",
    "merge",
    "min",
    "parseint",
    "pathexpand",
    "pow",
    "range",
    "regex",
    "regex_replace",
    "regexall",
    "replace",
    "reverse",
    "setproduct",
    "setunion",
    "sha1",
    "sha256",
    "sha512",
    "slice",
    "sort",
    "split",
    "startswith",
    "endswith",
    "strcontains",
    "strrev",
    "substr",
    "sum",
    "templatefile",
    "timestamp",
    "title",
    "tobool",
    "tolist",
    "tomap",
    "tonumber",
    "toset",
    "tostring",
    "trim",
    "trimprefix",
    "trimspace",
    "trimsuffix",
    "try",
    "upper",
    "urlencode",
    "values",
    "yamldecode",
    "yamlencode",
    "zipmap",
];

/// Functions that ask a service, or give something else each time.
const REFUSED: [(&str, &str); 9] = [
    ("aws_secretsmanager", "fetch the value before the build and give it in a variable of the environment"),
    ("aws_secretsmanager_raw", "fetch the value before the build and give it in a variable of the environment"),
    ("bcrypt", "make the hash once, with mkpasswd"),
    ("consul_key", "fetch the value before the build and give it in a variable of the environment"),
    ("consul_keys", "fetch the value before the build and give it in a variable of the environment"),
    ("uuidv4", "visabuild makes the same of the same; a script in the guest can ask uuidgen"),
    ("uuidv5", "write the identifier down"),
    ("vault", "fetch the value before the build and give it in a variable of the environment"),
    ("rsadecrypt", "give the value in a variable of the environment"),
];

/// Calls a function.
pub(super) fn call(
    evaluator: &Evaluator<'_>,
    name: &str,
    arguments: &[Value],
    place: &impl Fn() -> Location,
) -> Result<Value> {
    // What is chosen by a variable depends on its value.
    if let ("lookup" | "element", Some(key)) = (name, arguments.get(1)) {
        evaluator.fix(key, place)?;
    }
    // A set is a list for all of them.
    let arguments: &[Value] = &arguments.iter().cloned().map(Value::listed).collect::<Vec<_>>();
    // These keep variables as variables.
    let kept = match name {
        "join" => strings::join(arguments, evaluator.globals.budget).map_err(|fault| exhausted(place(), fault))?,
        "format" => strings::format_kept(arguments),
        "tostring" => arguments.first().and_then(Value::to_text).filter(|_| arguments.len() == 1).map(Value::Text),
        "concat" | "merge" | "lookup" | "values" | "flatten" | "tolist" | "toset" | "tomap" | "element" => {
            collections::kept(name, arguments)
        }
        "templatefile" => return files::templatefile(evaluator, arguments, place),
        _ => None,
    };
    if let Some(value) = kept {
        return Ok(value);
    }
    let plain: Vec<Value> = arguments.iter().map(|value| evaluator.fix(value, place)).collect::<Result<_>>()?;
    let budget = evaluator.globals.budget;
    let found = strings::call(name, &plain, budget)
        .or_else(|| collections::call(name, &plain, budget))
        .or_else(|| numbers::call(name, &plain))
        .or_else(|| encoding::call(name, &plain))
        .or_else(|| files::call(name, &plain, evaluator.globals))
        .or_else(|| times(name, &plain, evaluator));
    match found {
        Some(result) => result.map_err(|message| Problem::at(place(), format!("{name}: {message}"))),
        None => Err(evaluator.globals.budget.limit(unknown(name, place()))),
    }
}

fn unknown(name: &str, place: Location) -> Problem {
    if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Problem::at(place, format!("the function `{name}` cannot be carried out by an import")).hint(*instead);
    }
    if NAMES.contains(&name) {
        return Problem::at(place, format!("`{name}` does not take these arguments"));
    }
    let problem = Problem::at(place, format!("unknown function `{name}`"));
    match nearest(name, NAMES) {
        Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
        None => problem,
    }
}

/// Stands for what the process environment has, among what a value is made of.
pub(super) const ENVIRONMENT: &str = "the process environment";

/// The time of the import, which Packer asks for in each build.
pub(super) const NOW: &str = "the time of the import";

fn times(name: &str, arguments: &[Value], evaluator: &Evaluator<'_>) -> Option<Given> {
    use crate::packer::clock::{Moment, from_go, from_hcl};
    let globals = evaluator.globals;
    let now = || {
        evaluator.fixed.borrow_mut().insert(NOW.to_owned());
        globals.times.now
    };
    let kept = |format: &str| {
        let part = globals.times.variable(format);
        let part = part.ok_or_else(|| globals.budget.limit("the time is asked for in too many ways"))?;
        Ok(Value::Text(Text(vec![part])))
    };
    Some(match (name, arguments) {
        ("timestamp", []) => Ok(Value::from(Moment::new(now()).rfc3339())),
        ("formatdate", [format, time]) => string(format).and_then(|format| {
            let time = string(time)?;
            let seconds = Moment::parse(&time).ok_or_else(|| format!("`{time}` is no time in RFC 3339's form"))?;
            Ok(Value::from(Moment::new(seconds).strftime(&from_hcl(&format)?)))
        }),
        ("legacy_isotime", []) => kept("%Y-%m-%dT%H:%M:%SZ"),
        ("legacy_isotime", [layout]) => string(layout).and_then(|layout| kept(&from_go(&layout))),
        ("legacy_strftime", [format]) => string(format).and_then(|format| kept(&format)),
        ("env", [_]) if !globals.may_ask => Err("only the default of a variable can ask the environment".to_owned()),
        ("env", [name]) => string(name).map(|name| {
            evaluator.fixed.borrow_mut().insert(ENVIRONMENT.to_owned());
            Value::from(globals.environment.get(&name).cloned().unwrap_or_default())
        }),
        _ => return None,
    })
}

/// A scalar as a string.
fn string(value: &Value) -> std::result::Result<String, String> {
    value.to_plain().ok_or_else(|| format!("expected a string, found {}", value.kind()))
}

/// A number, also as a string.
pub(super) fn number(value: &Value) -> std::result::Result<f64, String> {
    match value.inner() {
        Value::Number(number) => exact(*number),
        Value::Text(text) => {
            let text = text.plain();
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            exact(number.ok_or_else(|| format!("expected a number, found `{text}`"))?)
        }
        other => Err(format!("expected a number, found {}", other.kind())),
    }
}

/// A whole number from 0.
fn whole(value: &Value) -> std::result::Result<usize, String> {
    let number = number(value)?;
    if number < 0.0 || number.fract() != 0.0 || number > f64::from(u32::MAX) {
        return Err(format!("expected a whole number, found {}", written(number)));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(number as usize)
}

fn items(value: &Value) -> std::result::Result<&[Value], String> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(format!("expected a list, found {}", other.kind())),
    }
}

fn count(count: usize) -> Value {
    Value::Number(f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Text of which `size` bytes are still allowed.
fn fits(size: usize, budget: &crate::packer::budget::Budget) -> std::result::Result<(), String> {
    if size > budget.left() { Err(budget.limit("the result is too large".to_owned())) } else { Ok(()) }
}

/// Takes `size` bytes.
fn take(size: usize, budget: &crate::packer::budget::Budget) -> std::result::Result<(), String> {
    budget.take(size).map_err(|fault| fault.0.to_owned())
}

/// Several texts in a row.
fn chain(parts: impl IntoIterator<Item = Text>) -> Text {
    let mut text = Text::default();
    parts.into_iter().for_each(|part| text.append(part));
    text
}

/// A part that is nothing but text.
fn literal(text: &str) -> Text {
    Text(vec![Part::Literal(text.to_owned())])
}
