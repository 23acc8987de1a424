//! Packer's older language: one JSON file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use indexmap::IndexMap;

use super::budget::Budget;
use super::document::{Block, Build, Document, Field, Findings, Variable};
use super::go_template::{self, Fault, Functions};
use super::steps::CLEANUP;
use super::value::{Text, Value};
use super::{Given, MOST_BUILDS, is_read, variables};
use crate::error::{Location, Problem};
use crate::template::nearest::suggestion;
use crate::template::problems::Problems;
use crate::template::yaml::{self, Content, Entry, Kind, Node};

/// Keys of a template (Packer's documentation, "Template structure").
const KEYS: [&str; 8] = [
    "builders",
    "description",
    "error-cleanup-provisioner",
    "min_packer_version",
    "post-processors",
    "provisioners",
    "sensitive-variables",
    "variables",
];

/// Those of them that are lists.
const LISTS: [&str; 4] = ["builders", "post-processors", "provisioners", "sensitive-variables"];

/// Whether a file's text is a template of this kind; the fault of what is no JSON.
pub(super) fn is_template(file: &Path, text: &str) -> Result<bool, Problem> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Ok(json.get("builders").is_some()),
        Err(error) => Err(syntax_problem(file, &error)),
    }
}

fn syntax_problem(file: &Path, error: &serde_json::Error) -> Problem {
    let place = Location { file: file.to_owned(), line: error.line().max(1), column: error.column().max(1) };
    let message = error.to_string();
    Problem::at(place, format!("JSON: {}", message.split(" at line ").next().unwrap_or(&message)))
}

/// Reads the template in `text`.
pub(super) fn read(file: &Path, text: &str, given: &Given, findings: &mut Findings) -> Option<Document> {
    let root = parse(file, text, &mut findings.faults)?;
    let mut reader = Reader {
        given,
        folder: folder(file),
        findings,
        values: BTreeMap::new(),
        sensitive: Vec::new(),
        secrets: BTreeSet::new(),
        budget: Budget::default(),
    };
    let Content::Map(entries) = &root.content else {
        reader.findings.fault(Problem::at(root.location(), format!("expected a mapping, found {}", root.kind())));
        return None;
    };
    // Keys that begin with `_` are comments.
    let known = |entry: &&Entry| KEYS.contains(&entry.key.as_str()) || entry.key.starts_with('_');
    for entry in entries.iter().filter(|entry| !known(entry)) {
        let problem = Problem::at(entry.location(), format!("unknown key `{}`", entry.key));
        let hint = suggestion(&entry.key, KEYS);
        reader.findings.fault(hint.map_or(problem.clone(), |hint| problem.hint(hint)));
    }
    let get = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    for node in LISTS.iter().filter_map(|key| get(key)) {
        if !matches!(node.content, Content::List(_) | Content::Null) {
            reader.findings.fault(Problem::at(node.location(), format!("expected a list, found {}", node.kind())));
        }
    }
    for node in get("sensitive-variables").into_iter().flat_map(list) {
        match scalar(node) {
            Some(name) => reader.sensitive.push(name),
            None => {
                let message = format!("expected a string, found {}", node.kind());
                reader.findings.fault(Problem::at(node.location(), message));
            }
        }
    }
    let variables = get("variables").map(|node| reader.variables(node)).unwrap_or_default();
    let builds = reader.builds(&root, &get);
    Some(Document { folder: reader.folder, variables, builds, times: given.times.used.take() })
}

fn folder(file: &Path) -> std::path::PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// The tree of a JSON text. JSON is read strictly first; the positions are those of YAML, which JSON is part of.
pub(super) fn parse(file: &Path, text: &str, problems: &mut Problems) -> Option<Node> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        problems.add(syntax_problem(file, &error));
        return None;
    }
    // YAML wants no tabs between tokens, and JSON allows them nowhere else.
    match yaml::parse(file, without_pairs(&text.replace('\t', " "))) {
        Ok(Some(node)) => Some(node),
        Ok(None) => {
            problems.at(Location { file: file.to_owned(), line: 1, column: 1 }, "the file is empty");
            None
        }
        Err(faults) => {
            problems.extend(faults);
            None
        }
    }
}

