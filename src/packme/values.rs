//! The values that a template's strings may use.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::project::{Declaration, Project};
use super::scalar;
use crate::template::Value;
use crate::template::problems::Problems;
use crate::template::render::Context;
use crate::template::yaml::{self, Content};

/// What a template's environment.yml gives unless the process environment says otherwise.
const NAME: &str = "vm_name";

/// Values from outside the project.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// What visabuild knows beside packme (`headless`, `proxy`, `mirror` …), beneath everything else.
    pub beneath: BTreeMap<String, Value>,
    /// The process environment, over the templates' environment files.
    pub environment: BTreeMap<String, String>,
    /// Those of its variables that are secrets: Packer reads them itself.
    pub secrets: BTreeMap<String, SecretString>,
    /// What was given on the command line, over everything else.
    pub given: BTreeMap<String, Value>,
}

impl Values {
    /// Everything that the strings of `template` may use.
    pub(super) fn context(&self, project: &Project, template: &Declaration, problems: &mut Problems) -> Context {
        let mut context = Context::new(&template.name, true, true);
        for (name, value) in &self.beneath {
            context.set(name, shown(value), None);
        }
        let mut chain: Vec<_> = project.ancestors(template).collect();
        chain.reverse();
        for ancestor in chain {
            file(project, ancestor, &mut context, problems);
        }
        context.set(NAME, Value::Plain(template.name.clone()), None);
        file(project, template, &mut context, problems);
        for (name, value) in &self.environment {
            context.set(name, Value::Plain(value.clone()), None);
        }
        for (name, value) in &self.secrets {
            context.set(name, Value::Secret(value.clone()), None);
        }
        for (name, value) in &self.given {
            context.set(name, shown(value), None);
        }
        context
    }
}

/// Facts of the host are no placeholders in Packer's JSON, which is for this host.
fn shown(value: &Value) -> Value {
    match value {
        Value::Host(text) => Value::Plain(text.clone()),
        other => other.clone(),
    }
}

/// Sets what the template's environment.yml says.
fn file(project: &Project, template: &Declaration, context: &mut Context, problems: &mut Problems) {
    let file = project.file(&template.name, "environment.yml");
    let node = match yaml::read(&project.layout.base, &file) {
        Ok(node) => node,
        Err(faults) => return problems.extend(faults),
    };
    let Some(node) = node else { return };
    let Content::Map(entries) = &node.content else {
        return problems.at(node.location(), format!("expected a mapping, found {}", node.kind()));
    };
    let Some(environment) = entries.iter().find(|entry| entry.key == "environment") else { return };
    match &environment.value.content {
        Content::Map(entries) => {
            for entry in entries {
                let value = Value::Plain(scalar::variable(&entry.value));
                context.set(&entry.key, value, Some(entry.value.location()));
            }
        }
        Content::Null => {}
        _ => {
            let found = environment.value.kind();
            problems.at(environment.value.location(), format!("expected a mapping, found {found}"));
        }
    }
}
