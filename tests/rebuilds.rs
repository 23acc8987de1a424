//! What comes out of the cache is what a build from the start makes, whatever was edited before, and whenever the builds
//! before were killed. A chain of two tiny templates in containers; layers are compared, file by file.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::bench::{Bench, cache_with_the_base};
use support::random::Random;
use support::tree::{Tree, differences, newest_layer};
use support::{Run, child_template, told};
use uuid::Uuid;
use visabuild::engine::Engine;

/// A step as it stands in a template.
#[derive(Debug, Clone)]
enum Step {
    /// Commands in the template.
    Inline { text: u32, variable: u32 },
    /// A script file.
    Script { file: String, text: u32 },
    /// A folder that is copied to /srv: content and executable bit of each file; a content of 0 is a link.
    Folder { name: String, files: BTreeMap<String, (u32, bool)> },
}

/// A project of two templates, `tiny` and `app` on it.
#[derive(Debug, Clone)]
struct Project {
    salt: Uuid,
    next: u32,
    stages: [Vec<Step>; 2],
}

const NAMES: [&str; 2] = ["tiny", "app"];

impl Project {
    fn new() -> Self {
        let mut project = Self { salt: Uuid::new_v4(), next: 1, stages: [Vec::new(), Vec::new()] };
        for stage in 0..2 {
            for kind in 0..3 {
                let step = project.step(kind);
                project.stages[stage].push(step);
            }
        }
        project
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn step(&mut self, kind: usize) -> Step {
        let number = self.fresh();
        match kind {
            0 => Step::Inline { text: number, variable: 0 },
            1 => Step::Script { file: format!("script-{number}.sh"), text: number },
            _ => Step::Folder { name: format!("folder-{number}"), files: [("one".to_owned(), (number, false))].into() },
        }
    }

    /// Changes one thing; says what.
    fn edit(&mut self, random: &mut Random) -> String {
        let stage = random.below(2);
        let (number, count) = (self.fresh(), self.stages[stage].len());
        let place = random.below(count);
        let kind = random.below(3);
        let new = self.step(kind);
        let steps = &mut self.stages[stage];
        let what = match random.below(8) {
            0 if count < 5 => {
                steps.insert(place, new);
                "a new step"
            }
            1 if count > 2 => {
                steps.remove(place);
                "a step less"
            }
            2 => {
                let other = random.below(count);
                steps.swap(place, other);
                "two steps in another order"
            }
            choice => match &mut steps[place] {
                Step::Inline { text, .. } if choice % 2 == 0 => {
                    *text = number;
                    "other commands"
                }
                Step::Inline { variable, .. } => {
                    *variable = number;
                    "another value in the environment"
                }
                Step::Script { text, .. } => {
                    *text = number;
                    "another script"
                }
                Step::Folder { files, .. } => match choice {
                    3 => {
                        files.insert(format!("file-{number}"), (number, false));
                        "a new file"
                    }
                    4 if files.len() > 1 => {
                        let name = files.keys().next().unwrap().clone();
                        files.remove(&name);
                        "a file less"
                    }
                    5 => {
                        files.values_mut().for_each(|(_, executable)| *executable = !*executable);
                        "other executable bits"
                    }
                    6 => {
                        files.insert("link".to_owned(), (0, false));
                        "a link"
                    }
                    _ => {
                        files.values_mut().for_each(|(content, _)| *content = number);
                        "other contents"
                    }
                },
            },
        };
        format!("{what}, at step {} of `{}`", place + 1, NAMES[stage])
    }

    fn write(&self, bench: &Bench) {
        let root = bench.folder.path();
        let manifests = NAMES.map(|name| root.join("templates").join(name));
        for (folder, steps) in manifests.iter().zip(&self.stages) {
            fs::create_dir_all(folder).unwrap();
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                if name.to_string_lossy().starts_with("folder-") {
                    fs::remove_dir_all(path).unwrap();
                }
            }
            steps.iter().for_each(|step| self.write_files(folder, step));
        }
        bench.steps(&self.steps(0));
        child_template(root, NAMES[1], &self.steps(1));
        fs::write(root.join("config.yml"), "templates:\n  tiny:\n  app:\n    extends: tiny\n").unwrap();
    }