/// JSON's text with YAML's escapes for what JSON writes as a pair of surrogates, which YAML has not.
fn without_pairs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = |from: usize| u32::from_str_radix(rest.get(from..from + 4)?, 16).ok();
        let pair = rest.starts_with("\\u").then(|| Some((unit(2)?, unit(8)?))).flatten();
        let length = if let Some((high @ 0xD800..0xDC00, low @ 0xDC00..0xE000)) = pair {
            out.push_str(&format!("\\U{:08X}", 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
            12
        } else {
            // The character behind it may be a backslash, too.
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            length
        };
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

fn list(node: &Node) -> impl Iterator<Item = &Node> {
    let items: &[Node] = match &node.content {
        Content::List(items) => items,
        _ => &[],
    };
    items.iter()
}

fn scalar(node: &Node) -> Option<String> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

struct Reader<'a> {
    given: &'a Given,
    folder: std::path::PathBuf,
    findings: &'a mut Findings,
    /// Variables, under the names that they get.
    values: BTreeMap<String, Value>,
    sensitive: Vec<String>,
    /// Names that secret variables and those of the environment get.
    secrets: BTreeSet<String>,
    budget: Budget,
}

/// Most variables of a template.
const MOST_VARIABLES: usize = 1000;

impl Reader<'_> {
    fn variables(&mut self, node: &Node) -> Vec<Variable> {
        let Content::Map(entries) = &node.content else {
            self.findings.fault(Problem::at(node.location(), format!("expected a mapping, found {}", node.kind())));
            return Vec::new();
        };
        if let Some(entry) = entries.get(MOST_VARIABLES) {
            self.findings.fault(Problem::at(entry.location(), format!("more than {MOST_VARIABLES} variables")));
            return Vec::new();
        }
        let mut variables: Vec<_> = entries
            .iter()
            .map(|entry| Variable {
                name: entry.key.clone(),
                place: entry.location(),
                value: None,
                description: Vec::new(),
                sensitive: self.sensitive.contains(&entry.key),
                environment: scalar(&entry.value)
                    .filter(|_| self.given.value(&entry.key).is_none())
                    .and_then(|text| environment_variable(&text)),
            })
            .collect();
        let names = variables::names(&variables);
        let closed = variables.iter().filter(|variable| variable.sensitive || variable.environment.is_some());
        self.secrets = closed.filter_map(|variable| names.get(&variable.name).cloned()).collect();
        self.values(&mut variables, entries, &names);
        for (name, problem) in self.given.unknown(&variables) {
            let problem = Problem::new(problem);
            let hint = suggestion(&name, variables.iter().map(|variable| variable.name.as_str()));
            self.findings.fault(hint.map_or(problem.clone(), |hint| problem.hint(hint)));
        }
        variables
    }

    /// Gives the variables their values. One may be made of others, in any order.
    fn values(&mut self, variables: &mut [Variable], entries: &[Entry], names: &BTreeMap<String, String>) {
        let mut open: Vec<usize> = (0..variables.len()).collect();
        loop {
            let mut faulty = Vec::new();
            for &at in &open {
                let variable = &mut variables[at];
                let value = self
                    .given
                    .value(&variable.name)
                    .map_or_else(|| self.default(variable, &entries[at]), |v| Ok(Some(v)));
                match value {
                    Ok(value) => {
                        variable.value.clone_from(&value);
                        let name = names.get(&variable.name).map_or("", String::as_str);
                        let value = self.named(variable, name, value.unwrap_or_else(|| Value::from("")));
                        self.values.insert(variable.name.clone(), value);
                    }
                    Err(fault) => faulty.push((at, fault)),
                }
            }
            if faulty.is_empty() || faulty.len() == open.len() || self.budget.left() == 0 {
                for (at, fault) in faulty {
                    self.fault(fault, &entries[at].value.location());
                    self.values.insert(variables[at].name.clone(), Value::from(""));
                }
                return;
            }
            open = faulty.into_iter().map(|(at, _)| at).collect();
        }
    }

    /// The value under the variable's name. One that a secret is part of stands where it is used, with the secret's
    /// name in it: it is not written as a value.
    fn named(&self, variable: &Variable, name: &str, value: Value) -> Value {
        let mut parts = Vec::new();
        value.names(&mut parts);
        let is_open = variable.sensitive || !parts.iter().any(|part| self.secrets.contains(part));
        if is_open { variables::named(name, value) } else { value }
    }

    /// The value in the template; `null` is none.
    fn default(&self, variable: &Variable, entry: &Entry) -> Result<Option<Value>, Fault> {
        if let Some(name) = &variable.environment {
            let value = self.given.environment.get(name).map_or("", String::as_str);
            return Ok(Some(Value::from(value)));
        }
        match &entry.value.content {
            Content::Scalar { text, .. } => Ok(Some(Value::Text(self.rendered(text, None)?))),
            Content::Null => Ok(None),
            _ => Err(Fault::Wrong(format!("expected a string, found {}", entry.value.kind()))),
        }
    }

    fn rendered(&self, text: &str, build: Option<&str>) -> Result<Text, Fault> {
        let functions = Functions {
            user: Some(&self.values),
            secrets: &self.secrets,
            budget: &self.budget,
            build_name: build,
            folder: &self.folder,
            times: &self.given.times,
        };
        go_template::render(Text::literal(text), &functions)
    }

    fn fault(&mut self, fault: Fault, place: &Location) -> Option<String> {
        match fault {
            Fault::Wrong(message) => {
                self.findings.fault(Problem::at(place.clone(), message));
                None
            }
            Fault::Unsupported(what, instead) => Some(self.findings.unsupported(place, what, instead)),
        }
    }

    fn builds<'n>(&mut self, root: &Node, get: &impl Fn(&str) -> Option<&'n Node>) -> Vec<Build> {
        let Some(builders) = get("builders").filter(|node| list(node).next().is_some()) else {
            self.findings.fault(Problem::at(root.location(), "no builder is declared"));
            return Vec::new();
        };
        let mut builds = Vec::new();
        for node in list(builders) {
            if builds.len() >= MOST_BUILDS {
                self.findings.fault(Problem::at(node.location(), format!("more than {MOST_BUILDS} images")));
                break;
            }
            let Some(mut source) = self.block("builder", node, None) else { continue };
            let named = source.fields.iter().position(|field| field.name == "name");
            let named = named.and_then(|at| source.fields.remove(at).value.to_plain());
            let name = named.unwrap_or_else(|| source.kind.clone());
            // The fields again, now that the build's name is known.
            let Some(again) = self.block("builder", node, Some(&name)) else { continue };
            source.fields = again.fields.into_iter().filter(|field| field.name != "name").collect();
            let mut blocks = |nodes: Vec<&Node>, role| -> Vec<Block> {
                let mut blocks = Vec::new();
                for node in nodes {
                    let block = self.block(role, node, Some(&name));
                    blocks.extend(block.and_then(|block| block.for_build(&name, &name, self.findings)));
                }
                blocks
            };
            let mut provisioners = blocks(get("provisioners").map(flat).unwrap_or_default(), "provisioner");
            provisioners.extend(blocks(
                get(CLEANUP).filter(|node| !matches!(node.content, Content::Null)).into_iter().collect(),
                CLEANUP,
            ));
            let chains = get("post-processors").into_iter().flat_map(list).map(|item| match item.content {
                Content::List(_) => flat(item),
                _ => vec![item],
            });
            let post_processors = chains.map(|chain| blocks(chain, "post-processor")).collect();
            let description = get("description").and_then(scalar).map(Value::from);
            builds.push(Build { full_name: name.clone(), name, description, source, provisioners, post_processors });
        }
        builds
    }

    /// A mapping with a `type`, or its type alone.
    fn block(&mut self, role: &'static str, node: &Node, build: Option<&str>) -> Option<Block> {
        let entries = match &node.content {
            Content::Scalar { text, .. } if role == "post-processor" => {
                let kind = text.clone();
                return Some(Block { role, kind, place: node.location(), fields: Vec::new(), comments: Vec::new() });
            }
            Content::Map(entries) => entries,
            _ => {
                let message = format!("expected a mapping, found {}", node.kind());
                self.findings.fault(Problem::at(node.location(), message));
                return None;
            }
        };
        let Some(kind) = entries.iter().find(|entry| entry.key == "type").and_then(|entry| scalar(&entry.value)) else {
            self.findings.fault(Problem::at(node.location(), "`type` is missing"));
            return None;
        };
        let mut block = Block { role, kind, place: node.location(), fields: Vec::new(), comments: Vec::new() };
        // Of what has no counterpart here, which build it is for is all that matters.
        let is_asked =
            |key: &str| is_read(role, &block.kind) || matches!(key, "name" | "only" | "except" | "communicator");
        let asked: Vec<_> = entries.iter().filter(|entry| entry.key != "type" && is_asked(&entry.key)).collect();
        for entry in asked {
            if entry.key.starts_with('_') {
                block.comments.extend(scalar(&entry.value));
                continue;
            }
            let mut comments = Vec::new();
            let value = self.value(&entry.value, build, &mut comments);
            block.fields.push(Field { name: entry.key.clone(), place: entry.location(), value, comments });
        }
        Some(block)
    }

    fn value(&mut self, node: &Node, build: Option<&str>, comments: &mut Vec<String>) -> Value {
        match &node.content {
            Content::Null => Value::Null,
            Content::Scalar { text, kind: Kind::Boolean } => Value::Bool(text == "true"),
            Content::Scalar { text, kind: Kind::Number } => Value::from_digits(text),
            // A builder is read before its name is known.
            Content::Scalar { text, .. } => match self.rendered(text, build.or(Some(""))) {
                Ok(text) => Value::Text(text),
                Err(fault) => {
                    comments.extend(self.fault(fault, &node.location()));
                    Value::from("")
                }
            },
            Content::List(items) => Value::List(items.iter().map(|item| self.value(item, build, comments)).collect()),
            Content::Map(entries) => {
                let value = |entry: &Entry| (entry.key.clone(), self.value(&entry.value, build, comments));
                Value::Map(entries.iter().map(value).collect::<IndexMap<_, _>>())
            }
        }
    }
}

/// The items of a list and of the lists in it.
fn flat(node: &Node) -> Vec<&Node> {
    list(node).flat_map(|item| if matches!(item.content, Content::List(_)) { flat(item) } else { vec![item] }).collect()
}

/// The X of a text that is nothing but `{{ env "X" }}`.
fn environment_variable(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim().strip_prefix("env")?.trim();
    let name = inner.trim_matches(['`', '"']);
    crate::template::scalar::is_identifier(name).then(|| name.to_owned())
}
