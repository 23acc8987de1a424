//! `visabuild cache`: what is kept between builds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::FromArgMatches;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::args::{Cli, Command};
use super::cache_args::{CacheArgs, CacheCommand, GcArgs, LsArgs, VerifyArgs};
use super::cache_table::{columns, table, title};
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, cache_folder, command_line, print};
use crate::cache::{self, Cache, Collector, Inventory, Item, ItemKind, Outcome, Reason, Rules, State, Verified};
use crate::error::{Context, Error, Kind, Problem, Result};
use crate::pipeline;
use crate::plan::Plan;
use crate::report::size;
use crate::source::bootstrap;

/// Runs `cache ls`, `gc` or `verify`.
pub(super) async fn run(args: CacheArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let cache = Cache::open(&cache_folder(environment)?)?;
    match args.command {
        CacheCommand::Ls(args) => ls(&args, &cache),
        CacheCommand::Gc(args) => gc(&args, &cache, environment, signals.cancel()).await,
        CacheCommand::Verify(args) => verify(&args, &cache, signals.cancel()).await,
    }
}

fn ls(args: &LsArgs, cache: &Cache) -> Result<()> {
    let mut inventory = Inventory::of(cache)?;
    let here = [PathBuf::from(".")];
    let projects = if args.directory.is_empty() { &here[..] } else { &args.directory };
    inventory.note_results(&results(projects));
    if args.json {
        print(&format!("{}\n", shown(&inventory)?));
    } else {
        print(&table(&inventory, now()));
    }
    Ok(())
}

async fn gc(args: &GcArgs, cache: &Cache, environment: &Environment, cancel: &CancellationToken) -> Result<()> {
    let needed = needed(args, environment, cancel).await?;
    let collector = Collector::begin(cache)?;
    let inventory = Inventory::of(cache)?;
    let rules = Rules {
        now: now(),
        older_than: args.older_than,
        max_size: args.max_size,
        all: args.all,
        unreachable: args.unreachable,
        reachable: inventory.with_fingerprints(&needed),
        kept: args.kept,
        beside: inventory.others.iter().map(|other| other.bytes).sum(),
    };
    let chosen = cache::choose(&inventory.items, &rules);
    let mut removal = Removal::default();
    for (item, reason) in chosen {
        if cancel.is_cancelled() {
            return Err(Error::new(Kind::Interrupted, "stopped; what was not removed yet is still there"));
        }
        let outcome = if args.dry_run { Outcome::Removed } else { remove(&collector, item, cancel).await };
        removal.note(item, reason, outcome);
    }
    if !args.dry_run {
        collector.remove_locks(&inventory);
    }
    let left = inventory.bytes.saturating_sub(removal.freed);
    removal.tell(args.json, args.dry_run, left)?;
    if let Some(most) = args.max_size.filter(|most| left > *most && !args.json) {
        let (left, most) = (size(left), size(most));
        print(&format!("left: {left}, more than {most}: it is in use, kept or needed\n"));
    }
    removal.failures()
}

/// Removes one thing, also what a bootstrap of an ordinary user has left.
async fn remove(collector: &Collector<'_>, item: &Item, cancel: &CancellationToken) -> Outcome {
    let outcome = collector.remove(item);
    if item.kind == ItemKind::Work && matches!(outcome, Outcome::Failed(_)) {
        let base = pipeline::base_folder(&collector.root().join(&item.id));
        if bootstrap::clean(&base, cancel).await.is_ok() {
            // What kept it is gone already.
            return collector.remove(&Item { state: State::Abandoned, ..item.clone() });
        }
    }
    outcome
}

/// What was removed, for the output.
#[derive(Default)]
struct Removal {
    lines: Vec<(Item, Reason, Outcome)>,
    freed: u64,
}

impl Removal {
    fn note(&mut self, item: &Item, reason: Reason, outcome: Outcome) {
        if outcome == Outcome::Removed {
            self.freed += item.bytes;
        }
        self.lines.push((item.clone(), reason, outcome));
    }

    fn tell(&self, json: bool, dry_run: bool, left: u64) -> Result<()> {
        if json {
            let removed: Vec<Json> = self.lines.iter().map(as_json).collect();
            let all = json!({"dry_run": dry_run, "items": removed, "freed": self.freed, "left": left});
            print(&format!("{}\n", shown(&all)?));
            return Ok(());
        }
        let rows: Vec<[String; 4]> = self.lines.iter().map(|line| row(line, dry_run)).collect();
        print(&columns(&rows));
        let would = if dry_run { "would be freed" } else { "freed" };
        print(&format!("{would}: {}\n", size(self.freed)));
        Ok(())
    }

    fn failures(&self) -> Result<()> {
        let failed = self.lines.iter().filter_map(|(item, _, outcome)| match outcome {
            Outcome::Failed(why) => Some(Problem::new(format!("cannot remove {} ({}): {why}", title(item), item.id))),
            _ => None,
        });
        let failed: Vec<Problem> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(Error::problems(Kind::Host, failed)) }
    }
}

fn row((item, reason, outcome): &(Item, Reason, Outcome), dry_run: bool) -> [String; 4] {
    let done = match outcome {
        Outcome::Removed if dry_run => "would remove",
        Outcome::Removed => "removed",
        Outcome::InUse => "left, in use now",
        Outcome::Failed(_) => "not removed",
    };
    let why = match (reason, &item.why) {
        (Reason::Useless, Some(why)) => format!("{}: {why}", item.state.word()),
        (reason, _) => reason.word().to_owned(),
    };
    [done.to_owned(), title(item), size(item.bytes), why]
}