    fn write_files(&self, folder: &Path, step: &Step) {
        match step {
            Step::Inline { .. } => {}
            Step::Script { file, text } => {
                let script = format!("#!/bin/sh\n# {}\necho script {text} >>/etc/trace\n", self.salt);
                fs::write(folder.join(file), script).unwrap();
            }
            Step::Folder { name, files } => {
                let folder = folder.join(name);
                fs::create_dir_all(&folder).unwrap();
                for (name, (content, executable)) in files {
                    let path = folder.join(name);
                    if *content == 0 {
                        std::os::unix::fs::symlink("one", path).unwrap();
                        continue;
                    }
                    fs::write(&path, format!("{} {content}\n", self.salt)).unwrap();
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
        }
    }

    fn steps(&self, stage: usize) -> String {
        let mut out = String::new();
        for step in &self.stages[stage] {
            match step {
                Step::Inline { text, variable } => {
                    let salt = self.salt;
                    write!(
                        out,
                        "    - type: shell\n      environment_vars: [\"VALUE={variable}\"]\n      inline:\n        - \
                         \"echo inline {text} $VALUE >>/etc/trace; echo {text} >>/tmp/between # {salt}\"\n"
                    )
                    .unwrap();
                }
                Step::Script { file, .. } => {
                    let path = format!("templates/{}/{file}", NAMES[stage]);
                    write!(out, "    - type: shell\n      script: {path}\n").unwrap();
                }
                Step::Folder { name, .. } => {
                    let path = format!("templates/{}/{name}", NAMES[stage]);
                    write!(out, "    - type: file\n      source: {path}\n      destination: /srv\n").unwrap();
                }
            }
        }
        out
    }

    /// The build of the last layer, without a seal, with these checkpoints.
    fn build(&self, bench: &Bench, checkpoints: &str) -> Command {
        let mut build = bench.build();
        let last = format!("app:{}", self.stages[1].len());
        build.args(["app", "--checkpoints", checkpoints, "--until", &last]);
        build
    }
}

/// Builds the last layer with a cache that is empty but for the base.
async fn from_the_start(project: &Project, bench: &mut Bench, empty: &Path) -> Tree {
    for store in ["layers", "checkpoints"] {
        let _ = fs::remove_dir_all(empty.join("visabuild").join(store));
    }
    let cache = std::mem::replace(&mut bench.cache, empty.to_owned());
    let (_, err, code) = told(&project.build(bench, "none").output().unwrap());
    assert_eq!(code, 0, "{err}");
    bench.cache = cache;
    newest_layer(empty, "app").await
}

/// The two caches of a test, and its project's folder.
fn two_caches() -> (Bench, tempfile::TempDir, PathBuf) {
    let mut bench = Bench::new(Engine::Nspawn, support::bench::QUICK);
    let folder = tempfile::tempdir_in(bench.cache.parent().unwrap()).unwrap();
    let shared = bench.cache.clone();
    bench.cache = cache_with_the_base(&shared, &folder.path().join("filled"));
    let empty = cache_with_the_base(&shared, &folder.path().join("empty"));
    (bench, folder, empty)
}

async fn edits_give_what_a_build_from_the_start_gives(count: usize) {
    let mut random = Random::new();
    let (mut bench, _folder, empty) = two_caches();
    let mut project = Project::new();
    let mut before: Vec<Project> = Vec::new();
    let mut resumed = 0;
    for number in 0..count {
        // Now and then back to what was built before, which is in the cache.
        let what = if number > 2 && random.below(6) == 0 {
            project = before[random.below(before.len())].clone();
            "as it was once".to_owned()
        } else {
            project.edit(&mut random)
        };
        before.push(project.clone());
        project.write(&bench);
        let (_, err, code) = told(&project.build(&bench, "all").output().unwrap());
        assert_eq!(code, 0, "edit {number}, {what}: {err}");
        resumed += usize::from(err.contains("steps left to do") || err.contains("its layer is in the cache"));
        let cached = newest_layer(&bench.cache, "app").await;
        let anew = from_the_start(&project, &mut bench, &empty).await;
        let differing = differences(&cached, &anew);
        assert!(differing.is_empty(), "edit {number}, {what}: {differing:#?}\n{project:#?}\n{err}");
        assert!(cached.contains_key("/etc/trace") || cached.keys().any(|path| path.starts_with("/srv/")));
    }
    // A cache that is never used would be right as well. Few edits may all be at the beginning.
    assert!(count < 10 || resumed * 3 > count, "{resumed} of {count} builds went on from something");
}

#[tokio::test]
async fn nspawn_two_random_edits_give_what_a_build_from_the_start_gives() {
    edits_give_what_a_build_from_the_start_gives(2).await;
}

#[tokio::test]
async fn full_nspawn_fifty_random_edits_give_what_a_build_from_the_start_gives() {
    edits_give_what_a_build_from_the_start_gives(50).await;
}

#[tokio::test]
async fn full_nspawn_kill_9_at_twenty_moments_never_leaves_a_wrong_layer() {
    let mut random = Random::new();
    let (mut bench, _folder, empty) = two_caches();
    let mut project = Project::new();
    for number in 0..20 {
        project.edit(&mut random);
        project.write(&bench);
        let mut run = Run::start(project.build(&bench, "all"));
        let lines = random.below(60);
        let seen = run.lines_or_end(lines, Duration::from_secs(300));
        run.signal_if_running(Signal::KILL);
        let (code, err) = run.end();
        assert!(code.is_none() || code == Some(0), "kill {number} after {seen} lines: {err}");
        let mut verify = support::visabuild();
        verify.env("XDG_CACHE_HOME", &bench.cache).args(["cache", "verify"]);
        let (out, err, code) = told(&verify.output().unwrap());
        assert_eq!(code, 0, "kill {number} after {seen} lines: {out}{err}");
        // What was built until then is used, and right.
        let (_, err, code) = told(&project.build(&bench, "all").output().unwrap());
        assert_eq!(code, 0, "kill {number} after {seen} lines: {err}");
        let cached = newest_layer(&bench.cache, "app").await;
        let anew = from_the_start(&project, &mut bench, &empty).await;
        let differing = differences(&cached, &anew);
        assert!(differing.is_empty(), "kill {number} after {seen} lines: {differing:#?}\n{err}");
    }
}
