//! The registry that the host's npm uses, so that a guest's npm can use the same.
//!
//! Precedence is npm's own: the environment, the user's `.npmrc`, the system's. Tokens that stand in `.npmrc` beside
//! the registry stay there: only an URL goes into a guest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::pip::{self, Index};

/// Where npm's own prefix may be; its `etc/npmrc` is the system's.
const SYSTEM_FILES: [&str; 3] = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"];

/// The host's registry: of `environment`, else of the files that it leads to. None is npm's own default.
pub fn host_registry(environment: &BTreeMap<String, String>) -> Option<Index> {
    registry(environment, &pip::texts(config_files(environment)))
}

/// A variable of npm, whose names are read in any case.
fn setting<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<(&'a str, &'a str)> {
    let name = format!("npm_config_{name}");
    let mut found =
        environment.iter().filter(|(key, value)| key.eq_ignore_ascii_case(&name) && !value.trim().is_empty());
    found.next_back().map(|(key, value)| (key.as_str(), value.trim()))
}

/// The files that npm reads under `environment`, most important first.
pub fn config_files(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let named = |name| setting(environment, name).map(|(_, path)| PathBuf::from(path));
    let home = environment.get("HOME").filter(|home| !home.is_empty());
    let user = named("userconfig").or_else(|| home.map(|home| Path::new(home).join(".npmrc")));
    let system = named("globalconfig").map_or_else(|| SYSTEM_FILES.map(PathBuf::from).to_vec(), |path| vec![path]);
    user.into_iter().chain(system).collect()
}

/// The registry of `environment`, else of `files`, most important first.
pub fn registry(environment: &BTreeMap<String, String>, files: &[(PathBuf, String)]) -> Option<Index> {
    if let Some((name, url)) = setting(environment, "registry") {
        return Some(Index { url: url.into(), origin: name.to_owned() });
    }
    files.iter().find_map(|(path, text)| {
        let url = registry_of(text, environment)?;
        Some(Index { url: url.into(), origin: path.display().to_string() })
    })
}

/// `registry` in the text of an npmrc, before its first section; the last one counts.
fn registry_of(text: &str, environment: &BTreeMap<String, String>) -> Option<String> {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let settings = lines.filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| line.split_once('='));
    let values = settings.filter(|(key, _)| key.trim() == "registry").map(|(_, value)| value.trim());
    let value = values.map(|value| value.trim_matches(['"', '\''])).filter(|value| !value.is_empty()).last()?;
    expanded(value, environment)
}

/// `value` with each `${NAME}` replaced; nothing where a variable is not set, for then it is no URL.
fn expanded(value: &str, environment: &BTreeMap<String, String>) -> Option<String> {
    let mut parts = value.split("${");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        text.push_str(environment.get(name)?);
        text.push_str(rest);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_wins_then_the_users_file() {
        let file = |name: &str, text: &str| (PathBuf::from(name), text.to_owned());
        let user = "# registry=https://no.example\n@scope:registry=https://no.example\n; x\nregistry = https://one.example/\n\
                    registry=\"https://two.example/\"\n[section]\nregistry=https://no.example\n";
        let files = [file("user", user), file("system", "registry=https://three.example/")];
        let found = |pairs: &[(&str, &str)], files: &[(PathBuf, String)]| {
            registry(&environment(pairs), files).map(|index| (index.public_url(), index.origin))
        };
        let told = |url: &str, origin: &str| Some((url.to_owned(), origin.to_owned()));
        assert_eq!(found(&[], &[]), None);
        assert_eq!(found(&[], &files), told("https://two.example/", "user"));
        assert_eq!(found(&[("npm_config_registry", " ")], &files[1..]), told("https://three.example/", "system"));
        for name in ["npm_config_registry", "NPM_CONFIG_REGISTRY"] {
            assert_eq!(found(&[(name, "https://four.example/")], &files), told("https://four.example/", name));
        }
        let secret = [file("user", "registry=https://joe:${TOKEN}@site.example/npm/")];
        let index = registry(&environment(&[("TOKEN", "hush")]), &secret).unwrap();
        assert_eq!(index.url.expose_secret(), "https://joe:hush@site.example/npm/");
        assert_eq!(index.public_url(), "https://site.example/npm/");
        assert!(!format!("{index:?}").contains("hush"));
        assert_eq!(found(&[], &secret), None);
    }

    #[test]
    fn files_are_those_that_npm_reads() {
        let paths =
            |pairs| config_files(&environment(pairs)).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths(&[("HOME", "/home/joe")]),
            ["/home/joe/.npmrc", "/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"]
        );
        assert_eq!(paths(&[("NPM_CONFIG_USERCONFIG", "/u"), ("npm_config_globalconfig", "/g")]), ["/u", "/g"]);
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("npmrc");
        std::fs::write(&own, "registry=https://site.example/npm/\n").unwrap();
        let found = host_registry(&environment(&[("npm_config_userconfig", own.to_str().unwrap())])).unwrap();
        assert_eq!(
            (found.public_url().as_str(), found.origin.as_str()),
            ("https://site.example/npm/", own.to_str().unwrap())
        );
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text in "(registry|=|\\$\\{|\\}|\\[|\"|\\PC|\n){0,30}") {
            let _ = registry(&BTreeMap::new(), &[(PathBuf::from("f"), text)]);
        }
    }
}
