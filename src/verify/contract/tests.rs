use super::*;

fn problems(text: &str) -> Vec<String> {
    let error = Contract::parse(Path::new("c.yml"), text).unwrap_err();
    error.problem_list().iter().map(ToString::to_string).collect()
}

#[test]
fn the_shipped_contracts_are_sound() {
    for (name, _) in SHIPPED {
        let contract = Contract::find(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(contract.name, name);
        assert!(contract.boots.len() <= 4, "{name}");
        for check in &contract.checks {
            assert!(!check.probes.is_empty(), "{}", check.id);
        }
    }
}

#[test]
fn everything_unknown_is_told_at_once_with_its_place() {
    let text = r#"name: x
boots:
  one: {source: config-drve, metadata: {owner: a}}
  two: {source: nocloud, metadata: {owner: a}}
checks:
  - {id: A-1, statement: s, level: boot, boot: two, probes: [{conect: 22}]}
  - {id: A-1, statement: s, level: boot, boot: two, probes: [{connect: 22, withn: 3s}]}
  - {id: A-2, statement: s, level: boot, boot: two, probes: [{command: "echo {{ ownr }}", matches: "("}]}
  - {id: A-3, statement: s, level: static, probes: [{connect: 22}]}
  - {id: A-4, statement: s, level: static, probes: []}
  - {id: A-5, statement: s, level: boot, boot: two, probes: [{image: flat}]}
  - {id: A-7, statement: s, level: boot, boot: two, after: A-9, probes: [{unit: x}]}
  - {id: A-8, statement: s, level: boot, boot: two, probes: [{file: "/etc/*", exists: false}, {kernel: x}]}
  - {id: A-6, statement: s, level: boot, boot: two, probes: [{connect: 70000}, {command: "true", within: soon}]}
"#;
    let problems = problems(text);
    for expected in [
        "c.yml:3:17: unknown word `config-drve`",
        "c.yml:6:62: one of",
        "c.yml:6:63: unknown key `conect`",
        "c.yml:7:76: unknown key `withn`",
        "unknown variable `ownr`",
        "not a regular expression",
        "`connect` needs a boot",
        "a check without a probe",
        "`image` is of the level static",
        "no check `A-9` of the same boot",
        "`active` or `enabled` is needed",
        "patterns are for the level static",
        "`equals`, `contains`, `matches` or `excludes` is needed",
        "port 22 is not among",
        "expected a TCP port, found `70000`",
        "expected a duration, found `soon`",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
    }
}

#[test]
fn checks_are_selected_by_id_and_by_area() {
    let contract = Contract::find("visa").unwrap();
    assert_eq!(contract.select(&["guac-2".to_owned()]).unwrap(), ["GUAC-2"]);
    assert!(contract.select(&["JUP".to_owned()]).unwrap().len() > 8);
    let error = contract.select(&["NOPE-1".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "the contract `visa` has no check `NOPE-1`");
}

#[test]
fn a_check_brings_what_it_comes_after_and_goes_with_it() {
    let contract = Contract::find("visa").unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let only = contract.choose(&words(&["RDP-7"]), &[]).unwrap();
    assert_eq!(only, BTreeSet::from(["GUAC-5".to_owned(), "RDP-7".to_owned()]));
    let all = contract.choose(&[], &words(&["LIFE-1"])).unwrap();
    assert!(!all.contains("LIFE-2") && !all.contains("BOOT-8") && all.contains("LIFE-3"));
}

#[test]
fn contracts_are_found_by_name_and_by_file() {
    assert!(Contract::find("visa").is_ok());
    assert!(Contract::find("vsia").unwrap_err().to_string().contains("unknown contract `vsia`"));
    assert!(Contract::find("./no-such.yml").unwrap_err().chain().join(": ").contains("no-such.yml"));
}

/// The areas of the list of VISA's statements, and how many each has.
const STATEMENTS: [(&str, u32); 10] = [
    ("META", 7),
    ("BOOT", 8),
    ("NET", 6),
    ("GUAC", 9),
    ("RDP", 16),
    ("PAM", 17),
    ("JUP", 12),
    ("OPT", 5),
    ("LIFE", 5),
    ("HYG", 5),
];

/// Statements that no image can keep or break, and why.
const NOT_OF_THE_IMAGE: [(&str, &str); 10] = [
    ("META-6", "Nova's limits of metadata"),
    ("META-7", "an interface of VISA that an image may use"),
    ("NET-6", "a wish; every report tells the times"),
    ("GUAC-8", "what VISA does not send"),
    ("RDP-15", "the site's choice, `config_home`"),
    ("PAM-9", "sizes of keys, which the build checks"),
    ("PAM-16", "what a compilation needs"),
    ("PAM-17", "a leak of upstream's module"),
    ("OPT-5", "another desktop, which no shipped template has"),
    ("LIFE-4", "live migration; PAM-15 checks the clock's service"),
];

#[test]
fn every_statement_about_visas_images_has_a_check() {
    let contract = Contract::find("visa").unwrap();
    let has = |id: &str| contract.checks.iter().any(|check| check.id == id);
    let mut statements = 0;
    for (area, count) in STATEMENTS {
        for number in 1..=count {
            let id = format!("{area}-{number}");
            let excused = NOT_OF_THE_IMAGE.iter().any(|(excused, _)| *excused == id);
            assert!(has(&id) != excused, "{id}");
            statements += u32::from(!excused);
        }
    }
    assert_eq!(statements, 80);
}
