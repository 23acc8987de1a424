//! `config.yml`: which templates exist and what extends what.

use std::path::Path;

use super::fields::{Fields, entries, items, scalar};
use super::keys::project::{CONFIG, DECLARATION};
use super::nearest::suggestion;
use super::problems::Problems;
use super::yaml::{Entry, Node};
use crate::engine::Engine;
use crate::error::{Location, Problem};

/// A template as `config.yml` declares it.
#[derive(Debug, Clone)]
pub(super) struct Declaration {
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) extends: Option<Reference>,
    pub(super) packages: Vec<Reference>,
    /// Its parent is not readable; reported already.
    pub(super) faulty: bool,
}

/// A name and where it is written.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) location: Location,
}

/// What `config.yml` says.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// The templates, in their order; faulty ones are reported and left out.
    pub(super) templates: Vec<Declaration>,
    /// What boots the guests, where nothing else is asked for.
    pub(super) engine: Option<Engine>,
}

/// Reads it.
pub(super) fn read(root: &Path, node: &Node, problems: &mut Problems) -> Config {
    let Some(mut fields) = Fields::of(node, problems) else { return Config::default() };
    let templates = fields.required("templates", problems);
    let engine = fields.get("engine");
    fields.finish_as(&CONFIG, problems);
    let engine = engine.and_then(|node| {
        let parsed = scalar(node, problems)?.parse();
        parsed.map_err(|message: String| problems.at(node.location(), message)).ok()
    });
    Config { templates: declarations(root, templates, problems), engine }
}

fn declarations(root: &Path, templates: Option<&Node>, problems: &mut Problems) -> Vec<Declaration> {
    let entries = templates.and_then(|node| entries(node, problems));
    if let (Some(node), Some([])) = (templates, entries) {
        problems.at(node.location(), "no template is declared");
    }
    let entries = entries.unwrap_or_default();
    entries.iter().filter_map(|entry| declaration(root, entry, problems)).collect()
}

fn declaration(root: &Path, entry: &Entry, problems: &mut Problems) -> Option<Declaration> {
    let name = entry.key.clone();
    if !is_name(&name) {
        let problem = Problem::at(entry.location(), format!("`{name}` cannot be the name of a template"));
        problems.add(problem.hint("use letters, digits, `.`, `_` and `-`, beginning with a letter or digit"));
        return None;
    }
    let mut declaration =
        Declaration { name, location: entry.location(), extends: None, packages: Vec::new(), faulty: false };
    if entry.value.is_null() {
        return Some(declaration);
    }
    let Some(mut fields) = Fields::of(&entry.value, problems) else {
        return Some(Declaration { faulty: true, ..declaration });
    };
    let (extends, packages) = (fields.get("extends"), fields.get("packages"));
    fields.finish_as(&DECLARATION, problems);

    let packages = packages.and_then(|node| items(node, problems)).unwrap_or_default();
    declaration.packages = packages.iter().flat_map(|node| package(root, node, problems)).collect();
    declaration.extends = extends.and_then(|node| reference(node, problems));
    declaration.faulty = extends.is_some() && declaration.extends.is_none();
    Some(declaration)
}

fn reference(node: &Node, problems: &mut Problems) -> Option<Reference> {
    Some(Reference { name: scalar(node, problems)?.to_owned(), location: node.location() })
}

/// A package by name; `*` stands for all, by name.
fn package(root: &Path, node: &Node, problems: &mut Problems) -> Vec<Reference> {
    let Some(reference) = reference(node, problems) else { return Vec::new() };
    let known = folders(&root.join("packages"));
    if reference.name == "*" {
        let used = known.into_iter().filter(|name| root.join("packages").join(name).join("manifest.yml").exists());
        return used.map(|name| Reference { name, ..reference.clone() }).collect();
    }
    if known.contains(&reference.name) {
        return vec![reference];
    }
    let problem = Problem::at(reference.location, format!("unknown package `{}`", reference.name));
    problems.add(match suggestion(&reference.name, known.iter().map(String::as_str)) {
        Some(hint) => problem.hint(hint),
        None => problem.hint("a package is a folder below `packages/` with a manifest.yml"),
    });
    Vec::new()
}

/// Names of the folders in `folder`, sorted.
pub(crate) fn folders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Template names are names of files and words of a command line.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
