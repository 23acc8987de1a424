use super::*;

fn tree(text: &str) -> Node {
    parse(Path::new("f.yml"), text.to_owned()).unwrap().unwrap()
}

fn faults(text: &str) -> Vec<String> {
    let problems = parse(Path::new("f.yml"), text.to_owned()).unwrap_err();
    problems.iter().map(|p| format!("{p}{}", p.hint.as_ref().map_or(String::new(), |h| format!(" ({h})")))).collect()
}

fn show(node: &Node) -> String {
    match &node.content {
        Content::Null => "~".to_owned(),
        Content::Scalar { text, kind } => match kind {
            Kind::String => format!("{text:?}"),
            _ => text.clone(),
        },
        Content::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|e| format!("{}: {}", e.key, show(&e.value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn entry<'n>(node: &'n Node, key: &str) -> &'n Entry {
    let Content::Map(entries) = &node.content else { panic!("not a mapping") };
    entries.iter().find(|entry| entry.key == key).unwrap()
}

#[test]
fn keeps_spelling_kind_and_order() {
    let node = tree("b: 1.10\na: yes\nc: true\nd: '4096'\ne: 0644\nf: 0o644\ng:\nh: [1, x]\n");
    assert_eq!(show(&node), r#"{b: 1.10, a: "yes", c: true, d: "4096", e: "0644", f: 0o644, g: ~, h: [1, "x"]}"#);
}

#[test]
fn only_a_newline_ends_a_line_of_a_place() {
    let node = tree("a: 1\r\rb: 2\nc: 3\r\nd: 4\n");
    let places: Vec<_> = ["a", "b", "c", "d"].map(|key| entry(&node, key).location().to_string()).into();
    assert_eq!(places, ["f.yml:1:1", "f.yml:1:7", "f.yml:2:1", "f.yml:3:1"]);
}

#[test]
fn places_count_characters_from_one() {
    let node = tree("é: [ü, x]\nkey:\n");
    let Content::List(items) = &entry(&node, "é").value.content else { panic!("not a list") };
    assert_eq!(items[1].location().to_string(), "f.yml:1:8");
    assert_eq!(entry(&node, "key").value.location().to_string(), "f.yml:2:1");
}

#[test]
fn finds_parts_of_scalars_in_the_file() {
    for (text, place) in [
        ("x: 'é {{ b }}'\n", "f.yml:1:10"),
        ("x: |\n  one {{ a }}\n  two {{ b }}\n", "f.yml:3:10"),
        ("x: >-\n  one\n  two {{ b }}\n", "f.yml:3:10"),
        ("x: \"a\\tb {{ b }}\"\n", "f.yml:1:13"),
    ] {
        let node = tree(text);
        let value = &entry(&node, "x").value;
        let Content::Scalar { text, .. } = &value.content else { panic!("not a scalar") };
        let at = text.find("{{ b }}").unwrap() + 3;
        assert_eq!(value.location_of(text, at..at + 1).to_string(), place, "{text}");
    }
}

#[test]
fn applies_merge_keys_beneath() {
    let node = tree("a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc: {<<: *a, y: 5}\nd: {<<: [*a, *b]}\n");
    assert_eq!(show(&entry(&node, "c").value), "{y: 5, x: 1}");
    assert_eq!(show(&entry(&node, "d").value), "{x: 1, y: 2, z: 3}");
    assert_eq!(faults("a: {<<: 3}\n"), ["f.yml:1:9: `<<` merges a mapping or a list of mappings, found a number"]);
}

#[test]
fn nothing_is_nothing() {
    for text in ["", "# only a comment\n", "---\n", "~\n", "\u{feff}"] {
        assert!(parse(Path::new("f.yml"), text.to_owned()).unwrap().is_none(), "{text:?}");
    }
}

#[test]
fn faults_have_places() {
    let cases: [(&str, &[&str]); 14] = [
        ("a: 1\nb: 2\na: 3\n", &["f.yml:3:1: duplicate key `a`; it is already at 1:1"]),
        (
            "a: {{ v }}\n",
            &["f.yml:1:4: `{{ v }}` has no quotes, so YAML takes its braces for a mapping (write \"{{ v }}\")"],
        ),
        (
            "a: {{ v }}/x\n",
            &["f.yml:1:4: `{{ v }}/x` has no quotes, so YAML takes its braces for a mapping (write \"{{ v }}/x\")"],
        ),
        (
            "- {% if \"x\" %}\n",
            &[
                "f.yml:1:3: `{% if \"x\" %}` has no quotes, so YAML takes its braces for a mapping (write '{% if \"x\" %}')",
            ],
        ),
        (
            "a: [echo {{ v }}]\n",
            &[
                "f.yml:1:10: not valid YAML: while parsing a flow sequence, expected ',' or ']' (put the whole string that has `{{` in quotes)",
            ],
        ),
        ("a: [1\n", &["f.yml:2:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'"]),
        (
            "a:\n\tb: 1\n",
            &[
                "f.yml:2:2: not valid YAML: tabs disallowed within this context (block indentation) (indent with spaces; YAML does not take tabs)",
            ],
        ),
        (
            "\ta: 1\n",
            &[
                "f.yml:1:1: not valid YAML: found character that cannot start any token, while scanning for the next token (indent with spaces; YAML does not take tabs)",
            ],
        ),
        (
            "a: 1\n---\nb: 1\n",
            &[
                "f.yml:2:1: a second YAML document begins here (keep one document in the file: remove `---` and what follows)",
            ],
        ),
        ("a: !secret x\n", &["f.yml:1:4: the YAML tag `!secret` is not supported"]),
        ("? [a]\n: 1\n", &["f.yml:1:3: a key must be a string"]),
        ("~: 1\n", &["f.yml:1:1: a key must be a string"]),
        ("a: &x [*x]\n", &["f.yml:1:8: an alias stands inside its own anchor"]),
        ("a: *x\n", &["f.yml:1:4: not valid YAML: while parsing node, found unknown anchor"]),
    ];
    for (text, expected) in cases {
        assert_eq!(faults(text), expected, "{text:?}");
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    let deep = format!("{}x{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(faults(&deep).len(), 1);
    let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(faults(&block), ["f.yml:64:64: nested more than 64 levels deep"]);

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert_eq!(faults(&bomb), ["f.yml:5:45: the file has more than 100000 values with its aliases expanded"]);
}

#[test]
fn text_that_is_not_utf8_is_placed() {
    let problems = decode(Path::new("f.yml"), b"a: 1\nb: \xe9\n".to_vec()).unwrap_err();
    assert_eq!(problems[0].to_string(), "f.yml:2:4: not UTF-8 text");
}
