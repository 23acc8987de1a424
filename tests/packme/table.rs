//! The first table in docs/packme.md: where packme is wrong, and visabuild differs. Each line is a project.

use serde_json::Value;

use super::{Files, support};

/// What comes of a project: JSON at the line's pointer, or a part of what is said where it is refused.
type Outcome = Result<&'static str, &'static str>;

/// A line of the table.
#[derive(Debug)]
pub(super) struct Line {
    /// Its first column.
    title: &'static str,
    /// Files after lines `=== PATH`; what is not there is as small as packme takes it.
    files: &'static str,
    pointer: &'static str,
    packme: Outcome,
    visabuild: Outcome,
}

const MANIFEST: &str = "templates/a/manifest.yml";
const ENVIRONMENT: &str = "templates/a/environment.yml";
/// A file that a line does without.
const NONE: &str = "(none)\n";

impl Line {
    pub(super) fn project(&self) -> Files {
        let mut files = Files::parse(self.title, self.files);
        let defaults = [
            ("config.yml", "templates: {a: }\n"),
            (ENVIRONMENT, "environment: {x: one, quote: \"it's\", lines: \"1\\n2\", back: 'a\\tb', headless: true}\n"),
            (MANIFEST, "packer: {}\n"),
        ];
        for (path, content) in defaults {
            if !files.files.iter().any(|(other, _)| other == path) {
                files.files.push((path.to_owned(), content.to_owned()));
            }
        }
        files.files.retain(|(_, content)| content != NONE);
        files
    }

    /// What is not as the line says.
    pub(super) fn fault(&self, visabuild: Result<&str, &str>, packme: Result<&str, &str>) -> Option<String> {
        let is = |outcome: Result<&str, &str>, expected: Outcome| match (outcome, expected) {
            (Ok(text), Ok(expected)) => {
                let json: Value = serde_json::from_str(text).unwrap();
                let expected: Value = serde_json::from_str(expected).unwrap();
                // As text: the order of keys counts.
                json.pointer(self.pointer).map(Value::to_string) == Some(expected.to_string())
            }
            (Err(text), Err(part)) => text.contains(part),
            _ => false,
        };
        let good = is(packme, self.packme) && is(visabuild, self.visabuild);
        (!good).then(|| format!("{}\nvisabuild {visabuild:#?}\npackme {packme:#?}", self.title))
    }
}

/// All lines; each is in the document, and the document has no others.
pub(super) fn lines() -> Vec<Line> {
    let lines =
        LINES.map(|(title, files, pointer, packme, visabuild)| Line { title, files, pointer, packme, visabuild });
    let document = std::fs::read_to_string(support::repository().join("docs/packme.md")).unwrap();
    let table = document.split("## What differs in the JSON").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> =
        table.lines().filter_map(|row| row.strip_prefix("| ")).map(|row| row.split(" | ").next().unwrap()).collect();
    assert_eq!(rows[1..], lines.iter().map(|line| line.title).collect::<Vec<_>>(), "docs/packme.md has other lines");
    lines.into()
}

