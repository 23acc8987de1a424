//! Why a stage is built again, from where, and how long that will take.

use std::collections::BTreeSet;
use std::fs;

use serde::{Deserialize, Serialize};

use super::lookup::{ImageState, Miss, StageState, State, look_up_for};
use super::{Context, Results};
use crate::cache::{Share, Times, small_text};
use crate::error::Result;
use crate::image::manifest::Timing;
use crate::plan::{
    BaseSource, Detail, Difference, How, PartChange, PartKind, Plan, Record, Stage, Step, counted, difference,
};
use crate::post_process::{self, PostState};

/// What a build will do with a stage, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// What is there.
    #[serde(flatten)]
    pub state: StageState,
    /// In one sentence what will be done and why.
    pub headline: String,
    /// When and by what the image was built that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Built>,
    /// What changed since the newest image of the template; none where there is nothing to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// What is not made again.
    pub kept: Vec<String>,
    /// Its steps, those of the layer first.
    pub steps: Vec<StepTime>,
    /// What is made of the image, those of the first chain first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_processors: Vec<PostState>,
    /// How long the base disk took last, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_seconds: Option<f64>,
    /// About how long it will take, seconds: the sum of what is known.
    pub estimate_seconds: f64,
    /// Whether it is known of everything that will be done how long it took.
    pub estimate_is_complete: bool,
}

/// An earlier build of an image.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// When it ended, seconds since 1970.
    pub created: u64,
    /// The visabuild that made it.
    pub visabuild: String,
    /// What booted its guests.
    pub engine: String,
}

/// A step with the time that it took last.
#[derive(Debug, Clone, Serialize)]
pub struct StepTime {
    /// Of the layer or of the seal.
    pub share: Share,
    /// Its label.
    pub label: String,
    /// Where the manifest says it.
    pub place: String,
    /// What a build does with it.
    pub state: StepState,
    /// How long it took last, seconds; none where it was never done.
    pub seconds: Option<f64>,
}

/// What a build does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// What it made is kept.
    Hit,
    /// It is the first that is done; those before it are kept.
    Resume,
    /// It is done.
    Miss,
    /// That depends on secrets that are not given.
    Unknown,
}

/// Explains every stage of `plan`. `missing` are names of secrets that are not given.
///
/// # Errors
/// The cache cannot be read (kind host).
pub fn explain(plan: &Plan, results: &Results, missing: &BTreeSet<String>) -> Result<Vec<Explanation>> {
    explain_for(plan, results, missing, &BTreeSet::new())
}

fn explain_for(
    plan: &Plan,
    results: &Results,
    missing: &BTreeSet<String>,
    built: &BTreeSet<String>,
) -> Result<Vec<Explanation>> {
    let states = look_up_for(plan, results, missing, built)?;
    let explained = plan.stages.iter().zip(&states).map(|(stage, state)| {
        let old = results.history.newest(&stage.name);
        let difference = match &old {
            Some(old) => {
                let changed = difference(old, &results.record(plan, stage, missing)?);
                Some(changed.with_diffs(|sha256| content(results, stage, sha256)))
            }
            None => None,
        };
        let post_processors =
            post_process::look_up(stage, &results.output, !matches!(state.image, ImageState::Miss { .. }));
        let explained = one(stage, (state, &states), old.as_ref().zip(difference), &times(results, stage));
        Ok(Explanation { post_processors, ..explained })
    });
    explained.collect()
}

/// The content of a file that a record or `stage` names.
fn content(results: &Results, stage: &Stage, sha256: &str) -> Option<String> {
    let now = || stage.files().find(|file| file.sha256 == sha256).and_then(|file| small_text(&file.path));
    results.history.content(sha256).or_else(now)
}

/// Tells in one line why `stage` is built.
pub(super) fn tell(context: &Context<'_>, stage: &Stage) {
    let built = context.settings.built.0.lock().map(|built| built.clone()).unwrap_or_default();
    match explain_for(context.plan, &context.settings.results, &BTreeSet::new(), &built) {
        Ok(explained) => {
            let own = explained.iter().find(|explanation| explanation.state.name == stage.name);
            own.into_iter().for_each(|own| context.events.info(Some(&stage.name), &own.headline));
        }
        // Whatever it is, the build itself will meet it where it matters.
        Err(error) => context.events.debug(Some(&stage.name), error.chain().join(": ")),
    }
}

