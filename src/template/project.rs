//! A project folder, read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::chain::Chains;
use super::config::{self, Config, Declaration, folders};
use super::environment::{self, Variable};
use super::problems::Problems;
use super::yaml::{self, Node};
use crate::engine::Engine;
use crate::error::{Location, Problem, Result};

const CONFIG_FILE: &str = "config.yml";
const MANIFEST: &str = "manifest.yml";
const ENVIRONMENT: &str = "environment.yml";

/// A project's files, read but not yet rendered.
///
/// Problems in the files of templates and packages are kept: [`resolve`](super::resolve) reports
/// them together with what only it can see.
#[derive(Debug)]
pub struct Project {
    pub(super) root: PathBuf,
    pub(super) templates: Vec<Declaration>,
    pub(super) engine: Option<Engine>,
    pub(super) chains: Chains,
    pub(super) files: BTreeMap<String, Files>,
    pub(super) packages: BTreeMap<String, File>,
    pub(super) problems: Problems,
}

/// The files of one template.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) manifest: File,
    /// None when the file is not readable.
    pub(super) environment: Option<Vec<Variable>>,
}

/// A file that may be absent, empty or faulty.
#[derive(Debug)]
pub(super) enum File {
    /// Not readable; reported already.
    Faulty,
    Empty,
    Read(Node),
}

impl Project {
    /// The names of the templates, in the order of `config.yml`.
    pub fn names(&self) -> Vec<&str> {
        self.templates.iter().map(|template| template.name.as_str()).collect()
    }

    /// The names of those that no other extends.
    pub fn leaves(&self) -> Vec<&str> {
        let extended = |name: &str| {
            self.templates.iter().any(|template| template.extends.as_ref().is_some_and(|parent| parent.name == name))
        };
        self.names().into_iter().filter(|name| !extended(name)).collect()
    }

    /// What boots the guests, where nothing else is asked for.
    pub fn engine(&self) -> Option<Engine> {
        self.engine
    }

    /// The project folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Reads the project in `root`.
///
/// # Errors
/// `config.yml` is missing or faulty, so that nobody knows which templates there are. The error
/// then also has the problems of the files below `templates/`.
pub fn load(root: &Path) -> Result<Project> {
    let mut problems = Problems::default();
    let (Config { templates, engine }, usable) = match yaml::read(root, Path::new(CONFIG_FILE)) {
        Ok(Some(node)) => (config::read(root, &node, &mut problems), true),
        Ok(None) => {
            problems.add(no_config(root));
            (Config { templates: undeclared(root), engine: None }, false)
        }
        Err(faults) => {
            problems.extend(faults);
            (Config { templates: undeclared(root), engine: None }, false)
        }
    };
    let chains = Chains::new(&templates, &mut problems);
    let files = templates
        .iter()
        .map(|template| (template.name.clone(), files(root, template, usable, &mut problems)))
        .collect();
    let packages = packages(root, &templates, &mut problems);
    if !usable || templates.is_empty() {
        return Err(problems.into_error());
    }
    Ok(Project { root: root.to_owned(), templates, engine, chains, files, packages, problems })
}

fn no_config(root: &Path) -> Problem {
    let hint = "run visabuild in a project's folder, which has config.yml and templates/";
    let shown = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    if root.join(CONFIG_FILE).exists() {
        return Problem::at(start(Path::new(CONFIG_FILE)), "no template is declared")
            .hint("declare them below `templates:`");
    }
    Problem::new(format!("there is no {CONFIG_FILE} in {}", shown.display())).hint(hint)
}

/// Stands in for what an unreadable `config.yml` declares, so that faults of other files show too.
fn undeclared(root: &Path) -> Vec<Declaration> {
    let names = folders(&root.join("templates")).into_iter().filter(|name| config::is_name(name));
    let location = start(Path::new(CONFIG_FILE));
    names
        .map(|name| Declaration {
            name,
            location: location.clone(),
            extends: None,
            packages: Vec::new(),
            faulty: false,
        })
        .collect()
}

fn files(root: &Path, template: &Declaration, declared: bool, problems: &mut Problems) -> Files {
    let folder = Path::new("templates").join(&template.name);
    let environment = match read(root, &folder.join(ENVIRONMENT), problems) {
        File::Read(node) => Some(environment::read(&node, problems)),
        File::Empty => Some(Vec::new()),
        File::Faulty => None,
    };
    // A child may consist of its packages alone.
    let needed = declared && !template.faulty && (template.extends.is_none() || template.packages.is_empty());
    let manifest = manifest(root, &folder, template.location.clone(), needed, problems);
    Files { manifest, environment }
}

fn packages(root: &Path, templates: &[Declaration], problems: &mut Problems) -> BTreeMap<String, File> {
    let mut packages = BTreeMap::new();
    for reference in templates.iter().flat_map(|template| &template.packages) {
        if !packages.contains_key(&reference.name) {
            let folder = Path::new("packages").join(&reference.name);
            let file = manifest(root, &folder, reference.location.clone(), true, problems);
            packages.insert(reference.name.clone(), file);
        }
    }
    packages
}

fn manifest(root: &Path, folder: &Path, declared_at: Location, needed: bool, problems: &mut Problems) -> File {
    let file = folder.join(MANIFEST);
    if !needed || root.join(&file).exists() {
        return read(root, &file, problems);
    }
    let problem = Problem::at(declared_at, format!("`{}` does not exist", file.display()));
    let misspelt = ["manifest.yaml", "manifest.json"].into_iter().find(|name| root.join(folder).join(name).exists());
    problems.add(match misspelt {
        Some(name) => problem.hint(format!("the file `{name}` there would have to be called `{MANIFEST}`")),
        None => problem,
    });
    File::Faulty
}

fn read(root: &Path, file: &Path, problems: &mut Problems) -> File {
    match yaml::read(root, file) {
        Ok(Some(node)) => File::Read(node),
        Ok(None) => File::Empty,
        Err(faults) => {
            problems.extend(faults);
            File::Faulty
        }
    }
}

fn start(file: &Path) -> Location {
    Location { file: file.to_owned(), line: 1, column: 1 }
}
