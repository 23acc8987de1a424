//! The `artifice` post-processor.

use serde::Serialize;

use super::{Own, output};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};

/// Names the files that the artifact is from here on.
#[derive(Debug, Clone, Serialize)]
pub struct Artifice {
    /// Relative to the template's folder of the results, or absolute.
    pub files: Vec<String>,
}

pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Artifice> {
    let files = fields.required("files", reader.problems);
    fields.finish_as(own.table, reader.problems);
    let template = reader.context.template.clone();
    let files = reader.some(files?, |reader, node| {
        let text = reader.public(node)?;
        match output::fill(&text, &template, &[]) {
            Ok(name) if name.is_empty() => {
                reader.at(node.location(), "the path is empty");
                None
            }
            Ok(name) => Some(name),
            Err(problem) => {
                reader.problems.add(Problem { location: Some(node.location()), ..problem });
                None
            }
        }
    })?;
    Some(Artifice { files })
}
