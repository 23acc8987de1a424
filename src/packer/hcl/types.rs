//! Types of variables, and values as they want them.

use hcl_edit::expr::{Expression, FuncCall, Object, ObjectKey};
use indexmap::IndexMap;

use super::evaluate::{Evaluator, Result, exhausted};
use super::functions;
use super::source::Source;
use crate::error::Problem;
use crate::packer::value::Value;

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Any,
    Text,
    Number,
    Bool,
    List(Box<Self>),
    Set(Box<Self>),
    Map(Box<Self>),
    Tuple(Vec<Self>),
    Object(Vec<(String, Attribute)>),
    /// Any list, as the default is one.
    SomeList,
    /// Any mapping, as the default is one.
    SomeMap,
}

/// An attribute of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attribute {
    kind: Type,
    /// What it is where it is missing, if it may be.
    otherwise: Option<Value>,
}

impl Type {
    /// The type of a value. Those of elements may change.
    pub(super) fn of(value: &Value) -> Self {
        match value.inner() {
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::Text(_) => Self::Text,
            Value::List(items) | Value::Set(items) if !items.is_empty() => Self::SomeList,
            Value::Map(map) if !map.is_empty() => Self::SomeMap,
            _ => Self::Any,
        }
    }

    /// Reads a type's expression.
    pub(super) fn read(evaluator: &Evaluator<'_>, expression: &Expression) -> Result<Self> {
        let place = || evaluator.source.place_of(expression);
        let _level = evaluator.globals.budget.enter().map_err(|fault| exhausted(place(), fault))?;
        let unknown = |name: &str| {
            let hint = "there are string, number, bool, any, list(…), set(…), map(…), object({…}) and tuple([…])";
            Err(Problem::at(place(), format!("unknown type `{name}`")).hint(hint))
        };
        let any = || Box::new(Self::Any);
        let name = match expression {
            Expression::Variable(name) => name.as_str(),
            // As it was written before Packer 1.5.
            Expression::String(name) => name.as_str(),
            Expression::FuncCall(call) => match Self::made(evaluator, call)? {
                Some(kind) => return Ok(kind),
                None => return unknown(call.name.name.as_str()),
            },
            _ => return Err(Problem::at(place(), "this is no type")),
        };
        Ok(match name {
            "any" => Self::Any,
            "string" => Self::Text,
            "number" => Self::Number,
            "bool" => Self::Bool,
            "list" => Self::List(any()),
            "set" => Self::Set(any()),
            "map" => Self::Map(any()),
            other => return unknown(other),
        })
    }

    /// `list(…)` and its kin.
    fn made(evaluator: &Evaluator<'_>, call: &FuncCall) -> Result<Option<Self>> {
        let mut arguments = call.args.iter();
        let (Some(inner), None) = (arguments.next(), arguments.next()) else { return Ok(None) };
        let element = || Self::read(evaluator, inner).map(Box::new);
        Ok(Some(match (call.name.name.as_str(), inner) {
            ("list", _) => Self::List(element()?),
            ("set", _) => Self::Set(element()?),
            ("map", _) => Self::Map(element()?),
            ("tuple", Expression::Array(items)) => {
                Self::Tuple(items.iter().map(|item| Self::read(evaluator, item)).collect::<Result<_>>()?)
            }
            ("object", Expression::Object(object)) => Self::Object(attributes(evaluator, object)?),
            _ => return Ok(None),
        }))
    }

    /// The value as the type wants it; text that stands for something else is read. The message may have the value in
    /// it.
    pub(super) fn convert(&self, value: Value, evaluator: &Evaluator<'_>) -> Result<Value, String> {
        let is_scalar = matches!(self, Self::Any | Self::Text | Self::Number | Self::Bool);
        match value {
            Value::Text(text) if !is_scalar => {
                let wrong = || format!("the value is a string, not {}", self.name());
                let source = Source::new(evaluator.source.file.clone(), text.plain());
                let parsed = hcl_edit::parser::parse_expr(&source.text)
                    .map_err(|error| format!("{}: {}", wrong(), error.message()))?;
                let value = Evaluator::new(&source, evaluator.globals).value(&parsed).map_err(|_| wrong())?;
                self.converted(value)
            }
            value => self.converted(value),
        }
    }

