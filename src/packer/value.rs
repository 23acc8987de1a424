//! Values of a Packer template, which remember the variables that they are made of.

use indexmap::IndexMap;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(Text),
    List(Vec<Value>),
    /// A set of HCL's, in its order; outside of expressions it is a list.
    Set(Vec<Value>),
    Map(IndexMap<String, Value>),
    /// A variable that visabuild's templates can name, and what it is.
    Named {
        name: String,
        value: Box<Value>,
    },
}

/// A string, of parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Text(pub(super) Vec<Part>);

/// A part of a string.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Literal(String),
    /// A variable and what it is.
    Named {
        name: String,
        value: String,
    },
    /// What Packer fills in when it builds: the inside of `{{ .HTTPIP }}`.
    Runtime(String),
}

impl Text {
    pub(super) fn literal(text: impl Into<String>) -> Self {
        Self(vec![Part::Literal(text.into())])
    }

    pub(super) fn push(&mut self, part: Part) {
        match (self.0.last_mut(), part) {
            (Some(Part::Literal(last)), Part::Literal(more)) => last.push_str(&more),
            (_, Part::Literal(more)) if more.is_empty() => {}
            (_, part) => self.0.push(part),
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|part| self.push(part));
    }

    /// The string with the variables' values.
    pub(super) fn plain(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) | Part::Named { value: text, .. } => text.clone(),
            Part::Runtime(inner) => format!("{{{{ {inner} }}}}"),
        });
        parts.collect()
    }

    /// About how much memory it takes, bytes.
    pub(super) fn size(&self) -> usize {
        let size = |part: &Part| match part {
            Part::Literal(text) | Part::Runtime(text) => text.len(),
            Part::Named { name, value } => name.len() + value.len(),
        };
        self.0.iter().map(size).sum()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Text::literal(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Text::literal(text))
    }
}

