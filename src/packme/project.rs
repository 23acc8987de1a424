//! A packme project: which templates its input file names, and where their files are.

use std::path::{Component, Path, PathBuf};

use super::values::Values;
use super::{Layout, Manifest, manifest};
use crate::error::{Context as _, Error, Kind, Location, Problem, Result};
use crate::template::nearest::suggestion;
use crate::template::problems::Problems;
use crate::template::yaml::{self, Content, Entry, Node};

/// A packme project, of which only the input file has been read.
#[derive(Debug)]
pub struct Project {
    pub(super) layout: Layout,
    /// Absolute, as they stand in the JSON.
    pub(super) templates_folder: PathBuf,
    pub(super) packages_folder: PathBuf,
    templates: Vec<Declaration>,
}

/// A template as the input file declares it.
#[derive(Debug)]
pub(super) struct Declaration {
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) extends: Option<(String, Location)>,
    pub(super) packages: Vec<String>,
}

impl Project {
    /// Reads the input file.
    ///
    /// # Errors
    /// It cannot be read, has no `templates`, or says what is no mapping where packme needs one.
    pub fn load(layout: Layout) -> Result<Self> {
        let mut problems = Problems::default();
        let start = Location { file: layout.input.clone(), line: 1, column: 1 };
        let mut declared = Vec::new();
        match yaml::read(&layout.base, &layout.input) {
            Ok(Some(node)) => declared = declarations(&node, &mut problems),
            Ok(None) if layout.base.join(&layout.input).exists() => problems.at(start, "`templates` is missing"),
            Ok(None) => problems.add(Problem::new(format!("there is no {}", layout.input.display()))),
            Err(faults) => problems.extend(faults),
        }
        problems.into_result()?;
        let templates_folder = absolute(&layout.base.join(&layout.templates))?;
        let packages_folder = absolute(&layout.base.join(&layout.packages))?;
        let project = Self { layout, templates_folder, packages_folder, templates: declared };
        project.check_parents()?;
        Ok(project)
    }

    /// The names of the templates, in the order of the input file.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.templates.iter().map(|template| template.name.as_str())
    }

    /// The named templates that there are, in the order named, and what to say of the others, which packme leaves out
    /// silently. `*` means all.
    ///
    /// # Errors
    /// There is none of them.
    pub fn select(&self, wanted: &[String]) -> Result<(Vec<String>, Vec<Problem>)> {
        if wanted.iter().any(|name| name == "*") {
            return Ok((self.names().map(str::to_owned).collect(), Vec::new()));
        }
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for name in wanted {
            if self.find(name).is_some() {
                found.push(name.clone());
                continue;
            }
            let problem = Problem::new(format!("unknown template `{name}`"));
            unknown.push(match suggestion(name, self.names()) {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
        }
        match (found.is_empty(), unknown.is_empty()) {
            (false, _) => Ok((found, unknown)),
            (true, false) => Err(Error::problems(Kind::Usage, unknown)),
            (true, true) => Err(Error::usage("no template is selected").hint("`-s NAME` selects one, `-s '*'` all")),
        }
    }

    /// What packme writes to the template's manifest.json.
    ///
    /// # Errors
    /// Everything that is wrong in the files of the template, its parent and its packages.
    pub fn manifest(&self, name: &str, values: &Values) -> Result<Manifest> {
        let template = self.find(name).ok_or_else(|| Error::usage(format!("unknown template `{name}`")))?;
        manifest::make(self, template, values)
    }

    /// The named templates and those they extend, each once, parents first: the order in which they are built.
    pub fn hierarchy(&self, names: &[String]) -> Vec<&str> {
        let mut order = Vec::new();
        for template in names.iter().filter_map(|name| self.find(name)) {
            let mut chain: Vec<_> = std::iter::once(template).chain(self.ancestors(template)).collect();
            chain.reverse();
            for member in chain {
                if !order.contains(&member.name.as_str()) {
                    order.push(&member.name);
                }
            }
        }
        order
    }

    /// Folder of the templates, absolute.
    pub fn templates_folder(&self) -> &Path {
        &self.templates_folder
    }

    /// Folder of the packages, absolute.
    pub fn packages_folder(&self) -> &Path {
        &self.packages_folder
    }

    pub(super) fn find(&self, name: &str) -> Option<&Declaration> {
        self.templates.iter().find(|template| template.name == name)
    }

    /// The template's ancestors, the nearest first.
    pub(super) fn ancestors<'p>(&'p self, template: &'p Declaration) -> impl Iterator<Item = &'p Declaration> {
        let parent = |template: &&'p Declaration| self.find(&template.extends.as_ref()?.0);
        std::iter::successors(parent(&template), parent)
    }

    /// A file of a template, as it is shown.
    pub(super) fn file(&self, template: &str, name: &str) -> PathBuf {
        self.layout.templates.join(template).join(name)
    }

    fn check_parents(&self) -> Result<()> {
        let mut problems = Problems::default();
        for template in &self.templates {
            let Some((parent, location)) = &template.extends else { continue };
            if self.find(parent).is_none() {
                let message = format!("`{}` extends `{parent}`, which is not declared", template.name);
                let problem = Problem::at(location.clone(), message);
                problems.add(match suggestion(parent, self.names().filter(|name| *name != template.name)) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
            }
            // More ancestors than there are templates are a circle.
            let most = self.templates.len();
            if self.ancestors(template).take(most + 1).count() > most {
                let message = format!("what `{}` extends leads round in a circle", template.name);
                problems.add(Problem::at(location.clone(), message).hint("remove one `extends:` of the circle"));
            }
        }
        problems.into_result()
    }
}

fn declarations(node: &Node, problems: &mut Problems) -> Vec<Declaration> {
    let templates = match &node.content {
        Content::Map(entries) => entries.iter().find(|entry| entry.key == "templates"),
        _ => None,
    };
    let Some(templates) = templates else {
        problems.at(node.location(), "`templates` is missing");
        return Vec::new();
    };
    match &templates.value.content {
        Content::Map(entries) => entries.iter().map(|entry| declaration(entry, problems)).collect(),
        Content::Null => {
            problems.at(templates.location(), "no template is declared");
            Vec::new()
        }
        _ => {
            problems.at(templates.value.location(), format!("expected a mapping, found {}", templates.value.kind()));
            Vec::new()
        }
    }
}

/// What is no mapping counts as an empty one, as packme has it.
fn declaration(entry: &Entry, problems: &mut Problems) -> Declaration {
    let entries: &[Entry] = if let Content::Map(entries) = &entry.value.content { entries } else { &[] };
    let value = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let mut text = |node: &Node| match &node.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        _ => {
            problems.at(node.location(), format!("expected a name, found {}", node.kind()));
            None
        }
    };
    let extends = value("extends").filter(|node| !node.is_null());
    let extends = extends.and_then(|node| Some((text(node)?, node.location())));
    let packages = match value("packages").map(|node| (node, &node.content)) {
        None | Some((_, Content::Null)) => Vec::new(),
        Some((_, Content::List(items))) => items.iter().filter_map(text).collect(),
        Some((node, _)) => text(node).into_iter().collect(),
    };
    Declaration { name: entry.key.clone(), location: entry.location(), extends, packages }
}

/// The path without `.` and `..`, from the root, as Python's `os.path.abspath` makes it.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).context(Kind::Usage, || format!("`{}` is no folder", path.display()))?;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    Ok(out)
}
