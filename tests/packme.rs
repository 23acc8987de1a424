//! `visabuild packme` and `plan --format packer` against packme itself, which `scripts/test` installs.
#![allow(clippy::unwrap_used)]

mod support;

#[path = "packme/command.rs"]
mod command;
#[path = "packme/generated.rs"]
mod generated;
#[path = "packme/projects.rs"]
mod projects;
#[path = "packme/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use visabuild::packme::{Layout, Project, Values};

/// A project's files and the process environment that it is resolved in.
#[derive(Debug, Clone, Default)]
struct Files {
    name: String,
    files: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
}

impl Files {
    /// Files that stand in one text, each after a line `=== PATH`.
    fn parse(name: &str, text: &str) -> Self {
        let files = text.split("=== ").skip(1).map(|part| {
            let (path, content) = part.split_once('\n').unwrap();
            (path.trim().to_owned(), content.to_owned())
        });
        Self { name: name.to_owned(), files: files.collect(), environment: BTreeMap::new() }
    }

    /// Writes them into a folder of their own.
    fn write(&self) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for (path, content) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Written { files: self.clone(), root, _folder: folder }
    }
}

/// A project in a folder.
#[derive(Debug)]
struct Written {
    files: Files,
    root: PathBuf,
    _folder: TempDir,
}

impl Written {
    /// The names of its templates, which the folders' names are.
    fn templates(&self) -> Vec<String> {
        let folders = fs::read_dir(self.root.join("templates")).unwrap().flatten();
        let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What visabuild makes of a template: the text, or all that is wrong.
    fn resolved(&self, template: &str) -> Result<String, String> {
        let values = Values { environment: self.files.environment.clone(), ..Values::default() };
        let manifest = Project::load(Layout::of(&self.root)).and_then(|project| project.manifest(template, &values));
        match manifest {
            Ok(manifest) => Ok(manifest.text()),
            Err(error) => {
                let list = error.problem_list().iter();
                let problems = list.map(|one| format!("{one} ({})", one.hint.clone().unwrap_or_default()));
                Err(problems.chain(error.chain()).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// packme's results for all projects and Jinja2's for all expressions, of one process.
fn oracle(projects: &[Written]) -> Value {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packme/venv/bin/python");
    let asked: Vec<Value> = projects
        .iter()
        .map(|project| {
            let environment = &project.files.environment;
            json!({ "folder": project.root, "environment": environment, "templates": project.templates() })
        })
        .collect();
    let mut child = Command::new(venv)
        .args(["-B", "tests/support/packme/oracle.py"])
        .current_dir(support::repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/test has installed packme");
    child.stdin.take().unwrap().write_all(json!(asked).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packmes(answer: &Value) -> Result<&str, &str> {
    answer["text"].as_str().ok_or_else(|| answer["error"].as_str().unwrap())
}

/// Every project that is resolved by both, every line of the table in docs/packme.md, and every Jinja2 expression.
#[test]
fn is_what_packme_makes_of_every_project() {
    let same: Vec<Files> = projects::all().into_iter().chain(generated::all()).collect();
    assert!(same.len() >= 60, "{}", same.len());
    let lines = table::lines();
    let written: Vec<Written> =
        same.iter().cloned().chain(lines.iter().map(table::Line::project)).map(|files| files.write()).collect();
    let answers = oracle(&written);
    let answers_of = answers["projects"].as_array().unwrap();
    let mut faults = Vec::new();
    let (mut manifests, mut refused) = (0, 0);
    for (project, answer) in written.iter().zip(answers_of).take(same.len()) {
        for (template, answer) in answer.as_object().unwrap() {
            match (project.resolved(template), packmes(answer)) {
                (Ok(ours), Ok(theirs)) if ours == theirs => manifests += 1,
                (Err(_), Err(_)) => refused += 1,
                (ours, theirs) => {
                    let name = &project.files.name;
                    faults.push(format!("{name}, {template}:\nvisabuild {ours:#?}\npackme {theirs:#?}"));
                }
            }
        }
    }
    for ((line, project), answer) in lines.iter().zip(&written[same.len()..]).zip(&answers_of[same.len()..]) {
        let ours = project.resolved("a");
        faults.extend(line.fault(ours.as_deref().map_err(String::as_str), packmes(&answer["a"])));
    }
    faults.extend(expressions(&answers));
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(manifests > 150 && refused > 5, "{manifests} manifests were the same, {refused} refused by both");
}

/// What is rendered is what Jinja2 renders; what is refused shows another form, unless Jinja2 refuses it too.
fn expressions(answers: &Value) -> Vec<String> {
    let expressions = answers["expressions"].as_array().unwrap();
    assert!(expressions.len() >= 95);
    let mut project = Files::parse("expressions", "");
    let templates: Vec<String> = (0..expressions.len()).map(|at| format!("t{at}")).collect();
    let config: BTreeMap<&String, Value> = templates.iter().map(|name| (name, Value::Null)).collect();
    project.files.push(("config.yml".to_owned(), json!({ "templates": config }).to_string()));
    for (name, expression) in templates.iter().zip(expressions) {
        let manifest = json!({ "packer": { "description": expression[0] } }).to_string();
        let environment = json!({ "environment": answers["variables"] }).to_string();
        project.files.push((format!("templates/{name}/manifest.yml"), manifest));
        project.files.push((format!("templates/{name}/environment.yml"), environment));
    }
    let project = project.write();
    let mut faults = Vec::new();
    for (name, expression) in templates.iter().zip(expressions) {
        let expected = expression[1].as_str();
        match project.resolved(name) {
            Ok(text) => {
                let json: Value = serde_json::from_str(&text).unwrap();
                if json["description"].as_str() != expected {
                    faults.push(format!("{}: {} for {expected:?}", expression[0], json["description"]));
                }
            }
            // In parentheses is the hint.
            Err(problems) if expected.is_some() && problems.contains("()") => {
                faults.push(format!("{}: {problems}", expression[0]));
            }
            Err(_) => {}
        }
    }
    faults
}

/// The generator's projects are not all alike, and the same in each run.
#[test]
fn generated_projects_are_the_same_in_each_run() {
    let (first, second) = (generated::all(), generated::all());
    let contents = |projects: &[Files]| projects.iter().map(|one| one.files.clone()).collect::<Vec<_>>();
    assert_eq!(contents(&first), contents(&second));
    let mut distinct = contents(&first);
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), first.len());
}
