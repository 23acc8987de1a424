//! Which way first disks are made, and why.

use super::args::{BaseChoice, ProjectArgs};
use crate::plan::Plan;
use crate::preflight::accelerator::Detection;
use crate::template::BaseBuilder;

/// What templates that have an installer and a bootstrap shall use.
pub(super) fn wanted(args: &ProjectArgs, accelerator: &Detection) -> BaseBuilder {
    match args.base {
        BaseChoice::Installer => BaseBuilder::Installer,
        BaseChoice::Bootstrap => BaseBuilder::Bootstrap,
        BaseChoice::Auto if accelerator.kvm && !args.emulate => BaseBuilder::PreferInstaller,
        BaseChoice::Auto => BaseBuilder::PreferBootstrap,
    }
}

/// How the base disks of `plan` are made, and why.
pub(super) fn reason(plan: &Plan, args: &ProjectArgs, accelerator: &Detection) -> String {
    let mut reasons: Vec<String> = Vec::new();
    for base in plan.stages.iter().filter_map(|stage| stage.base.as_ref()) {
        let why = match args.base {
            _ if !base.was_chosen => "the only way that its template has".to_owned(),
            BaseChoice::Installer | BaseChoice::Bootstrap => "asked for by --base".to_owned(),
            BaseChoice::Auto if args.emulate => "an installer would be emulated, as --accel says".to_owned(),
            BaseChoice::Auto if accelerator.kvm => "KVM works here".to_owned(),
            BaseChoice::Auto => format!("an installer would be emulated: {}", accelerator.reason),
        };
        let reason = format!("{}: {why}", base.source.kind());
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.join("; ")
}