/// How long the parts of `stage` took last: what is remembered, else what the manifest of its image says.
fn times(results: &Results, stage: &Stage) -> Times {
    let mut times = results.history.times(&stage.name);
    let manifest = fs::read(results.manifest(stage)).unwrap_or_default();
    let Ok(Manifest { layers, timings }) = serde_json::from_slice(&manifest) else { return times };
    let is_step = |name: &str| stage.steps.iter().chain(&stage.seal.steps).any(|step| step.provisioner.label == name);
    let shares = layers.into_iter().filter_map(|layer| match layer.template.as_str() {
        "base" if stage.base.is_some() => Some((Share::Base, layer.timings)),
        name if name == stage.name => Some((Share::Layer, layer.timings)),
        _ => None,
    });
    for (share, timings) in shares.chain([(Share::Seal, timings)]) {
        times.fill_in(share, timings.into_iter().map(|timing| (is_step(&timing.phase), timing.phase, timing.seconds)));
    }
    times
}

/// What of an image's manifest is about time.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<ManifestLayer>,
    timings: Vec<Timing>,
}

#[derive(Deserialize)]
struct ManifestLayer {
    template: String,
    timings: Vec<Timing>,
}

fn one(
    stage: &Stage,
    (state, states): (&StageState, &[StageState]),
    changed: Option<(&Record, Difference)>,
    times: &Times,
) -> Explanation {
    let (old, difference) = changed.unzip();
    let steps = steps(stage, state, times);
    let base_seconds = stage.base.as_ref().and_then(|base| {
        let bootstrap = matches!(base.source, BaseSource::Bootstrap(_));
        times.rest(Share::Base, |name| (name == "bootstrap") == bootstrap)
    });
    let mut to_do: Vec<Option<f64>> = Vec::new();
    if state.base == Some(State::Miss) {
        to_do.push(base_seconds);
    }
    if matches!(state.layer, State::Miss | State::Resume { .. }) {
        to_do.push(times.rest(Share::Layer, |_| true));
    }
    if matches!(state.layer, State::Unknown { .. }) {
        to_do.push(None);
    }
    if matches!(state.image, ImageState::Miss { .. }) {
        to_do.push(times.rest(Share::Seal, |_| true));
        to_do.extend(times.rest(Share::Verification, |_| true).map(Some));
    }
    let done = steps.iter().filter(|step| matches!(step.state, StepState::Miss | StepState::Resume));
    to_do.extend(done.map(|step| step.seconds));
    Explanation {
        headline: headline(stage, (state, states), old, difference.as_ref()),
        compared_with: old.map(|old| Built {
            created: old.facts.created,
            visabuild: old.facts.visabuild.clone(),
            engine: old.facts.engine.clone(),
        }),
        kept: kept(stage, state),
        state: state.clone(),
        difference: difference.filter(|difference| !difference.is_empty()),
        post_processors: Vec::new(),
        base_seconds,
        estimate_seconds: to_do.iter().flatten().sum(),
        estimate_is_complete: to_do.iter().all(Option::is_some),
        steps,
    }
}

fn steps(stage: &Stage, state: &StageState, times: &Times) -> Vec<StepTime> {
    let time = |share: Share, step: &Step, state: StepState| StepTime {
        share,
        label: step.provisioner.label.clone(),
        place: step.provisioner.location.to_string(),
        state,
        seconds: times.step(share, &step.provisioner.label, &step.identity()),
    };
    let of_layer = |index: usize| match &state.layer {
        State::Unneeded | State::Hit => StepState::Hit,
        State::Resume { done } if index < *done => StepState::Hit,
        State::Resume { done } if index == *done => StepState::Resume,
        State::Resume { .. } | State::Miss => StepState::Miss,
        State::Unknown { .. } => StepState::Unknown,
    };
    let of_seal = match &state.image {
        ImageState::Hit => StepState::Hit,
        ImageState::Unknown { .. } => StepState::Unknown,
        ImageState::Miss { .. } => StepState::Miss,
    };
    let layer = stage.steps.iter().enumerate().map(|(index, step)| time(Share::Layer, step, of_layer(index)));
    let seal = stage.seal.steps.iter().map(|step| time(Share::Seal, step, of_seal));
    layer.chain(seal).collect()
}

