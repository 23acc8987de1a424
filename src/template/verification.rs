//! `verify`: which contract the image of a template must keep.

use super::Verification;
use super::fields::{Fields, Reader};
use super::keys::project::VERIFY;
use super::paths::{Search, Want};
use super::yaml::Node;

/// Adds a template's `verify` to what its parents say: the components that it requires and the checks
/// that it skips come beside theirs, unless it names another contract.
pub(super) fn add(reader: &mut Reader<'_>, node: &Node, search: &Search, verification: &mut Option<Verification>) {
    let Some(mut fields) = Fields::of(node, reader.problems) else { return };
    let (contract, require, skip) = (fields.get("contract"), fields.get("require"), fields.get("skip"));
    fields.finish_as(&VERIFY, reader.problems);

    let contract = contract.and_then(|node| contract_name(reader, node, search));
    let mut list = |node: Option<&Node>| node.and_then(|node| reader.list(node, Reader::public)).unwrap_or_default();
    let (require, skip) = (list(require), list(skip));
    let mut all = verification.take().unwrap_or_default();
    match contract {
        // What the parents say was about theirs.
        Some(contract) if contract != all.contract => all = Verification { contract, ..Verification::default() },
        None if all.contract.is_empty() => {
            reader.at(node.location(), "`contract` is missing, and no parent names one");
            return;
        }
        _ => {}
    }
    all.require.extend(require);
    all.skip.extend(skip);
    *verification = Some(all).filter(|all| all.contract != "none");
}

/// A name, or a file of the template as provisioners find theirs.
fn contract_name(reader: &mut Reader<'_>, node: &Node, search: &Search) -> Option<String> {
    let name = reader.public(node)?;
    if !name.ends_with(".yml") && !name.ends_with(".yaml") {
        return Some(name);
    }
    search.find(reader, node, Want::File).map(|file| file.path.to_string_lossy().into_owned())
}
