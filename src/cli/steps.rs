//! Steps as they are named on the command line: `[TEMPLATE:]STEP`.

use crate::error::{Error, Result};
use crate::pipeline::StepReference;
use crate::plan::{Plan, Stage};

/// The step of `plan` that `text` names: by its number from 1, its label, or the name of its script. Without a template
/// it is one of the only template in `named`, or of the only one that no other lies on.
///
/// # Errors
/// There is no such step, or several are meant (kind usage); the steps that there are come with it.
pub(super) fn find(plan: &Plan, named: &[String], option: &str, text: &str) -> Result<StepReference> {
    let wrong = |what: String| Error::usage(format!("`{option} {text}`: {what}"));
    let (stage, step) = match text.split_once(':') {
        Some((template, step)) if plan.stage(template).is_some() => (plan.stage(template), step),
        _ => (only(plan, named), text),
    };
    let Some(stage) = stage else {
        let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
        return Err(wrong("of which template?".to_owned())
            .hint(format!("write TEMPLATE:STEP, where TEMPLATE is one of {}", names.join(", "))));
    };
    let found: Vec<usize> = match step.parse::<usize>() {
        Ok(number) => (number.wrapping_sub(1) < stage.steps.len()).then(|| number - 1).into_iter().collect(),
        Err(_) => (0..stage.steps.len()).filter(|index| names(stage, *index).iter().any(|name| name == step)).collect(),
    };
    match found[..] {
        [index] => Ok(StepReference { template: stage.name.clone(), step: index }),
        [] => Err(wrong(format!("`{}` has no such step", stage.name)).hint(list(stage))),
        _ => Err(wrong(format!("`{}` has several such steps", stage.name)).hint(list(stage))),
    }
}

/// The template that is meant where none is said.
fn only<'a>(plan: &'a Plan, named: &[String]) -> Option<&'a Stage> {
    if let [name] = named {
        return plan.stage(name);
    }
    let mut leaves = plan.stages.iter().filter(|stage| !plan.is_parent(&stage.name));
    leaves.next().filter(|_| leaves.next().is_none())
}

/// What a step may be called: its label, and the last part of that where it is a path.
fn names(stage: &Stage, index: usize) -> Vec<String> {
    let label = &stage.steps[index].provisioner.label;
    let file = label.rsplit('/').next().unwrap_or(label);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    [label, file, stem].map(str::to_owned).to_vec()
}

fn list(stage: &Stage) -> String {
    let steps =
        stage.steps.iter().enumerate().map(|(index, step)| format!("\n{}  {}", index + 1, step.provisioner.label));
    format!("its steps are{}", steps.collect::<String>())
}