impl Value {
    /// What it is, for messages: `a list`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) => "a mapping",
            Self::Named { value, .. } => value.kind(),
        }
    }

    /// The value without the names of variables in it, at no depth.
    pub(super) fn plain(&self) -> Self {
        match self {
            Self::Named { value, .. } => value.plain(),
            Self::Text(text) => Self::from(text.plain()),
            Self::List(items) => Self::List(items.iter().map(Self::plain).collect()),
            Self::Set(items) => Self::Set(items.iter().map(Self::plain).collect()),
            Self::Map(map) => Self::Map(map.iter().map(|(key, value)| (key.clone(), value.plain())).collect()),
            other => other.clone(),
        }
    }

    /// The value itself where it is a variable's.
    pub(super) fn inner(&self) -> &Self {
        match self {
            Self::Named { value, .. } => value.inner(),
            other => other,
        }
    }

    /// A scalar as a string with the names of variables; none for anything else.
    pub(super) fn to_text(&self) -> Option<Text> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bool(value) => Some(Text::literal(value.to_string())),
            Self::Number(value) => Some(Text::literal(number(*value))),
            Self::Named { name, value } => {
                let value = value.to_text()?.plain();
                Some(Text(vec![Part::Named { name: name.clone(), value }]))
            }
            Self::Null | Self::List(_) | Self::Set(_) | Self::Map(_) => None,
        }
    }

    /// A scalar as a plain string.
    pub(super) fn to_plain(&self) -> Option<String> {
        self.to_text().map(|text| text.plain())
    }

    /// Whether it is true, also as a string.
    pub(super) fn is_true(&self) -> Option<bool> {
        match self.to_plain()?.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" | "" => Some(false),
            _ => None,
        }
    }

    /// Names of the variables in it.
    pub(super) fn names(&self, names: &mut Vec<String>) {
        match self {
            Self::Named { name, .. } => names.push(name.clone()),
            Self::Text(text) => names.extend(text.0.iter().filter_map(|part| match part {
                Part::Named { name, .. } => Some(name.clone()),
                Part::Literal(_) | Part::Runtime(_) => None,
            })),
            Self::List(items) | Self::Set(items) => items.iter().for_each(|item| item.names(names)),
            Self::Map(map) => map.values().for_each(|value| value.names(names)),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }

    /// A list, a set or a mapping.
    pub(super) fn is_collection(&self) -> bool {
        matches!(self, Self::List(_) | Self::Set(_) | Self::Map(_))
    }

    /// A set as a list; anything else as it is.
    pub(super) fn listed(self) -> Self {
        match self {
            Self::Set(items) => Self::List(items),
            other => other,
        }
    }

    /// The set of these values: strings by their bytes, numbers by their size, `false` first. What is no scalar stays
    /// behind in its own order.
    pub(super) fn set(mut items: Vec<Self>) -> Self {
        items.sort_by(|a, b| match (a.inner(), b.inner()) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (a, b) => {
                let (a, b) = (a.to_plain(), b.to_plain());
                a.is_none().cmp(&b.is_none()).then_with(|| a.cmp(&b))
            }
        });
        items.dedup_by(|a, b| a.plain() == b.plain());
        Self::Set(items)
    }

    /// About how much memory it takes, bytes.
    pub(super) fn size(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::Text(text) => text.size(),
            Self::List(items) | Self::Set(items) => items.iter().map(Self::size).sum(),
            Self::Map(map) => map.iter().map(|(key, value)| key.len() + own + value.size()).sum(),
            Self::Named { name, value } => name.len() + value.size(),
        }
    }

    /// As JSON has it; `null` for what JSON has no number for.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(value) if is_whole(*value) => {
                number(*value).parse::<i64>().map_or(Json::Null, |value| Json::Number(value.into()))
            }
            Self::Number(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Self::Text(text) => Json::String(text.plain()),
            Self::List(items) | Self::Set(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(map) => {
                // HCL's mappings have no order but that of their keys.
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                Json::Object(entries.into_iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
            Self::Named { value, .. } => value.to_json(),
        }
    }

    /// The number that is written so; one that is not exact stays text.
    pub(super) fn from_digits(digits: &str) -> Self {
        let number = digits.parse::<f64>().ok().filter(|number| exact(*number).is_ok());
        number.map_or_else(|| Self::from(digits), Self::Number)
    }

    /// From JSON.
    pub(super) fn from_json(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(value) => Self::from_digits(&value.to_string()),
            Json::String(text) => Self::from(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Json::Object(map) => Self::Map(map.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect()),
        }
    }
}

/// All whole numbers below it are exact: 2^53.
pub(super) const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Whether a number is a whole one that is written as such.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < LARGEST
}

/// What was computed: HCL's numbers have more digits, so that 0.1 + 0.2 is 0.3. Whole numbers that may be others are
/// refused.
pub(super) fn exact(value: f64) -> Result<f64, String> {
    if value.abs() >= LARGEST || !value.is_finite() {
        return Err(format!("{value} is too large: numbers are exact below {LARGEST}"));
    }
    let rounded = if is_whole(value) { value } else { format!("{value:.14e}").parse().unwrap_or(value) };
    Ok(rounded)
}

/// A number as HCL writes it.
pub(super) fn number(value: f64) -> String {
    if is_whole(value) { format!("{value:.0}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stay_known() {
        let memory = Value::Named { name: "memory".to_owned(), value: Box::new(Value::Number(2048.0)) };
        let mut text = Text::literal("-m ");
        text.append(memory.to_text().unwrap());
        assert_eq!(text.plain(), "-m 2048");
        let mut names = Vec::new();
        Value::List(vec![Value::Text(text), memory]).names(&mut names);
        assert_eq!(names, ["memory", "memory"]);
    }

    #[test]
    fn whole_numbers_have_no_point() {
        assert_eq!([4096.0, -1.0, 0.5].map(number), ["4096", "-1", "0.5"]);
        assert_eq!(exact(0.1 + 0.2), Ok(0.3));
        assert!(exact(LARGEST - 1.0).is_ok() && exact(LARGEST).is_err());
        assert_eq!(Value::from_digits("9007199254740993"), Value::from("9007199254740993"));
        assert_eq!(Value::from_digits("4096"), Value::Number(4096.0));
    }
}