fn as_json((item, reason, outcome): &(Item, Reason, Outcome)) -> Json {
    json!({"id": item.id, "kind": item.kind, "template": item.template, "bytes": item.bytes,
           "reason": reason, "why": item.why, "outcome": outcome})
}

/// Fingerprints of what the projects need now, and of what their images were made from.
async fn needed(args: &GcArgs, environment: &Environment, cancel: &CancellationToken) -> Result<BTreeSet<String>> {
    let mut projects = args.directory.clone();
    if projects.is_empty() && args.unreachable {
        projects.push(PathBuf::from("."));
    }
    let mut needed: BTreeSet<String> = results(&projects).into_values().flatten().collect();
    for project in &projects {
        let prepared = prepared(project, environment, cancel).await?;
        needed.extend(fingerprints(&prepared.plan));
        needed.extend(prepared.instead.iter().flat_map(fingerprints));
    }
    Ok(needed)
}

/// The project in `folder`, as `plan` sees it.
async fn prepared(folder: &Path, environment: &Environment, cancel: &CancellationToken) -> Result<Prepared> {
    let argv = ["visabuild".as_ref(), "plan".as_ref(), "-C".as_ref(), folder.as_os_str()];
    let matches = command_line().try_get_matches_from(argv);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.context(Kind::Usage, || format!("the project {} cannot be read", folder.display()))?;
    let Command::Plan(plan) = cli.command else {
        return Err(Error::usage(format!("the project {} cannot be read", folder.display())));
    };
    let prepared = Prepared::new(&plan.project, environment, true, cancel).await;
    prepared.map_err(|error| error.hint("nothing was removed, because it is not known what the project needs"))
}

/// Of base disks, layers and checkpoints alike; which secrets they hold does not matter here.
fn fingerprints(plan: &Plan) -> impl Iterator<Item = String> {
    let of_stages = plan.stages.iter().flat_map(|stage| {
        let bases = stage.base.iter().map(|base| &base.fingerprint);
        bases.chain(stage.steps.iter().map(|step| &step.fingerprint)).chain([&stage.fingerprint])
    });
    of_stages.map(|fingerprint| fingerprint.as_str().to_owned())
}

/// The images of projects, and the fingerprints of what they were made from, out of their manifests.
fn results(projects: &[PathBuf]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let folders = projects.iter().filter_map(|project| fs::read_dir(project.join("builds")).ok());
    for folder in folders.flat_map(Iterator::flatten).map(|entry| entry.path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = fs::read(folder.join(format!("{name}.manifest.json"))).unwrap_or_default();
        let manifest: Json = serde_json::from_slice(&manifest).unwrap_or_default();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let used = layers.filter_map(|layer| Some(layer["fingerprint"].as_str()?.to_owned()));
        found.entry(name).or_insert_with(BTreeSet::new).extend(used);
    }
    found
}

async fn verify(args: &VerifyArgs, cache: &Cache, cancel: &CancellationToken) -> Result<()> {
    // What is removed later is what was looked at: no collection in between.
    let collector = if args.repair { Some(Collector::begin(cache)?) } else { None };
    let inventory = Inventory::of(cache)?;
    let terminal = io::stderr().is_terminal();
    let begin = |item: &Item| {
        if terminal {
            // Over the line before; printing can only fail when nobody reads.
            let _ = write!(io::stderr(), "\r\x1b[Kverifying {} ({})", title(item), size(item.bytes));
        }
    };
    let found = cache::verify(cache, &inventory, begin, cancel).await;
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let found = found?;
    let mut removal = Removal::default();
    if let Some(collector) = &collector {
        let broken = found.broken.iter().map(|broken| broken.id.clone()).collect();
        let all = cache::with_all_on(&inventory.items, &broken);
        // A folder that the user has kept is not ours to repair.
        for (item, reason) in all.into_iter().filter(|(item, _)| item.kind != ItemKind::Work) {
            removal.note(item, reason, remove(collector, item, cancel).await);
        }
    }
    if args.json {
        let removed: Vec<Json> = removal.lines.iter().map(as_json).collect();
        print(&format!("{}\n", shown(&json!({"found": found, "removed": removed}))?));
    } else {
        tell(&found);
        if !removal.lines.is_empty() {
            removal.tell(false, false, 0)?;
        }
    }
    verdict(&found, &inventory, &removal)
}

fn tell(found: &Verified) {
    print(&format!("verified: {} of {}; broken: {}\n", found.verified, size(found.bytes), found.broken.len()));
    if !found.adopted.is_empty() {
        print(&format!("without a digest until now: {}\n", found.adopted.len()));
    }
}

/// What is broken and still there.
fn verdict(found: &Verified, inventory: &Inventory, removal: &Removal) -> Result<()> {
    let is_gone =
        |id: &str| removal.lines.iter().any(|(item, _, outcome)| item.id == id && *outcome == Outcome::Removed);
    let left = found.broken.iter().filter(|broken| !is_gone(&broken.id)).map(|broken| {
        let name = inventory.item(&broken.id).map_or_else(String::new, title);
        let problem = Problem::new(format!("{name} ({}): {}", broken.id, broken.problems.join("; ")));
        let others = match broken.with_it.len() {
            0 => String::new(),
            count => format!(" with {count} on it"),
        };
        if removal.lines.is_empty() {
            return problem
                .hint(format!("`visabuild cache verify --repair` removes it{others}; the next build makes it anew"));
        }
        problem.hint("a running build uses it, or a kept folder lies on it: repair again when that is gone")
    });
    let left: Vec<Problem> = left.collect();
    if left.is_empty() { Ok(()) } else { Err(Error::problems(Kind::Host, left)) }
}

fn shown(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).context(Kind::Host, || "cannot show what is in the cache")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
