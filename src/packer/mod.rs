//! Packer's projects, read, and turned into projects of visabuild.
//!
//! Both of Packer's languages become one [`document::Document`], whose values remember the variables that they are
//! made of; that becomes YAML. Nothing is written before the new project was resolved as `visabuild validate` would.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use self::document::{Document, Findings, Variable};
use self::go_template::Times;
use self::hcl::Source;
use self::project::Draft;
use self::steps::CLEANUP;
use self::value::Value;
use crate::error::{Error, Kind, Location, Problem, Result};
use crate::template::keys::{post_processor, provisioner};

mod budget;
mod clock;
mod document;
mod files;
mod go_template;
mod hcl;
mod json;
mod project;
mod qemu;
mod steps;
mod value;
mod variables;
mod yaml_text;

/// Most images of a project.
const MOST_BUILDS: usize = 100;

/// Largest template that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// What is to be imported, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A template, or a folder with templates.
    pub path: PathBuf,
    /// Folder of the new project.
    pub output: PathBuf,
    /// `NAME=VALUE` of the command line, in its order.
    pub variables: Vec<String>,
    /// Files of variables, in their order.
    pub variable_files: Vec<PathBuf>,
    /// Write what can be imported, also where something cannot.
    pub partial: bool,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// The time that templates ask for, seconds since 1970.
    pub now: u64,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The templates, in their order.
    pub templates: Vec<String>,
    /// What was written, relative to the new project's folder.
    pub files: Vec<PathBuf>,
    /// What was left out, with what to do instead.
    pub left_out: Vec<Problem>,
}

/// Values that are given from outside.
#[derive(Debug, Default)]
struct Given {
    values: BTreeMap<String, Value>,
    /// Names of the command line, which have to exist.
    named: Vec<String>,
    environment: BTreeMap<String, String>,
    times: Times,
}

impl Given {
    fn value(&self, name: &str) -> Option<Value> {
        self.values.get(name).cloned()
    }

    /// Names of the command line that no template declares, with what is to be told.
    fn unknown(&self, declared: &[Variable]) -> Vec<(String, String)> {
        let unknown = self.named.iter().filter(|name| !declared.iter().any(|variable| variable.name == **name));
        unknown.map(|name| (name.clone(), format!("--var: the template has no variable `{name}`"))).collect()
    }
}

/// Whether options of such a block are read: what has no counterpart here needs none.
fn is_read(role: &str, kind: &str) -> bool {
    match role {
        "builder" => kind == "qemu",
        "provisioner" | CLEANUP => provisioner::KINDS.iter().any(|(known, _)| *known == kind),
        "post-processor" => post_processor::names().contains(&kind),
        _ => false,
    }
}

/// Imports a project of Packer's: writes a project that `visabuild validate` accepts.
///
/// # Errors
/// Everything that is wrong with the Packer project, or that visabuild has no counterpart of, at once, and files that
/// would be replaced (kind usage); a file cannot be written (kind host). Nothing is written then.
pub fn import(request: &Request) -> Result<Imported> {
    let mut findings = Findings::default();
    let document = read(request, &mut findings);
    let draft = document.map(|document| Draft::new(&document, &mut findings));
    let Findings { faults, unsupported, .. } = findings;
    let mut problems = faults.into_sorted();
    if let (true, Some(draft)) = (problems.is_empty(), &draft) {
        if !draft.templates.is_empty() {
            problems = draft.check(&request.environment)?;
        } else if unsupported.is_empty() {
            problems.push(Problem::new("the project builds nothing"));
        }
    }
    let nothing = draft.as_ref().is_none_or(|draft| draft.templates.is_empty());
    if !problems.is_empty() || (!unsupported.is_empty() && (!request.partial || nothing)) {
        let can_be_partial = problems.is_empty() && !nothing;
        problems.extend(unsupported);
        problems.sort_by(|a, b| (a.location.is_none(), &a.location).cmp(&(b.location.is_none(), &b.location)));
        let error = Error::problems(Kind::Usage, problems);
        return Err(match can_be_partial {
            true => error.hint("`--partial` imports the rest and puts a comment at each of these places"),
            false => error,
        });
    }
    let draft = draft.ok_or_else(|| Error::usage("there is nothing to import"))?;
    let files = draft.write(&request.output)?;
    Ok(Imported { templates: draft.templates, files, left_out: unsupported })
}

/// Reads the project in whichever language it is.
fn read(request: &Request, findings: &mut Findings) -> Option<Document> {
    let mut files = match find(&request.path) {
        Ok(files) => files,
        Err(problem) => {
            findings.fault(problem);
            return None;
        }
    };
    findings.faults.extend(std::mem::take(&mut files.faults));
    if files.templates.is_empty() {
        return None;
    }
    let mut given = Given {
        environment: request.environment.clone(),
        times: Times { now: request.now, ..Times::default() },
        ..Given::default()
    };
    let is_json =
        files.templates.first().is_some_and(|source| source.file.extension().is_some_and(|end| end == "json"));
    give(request, &files, is_json, &mut given, findings);
    match &files.templates[..] {
        [only] if is_json => json::read(&only.file, &only.text, &given, findings),
        sources => hcl::read(sources, &files.folder, &given, findings),
    }
}

/// The files of a project.
struct Found {
    /// Absolute.
    folder: PathBuf,
    templates: Vec<Source>,
    /// Files of variables that are read without being asked for.
    automatic: Vec<PathBuf>,
    /// Files that would be part of it, and cannot be read.
    faults: Vec<Problem>,
}

