//! Sources and builds.

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::Decorate;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Block as HclBlock, BlockLabel, Body, Structure};
use indexmap::IndexMap;

use super::Globals;
use super::evaluate::{Evaluator, Result};
use super::functions::NOW;
use super::globals::Building;
use super::source::{Source, comments};
use crate::error::{Location, Problem};
use crate::packer::document::{Block, Build, Field, Findings};
use crate::packer::go_template::{self, Fault, Functions};
use crate::packer::value::Value;
use crate::packer::{MOST_BUILDS, is_read};
use crate::template::nearest::suggestion;

/// Options of a build that are no blocks.
const ATTRIBUTES: [&str; 3] = ["description", "name", "sources"];

/// Reads builds.
pub(super) struct Builds<'a, 'f> {
    globals: &'a Globals<'a>,
    bodies: &'a [(&'a Source, Body)],
    sources: BTreeMap<String, (&'a Source, &'a HclBlock)>,
    findings: &'f mut Findings,
}

/// A block of a body, after `dynamic` ones were written out.
struct Found<'a> {
    name: String,
    labels: Vec<String>,
    body: &'a Body,
    place: Location,
    comments: Vec<String>,
    evaluator: Evaluator<'a>,
}

impl<'a, 'f> Builds<'a, 'f> {
    pub(super) fn new(bodies: &'a [(&'a Source, Body)], globals: &'a Globals<'a>, findings: &'f mut Findings) -> Self {
        let mut sources = BTreeMap::new();
        for (source, body) in bodies {
            for block in body.get_blocks("source") {
                let labels: Vec<_> = block.labels.iter().map(BlockLabel::as_str).collect();
                let [kind, name] = labels[..] else {
                    findings.fault(Problem::at(source.place_of(block), "a source has a type and a name"));
                    continue;
                };
                if sources.insert(format!("{kind}.{name}"), (*source, block)).is_some() {
                    let message = format!("there already is a source `{kind}.{name}`");
                    findings.fault(Problem::at(source.place_of(block), message));
                }
            }
        }
        Self { globals, bodies, sources, findings }
    }

    /// All builds.
    pub(super) fn read(mut self) -> Vec<Build> {
        let mut builds = Vec::new();
        let mut any = false;
        for (source, body) in self.bodies {
            for block in body.get_blocks("build") {
                any = true;
                self.build(source, block, &mut builds);
            }
        }
        if let (false, Some((source, _))) = (any, self.bodies.first()) {
            self.findings.fault(Problem::at(source.place(0), "no build is declared"));
        }
        builds
    }

    fn build(&mut self, source: &'a Source, block: &'a HclBlock, builds: &mut Vec<Build>) {
        let evaluator = Evaluator::new(source, self.globals);
        let found = self.blocks(&block.body, &evaluator);
        self.known(source, block);
        let attribute = |name: &str| block.body.get_attribute(name);
        let mut wanted: Vec<(String, Location, Option<usize>)> = Vec::new();
        if let Some(attribute) = attribute("sources") {
            match evaluator.plain(&attribute.value).map(Value::listed) {
                Ok(Value::List(items)) => {
                    let names = items.iter().filter_map(Value::to_plain);
                    wanted.extend(names.map(|name| (name, source.place_of(attribute), None)));
                }
                Ok(other) => {
                    let message = format!("expected a list, found {}", other.kind());
                    self.findings.fault(Problem::at(source.place_of(attribute), message));
                }
                Err(problem) => self.findings.fault(problem),
            }
        }
        for (at, one) in found.iter().enumerate().filter(|(_, one)| one.name == "source") {
            wanted.push((one.labels.join("."), one.place.clone(), Some(at)));
        }
        if wanted.is_empty() {
            self.findings.fault(Problem::at(source.place_of(block), "the build has no sources"));
        }
        let text = |name: &str, findings: &mut Findings| {
            let value = evaluator.value(&attribute(name)?.value);
            value.map_err(|problem| findings.fault(problem)).ok().filter(|value| value.to_text().is_some())
        };
        let description = text("description", self.findings);
        let build_name = text("name", self.findings).and_then(|name| name.to_plain());
        for (name, place, inline) in wanted {
            if builds.len() >= MOST_BUILDS {
                self.findings.fault(Problem::at(place, format!("more than {MOST_BUILDS} images")));
                break;
            }
            if self.globals.budget.left() == 0 {
                break;
            }
            let name = name.strip_prefix("source.").unwrap_or(&name).to_owned();
            let Some((kind, own)) = name.split_once('.').map(|(kind, own)| (kind.to_owned(), own.to_owned())) else {
                self.findings.fault(Problem::at(place, format!("`{name}` names no source")).hint("write `TYPE.NAME`"));
                continue;
            };
            let Some(&(file, declared)) = self.sources.get(&name) else {
                let problem = Problem::at(place, format!("unknown source `{name}`"));
                let hint = suggestion(&name, self.sources.keys().map(String::as_str).collect::<Vec<_>>());
                self.findings.fault(hint.map_or(problem.clone(), |hint| problem.hint(hint)));
                continue;
            };
            let inline = inline.and_then(|at| found.get(at));
            let block = build_name.clone().unwrap_or_default();
            let building = Building { name: own.clone(), kind: kind.clone(), declared: own.clone(), block };
            self.globals.building.replace(Some(building));
            // The name of this use, which options may ask for.
            let own = inline
                .and_then(|more| self.field(more.body.get_attribute("name")?, &more.evaluator)?.value.to_plain())
                .unwrap_or(own);
            if let Some(building) = self.globals.building.borrow_mut().as_mut() {
                building.name.clone_from(&own);
            }
            let mut builder = self.source(file, declared, &kind);
            if let Some(more) = inline {
                for field in self.fields(more.body, &more.evaluator) {
                    if field.name == "name" {
                        continue;
                    }
                    builder.fields.retain(|other| other.name != field.name);
                    builder.fields.push(field);
                }
            }
            let names = [own.clone(), format!("{kind}.{own}")];
            let Steps { provisioners, post_processors } = self.steps(&found, [&names[0], &names[1]]);
            let name = if builds.iter().any(|build| build.name == own) {
                build_name.clone().map_or(own.clone(), |build| format!("{build}-{own}"))
            } else {
                own
            };
            let [_, full_name] = names;
            builds.push(Build {
                name,
                full_name,
                description: description.clone(),
                source: builder,
                provisioners,
                post_processors,
            });
        }
        self.globals.building.replace(None);
    }

    /// Reports options of a build that there are not.
    fn known(&mut self, source: &Source, block: &HclBlock) {
        for attribute in block.body.attributes() {
            let name = attribute.key.as_str();
            if !ATTRIBUTES.contains(&name) {
                let place = source.place_of(attribute);
                let problem = Problem::at(place, format!("unknown option `{name}` of a build"));
                let hint = suggestion(name, ATTRIBUTES);
                self.findings.fault(hint.map_or(problem.clone(), |hint| problem.hint(hint)));
            }
        }
    }

    fn source(&mut self, file: &'a Source, block: &'a HclBlock, kind: &str) -> Block {
        let evaluator = Evaluator::new(file, self.globals);
        let fields = if is_read("builder", kind) { self.fields(&block.body, &evaluator) } else { Vec::new() };
        let comments = comments(block.decor().prefix());
        Block { role: "builder", kind: kind.to_owned(), place: file.place_of(block), fields, comments }
    }

    /// Provisioners, also for failures, and what else is done, of one build.
    fn steps(&mut self, found: &[Found<'a>], names: [&str; 2]) -> Steps {
        let mut steps = Steps::default();
        let Steps { provisioners, post_processors } = &mut steps;
        for one in found {
            match one.name.as_str() {
                "provisioner" => provisioners.extend(self.step("provisioner", one, names)),
                "error-cleanup-provisioner" => provisioners.extend(self.step("error-cleanup-provisioner", one, names)),
                "post-processor" => post_processors.push(self.step("post-processor", one, names).into_iter().collect()),
                "post-processors" => {
                    let inner = self.blocks(one.body, &one.evaluator);
                    let chain = inner.iter().filter_map(|inner| self.step("post-processor", inner, names));
                    post_processors.push(chain.collect());
                }
                "source" => {}
                other => {
                    let what = format!("the block `{other}` of a build");
                    self.findings.unsupported(&one.place, what, "");
                }
            }
        }
        steps
    }

    fn step(&mut self, role: &'static str, one: &Found<'a>, names: [&str; 2]) -> Option<Block> {
        let Some(kind) = one.labels.first().cloned() else {
            self.findings.fault(Problem::at(one.place.clone(), format!("the {role} has no type")));
            return None;
        };
        let mut fields = Vec::new();
        if is_read(role, &kind) {
            fields = self.fields(one.body, &one.evaluator);
        } else {
            // Which build it is for is all that matters.
            for name in ["only", "except"] {
                fields.extend(one.body.get_attribute(name).and_then(|attribute| self.field(attribute, &one.evaluator)));
            }
        }
        let block = Block { role, kind, place: one.place.clone(), fields, comments: one.comments.clone() };
        block.for_build(names[0], names[1], self.findings)
    }

    /// The options of a body; blocks are options that are mappings.
    fn fields(&mut self, body: &'a Body, evaluator: &Evaluator<'a>) -> Vec<Field> {
        let attributes: Vec<&'a Attribute> = body.attributes().collect();
        let mut fields: Vec<Field> =
            attributes.into_iter().filter_map(|attribute| self.field(attribute, evaluator)).collect();
        for block in self.blocks(body, evaluator) {
            let inner = self.fields(block.body, &block.evaluator);
            let value = Value::Map(inner.into_iter().map(|field| (field.name, field.value)).collect());
            fields.push(Field { name: block.name, place: block.place, value, comments: block.comments });
        }
        fields
    }

    fn field(&mut self, attribute: &Attribute, evaluator: &Evaluator<'a>) -> Option<Field> {
        let place = evaluator.source.place_of(attribute);
        evaluator.fixed.take();
        let value = match evaluator.value(&attribute.value) {
            Ok(value) => value,
            Err(problem) => {
                self.findings.fault(problem);
                return None;
            }
        };
        let mut comments = comments(attribute.decor().prefix());
        let fixed = evaluator.fixed.take();
        if !fixed.is_empty() {
            comments.push(made_of(&fixed, evaluator.source.shown(&attribute.value)));
        }
        let name = attribute.key.as_str().to_owned();
        let value = self.rendered(value, &place, &mut comments);
        Some(Field { name, place, value, comments })
    }

    /// Carries out Go's templates in all strings of a value.
    fn rendered(&mut self, value: Value, place: &Location, comments: &mut Vec<String>) -> Value {
        match value {
            Value::Named { .. } if value.to_plain().is_some_and(|text| go_template::has_actions(&text)) => {
                let text = value.to_text().unwrap_or_default();
                self.rendered(Value::Text(text), place, comments)
            }
            Value::Text(text) => {
                let name = self.globals.building.borrow().as_ref().map(|building| building.declared.clone());
                let functions = Functions {
                    user: None,
                    secrets: &self.globals.sensitive,
                    budget: self.globals.budget,
                    build_name: name.as_deref(),
                    folder: self.globals.folder,
                    times: self.globals.times,
                };
                match go_template::render(text, &functions) {
                    Ok(text) => Value::Text(text),
                    Err(Fault::Wrong(message)) => {
                        self.findings.fault(Problem::at(place.clone(), message));
                        Value::Null
                    }
                    Err(Fault::Unsupported(what, instead)) => {
                        comments.push(self.findings.unsupported(place, what, instead));
                        Value::from("")
                    }
                }
            }
            // Here ends HCL: what is left is a list.
            Value::List(items) | Value::Set(items) => {
                Value::List(items.into_iter().map(|item| self.rendered(item, place, comments)).collect())
            }
            Value::Map(map) => {
                let entries = map.into_iter().map(|(key, value)| (key, self.rendered(value, place, comments)));
                Value::Map(entries.collect::<IndexMap<_, _>>())
            }
            other => other,
        }
    }

    /// The blocks of a body, with `dynamic` ones written out.
    fn blocks(&mut self, body: &'a Body, evaluator: &Evaluator<'a>) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        for structure in body {
            let Structure::Block(block) = structure else { continue };
            let place = evaluator.source.place_of(block);
            let labels: Vec<_> = block.labels.iter().map(|label| label.as_str().to_owned()).collect();
            if block.ident.as_str() != "dynamic" {
                let comments = comments(block.decor().prefix());
                let name = block.ident.as_str().to_owned();
                let evaluator = evaluator.with([]);
                found.push(Found { name, labels, body: &block.body, place, comments, evaluator });
                continue;
            }
            match dynamic(block, &labels, evaluator, &place) {
                Ok(blocks) => found.extend(blocks),
                Err(problem) => self.findings.fault(problem),
            }
        }
        found
    }
}

