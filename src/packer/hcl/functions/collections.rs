//! Functions of lists and mappings.

use indexmap::IndexMap;

use super::{Given, count, items, number, string, whole};
use crate::packer::budget::Budget;
use crate::packer::hcl::evaluate::element;
use crate::packer::value::{Value, number as written};

/// Longest list that `range` makes.
const LONGEST: usize = 10_000;

/// Functions that only put things together, so that variables stay variables.
pub(super) fn kept(name: &str, arguments: &[Value]) -> Option<Value> {
    match (name, arguments) {
        ("concat", lists) => {
            let mut all = Vec::new();
            for list in lists {
                let Value::List(items) = list else { return None };
                all.extend(items.iter().cloned());
            }
            Some(Value::List(all))
        }
        ("merge", maps) => {
            let mut all = IndexMap::new();
            for map in maps {
                match map {
                    Value::Map(map) => all.extend(map.clone()),
                    Value::Null => {}
                    _ => return None,
                }
            }
            Some(Value::Map(all))
        }
        ("lookup", [Value::Map(map), key, otherwise @ ..]) if otherwise.len() <= 1 => {
            map.get(&key.to_plain()?).or(otherwise.first()).cloned()
        }
        ("values", [Value::Map(map)]) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Some(Value::List(entries.into_iter().map(|(_, value)| value.clone()).collect()))
        }
        ("flatten", [list @ Value::List(_)]) => {
            let mut all = Vec::new();
            flatten(list, &mut all);
            Some(Value::List(all))
        }
        ("toset", [Value::List(items)]) => Some(Value::set(items.clone())),
        ("tolist", [list @ Value::List(_)]) | ("tomap", [list @ Value::Map(_)]) => Some(list.clone()),
        ("element", [Value::List(items), at]) if !items.is_empty() => {
            items.get(whole(&at.plain()).ok()? % items.len()).cloned()
        }
        _ => None,
    }
}

fn flatten(value: &Value, all: &mut Vec<Value>) {
    match value {
        Value::List(items) | Value::Set(items) => items.iter().for_each(|item| flatten(item, all)),
        other => all.push(other.clone()),
    }
}

pub(super) fn call(name: &str, arguments: &[Value], budget: &Budget) -> Option<Given> {
    Some(match (name, arguments) {
        ("length", [Value::List(items)]) => Ok(count(items.len())),
        ("length", [Value::Map(map)]) => Ok(count(map.len())),
        ("keys", [Value::Map(map)]) => {
            let mut keys: Vec<_> = map.keys().cloned().collect();
            keys.sort();
            Ok(Value::List(keys.into_iter().map(Value::from).collect()))
        }
        ("contains", [list, value]) => items(list).map(|items| Value::Bool(items.contains(value))),
        ("index", [list, value]) => items(list).and_then(|items| {
            let at = items.iter().position(|item| item == value);
            at.map(count).ok_or_else(|| "the list has no such element".to_owned())
        }),
        ("coalesce", values) => {
            let good = |value: &&Value| !matches!(value, Value::Null) && value.to_plain().as_deref() != Some("");
            values.iter().find(good).cloned().ok_or_else(|| "all values are empty".to_owned())
        }
        ("coalescelist", values) => {
            let found = values.iter().find(|value| matches!(value, Value::List(items) if !items.is_empty()));
            found.cloned().ok_or_else(|| "all lists are empty".to_owned())
        }
        ("compact", [list]) => items(list).map(|items| {
            let full = items.iter().filter(|item| !item.to_plain().unwrap_or_default().is_empty());
            Value::List(full.cloned().collect())
        }),
        ("distinct", lists) => distinct(lists, budget),
        ("setunion", lists) => distinct(lists, budget).map(|all| match all {
            Value::List(items) => Value::set(items),
            other => other,
        }),
        ("setproduct", lists) if lists.len() > 1 => product(lists, budget),
        ("alltrue" | "anytrue", [list]) => items(list).and_then(|items| {
            let truths = items.iter().map(truth).collect::<Result<Vec<_>, _>>()?;
            let all = truths.iter().all(|truth| *truth);
            Ok(Value::Bool(if name == "alltrue" { all } else { truths.contains(&true) }))
        }),
        ("reverse", [list]) => items(list).map(|items| Value::List(items.iter().rev().cloned().collect())),
        ("sort", [list]) => items(list).and_then(|items| {
            let mut texts = items.iter().map(string).collect::<Result<Vec<_>, _>>()?;
            texts.sort();
            Ok(Value::List(texts.into_iter().map(Value::from).collect()))
        }),
        ("slice", [list, from, to]) => items(list).and_then(|items| {
            let part = items.get(whole(from)?..whole(to)?);
            part.map(|part| Value::List(part.to_vec())).ok_or_else(|| "the list is shorter".to_owned())
        }),
        ("zipmap", [keys, values]) => items(keys).and_then(|keys| {
            let keys = keys.iter().map(string).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::Map(keys.into_iter().zip(items(values)?.iter().cloned()).collect()))
        }),
        ("lookup", [map, key, ..]) => element(map, key),
        ("range", limits) => range(limits, budget),
        ("concat" | "flatten" | "element" | "tolist" | "toset", [list, ..]) => items(list).and_then(|_| wrong(name)),
        ("merge" | "values" | "keys" | "tomap", [map, ..]) => Err(format!("expected a mapping, found {}", map.kind())),
        _ => return None,
    })
}

fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        other => other.is_true().ok_or_else(|| format!("expected a boolean, found {}", other.kind())),
    }
}

/// Each element of each list with each of the others.
fn product(lists: &[Value], budget: &Budget) -> Given {
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for list in lists {
        let items = items(list)?;
        if rows.len().saturating_mul(items.len()) > LONGEST {
            return Err(budget.limit(format!("a list of more than {LONGEST} elements")));
        }
        let longer = |row: &Vec<Value>, item: &Value| row.iter().chain([item]).cloned().collect::<Vec<_>>();
        rows = rows.iter().flat_map(|row| items.iter().map(move |item| longer(row, item))).collect();
        let size = |row: &Vec<Value>| row.iter().map(Value::size).sum::<usize>();
        budget.take(rows.iter().map(size).sum()).map_err(|fault| fault.0.to_owned())?;
    }
    Ok(Value::List(rows.into_iter().map(Value::List).collect()))
}

fn wrong(name: &str) -> Given {
    Err(format!("the arguments are not those of `{name}`"))
}

fn distinct(lists: &[Value], budget: &Budget) -> Given {
    let mut all: Vec<Value> = Vec::new();
    for list in lists {
        for item in items(list)? {
            // Each comparison counts: the list may be long.
            budget.take(all.len()).map_err(|fault| fault.0.to_owned())?;
            if !all.contains(item) {
                all.push(item.clone());
            }
        }
    }
    Ok(Value::List(all))
}

fn range(limits: &[Value], budget: &Budget) -> Given {
    let limits = limits.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let (start, end, step) = match limits[..] {
        [end] => (0.0, end, if end < 0.0 { -1.0 } else { 1.0 }),
        [start, end] => (start, end, if end < start { -1.0 } else { 1.0 }),
        [start, end, step] => (start, end, step),
        _ => return wrong("range"),
    };
    let turns = ((end - start) / step).ceil();
    if turns.is_nan() || turns > f64::from(u16::MAX) {
        let message = format!("a list of more than {LONGEST} numbers, from {} to {}", written(start), written(end));
        return Err(budget.limit(message));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturating")]
    let turns = turns.max(0.0) as usize;
    if turns > LONGEST {
        let message = format!("a list of more than {LONGEST} numbers, from {} to {}", written(start), written(end));
        return Err(budget.limit(message));
    }
    let number = |at: usize| start + f64::from(u32::try_from(at).unwrap_or(u32::MAX)) * step;
    Ok(Value::List((0..turns).map(|at| Value::Number(number(at))).collect()))
}
