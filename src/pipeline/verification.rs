//! The last phase: a finished image keeps its contract, or is not published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Artifact, Results};
use crate::cache::replace_file;
use crate::error::{Context as _, Error, Kind, Result};
use crate::event::{Event, Events};
use crate::machine::{self, Accelerator};
use crate::plan::{Plan, Stage};
use crate::report::verification;
use crate::verify::contract::Contract;
use crate::verify::disk::scan::Secret;
use crate::verify::report::{Outcome, Report};
use crate::verify::{self, Found, Options};

/// What the images of a run must keep, and how that is shown.
#[derive(Debug)]
pub struct Verifier {
    /// By template.
    pub targets: BTreeMap<String, Target>,
    /// Root's password that was asked for.
    pub root_password: Option<SecretString>,
    /// What must not be on a disk.
    pub secrets: Vec<Secret>,
    /// What runs the instances' instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs of an instance, where the call says how many.
    pub cpus: Option<u32>,
    /// Memory of an instance, MiB.
    pub memory: u64,
}

/// What one image must keep.
#[derive(Debug)]
pub struct Target {
    /// The contract as the template names it: a name, or a file.
    pub source: String,
    /// The contract.
    pub contract: Contract,
    /// Ids of the checks that are made.
    pub selected: BTreeSet<String>,
    /// Components that the image must have.
    pub required: BTreeSet<String>,
}

/// The files of a verification, beside an image or in a report of a failure: suffix and content.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// What came of a verification.
#[derive(Debug)]
pub(super) struct Verified {
    pub files: Files,
    /// An error of the kind verification where the image does not keep its contract.
    pub verdict: Result<()>,
}

/// The working folder, who hears of it, and what ends it.
type Surroundings<'a> = (&'a Path, &'a Events, &'a CancellationToken);

