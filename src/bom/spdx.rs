//! SPDX 2.3 (ISO/IEC 5962) as JSON. Numbers are those of the specification's clauses.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::component::{Component, Licence, components};
use super::{Format, uuid};
use crate::image::record::Record;

/// What is said of what is not known.
const NO_ASSERTION: &str = "NOASSERTION";
/// The image's identifier.
const IMAGE: &str = "SPDXRef-Image";
/// The document's identifier (6.3).
const DOCUMENT: &str = "SPDXRef-DOCUMENT";

/// The document (6).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    /// 6.1
    spdx_version: &'static str,
    /// 6.2: the data of a document are in the public domain.
    data_license: &'static str,
    /// 6.3
    #[serde(rename = "SPDXID")]
    id: &'static str,
    /// 6.4
    name: String,
    /// 6.5: an absolute URI that is this document's only.
    document_namespace: String,
    /// 6.8 to 6.10
    creation_info: CreationInfo,
    /// 7
    packages: Vec<Package>,
    /// 11
    relationships: Vec<Relationship>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    /// 6.9, RFC 3339 in UTC: the manifest's time.
    created: String,
    /// 6.8
    creators: Vec<String>,
}

/// A package (7).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    /// 7.2
    #[serde(rename = "SPDXID")]
    id: String,
    /// 7.1
    name: String,
    /// 7.3
    version_info: String,
    /// 7.4
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    /// 7.5
    supplier: String,
    /// 7.7
    download_location: &'static str,
    /// 7.8: no, and so there are neither 7.9 nor files.
    files_analyzed: bool,
    /// 7.10
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    /// 7.11
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    /// 7.12
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    /// 7.13: nobody looked into it.
    license_concluded: &'static str,
    /// 7.15
    license_declared: String,
    /// 7.16: a licence that is no expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    /// 7.17
    copyright_text: &'static str,
    /// 7.18
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    /// 7.20
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// 7.21
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
}

/// 7.10
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

/// 7.21, annex F.3.5
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

/// 11.1
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The document of an image.
pub(super) fn document(record: &Record) -> Document {
    let inside: Vec<Package> = components(record).iter().map(package).collect();
    let contains = inside.iter().map(|package| relationship(IMAGE, "CONTAINS", &package.id));
    let describes = std::iter::once(relationship(DOCUMENT, "DESCRIBES", IMAGE));
    let name = utf8_percent_encode(&record.template, NON_ALPHANUMERIC);
    Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: record.template.clone(),
        // The form that 6.5 shows for who has no address of their own.
        document_namespace: format!("https://spdx.org/spdxdocs/{name}-{}", uuid(record, Format::Spdx)),
        creation_info: CreationInfo {
            created: record.created.clone(),
            creators: vec![format!("Tool: visabuild-{}", record.visabuild)],
        },
        relationships: describes.chain(contains).collect(),
        packages: std::iter::once(image(record)).chain(inside).collect(),
    }
}

fn relationship(from: &str, kind: &'static str, to: &str) -> Relationship {
    Relationship { spdx_element_id: from.to_owned(), relationship_type: kind, related_spdx_element: to.to_owned() }
}

/// What is said of an image with more packages than were listed.
const INCOMPLETE: &str = "There are more Python distributions and npm packages in it than are listed here.";

fn image(record: &Record) -> Package {
    let checksum = |algorithm, value: &str| Checksum { algorithm, checksum_value: value.to_owned() };
    let commit = record.commit.as_ref().map(|commit| format!("templates of the commit {commit}"));
    Package {
        id: IMAGE.to_owned(),
        name: record.template.clone(),
        version_info: record.created.clone(),
        package_file_name: Some(record.image.file.clone()),
        supplier: NO_ASSERTION.to_owned(),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        checksums: vec![checksum("SHA256", &record.image.sha256), checksum("SHA512", &record.image.sha512)],
        homepage: None,
        source_info: commit,
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION.to_owned(),
        license_comments: None,
        copyright_text: NO_ASSERTION,
        summary: Some(record.description.trim().to_owned()).filter(|text| !text.is_empty()),
        comment: record.installed().0.is_cut.then(|| INCOMPLETE.to_owned()),
        external_refs: Vec::new(),
    }
}

fn package(component: &Component) -> Package {
    let (license_declared, license_comments) = match &component.licence {
        Licence::Unknown => (NO_ASSERTION.to_owned(), None),
        Licence::Named(name) => (NO_ASSERTION.to_owned(), Some(format!("declared as: {name}"))),
        Licence::Expression(expression) => (expression.clone(), None),
    };
    let places: Vec<&str> = component.places.iter().map(String::as_str).collect();
    let purl = component.purl.clone().map(|locator| ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: locator,
    });
    Package {
        id: format!("SPDXRef-{}", component.id),
        name: component.name.clone(),
        version_info: component.version.clone(),
        package_file_name: None,
        supplier: component.supplier.as_ref().map_or_else(|| NO_ASSERTION.to_owned(), super::supplier::Supplier::spdx),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        checksums: Vec::new(),
        homepage: component.homepage.clone(),
        source_info: component.source.as_ref().map(|source| format!("built from the source package {source}")),
        license_concluded: NO_ASSERTION,
        license_declared,
        license_comments,
        copyright_text: NO_ASSERTION,
        summary: None,
        comment: (!places.is_empty()).then(|| format!("installed in {}", places.join(", "))),
        external_refs: purl.into_iter().collect(),
    }
}
