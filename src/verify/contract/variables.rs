//! `{{ name }}` in probes.

use std::collections::BTreeMap;

/// Facts of a boot beside its metadata: the server's UUID, the guest's own address, the name under
/// which a browser knows the platform, the key that verification signs its tokens with, and the size of
/// the image's disk, bytes.
pub const KNOWN: [&str; 5] = ["uuid", "address", "host", "pam_public_key", "image_size"];

/// The names that `text` uses.
pub fn names(text: &str) -> Vec<&str> {
    pieces(text).filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None }).collect()
}

/// Puts `values` in; each goes through `quote` first. A name without a value stays as it is.
pub fn fill(text: &str, values: &BTreeMap<String, String>, quote: impl Fn(&str) -> String) -> String {
    pieces(text)
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Name(name) => values.get(name).map_or_else(|| format!("{{{{ {name} }}}}"), |value| quote(value)),
        })
        .collect()
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(mut rest: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some((before, (inside, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Name(inside.trim()));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_filled() {
        let text = "id {{ owner }} {{id}} {{ open";
        assert_eq!(names(text), ["owner", "id"]);
        let values = BTreeMap::from([("owner".to_owned(), "a.b".to_owned())]);
        assert_eq!(fill(text, &values, regex::escape), "id a\\.b {{ id }} {{ open");
    }
}
