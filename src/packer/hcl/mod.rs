//! Packer's newer language: HCL.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Body, Structure};

use self::builds::Builds;
use self::globals::{Globals, Local};
pub(super) use self::source::Source;
use super::budget::Budget;
use super::document::{Document, Findings};
use super::{Given, variables as names};
use crate::error::Problem;
use crate::template::nearest::suggestion;

mod builds;
mod evaluate;
mod functions;
mod globals;
mod source;
mod text;
mod types;
mod variables;

pub(in crate::packer) use variables::assignments;

/// Blocks of a template.
const BLOCKS: [&str; 8] = ["build", "data", "local", "locals", "packer", "source", "variable", "variables"];

/// Reads the project that `sources` are the files of.
pub(super) fn read(sources: &[Source], folder: &Path, given: &Given, findings: &mut Findings) -> Option<Document> {
    let mut bodies = Vec::new();
    for source in sources {
        match source.body() {
            Ok(body) => bodies.push((source, body)),
            Err(problem) => findings.fault(problem),
        }
    }
    if bodies.len() < sources.len() {
        return None;
    }
    check(&bodies, findings);
    let budget = Budget::default();
    let declared = variables::declared(&bodies, folder, (given, &budget), findings);
    let names = names::names(&declared);
    let name = |name: &str| names.get(name).cloned().unwrap_or_default();
    let values = declared.iter().map(|variable| {
        let value = variable.value.clone().unwrap_or_else(|| "".into());
        (variable.name.clone(), names::named(&name(&variable.name), value))
    });
    let sensitive = declared.iter().filter(|variable| variable.sensitive).map(|variable| name(&variable.name));
    let secrets = declared.iter().filter(|variable| variable.sensitive).map(|variable| &variable.name);
    let unset = declared.iter().filter_map(|variable| variable.environment.as_ref());
    let unset = unset.filter(|name| given.environment.get(*name).is_none_or(String::is_empty));
    let globals = Globals {
        unset: unset.cloned().collect(),
        budget: &budget,
        times: &given.times,
        folder,
        environment: &given.environment,
        variables: values.collect(),
        sensitive: sensitive.collect(),
        secrets: secrets.cloned().collect(),
        may_ask: false,
        locals: locals(&bodies, findings),
        known: RefCell::default(),
        open: RefCell::default(),
        building: RefCell::default(),
    };
    variables::validate(&bodies, &globals, findings);
    let builds = Builds::new(&bodies, &globals, findings).read();
    Some(Document { folder: folder.to_owned(), variables: declared, builds, times: given.times.used.take() })
}

/// Reports what stands where only blocks can, and unknown blocks.
fn check(bodies: &[(&Source, Body)], findings: &mut Findings) {
    for (source, body) in bodies {
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    let place = source.place_of(attribute);
                    findings.fault(Problem::at(place, format!("`{}` cannot stand here", attribute.key.as_str())));
                }
                Structure::Block(block) if block.ident.as_str() == "data" => {
                    let what = "data sources ask services, which an import does not";
                    findings.unsupported(&source.place_of(block), what, "write the value down, or make it a variable");
                }
                Structure::Block(block) if !BLOCKS.contains(&block.ident.as_str()) => {
                    let name = block.ident.as_str();
                    let problem = Problem::at(source.place_of(block), format!("unknown block `{name}`"));
                    let hint = suggestion(name, BLOCKS);
                    findings.fault(hint.map_or(problem.clone(), |hint| problem.hint(hint)));
                }
                Structure::Block(_) => {}
            }
        }
    }
}

fn is_false(expression: &Expression) -> bool {
    matches!(expression, Expression::Bool(truth) if !**truth)
}

/// All locals by their names.
fn locals<'a>(bodies: &'a [(&'a Source, Body)], findings: &mut Findings) -> BTreeMap<String, Local<'a>> {
    let mut locals = BTreeMap::new();
    for (source, body) in bodies {
        for block in body.blocks() {
            let is_local = block.ident.as_str() == "local";
            let mut add = |name: &str, expression, attribute: &Attribute| {
                let truth = |attribute: &Attribute| is_false(&attribute.value);
                let sensitive = is_local && block.body.get_attribute("sensitive").is_some_and(|a| !truth(a));
                let local = Local { source, expression, sensitive };
                if locals.insert(name.to_owned(), local).is_some() {
                    let place = source.place_of(attribute);
                    findings.fault(Problem::at(place, format!("there already is a `local.{name}`")));
                }
            };
            match (block.ident.as_str(), block.labels.first()) {
                ("locals", _) => block.body.attributes().for_each(|attribute| {
                    add(attribute.key.as_str(), &attribute.value, attribute);
                }),
                ("local", Some(name)) => {
                    if let Some(attribute) = block.body.get_attribute("expression") {
                        add(name.as_str(), &attribute.value, attribute);
                    }
                }
                _ => {}
            }
        }
    }
    locals
}
