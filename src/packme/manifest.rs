//! One template as Packer's JSON, with all that packme sets in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde_json::{Map as JsonMap, Value as Json, json};

use super::project::{Declaration, Project};
use super::tree::{Map, Secrets, Tree};
use super::values::Values;
use super::{Manifest, packages};
use crate::error::{Problem, Result};
use crate::template::problems::Problems;
use crate::template::yaml::{self, Content, Node};

/// Where builders find and leave things, in their template's folder.
const OUTPUT_FOLDER: &str = "builds";
const HTTP_FOLDER: &str = "http";
/// Secrets of visabuild's own options and the variables of the environment that Packer reads them from.
const SECRETS: [(&str, &str); 2] = [("pam_public_key", "VISA_PAM_PUBLIC_KEY"), ("root_password", "VISA_ROOT_PASSWORD")];

/// What a manifest says, as packme takes it.
struct Sections {
    description: Tree,
    variables: Tree,
    builders: Vec<Map>,
    provisioners: Vec<Tree>,
    post_processors: Tree,
}

/// Makes the manifest of `template`.
pub(super) fn make(project: &Project, template: &Declaration, values: &Values) -> Result<Manifest> {
    let mut problems = Problems::default();
    let mut warnings = Vec::new();
    let mut sections = sections(project, template, &mut problems, &mut warnings);
    if let Some(sections) = &mut sections {
        let added = packages::provisioners(project, template, &mut problems, &mut warnings);
        sections.provisioners.extend(added);
        if let Some(parent) = template.extends.as_ref().and_then(|(parent, _)| project.find(parent)) {
            // What the parent says of itself is warned of where the parent is made.
            let parents = self::sections(project, parent, &mut problems, &mut Vec::new());
            let parents = parents.map(|sections| sections.builders).unwrap_or_default();
            inherit(project, &mut sections.builders, (&parent.name, &parents), &mut warnings);
        }
    }
    let context = values.context(project, template, &mut problems);
    let mut secrets = Secrets::new();
    let mut json = JsonMap::new();
    for (key, tree) in sections.map(Sections::in_order).into_iter().flatten() {
        json.insert(key.to_owned(), tree.render(&context, &mut secrets, &mut problems));
    }
    declare(&secrets, &values.secrets, &mut json);
    problems.into_result()?;
    let file = project.templates_folder.join(&template.name).join("manifest.json");
    Ok(Manifest { template: template.name.clone(), file, json: Json::Object(json), warnings })
}

impl Sections {
    /// In packme's order.
    fn in_order(self) -> [(&'static str, Tree); 5] {
        [
            ("description", self.description),
            ("variables", self.variables),
            ("builders", Tree::List(self.builders.into_iter().map(Tree::Map).collect())),
            ("provisioners", Tree::List(self.provisioners)),
            ("post-processors", self.post_processors),
        ]
    }
}

/// Secrets become user variables of Packer's, which it reads from the environment and hides in its output.
fn declare(secrets: &Secrets, environment: &BTreeMap<String, SecretString>, json: &mut JsonMap<String, Json>) {
    if secrets.is_empty() {
        return;
    }
    if let Some(Json::Object(variables)) = json.get_mut("variables") {
        for name in secrets {
            let own = SECRETS.iter().find(|(secret, _)| secret == name).map(|(_, variable)| *variable);
            // Null is Packer's word for a variable that must be given.
            let value = own.or_else(|| environment.contains_key(name).then_some(name));
            let value = value.map_or(Json::Null, |variable| json!(format!("{{{{env `{variable}`}}}}")));
            variables.entry(name.clone()).or_insert(value);
        }
    }
    json.insert("sensitive-variables".to_owned(), json!(secrets));
}

/// The template's manifest; none where it is faulty. One that is not there is empty, and so is an empty section.
fn sections(
    project: &Project,
    template: &Declaration,
    problems: &mut Problems,
    warnings: &mut Vec<Problem>,
) -> Option<Sections> {
    let file = project.file(&template.name, "manifest.yml");
    let node = match yaml::read(&project.layout.base, &file) {
        Ok(node) => node,
        Err(faults) => {
            problems.extend(faults);
            return None;
        }
    };
    let packer = node.as_ref().and_then(|node| find(node, &["packer"], problems, warnings));
    let keys = ["description", "variables", "builders", "provisioners", "post-processors", "postprocessors"];
    let mut values: [Option<&Node>; 6] = [None; 6];
    if let Some(packer) = packer {
        find(packer, &keys, problems, warnings);
        for (value, key) in values.iter_mut().zip(keys) {
            *value = child(packer, key);
        }
    }
    let [description, variables, builders, provisioners, post_processors, unspelt] = values;
    let tree = |node: Option<&Node>, problems: &mut Problems, default: Tree| {
        node.map_or(default, |node| Tree::of(node, problems))
    };
    let place = node.as_ref().map_or_else(|| empty(&file), Node::place);
    let base = project.templates_folder.join(&template.name);
    Some(Sections {
        description: tree(description, problems, text("No description provided", &place)),
        variables: tree(variables, problems, Tree::Map(Map::new(place))),
        builders: builder_list(builders, &template.name, &base, problems),
        provisioners: super::provisioner::list(provisioners, &base, problems),
        post_processors: tree(post_processors.or(unspelt), problems, Tree::List(Vec::new())),
    })
}

/// A place at the beginning of a file that is empty or not there.
fn empty(file: &Path) -> Node {
    yaml::text_file(file, String::new()).place()
}

fn text(text: &str, place: &Node) -> Tree {
    Tree::Text { text: text.to_owned(), place: place.clone() }
}

/// The value of a mapping's `key`; none when it is absent or empty.
pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Content::Map(entries) = &node.content else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|value| !value.is_null())
}

