//! Who supplies a package: a maintainer of dpkg's, a vendor of rpm's.

use crate::inventory::Ecosystem;

/// Words in names of maintainers that are more than one person.
const GROUPS: [&str; 11] = [
    "developers",
    "group",
    "maintainers",
    "packagers",
    "packaging",
    "project",
    "team",
    "debian",
    "ubuntu",
    "foundation",
    "inc.",
];

/// Beginnings of the hosts of mailing lists.
const LISTS: [&str; 3] = ["lists.", "alioth-lists.", "tracker."];

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Supplier {
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) is_person: bool,
}

impl Supplier {
    /// `Name <address>` of dpkg, or a vendor's name.
    pub(super) fn parse(ecosystem: Ecosystem, text: &str) -> Option<Self> {
        let (name, email) = match text.split_once('<') {
            Some((name, rest)) => (name, rest.split('>').next()),
            None => (text, None),
        };
        // Parentheses enclose the address in SPDX.
        let name = name.replace(['(', ')', '"'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let email = email.filter(|email| is_address(email)).map(str::to_owned);
        let is_group = name.split_whitespace().any(|word| GROUPS.contains(&word.to_lowercase().as_str()));
        let host = email.as_deref().and_then(|email| email.split_once('@')).map_or("", |(_, host)| host);
        let is_list = LISTS.iter().any(|list| host.starts_with(list));
        let is_person = ecosystem == Ecosystem::Debian && !is_group && !is_list;
        (!name.is_empty()).then_some(Self { name, email, is_person })
    }

    /// As SPDX writes it (SPDX 2.3, 7.5): `Organization: NAME (ADDRESS)`.
    pub(super) fn spdx(&self) -> String {
        let kind = if self.is_person { "Person" } else { "Organization" };
        let email = self.email.as_ref().map(|email| format!(" ({email})")).unwrap_or_default();
        format!("{kind}: {}{email}", self.name)
    }
}

/// Whether it is an address of mail that every reader takes for one.
fn is_address(text: &str) -> bool {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || ".+-_".contains(char);
    let parts = text.split_once('@').filter(|(name, host)| !name.is_empty() && host.contains('.'));
    parts.is_some_and(|(name, host)| name.chars().all(is_plain) && host.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_no_person() {
        for (text, wanted) in [
            ("Jane Doe <jane@example.org>", "Person: Jane Doe (jane@example.org)"),
            (
                "Debian Python Team <team+python@tracker.debian.org>",
                "Organization: Debian Python Team (team+python@tracker.debian.org)",
            ),
            ("XFCE (ours) <x@lists.example.org>", "Organization: XFCE ours (x@lists.example.org)"),
            ("Jane \"J\" <broken", "Person: Jane J"),
        ] {
            assert_eq!(Supplier::parse(Ecosystem::Debian, text).unwrap().spdx(), wanted);
        }
        assert_eq!(Supplier::parse(Ecosystem::Rpm, "Rocky").unwrap().spdx(), "Organization: Rocky");
        assert_eq!(Supplier::parse(Ecosystem::Debian, " <x@y.org>"), None);
    }
}