/// What is done in a build.
#[derive(Debug, Default)]
struct Steps {
    provisioners: Vec<Block>,
    /// In chains.
    post_processors: Vec<Vec<Block>>,
}

/// How a value came to be that no longer names the variables it is made of.
fn made_of(fixed: &BTreeSet<String>, shown: Option<String>) -> String {
    let names: Vec<_> = fixed.iter().map(String::as_str).collect();
    match (fixed.contains(NOW), shown) {
        (true, Some(shown)) => format!("The time of the import is in it; Packer takes that of each build: {shown}"),
        (true, None) => "The time of the import is in it; Packer takes that of each build.".to_owned(),
        (false, Some(shown)) => format!("Packer computes it: {shown}"),
        (false, None) => format!("Values of Packer's variables are in it: {}", names.join(", ")),
    }
}

/// The blocks that a `dynamic` one stands for.
fn dynamic<'a>(
    block: &'a HclBlock,
    labels: &[String],
    evaluator: &Evaluator<'a>,
    place: &Location,
) -> Result<Vec<Found<'a>>> {
    let missing = |what: &str| Problem::at(place.clone(), format!("`dynamic` needs {what}"));
    let name = labels.first().ok_or_else(|| missing("a name"))?;
    let content = block.body.get_blocks("content").next().ok_or_else(|| missing("`content`"))?;
    let for_each = block.body.get_attribute("for_each").ok_or_else(|| missing("`for_each`"))?;
    let iterator = match block.body.get_attribute("iterator").map(|attribute| &attribute.value) {
        Some(Expression::Variable(iterator)) => iterator.as_str().to_owned(),
        _ => name.clone(),
    };
    let mut found = Vec::new();
    for turn in evaluator.turns(&for_each.value, Some("key"), "value")? {
        let each = Value::Map(turn.into_iter().collect());
        let evaluator = evaluator.with([(iterator.clone(), each)]);
        let labels =
            match block.body.get_attribute("labels").map(|labels| evaluator.plain(&labels.value).map(Value::listed)) {
                Some(Ok(Value::List(items))) => items.iter().filter_map(Value::to_plain).collect(),
                Some(Err(problem)) => return Err(problem),
                _ => Vec::new(),
            };
        let comments = comments(content.decor().prefix());
        let (name, place) = (name.clone(), place.clone());
        found.push(Found { name, labels, body: &content.body, place, comments, evaluator });
    }
    Ok(found)
}
