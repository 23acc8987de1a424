//! The plan for people.

use std::fmt::Write as _;

use super::{Plan, Stage, Step};

/// One block a stage: where it starts, its steps, its seal.
pub(super) fn render(plan: &Plan) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        stage_text(&mut out, stage);
    }
    out
}

// Writing to a String cannot fail, so the results of `writeln!` are not looked at.
fn stage_text(out: &mut String, stage: &Stage) {
    let from = match (&stage.parent, &stage.base) {
        (Some(parent), _) => format!("on {parent}"),
        (None, Some(base)) => format!("on a {} base by bootstrap", base.bootstrap.suite),
        (None, None) => "on nothing".to_owned(),
    };
    let _ = writeln!(out, "{} {} {from}", stage.name, stage.fingerprint.short());
    if !stage.description.is_empty() {
        let _ = writeln!(out, "  {}", stage.description.trim());
    }
    for (variable, chosen) in &stage.alternatives {
        let _ = writeln!(out, "  {variable}: {} ({})", chosen.value, chosen.how);
    }
    steps_text(out, "layer", &stage.steps);
    if let Some(password) = &stage.seal.root_password {
        let _ = writeln!(out, "  seal   root password {}", password.masked());
    }
    steps_text(out, "seal ", &stage.seal.steps);
    let _ = writeln!(out, "  image  {}/{}.qcow2 {}", stage.name, stage.name, stage.seal.fingerprint.short());
}

fn steps_text(out: &mut String, part: &str, steps: &[Step]) {
    for step in steps {
        let kind = match &step.provisioner.action {
            crate::template::Action::Shell(_) => "shell",
            crate::template::Action::File(_) => "file ",
        };
        let _ = writeln!(out, "  {part}  {} {kind} {}", step.fingerprint.short(), step.provisioner.label);
    }
}
