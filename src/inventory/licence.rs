//! Licences as packages say them, and as SPDX's expressions.

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// Classifiers of the package index (https://pypi.org/classifiers/) that mean one licence of SPDX's list. Those that
/// may mean several, such as `BSD License`, are kept as they are.
const CLASSIFIERS: [(&str, &str); 16] = [
    ("MIT License", "MIT"),
    ("ISC License (ISCL)", "ISC"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("GNU General Public License v2 (GPLv2)", "GPL-2.0-only"),
    ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
    ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
    ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
    ("GNU Lesser General Public License v2 (LGPLv2)", "LGPL-2.0-only"),
    ("GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL-2.0-or-later"),
    ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL-3.0-only"),
    ("GNU Lesser General Public License v3 or later (LGPLv3+)", "LGPL-3.0-or-later"),
    ("GNU Affero General Public License v3", "AGPL-3.0-only"),
    ("GNU Affero General Public License v3 or later (AGPLv3+)", "AGPL-3.0-or-later"),
    ("Boost Software License 1.0 (BSL-1.0)", "BSL-1.0"),
    ("The Unlicense (Unlicense)", "Unlicense"),
    ("zlib/libpng License", "Zlib"),
];

/// Longest text that is taken for a licence's name, characters; some packages put the whole licence there.
const LONGEST: usize = 120;

/// `text` as an expression of SPDX (SPDX 2.3, annex D) with licences of its list only; none where it is none.
/// References to licences of a document's own (`LicenseRef-`) are none either: nobody could tell what they mean.
pub fn expression(text: &str) -> Option<String> {
    let has_reference = text.to_ascii_lowercase().contains("ref-");
    // Operators are capitals (annex D.2); many write them as they speak.
    let operator = |word: &str| ["AND", "OR", "WITH"].into_iter().find(|operator| operator.eq_ignore_ascii_case(word));
    let text: Vec<&str> = text.split_whitespace().map(|word| operator(word).unwrap_or(word)).collect();
    let text = &text.join(" ");
    let mode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };
    let parsed = Expression::parse_mode(text, mode).ok().filter(|_| !has_reference)?;
    Some(parsed.to_string())
}

/// What a Python distribution's fields `License-Expression`, `License` and `Classifier` say.
pub(super) fn of_python(expression: Option<&str>, license: Option<&str>, classifiers: &[String]) -> Option<String> {
    let said = |text: &&str| !text.is_empty() && *text != "UNKNOWN" && text.chars().count() <= LONGEST;
    let mut known: Vec<String> = classifiers.iter().filter_map(|classifier| classified(classifier)).collect();
    known.dedup();
    known.truncate(8);
    let license = license.filter(said);
    // A text such as `MIT license` says less than the classifier.
    let better = |text: &&str| self::expression(text).is_some() || known.is_empty();
    expression.filter(said).or(license.filter(better)).map(str::to_owned).or_else(|| match &known[..] {
        [] => None,
        // Whether one may choose or has to keep all is not said (PEP 639).
        _ => Some(known.join(", ")),
    })
}

/// `License :: OSI Approved :: MIT License` as a licence; none of one that names a family only.
fn classified(classifier: &str) -> Option<String> {
    let (_, name) = classifier.rsplit_once("::")?;
    let name = name.trim();
    let known = CLASSIFIERS.iter().find(|(text, _)| *text == name).map(|(_, id)| *id);
    Some(known.unwrap_or(name)).filter(|name| *name != "OSI Approved").map(str::to_owned)
}

/// What package.json says: `license` as text or, as long ago, with a `type`, or a list of those.
pub(super) fn of_npm(package: &Value) -> Option<String> {
    let one = |value: &Value| {
        let text = value.as_str().or_else(|| value.get("type")?.as_str())?.trim();
        Some(text.to_owned()).filter(|text| !text.is_empty() && text.chars().count() <= LONGEST)
    };
    let list = |value: &Value| value.as_array().map(|list| list.iter().filter_map(one).collect());
    let found = [package.get("license"), package.get("licenses")].into_iter().flatten();
    found.filter_map(|value| one(value).or_else(|| joined(list(value)?))).next()
}

/// Several licences of which one may choose.
fn joined(mut names: Vec<String>) -> Option<String> {
    names.dedup();
    names.truncate(8);
    (!names.is_empty()).then(|| names.join(" OR "))
}
