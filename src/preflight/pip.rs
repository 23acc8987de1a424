//! The package index that the host's pip uses, so that a guest's pip can use the same.
//!
//! Precedence is pip's own: the environment, then the section `install` of all files, then `global` of all
//! files; among files the later one of [`config_files`] wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::credentials;

/// An index and where it is set.
#[derive(Debug, Clone)]
pub struct Index {
    /// Its URL; may hold credentials.
    pub url: SecretString,
    /// `PIP_INDEX_URL` or the file.
    pub origin: String,
}

impl Index {
    /// The URL as it may be shown and put into an image.
    pub fn public_url(&self) -> String {
        credentials::strip(self.url.expose_secret())
    }
}

/// The files that pip reads under `environment`, least important first.
pub fn config_files(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let own = variable("PIP_CONFIG_FILE");
    // pip's way to switch all files off.
    if own.is_some_and(|file| file == "/dev/null") {
        return Vec::new();
    }
    let folders = variable("XDG_CONFIG_DIRS").map_or("/etc/xdg", String::as_str);
    let mut files: Vec<PathBuf> = folders.split(':').map(|folder| Path::new(folder).join("pip/pip.conf")).collect();
    files.push(PathBuf::from("/etc/pip.conf"));
    let home = variable("HOME").map(PathBuf::from);
    files.extend(home.iter().map(|home| home.join(".pip/pip.conf")));
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".config")));
    files.extend(config.map(|config| config.join("pip/pip.conf")));
    files.extend(own.map(PathBuf::from));
    files
}

/// The host's index: of `environment`, else of the files that it leads to. Files that cannot be read count as empty,
/// as they do for pip.
pub fn host_index(environment: &BTreeMap<String, String>) -> Option<Index> {
    index(environment, &texts(config_files(environment)))
}

/// The files that can be read, with their texts.
pub(super) fn texts(files: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| std::fs::read_to_string(&path).ok().map(|text| (path, text));
    files.into_iter().filter_map(read).collect()
}

/// The index of `environment`, else of `files`, least important first.
pub fn index(environment: &BTreeMap<String, String>, files: &[(PathBuf, String)]) -> Option<Index> {
    let named = environment.get("PIP_INDEX_URL").filter(|url| !url.trim().is_empty());
    if let Some(url) = named {
        return Some(Index { url: url.trim().into(), origin: "PIP_INDEX_URL".to_owned() });
    }
    ["install", "global"].iter().find_map(|section| {
        files.iter().rev().find_map(|(path, text)| {
            let url = index_url(text, section)?;
            Some(Index { url: url.into(), origin: path.display().to_string() })
        })
    })
}

/// `index-url` in `section` of the text of a pip.conf; the last one counts.
fn index_url<'a>(text: &'a str, section: &str) -> Option<&'a str> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == section;
        } else if inside && !line.starts_with(['#', ';', ' ', '\t']) {
            found = setting(line).or(found);
        }
    }
    found
}

fn setting(line: &str) -> Option<&str> {
    let (key, value) = line.split_once(['=', ':'])?;
    let key = key.trim().to_lowercase().replace('_', "-");
    let value = value.trim();
    (key.trim_start_matches("--") == "index-url" && !value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(name: &str, text: &str) -> (PathBuf, String) {
        (PathBuf::from(name), text.to_owned())
    }

    #[test]
    fn the_environment_wins_then_the_section_then_the_file() {
        let global = file("global", "[global]\nindex-url = https://one.example/simple\n");
        let user = file(
            "user",
            "# [install]\n[GLOBAL]\nindex-url = https://no.example\n[global]\nindex_url: https://two.example\n",
        );
        let install =
            file("install", "[install]\n--index-url=https://three.example\n[list]\nindex-url = https://four.example\n");
        type Case<'a> = (&'a [(&'a str, &'a str)], Vec<(PathBuf, String)>, Option<(&'a str, &'a str)>);
        let cases: [Case<'_>; 6] = [
            (&[], vec![], None),
            (&[], vec![global.clone()], Some(("https://one.example/simple", "global"))),
            (&[], vec![global.clone(), user.clone()], Some(("https://two.example", "user"))),
            (&[], vec![install.clone(), user.clone()], Some(("https://three.example", "install"))),
            (
                &[("PIP_INDEX_URL", "https://five.example")],
                vec![install],
                Some(("https://five.example", "PIP_INDEX_URL")),
            ),
            (&[("PIP_INDEX_URL", "")], vec![user], Some(("https://two.example", "user"))),
        ];
        for (pairs, files, expected) in cases {
            let found = index(&environment(pairs), &files).map(|index| (index.public_url(), index.origin));
            assert_eq!(found, expected.map(|(url, origin)| (url.to_owned(), origin.to_owned())));
        }
    }

    #[test]
    fn files_are_those_that_pip_reads() {
        let paths =
            |pairs| config_files(&environment(pairs)).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths(&[("HOME", "/home/joe")]),
            ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/home/joe/.pip/pip.conf", "/home/joe/.config/pip/pip.conf"]
        );
        assert_eq!(
            paths(&[("XDG_CONFIG_HOME", "/c"), ("PIP_CONFIG_FILE", "/own.conf")]),
            ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/c/pip/pip.conf", "/own.conf"]
        );
        assert!(paths(&[("HOME", "/home/joe"), ("PIP_CONFIG_FILE", "/dev/null")]).is_empty());
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("pip.conf");
        std::fs::write(&own, "[install]\nindex-url = https://site.example/simple\n").unwrap();
        let found = host_index(&environment(&[("PIP_CONFIG_FILE", own.to_str().unwrap())])).unwrap();
        assert_eq!(
            (found.public_url().as_str(), found.origin.as_str()),
            ("https://site.example/simple", own.to_str().unwrap())
        );
    }

    #[test]
    fn credentials_stay_out_of_sight() {
        for (url, public) in [
            ("https://joe:p@ss@site.example:8443/simple?a=b@c", "https://site.example:8443/simple?a=b@c"),
            ("https://token@site.example", "https://site.example"),
            ("https://site.example/@scope/", "https://site.example/@scope/"),
            ("not a url", "not a url"),
        ] {
            assert_eq!(credentials::strip(url), public);
        }
        let found = index(&environment(&[("PIP_INDEX_URL", "https://joe:secret@site.example/")]), &[]).unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text in "(\\[(install|global)\\]|[a-z_-]{0,6}[=: ]|index-url|\\PC|\n){0,30}") {
            let found = index(&BTreeMap::new(), &[(PathBuf::from("f"), text.clone())]);
            prop_assert!(found.is_none_or(|index| text.contains(index.url.expose_secret())));
        }
    }
}
