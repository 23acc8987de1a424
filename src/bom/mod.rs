//! Software bills of materials of an image, made of its manifest alone: the same manifest gives the same bytes.

mod component;
mod cyclonedx;
mod purl;
mod spdx;
mod supplier;

use clap::ValueEnum;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Context, Kind, Result};
use crate::image::record::Record;

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// SPDX 2.3 as JSON
    Spdx,
    /// CycloneDX 1.6 as JSON
    #[value(name = "cyclonedx")]
    CycloneDx,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Spdx, Self::CycloneDx];

    /// Their names.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spdx => "spdx",
            Self::CycloneDx => "cyclonedx",
        }
    }

    /// How the names of such files end: what SPDX's tools and the CycloneDX specification ("Recognized file patterns")
    /// use.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Spdx => "spdx.json",
            Self::CycloneDx => "cdx.json",
        }
    }
}

/// The bill of materials of the image that `record` is about, as JSON with a line end.
///
/// # Errors
/// It cannot be written as JSON, which does not happen (kind build).
pub fn bill(record: &Record, format: Format) -> Result<String> {
    let text = match format {
        Format::Spdx => serde_json::to_string_pretty(&spdx::document(record)),
        Format::CycloneDx => serde_json::to_string_pretty(&cyclonedx::document(record)),
    };
    Ok(text.context(Kind::Build, || format!("the SBOM of {} cannot be written", record.template))? + "\n")
}

/// An identifier that is this image's in this form, and no other's: a UUID of version 8, made of a SHA-256 (RFC 9562,
/// 5.8 and B.2).
fn uuid(record: &Record, format: Format) -> Uuid {
    let name = format!("visabuild {} {} {}", format.name(), record.image.sha256, record.created);
    let digest = Sha256::digest(name);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests;