impl Verifier {
    /// Verifies `image`.
    ///
    /// # Errors
    /// It could not be verified at all.
    pub(super) async fn verify(
        &self,
        name: &str,
        image: &Path,
        sha256: Option<&str>,
        traces: &[(&'static str, SecretString)],
        (work, events, cancel): Surroundings<'_>,
    ) -> Result<Verified> {
        let Some(target) = self.targets.get(name) else { return Ok(Verified { files: Vec::new(), verdict: Ok(()) }) };
        let mut secrets = self.secrets.clone();
        secrets.extend(traces.iter().map(|(name, value)| Secret { name: (*name).to_owned(), value: value.clone() }));
        let options = Options {
            image,
            sha256: sha256.map(str::to_owned),
            name,
            contract: &target.contract,
            selected: target.selected.clone(),
            required: target.required.clone(),
            secrets,
            root_password: self.root_password.clone(),
            accelerator: self.accelerator,
            cpus: self.cpus,
            memory: self.memory,
            jobs: machine::how_many(self.memory),
            work,
            keep: false,
            allow_backing: false,
        };
        let found = verify::verify(&options, events, cancel).await?;
        let files = files(&found)?;
        let (report, _) = found;
        let counts = report.counts();
        events.emit(Event::Verified {
            template: name.to_owned(),
            contract: report.contract.clone(),
            passed: counts.passed,
            failed: counts.failed,
            not_run: counts.not_run,
        });
        let verdict = if report.passed() { Ok(()) } else { Err(verification::problems(&report)) };
        Ok(Verified { files, verdict })
    }

    /// What a user can do with an image that does not keep its contract.
    pub(super) fn explained(&self, error: Error, name: &str, image: &Path) -> Error {
        let contract = self.targets.get(name).map(|target| target.source.as_str());
        match (error.kind(), contract) {
            (Kind::Verification, Some(contract)) => error.hint(format!(
                "`visabuild verify {} --contract {contract} --only ID --keep` makes a check again",
                image.display()
            )),
            _ => error,
        }
    }

    /// Whether nothing is left to verify of images that were there with nothing changed.
    pub fn have_verified(&self, plan: &Plan, artifacts: &[Artifact], results: &Results) -> bool {
        let mut stages = artifacts.iter().filter_map(|artifact| plan.stage(&artifact.template));
        stages.all(|stage| self.has_verified(results, stage))
    }

    /// Whether the image of `stage` was verified against the very contract, as the files beside it tell.
    fn has_verified(&self, results: &Results, stage: &Stage) -> bool {
        let Some(target) = self.targets.get(&stage.name) else { return true };
        let report = fs::read(beside(results, stage, "verification.json")).unwrap_or_default();
        let Ok(report) = serde_json::from_slice::<Report>(&report) else { return false };
        let made = report.checks.iter().filter(|check| check.outcome != Outcome::Skipped);
        let made: BTreeSet<_> = made.map(|check| &check.id).collect();
        let applies = |name: &str| report.components.iter().any(|known| known.applies && known.name == name);
        report.passed()
            && made.into_iter().eq(&target.selected)
            && target.required.iter().all(|name| applies(name))
            && sha256(results, stage).is_some_and(|sha256| sha256 == report.sha256)
            && report.contract_sha256 == target.contract.sha256
    }

    /// Verifies the images that were there with nothing changed and that nobody has verified yet.
    ///
    /// # Errors
    /// One does not keep its contract (kind verification; it stays where it is), or could not be verified.
    pub async fn verify_unchanged(
        &self,
        plan: &Plan,
        artifacts: &[Artifact],
        results: &Results,
        surroundings: Surroundings<'_>,
    ) -> Result<()> {
        for artifact in artifacts.iter().filter(|artifact| artifact.unchanged) {
            let Some(stage) = plan.stage(&artifact.template) else { continue };
            if self.has_verified(results, stage) {
                continue;
            }
            let sha256 = sha256(results, stage);
            let explained = |error| self.explained(error, &stage.name, &artifact.path);
            let verified = self.verify(&stage.name, &artifact.path, sha256.as_deref(), &[], surroundings).await;
            let Verified { files, verdict } = verified.map_err(explained)?;
            // The image is as good as before: only what is known of it has changed.
            write(results, stage, &files)?;
            verdict.map_err(explained)?;
        }
        Ok(())
    }
}

/// What the manifest says of the image of `stage`.
fn sha256(results: &Results, stage: &Stage) -> Option<String> {
    let manifest: Value = serde_json::from_slice(&fs::read(results.manifest(stage)).ok()?).ok()?;
    Some(manifest["image"]["sha256"].as_str()?.to_owned())
}

/// The suffixes of a verification's files.
pub(super) const SUFFIXES: [&str; 3] = ["verification.json", "verification.html", "desktop.png"];

/// Puts the files of a failed verification where the report of the failure takes them from.
pub(super) fn write_for_failure(work: &Path, stage: &Stage, files: &Files) -> Result<()> {
    for (suffix, content) in files {
        let path = work.join(format!("{}.{suffix}", stage.name));
        fs::write(&path, content).context(Kind::Host, || format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Puts the files of a verification beside the image of `stage`.
pub(super) fn write(results: &Results, stage: &Stage, files: &Files) -> Result<()> {
    for (suffix, content) in files {
        let path = beside(results, stage, suffix);
        replace_file(&path, content, 0o644).context(Kind::Host, || format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Removes what an earlier verification has left beside the image of `stage`.
pub(super) fn remove(results: &Results, stage: &Stage) {
    for suffix in SUFFIXES {
        // What is not there need not be removed.
        let _ = fs::remove_file(beside(results, stage, suffix));
    }
}

fn beside(results: &Results, stage: &Stage, suffix: &str) -> PathBuf {
    results.folder(stage).join(format!("{}.{suffix}", stage.name))
}

fn files((report, pictures): &Found) -> Result<Files> {
    let mut files = vec![
        ("verification.json", verification::json(report).into_bytes()),
        ("verification.html", verification::html(report, pictures)?.into_bytes()),
    ];
    files.extend(pictures.first().map(|(_, png)| ("desktop.png", png.clone())));
    Ok(files)
}
