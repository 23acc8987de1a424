//! The order of a verification: the disk as it lies there, then the boots, each with its checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::{StreamExt, stream};
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::contract::{Boot, Check, Contract, Level, Port};
use super::disk::Disk;
use super::disk::scan::Secret;
use super::instance::{self, Instance, Place, slowness};
use super::probes::{Bench, Offline};
use super::report::{BootReport, CheckReport, Component, Outcome, Report};
use super::token::Signer;
use crate::error::{Error, Kind, Result};
use crate::event::{Events, Phase};
use crate::image::Checksums;
use crate::image::manifest::rfc3339_now;
use crate::machine::{Accelerator, cpus_of_one};

/// RSA bits of the key that tokens are signed with: as PEM it fits Nova's 255 characters of a
/// metadata value, and its tokens fit RDP's password.
const KEY_BITS: usize = 896;

/// Lines of the serial console that a report keeps of each boot.
const SERIAL_TAIL: usize = 60;

/// What is verified, against what, and how.
#[derive(Debug)]
pub struct Options<'a> {
    /// The image.
    pub image: &'a Path,
    /// Its SHA-256, hexadecimal, where it is known already.
    pub sha256: Option<String>,
    /// What it is called in events.
    pub name: &'a str,
    /// What it must be.
    pub contract: &'a Contract,
    /// Ids of the checks that are made.
    pub selected: BTreeSet<String>,
    /// Components that the image must have.
    pub required: BTreeSet<String>,
    /// What must not be on the disk.
    pub secrets: Vec<Secret>,
    /// Root's password that was asked for.
    pub root_password: Option<SecretString>,
    /// What runs the guests' instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs of an instance. None gives the first boot, in which most is looked at, all of the host's, and
    /// the others their share.
    pub cpus: Option<u32>,
    /// Memory, MiB.
    pub memory: u64,
    /// Boots at a time.
    pub jobs: usize,
    /// Folder for overlays, copies and sockets.
    pub work: &'a Path,
    /// Overlays and logs stay there.
    pub keep: bool,
    /// The image may lie on another file. Whoever made an image chose that file, and the instance can read it.
    pub allow_backing: bool,
}

/// Least memory of an instance with a desktop and notebooks, MiB.
pub const LEAST_MEMORY: u64 = 3072;

/// A report, and the pictures that belong to it (title and PNG).
pub type Found = (Report, Pictures);

/// Verifies an image.
///
/// # Errors
/// The image cannot be read at all (kind usage or verification), the host cannot do it (kind host),
/// or `cancel` fires. An image that is not as it should be is no error: the report tells.
pub async fn verify(options: &Options<'_>, events: &Events, cancel: &CancellationToken) -> Result<Found> {
    let begun = Instant::now();
    let started = rfc3339_now();
    let phase = events.phase(options.name, "read the image");
    let disk = Disk::open(options.image, options.allow_backing, options.work, &phase, cancel).await?;
    let sha256 = match &options.sha256 {
        Some(sha256) => sha256.clone(),
        None => Checksums::in_background(options.image.to_owned()).await?.sha256,
    };
    phase.finish();
    let offline = Offline {
        files: disk.files().map_err(|error| error.chain().join(": ")),
        disk: &disk,
        secrets: &options.secrets,
        root_password: options.root_password.as_ref(),
        image: options.image,
    };
    let components = components(options, &offline)?;
    let mut run = Run {
        options,
        events,
        cancel,
        offline: &offline,
        components: &components,
        signer: Signer::generate(KEY_BITS)?,
        stranger: Signer::generate(KEY_BITS)?,
        outcomes: BTreeMap::new(),
        boots: Vec::new(),
        pictures: Vec::new(),
    };
    run.set_apart();
    run.without_a_boot().await?;
    run.boots().await?;
    let Run { mut outcomes, boots, pictures, .. } = run;
    let checks = options.contract.checks.iter().map(|check| {
        let (outcome, seconds) = outcomes.remove(&check.id).unwrap_or((Outcome::Skipped, 0.0));
        CheckReport {
            id: check.id.clone(),
            statement: check.statement.clone(),
            level: check.level,
            boot: check.boot.map(|index| options.contract.boots[index].name.clone()),
            outcome,
            seconds,
        }
    });
    let report = Report {
        image: options.image.to_owned(),
        sha256,
        contract: options.contract.name.clone(),
        contract_sha256: options.contract.sha256.clone(),
        visabuild: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        seconds: begun.elapsed().as_secs_f64(),
        accelerator: (!boots.is_empty()).then(|| options.accelerator.to_string()),
        components,
        boots,
        checks: checks.collect(),
        pictures: pictures.iter().map(|(title, _)| title.clone()).collect(),
    };
    Ok((redacted(report, events), pictures))
}

