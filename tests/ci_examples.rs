//! The examples in `docs/ci` parse, and what they call exists.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_yaml::Value;
use support::{repository, told, visabuild};

/// The shell lines of an example.
fn script_lines(file: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("docs/ci").join(file)).unwrap();
    let yaml: Value = serde_yaml::from_str(&text).unwrap();
    let mut lines = Vec::new();
    collect(&yaml, false, &mut lines);
    assert!(!lines.is_empty(), "{file} runs nothing");
    lines
}

/// Strings below `script`, `after_script` (GitLab) and `run` (GitHub).
fn collect(node: &Value, is_script: bool, lines: &mut Vec<String>) {
    match node {
        Value::String(text) if is_script => lines.extend(text.lines().map(str::to_owned)),
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, is_script, lines)),
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = key.as_str().unwrap_or_default();
                collect(value, matches!(key, "script" | "after_script" | "run"), lines);
            }
        }
        _ => {}
    }
}

#[test]
fn every_option_in_the_ci_examples_exists() {
    let (build, ..) = told(&visabuild().args(["build", "--help"]).output().unwrap());
    let quickstart =
        std::process::Command::new(repository().join("scripts/quickstart")).arg("--help").output().unwrap();
    let help = build + &String::from_utf8_lossy(&quickstart.stdout);
    for file in ["gitlab-ci.yml", "github-actions.yml"] {
        let lines = script_lines(file);
        let calls: Vec<_> = lines.iter().filter(|line| line.contains("scripts/quickstart")).collect();
        assert_eq!(calls.len(), 1, "{file}");
        for option in calls[0].split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{file}: {option} is not in the help");
        }
        assert!(lines.iter().any(|line| line.contains("visabuild doctor")), "{file}");
    }
}