fn kept(stage: &Stage, state: &StageState) -> Vec<String> {
    let mut kept = Vec::new();
    if state.base == Some(State::Hit) {
        kept.push("the base disk".to_owned());
    }
    match &state.layer {
        State::Hit => kept.push("its layer, with all steps".to_owned()),
        State::Resume { done } => kept.push(format!("{} of {}", counted(*done, "step"), stage.steps.len())),
        State::Unneeded | State::Miss | State::Unknown { .. } => {}
    }
    kept
}

fn headline(
    stage: &Stage,
    (state, states): (&StageState, &[StageState]),
    old: Option<&Record>,
    difference: Option<&Difference>,
) -> String {
    let from = match (&state.base, &state.layer) {
        (Some(State::Miss), _) => "from the base disk".to_owned(),
        (_, State::Miss) if stage.steps.is_empty() => String::new(),
        (_, State::Miss) => step_name(stage, 0),
        (_, State::Resume { done }) => step_name(stage, *done),
        (_, State::Unneeded | State::Hit | State::Unknown { .. }) => String::new(),
    };
    let why = || why(stage, (state, states), difference);
    match (&state.image, &state.layer) {
        (ImageState::Hit, State::Unneeded | State::Hit | State::Unknown { .. }) => "up to date".to_owned(),
        (ImageState::Hit, _) => {
            format!("up to date, but its layer is made again for what extends it: {}", why())
        }
        (ImageState::Unknown { without }, _) => {
            format!("up to date unless secrets changed; unknown without {}", options(without))
        }
        (ImageState::Miss { .. }, State::Unknown { without }) => {
            format!("rebuilding, from where is unknown without {}: {}", options(without), why())
        }
        (ImageState::Miss { .. }, State::Hit) => format!("sealing its layer anew: {}", why()),
        (ImageState::Miss { because: Miss::New }, _) if old.is_none() => "building for the first time".to_owned(),
        (ImageState::Miss { .. }, _) if from.is_empty() => format!("rebuilding: {}", why()),
        (ImageState::Miss { .. }, _) => format!("rebuilding {from}: {}", why()),
    }
}

fn step_name(stage: &Stage, index: usize) -> String {
    match stage.steps.get(index) {
        Some(step) => format!("from step {} `{}`", index + 1, step.provisioner.label),
        None => "after its last step".to_owned(),
    }
}

/// The options that give secrets.
pub fn options(secrets: &[String]) -> String {
    let option = |name: &str| match name {
        "pam_public_key" => "-pp",
        name if name.starts_with("root_password") => "-rp",
        _ => "its secrets",
    };
    let names: BTreeSet<&str> = secrets.iter().map(|name| option(name)).collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}

