//! The new project: written in memory, checked as visabuild would, then put into its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::document::{Build, Document, Findings, Variable, file_name};
use super::files::{Content, Files};
use super::value::{Text, Value};
use super::yaml_text::{Entry, Writer, Yaml};
use super::{qemu, steps, variables};
use crate::error::{Context, Error, Kind, Location, Problem, Result};
use crate::shell_word::word;
use crate::template::{self, Inputs};

/// A project that is not written yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) templates: Vec<String>,
    files: BTreeMap<PathBuf, Content>,
    /// What the lines of manifests were made of.
    origins: BTreeMap<PathBuf, Vec<(usize, Location)>>,
}

impl Draft {
    pub(super) fn new(document: &Document, findings: &mut Findings) -> Self {
        missing(&document.variables, findings);
        let builds: Vec<&Build> = document.builds.iter().filter(|build| qemu::can_be(build, findings)).collect();
        let mut files = Files::new(&document.folder, builds.len());
        let mut templates = Vec::new();
        let mut texts = BTreeMap::new();
        let mut origins = BTreeMap::new();
        for build in builds {
            let name = template_name(&build.name, &templates);
            let folder = Path::new("templates").join(&name);
            let manifest = manifest(build, &name, &mut files, findings);
            let environment = environment(document, &manifest.used, findings);
            texts.insert(folder.join("environment.yml"), environment);
            texts.insert(folder.join("manifest.yml"), manifest.text);
            origins.insert(folder.join("manifest.yml"), manifest.origins);
            templates.push(name);
        }
        texts.insert(PathBuf::from("config.yml"), config(document, &templates));
        let mut all = files.files;
        all.extend(texts.into_iter().map(|(path, text)| (path, Content::Text(text))));
        Self { templates, files: all, origins }
    }

    /// What `visabuild validate` would say, at the places in the Packer project.
    pub(super) fn check(&self, environment: &BTreeMap<String, String>) -> Result<Vec<Problem>> {
        let folder = tempfile::tempdir().context(Kind::Host, || "cannot make a temporary folder")?;
        self.put(folder.path(), linked)?;
        let values = BTreeMap::from([(variables::HEADLESS.to_owned(), template::Value::Host("true".to_owned()))]);
        let inputs = Inputs { values, environment: environment.clone(), lenient: true, ..Inputs::default() };
        let resolved = template::load(folder.path()).and_then(|project| template::resolve(&project, &[], &inputs));
        let Err(error) = resolved else { return Ok(Vec::new()) };
        if error.problem_list().is_empty() {
            return Ok(vec![Problem::new(error.chain().join(": "))]);
        }
        Ok(error.problem_list().iter().map(|problem| self.traced(problem)).collect())
    }

    /// The problem at the place of what it is about.
    fn traced(&self, problem: &Problem) -> Problem {
        let mut problem = problem.clone();
        let origin = problem.location.as_ref().and_then(|location| {
            let lines = self.origins.get(&location.file)?;
            lines.iter().rev().find(|(line, _)| *line <= location.line).map(|(_, place)| place.clone())
        });
        match origin {
            Some(place) => problem.location = Some(place),
            None => {
                // The file is not there for whoever reads this.
                if let Some(place) = problem.location.take() {
                    problem.message = format!("the new {place}: {}", problem.message);
                }
            }
        }
        problem
    }

    /// Writes the files; returns their paths below `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let there = self.files.keys().map(|path| folder.join(path)).filter(|path| path.symlink_metadata().is_ok());
        let problems: Vec<_> = there.map(|path| Problem::new(format!("{} exists already", path.display()))).collect();
        if !problems.is_empty() {
            let hint = "an import replaces nothing: name another folder with `--output`";
            return Err(Error::problems(Kind::Usage, problems).hint(hint));
        }
        self.put(folder, copied)?;
        Ok(self.files.keys().cloned().collect())
    }

    /// Puts the files below `folder`; what was put is taken away again if one cannot be.
    fn put(&self, folder: &Path, copy: Copy) -> Result<()> {
        let mut made = Made::default();
        for (path, content) in &self.files {
            let target = folder.join(path);
            let there = target.parent().map_or(Ok(()), |parent| made.folder(parent));
            let written = there.and_then(|()| match content {
                Content::Text(text) => made.file(&target)?.write_all(text.as_bytes()),
                Content::Copy(from) => copy(from, &target, &mut made),
            });
            if let Err(error) = written {
                made.undo();
                return Err(Error::host(format!("cannot write {}", target.display())).because(error));
            }
        }
        Ok(())
    }
}

