//! Which of two versions is the later one, as those order them who gave them.

use std::cmp::Ordering;
use std::str::FromStr;

use crate::inventory::Ecosystem;

/// How `old` stands to `new`; none where one of them is no version of its kind, and of rpm, whose order is not known
/// here. Two spellings of one version are equal.
pub(super) fn order(ecosystem: Ecosystem, old: &str, new: &str) -> Option<Ordering> {
    match ecosystem {
        // deb-version(7)
        Ecosystem::Debian => (is_debian(old) && is_debian(new)).then(|| deb_version::compare_versions(old, new)),
        Ecosystem::Rpm => None,
        // "Version specifiers" of the Python Packaging User Guide, formerly PEP 440
        Ecosystem::Python => {
            Some(pep440_rs::Version::from_str(old).ok()?.cmp(&pep440_rs::Version::from_str(new).ok()?))
        }
        // Semantic Versioning 2.0.0, 11; what is behind `+` counts for nothing
        Ecosystem::Npm => Some(semver::Version::parse(old).ok()?.cmp_precedence(&semver::Version::parse(new).ok()?)),
    }
}

/// Whether it has the characters of a Debian version; the crate takes nothing else.
fn is_debian(version: &str) -> bool {
    let mut bytes = version.bytes();
    !version.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b".+~:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_as_their_own_tools_order_them() {
        use Ecosystem::{Debian, Npm, Python, Rpm};
        use Ordering::{Equal, Greater, Less};
        for (kind, old, new, wanted) in [
            (Debian, "1.0~rc1-1", "1.0-1", Some(Less)),
            (Debian, "1:1.0-1", "2.0-1", Some(Greater)),
            (Debian, "9-1", "10-1", Some(Less)),
            (Debian, "2.41-12", "2.41-12+deb13u1", Some(Less)),
            (Debian, "1.0-1", "é", None),
            (Python, "1.0rc1", "1.0", Some(Less)),
            (Python, "1.0", "1.0.0", Some(Equal)),
            (Python, "1.10", "1.9", Some(Greater)),
            (Python, "1.0.post1", "nightly", None),
            (Npm, "1.0.0-beta.2", "1.0.0-beta.11", Some(Less)),
            (Npm, "1.0.0+a", "1.0.0+b", Some(Equal)),
            (Npm, "1.0", "1.1", None),
            (Rpm, "1.0-1", "1.1-1", None),
        ] {
            assert_eq!(order(kind, old, new), wanted, "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(old in "\\PC{0,20}|[0-9a-z.+~:-]{0,12}", new in "\\PC{0,20}|[0-9a-z.+~:-]{0,12}") {
            for kind in Ecosystem::ALL {
                let _ = order(kind, &old, &new);
            }
        }
    }
}
