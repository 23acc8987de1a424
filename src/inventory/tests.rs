use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Inventory {
    Inventory::read(text.lines())
}

#[test]
fn packages_of_dpkg_are_the_installed_ones() {
    let inventory = read(
        "deb\tinstalled\tlibc6\t2.41-12\tamd64\tglibc\t2.41-12\tGNU Libc <x@y.org>\thttps://www.gnu.org/software/libc/\n\
         deb\tconfig-files\told\t1\tall\told\t1\tA\t\n\
         deb\tinstalled\tbash\t5.2-1+b2\tamd64\tbash\t5.2-1\tA\thttps://u:secret@x.org/\n\
         deb\tinstalled\ttorn\n\nnonsense\n",
    );
    let shown: Vec<_> = inventory.debian.iter().map(|entry| (entry.name.as_str(), entry.source.as_deref())).collect();
    assert_eq!(shown, [("bash", None), ("libc6", Some("glibc"))]);
    assert_eq!(inventory.debian[0].source_version.as_deref(), Some("5.2-1"));
    assert_eq!(inventory.debian[0].homepage, None);
    assert_eq!(inventory.debian[1].homepage.as_deref(), Some("https://www.gnu.org/software/libc/"));
    assert_eq!(inventory.system_packages()["bash"], "5.2-1+b2");
}

#[test]
fn packages_of_rpm_have_no_keys_among_them() {
    let inventory = read(
        "rpm\tinstalled\topenssl\t1:3.2.2-6.el9\tx86_64\topenssl-3.2.2-6.el9.src.rpm\tRocky\thttp://o.org/\tApache-2.0\n\
         rpm\tinstalled\tgpg-pubkey\t1-2\t(none)\t(none)\t(none)\t(none)\tpubkey\n",
    );
    assert_eq!(inventory.rpm.len(), 1);
    assert_eq!(inventory.rpm[0].license.as_deref(), Some("Apache-2.0"));
    assert_eq!(inventory.system_packages()["openssl"], "3.2.2-6.el9");
}

#[test]
fn a_python_distribution_has_its_environment_and_who_brought_it() {
    let inventory = read(
        "owner\tpython3-yaml:amd64\t/usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO\n\
         python\t/usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO\nf\tName\t PyYAML\nf\tVersion\t 6.0\n\
         python\t/opt/jupyter/lib/python3.13/site-packages/numpy-2.1.0.dist-info/METADATA\n\
         f\tName\t numpy\nf\tVersion\t 2.1.0\nf\tLicense\t Copyright (c) and a page more, of which this is the first\
         and much much longer than any name of a licence would ever be, so that it is none at all\n\
         f\tClassifier\t License :: OSI Approved :: BSD License\n\
         python\t/opt/jupyter/lib/python3.13/site-packages/setuptools/_vendor/tomli-2.0.dist-info/METADATA\n\
         python\t/lib/python3/dist-packages/old-1.egg-info\nf\tVersion\t 1.5\n",
    );
    let shown = |entry: &Entry| {
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        format!(
            "{} {} {} {} {}",
            entry.name,
            entry.version,
            word(&entry.path),
            word(&entry.owner),
            word(&entry.license)
        )
    };
    assert_eq!(
        inventory.python.iter().map(shown).collect::<Vec<_>>(),
        [
            "PyYAML 6.0 /usr python3-yaml -",
            "numpy 2.1.0 /opt/jupyter - BSD License",
            "old 1.5 / - -",
            "tomli 2.0 /opt/jupyter/lib/python3.13/site-packages/setuptools/_vendor - -",
        ]
    );
    assert_eq!(inventory.counted().count(), 3);
}

