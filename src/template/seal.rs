//! `seal`: what is done only on the overlay that becomes the image.

use super::fields::{Fields, Reader};
use super::keys::project::SEAL;
use super::paths::Search;
use super::yaml::Node;
use super::{Seal, provisioner};
use crate::error::Problem;

/// Adds a template's `seal` to what its parents say: its provisioners come after theirs, and its
/// word on the rest wins.
pub(super) fn add(reader: &mut Reader<'_>, node: &Node, search: &Search, seal: &mut Seal) {
    let Some(mut fields) = Fields::of(node, reader.problems) else { return };
    let root_password = fields.get("root_password");
    let ca_certificates = fields.get("ca_certificates");
    let provisioners = fields.get("provisioners");
    fields.finish_as(&SEAL, reader.problems);

    if let Some(password) = root_password.and_then(|node| reader.text(node)) {
        // An empty one says that root stays locked.
        seal.root_password = Some(password).filter(|password| !password.plain().is_empty());
    }
    if let Some(keep) = ca_certificates.and_then(|node| keep(reader, node)) {
        seal.keep_ca_certificates = keep;
    }
    if let Some(node) = provisioners {
        seal.provisioners.extend(provisioner::read(reader, node, search));
    }
}

fn keep(reader: &mut Reader<'_>, node: &Node) -> Option<bool> {
    match reader.public(node)?.as_str() {
        "keep" => Some(true),
        "remove" => Some(false),
        other => {
            let problem = Problem::at(node.location(), format!("expected `keep` or `remove`, found `{other}`"));
            reader.problems.add(problem.hint("`keep` leaves the build host's certificate authorities in the image"));
            None
        }
    }
}
