//! From YAML to a contract; every problem is reported with its place.

use std::path::Path;
use std::time::Duration;

use super::probe_keys;
use super::{Boot, Check, Component, Contract, DataSource, Level, Port, variables};
use crate::error::{Error, Kind, Problem, Result};
use crate::template::fields::{Fields, entries, items, scalar};
use crate::template::nearest::suggestion;
use crate::template::problems::Problems;
use crate::template::scalar::{Expected, boolean, duration};
use crate::template::yaml::{self, Node};

/// How long a guest may take to be up, unless the boot says so.
const PATIENCE: Duration = Duration::from_secs(180);

/// Reads a whole contract.
pub(super) fn read(file: &Path, text: &str, sha256: String) -> Result<Contract> {
    let mut reader = Reader::default();
    let contract = match yaml::parse(file, text.to_owned()) {
        Ok(Some(node)) => contract(&mut reader, &node, sha256),
        Ok(None) => return Err(Error::usage(format!("the contract {} is empty", file.display()))),
        Err(problems) => return Err(Error::problems(Kind::Usage, problems)),
    };
    reader.problems.into_result()?;
    // Whatever made it none was reported.
    contract.ok_or_else(|| Error::usage(format!("the contract {} cannot be read", file.display())))
}

/// Collects problems while nodes are read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Problems,
}

impl Reader {
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        scalar(node, &mut self.problems).map(str::to_owned)
    }

    pub(super) fn parse<T>(&mut self, node: &Node, parse: impl Fn(&str) -> Result<T, Expected>) -> Option<T> {
        let text = scalar(node, &mut self.problems)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(Expected { what, hint }) => {
                let problem = Problem::at(node.location(), format!("expected {what}, found `{text}`"));
                self.problems.add(problem.hint(hint));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, node: Option<&Node>) -> Option<bool> {
        node.and_then(|node| self.parse(node, boolean))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = scalar(node, &mut self.problems)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let problem = Problem::at(node.location(), format!("unknown word `{text}`"));
        self.problems.add(match suggestion(text, words.iter().map(|(word, _)| *word)) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    }

    /// A scalar, or a list of scalars.
    pub(super) fn texts(&mut self, node: Option<&Node>) -> Vec<String> {
        let Some(node) = node else { return Vec::new() };
        if node.kind() != "a list" {
            return self.text(node).into_iter().collect();
        }
        let items = items(node, &mut self.problems).unwrap_or_default();
        items.iter().filter_map(|item| self.text(item)).collect()
    }

    /// The keys of a mapping with their texts.
    pub(super) fn pairs(&mut self, node: Option<&Node>) -> Vec<(String, String)> {
        let Some(entries) = node.and_then(|node| entries(node, &mut self.problems)) else { return Vec::new() };
        entries.iter().filter_map(|entry| Some((entry.key.clone(), self.text(&entry.value)?))).collect()
    }

    pub(super) fn at(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.at(node.location(), message);
    }
}

/// A TCP port.
pub(super) fn port(text: &str) -> Result<u16, Expected> {
    let expected = Expected { what: "a TCP port", hint: "write a number from 1 to 65535" };
    text.trim().parse().ok().filter(|port| *port > 0).ok_or(expected)
}

/// A number.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, Expected> {
    text.trim().parse().map_err(|_| Expected { what: "a whole number", hint: "write digits only" })
}

fn contract(reader: &mut Reader, node: &Node, sha256: String) -> Option<Contract> {
    let mut fields = Fields::of(node, &mut reader.problems)?;
    let name = fields.required("name", &mut reader.problems);
    let (ports, components) = (fields.get("ports"), fields.get("components"));
    let boots = fields.get("boots");
    let checks = fields.required("checks", &mut reader.problems);
    fields.finish(&mut reader.problems);

    let components = self::components(reader, components);
    let mut contract = Contract {
        name: reader.text(name?)?,
        sha256,
        ports: self::ports(reader, ports, &components),
        components,
        boots: self::boots(reader, boots),
        checks: Vec::new(),
    };
    for node in items(checks?, &mut reader.problems)? {
        if let Some(check) = check(reader, node, &contract) {
            if contract.checks.iter().any(|known| known.id == check.id) {
                reader.at(node, format!("there are two checks `{}`", check.id));
            }
            contract.checks.push(check);
        }
    }
    Some(contract)
}

fn components(reader: &mut Reader, node: Option<&Node>) -> Vec<Component> {
    let pairs = reader.pairs(node);
    pairs.into_iter().map(|(name, file)| Component { name, file }).collect()
}

fn ports(reader: &mut Reader, node: Option<&Node>, components: &[Component]) -> Vec<Port> {
    let Some(entries) = node.and_then(|node| entries(node, &mut reader.problems)) else { return Vec::new() };
    let mut ports = Vec::new();
    for entry in entries {
        let Ok(number) = port(&entry.key) else {
            reader.problems.at(entry.location(), format!("`{}` is no TCP port", entry.key));
            continue;
        };
        let Some(mut fields) = Fields::of(&entry.value, &mut reader.problems) else { continue };
        let name = fields.required("name", &mut reader.problems);
        let (greeting, component) = (fields.get("greeting"), fields.get("component"));
        fields.finish(&mut reader.problems);
        let component = component.and_then(|node| component_index(reader, node, components));
        ports.push(Port {
            port: number,
            name: name.and_then(|node| reader.text(node)).unwrap_or_default(),
            greeting: greeting.and_then(|node| reader.text(node)).unwrap_or_default().into_bytes(),
            component,
        });
    }
    ports
}