/// What is said of a `.pkr.json`.
fn not_read(path: &Path) -> Problem {
    Problem::new(format!("{}: HCL in the form of JSON is not read", path.display()))
        .hint("`packer hcl2_upgrade` and an editor make `.pkr.hcl` of it")
}

fn ends(path: &Path, end: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end))
}

/// Finds the files of the project at `path`.
fn find(path: &Path) -> Result<Found, Problem> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    if path.is_file() {
        let source = source(path)?;
        if ends(path, ".pkr.json") {
            return Err(not_read(path));
        }
        if !ends(path, ".hcl") && !ends(path, ".json") {
            return Err(Problem::new(format!("{} is neither `.pkr.hcl` nor `.json`", path.display())));
        }
        let folder = absolute(&here(path.parent().unwrap_or(Path::new("."))));
        return Ok(Found { folder, templates: vec![source], automatic: Vec::new(), faults: Vec::new() });
    }
    let unreadable = |error: std::io::Error| Problem::new(format!("{}: {error}", path.display()));
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(here(path)).map_err(unreadable)?.flatten().map(|entry| entry.file_name().into()).collect();
    entries.sort();
    let at = |name: &PathBuf| if path == Path::new(".") { name.clone() } else { path.join(name) };
    let mut templates: Vec<Source> =
        entries.iter().filter(|name| ends(name, ".pkr.hcl")).map(|name| source(&at(name))).collect::<Result<_, _>>()?;
    let is_automatic = |name: &&PathBuf| ends(name, ".auto.pkrvars.hcl") || ends(name, ".auto.pkrvars.json");
    let automatic = entries.iter().filter(is_automatic).map(&at).collect();
    let (in_json, json): (Vec<_>, Vec<_>) =
        entries.iter().filter(|name| ends(name, ".json")).partition(|name| ends(name, ".pkr.json"));
    let mut faults: Vec<Problem> = in_json.into_iter().map(|name| not_read(&at(name))).collect();
    if templates.is_empty() {
        let wrong;
        (templates, wrong) = json_templates(json.into_iter().filter(|name| !is_automatic(name)).map(&at));
        // What is wrong may be the template.
        faults.extend(wrong.into_iter().filter(|_| templates.is_empty()));
        if templates.len() > 1 {
            let names: Vec<_> = templates.iter().map(|source| format!("`{}`", source.file.display())).collect();
            let message = format!("{} has several templates: {}", path.display(), names.join(", "));
            return Err(Problem::new(message).hint("name one of them"));
        }
    }
    if templates.is_empty() && faults.is_empty() {
        return Err(Problem::new(format!("{} has no template of Packer's", path.display()))
            .hint("templates are called `….pkr.hcl`, or `….json` with `builders` in them"));
    }
    Ok(Found { folder: absolute(&here(path)), templates, automatic, faults })
}

/// The templates among files of JSON, and what is wrong with those that cannot be read.
fn json_templates(files: impl Iterator<Item = PathBuf>) -> (Vec<Source>, Vec<Problem>) {
    let (mut templates, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let found = source(&file);
        match found.and_then(|source| Ok((json::is_template(&source.file, &source.text)?, source))) {
            Ok((true, source)) => templates.push(source),
            Ok((false, _)) => {}
            Err(problem) => wrong.push(problem),
        }
    }
    (templates, wrong)
}

fn source(path: &Path) -> Result<Source, Problem> {
    let place = || Location { file: path.to_owned(), line: 1, column: 1 };
    let unreadable = |error: std::io::Error| Problem::at(place(), format!("cannot be read: {error}"));
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Problem::at(place(), "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Problem::at(place(), format!("the file is too long: at most {LARGEST} bytes are read")));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Problem::at(place(), "not UTF-8 text").hint("save the file as UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(Source::new(path.to_owned(), text.replace("\r\n", "\n")))
}

/// Collects the values that are given, those that win last (Packer's documentation, "Variable definition precedence").
fn give(request: &Request, files: &Found, is_json: bool, given: &mut Given, findings: &mut Findings) {
    if !is_json {
        let from_environment = request
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("PKR_VAR_")?.to_owned(), Value::from(value.as_str()))));
        given.values.extend(from_environment);
    }
    for path in files.automatic.iter().chain(&request.variable_files) {
        match variables_of(path, &files.folder) {
            Ok(values) => given.values.extend(values),
            Err(problem) => findings.fault(problem),
        }
    }
    for assignment in &request.variables {
        match assignment.split_once('=') {
            Some((name, value)) => {
                given.named.push(name.to_owned());
                given.values.insert(name.to_owned(), Value::from(value));
            }
            None => findings.fault(Problem::new(format!("--var: expected NAME=VALUE, found `{assignment}`"))),
        }
    }
}

fn variables_of(path: &Path, folder: &Path) -> Result<Vec<(String, Value)>, Problem> {
    let source = source(path)?;
    if !ends(path, ".json") {
        return hcl::assignments(&source, folder);
    }
    let fault = |line: usize, column: usize, message: String| {
        let place = Location { file: path.to_owned(), line: line.max(1), column: column.max(1) };
        Problem::at(place, message)
    };
    let json: serde_json::Value = serde_json::from_str(&source.text)
        .map_err(|error| fault(error.line(), error.column(), format!("JSON: {error}")))?;
    match Value::from_json(json) {
        Value::Map(map) => Ok(map.into_iter().collect()),
        other => Err(fault(1, 1, format!("expected a mapping, found {}", other.kind()))),
    }
}

#[cfg(test)]
mod tests;
