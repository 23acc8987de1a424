//! Checkpoints: what a stage's disk was after a provisioner, from which the next build goes on.
//!
//! Of every one the disk is kept: a build that goes on from it boots the guest anew, as after a power cut at a quiet
//! moment, with what the steps so far have written. Programs that they started by hand, and what lies in memory only
//! (/run), are gone then. Of the last one of a stage, and after a lot of work, QEMU's guest is kept with its memory
//! ([`super::memory`]), and goes on in a second or two.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use secrecy::ExposeSecret;
use serde::Serialize;

use super::engine::{self, Machine};
use super::guest_scripts::quiet;
use super::memory::{self, Restorable};
use super::session::{Booted, Connected, Prepared, Provisioned, Start};
use super::timings::Timings;
use super::{Context, Results, layer, packages};
use crate::cache::{Layer, LayerInfo, SavedGuest, SavedMemory, memory_of, replace_file};
use crate::disk_space;
use crate::engine::Engine;
use crate::error::{Context as _, Kind, Result};
use crate::guest::Guest;
use crate::image::qemu_img;
use crate::package_cache::Session;
use crate::plan::{Stage, Step};

/// After this much work one that is costly gets a checkpoint, seconds. It takes a fraction of a second itself, and some MiB.
const COSTLY: f64 = 2.0;

/// After this much work the memory is kept, too, seconds: writing it takes about a second a GiB.
const WORTH_MEMORY: f64 = 20.0;

/// What is left free beside a memory, bytes.
const RESERVE: u64 = 1 << 30;

/// After which provisioners there is a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// After every one.
    All,
    /// After those that took, with the ones before them, two seconds.
    #[default]
    Costly,
    /// After none.
    None,
}

/// Whether checkpoints have their guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// The last one of a stage, where the machine allows it.
    #[default]
    Auto,
    /// None has.
    None,
}

/// The last step of `stage` that has a checkpoint: how many are done, and the disk. `below` is what the stage starts
/// from; `reuse` says whether what it was after so many steps may be used, which is in the cache under a key; `warn` is
/// told of what is there and is of no use.
///
/// # Errors
/// The cache cannot be read (kind host).
pub(super) fn find(
    results: &Results,
    stage: &Stage,
    below: &Layer,
    reuse: &dyn Fn(usize, &str) -> bool,
    warn: &dyn Fn(String),
) -> Result<Option<(usize, Layer)>> {
    let store = results.cache.checkpoints();
    for (index, step) in stage.steps.iter().enumerate().take(stage.steps_that_can_be_kept()).rev() {
        let key = results.key(&step.fingerprint, &stage.secrets)?;
        if reuse(index + 1, &key)
            && let Some(found) = store.find(&key, Some(&below.info.instance), warn)?
        {
            return Ok(Some((index + 1, found)));
        }
    }
    Ok(None)
}

/// Makes checkpoints of a stage that is being provisioned.
pub(super) struct Checkpoints<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    /// The instance of the layer that the stage starts from.
    parent: String,
    /// The checkpoints that the disk lies on, as far as this build made or found them; they stay in the cache as long
    /// as this value.
    kept: Vec<Layer>,
    /// Steps of the stage that were done in an earlier build.
    found: usize,
    /// The guest went on with its memory.
    was_restored: bool,
    /// Steps that are done, and those after which it ends.
    done: usize,
    end: usize,
    /// What the guest writes to.
    disk: PathBuf,
    /// Its virtual size, bytes.
    size: u64,
    since: Instant,
    /// Work since the last checkpoint, and since the last that has the memory, seconds.
    unsaved: f64,
    not_in_memory: f64,
    packages: Option<Arc<Session>>,
}

impl<'a> Checkpoints<'a> {
    /// Makes the disk of `stage` on its last checkpoint, or on `below`, for its steps up to number `end`.
    ///
    /// # Errors
    /// The cache cannot be read, or qemu-img fails.
    pub(super) async fn begin(context: &'a Context<'a>, stage: &'a Stage, below: &Layer, end: usize) -> Result<Self> {
        let packages = context.serve_packages(&stage.name).await?;
        let reuse = |done: usize, key: &str| context.may_reuse_steps(stage, done, key);
        let warn = context.warns(&stage.name);
        let (found, kept) = match find(&context.settings.results, stage, below, &reuse, &warn)? {
            Some((found, layer)) => (found, vec![layer]),
            None => (0, Vec::new()),
        };
        if found > 0 {
            let label = &stage.steps[found - 1].provisioner.label;
            let left = stage.steps.len() - found;
            let text = format!("what it was after `{label}` is in the cache; steps left to do: {left}");
            context.events.info(Some(&stage.name), text);
        }
        let disk = context.work.join(format!("{}.layer.qcow2", stage.name));
        let on = kept.last().map_or(&below.disk, |layer| &layer.disk);
        qemu_img::create_overlay(on, &disk, stage.disk_size, context.cancel).await?;
        let size = qemu_img::info(&disk, context.cancel).await?.virtual_size;
        let (parent, since) = (below.info.instance.clone(), Instant::now());
        Ok(Self {
            context,
            stage,
            parent,
            kept,
            found,
            was_restored: false,
            done: found,
            end,
            disk,
            size,
            since,
            unsaved: 0.0,
            not_in_memory: 0.0,
            packages,
        })
    }

