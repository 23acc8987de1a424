//! Files and paths of the host.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hcl_edit::template::Template;
use walkdir::WalkDir;

use super::{Given, string};
use crate::error::{Location, Problem};
use crate::packer::budget::Budget;
use crate::packer::hcl::evaluate::{Evaluator, Result, exhausted};
use crate::packer::hcl::globals::Globals;
use crate::packer::hcl::source::{Source, syntax_problem};
use crate::packer::value::Value;
use crate::template::paths::clean;

/// Largest file whose text becomes a value, bytes.
const LARGEST: u64 = 1 << 20;
/// What a byte of a file takes of the memory that is allowed, bytes.
const COST: usize = 4;
/// Most files that `fileset` names.
const MOST: usize = 1000;

pub(super) fn call(name: &str, arguments: &[Value], globals: &Globals<'_>) -> Option<Given> {
    let path = |value: &Value| string(value).map(PathBuf::from);
    let text = |path: PathBuf| Value::from(path.to_string_lossy().into_owned());
    Some(match (name, arguments) {
        ("file", [one]) => path(one).and_then(|path| read(&globals.folder.join(path), globals.budget)).map(Value::from),
        ("fileexists", [one]) => path(one).map(|path| Value::Bool(globals.folder.join(path).is_file())),
        ("abspath", [one]) => path(one).map(|path| Value::from(clean(&globals.folder.join(path)))),
        ("basename", [one]) => path(one).map(|path| text(path.file_name().map(PathBuf::from).unwrap_or_default())),
        ("dirname", [one]) => path(one).map(|path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Value::from("."),
            Some(parent) => text(parent.to_owned()),
            None => text(path),
        }),
        ("pathexpand", [one]) => string(one).map(|path| match path.strip_prefix("~/") {
            Some(rest) => {
                let home = globals.environment.get("HOME").map_or("~", String::as_str);
                Value::from(format!("{home}/{rest}"))
            }
            None => Value::from(path),
        }),
        ("fileset", [folder, pattern]) => path(folder).and_then(|folder| {
            let folder = globals.folder.join(folder);
            fileset(&folder, &string(pattern)?, globals.budget)
        }),
        _ => return None,
    })
}

fn fileset(folder: &Path, pattern: &str, budget: &Budget) -> Given {
    if pattern.split('/').any(|part| part == "..") {
        return Err("a pattern with `..` is not read".to_owned());
    }
    let depth = if pattern.contains("**") { usize::MAX } else { pattern.split('/').count() };
    let pattern = glob::Pattern::new(pattern).map_err(|error| error.to_string())?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let mut names = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).max_depth(depth) {
        // The folder may be large.
        budget.spend(1).map_err(|fault| fault.0.to_owned())?;
        let Some(entry) = entry.ok().filter(|entry| entry.file_type().is_file()) else { continue };
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_string_lossy().into_owned();
        if !pattern.matches_with(&name, options) {
            continue;
        }
        names.push(name);
        if names.len() > MOST {
            return Err(budget.limit(format!("more than {MOST} files match")));
        }
    }
    names.sort();
    Ok(Value::List(names.into_iter().map(Value::from).collect()))
}

/// The text of a file.
fn read(path: &Path, budget: &Budget) -> std::result::Result<String, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(fault)?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    if metadata.len() > LARGEST {
        let message = format!("{} has {} bytes; at most {LARGEST} are read", path.display(), metadata.len());
        return Err(budget.limit(message));
    }
    // Reading and parsing takes time, too.
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    budget.take(size.saturating_mul(COST)).map_err(|fault| fault.0.to_owned())?;
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)).map_err(fault)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

/// `templatefile`: the text keeps the variables that it is made of.
pub(super) fn templatefile(
    evaluator: &Evaluator<'_>,
    arguments: &[Value],
    place: &impl Fn() -> Location,
) -> Result<Value> {
    let fault = |message: String| Problem::at(place(), format!("templatefile: {message}"));
    let [path, Value::Map(variables)] = arguments else {
        return Err(fault("takes a path and a mapping".to_owned()));
    };
    let name = evaluator.fix(path, place)?.to_plain().ok_or_else(|| fault("the path must be a string".to_owned()))?;
    let path = evaluator.globals.folder.join(&name);
    let text = read(&path, evaluator.globals.budget).map_err(fault)?;
    let shown =
        place().file.parent().map_or_else(|| PathBuf::from(&name), |folder| PathBuf::from(clean(&folder.join(&name))));
    let source = Source::new(shown, text);
    let _level = evaluator.globals.budget.enter().map_err(|fault| exhausted(place(), fault))?;
    let template: Template = hcl_edit::parser::parse_template(&source.text)
        .map_err(|error| syntax_problem(&source.file, &error, "template"))?;
    let mut inner = Evaluator::new(&source, evaluator.globals);
    inner.locals = variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let text = inner.template(&template, 0)?;
    evaluator.learn(&inner);
    Ok(Value::Text(text))
}
