//! Provisioners, whose relative paths packme looks up in the template's or the package's folder.

use std::path::Path;

use super::manifest::{joined, maps};
use super::tree::Tree;
use crate::template::problems::Problems;
use crate::template::yaml::Node;

/// The provisioners of a list with their paths; relative ones are in `folder`.
pub(super) fn list(node: Option<&Node>, folder: &Path, problems: &mut Problems) -> Vec<Tree> {
    let mut provisioners = maps(node, problems);
    for provisioner in &mut provisioners {
        let Some(kind) = provisioner.text("type") else {
            problems.at(provisioner.place.location(), "`type` is missing");
            continue;
        };
        if !["file", "shell"].contains(&kind) {
            continue;
        }
        for key in ["source", "script"] {
            if let Some(Tree::Text { text, place }) = provisioner.get(key) {
                let (text, place) = (joined(folder, text), place.clone());
                provisioner.set(key, Tree::Text { text, place });
            }
        }
    }
    provisioners.into_iter().map(Tree::Map).collect()
}
