//! Functions of numbers, and conversions.

use super::{Given, items, number, string};
use crate::packer::value::{Value, exact};

pub(super) fn call(name: &str, arguments: &[Value]) -> Option<Given> {
    Some(match (name, arguments) {
        ("tonumber", [value]) => number(value).map(Value::Number),
        ("tobool", [value]) => {
            value.is_true().map(Value::Bool).ok_or_else(|| format!("expected a boolean, found {}", value.kind()))
        }
        ("tostring", [value]) => string(value).map(Value::from),
        ("parseint", [text, base]) => string(text).and_then(|text| {
            let base = number(base)?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturating")]
            let radix = base as u32;
            if !(2..=36).contains(&radix) {
                return Err("the base is between 2 and 36".to_owned());
            }
            let value = i64::from_str_radix(&text, radix).map_err(|_| format!("`{text}` is no number"))?;
            #[allow(clippy::cast_precision_loss, reason = "what is not exact is refused")]
            exact(value as f64).map(Value::Number)
        }),
        ("abs" | "ceil" | "floor", [value]) => number(value).map(|value| {
            Value::Number(match name {
                "abs" => value.abs(),
                "ceil" => value.ceil(),
                _ => value.floor(),
            })
        }),
        ("pow", [base, exponent]) => {
            number(base).and_then(|base| exact(base.powf(number(exponent)?)).map(Value::Number))
        }
        ("max" | "min", [_, ..]) => numbers(arguments).map(|numbers| {
            let better = if name == "max" { f64::max } else { f64::min };
            Value::Number(numbers.into_iter().reduce(better).unwrap_or_default())
        }),
        ("sum", [list]) => {
            items(list).and_then(numbers).and_then(|numbers| exact(numbers.into_iter().sum()).map(Value::Number))
        }
        _ => return None,
    })
}

fn numbers(values: &[Value]) -> Result<Vec<f64>, String> {
    values.iter().map(number).collect()
}
