//! `visabuild plan`.

use serde_json::json;

use super::args::{PlanArgs, PlanFormat};
use super::look::{estimate, explained};
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, packer, print};
use crate::cache::Share;
use crate::error::Result;
use crate::pipeline::{Explanation, ImageState, State, StepState};
use crate::plan::{Spot, Stage, counted};
use crate::report::duration;

/// Prints the plan, with what is there of it and how long the rest took last; secrets need not be given and are never
/// shown.
pub(super) async fn run(args: PlanArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    if args.format == PlanFormat::Packer {
        return packer::print_manifest(&args.project, environment);
    }
    let mut prepared = Prepared::new(&args.project, environment, true, signals.cancel()).await?;
    // The plan itself needs no cache.
    let status = explained(&mut prepared, &args.look, environment);
    let text = if args.format == PlanFormat::Json || args.project.json {
        let plan = &prepared.plan;
        let status = status.ok();
        let estimate = status.as_ref().map(|status| {
            json!({
                "seconds": status.iter().map(|one| one.estimate_seconds).sum::<f64>(),
                "complete": status.iter().all(|one| one.estimate_is_complete),
            })
        });
        let host = prepared.host_facts();
        let plan = json!({
            "version": plan.version, "stages": plan.stages, "host": host, "status": status, "estimate": estimate,
        });
        format!("{plan:#}\n")
    } else {
        match &status {
            Ok(status) => with_notes(&prepared, status),
            Err(error) => format!("{}not looked up: {error}\n", prepared.plan.to_text()),
        }
    };
    print(&text);
    Ok(())
}

fn with_notes(prepared: &Prepared, status: &[Explanation]) -> String {
    let note = |stage: &Stage, spot: Spot| {
        let found = status.iter().find(|one| one.state.name == stage.name);
        found.map(|one| note(one, stage, spot)).unwrap_or_default()
    };
    let left = status.iter().flat_map(|one| &one.post_processors).filter(|state| !state.is_done).count();
    let total = if status.iter().all(|one| one.state.is_unchanged_as_known()) && left > 0 {
        format!("no image to build, {} to run", counted(left, "post-processor"))
    } else if status.iter().all(|one| one.state.is_unchanged()) {
        "nothing to do: every image is there with nothing changed".to_owned()
    } else if status.iter().all(|one| one.state.is_unchanged_as_known()) {
        "nothing to do: every image is there with nothing changed, unless secrets did".to_owned()
    } else {
        format!("time: {}", estimate(status))
    };
    format!("{}{total}\n", prepared.plan.to_text_with(&note))
}

fn note(explanation: &Explanation, stage: &Stage, spot: Spot) -> String {
    let timed = |state: &str, seconds: Option<f64>| match seconds {
        Some(seconds) => format!("{state}, {}", duration(seconds)),
        None => state.to_owned(),
    };
    let step = |index: usize| -> Option<String> {
        let step = explanation.steps.get(index);
        let unknown = match (step?.share, &explanation.state.layer, &explanation.state.image) {
            (Share::Layer, State::Unknown { without }, _) | (Share::Seal, _, ImageState::Unknown { without }) => {
                without
            }
            _ => return Some(timed(step_word(step?.state), step?.seconds)),
        };
        Some(timed(&unknown_without(unknown), step?.seconds))
    };
    match spot {
        Spot::Base => match &explanation.state.base {
            None | Some(State::Unneeded) => String::new(),
            Some(State::Hit) => "hit".to_owned(),
            Some(State::Unknown { without }) => unknown_without(without),
            Some(State::Miss | State::Resume { .. }) => timed("miss", explanation.base_seconds),
        },
        Spot::Step(index) => step(index).unwrap_or_default(),
        Spot::SealStep(index) => step(stage.steps.len() + index).unwrap_or_default(),
        Spot::Image => match &explanation.state.image {
            ImageState::Hit => "hit".to_owned(),
            ImageState::Unknown { without } => unknown_without(without),
            ImageState::Miss { .. } => "miss".to_owned(),
        },
        Spot::PostProcessor(index) => match explanation.post_processors.get(index) {
            Some(state) if state.is_done => "hit".to_owned(),
            Some(_) => "miss".to_owned(),
            None => String::new(),
        },
    }
}

fn unknown_without(secrets: &[String]) -> String {
    format!("unknown without {}", crate::pipeline::options(secrets))
}

fn step_word(state: StepState) -> &'static str {
    match state {
        StepState::Hit => "hit",
        StepState::Resume => "resume",
        StepState::Miss => "miss",
        StepState::Unknown => "unknown",
    }
}