/// The reason that counts first.
fn why(stage: &Stage, (state, states): (&StageState, &[StageState]), difference: Option<&Difference>) -> String {
    let ImageState::Miss { because } = state.image else { return evicted(state) };
    let parent = stage.parent.as_deref().and_then(|name| states.iter().find(|state| state.name == name));
    let parent_is_made = parent.is_some_and(|parent| matches!(parent.layer, State::Miss | State::Resume { .. }));
    let layer = difference.and_then(Difference::first_of_layer);
    let made = matches!(state.layer, State::Miss | State::Resume { .. });
    if because == Miss::Forced {
        return "--force".to_owned();
    }
    if let Some(changed) = layer {
        let from = match &state.layer {
            State::Miss => Some(0),
            State::Resume { done } => Some(*done),
            State::Unneeded | State::Hit | State::Unknown { .. } => None,
        };
        let is_step = changed.kind == PartKind::Step && changed.how != How::Removed;
        return match from {
            // It was named already.
            Some(from) if is_step && from == changed.index => what_of(changed),
            Some(from) if is_step && from < changed.index && !parent_is_made && state.base != Some(State::Miss) => {
                format!("{}; the disk before it is not in the cache", brief(changed))
            }
            _ => brief(changed),
        };
    }
    if let Some(parent) = difference.and_then(|difference| difference.parent.as_deref()) {
        return format!("its parent `{parent}` changed");
    }
    if parent_is_made && let Some(parent) = &stage.parent {
        return format!("its parent `{parent}` is made again");
    }
    if let Some(index) = stage.steps.iter().position(Step::is_never_kept) {
        let says = "says `cache: never`";
        // A stage goes on right there if it can.
        return match &state.layer {
            State::Resume { done } if *done == index => format!("it {says}"),
            _ => format!("step {} `{}` {says}", index + 1, stage.steps[index].provisioner.label),
        };
    }
    if let Some(changed) = difference.and_then(|difference| difference.parts.first()) {
        return brief(changed);
    }
    let secrets = difference.map(|difference| difference.secrets.as_slice()).unwrap_or_default();
    if !secrets.is_empty() {
        return format!(
            "the {} `{}` changed",
            if secrets.len() == 1 { "secret" } else { "secrets" },
            secrets.join("`, `")
        );
    }
    if let Some(setting) = difference.and_then(|difference| difference.settings.first()) {
        return detail(setting);
    }
    match because {
        Miss::New => "it was never built here".to_owned(),
        Miss::Removed => "the image is not there any more".to_owned(),
        Miss::NoManifest => "the image's manifest is not there any more".to_owned(),
        Miss::ChangedByHand => "the image was changed after it was built".to_owned(),
        Miss::NotOurs => "the image there is not from a build with this cache".to_owned(),
        Miss::Never => "a step of the seal says `cache: never`".to_owned(),
        Miss::Inputs if difference.is_none() => {
            "the image there was made of something else, which is not known".to_owned()
        }
        Miss::Inputs | Miss::Forced if made => evicted(state),
        Miss::Inputs | Miss::Forced => "it was made of something else".to_owned(),
    }
}

/// Why what did not change is made again.
fn evicted(state: &StageState) -> String {
    match (&state.base, &state.layer) {
        (Some(State::Miss), _) => "the base disk is not in the cache any more".to_owned(),
        _ => "its layer is not in the cache any more".to_owned(),
    }
}

/// A change in a few words.
fn brief(change: &PartChange) -> String {
    let what = match change.kind {
        PartKind::Base => "the base disk".to_owned(),
        PartKind::Disk | PartKind::Seal => "the template".to_owned(),
        PartKind::Step => format!("step {} `{}`", change.index + 1, change.label),
        PartKind::SealStep => format!("step {} `{}` of the seal", change.index + 1, change.label),
    };
    match change.how {
        How::Added => format!("{what} is new"),
        How::Removed => format!("step `{}` was removed", change.label),
        How::Moved => format!("{what} was moved"),
        How::Changed => format!("{what}: {}", what_of(change)),
    }
}

/// What happened to a part that is named already.
fn what_of(change: &PartChange) -> String {
    match (change.how, change.details.first()) {
        (How::Added, _) => "it is new".to_owned(),
        (How::Removed, _) => "it was removed".to_owned(),
        (How::Moved, _) => "it was moved".to_owned(),
        (How::Changed, None) => "it changed".to_owned(),
        (How::Changed, Some(first)) => match change.details.len() - 1 {
            0 => detail(first),
            more => format!("{} and {more} more", detail(first)),
        },
    }
}

/// One change in a few words, without long texts.
fn detail(detail: &Detail) -> String {
    match detail {
        Detail::Value { name, old, new } => {
            let short = |value: &Option<String>| match value {
                None => Some("unset".to_owned()),
                Some(text) => (text.chars().count() <= 40 && !text.contains('\n')).then(|| format!("`{text}`")),
            };
            match (short(old), short(new)) {
                (Some(old), Some(new)) => format!("{name} {old} → {new}"),
                _ => format!("{name} changed"),
            }
        }
        Detail::File(file) => match (&file.old, &file.new) {
            (None, _) => format!("`{}` is new", file.name),
            (_, None) => format!("`{}` was removed", file.name),
            (Some(_), Some(new)) if file.is_mode_only() && new.executable => {
                format!("`{}` is executable now", file.name)
            }
            (Some(_), Some(_)) if file.is_mode_only() => format!("`{}` is not executable any more", file.name),
            (Some(_), Some(_)) => format!("`{}` changed", file.name),
        },
        Detail::Tool(name) => format!("visabuild's own script `{name}` is another version"),
    }
}
