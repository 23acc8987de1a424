//! The programs that playbooks are played with, where a plan has some.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::Finding;
use super::distribution::Distribution;
use super::tools::find;
use crate::plan::Plan;
use crate::template::Action;

/// The Debian package that has them.
const PACKAGE: &str = "ansible-core";

/// What is missing for the plan's `ansible` provisioners: their programs, and the SSH client that these run. `search` is
/// the search path.
pub fn examine(plan: &Plan, search: &OsStr, host: &Distribution) -> Vec<Finding> {
    let of_steps = plan.stages.iter().flat_map(|stage| stage.steps.iter().chain(&stage.seal.steps));
    let provisioners = of_steps.map(|step| &step.provisioner);
    let cleanups = plan.stages.iter().filter_map(|stage| stage.error_cleanup.as_ref());
    let mut programs: BTreeSet<(PathBuf, &str)> = BTreeSet::new();
    for provisioner in provisioners.chain(cleanups) {
        let Action::Ansible(ansible) = &provisioner.action else { continue };
        let galaxy = ansible.galaxy.iter().map(|galaxy| &galaxy.command);
        programs.extend(galaxy.chain([&ansible.command]).map(|program| (ansible.program(program), PACKAGE)));
        programs.insert((PathBuf::from("ssh"), "openssh-client"));
    }
    let missing = programs.iter().filter(|(program, _)| find(&program.to_string_lossy(), search).is_none());
    let problem = |(program, package): &(PathBuf, &str)| {
        let problem = Finding::problem(program.to_string_lossy(), "is not on this host, and a provisioner needs it");
        // What the user has named by its path is no package's.
        if program.is_absolute() { problem } else { problem.hint(host.install(package)) }
    };
    missing.map(problem).collect()
}