    fn converted(&self, value: Value) -> Result<Value, String> {
        let all = |items: Vec<Value>, kind: &Self| -> Result<Vec<Value>, String> {
            let kind = if *kind == Self::Any { Self::common(&items) } else { kind.clone() };
            items.into_iter().map(|item| kind.converted(item)).collect()
        };
        Ok(match (self, value) {
            (Self::Any, value) | (_, value @ Value::Null) => value,
            (Self::Number, value) => Value::Number(functions::number(&value)?),
            (Self::Text, value) if value.to_text().is_some() => value.to_text().map_or(Value::Null, Value::Text),
            (Self::Bool, value @ Value::Bool(_)) => value,
            (Self::Bool, Value::Text(text)) => match text.plain().as_str() {
                "true" | "1" => Value::Bool(true),
                "false" | "0" => Value::Bool(false),
                other => return Err(format!("expected a boolean, found `{other}`")),
            },
            (Self::List(kind), Value::List(items) | Value::Set(items)) => Value::List(all(items, kind)?),
            (Self::Set(kind), Value::List(items) | Value::Set(items)) => Value::set(all(items, kind)?),
            (Self::SomeList, value @ (Value::List(_) | Value::Set(_))) | (Self::SomeMap, value @ Value::Map(_)) => {
                value
            }
            (Self::Map(kind), Value::Map(map)) => {
                let (keys, values): (Vec<_>, Vec<_>) = map.into_iter().unzip();
                Value::Map(keys.into_iter().zip(all(values, kind)?).collect())
            }
            (Self::Tuple(kinds), Value::List(items)) if kinds.len() == items.len() => {
                let items = kinds.iter().zip(items).map(|(kind, item)| kind.converted(item));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            (Self::Tuple(kinds), Value::List(items)) => {
                return Err(format!("expected a list of {}, found one of {}", kinds.len(), items.len()));
            }
            (Self::Object(attributes), Value::Map(map)) => Value::Map(object(attributes, map)?),
            (_, value) => return Err(format!("the value is {}, not {}", value.kind(), self.name())),
        })
    }

    /// The type that elements of a list of `any` get: text, if one of them is.
    fn common(items: &[Value]) -> Self {
        let is_scalar = |value: &Value| *value == Value::Null || value.to_text().is_some();
        let is_mixed = items.iter().all(is_scalar) && items.iter().any(|item| matches!(item, Value::Text(_)));
        if is_mixed { Self::Text } else { Self::Any }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::List(_) | Self::Tuple(_) | Self::SomeList => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) | Self::Object(_) | Self::SomeMap => "a mapping",
        }
    }
}

/// The attributes of `object({…})`, some of which are `optional(…)`.
fn attributes(evaluator: &Evaluator<'_>, object: &Object) -> Result<Vec<(String, Attribute)>> {
    let attribute = |(key, value): (&ObjectKey, &hcl_edit::expr::ObjectValue)| {
        let expression = value.expr();
        let name = evaluator.key(key)?;
        let call = match expression {
            Expression::FuncCall(call) if call.name.name.as_str() == "optional" => Some(call),
            _ => None,
        };
        let mut arguments = call.into_iter().flat_map(|call| call.args.iter());
        let kind = Type::read(evaluator, arguments.next().unwrap_or(expression))?;
        let otherwise = match arguments.next() {
            Some(otherwise) => Some(evaluator.value(otherwise)?),
            None => call.map(|_| Value::Null),
        };
        Ok((name, Attribute { kind, otherwise }))
    };
    object.iter().map(attribute).collect()
}

/// The object with its attributes only.
fn object(
    attributes: &[(String, Attribute)],
    mut map: IndexMap<String, Value>,
) -> Result<IndexMap<String, Value>, String> {
    let mut converted = IndexMap::new();
    for (name, Attribute { kind, otherwise }) in attributes {
        let value = match (map.swap_remove(name), otherwise) {
            (None | Some(Value::Null), Some(otherwise)) => otherwise.clone(),
            (Some(value), _) => value,
            (None, None) => return Err(format!("the attribute `{name}` is missing")),
        };
        let value = kind.converted(value).map_err(|message| format!("`{name}`: {message}"))?;
        converted.insert(name.clone(), value);
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[Value]) -> Value {
        Value::List(items.to_vec())
    }

    #[test]
    fn elements_are_converted() {
        let texts = Type::Set(Box::new(Type::Text));
        let items = list(&["b".into(), Value::Bool(true), "b".into(), Value::Number(1.0)]);
        assert_eq!(texts.converted(items.clone()), Ok(Value::Set(vec!["1".into(), "b".into(), "true".into()])));
        let any = Type::List(Box::new(Type::Any));
        assert_eq!(any.converted(items), Ok(list(&["b".into(), "true".into(), "b".into(), "1".into()])));
        assert_eq!(any.converted(list(&[Value::Bool(true)])), Ok(list(&[Value::Bool(true)])));
        assert!(Type::Bool.converted("".into()).is_err() && Type::Bool.converted(Value::Number(1.0)).is_err());
        assert!(Type::Tuple(vec![Type::Text]).converted(list(&[])).is_err());
    }

    #[test]
    fn objects_have_their_attributes() {
        let attribute = |name: &str, otherwise| (name.to_owned(), Attribute { kind: Type::Number, otherwise });
        let kind = Type::Object(vec![attribute("a", None), attribute("b", Some(Value::Number(2.0)))]);
        let map = |entries: &[(&str, Value)]| {
            Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
        };
        let wanted = map(&[("a", Value::Number(1.0)), ("b", Value::Number(2.0))]);
        assert_eq!(kind.converted(map(&[("a", "1".into()), ("c", Value::Null)])), Ok(wanted));
        assert!(kind.converted(map(&[])).is_err());
    }
}
