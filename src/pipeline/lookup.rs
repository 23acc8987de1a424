//! What a build would find in the cache and in the results, looked up as the build does it, without doing anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Results, checkpoint};
use crate::cache::{Found, Layer};
use crate::error::{Error, Result};
use crate::plan::{Plan, Stage};

/// What is there of a base disk or a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Nothing will ask for it.
    Unneeded,
    /// It is in the cache.
    Hit,
    /// A checkpoint of it is in the cache.
    Resume {
        /// Steps that are done there.
        done: usize,
    },
    /// It will be made from its beginning.
    Miss,
    /// That depends on the values of secrets that are not given.
    Unknown {
        /// Their names.
        without: Vec<String>,
    },
}

/// What is there of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ImageState {
    /// It is there with nothing changed.
    Hit,
    /// It is there with nothing changed but perhaps the values of secrets that are not given.
    Unknown {
        /// Their names.
        without: Vec<String>,
    },
    /// It will be made.
    Miss {
        /// Why.
        because: Miss,
    },
}

/// Why an image will be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Miss {
    /// `--force`.
    Forced,
    /// There is none, and never was one that the cache knows of.
    New,
    /// The file of one that was built is not there.
    Removed,
    /// Its manifest is not there.
    NoManifest,
    /// The file was changed after it was built.
    ChangedByHand,
    /// The file is not from a build with this cache.
    NotOurs,
    /// It was made of something else.
    Inputs,
    /// A step is done in every build.
    Never,
}

/// What is there of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageState {
    /// Template name.
    pub name: String,
    /// The base disk, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<State>,
    /// Its layer.
    pub layer: State,
    /// Its image.
    pub image: ImageState,
}

impl StageState {
    /// Whether nothing of it is done.
    pub fn is_unchanged(&self) -> bool {
        self.image == ImageState::Hit && self.is_unchanged_as_known()
    }

    /// Whether nothing of it is done unless secrets changed that are not given.
    pub fn is_unchanged_as_known(&self) -> bool {
        let idle = |state: &State| matches!(state, State::Unneeded | State::Hit);
        let image = matches!(self.image, ImageState::Hit | ImageState::Unknown { .. });
        image && idle(&self.layer) && self.base.as_ref().is_none_or(idle)
    }
}

/// Looks for everything that a build of `plan` would look for, in its order. `missing` are names of secrets that are
/// not given.
///
/// # Errors
/// The cache cannot be read (kind host).
pub fn look_up(plan: &Plan, results: &Results, missing: &BTreeSet<String>) -> Result<Vec<StageState>> {
    look_up_for(plan, results, missing, &BTreeSet::new())
}

/// Likewise for a run that has built what is in the cache under the keys `built`.
pub(super) fn look_up_for(
    plan: &Plan,
    results: &Results,
    missing: &BTreeSet<String>,
    built: &BTreeSet<String>,
) -> Result<Vec<StageState>> {
    let mut lookup = Lookup { plan, results, missing, built, states: BTreeMap::new(), below: BTreeMap::new() };
    for stage in &plan.stages {
        let image = lookup.image(stage)?;
        let base = stage.base.as_ref().map(|_| State::Unneeded);
        let state = StageState { name: stage.name.clone(), base, layer: State::Unneeded, image };
        lookup.states.insert(stage.name.clone(), state);
    }
    for stage in &plan.stages {
        if lookup.states.get(&stage.name).is_some_and(|state| matches!(state.image, ImageState::Miss { .. })) {
            lookup.layer(stage)?;
        }
    }
    Ok(plan.stages.iter().filter_map(|stage| lookup.states.remove(&stage.name)).collect())
}

struct Lookup<'a> {
    plan: &'a Plan,
    results: &'a Results,
    missing: &'a BTreeSet<String>,
    built: &'a BTreeSet<String>,
    states: BTreeMap<String, StageState>,
    /// What lies on a layer that was looked for, by template.
    below: BTreeMap<String, Below>,
}

/// What a disk lies on.
#[derive(Debug, Clone)]
enum Below {
    /// A layer that is there; it stays while this value lives.
    There(std::sync::Arc<Layer>),
    /// One that will be made.
    New,
    Unknown(Vec<String>),
}

