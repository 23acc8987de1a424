//! `visabuild schema`.

use super::print;
use crate::error::{Context, Kind, Result};
use crate::template::schema::{Document, schema};

/// Prints the JSON Schema of a file.
pub(super) fn run(document: Document) -> Result<()> {
    let text = serde_json::to_string_pretty(&schema(document)).context(Kind::Host, || "cannot write the schema")?;
    print(&format!("{text}\n"));
    Ok(())
}
