//! `qemuargs`: arguments of the user's own.

use serde::Serialize;

use super::fields::Reader;
use super::provisioner::variables;
use super::yaml::Node;
use crate::error::Problem;

/// Variables that an argument may have, in Packer's form.
const VARIABLES: [&str; 4] = ["HTTPIP", PORT, "Name", "OutputDir"];

/// The port of the web server, which is there during an installation only.
const PORT: &str = "HTTPPort";

/// Switches that would take from a build what it rests on, and why.
const REFUSED: [(&str, &str); 8] = [
    ("-vnc", "visabuild asks QEMU where it listens; `vnc_port_min` and its like say where it may"),
    ("-daemonize", "QEMU has to end with visabuild"),
    ("-S", "the guest would not start"),
    ("-preconfig", "the guest would not start"),
    ("-incoming", "the guest would not start"),
    ("-snapshot", "what the build writes would be lost"),
    ("-no-shutdown", "a guest that is off is how a build goes on"),
    ("-runas", "QEMU runs as whoever builds"),
];

/// A switch and its value, with Packer's variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// With its dash.
    pub switch: String,
    /// None where it has none.
    pub value: Option<String>,
}

impl Argument {
    /// Whether it names the web server's port, and so is for an installation only: an SMBIOS serial number that tells
    /// an installer where its answers are.
    pub fn needs_port(&self) -> bool {
        self.value.as_ref().is_some_and(|value| value.contains(&written(PORT)))
    }

    /// The value with Packer's variables replaced; `port` is the web server's, where there is one.
    pub fn value(&self, name: &str, folder: &str, port: Option<u16>) -> Option<String> {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        // The gateway of QEMU's own network is the host (qemu(1), `-netdev user`).
        let values = [("HTTPIP", "10.0.2.2"), (PORT, &port), ("Name", name), ("OutputDir", folder)];
        let value = self.value.clone()?;
        Some(values.iter().fold(value, |value, (variable, text)| value.replace(&written(variable), text)))
    }
}

/// As a template has it.
fn written(variable: &str) -> String {
    format!("{{{{ .{variable} }}}}")
}

/// Rows of a switch and the parts of its value, which are put together as they are.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Argument>> {
    reader.list(node, |reader, row| {
        let parts = reader.some(row, Reader::public)?;
        let (switch, parts) = parts.split_first()?;
        let problem = refusal(switch).or_else(|| unknown_variable(parts));
        if let Some((message, hint)) = problem {
            reader.problems.add(Problem::at(row.location(), message).hint(hint));
            return None;
        }
        let value = (!parts.is_empty()).then(|| variables(&parts.concat()).0);
        Some(Argument { switch: switch.clone(), value })
    })
}

fn refusal(switch: &str) -> Option<(String, String)> {
    if switch.len() < 2 || !switch.starts_with('-') {
        let hint = "write a row as `[\"-device\", \"virtio-balloon-pci\"]`";
        return Some((format!("expected a switch of QEMU's, found `{switch}`"), hint.to_owned()));
    }
    let name = switch.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(switch);
    let (_, why) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some((format!("`{switch}` cannot be used"), (*why).to_owned()))
}

fn unknown_variable(parts: &[String]) -> Option<(String, String)> {
    let unknown = variables(&parts.concat()).1.into_iter().find(|name| !VARIABLES.contains(&name.as_str()))?;
    let hint = match unknown.as_str() {
        "SSHHostPort" => "the kernel chooses this port, and it is not known before QEMU runs".to_owned(),
        _ => format!("there are `{}`", VARIABLES.map(written).join("`, `")),
    };
    Some((format!("`qemuargs` has no variable `{{{{ .{unknown} }}}}`"), hint))
}
