//! Rendering and checking the selected templates.

use std::collections::{BTreeMap, BTreeSet};

use super::alternatives::{self, AUTO, Alternatives};
use super::config::Declaration;
use super::fields::{Fields, Reader, entries};
use super::keys::project::{MANIFEST, PACKAGE, PACKER};
use super::nearest::suggestion;
use super::paths::Search;
use super::post_processor::{self, Chain};
use super::problems::Problems;
use super::project::{File, Project};
use super::render::Context;
use super::yaml::{Content, Node};
use super::{
    Builder, ChosenAlternative, Inputs, Machine, Provisioner, Resolved, Seal, Template, Text, Value, Verification,
    builder, provisioner, seal, verification,
};
use crate::error::{Problem, Result};

/// Resolves the named templates, or all of them if none is named, with all their ancestors.
///
/// # Errors
/// Every problem of the project's files and of the selected chains, at once.
pub fn resolve(project: &Project, names: &[String], inputs: &Inputs) -> Result<Resolved> {
    let mut resolver = Resolver::new(project, inputs);
    let templates = resolver.run(names);
    if !inputs.lenient {
        resolver.refuse_undecided();
    }
    resolver.problems.into_result()?;
    Ok(Resolved { root: project.root.clone(), templates })
}

impl Project {
    /// The alternatives that the selected templates (all if none is named) and their ancestors
    /// declare. What is chosen goes into [`Inputs::choices`].
    ///
    /// # Errors
    /// Every problem that [`resolve`] would report but for choices not made yet.
    pub fn alternatives(&self, names: &[String], inputs: &Inputs) -> Result<Vec<Alternatives>> {
        let mut resolver = Resolver::new(self, inputs);
        resolver.run(names);
        resolver.problems.into_result()?;
        Ok(resolver.alternatives)
    }
}

struct Resolver<'a> {
    project: &'a Project,
    inputs: &'a Inputs,
    problems: Problems,
    alternatives: Vec<Alternatives>,
    /// What templates resolved so far leave to their children.
    done: BTreeMap<&'a str, Inherited>,
}

#[derive(Debug, Default, Clone)]
struct Inherited {
    machine: Machine,
    chosen: BTreeMap<String, ChosenAlternative>,
}

/// The nodes of a manifest.
#[derive(Debug, Default, Clone, Copy)]
struct Sections<'n> {
    description: Option<&'n Node>,
    variables: Option<&'n Node>,
    builders: Option<&'n Node>,
    provisioners: Option<&'n Node>,
    error_cleanup: Option<&'n Node>,
    post_processors: [Option<&'n Node>; 2],
    seal: Option<&'n Node>,
    alternatives: Option<&'n Node>,
    verify: Option<&'n Node>,
}

impl<'a> Resolver<'a> {
    fn new(project: &'a Project, inputs: &'a Inputs) -> Self {
        let problems = project.problems.clone();
        Self { project, inputs, problems, alternatives: Vec::new(), done: BTreeMap::new() }
    }

    fn run(&mut self, names: &[String]) -> Vec<Template> {
        let selected = self.select(names);
        let order = self.project.chains.order(&selected);
        let templates: Vec<Template> = order.into_iter().filter_map(|template| self.template(template)).collect();
        let written = templates.iter().map(|template| (template.name.as_str(), template.post_processors.as_slice()));
        self.problems.extend(post_processor::clashes(written));
        templates
    }

    fn select(&mut self, names: &[String]) -> BTreeSet<usize> {
        let templates = &self.project.templates;
        if names.is_empty() {
            return (0..templates.len()).collect();
        }
        let mut selected = BTreeSet::new();
        for name in names {
            match templates.iter().position(|template| template.name == *name) {
                Some(at) => drop(selected.insert(at)),
                None => {
                    let problem = Problem::new(format!("unknown template `{name}`"));
                    self.problems.add(match suggestion(name, self.project.names()) {
                        Some(hint) => problem.hint(hint),
                        None => problem,
                    });
                }
            }
        }
        selected
    }

