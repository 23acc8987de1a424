use super::*;

fn entry(name: &str, version: &str, path: Option<&str>) -> Entry {
    let path = path.map(str::to_owned);
    Entry { name: name.to_owned(), version: version.to_owned(), path, ..Entry::default() }
}

#[test]
fn packages_come_go_and_are_replaced() {
    let old = Inventory {
        debian: vec![entry("bash", "5.2-1", None), entry("gone", "1", None), entry("xrdp", "0.10-2", None)],
        python: vec![entry("NumPy", "2.0", Some("/opt/a")), entry("numpy", "2.0", Some("/opt/b"))],
        npm: vec![entry("x", "1.0.0", Some("/usr")), entry("x", "2.0.0", Some("/usr"))],
        ..Inventory::default()
    };
    let new = Inventory {
        debian: vec![entry("bash", "5.2-2", None), entry("new", "1", None), entry("xrdp", "0.10-1", None)],
        python: vec![
            entry("numpy", "2.1", Some("/opt/a")),
            entry("numpy", "2.0", Some("/opt/b")),
            Entry { owner: Some("python3-yaml".to_owned()), ..entry("PyYAML", "6", Some("/usr")) },
        ],
        npm: vec![entry("x", "2.0.0", Some("/usr")), entry("x", "main", Some("/usr"))],
        ..Inventory::default()
    };
    let changes = compare((&old, &Ecosystem::ALL), (&new, &Ecosystem::ALL));
    assert_eq!(
        text(&changes),
        "Debian packages\n  + new 1\n  - gone 1\n  > bash 5.2-1 → 5.2-2\n  < xrdp 0.10-2 → 0.10-1\n\
         Python distributions\n  > numpy 2.0 → 2.1  (/opt/a)\n\
         npm packages\n  ~ x 1.0.0 → main  (/usr)\n"
    );
    let json = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<PackageChanges>(&json).unwrap(), changes);
    assert!(compare((&new, &Ecosystem::ALL), (&new, &Ecosystem::ALL)).is_empty());
}

#[test]
fn what_an_earlier_visabuild_did_not_list_did_not_come_new() {
    let old = Inventory { debian: vec![entry("bash", "5.2-1", None)], ..Inventory::default() };
    let new = Inventory { python: vec![entry("numpy", "2.1", Some("/opt/a"))], ..old.clone() };
    let cut = Inventory { is_cut: true, ..old.clone() };
    assert_eq!(compare((&new, &Ecosystem::ALL), (&cut, &Ecosystem::ALL)).removed, []);
    let changes = compare((&old, &[Ecosystem::Debian]), (&new, &Ecosystem::ALL));
    assert!(changes.is_empty());
    assert_eq!(changes.not_compared, [Ecosystem::Python]);
    assert_eq!(
        text(&changes),
        "no package is another one\nnot compared: Python distributions, of which one of the manifests has no whole list\n"
    );
}
