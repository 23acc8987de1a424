//! JSON Schemas (draft 2020-12) of a project's files, for editors.
//!
//! They are made of the [tables](super::keys) by which the resolver knows keys. A schema is never stricter than the
//! resolver: a value that its variables could make right passes.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde_json::{Map as Object, Value, json};

use super::keys::project::{CONFIG, ENVIRONMENT, MANIFEST, PACKAGE};
use super::keys::{Effect, Form, Key, Map, Table};
use super::scalar;

/// A file of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// config.yml
    Config,
    /// templates/NAME/manifest.yml
    Manifest,
    /// templates/NAME/environment.yml
    Environment,
    /// packages/NAME/manifest.yml
    Package,
}

/// Text that tera has something to do with.
const TEMPLATE: &str = r"\{[{%#]";

/// The schema of a file.
pub fn schema(document: Document) -> Value {
    let (table, file, may_be_empty) = match document {
        Document::Config => (&CONFIG, "config.yml", false),
        Document::Manifest => (&MANIFEST, "templates/NAME/manifest.yml", true),
        Document::Environment => (&ENVIRONMENT, "templates/NAME/environment.yml", true),
        Document::Package => (&PACKAGE, "packages/NAME/manifest.yml", true),
    };
    let mut schemas = Schemas::default();
    let root = schemas.form(&Form::Table(table), may_be_empty);
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{file} of visabuild"),
        "description": table.about,
    });
    if let (Value::Object(whole), Value::Object(root)) = (&mut whole, root) {
        whole.extend(root);
        whole.insert("$defs".to_owned(), schemas.done.into_iter().collect::<Object<_, _>>().into());
    }
    whole
}

/// The schemas of tables, each made once.
#[derive(Debug, Default)]
struct Schemas {
    done: BTreeMap<String, Value>,
}

