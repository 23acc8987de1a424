//! The name that was probably meant.

/// Longest list of names that a hint spells out.
const LIST: usize = 16;

/// The known name closest to `name`, when it is close enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint: the nearest known name, or else all of them when they are few.
pub(crate) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(nearest) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let names: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("only {} is known here", names[0])),
        count if count <= LIST => Some(format!("known here: {}", names.join(", "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_only() {
        let known = ["provisioners", "builders", "post-processors"];
        assert_eq!(nearest("provisoners", known), Some("provisioners"));
        assert_eq!(nearest("post_processors", known), Some("post-processors"));
        assert_eq!(nearest("images", known), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn lists_what_is_known_when_nothing_is_near() {
        assert_eq!(suggestion("colour", ["extends", "packages"]).unwrap(), "known here: `extends`, `packages`");
        assert_eq!(suggestion("colour", ["extends"]).unwrap(), "only `extends` is known here");
        assert_eq!(suggestion("colour", []), None);
        assert_eq!(suggestion("extend", ["extends"]).unwrap(), "did you mean `extends`?");
    }
}