    fn template(&mut self, at: usize) -> Option<Template> {
        let project = self.project;
        let chain: Vec<&Declaration> =
            project.chains.of(at)?.iter().map(|member| &project.templates[*member]).collect();
        let template = *chain.last()?;
        let parent = template.extends.as_ref().map(|extends| extends.name.as_str());
        let inherited = parent.and_then(|parent| self.done.get(parent)).cloned().unwrap_or_default();
        let mut context = self.context(&chain, &inherited);
        let sections = self.sections(template);

        let mut chosen = inherited.chosen;
        if let Some(node) = sections.and_then(|sections| sections.alternatives) {
            self.choose(node, &mut context, &mut chosen);
        }
        let machine = parent.map(|_| inherited.machine);
        let parts = sections.and_then(|sections| self.parts(template, sections, &context, machine.as_ref()));
        let seal = self.seal(&chain, &context);
        let verification = self.verification(&chain, &context);
        let machine = parts.as_ref().map(|parts| parts.builder.machine().clone()).or(machine).unwrap_or_default();
        self.done.insert(&template.name, Inherited { machine, chosen: chosen.clone() });
        let Parts { description, variables, builder, provisioners, error_cleanup, post_processors } = parts?;
        let builders = sections.and_then(|sections| sections.builders);
        let several_builders =
            builders.is_some_and(|node| matches!(&node.content, Content::List(all) if all.len() > 1));
        Some(Template {
            name: template.name.clone(),
            parent: parent.map(str::to_owned),
            description,
            variables,
            builder,
            several_builders,
            provisioners,
            error_cleanup,
            seal,
            alternatives: chosen,
            verification,
            post_processors,
        })
    }

    /// Own environment over the parents', process environment, `vm_name`, the command line's values,
    /// and what was chosen, each over the one before.
    fn context(&self, chain: &[&Declaration], inherited: &Inherited) -> Context {
        let files = chain.iter().map(|template| self.project.files.get(&template.name));
        let environments: Vec<_> = files.map(|files| files.and_then(|files| files.environment.as_ref())).collect();
        let name = chain.last().map_or("", |template| template.name.as_str());
        let mut context = Context::new(name, self.inputs.lenient, environments.iter().all(Option::is_some));
        context.now = self.inputs.now;
        for variable in environments.into_iter().flatten().flatten() {
            context.set(&variable.name, Value::Plain(variable.value.clone()), Some(variable.location.clone()));
        }
        for (name, value) in &self.inputs.environment {
            context.set(name, Value::Plain(value.clone()), None);
        }
        context.set("vm_name", Value::Plain(name.to_owned()), None);
        for (name, value) in &self.inputs.values {
            context.set(name, value.clone(), None);
        }
        let own = |alternatives: &&Alternatives| chain.iter().any(|member| member.name == alternatives.template);
        for alternatives in self.alternatives.iter().filter(own) {
            context.set(&alternatives.variable, Value::Plain(AUTO.to_owned()), None);
        }
        for (variable, chosen) in inherited.chosen.iter().chain(&self.inputs.choices) {
            context.set(variable, Value::Plain(chosen.value.clone()), None);
        }
        context
    }

