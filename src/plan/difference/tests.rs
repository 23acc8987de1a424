//! Any edit of a random small project changes the fingerprints of the steps from the first that it is about on, and the
//! difference names it; what is no edit changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::plan::{Facts, OwnScripts, Plan, Stage};
use crate::template::{self, Inputs};

/// A step of a project; its label is unique.
#[derive(Debug, Clone)]
struct Model {
    label: u32,
    what: What,
    environment: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
enum What {
    Inline(String),
    /// Text of a script, and whether it is executable.
    Script(String, bool),
    /// Files of a folder: content and whether it is executable; none is a folder.
    Folder(BTreeMap<String, Option<(String, bool)>>),
    /// A variable of `environment.yml` in an inline script.
    Variable(String),
    /// A cache key beside an inline script.
    Key(String),
}

/// One edit of a project.
#[derive(Debug, Clone)]
enum Edit {
    Content,
    Mode,
    NewFile,
    EmptyFolder,
    Environment,
    NewEnvironment,
    Insert,
    Remove,
    Swap,
}

fn text() -> impl Strategy<Value = String> {
    "[a-c]{1,3}"
}

fn what() -> impl Strategy<Value = What> {
    let file = prop_oneof![4 => (text(), any::<bool>()).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        text().prop_map(What::Inline),
        (text(), any::<bool>()).prop_map(|(text, executable)| What::Script(text, executable)),
        prop::collection::btree_map("[a-c]", file, 1..4).prop_map(What::Folder),
        text().prop_map(What::Variable),
        text().prop_map(What::Key),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Model>> {
    let environment = prop::collection::btree_map("[A-C]", text(), 0..3);
    let step = (what(), environment).prop_map(|(what, environment)| (what, environment.into_iter().collect()));
    prop::collection::vec(step, 1..6).prop_map(|steps| {
        let model = |(label, (what, environment))| Model { label, what, environment };
        (0..).zip(steps).map(model).collect()
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => Just(Edit::Content),
        1 => Just(Edit::Mode),
        1 => Just(Edit::NewFile),
        1 => Just(Edit::EmptyFolder),
        1 => Just(Edit::Environment),
        1 => Just(Edit::NewEnvironment),
        1 => Just(Edit::Insert),
        1 => Just(Edit::Remove),
        1 => Just(Edit::Swap),
    ]
}

/// Makes the edit on the step `at`, where it can be made; returns how that is named.
fn make(edit: &Edit, steps: &mut Vec<Model>, at: usize) -> Option<How> {
    let step = &mut steps[at];
    match (edit, &mut step.what) {
        (Edit::Content, What::Inline(text) | What::Script(text, _) | What::Variable(text) | What::Key(text)) => {
            text.push('d');
        }
        (Edit::Content, What::Folder(files)) => files.values_mut().flatten().next()?.0.push('d'),
        (Edit::Mode, What::Script(_, executable)) => *executable = !*executable,
        (Edit::Mode, What::Folder(files)) => {
            let (_, executable) = files.values_mut().flatten().next()?;
            *executable = !*executable;
        }
        (Edit::NewFile, What::Folder(files)) => drop(files.insert("new".to_owned(), Some((String::new(), false)))),
        (Edit::EmptyFolder, What::Folder(files)) => drop(files.insert("empty".to_owned(), None)),
        (Edit::Mode | Edit::NewFile | Edit::EmptyFolder, _) => return None,
        (_, What::Folder(_)) if matches!(edit, Edit::Environment | Edit::NewEnvironment) => return None,
        (Edit::Environment, _) => step.environment.first_mut()?.1.push('d'),
        (Edit::NewEnvironment, _) => step.environment.push(("NEW".to_owned(), String::new())),
        (Edit::Insert, _) => {
            let new = Model { label: 99, what: What::Inline("true".to_owned()), environment: Vec::new() };
            steps.insert(at, new);
            return Some(How::Added);
        }
        (Edit::Remove, _) => {
            steps.remove(at);
            return Some(How::Removed);
        }
        (Edit::Swap, _) => {
            if at + 1 >= steps.len() {
                return None;
            }
            steps.swap(at, at + 1);
            return Some(How::Moved);
        }
    }
    Some(How::Changed)
}

/// What does not matter to a project.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Dressing {
    Plain,
    Other,
}

fn put(path: &Path, text: &str, executable: bool, dressing: Dressing) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let mode = match (executable, dressing) {
        (true, Dressing::Plain) => 0o755,
        (true, Dressing::Other) => 0o700,
        (false, Dressing::Plain) => 0o644,
        (false, Dressing::Other) => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(root: &Path, steps: &[Model], dressing: Dressing) {
    let folder = root.join("templates/app");
    let comment = if dressing == Dressing::Other { "# a comment\n" } else { "" };
    put(&root.join("config.yml"), "templates:\n  app:\n", false, dressing);
    let mut manifest = "packer:\n  builders:\n    - type: bootstrap\n      suite: trixie\n".to_owned();
    if dressing == Dressing::Other {
        manifest.push_str("  description: another\n");
    }
    manifest.push_str("  provisioners:\n");
    let mut variables = String::new();
    for Model { label, what, environment } in steps {
        manifest.push_str(comment);
        let mut more = String::new();
        let kind = match what {
            What::Inline(text) => format!("shell\n      inline: [\"echo {text}\"]"),
            What::Script(text, executable) => {
                put(&folder.join(format!("s{label}.sh")), text, *executable, dressing);
                format!("shell\n      script: s{label}.sh")
            }
            What::Folder(files) => {
                let below = folder.join(format!("f{label}"));
                fs::create_dir_all(&below).unwrap();
                for (name, file) in files {
                    match file {
                        Some((text, executable)) => put(&below.join(name), text, *executable, dressing),
                        None => fs::create_dir_all(below.join(name)).unwrap(),
                    }
                }
                format!("file\n      source: f{label}/\n      destination: /srv")
            }
            What::Variable(text) => {
                variables.push_str(&format!("  variable_{label}: {text}\n"));
                format!("shell\n      inline: [\"echo {{{{ variable_{label} }}}}\"]")
            }
            What::Key(text) => {
                more = format!("      cache:\n        key: {text}\n");
                "shell\n      inline: [\"true\"]".to_owned()
            }
        };
        manifest.push_str(&format!("    - name: step {label}\n      type: {kind}\n{more}"));
        if !environment.is_empty() && !matches!(what, What::Folder(_)) {
            manifest.push_str("      env:\n");
            for (name, value) in environment {
                manifest.push_str(&format!("        {name}: {value:?}\n"));
            }
        }
    }
    put(&folder.join("manifest.yml"), &manifest, false, dressing);
    put(&folder.join("environment.yml"), &format!("{comment}environment:\n{variables}"), false, dressing);
}

const SCRIPTS: OwnScripts = OwnScripts { configure: "c", boot_loader: "b", session: "o", seal: "s" };

fn stage(root: &Path, scripts: OwnScripts) -> Stage {
    let project = template::load(root).map_err(|error| error.chain()).unwrap();
    let resolved = template::resolve(&project, &[], &Inputs::default()).map_err(|error| format!("{error:?}")).unwrap();
    Plan::new(&resolved, scripts, false).unwrap().stages.remove(0)
}

fn planned(steps: &[Model], dressing: Dressing) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), steps, dressing);
    stage(folder.path(), SCRIPTS)
}

fn record(stage: &Stage) -> Record {
    Record::of(stage, None, Facts::default())
}

fn fingerprints(stage: &Stage) -> Vec<&str> {
    stage.steps.iter().map(|step| step.fingerprint.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_is_seen_from_there_on_and_named(steps in steps(), edit in edit(), at in any::<prop::sample::Index>()) {
        let at = at.index(steps.len());
        let mut edited = steps.clone();
        let Some(how) = make(&edit, &mut edited, at) else { return Ok(()) };
        let (old, new) = (planned(&steps, Dressing::Plain), planned(&edited, Dressing::Plain));
        let (was, is) = (fingerprints(&old), fingerprints(&new));
        prop_assert_eq!(&was[..at], &is[..at]);
        for (was, is) in was[at..].iter().zip(&is[at..]) {
            prop_assert_ne!(was, is);
        }
        prop_assert_ne!(&old.fingerprint, &new.fingerprint);
        prop_assert_ne!(&old.seal.fingerprint, &new.seal.fingerprint);

        let changed = difference(&record(&old), &record(&new));
        prop_assert_eq!(changed.parts.len(), 1, "{:?}", changed);
        let part = &changed.parts[0];
        prop_assert_eq!((part.kind, part.how), (PartKind::Step, how));
        let named = match how {
            How::Added => 99,
            How::Moved => {
                let labels = [at, at + 1].map(|at| format!("step {}", steps[at].label));
                prop_assert!(labels.contains(&part.label), "{:?}", changed);
                return Ok(());
            }
            How::Removed | How::Changed => steps[at].label,
        };
        prop_assert_eq!(&part.label, &format!("step {named}"));
        prop_assert_eq!(part.index, at);
        prop_assert_eq!(part.details.is_empty(), how != How::Changed);
    }

    #[test]
    fn place_times_comments_and_the_umask_change_nothing(steps in steps()) {
        let (old, new) = (planned(&steps, Dressing::Plain), planned(&steps, Dressing::Other));
        prop_assert_eq!(fingerprints(&old), fingerprints(&new));
        prop_assert_eq!(&old.seal.fingerprint, &new.seal.fingerprint);
        prop_assert!(difference(&record(&old), &record(&new)).is_empty());
    }

    #[test]
    fn a_record_is_read_as_it_was_written(steps in steps()) {
        let record = record(&planned(&steps, Dressing::Plain));
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}

#[test]
fn visabuilds_own_scripts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[], Dressing::Plain);
    let old = record(&stage(folder.path(), SCRIPTS));
    let tools = |scripts: OwnScripts| {
        let changed = difference(&old, &record(&stage(folder.path(), scripts)));
        let details =
            changed.parts.into_iter().flat_map(|part| part.details.into_iter().map(move |one| (part.kind, one)));
        details.collect::<Vec<_>>()
    };
    let tool = |name: &str| Detail::Tool(name.to_owned());
    assert_eq!(tools(OwnScripts { configure: "x", ..SCRIPTS }), [(PartKind::Base, tool("configure"))]);
    assert_eq!(tools(OwnScripts { boot_loader: "x", ..SCRIPTS }), [(PartKind::Base, tool("boot loader"))]);
    assert_eq!(tools(OwnScripts { session: "x", ..SCRIPTS }), [(PartKind::Disk, tool("session"))]);
    assert_eq!(tools(OwnScripts { seal: "x", ..SCRIPTS }), [(PartKind::Seal, tool("seal"))]);
}

#[test]
fn a_file_behind_a_link_to_a_folder_is_seen() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = What::Folder(BTreeMap::from([("a".to_owned(), Some((String::new(), false)))]));
    write(folder.path(), &[Model { label: 0, what: files, environment: Vec::new() }], Dressing::Plain);
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("templates/app/f0/linked")).unwrap();
    fs::write(elsewhere.path().join("file"), "one").unwrap();
    let old = stage(folder.path(), SCRIPTS);
    fs::write(elsewhere.path().join("file"), "two").unwrap();
    let new = stage(folder.path(), SCRIPTS);
    assert_ne!(old.fingerprint, new.fingerprint);
    let changed = difference(&record(&old), &record(&new));
    let Detail::File(file) = &changed.parts[0].details[0] else { panic!("{changed:?}") };
    assert_eq!(file.name, "templates/app/f0/linked/file");
}

#[test]
fn a_diff_is_short() {
    let old: String = (0..100).map(|line| format!("{line}\n")).collect();
    assert_eq!(unified(&old, &old.replace("50\n", "fifty\n"), 9).len(), 7);
    let lines = unified(&old, "", 5);
    assert_eq!((lines.len(), lines[5].as_str()), (6, "… and 96 more lines"));
}
