//! Packages: provisioners that templates add to their own.

use std::path::Path;

use super::manifest::{child, package_folder};
use super::project::{Declaration, Project};
use super::provisioner;
use super::tree::Tree;
use crate::error::Problem;
use crate::template::nearest::suggestion;
use crate::template::problems::Problems;
use crate::template::yaml::{self, Node};

/// The provisioners of the template's packages.
pub(super) fn provisioners(
    project: &Project,
    template: &Declaration,
    problems: &mut Problems,
    warnings: &mut Vec<Problem>,
) -> Vec<Tree> {
    let known = folders(&project.packages_folder);
    let all = template.packages.iter().any(|package| package == "*");
    let mut provisioners = Vec::new();
    for package in if all { &known } else { &template.packages } {
        if !package_folder(project, package).is_dir() {
            let message = format!("unknown package `{package}` of template `{}` is left out", template.name);
            let problem = Problem::at(template.location.clone(), message);
            warnings.push(match suggestion(package, known.iter().map(String::as_str)) {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
            continue;
        }
        let file = project.layout.packages.join(package).join("manifest.yml");
        match yaml::read(&project.layout.base, &file) {
            Ok(node) => {
                let list = node.as_ref().and_then(|node: &Node| child(node, "provisioners"));
                let folder = package_folder(project, package).join(&template.name);
                provisioners.extend(provisioner::list(list, &folder, problems));
            }
            Err(faults) => problems.extend(faults),
        }
    }
    provisioners
}

/// Names of the folders in `folder` that a shell's `*` means, sorted: packme takes them as the file system has them.
fn folders(folder: &Path) -> Vec<String> {
    let mut names = crate::template::folders(folder);
    names.retain(|name| !name.starts_with('.'));
    names
}