    /// The nodes of the template's manifest; none if it is faulty.
    fn sections(&mut self, template: &Declaration) -> Option<Sections<'a>> {
        let node = match &self.project.files.get(&template.name)?.manifest {
            File::Faulty => return None,
            File::Empty => return Some(Sections::default()),
            File::Read(node) => node,
        };
        let problems = &mut self.problems;
        let mut fields = Fields::of(node, problems)?;
        let (packer, seal, alternatives) = (fields.get("packer"), fields.get("seal"), fields.get("alternatives"));
        let verify = fields.get("verify");
        fields.finish_as(&MANIFEST, problems);
        let mut sections = Sections { seal, alternatives, verify, ..Sections::default() };
        if let Some(packer) = packer {
            let mut fields = Fields::of(packer, problems)?;
            sections.description = fields.get("description");
            sections.variables = fields.get("variables");
            sections.builders = fields.get("builders");
            sections.provisioners = fields.get("provisioners");
            sections.error_cleanup = fields.get("error-cleanup-provisioner");
            sections.post_processors = [fields.get("post-processors"), fields.get("postprocessors")];
            fields.finish_as(&PACKER, problems);
        }
        Some(sections)
    }

    /// Reads `alternatives` and sets their variables to what is chosen so far.
    fn choose(&mut self, node: &Node, context: &mut Context, chosen: &mut BTreeMap<String, ChosenAlternative>) {
        let declared = alternatives::read(&mut Reader { context, problems: &mut self.problems }, node);
        for alternatives in declared {
            let variable = &alternatives.variable;
            if let Some(other) = self.alternatives.iter().find(|other| other.variable == *variable) {
                let message = format!("`{variable}` already has alternatives in template `{}`", other.template);
                self.problems.at(alternatives.location.clone(), message);
                continue;
            }
            let choice = alternatives.named.as_deref().and_then(|named| alternatives.choice(named));
            let how = self.inputs.choices.get(variable).map_or("named", |chosen| chosen.how.as_str());
            match choice {
                Some(choice) => drop(chosen.insert(variable.clone(), choice.chosen(how))),
                None => context.set(variable, Value::Plain(AUTO.to_owned()), None),
            }
            self.alternatives.push(alternatives);
        }
    }

    /// A build cannot begin while a variable is `auto`.
    fn refuse_undecided(&mut self) {
        for alternatives in self.alternatives.iter().filter(|alternatives| alternatives.named.is_none()) {
            let Alternatives { variable, choices, location, .. } = alternatives;
            let problem = Problem::at(location.clone(), format!("no alternative was chosen for `{variable}`"));
            let values: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.value)).collect();
            self.problems.add(problem.hint(format!("name one: {}", values.join(", "))));
        }
    }

    fn parts(
        &mut self,
        template: &Declaration,
        sections: Sections<'_>,
        context: &Context,
        parent: Option<&Machine>,
    ) -> Option<Parts> {
        let reader = &mut Reader { context, problems: &mut self.problems };
        let description = reader.optional(sections.description, Reader::text);
        let variables = reader.optional(sections.variables, variables);
        let search = Search::template(&self.project.root, &template.name);
        let wanted = (self.inputs.base, &search);
        let builder = builder::read(reader, sections.builders, parent, &template.location, wanted);
        let mut provisioners =
            sections.provisioners.map(|node| provisioner::read(reader, node, &search)).unwrap_or_default();
        let error_cleanup = sections.error_cleanup.and_then(|node| provisioner::cleanup(reader, node, &search));
        let post_processors = sections.post_processors.into_iter().flatten();
        let post_processors = post_processors.flat_map(|node| post_processor::read(reader, node, &search)).collect();
        for package in &template.packages {
            if let Some(File::Read(node)) = self.project.packages.get(&package.name) {
                let search = Search::package(&self.project.root, &package.name, &template.name);
                provisioners.extend(self::package(reader, node, &search));
            }
        }
        Some(Parts {
            description: description?.map(|description| description.masked().to_owned()).unwrap_or_default(),
            variables: variables?.unwrap_or_default(),
            builder: builder?,
            provisioners,
            error_cleanup,
            post_processors,
        })
    }

    /// The sealing of the last template of `chain`, with its variables: the image that is sealed is its own.
    fn seal(&mut self, chain: &[&Declaration], context: &Context) -> Seal {
        let mut seal = Seal::default();
        for template in chain {
            let Some(node) = self.sections(template).and_then(|sections| sections.seal) else { continue };
            let search = Search::template(&self.project.root, &template.name);
            seal::add(&mut Reader { context, problems: &mut self.problems }, node, &search, &mut seal);
        }
        seal
    }
}

impl Resolver<'_> {
    /// What the image must keep, as `chain` says it together.
    fn verification(&mut self, chain: &[&Declaration], context: &Context) -> Option<Verification> {
        let mut verification = None;
        for template in chain {
            let Some(node) = self.sections(template).and_then(|sections| sections.verify) else { continue };
            let search = Search::template(&self.project.root, &template.name);
            let reader = &mut Reader { context, problems: &mut self.problems };
            verification::add(reader, node, &search, &mut verification);
        }
        verification
    }
}

/// What a template says for itself.
struct Parts {
    description: String,
    variables: BTreeMap<String, Text>,
    builder: Builder,
    provisioners: Vec<Provisioner>,
    error_cleanup: Option<Provisioner>,
    post_processors: Vec<Chain>,
}

fn variables(reader: &mut Reader<'_>, node: &Node) -> Option<BTreeMap<String, Text>> {
    let entries = entries(node, reader.problems)?;
    let read = entries.iter().map(|entry| {
        let value = if entry.value.is_null() { Some(Text::public("")) } else { reader.text(&entry.value) };
        Some((entry.key.clone(), value?))
    });
    read.collect::<Vec<_>>().into_iter().collect()
}

fn package(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Vec<Provisioner> {
    let Some(mut fields) = Fields::of(node, reader.problems) else { return Vec::new() };
    let provisioners = fields.get("provisioners");
    fields.finish_as(&PACKAGE, reader.problems);
    provisioners.map(|node| provisioner::read(reader, node, search)).unwrap_or_default()
}
