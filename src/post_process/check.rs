//! What can be known before anything slow begins.

use std::ffi::OsStr;
use std::path::Path;

use super::look_up;
use crate::error::{Error, Kind, Problem, Result};
use crate::plan::{Plan, PostStep, Stage};
use crate::preflight::tools;
use crate::template::paths::resolved;
use crate::template::post_processor::{PostProcessor, Processing};

/// Says that the post-processors of `plan` can do their work with results in the folder `output`, and that the programs of
/// what is left are on the search path `search`.
///
/// # Errors
/// One would write over results (kind usage), or a program is missing (kind host).
pub fn check(plan: &Plan, output: &Path, search: &OsStr) -> Result<()> {
    let stages = || plan.stages.iter().filter(|stage| !stage.post_processors.is_empty());
    check_outputs(plan, output)?;
    for stage in stages() {
        if let Some(step) = needs_qemu_img(stage, output).filter(|_| tools::find("qemu-img", search).is_none()) {
            let PostProcessor { label, location, .. } = &step.post_processor;
            let message = format!("post-processor `{label}` ({location}) needs `qemu-img`, which is not on this host");
            return Err(Error::host(message).hint("install it (on Debian: `apt-get install qemu-utils`)"));
        }
    }
    Ok(())
}

/// Says that no post-processor of `plan` would write over results in the folder `output`.
///
/// # Errors
/// One would (kind usage).
pub fn check_outputs(plan: &Plan, output: &Path) -> Result<()> {
    let steps = plan.stages.iter().flat_map(|stage| stage.post_processors.iter().flatten());
    let problems: Vec<Problem> = steps.flat_map(|step| over_results(&step.post_processor, output)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::problems(Kind::Usage, problems)) }
}

/// Absolute names that would be in the folder of the results of a template.
fn over_results(step: &PostProcessor, output: &Path) -> Vec<Problem> {
    let inside = |name: &&str| {
        let Ok(path) = resolved(Path::new(name)) else { return false };
        let Ok(rest) = path.strip_prefix(output) else { return false };
        rest.components().count() != 1 || rest.to_string_lossy().starts_with('.')
    };
    let problem = |name: &str| {
        let message = format!("`{name}` of post-processor `{}` is among the results of a build", step.label);
        Problem::at(step.location.clone(), message)
            .hint("a name that is not absolute is in the template's own folder of the results")
    };
    let outputs = step.processing.outputs();
    outputs.into_iter().filter(|name| Path::new(name).is_absolute()).filter(inside).map(problem).collect()
}

/// A step of `stage` that is left and converts.
fn needs_qemu_img<'a>(stage: &'a Stage, output: &Path) -> Option<&'a PostStep> {
    let steps = stage.post_processors.iter().flatten();
    let converts = |step: &PostStep| matches!(step.post_processor.processing, Processing::Convert(_));
    steps.zip(look_up(stage, output, true)).find(|(step, state)| converts(step) && !state.is_done).map(|(step, _)| step)
}
