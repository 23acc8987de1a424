//! Input variables: declarations, types, values, conditions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hcl_edit::Decorate;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Block, Body};
use hcl_edit::template::Element;

use super::evaluate::{Evaluator, Result};
use super::source::{Source, comments};
use super::types::Type;
use super::{Globals, functions};
use crate::error::Problem;
use crate::packer::Given;
use crate::packer::budget::Budget;
use crate::packer::document::{Findings, Variable};
use crate::packer::go_template::Times;
use crate::packer::value::Value;
use crate::template::nearest::suggestion;
use crate::template::scalar::is_identifier;

/// Most variables of a project.
const MOST: usize = 1000;

/// What constants see: no variables, and the environment only where it is asked for.
fn constants<'a>(
    folder: &'a Path,
    budget: &'a Budget,
    times: &'a Times,
    environment: &'a BTreeMap<String, String>,
) -> Globals<'a> {
    Globals {
        budget,
        times,
        folder,
        environment,
        variables: BTreeMap::new(),
        sensitive: BTreeSet::new(),
        secrets: BTreeSet::new(),
        may_ask: true,
        unset: BTreeSet::new(),
        locals: BTreeMap::new(),
        known: RefCell::default(),
        open: RefCell::default(),
        building: RefCell::default(),
    }
}

/// The values of a file of variables.
pub(in crate::packer) fn assignments(source: &Source, folder: &Path) -> Result<Vec<(String, Value)>> {
    let body = source.body()?;
    let (budget, times, environment) = (Budget::default(), Times::default(), BTreeMap::new());
    let globals = constants(folder, &budget, &times, &environment);
    let evaluator = Evaluator::new(source, &globals);
    if let Some(block) = body.blocks().next() {
        return Err(Problem::at(source.place_of(block), "a file of variables has no blocks"));
    }
    body.attributes()
        .map(|attribute| Ok((attribute.key.as_str().to_owned(), constant(&evaluator, &attribute.value)?)))
        .collect()
}

/// All variables that are declared, with the values that they have.
pub(super) fn declared(
    bodies: &[(&Source, Body)],
    folder: &Path,
    (given, budget): (&Given, &Budget),
    findings: &mut Findings,
) -> Vec<Variable> {
    let globals = constants(folder, budget, &given.times, &given.environment);
    let mut variables: Vec<Variable> = Vec::new();
    for (source, body) in bodies {
        let evaluator = Evaluator::new(source, &globals);
        for block in body.blocks() {
            let read: Vec<Result<Variable>> = match (block.ident.as_str(), block.labels.first()) {
                ("variable", Some(name)) => vec![declaration(&evaluator, name.as_str(), block, given)],
                ("variable", None) => {
                    findings.fault(Problem::at(source.place_of(block), "the variable has no name"));
                    continue;
                }
                ("variables", _) => {
                    block.body.attributes().map(|attribute| assignment(&evaluator, attribute, given)).collect()
                }
                _ => continue,
            };
            for variable in read {
                match variable {
                    Ok(variable) if variables.iter().any(|other| other.name == variable.name) => {
                        let message = format!("there already is a variable `{}`", variable.name);
                        findings.fault(Problem::at(variable.place, message));
                    }
                    Ok(variable) if variables.len() >= MOST => {
                        findings.fault(Problem::at(variable.place, format!("more than {MOST} variables")));
                        return variables;
                    }
                    Ok(variable) => variables.push(variable),
                    Err(problem) => findings.fault(problem),
                }
            }
        }
    }
    for (name, message) in given.unknown(&variables) {
        let problem = Problem::new(message);
        let known: Vec<_> = variables.iter().map(|variable| variable.name.as_str()).collect();
        findings.fault(suggestion(&name, known).map_or(problem.clone(), |hint| problem.hint(hint)));
    }
    variables
}

/// The value of an expression in which nothing of the environment is.
fn constant(evaluator: &Evaluator<'_>, expression: &Expression) -> Result<Value> {
    evaluator.fixed.take();
    let value = evaluator.value(expression)?;
    if evaluator.fixed.take().contains(functions::ENVIRONMENT) {
        let message = "what is computed of the process environment would be written";
        let hint = "write `env(\"NAME\")` alone, or give the variable's value with --var";
        return Err(Problem::at(evaluator.source.place_of(expression), message).hint(hint));
    }
    Ok(value)
}

