//! Names of files that post-processors write: Packer's variables in them, where they may be, and which clash.

use std::path::{Component, Path};

use super::{BUILDER_TYPE, Chain, PostProcessor};
use crate::error::Problem;
use crate::template::fields::Reader;
use crate::template::paths::clean;
use crate::template::yaml::Node;

/// The name that `node` says, else the `default` one; `more` are variables beside BuildName and BuilderType.
///
/// Relative names are cleaned of `.` and `..`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    (node, default): (Option<&Node>, &str),
    place: &Node,
    more: &[(&str, &str)],
) -> Option<String> {
    let text = match node {
        Some(node) => reader.public(node)?,
        None => default.to_owned(),
    };
    let node = node.unwrap_or(place);
    let template = reader.context.template.clone();
    match fill(&text, &template, more).and_then(|name| placed(&template, &name)) {
        Ok(name) => Some(name),
        Err(problem) => {
            reader.problems.add(Problem { location: Some(node.location()), ..problem });
            None
        }
    }
}

/// `text` with Packer's variables filled in.
pub(super) fn fill(text: &str, template: &str, more: &[(&str, &str)]) -> Result<String, Problem> {
    let known: Vec<(&str, &str)> =
        [("BuildName", template), ("BuilderType", BUILDER_TYPE)].into_iter().chain(more.iter().copied()).collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("{{{{ .{name} }}}}")).collect();
        let fault = |message: String| Problem::new(message).hint(format!("known are {}", names.join(", ")));
        let (inside, after) = after.split_once("}}").ok_or_else(|| fault("`{{` is not closed by `}}`".to_owned()))?;
        let name = inside.trim().strip_prefix('.').unwrap_or_default();
        let value = known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        out.push_str(before);
        out.push_str(value.ok_or_else(|| fault(format!("unknown variable `{{{{{inside}}}}}`")))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The name without `.` and `..`, if a post-processor of `template` may write such a file.
fn placed(template: &str, name: &str) -> Result<String, Problem> {
    if name.is_empty() || name.ends_with('/') {
        return Err(Problem::new(format!("`{name}` is not the name of a file")));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::new("the name of a file has control characters in it"));
    }
    let name = clean(Path::new(name));
    let path = Path::new(&name);
    if path.is_absolute() {
        return Ok(name);
    }
    if path.components().any(|part| part == Component::ParentDir) || name == "." {
        return Err(Problem::new(format!("`{name}` is outside of builds/{template}/"))
            .hint("name a file in that folder, or write an absolute path"));
    }
    if is_own(template, path) {
        return Err(Problem::new(format!("`{name}` is a name of visabuild's own in builds/{template}/"))
            .hint("choose another name"));
    }
    Ok(name)
}

/// Whether visabuild itself has something of this name in the folder of `template`'s results.
fn is_own(template: &str, name: &Path) -> bool {
    let Some(Component::Normal(first)) = name.components().next() else { return false };
    let first = first.to_string_lossy();
    let suffixes = ["qcow2", "failed.qcow2", "manifest.json", "verification.json", "verification.html", "desktop.png"];
    ["build.log", "serial.log", "failure"].contains(&&*first)
        || first.starts_with('.')
        || suffixes.iter().any(|suffix| first == format!("{template}.{suffix}"))
}

/// What two post-processors would write: the templates' own folders are apart, absolute names are not.
pub(crate) fn clashes<'a>(templates: impl IntoIterator<Item = (&'a str, &'a [Chain])>) -> Vec<Problem> {
    let mut written: Vec<(&str, &Path, &PostProcessor)> = Vec::new();
    let mut problems = Vec::new();
    for (template, chains) in templates {
        for (one, name) in
            chains.iter().flatten().flat_map(|one| one.processing.outputs().into_iter().map(move |name| (one, name)))
        {
            let path = Path::new(name);
            let folder = if path.is_absolute() { "" } else { template };
            let is_same = |(other_folder, other, _): &&(&str, &Path, &PostProcessor)| {
                *other_folder == folder && (other.starts_with(path) || path.starts_with(other))
            };
            match written.iter().find(is_same) {
                Some((.., other)) if std::ptr::eq(*other, one) => {}
                Some((_, same, other)) if *same == path && other.processing.adds() && one.processing.adds() => {}
                Some((_, same, other)) => {
                    let (label, place) = (&other.label, &other.location);
                    let message = if *same == path {
                        format!("`{name}` is what the post-processor `{label}` writes ({place})")
                    } else {
                        format!(
                            "`{name}` cannot be beside `{}` of the post-processor `{label}` ({place})",
                            same.display()
                        )
                    };
                    problems.push(Problem::at(one.location.clone(), message).hint("give one another `output`"));
                }
                None => written.push((folder, path, one)),
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let filled = |text| fill(text, "apps", &[("ChecksumType", "md5")]).map_err(|problem| problem.message);
        assert_eq!(filled("{{.BuildName}}_{{ .BuilderType }}.{{ .ChecksumType }}").unwrap(), "apps_qemu.md5");
        assert_eq!(filled("a {{ .Foo }}").unwrap_err(), "unknown variable `{{ .Foo }}`");
        assert_eq!(filled("a {{ .BuildName").unwrap_err(), "`{{` is not closed by `}}`");
    }

    #[test]
    fn names_stay_in_the_folder_of_the_template_and_spare_what_is_visabuilds() {
        let placed = |name| placed("apps", name).map_err(|problem| problem.message);
        assert_eq!(placed("./a/../b.gz").unwrap(), "b.gz");
        assert_eq!(placed("apps.qcow2.gz").unwrap(), "apps.qcow2.gz");
        assert_eq!(placed("/srv/x/../y").unwrap(), "/srv/y");
        for bad in ["../x", "a/../../x", "", "a/", ".", "apps.qcow2", "x/../apps.manifest.json", ".lock", "failure/x"] {
            placed(bad).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_escapes(text in "(\\{\\{|\\}\\}|\\.\\.|/|\\.|BuildName|[a-zé ]){0,12}") {
            if let Ok(name) = fill(&text, "t", &[]).and_then(|name| placed("t", &name)) {
                prop_assert!(Path::new(&name).is_absolute() || !name.starts_with(".."), "{name}");
            }
        }
    }
}