/// Brings a file into the new project.
type Copy = fn(&Path, &Path, &mut Made) -> io::Result<()>;

fn linked(from: &Path, to: &Path, made: &mut Made) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)?;
    made.0.push(to.to_owned());
    Ok(())
}

fn copied(from: &Path, to: &Path, made: &mut Made) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = made.file(to)?;
    io::copy(&mut source, &mut target)?;
    target.set_permissions(source.metadata()?.permissions())
}

/// Files and folders that were made, in their order.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// A new file: one that is there is never opened.
    fn file(&mut self, path: &Path) -> io::Result<fs::File> {
        let file = fs::File::create_new(path)?;
        self.0.push(path.to_owned());
        Ok(file)
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.folder(parent))?;
        match fs::create_dir(path) {
            Ok(()) => self.0.push(path.to_owned()),
            // Somebody else was faster, or the path ends in `..`.
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes all away again, as far as that can be: the first error is what is told.
    fn undo(self) {
        for path in self.0.into_iter().rev() {
            let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            let _ = if is_folder { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

/// Reports variables that have no value: nothing can be computed with them.
fn missing(variables: &[Variable], findings: &mut Findings) {
    let without =
        |variable: &&Variable| variable.value.is_none() && !variable.sensitive && variable.environment.is_none();
    for variable in variables.iter().filter(without) {
        let problem = Problem::at(variable.place.clone(), format!("variable `{}` has no value", variable.name));
        let name = &variable.name;
        findings.fault(problem.hint(format!("give it with --var {name}=VALUE or --var-file FILE")));
    }
}

/// A name of its own for a template.
fn template_name(build: &str, taken: &[String]) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let name: String = build.chars().map(good).collect();
    let name = name.trim_start_matches(['.', '-', '_']);
    let name = if name.is_empty() { "image" } else { name };
    let numbered = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    numbered.into_iter().find(|name| !taken.contains(name)).unwrap_or_default()
}

fn config(document: &Document, templates: &[String]) -> String {
    let mut writer = Writer::default();
    let from = document.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    writer.comments(&[format!("Imported from the Packer project `{from}`; docs/import.md of visabuild says how.")], 0);
    writer.line("templates:");
    for name in templates {
        writer.line(&format!("  {name}:"));
    }
    writer.text
}

fn manifest(build: &Build, name: &str, files: &mut Files, findings: &mut Findings) -> Writer {
    let description = build.description.as_ref().and_then(Value::to_text);
    let mut packer = Vec::new();
    if let Some(description) = description.filter(|text| !text.plain().is_empty()) {
        packer.push(Entry::new("description", Yaml::Text(description)));
    }
    let builder = qemu::builder(build, name, files, findings);
    packer.push(Entry::new("builders", Yaml::List(vec![builder])));
    let provisioners = steps::provisioners(build, name, files, findings);
    let has_steps = provisioners.iter().any(|entry| entry.value.is_some());
    // An empty list can have no comments in it.
    let above =
        if has_steps { Vec::new() } else { provisioners.iter().flat_map(|entry| entry.comments.clone()).collect() };
    let provisioners = if has_steps { provisioners } else { Vec::new() };
    packer.push(Entry { comments: above, ..Entry::new("provisioners", Yaml::List(provisioners)) });
    packer.extend(steps::cleanup(build, name, files, findings));
    let after = steps::post_processors(build, name, files, findings);
    if after.iter().any(|entry| entry.value.is_some()) {
        packer.push(Entry::new("post-processors", Yaml::List(after)));
    } else {
        packer.extend(after);
    }
    let mut writer = Writer::default();
    let place = &build.source.place;
    writer.comments(&[format!("{} of {}, line {}.", build.full_name, file_name(place), place.line)], 0);
    writer.map(&[Entry::new("packer", Yaml::Map(packer))], 0);
    writer
}

/// The variables that the manifest names.
fn environment(document: &Document, used: &BTreeSet<String>, findings: &mut Findings) -> String {
    let names = variables::names(&document.variables);
    let mut entries: Vec<Entry> = Vec::new();
    let mut elsewhere = Vec::new();
    for variable in &document.variables {
        let name = names.get(&variable.name).map_or("", String::as_str);
        if name == variables::HEADLESS || entries.iter().any(|entry| entry.key == name) {
            continue;
        }
        if !used.contains(name) {
            elsewhere.push(variable.name.as_str());
            continue;
        }
        let (mut comments, value) = described(variable, name);
        if let Some(environment) = variable.environment.as_ref().filter(|environment| *environment != name) {
            let what = format!("`{environment}` of the process environment means something else here");
            let instead = format!("give the value of `{}` as `{name}`", variable.name);
            comments = vec![findings.unsupported(&variable.place, what, &instead)];
        }
        comments.extend(time_comment(document, variable, name));
        entries.push(Entry { comments, ..Entry::new(name, Yaml::Text(Text::literal(value))) });
    }
    for (name, time) in document.times.iter().filter(|(name, _)| used.contains(*name)) {
        let comments = vec![how_late(name, &time.format)];
        entries.push(Entry { comments, ..Entry::new(name, Yaml::Text(Text::literal(time.value.clone()))) });
    }
    let mut writer = Writer::loose();
    writer.comments(&["A variable of the process environment wins over its value here.".to_owned()], 0);
    writer.line(if entries.is_empty() { "environment: {}" } else { "environment:" });
    writer.map(&entries, 2);
    if !elsewhere.is_empty() {
        let comment = format!(
            "Variables of Packer that are not here, because nothing that was imported names them, or their values \
             stand where they were used: {}",
            elsewhere.join(", ")
        );
        writer.comments(&[comment], 0);
    }
    writer.text
}

/// How a variable gets the time of each build.
fn how_late(name: &str, format: &str) -> String {
    let format = format!("+{format}");
    format!("The time of the import; Packer takes that of each build: {name}=$(date -u {})", word(&format))
}

/// The comment of a variable that is nothing but a time.
fn time_comment(document: &Document, variable: &Variable, name: &str) -> Option<String> {
    let mut names = Vec::new();
    variable.value.as_ref()?.names(&mut names);
    let time = document.times.get(names.first()?)?;
    let is_alone = variable.value.as_ref()?.to_plain()? == time.value;
    Some(if is_alone { how_late(name, &time.format) } else { "It has the time of the import in it.".to_owned() })
}

/// What is said about a variable, and its value.
fn described(variable: &Variable, name: &str) -> (Vec<String>, String) {
    let mut comments = variable.description.clone();
    if let Some(environment) = &variable.environment {
        comments.push(format!("Packer, too, took it from the process environment: {environment}"));
        return (comments, String::new());
    }
    if variable.sensitive {
        let place = format!("{}:{}", file_name(&variable.place), variable.place.line);
        comments.push(format!("Secret ({place}), not written here: {name}=… in the process environment gives it."));
        return (comments, String::new());
    }
    (comments, variable.value.as_ref().and_then(Value::to_plain).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a/b");
        let files = BTreeMap::from([
            (PathBuf::from("c/text"), Content::Text("x".to_owned())),
            // A folder opens, but cannot be read.
            (PathBuf::from("d/copy"), Content::Copy(folder.path().to_owned())),
        ]);
        let draft = Draft { templates: Vec::new(), files, origins: BTreeMap::new() };
        draft.write(&new).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let mut made = Made::default();
        copied(&from, &to, &mut made).unwrap_err();
        made.undo();
        assert_eq!(fs::read_to_string(to).unwrap(), "old");
    }

    #[test]
    fn commands_are_quoted() {
        assert!(how_late("t", "it's %H").ends_with("t=$(date -u \"+it's %H\")"), "{}", how_late("t", "it's %H"));
    }
}