/// What a guest says may hold a secret, and goes into files.
fn redacted(mut report: Report, events: &Events) -> Report {
    let hide = |text: &mut String| *text = events.redact(text);
    for boot in &mut report.boots {
        boot.serial_tail.iter_mut().for_each(hide);
        boot.failure.iter_mut().for_each(hide);
    }
    for check in &mut report.checks {
        match &mut check.outcome {
            Outcome::Failed { failures } => failures.iter_mut().for_each(|failure| {
                [&mut failure.probe, &mut failure.expected, &mut failure.seen].into_iter().for_each(hide);
                failure.look.iter_mut().for_each(hide);
            }),
            Outcome::NotRun { why, .. } | Outcome::NotApplicable { why } => hide(why),
            Outcome::Passed | Outcome::Skipped => {}
        }
    }
    report
}

/// Which parts of the platform the image has.
fn components(options: &Options<'_>, offline: &Offline<'_>) -> Result<Vec<Component>> {
    let component = |component: &super::contract::Component| {
        let (applies, why) = if options.required.contains(&component.name) {
            (true, "it was asked for".to_owned())
        } else {
            match &offline.files {
                Ok(files) => match files.glob(&component.file)?.first() {
                    Some(path) => (true, format!("the image has {}", path.display())),
                    None => (false, format!("the image has no {}", component.file)),
                },
                // Better a check too many than one that nobody made.
                Err(why) => (true, format!("nobody knows: {why}")),
            }
        };
        Ok(Component { name: component.name.clone(), applies, why })
    };
    options.contract.components.iter().map(component).collect()
}

struct Run<'a> {
    options: &'a Options<'a>,
    events: &'a Events,
    cancel: &'a CancellationToken,
    offline: &'a Offline<'a>,
    /// In the contract's order.
    components: &'a [Component],
    signer: Signer,
    stranger: Signer,
    outcomes: Outcomes,
    boots: Vec<BootReport>,
    pictures: Pictures,
}

impl<'a> Run<'a> {
    /// The checks that are not made, and why.
    fn set_apart(&mut self) {
        for check in &self.options.contract.checks {
            let missing = check.component.map(|index| &self.components[index]).filter(|component| !component.applies);
            let outcome = if !self.options.selected.contains(&check.id) {
                Outcome::Skipped
            } else if let Some(component) = missing {
                Outcome::NotApplicable { why: component.why.clone() }
            } else {
                continue;
            };
            self.outcomes.insert(check.id.clone(), (outcome, 0.0));
        }
    }