const LINES: [(&str, &str, &str, Outcome, Outcome); 31] = [
    (
        "nothing (`null`) in a manifest",
        "=== templates/a/manifest.yml\npacker: {variables: {v: , w: null}}\n",
        "/variables",
        Ok(r#"{"v": "None", "w": "None"}"#),
        Ok(r#"{"v": null, "w": null}"#),
    ),
    (
        "nothing in environment.yml",
        "=== templates/a/environment.yml\nenvironment: {n: }\n=== templates/a/manifest.yml\npacker: {description: '<{{ n }}>'}\n",
        "/description",
        Ok(r#""<None>""#),
        Ok(r#""<>""#),
    ),
    (
        "numbers in environment.yml",
        "=== templates/a/environment.yml\nenvironment: {v: 1.10, m: 0644, t: 12:30}\n=== templates/a/manifest.yml\n\
         packer: {description: '{{ v }} {{ m }} {{ t }}'}\n",
        "/description",
        Ok(r#""1.1 420 750""#),
        Ok(r#""1.10 0644 12:30""#),
    ),
    (
        "newlines in text",
        "=== templates/a/manifest.yml\npacker:\n  provisioners:\n    - type: shell\n      inline:\n        - |\n          \
         if true; then\n            echo {{ x }}\n          fi\n",
        "/provisioners/0/inline/0",
        Ok(r#""if true; then\\n  echo one\\nfi\\n""#),
        Ok(r#""if true; then\n  echo one\nfi\n""#),
    ),
    (
        "tabs and backslashes in text",
        "=== templates/a/manifest.yml\npacker: {description: \"a\\tb\\\\c\"}\n",
        "/description",
        Ok(r#""a\\tb\\\\c""#),
        Ok(r#""a\tb\\c""#),
    ),
    (
        "characters that are not printed",
        "=== templates/a/manifest.yml\npacker: {description: \"a\\u200bb\"}\n",
        "/description",
        Ok(r#""a\\u200bb""#),
        Ok(r#""a\u200bb""#),
    ),
    (
        "both kinds of quotes in text",
        "=== templates/a/manifest.yml\npacker:\n  description: it's \"x\"\n",
        "/description",
        Err("ParserError"),
        Ok(r#""it's \"x\"""#),
    ),
    (
        "a quote in a variable's value",
        "=== templates/a/manifest.yml\npacker: {description: '{{ quote }}'}\n",
        "/description",
        Err("Error"),
        Ok(r#""it's""#),
    ),
    (
        "a newline in a variable's value",
        "=== templates/a/manifest.yml\npacker: {description: '{{ lines }}'}\n",
        "/description",
        Ok(r#""1 2""#),
        Ok(r#""1\n2""#),
    ),
    (
        "a backslash in a variable's value",
        "=== templates/a/manifest.yml\npacker: {description: \"it's {{ back }}\"}\n",
        "/description",
        Ok(r#""it's a\tb""#),
        Ok(r#""it's a\\tb""#),
    ),
    (
        "dates",
        "=== templates/a/manifest.yml\npacker: {variables: {d: 2024-01-02}}\n",
        "/variables",
        Ok(r#"{"d": "datetime.date(2024", "1": null, "2)": null}"#),
        Ok(r#"{"d": "2024-01-02"}"#),
    ),
    (
        "`.inf` and `.nan`",
        "=== templates/a/manifest.yml\npacker: {variables: {i: .inf, n: .nan}}\n",
        "/variables",
        Ok(r#"{"i": "inf", "n": "nan"}"#),
        Ok(r#"{"i": ".inf", "n": ".nan"}"#),
    ),
    (
        "very large and very small fractions",
        "=== templates/a/manifest.yml\npacker: {variables: {l: 1.0e+20}}\n",
        "/variables",
        Ok(r#"{"l": "1e+20"}"#),
        Ok(r#"{"l": 1e20}"#),
    ),
    (
        "whole numbers of more than 64 bits",
        "=== templates/a/manifest.yml\npacker: {description: 123456789012345678901}\n",
        "/description",
        Ok("123456789012345678901"),
        Err("integer `123456789012345678901`"),
    ),
    (
        "keys that are no text",
        "=== templates/a/manifest.yml\npacker: {variables: {yes: 1}}\n",
        "/variables",
        Ok(r#"{"true": 1}"#),
        Ok(r#"{"yes": 1}"#),
    ),
    (
        "order of the keys that `<<` brings",
        "=== templates/a/manifest.yml\nb: &b {x: 1}\npacker: {variables: {y: 2, <<: *b}}\n",
        "/variables",
        Ok(r#"{"x": 1, "y": 2}"#),
        Ok(r#"{"y": 2, "x": 1}"#),
    ),
    (
        "a key twice",
        "=== templates/a/manifest.yml\npacker: {description: a, description: b}\n",
        "/description",
        Ok(r#""b""#),
        Err("duplicate key `description`"),
    ),
    (
        "an empty section",
        "=== templates/a/manifest.yml\npacker: {builders: , provisioners: , variables: }\n",
        "/builders",
        Err("TypeError"),
        Ok("[]"),
    ),
    ("an empty manifest.yml", "=== templates/a/manifest.yml\n", "/builders", Err("AttributeError"), Ok("[]")),
    (
        "no environment.yml",
        "=== templates/a/environment.yml\n(none)\n",
        "/description",
        Err("AttributeError"),
        Ok(r#""No description provided""#),
    ),
    (
        "an empty environment.yml",
        "=== templates/a/environment.yml\nenvironment:\n",
        "/builders",
        Err("AttributeError"),
        Ok("[]"),
    ),
    (
        "the parent's environment.yml",
        "=== config.yml\ntemplates: {p: , a: {extends: p}}\n=== templates/p/environment.yml\nenvironment: {theirs: 1}\n\
         === templates/a/manifest.yml\npacker: {description: '{{ theirs }}'}\n",
        "/description",
        Err("undefined: {'theirs'}"),
        Ok(r#""1""#),
    ),
    (
        "a variable that is not set, with `is defined` or `default`",
        "=== templates/a/manifest.yml\npacker: {description: '{% if nothing is defined %}a{% else %}b{% endif %}'}\n",
        "/description",
        Err("undefined: {'nothing'}"),
        Ok(r#""b""#),
    ),
    (
        "Packer's own `{{ .Path }}`",
        "=== templates/a/manifest.yml\npacker: {description: 'sh {{ .Path }}'}\n",
        "/description",
        Err("TemplateSyntaxError"),
        Ok(r#""sh {{ .Path }}""#),
    ),
    (
        "a statement over several values",
        "=== templates/a/manifest.yml\npacker: {variables: {a: '{% if x %}', b: '{% endif %}'}}\n",
        "/variables",
        Ok(r#"{"a": "", "b": ""}"#),
        Err("m"),
    ),
    (
        "what only Jinja2 has",
        "=== templates/a/manifest.yml\npacker: {description: '{{ x | default(1) | replace(1, 2) }}'}\n",
        "/description",
        Ok(r#""one""#),
        Err("tera names arguments: `default(value=1)`"),
    ),
    (
        "order of letters in `sort` and `unique`",
        "=== templates/a/manifest.yml\npacker: {description: \"{{ ['b', 'A', 'B'] | sort | first }}{{ ['b', 'B', 'a'] | sort | first }}\"}\n",
        "/description",
        Ok(r#""Aa""#),
        Ok(r#""AB""#),
    ),
    (
        "`post-processors`, as packme's README and Packer write it",
        "=== templates/a/manifest.yml\npacker: {post-processors: [{type: compress}]}\n",
        "/post-processors",
        Ok("[]"),
        Ok(r#"[{"type": "compress"}]"#),
    ),
    (
        "`packages` with one name instead of a list",
        "=== config.yml\ntemplates: {a: {packages: pk}}\n=== packages/pk/manifest.yml\nprovisioners: [{type: shell}]\n",
        "/provisioners",
        Ok("[]"),
        Ok(r#"[{"type": "shell"}]"#),
    ),
    (
        "`packages: ['*']` beside files, and its order",
        "=== config.yml\ntemplates: {a: {packages: ['*']}}\n=== packages/b/manifest.yml\nprovisioners: [{type: b}]\n\
         === packages/a/manifest.yml\nprovisioners: [{type: a}]\n=== packages/README.md\ntext\n",
        "/provisioners",
        Err("NotADirectoryError"),
        Ok(r#"[{"type": "a"}, {"type": "b"}]"#),
    ),
    (
        "a builder without a name",
        "=== config.yml\ntemplates: {p: , a: {extends: p}}\n=== templates/p/environment.yml\nenvironment: {x: 1}\n\
         === templates/p/manifest.yml\npacker: {builders: [{type: qemu}]}\n",
        "/builders/0/name",
        Err("KeyError: 'name'"),
        Ok(r#""qemu""#),
    ),
];