fn declaration(evaluator: &Evaluator<'_>, name: &str, block: &Block, given: &Given) -> Result<Variable> {
    let attribute = |name: &str| block.body.get_attribute(name).map(|attribute| &attribute.value);
    let default = attribute("default");
    // A value that is given stands for itself.
    let environment = default.and_then(environment_variable).filter(|_| given.value(name).is_none());
    // Without a value that is given, the default has its own type.
    let kind = kind(evaluator, attribute("type"), default.filter(|_| given.value(name).is_some()))?;
    let place = || match attribute("type") {
        Some(kind) => evaluator.source.place_of(kind),
        None => evaluator.source.place_of(block),
    };
    let sensitive = attribute("sensitive").map(|truth| evaluator.truth(truth)).transpose()?.unwrap_or_default();
    let typed = |value: Value| {
        kind.convert(value, evaluator).map_err(|message| {
            // The message may have the value in it.
            let message = if sensitive { format!("the value of `{name}` is not of this type") } else { message };
            Problem::at(place(), message)
        })
    };
    let value = match (given.value(name), default) {
        (Some(value), _) => Some(typed(value)?),
        // What the environment has is text, and may be missing.
        (None, Some(default)) if environment.is_some() => Some(evaluator.value(default)?),
        (None, Some(default)) => Some(typed(constant(evaluator, default)?)?),
        (None, None) => None,
    };
    let described = attribute("description").map(|text| evaluator.value(text)).transpose()?;
    let mut description = comments(block.decor().prefix());
    description
        .extend(described.and_then(|text| text.to_plain()).iter().flat_map(|text| text.lines()).map(str::to_owned));
    let place = evaluator.source.place_of(block);
    Ok(Variable { name: name.to_owned(), place, value, description, sensitive, environment })
}

/// A line of the old `variables` block.
fn assignment(evaluator: &Evaluator<'_>, attribute: &Attribute, given: &Given) -> Result<Variable> {
    let name = attribute.key.as_str().to_owned();
    let environment = environment_variable(&attribute.value).filter(|_| given.value(&name).is_none());
    let value = match given.value(&name) {
        Some(value) => kind(evaluator, None, Some(&attribute.value))?
            .convert(value, evaluator)
            .map_err(|message| Problem::at(evaluator.source.place_of(attribute), message))?,
        None if environment.is_some() => evaluator.value(&attribute.value)?,
        None => constant(evaluator, &attribute.value)?,
    };
    Ok(Variable {
        place: evaluator.source.place_of(attribute),
        value: Some(value),
        description: comments(attribute.decor().prefix()),
        sensitive: false,
        environment,
        name,
    })
}

/// A variable's type: what is declared, or that of its default, as Packer has it.
fn kind(evaluator: &Evaluator<'_>, declared: Option<&Expression>, default: Option<&Expression>) -> Result<Type> {
    match declared.map(|declared| Type::read(evaluator, declared)).transpose()? {
        None | Some(Type::Any) => {}
        Some(declared) => return Ok(declared),
    }
    // A default that has no value is a fault only where it is used.
    let value = default.and_then(|default| evaluator.value(default).ok());
    Ok(value.map_or(Type::Any, |value| Type::of(&value)))
}

/// The X of `env("X")`, also in parentheses or as `"${env("X")}"`.
fn environment_variable(expression: &Expression) -> Option<String> {
    let call = match expression {
        Expression::FuncCall(call) => call,
        Expression::Parenthesis(inner) => return environment_variable(inner.inner()),
        Expression::StringTemplate(template) => {
            let mut elements = template.iter();
            return match (elements.next(), elements.next()) {
                (Some(Element::Interpolation(only)), None) => environment_variable(&only.expr),
                _ => None,
            };
        }
        _ => return None,
    };
    let mut arguments = call.args.iter();
    match (call.name.name.as_str(), arguments.next(), arguments.next()) {
        ("env", Some(Expression::String(name)), None) if is_identifier(name) => Some(name.to_string()),
        _ => None,
    }
}

/// Reports variables whose conditions do not hold.
pub(super) fn validate(bodies: &[(&Source, Body)], globals: &Globals<'_>, findings: &mut Findings) {
    // What is only compared is written nowhere.
    let open = Globals {
        variables: globals.variables.clone(),
        ..constants(globals.folder, globals.budget, globals.times, globals.environment)
    };
    for (source, body) in bodies {
        let evaluator = Evaluator::new(source, &open);
        let closed = Evaluator::new(source, globals);
        for variable in body.get_blocks("variable") {
            for block in variable.body.get_blocks("validation") {
                let Some(condition) = block.body.get_attribute("condition") else { continue };
                match evaluator.truth(&condition.value) {
                    Ok(true) => {}
                    Ok(false) => {
                        let message = block.body.get_attribute("error_message");
                        let message = message.and_then(|text| closed.plain(&text.value).ok()?.to_plain());
                        let message = message.unwrap_or_else(|| "the condition does not hold".to_owned());
                        findings.fault(Problem::at(source.place_of(block), message));
                    }
                    Err(problem) => findings.fault(match problem.location {
                        // The message may have a secret in it.
                        Some(place) if !globals.secrets.is_empty() => {
                            Problem::at(place, "the condition cannot be evaluated")
                        }
                        _ => problem,
                    }),
                }
            }
        }
    }
}