    /// What the guest writes to.
    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// Runs the steps that are left.
    ///
    /// # Errors
    /// The guest does not come up, or a step fails.
    pub(super) async fn provision(&mut self, timings: &mut Timings) -> Result<Provisioned<'a>> {
        let connected = self.enter(timings).await?;
        let left = self.left();
        connected.provision(left, Some(self), timings).await
    }

    /// Says what the package cache had, and explains a failure by it.
    pub(super) fn explained<T>(&self, result: Result<T>) -> Result<T> {
        packages::explained(self.packages.as_deref(), result)
    }

    /// The guest of the last checkpoint, ready for the next step: it goes on with its memory, or boots from its disk.
    async fn enter(&mut self, timings: &mut Timings) -> Result<Connected<'a>> {
        if let Some(memory) = self.memory() {
            match self.connect(self.start().with_memory(memory), timings).await {
                Err(error) if error.kind() != Kind::Interrupted => {
                    let why = error.chain().join(": ");
                    let text = format!("the guest boots from its disk, as its memory is of no use: {why}");
                    self.context.events.warn(Some(&self.stage.name), text);
                    self.renew_disk().await?;
                }
                connected => {
                    self.was_restored = true;
                    return connected;
                }
            }
        }
        self.connect(self.start(), timings).await
    }

    fn start(&self) -> Start {
        let former = self.kept.last().and_then(|from| from.info.guest.clone());
        Start::layer(self.disk.clone()).with(self.packages.clone()).after(former)
    }

    async fn connect(&self, start: Start, timings: &mut Timings) -> Result<Connected<'a>> {
        Prepared::new(self.context, self.stage, start)?.boot(timings).await?.connect(timings).await
    }

    /// Makes the disk anew, after a guest has written to it that is of no use.
    async fn renew_disk(&self) -> Result<()> {
        let Some(on) = self.kept.last() else { return Ok(()) };
        fs::remove_file(&self.disk).context(Kind::Host, || format!("removing {}", self.disk.display()))?;
        qemu_img::create_overlay(&on.disk, &self.disk, self.stage.disk_size, self.context.cancel).await
    }

    /// The guest that the stage goes on with, if its memory is there and can be read.
    fn memory(&self) -> Option<Restorable> {
        let settings = self.context.settings;
        let is_used = settings.engine == Engine::Qemu && settings.checkpoint_memory == Memory::Auto;
        self.kept.last().filter(|_| is_used).and_then(|from| Restorable::of(from).ok().flatten())
    }

    /// How many steps are done.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// The steps that are left to do.
    pub(super) fn left(&self) -> &'a [Step] {
        self.stage.steps.get(self.done..self.end).unwrap_or_default()
    }

    /// What to say beside the failure of a step, where the steps before it were not done in this build.
    pub(super) fn hint(&self) -> Option<String> {
        (self.found > 0 && !self.was_restored).then(|| {
            format!(
                "this build went on from a checkpoint after `{}`: what steps had started by hand was not running any \
                 more; `--checkpoints none --force` builds from the start",
                self.stage.steps[self.found - 1].provisioner.label
            )
        })
    }

    /// A step begins.
    pub(super) fn begin_step(&mut self) {
        self.since = Instant::now();
    }

    /// A step ended well: the guest is kept if that is worth it.
    ///
    /// # Errors
    /// The guest, the machine or the cache fails.
    pub(super) async fn end_step(
        &mut self,
        booted: &Booted<'_>,
        guest: &mut Guest,
        timings: &mut Timings,
    ) -> Result<()> {
        self.done += 1;
        let seconds = self.since.elapsed().as_secs_f64();
        self.unsaved += seconds;
        self.not_in_memory += seconds;
        let left = self.stage.steps.len() - self.done;
        let (worth_it, is_wanted) = match self.context.settings.checkpoints {
            Policy::All => (0.0, true),
            Policy::Costly => (COSTLY, self.unsaved >= COSTLY),
            Policy::None => (f64::INFINITY, false),
        };
        let is_last = left == 1 && self.not_in_memory >= worth_it;
        let is_worth_memory = is_last || (is_wanted && self.not_in_memory >= WORTH_MEMORY);
        let machine = if is_worth_memory { self.machine(booted) } else { None };
        let is_asked_for = self.done == self.end;
        let is_wanted = is_wanted || machine.is_some() || is_asked_for;
        // The last step's disk is the layer, which is clean, too. Nobody goes on from what is done in every build.
        let is_of_use = left > 0 && self.done <= self.stage.steps_that_can_be_kept();
        if !(is_wanted && is_of_use) {
            return Ok(());
        }
        let phase = timings.phase("checkpoint");
        quiet(guest, &phase, async || self.keep(booted, machine, timings).await).await?;
        timings.done(phase);
        Ok(())
    }

    /// The name of the machine, and its size, if its memory can be kept.
    fn machine(&self, booted: &Booted<'_>) -> Option<(String, (u32, u64))> {
        let (engine::Config::Qemu(config), Machine::Qemu(machine)) = booted.machine() else { return None };
        let version = machine.version();
        let is_kept = memory::is_kept(self.context.settings, config) && memory::can_be_written(version);
        // The guest must be able to go on writing to its disk.
        let room = disk_space::free(self.context.settings.results.cache.root()).unwrap_or(u64::MAX);
        (is_kept && room >= (config.memory << 20) + RESERVE)
            .then(|| (memory::name(config, version, &self.context.work), (config.cpus, config.memory)))
    }

    /// Keeps what the guest has written so far, and its memory where its machine has a name; it goes on with an overlay
    /// on that.
    async fn keep(
        &mut self,
        booted: &Booted<'_>,
        machine: Option<(String, (u32, u64))>,
        timings: &Timings,
    ) -> Result<()> {
        let store = self.context.settings.results.cache.checkpoints();
        let step = &self.stage.steps[self.done - 1];
        let key = self.context.settings.results.key(&step.fingerprint, &self.stage.secrets)?;
        let mut info = self.info(timings);
        let _lock = layer::take_lock(self.context, &self.stage.name, store.build_lock(&key)?).await?;
        let linked = store.link(&key, &self.disk, &info)?;
        let overlay = self.context.work.join(format!("{}.layer.{}.qcow2", self.stage.name, self.done));
        // Its backing file is open for writing, and so its size cannot be asked for.
        qemu_img::create_overlay_unseen(&linked.path, &overlay, self.size, self.context.cancel).await?;
        let authorized = booted.authorized().to_vec();
        let memory = match machine {
            Some((machine, size)) => {
                let blake3 = self.keep_memory(booted, &linked.path, &overlay).await?;
                blake3.map(|blake3| SavedMemory { machine, blake3, size })
            }
            None => {
                booted.machine().1.disk().continue_on(&overlay).await?;
                None
            }
        };
        if memory.is_some() {
            self.kept.iter().for_each(Layer::forget_memory);
            self.not_in_memory = 0.0;
        }
        info.guest = Some(SavedGuest { authorized, memory });
        let layer = store.record(&key, &info)?;
        self.context.mark_built(&key);
        self.kept.push(layer);
        // What has another name in the cache must not be found here by who looks at a failed build: it would be written to.
        let _ = fs::remove_file(std::mem::replace(&mut self.disk, overlay));
        self.unsaved = 0.0;
        booted.writes_to(&self.disk)
    }

    /// Keeps the memory beside the `disk`; returns its digest, if that was done. The guest goes on with `overlay` in any
    /// case.
    async fn keep_memory(&self, booted: &Booted<'_>, disk: &Path, overlay: &Path) -> Result<Option<String>> {
        let Machine::Qemu(machine) = booted.machine().1 else { return Ok(None) };
        let (memory, key) = memory_of(disk);
        let before = machine.disk().overlays().await;
        let saved = async {
            machine.save_memory(overlay, &memory, self.context.cancel).await?;
            let file = booted.key().file()?;
            let keep = || format!("keeping {}", memory.display());
            replace_file(&key, file.expose_secret().as_bytes(), 0o600).context(Kind::Host, keep)?;
            let written = File::open(&memory).context(Kind::Host, keep)?;
            let synced = tokio::task::spawn_blocking(move || written.sync_all()).await.context(Kind::Host, keep)?;
            synced.context(Kind::Host, keep)?;
            memory::digest(&memory).await
        };
        let error = match saved.await {
            Ok(digest) => return Ok(Some(digest)),
            Err(error) => error,
        };
        let _ = fs::remove_file(&memory);
        let _ = fs::remove_file(&key);
        if let Some(ended) = machine.watch().has_ended() {
            return Err(ended.into());
        }
        self.context.cancelled()?;
        // Whatever has failed, a guest that stands still would be waited for in vain.
        machine.resume().await?;
        let text = format!("the checkpoint has no memory: {}", error.chain().join(": "));
        self.context.events.warn(Some(&self.stage.name), text);
        if machine.disk().overlays().await == before {
            machine.disk().continue_on(overlay).await?;
        }
        Ok(None)
    }

    /// The record of what the disk is now.
    pub(super) fn info(&self, timings: &Timings) -> LayerInfo {
        let engine = Some(self.context.settings.engine);
        let beneath = self.kept.last().map(Layer::chain).unwrap_or_default();
        let parent = Some(self.parent.clone());
        let before = self.kept.first().filter(|_| self.found > 0).map(|layer| layer.info.fetched.as_slice());
        let fetched = self.packages.as_ref().map(|packages| packages.files()).unwrap_or_default();
        let fetched = packages::joined(before.unwrap_or_default(), fetched);
        LayerInfo { engine, parent, beneath, fetched, ..layer::info(&self.stage.name, timings) }
    }
}
