//! The plan for people.

use std::fmt::Write as _;

use super::{Plan, Stage, Step};

/// A line of a stage that may have a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// What it starts from.
    Base,
    /// A step of the layer, from 0.
    Step(usize),
    /// A step of the seal, from 0.
    SealStep(usize),
    /// The image.
    Image,
    /// A post-processor, from 0, those of the first chain first.
    PostProcessor(usize),
}

/// `1 step`, `2 steps`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// One block a stage: where it starts, its steps, its seal.
pub(super) fn render(plan: &Plan, note: &dyn Fn(&Stage, Spot) -> String) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        stage_text(&mut out, stage, &|spot| match note(stage, spot) {
            note if note.is_empty() => note,
            note => format!("  [{note}]"),
        });
    }
    out
}

// Writing to a String cannot fail, so the results of `writeln!` are not looked at.
fn stage_text(out: &mut String, stage: &Stage, note: &dyn Fn(Spot) -> String) {
    let from = match (&stage.parent, &stage.base) {
        (Some(parent), _) => format!("on {parent}"),
        (None, Some(base)) => format!("on a {}", base.source.summary()),
        (None, None) => "on nothing".to_owned(),
    };
    let _ = writeln!(out, "{} {} {from}{}", stage.name, stage.fingerprint.short(), note(Spot::Base));
    if !stage.description.is_empty() {
        let _ = writeln!(out, "  {}", stage.description.trim());
    }
    for (variable, chosen) in &stage.alternatives {
        let _ = writeln!(out, "  {variable}: {} ({})", chosen.value, chosen.how);
    }
    steps_text(out, "layer", &stage.steps, &|at| note(Spot::Step(at)));
    if let Some(password) = &stage.seal.root_password {
        let _ = writeln!(out, "  seal   root password {}", password.masked());
    }
    steps_text(out, "seal ", &stage.seal.steps, &|at| note(Spot::SealStep(at)));
    let image = note(Spot::Image);
    let _ = writeln!(out, "  image  {}/{}.qcow2 {}{image}", stage.name, stage.name, stage.seal.fingerprint.short());
    for (at, step) in stage.post_processors.iter().flatten().enumerate() {
        let note = note(Spot::PostProcessor(at));
        let _ = writeln!(out, "  post   {} {}{note}", step.fingerprint.short(), step.post_processor.summary());
    }
}

fn steps_text(out: &mut String, part: &str, steps: &[Step], note: &dyn Fn(usize) -> String) {
    for (at, step) in steps.iter().enumerate() {
        let kind = step.provisioner.action.kind();
        let Step { provisioner, fingerprint, .. } = step;
        let _ = writeln!(out, "  {part}  {} {kind:5} {}{}", fingerprint.short(), provisioner.label, note(at));
    }
}
