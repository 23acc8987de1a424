//! CycloneDX 1.6 (ECMA-424) as JSON. Fields have the names of its schema, bom-1.6.schema.json.

use serde::Serialize;
use serde_json::{Value, json};

use super::component::{Component, Licence, components};
use super::purl::scoped;
use super::{Format, uuid};
use crate::image::record::Record;
use crate::inventory::Ecosystem;

/// `bom`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Part>,
    dependencies: Vec<Dependency>,
    compositions: Vec<Value>,
}

/// `metadata`
#[derive(Debug, Serialize)]
struct Metadata {
    timestamp: String,
    lifecycles: Vec<Value>,
    tools: Value,
    component: Part,
}

/// `component`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    r#type: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Value>,
}

/// `dependency`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    r#ref: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

/// The document of an image.
pub(super) fn document(record: &Record) -> Document {
    let root = image(record);
    let parts: Vec<Part> = components(record).iter().map(part).collect();
    let all = parts.iter().map(|part| part.reference.clone()).collect();
    let own = std::iter::once(Dependency { r#ref: root.reference.clone(), depends_on: all });
    // What depends on what among the packages is not known: each is in the graph, and leads nowhere.
    let others = parts.iter().map(|part| Dependency { r#ref: part.reference.clone(), depends_on: Vec::new() });
    Document {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{}", uuid(record, Format::CycloneDx)),
        version: 1,
        dependencies: own.chain(others).collect(),
        // Files of no package are not looked at.
        compositions: vec![json!({ "aggregate": "incomplete", "assemblies": [root.reference] })],
        metadata: Metadata {
            timestamp: record.created.clone(),
            lifecycles: vec![json!({ "phase": "post-build" })],
            tools: json!({ "components": [
                { "type": "application", "name": "visabuild", "version": record.visabuild },
            ] }),
            component: root,
        },
        components: parts,
    }
}

fn image(record: &Record) -> Part {
    let property = |name: &str, value: &str| json!({ "name": format!("visabuild:{name}"), "value": value });
    let commit = record.commit.as_deref().map(|commit| property("commit", commit));
    let os = record.os.as_ref().map(|os| property("os", format!("{} {}", os.id, os.version).trim()));
    let mut properties = vec![property("file", &record.image.file)];
    let is_cut = record.installed().0.is_cut;
    let incomplete =
        is_cut.then(|| property("incomplete", "more Python distributions and npm packages than are listed"));
    properties.extend(os.into_iter().chain(commit).chain(incomplete));
    Part {
        r#type: "operating-system",
        reference: format!("image-{}", record.image.sha256),
        supplier: None,
        group: None,
        name: record.template.clone(),
        version: record.created.clone(),
        description: Some(record.description.trim().to_owned()).filter(|text| !text.is_empty()),
        hashes: vec![
            json!({ "alg": "SHA-256", "content": record.image.sha256 }),
            json!({ "alg": "SHA-512", "content": record.image.sha512 }),
        ],
        licenses: Vec::new(),
        purl: None,
        external_references: Vec::new(),
        properties,
        evidence: None,
    }
}

fn part(component: &Component) -> Part {
    let licenses = match &component.licence {
        Licence::Unknown => Vec::new(),
        Licence::Named(name) => vec![json!({ "license": { "name": name } })],
        Licence::Expression(expression) => vec![json!({ "expression": expression })],
    };
    let (group, name) = match component.ecosystem {
        Ecosystem::Npm => scoped(&component.name),
        _ => (None, component.name.as_str()),
    };
    let website = |url: &String| json!({ "type": "website", "url": url });
    let source = |source: &String| json!({ "name": "visabuild:source", "value": source });
    let places: Vec<Value> = component.places.iter().map(|place| json!({ "location": place })).collect();
    Part {
        r#type: "library",
        reference: component.id.clone(),
        supplier: component.supplier.as_ref().map(|supplier| json!({ "name": supplier.name })),
        group: group.map(str::to_owned),
        name: name.to_owned(),
        version: component.version.clone(),
        description: None,
        hashes: Vec::new(),
        licenses,
        purl: component.purl.clone(),
        external_references: component.homepage.iter().map(website).collect(),
        properties: component.source.iter().map(source).collect(),
        evidence: (!places.is_empty()).then(|| json!({ "occurrences": places })),
    }
}
