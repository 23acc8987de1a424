//! What is known only when the machine runs: `{{ .HTTPPort }}` and its like.

use std::collections::BTreeMap;
use std::fmt;

/// A variable of Packer's boot commands. `SSHPublicKey` is not among them: each boot has a key of its own, which reaches
/// the guest by its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variable {
    /// `HTTPIP`: where the guest finds the built-in web server; 10.0.2.2 with QEMU's user-mode network.
    HttpIp,
    /// `HTTPPort`: the built-in web server's port.
    HttpPort,
    /// `Name`: the machine's name.
    Name,
}

impl Variable {
    const ALL: [(&'static str, Self); 3] =
        [("HTTPIP", Self::HttpIp), ("HTTPPort", Self::HttpPort), ("Name", Self::Name)];

    /// The variable with Packer's name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, variable)| variable)
    }

    /// Packer's name of it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, variable)| *variable == self).map_or("", |&(name, _)| name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        Self::ALL.iter().map(|&(name, _)| name)
    }
}

/// A variable where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Use {
    /// Which.
    pub variable: Variable,
    /// Whether it goes through Go's `urlquery`, as a value in a kernel command line has to.
    pub urlquery: bool,
}

impl Use {
    /// The text to be typed for `value`.
    pub(super) fn text(self, value: &str) -> String {
        if self.urlquery { query_escape(value) } else { value.to_owned() }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = if self.urlquery { " | urlquery" } else { "" };
        write!(f, "{{{{ .{}{filter} }}}}", self.variable.name())
    }
}

/// The variables' values.
pub type Values = BTreeMap<Variable, String>;

/// `text` with the values of the variables that it names; what else is in braces stays as it is.
pub fn fill(text: &str, values: &Values) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (before, tag) = rest.split_at(open);
        filled.push_str(before);
        let value = tag.find("}}").and_then(|end| Some((parse(&tag[2..end])?, end + 2)));
        let value = value.and_then(|(variable, length)| Some((variable.text(values.get(&variable.variable)?), length)));
        match value {
            Some((value, length)) => {
                filled.push_str(&value);
                rest = &tag[length..];
            }
            None => {
                filled.push_str("{{");
                rest = &tag[2..];
            }
        }
    }
    filled + rest
}

/// The variable inside of braces: `.Name` or `.Name | urlquery`.
fn parse(inside: &str) -> Option<Use> {
    let mut parts = inside.split('|').map(str::trim);
    let variable = Variable::named(parts.next()?.strip_prefix('.')?)?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(Use { variable, urlquery: false }),
        (Some("urlquery"), None) => Some(Use { variable, urlquery: true }),
        _ => None,
    }
}

/// Go's url.QueryEscape, which `urlquery` is.
fn query_escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urlquery_is_gos() {
        assert_eq!(query_escape("ssh-ed25519 AA+/= a~b_c.é"), "ssh-ed25519+AA%2B%2F%3D+a~b_c.%C3%A9");
    }

    #[test]
    fn texts_are_filled() {
        let values = Values::from([(Variable::HttpIp, "10.0.2.2".into()), (Variable::Name, "a b".into())]);
        let text = "url={{ .HTTPIP }}/{{.Name|urlquery}} {{ .HTTPPort }} {{ x }} {{ .HTTPIP | lower }} {{";
        assert_eq!(fill(text, &values), "url=10.0.2.2/a+b {{ .HTTPPort }} {{ x }} {{ .HTTPIP | lower }} {{");
    }

    #[test]
    fn names_lead_back() {
        for name in Variable::names() {
            assert_eq!(Variable::named(name).unwrap().name(), name);
        }
        assert_eq!(Variable::named("httpip"), None);
    }
}