fn component_index(reader: &mut Reader, node: &Node, components: &[Component]) -> Option<usize> {
    let words: Vec<_> =
        components.iter().enumerate().map(|(index, component)| (component.name.as_str(), index)).collect();
    reader.word(node, &words)
}

fn boots(reader: &mut Reader, node: Option<&Node>) -> Vec<Boot> {
    let Some(entries) = node.and_then(|node| entries(node, &mut reader.problems)) else { return Vec::new() };
    entries.iter().filter_map(|entry| boot(reader, &entry.key, &entry.value)).collect()
}

fn boot(reader: &mut Reader, name: &str, node: &Node) -> Option<Boot> {
    // It becomes part of file names.
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        reader.at(node, format!("`{name}` cannot be the name of a boot: use small letters, digits and `-`"));
    }
    let mut fields = Fields::of(node, &mut reader.problems)?;
    let firmware = fields.get("firmware");
    let source = fields.required("source", &mut reader.problems);
    let (network, user_data) = (fields.get("network"), fields.get("user_data"));
    let (metadata, patience) = (fields.get("metadata"), fields.get("patience"));
    fields.finish(&mut reader.problems);
    let sources = [("config-drive", DataSource::ConfigDrive), ("nocloud", DataSource::NoCloud)];
    Some(Boot {
        name: name.to_owned(),
        uefi: firmware.and_then(|node| reader.word(node, &[("bios", false), ("uefi", true)])).unwrap_or(false),
        source: reader.word(source?, &sources)?,
        restricted: network.and_then(|node| reader.word(node, &[("open", false), ("none", true)])).unwrap_or(false),
        user_data: user_data.and_then(|node| reader.text(node)),
        metadata: reader.pairs(metadata),
        patience: patience.and_then(|node| reader.parse(node, duration)).unwrap_or(PATIENCE),
    })
}

fn check(reader: &mut Reader, node: &Node, contract: &Contract) -> Option<Check> {
    let mut fields = Fields::of(node, &mut reader.problems)?;
    let id = fields.required("id", &mut reader.problems);
    let statement = fields.required("statement", &mut reader.problems);
    let level = fields.required("level", &mut reader.problems);
    let (boot, component, look) = (fields.get("boot"), fields.get("component"), fields.get("look"));
    let after = fields.get("after");
    let probes = fields.required("probes", &mut reader.problems);
    fields.finish(&mut reader.problems);

    let levels = [("static", Level::Static), ("boot", Level::Boot), ("net", Level::Net), ("life", Level::Life)];
    let level = level.and_then(|node| reader.word(node, &levels));
    let words: Vec<_> = contract.boots.iter().enumerate().map(|(index, boot)| (boot.name.as_str(), index)).collect();
    let named = boot.and_then(|node| reader.word(node, &words));
    let component = component.and_then(|node| component_index(reader, node, &contract.components));
    let probes = self::probes(reader, probes?, level?, named.or(Some(0)).and_then(|at| contract.boots.get(at)));
    for probe in &probes {
        if let Some(port) = probe.what.port()
            && !contract.ports.iter().any(|known| known.port == port)
        {
            reader.problems.at(probe.location.clone(), format!("port {port} is not among the contract's `ports`"));
        }
    }
    let boot_index = (level? != Level::Static).then(|| named.unwrap_or(0));
    let after = after.and_then(|node| {
        let name = reader.text(node)?;
        if contract.checks.iter().any(|check| check.id == name && check.boot == boot_index && boot_index.is_some()) {
            return Some(name);
        }
        reader.at(node, format!("no check `{name}` of the same boot stands before this one"));
        None
    });
    match level? {
        Level::Static if boot.is_some() => reader.at(node, "a check of the level static has no boot"),
        Level::Static => {}
        _ if contract.boots.is_empty() => reader.at(node, "the contract has no boots, which this level needs"),
        _ => {}
    }
    Some(Check {
        id: reader.text(id?)?,
        statement: reader.text(statement?)?.split_whitespace().collect::<Vec<_>>().join(" "),
        level: level?,
        // The first boot is the one where most is looked at.
        boot: boot_index,
        after,
        component,
        look: look.and_then(|node| reader.text(node)),
        probes,
        location: node.location(),
    })
}

fn probes(reader: &mut Reader, node: &Node, level: Level, boot: Option<&Boot>) -> Vec<super::Probe> {
    let Some(items) = items(node, &mut reader.problems) else { return Vec::new() };
    if items.is_empty() {
        reader.at(node, "a check without a probe proves nothing");
    }
    let mut known: Vec<&str> = Vec::new();
    if let (Some(boot), true) = (boot, level != Level::Static) {
        known.extend(variables::KNOWN);
        known.extend(boot.metadata.iter().map(|(key, _)| key.as_str()));
    }
    items.iter().filter_map(|node| probe_keys::probe(reader, node, level, &known)).collect()
}
