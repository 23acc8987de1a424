//! Packer's input variables as variables of visabuild's templates.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Variable;
use super::value::Value;

/// Variables that visabuild's own templates have: the host's facts, what the command line gives, what this import adds.
const RESERVED: [&str; 14] = [
    "proxy",
    "no_proxy",
    "mirror",
    "mirror_protocol",
    "mirror_host",
    "mirror_directory",
    "security_mirror",
    "root_password",
    "root_password_hash",
    "pam_public_key",
    "vm_name",
    "build_time",
    "build_timestamp",
    "environment",
];

/// Means the same in both, and visabuild's command line gives it.
pub(super) const HEADLESS: &str = "headless";

/// The names that variables get, by Packer's.
pub(super) fn names(variables: &[Variable]) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for variable in variables {
        let wanted = variable.environment.as_deref().unwrap_or(&variable.name);
        let mut name: String =
            wanted.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        if RESERVED.contains(&name.as_str()) || name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            name = format!("packer_{name}");
        }
        // One variable of the environment may stand for several.
        let first = name.clone();
        while variable.environment.is_none() && taken.contains(&name) {
            let count = counts.entry(first.clone()).or_insert(1);
            *count += 1;
            name = format!("{first}_{count}");
        }
        taken.insert(name.clone());
        names.insert(variable.name.clone(), name);
    }
    names
}

/// A variable's value under its name, where templates can have it: scalars only.
pub(super) fn named(name: &str, value: Value) -> Value {
    match value {
        Value::Null | Value::List(_) | Value::Set(_) | Value::Map(_) => value,
        scalar => Value::Named { name: name.to_owned(), value: Box::new(scalar.plain()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Location;

    #[test]
    fn names_are_visabuilds_and_each_its_own() {
        let variable = |name: &str, environment: Option<&str>| Variable {
            name: name.to_owned(),
            place: Location { file: "a".into(), line: 1, column: 1 },
            value: None,
            description: Vec::new(),
            sensitive: false,
            environment: environment.map(str::to_owned),
        };
        let all = [
            variable("iso-url", None),
            variable("iso_url", None),
            variable("mirror", None),
            variable("password", Some("SSH_PASSWORD")),
        ];
        let names: Vec<_> = names(&all).into_values().collect();
        assert_eq!(names, ["iso_url", "iso_url_2", "packer_mirror", "SSH_PASSWORD"]);
    }
}
