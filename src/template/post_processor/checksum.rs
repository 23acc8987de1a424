//! The `checksum` post-processor.

use serde::Serialize;

use super::{Own, output};
use crate::checksum::Algorithm;
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};
use crate::template::nearest::suggestion;
use crate::template::yaml::Node;

/// Writes checksums of the artifact.
#[derive(Debug, Clone, Serialize)]
pub struct Checksum {
    /// Which, each with the file that it goes to.
    pub sums: Vec<Sum>,
}

/// One kind of checksum.
#[derive(Debug, Clone, Serialize)]
pub struct Sum {
    /// Which.
    pub algorithm: Algorithm,
    /// The file that it goes to.
    pub output: String,
}

impl Checksum {
    /// The files, each once.
    pub(super) fn outputs(&self) -> Vec<&str> {
        let mut outputs: Vec<&str> = Vec::new();
        for sum in &self.sums {
            if !outputs.contains(&sum.output.as_str()) {
                outputs.push(&sum.output);
            }
        }
        outputs
    }
}

/// Packer's name of the file.
const OUTPUT: &str = "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum";

pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Checksum> {
    let (types, output) = (fields.get("checksum_types"), fields.get("output"));
    fields.finish_as(own.table, reader.problems);
    let types = reader.optional(types, |reader, node| reader.some(node, algorithm))?;
    let mut sums: Vec<Sum> = Vec::new();
    for algorithm in types.unwrap_or_else(|| vec![Algorithm::Md5]) {
        if sums.iter().all(|sum| sum.algorithm != algorithm) {
            let more = [("ChecksumType", algorithm.name())];
            let output = output::read(reader, (output, OUTPUT), own.node, &more)?;
            sums.push(Sum { algorithm, output });
        }
    }
    Some(Checksum { sums })
}

fn algorithm(reader: &mut Reader<'_>, node: &Node) -> Option<Algorithm> {
    let name = reader.public(node)?;
    let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    if found.is_none() {
        let problem = Problem::at(node.location(), format!("unknown kind of checksum `{name}`"));
        reader.problems.add(match suggestion(&name, Algorithm::ALL.map(Algorithm::name)) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    found
}