impl Schemas {
    fn table(&mut self, table: &'static Table) -> Value {
        let reference = json!({ "$ref": format!("#/$defs/{}", table.name) });
        if self.done.contains_key(table.name) {
            return reference;
        }
        // Stands in for it while its own keys are made, in which it may come again.
        self.done.insert(table.name.to_owned(), Value::Null);
        let keys: Vec<&Key> = table.keys().map(|(_, key)| key).filter(|key| key.is_taken()).collect();
        let properties: Object<String, Value> = keys.iter().map(|key| (key.name.to_owned(), self.key(key))).collect();
        let mut schema = json!({
            "description": table.about,
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        let required: Vec<_> = keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if !table.one_of.is_empty() {
            // A key with nothing after it counts as absent.
            let there =
                |name: &&str| json!({ "required": [name], "properties": { *name: { "not": { "type": "null" } } } });
            schema["oneOf"] = table.one_of.iter().map(there).collect();
        }
        self.done.insert(table.name.to_owned(), schema);
        reference
    }

    fn key(&mut self, key: &Key) -> Value {
        let mut schema = match key.effect {
            Effect::Fixed { value, .. } => fixed(value),
            _ => self.form(&key.form, !key.is_required),
        };
        schema["description"] = match (key.effect, key.about) {
            (Effect::Ignored, about) => format!("without effect: {about}"),
            (Effect::Fixed { value, refusal, .. }, _) => format!("only `{value}`: {}", refusal.why),
            (_, about) => about.to_owned(),
        }
        .into();
        if let Ok(example) = serde_yaml::from_str::<Value>(key.example) {
            schema["examples"] = json!([example]);
        }
        schema
    }

    fn form(&mut self, form: &Form, or_nothing: bool) -> Value {
        let types = |names: &[&str]| -> Value { names.iter().copied().chain(or_nothing.then_some("null")).collect() };
        let matching =
            |names: &[&str], pattern: &str| json!({ "type": types(names), "pattern": format!("{pattern}|{TEMPLATE}") });
        match form {
            Form::Text | Form::Plain => json!({ "type": types(&["string", "number", "boolean"]) }),
            Form::Boolean => {
                let mut schema =
                    matching(&["boolean", "string", "integer"], &format!("{}|{}", said(true), said(false)));
                (schema["minimum"], schema["maximum"]) = (json!(0), json!(1));
                schema
            }
            Form::Number(least) => {
                let mut schema = matching(&["integer", "string"], r"^\s*\+?[0-9]+\s*$");
                schema["minimum"] = json!(least);
                schema
            }
            Form::Size => {
                let mut schema = matching(&["integer", "string"], r"^\s*[0-9]+[bkmgtBKMGT]?\s*$");
                schema["minimum"] = json!(1);
                schema
            }
            Form::Duration => {
                let pattern = r"^\s*-|^\s*(0|([0-9.]+(ns|us|µs|μs|ms|s|m|h))+)\s*$";
                let mut schema = matching(&["string", "integer"], pattern);
                schema["maximum"] = json!(0);
                schema
            }
            Form::Mode => matching(&["integer", "string"], r"^\s*(0o)?[0-7]+\s*$"),
            Form::Word => matching(&["string", "number", "boolean"], r"^[^\s,-][^\s,]*$"),
            Form::OneOf(names) => named(&names(), or_nothing, true),
            Form::Exactly(names) => named(&names(), or_nothing, false),
            Form::List(item) => json!({ "type": types(&["array"]), "items": self.form(item, false) }),
            Form::Some(item) => json!({ "type": types(&["array"]), "items": self.form(item, false), "minItems": 1 }),
            Form::Map(map) => self.map(map, &types(&["object"])),
            Form::Table(table) => or_null(self.table(table), or_nothing),
            Form::ByType(kinds) => or_null(self.by_type(kinds), or_nothing),
            Form::Either(forms) => {
                let mut forms: Vec<Value> = forms.iter().map(|form| self.form(form, false)).collect();
                forms.extend(or_nothing.then(|| json!({ "type": "null" })));
                json!({ "anyOf": forms })
            }
        }
    }

    fn map(&mut self, map: &Map, types: &Value) -> Value {
        let mut schema = json!({ "type": types, "additionalProperties": self.form(&map.value, map.or_nothing) });
        if let Some(pattern) = map.names {
            schema["propertyNames"] = json!({ "pattern": pattern });
        }
        if map.some {
            schema["minProperties"] = json!(1);
        }
        schema
    }

    fn by_type(&mut self, kinds: &[(&'static str, &'static Table)]) -> Value {
        let names: Vec<_> = kinds.iter().map(|(name, _)| *name).collect();
        let cases: Vec<Value> = kinds
            .iter()
            .map(|(name, table)| {
                let is = json!({ "properties": { "type": { "const": name } }, "required": ["type"] });
                json!({ "if": is, "then": self.table(table) })
            })
            .collect();
        json!({
            "type": "object",
            "properties": { "type": named(&names, false, true) },
            "required": ["type"],
            "allOf": cases,
        })
    }
}

/// One of these names, or, where they are `rendered`, what becomes one.
fn named(names: &[&str], or_nothing: bool, rendered: bool) -> Value {
    let mut forms = vec![json!({ "enum": names })];
    forms.extend(rendered.then(|| json!({ "type": "string", "pattern": TEMPLATE })));
    forms.extend(or_nothing.then(|| json!({ "type": "null" })));
    json!({ "anyOf": forms })
}

/// This value only, however it is written.
fn fixed(value: &str) -> Value {
    let Ok(boolean) = scalar::boolean(value) else { return named_one(value) };
    json!({ "anyOf": [
        { "enum": [boolean, i32::from(boolean), null] },
        { "type": "string", "pattern": format!("{}|{TEMPLATE}", said(boolean)) },
    ] })
}

fn named_one(value: &str) -> Value {
    json!({ "anyOf": [{ "enum": [value, null] }, { "type": "string", "pattern": TEMPLATE }] })
}

/// The words for a boolean, in any case ([`scalar::boolean`]).
fn said(value: bool) -> &'static str {
    if value {
        r"^\s*([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|1)\s*$"
    } else {
        r"^\s*([Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff]|0)\s*$"
    }
}

fn or_null(schema: Value, or_nothing: bool) -> Value {
    if or_nothing { json!({ "anyOf": [schema, { "type": "null" }] }) } else { schema }
}