    fn left(&self, belongs: impl Fn(&Check) -> bool) -> Vec<&'a Check> {
        let checks = self.options.contract.checks.iter();
        checks.filter(|check| belongs(check) && !self.outcomes.contains_key(&check.id)).collect()
    }

    async fn without_a_boot(&mut self) -> Result<()> {
        let checks = self.left(|check| check.level == Level::Static);
        if checks.is_empty() {
            return Ok(());
        }
        let phase = self.events.phase(self.options.name, "checks without a boot");
        let (outcomes, _) = self.checks(&checks, None, &phase, self.cancel).await?;
        phase.finish();
        self.outcomes.extend(outcomes);
        Ok(())
    }

    /// All boots, some at a time: an emulated guest seldom keeps more than one processor busy.
    async fn boots(&mut self) -> Result<()> {
        // One that ends the verification ends the others, and none is left when this returns.
        let stop = self.cancel.child_token();
        let boots = self.options.contract.boots.iter().enumerate();
        let boots = boots.map(|(index, boot)| (boot, self.left(|check| check.boot == Some(index))));
        let boots: Vec<_> = boots.filter(|(_, checks)| !checks.is_empty()).collect();
        let this = &*self;
        let stop = &stop;
        let booted = stream::iter(boots).enumerate().map(|(number, (boot, checks))| async move {
            let share = if number == 0 { 1 } else { this.options.jobs };
            let cpus = this.options.cpus.unwrap_or_else(|| cpus_of_one(this.options.accelerator, share));
            let result = this.boot(boot, cpus, checks, stop).await;
            if result.is_err() {
                stop.cancel();
            }
            (number, result)
        });
        // Whichever ends first makes room for the next.
        let mut booted: Vec<(usize, Result<Booted>)> =
            booted.buffer_unordered(this.options.jobs.max(1)).collect().await;
        booted.sort_by_key(|(number, _)| *number);
        let mut errors = Vec::new();
        for (_, result) in booted {
            match result {
                Ok(booted) => {
                    self.outcomes.extend(booted.outcomes);
                    self.boots.push(booted.report);
                    self.pictures.extend(booted.pictures);
                }
                Err(error) => errors.push(error),
            }
        }
        // The others were only stopped.
        errors.sort_by_key(|error| error.kind() == Kind::Interrupted);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Boots once, and makes the checks of this boot; those that cut the power come last.
    async fn boot(
        &self,
        boot: &Boot,
        cpus: u32,
        mut checks: Vec<&'a Check>,
        cancel: &CancellationToken,
    ) -> Result<Booted> {
        checks.sort_by_key(|check| check.level == Level::Life);
        let begun = Instant::now();
        let phase = self.events.phase(self.options.name, format!("boot `{}`: {}", boot.name, boot.description()));
        let place = Place {
            accelerator: self.options.accelerator,
            cpus,
            memory: self.options.memory,
            work: self.options.work,
            name: self.options.name,
            events: self.events,
            cancel,
        };
        let info = self.offline.disk.info();
        let image = instance::Image { path: self.options.image, format: &info.format, virtual_size: info.virtual_size };
        let mut booted = Booted::new(boot);
        match Instance::start(&place, &image, boot, self.ports(), self.signer.public_pem()).await {
            Ok(mut instance) => {
                let done = self.checks_of_boot(&mut instance, boot, &checks, phase, &mut booted, cancel).await;
                booted.report.times.clone_from(&instance.times);
                booted.report.serial_tail = tail(&instance.serial());
                instance.stop(self.options.keep).await;
                done?;
            }
            Err(error) if ends_all(&error, cancel) => return Err(error),
            Err(error) => booted.report.failure = Some(error.chain().join(": ")),
        }
        if let Some(failure) = &booted.report.failure {
            let why = format!("boot `{}` came to no good end: {failure}", boot.name);
            for check in checks {
                let not_run = Outcome::NotRun { why: why.clone(), not_given: false };
                booted.outcomes.entry(check.id.clone()).or_insert((not_run, 0.0));
            }
        }
        booted.report.seconds = begun.elapsed().as_secs_f64();
        Ok(booted)
    }

    async fn checks_of_boot(
        &self,
        instance: &mut Instance<'_>,
        boot: &Boot,
        checks: &[&Check],
        phase: Phase,
        booted: &mut Booted,
        cancel: &CancellationToken,
    ) -> Result<()> {
        match instance.come_up().await {
            Ok(()) => {
                phase.finish();
                let phase = self.events.phase(self.options.name, format!("checks of boot `{}`", boot.name));
                let made = self.checks(checks, Some(instance), &phase, cancel).await?;
                phase.finish();
                booted.report.failure = instance.died();
                booted.outcomes.extend(made.0);
                booted.pictures.extend(made.1);
            }
            Err(error) if ends_all(&error, cancel) => return Err(error),
            Err(error) => {
                booted.report.failure = Some(error.chain().join(": "));
                let screen = instance.screen().await;
                booted.pictures.extend(screen.map(|png| (format!("The screen of boot {}", boot.name), png)));
            }
        }
        Ok(())
    }

    /// The ports of the components that the image has.
    fn ports(&self) -> Vec<Port> {
        let applies = |port: &&Port| port.component.is_none_or(|index| self.components[index].applies);
        self.options.contract.ports.iter().filter(applies).cloned().collect()
    }

    async fn checks(
        &self,
        checks: &[&Check],
        instance: Option<&mut Instance<'_>>,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<(Outcomes, Pictures)> {
        let mut outcomes = Outcomes::new();
        let mut bench = Bench {
            offline: self.offline,
            instance,
            signer: &self.signer,
            stranger: &self.stranger,
            pictures: Vec::new(),
            jupyter: None,
            phase,
            cancel,
            slowness: slowness(self.options.accelerator),
        };
        for (done, check) in checks.iter().enumerate() {
            phase.progress(done as u64, Some(checks.len() as u64), "checks");
            let begun = Instant::now();
            let outcome = bench.check(check).await?;
            // What it saw last may be the machine's end and no fault of what it looked at.
            if bench.instance.as_deref().and_then(Instance::died).is_some() && outcome != Outcome::Passed {
                break;
            }
            if let Outcome::Failed { failures } = &outcome {
                let seen = failures.first().map(|failure| failure.seen.lines().next().unwrap_or_default());
                let text = format!("{} failed: {}", check.id, seen.unwrap_or_default());
                self.events.warn(Some(self.options.name), text);
            }
            outcomes.insert(check.id.clone(), (outcome, begun.elapsed().as_secs_f64()));
        }
        Ok((outcomes, bench.pictures))
    }
}