#[test]
fn an_npm_package_is_what_its_json_says() {
    let inventory = read(
        "npm\t/usr/local/lib/node_modules/@scope/a/package.json\nj\t{\nj\t \"name\": \"@scope/a\",\nj\t \"version\": \"1.0\
         .0\", \"license\": {\"type\": \"MIT\"}}\n\
         npm\t/usr/local/lib/node_modules/x/node_modules/b/package.json\nj\t{\"name\":\"b\",\"version\":\"2.0.0\",\
         \"licenses\":[{\"type\":\"MIT\"},{\"type\":\"Apache-2.0\"}]}\n\
         npm\t/usr/local/lib/node_modules/y/node_modules/b/package.json\nj\t{\"name\":\"b\",\"version\":\"2.0.0\",\
         \"licenses\":[{\"type\":\"MIT\"},{\"type\":\"Apache-2.0\"}]}\n\
         npm\t/usr/local/lib/node_modules/broken/package.json\nj\t{\"name\":\n\
         npm\t/usr/local/lib/node_modules/part/package.json\nj\t{\"type\":\"module\"}\ncut\n",
    );
    let shown: Vec<_> = inventory.npm.iter().map(|entry| (entry.name.as_str(), entry.license.as_deref())).collect();
    assert_eq!(shown, [("@scope/a", Some("MIT")), ("b", Some("MIT OR Apache-2.0"))]);
    assert!(inventory.is_cut);
    assert_eq!(inventory.npm[1].path.as_deref(), Some("/usr/local/lib"));
}

#[test]
fn only_pages_that_everybody_takes_are_homepages() {
    for (url, taken) in [
        ("https://x.org/a?b#c", true),
        ("http://x-y.org:80/%20", true),
        ("https://x.org/a|b", false),
        ("http://localhost", false),
        ("https://exa_mple.org/", false),
        ("http:foo.org", false),
        ("https://me:pw@x.org", false),
        ("ftp://x.org", false),
    ] {
        let inventory = read(&format!("deb\tinstalled\tbash\t5.2-1\tamd64\tbash\t5.2-1\tDebian\t{url}\n"));
        assert_eq!(inventory.debian.first().map(|one| one.homepage.is_some()), Some(taken), "{url}");
    }
}

#[test]
fn only_expressions_of_spdx_are_expressions() {
    for (text, wanted) in [
        ("MIT", Some("MIT")),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", Some("GPL-2.0-or-later WITH Classpath-exception-2.0")),
        ("MIT OR Apache-2.0", Some("MIT OR Apache-2.0")),
        ("GPL-2.0", Some("GPL-2.0")),
        ("MIT and (Apache-2.0 or ISC)", Some("MIT AND (Apache-2.0 OR ISC)")),
        ("BSD License", None),
        ("LicenseRef-Ours", None),
        ("MIT OR BSD License", None),
        ("(MIT", None),
        ("", None),
        ("SEE LICENSE IN LICENSE.md", None),
    ] {
        assert_eq!(expression(text).as_deref(), wanted, "{text}");
    }
}

#[test]
fn names_of_python_have_many_spellings() {
    assert_eq!(Ecosystem::Python.normalized("Foo._-Bar"), "foo-bar");
    assert_eq!(Ecosystem::Npm.normalized("Foo._-Bar"), "Foo._-Bar");
}

proptest! {
    #[test]
    fn nothing_that_a_guest_says_ends_in_a_panic_or_a_control_character(
        lines in prop::collection::vec(("(deb|rpm|python|npm|owner|f|j|cut|x)?", "[\\PC\t\u{1}\u{85}/.-]{0,60}"), 0..30),
    ) {
        let lines: Vec<String> = lines.into_iter().map(|(tag, rest)| format!("{tag}\t{rest}")).collect();
        let inventory = Inventory::read(lines.iter().map(String::as_str));
        for (_, entry) in inventory.counted() {
            let is_shown = |text: &str| !text.contains(char::is_control);
            prop_assert!(is_shown(&entry.name) && is_shown(&entry.version));
            let _ = entry.license.as_deref().and_then(expression);
        }
    }
}