/// The value of the first of `keys`; what is no mapping is reported, and other keys are warned of: packme leaves them
/// out.
fn find<'n>(node: &'n Node, keys: &[&str], problems: &mut Problems, warnings: &mut Vec<Problem>) -> Option<&'n Node> {
    let Content::Map(entries) = &node.content else {
        problems.at(node.location(), format!("expected a mapping, found {}", node.kind()));
        return None;
    };
    for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
        let message = format!("`{}` is left out: packme does not know it", entry.key);
        warnings.push(Problem::at(entry.location(), message));
    }
    keys.first().and_then(|key| child(node, key))
}

/// The builders with what packme sets in each.
fn builder_list(node: Option<&Node>, name: &str, base: &Path, problems: &mut Problems) -> Vec<Map> {
    let mut builders = maps(node, problems);
    for builder in &mut builders {
        let Some(kind) = builder.text("type").map(str::to_owned) else {
            problems.at(builder.place.location(), "`type` is missing");
            continue;
        };
        builder.set_text("output_directory", joined(base, OUTPUT_FOLDER));
        builder.set_text("http_directory", joined(base, HTTP_FOLDER));
        builder.set_text("vm_name", format!("{name}-{kind}.iso"));
    }
    builders
}

/// A list of mappings; anything else is reported.
pub(super) fn maps(node: Option<&Node>, problems: &mut Problems) -> Vec<Map> {
    let Some(node) = node else { return Vec::new() };
    let Content::List(items) = &node.content else {
        problems.at(node.location(), format!("expected a list, found {}", node.kind()));
        return Vec::new();
    };
    let mut maps = Vec::new();
    for item in items {
        match Tree::of(item, problems) {
            Tree::Map(map) => maps.push(map),
            _ => problems.at(item.location(), format!("expected a mapping, found {}", item.kind())),
        }
    }
    maps
}

/// As Python's `os.path.join` joins an absolute folder and a path.
pub(super) fn joined(folder: &Path, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", folder.display()) }
}

/// A builder's name; Packer calls one without a name by its type.
fn name_of(builder: &Map) -> &str {
    builder.text("name").or_else(|| builder.text("type")).unwrap_or_default()
}

/// Builders that the parent has too start from the parent's image, and those that only the parent has come first.
fn inherit(project: &Project, builders: &mut Vec<Map>, parent: (&str, &[Map]), warnings: &mut Vec<Problem>) {
    let (parent, parents) = parent;
    let own: Vec<String> = builders.iter().map(|builder| name_of(builder).to_owned()).collect();
    for theirs in parents {
        let name = name_of(theirs);
        let image = format!("{parent}-{name}.iso");
        warn_of_other_name(theirs, parent, &image, warnings);
        let folder = project.templates_folder.join(parent).join(OUTPUT_FOLDER);
        let start = |builder: &mut Map| {
            builder.set_text("iso_url", joined(&folder, &image));
            builder.set_text("iso_checksum", "none".to_owned());
            builder.set_text("headless", "{{ headless }}".to_owned());
        };
        if own.iter().any(|own| own == name) {
            if let Some(builder) = builders.iter_mut().find(|builder| name_of(builder) == name) {
                start(builder);
            }
            continue;
        }
        let mut builder = Map::new(theirs.place.clone());
        builder.set_text("name", name.to_owned());
        builder.set_text("type", theirs.text("type").unwrap_or_default().to_owned());
        start(&mut builder);
        builders.insert(0, builder);
    }
}

/// packme calls an image by its builder's type, and looks for the parent's by its builder's name.
fn warn_of_other_name(builder: &Map, parent: &str, image: &str, warnings: &mut Vec<Problem>) {
    let (Some(kind), name) = (builder.text("type"), name_of(builder)) else { return };
    if kind != name {
        let message = format!("the builder's image is called {parent}-{kind}.iso, and packme looks for {image}");
        let hint = format!("name the builder `{kind}`, as its type is called");
        warnings.push(Problem::at(builder.place.location(), message).hint(hint));
    }
}

/// The folder of a package.
pub(super) fn package_folder(project: &Project, package: &str) -> PathBuf {
    project.packages_folder.join(package)
}