impl Lookup<'_> {
    fn image(&self, stage: &Stage) -> Result<ImageState> {
        let miss = |because| Ok(ImageState::Miss { because });
        let results = self.results;
        if results.force {
            return miss(Miss::Forced);
        }
        let path = results.image(stage);
        let found = crate::cache::SealedState::find(&results.cache, &path);
        let (wanted, built) = match found {
            Found::Missing if results.history.newest(&stage.name).is_none() => return miss(Miss::New),
            Found::Missing => return miss(Miss::Removed),
            Found::Unknown => return miss(Miss::NotOurs),
            Found::Changed => return miss(Miss::ChangedByHand),
            Found::Built(built) => (results.wanted(stage)?, built),
        };
        if results.is_never_kept(stage) {
            return miss(Miss::Never);
        }
        if !results.manifest(stage).is_file() {
            return miss(Miss::NoManifest);
        }
        let without = self.lacking(&stage.seal.secrets);
        let given = |state: &crate::cache::SealedState| {
            let mut state = state.clone();
            state.secrets.retain(|name, _| !without.contains(name));
            state
        };
        match (given(&wanted) == given(&built), without.is_empty()) {
            (false, _) => miss(Miss::Inputs),
            (true, true) => Ok(ImageState::Hit),
            (true, false) => Ok(ImageState::Unknown { without }),
        }
    }

    fn lacking(&self, names: &BTreeSet<String>) -> Vec<String> {
        names.intersection(self.missing).cloned().collect()
    }

    fn layer(&mut self, stage: &Stage) -> Result<Below> {
        if let Some(below) = self.below.get(&stage.name) {
            return Ok(below.clone());
        }
        let below = match (&stage.base, stage.parent.as_deref().and_then(|name| self.plan.stage(name))) {
            (Some(_), _) => self.base(stage)?,
            (None, Some(parent)) => self.layer(parent)?,
            (None, None) => {
                return Err(Error::build(format!("the plan has no stage for the parent of `{}`", stage.name)));
            }
        };
        let (state, on) = self.layer_on(stage, below)?;
        if let Some(of) = self.states.get_mut(&stage.name) {
            of.layer = state;
        }
        self.below.insert(stage.name.clone(), on.clone());
        Ok(on)
    }

    fn layer_on(&self, stage: &Stage, below: Below) -> Result<(State, Below)> {
        let on = match below {
            Below::New => return Ok((State::Miss, Below::New)),
            Below::Unknown(without) => return Ok(unknown(without)),
            Below::There(on) => on,
        };
        let without = self.lacking(&stage.secrets);
        if !without.is_empty() {
            return Ok(unknown(without));
        }
        let results = self.results;
        let key = results.key(&stage.fingerprint, &stage.secrets)?;
        let reuse = |done: usize, key: &str| results.may_reuse_steps(self.plan, stage, done, key, self.built);
        if reuse(stage.steps.len(), &key)
            && let Some(found) = results.cache.layers().get(&key, Some(&on.info.instance))?
        {
            return Ok((State::Hit, Below::There(found.into())));
        }
        let state = match checkpoint::find(results, stage, &on, &reuse, &|_| {})? {
            Some((done, _)) => State::Resume { done },
            None => State::Miss,
        };
        Ok((state, Below::New))
    }

    fn base(&mut self, stage: &Stage) -> Result<Below> {
        let Some(base) = &stage.base else { return Ok(Below::New) };
        let without = self.lacking(&base.secrets);
        let (state, below) = if without.is_empty() {
            let key = self.results.key(&base.fingerprint, &base.secrets)?;
            let found = self.results.cache.bases().get(&key, None)?;
            let found = found.filter(|_| self.results.may_reuse(&key, self.built));
            match found {
                Some(found) => (State::Hit, Below::There(found.into())),
                None => (State::Miss, Below::New),
            }
        } else {
            unknown(without)
        };
        if let Some(of) = self.states.get_mut(&stage.name) {
            of.base = Some(state);
        }
        Ok(below)
    }
}

fn unknown(without: Vec<String>) -> (State, Below) {
    (State::Unknown { without: without.clone() }, Below::Unknown(without))
}