/// What came out of checks, by id, with their wall times in seconds.
type Outcomes = BTreeMap<String, (Outcome, f64)>;

/// Titles and PNGs.
pub type Pictures = Vec<(String, Vec<u8>)>;

/// What came of one boot.
struct Booted {
    report: BootReport,
    outcomes: Outcomes,
    pictures: Pictures,
}

impl Booted {
    fn new(boot: &Boot) -> Self {
        let report = BootReport {
            name: boot.name.clone(),
            description: boot.description(),
            failure: None,
            seconds: 0.0,
            times: Vec::new(),
            serial_tail: Vec::new(),
        };
        Self { report, outcomes: Outcomes::new(), pictures: Vec::new() }
    }
}

/// Whether `error` is about the verification rather than about what is verified.
pub(super) fn ends_all(error: &Error, cancel: &CancellationToken) -> bool {
    cancel.is_cancelled() || matches!(error.kind(), Kind::Interrupted | Kind::Terminated | Kind::Host)
}

fn tail(serial: &str) -> Vec<String> {
    let lines: Vec<_> = serial.lines().collect();
    lines[lines.len().saturating_sub(SERIAL_TAIL)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::disk::testing::system_ext4;

    #[tokio::test]
    async fn what_only_needs_a_value_that_was_not_given_is_not_run_and_fails_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("fs");
        system_ext4(&image, |_| {});
        let contract = Contract::find("visa").unwrap();
        let options = Options {
            image: &image,
            sha256: None,
            name: "t",
            contract: &contract,
            selected: ["HYG-4", "HYG-10"].map(str::to_owned).into(),
            required: BTreeSet::new(),
            secrets: Vec::new(),
            root_password: None,
            accelerator: Accelerator::Tcg,
            cpus: None,
            memory: LEAST_MEMORY,
            jobs: 1,
            work: folder.path(),
            keep: false,
            allow_backing: false,
        };
        let (report, _) = verify(&options, &Events::none(), &CancellationToken::new()).await.unwrap();
        let outcome = |id: &str| &report.checks.iter().find(|check| check.id == id).unwrap().outcome;
        assert_eq!(outcome("HYG-4"), &Outcome::Passed);
        assert!(matches!(outcome("HYG-10"), Outcome::NotRun { not_given: true, .. }), "{:?}", outcome("HYG-10"));
        assert!(report.passed());
    }
}
