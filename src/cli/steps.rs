//! Steps as they are named on the command line: `[TEMPLATE:]STEP`.

use crate::error::{Error, Result};
use crate::pipeline::StepReference;
use crate::plan::{Plan, Stage};
use crate::template::Template;

use super::args::BuildArgs;
use super::project::Failures;

/// A step that is left out, at the user's word after it had failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The step; it counts among all that its template has.
    pub step: StepReference,
    /// Its label, by which it is known after the template was edited.
    pub label: String,
}

/// The steps at which the work of a build begins anew, and ends.
///
/// # Errors
/// They are not in the plan, or contradict each other or what is kept (kind usage).
pub(super) fn of_build(args: &BuildArgs, plan: &Plan) -> Result<(Option<StepReference>, Option<StepReference>)> {
    let search = Search { plan, named: &args.project.templates, skipped: &args.project.skipped };
    let mut failures = Failures::default();
    let from = args.from.as_deref().map(|text| search.find("--from", text));
    let from = failures.take(from.transpose()).flatten();
    let until = args.until.as_deref().map(|text| search.find("--until", text));
    let until = failures.take(until.transpose()).flatten();
    failures.end()?;
    if let Some(until) = &until {
        check_end(plan, from.as_ref(), until)?;
    }
    Ok((from, until))
}

/// Whether work can end with `until`.
fn check_end(plan: &Plan, from: Option<&StepReference>, until: &StepReference) -> Result<()> {
    let Some(stage) = plan.stage(&until.template) else { return Ok(()) };
    if let Some(from) = from {
        let is_later = from.template == until.template && from.step > until.step;
        if is_later || !plan.lies_on(stage, &from.template) {
            return Err(Error::usage("`--from` names a step that is not done before the one of `--until`"));
        }
    }
    let parent = stage.parent.as_deref().and_then(|name| plan.stage(name));
    if parent.is_some_and(|parent| parent.never_kept) || until.step >= stage.steps_that_can_be_kept() {
        return Err(Error::usage("`--until`: nothing would be kept, because a step up to there says `cache: never`"));
    }
    Ok(())
}

/// Takes the skipped steps out of `template`.
pub(super) fn leave_out(template: &mut Template, skipped: &[Skipped]) {
    let mut left: Vec<bool> = vec![true; template.provisioners.len()];
    for skipped in skipped.iter().filter(|skipped| skipped.step.template == template.name) {
        // The nearest with that label: the template may have been edited since.
        let is_it = |index: &usize| left[*index] && template.provisioners[*index].label == skipped.label;
        let nearest = (0..left.len()).filter(is_it).min_by_key(|index| index.abs_diff(skipped.step.step));
        if let Some(index) = nearest {
            left[index] = false;
        }
    }
    let mut left = left.into_iter();
    template.provisioners.retain(|_| left.next().unwrap_or(true));
}

/// The number, from 0 among all of its template's, of the step that is number `index` of those that are left.
pub(super) fn original(skipped: &[Skipped], template: &str, index: usize) -> usize {
    left(skipped, template).nth(index).unwrap_or(index)
}

/// Numbers of the steps that are not skipped, without end.
fn left<'a>(skipped: &'a [Skipped], template: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_skipped =
        move |number: &usize| skipped.iter().any(|one| one.step.template == template && one.step.step == *number);
    (0..).filter(move |number| !is_skipped(number))
}

/// Where steps are looked for.
struct Search<'a> {
    plan: &'a Plan,
    /// The templates that the command line names.
    named: &'a [String],
    skipped: &'a [Skipped],
}

impl Search<'_> {
    /// The step that `text` names: by its number from 1, its label, or the name of its script. Without a template it is
    /// one of the only template that is named, or of the only one that no other lies on.
    ///
    /// # Errors
    /// There is no such step, or several are meant (kind usage); the steps that there are come with it.
    fn find(&self, option: &str, text: &str) -> Result<StepReference> {
        let (plan, named) = (self.plan, self.named);
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
        let is_meant = |index: usize| match step.parse::<usize>() {
            Ok(number) => original(self.skipped, &stage.name, index) + 1 == number,
            Err(_) => names(stage, index).iter().any(|name| name == step),
        };
        let found: Vec<usize> = (0..stage.steps.len()).filter(|index| is_meant(*index)).collect();
        match found[..] {
            [index] => Ok(StepReference { template: stage.name.clone(), step: index }),
            [] => Err(wrong(format!("`{}` has no such step", stage.name)).hint(self.list(stage))),
            _ => Err(wrong(format!("`{}` has several such steps", stage.name)).hint(self.list(stage))),
        }
    }

    fn list(&self, stage: &Stage) -> String {
        let numbers = left(self.skipped, &stage.name);
        let steps =
            numbers.zip(&stage.steps).map(|(number, step)| format!("\n{}  {}", number + 1, step.provisioner.label));
        format!("its steps are{}", steps.collect::<String>())
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
