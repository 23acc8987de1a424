//! What a verification found, as data; module `report` shows it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::contract::Level;

/// What was found of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The image.
    pub image: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Name of the contract.
    pub contract: String,
    /// SHA-256 of the contract's text, hexadecimal.
    pub contract_sha256: String,
    /// Version of visabuild.
    pub visabuild: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// Wall time, seconds.
    pub seconds: f64,
    /// `kvm` or `tcg`; none where nothing was booted.
    pub accelerator: Option<String>,
    /// The contract's components: name, and why it counts as there or not.
    pub components: Vec<Component>,
    /// The boots, in their order.
    pub boots: Vec<BootReport>,
    /// The checks, in the contract's order.
    pub checks: Vec<CheckReport>,
    /// What the pictures show that were made, in their order.
    pub pictures: Vec<String>,
}

/// A part of the platform that an image has or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Component {
    /// Its name in the contract.
    pub name: String,
    /// Whether its checks apply.
    pub applies: bool,
    /// Why.
    pub why: String,
}

/// One boot of the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootReport {
    /// Its name in the contract.
    pub name: String,
    /// What it was: `BIOS, ConfigDrive, no boot command`.
    pub description: String,
    /// Why it did not come up, or ended too early.
    pub failure: Option<String>,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Seconds from power-on to an event: an open port, SSH, the owner's account.
    pub times: Vec<(String, f64)>,
    /// The last lines of the serial console.
    pub serial_tail: Vec<String>,
}

/// One check of the contract.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckReport {
    /// `GUAC-2`.
    pub id: String,
    /// What must be so.
    pub statement: String,
    /// What it needs.
    pub level: Level,
    /// The boot that it was made in.
    pub boot: Option<String>,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// What came out of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is so.
    Passed,
    /// It is not so.
    Failed {
        /// What each failed probe expected and saw.
        failures: Vec<Failure>,
    },
    /// Nobody knows: the probe could not be made.
    NotRun {
        /// Why.
        why: String,
        /// It needs a value that the call did not give; that alone is no failure of the verification.
        #[serde(default)]
        not_given: bool,
    },
    /// The user left it out.
    Skipped,
    /// It is about a component that the image does not have.
    NotApplicable {
        /// Why.
        why: String,
    },
}

/// A failed probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was asked: "file /etc/xrdp/sesman.ini", "port 4822".
    pub probe: String,
    /// What should have been seen.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Where to look.
    pub look: Option<String>,
}

/// How many checks came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not run.
    pub not_run: usize,
    /// Skipped.
    pub skipped: usize,
    /// Not applicable.
    pub not_applicable: usize,
}

impl Report {
    /// Where the verification of the image at `image` is written down.
    pub fn path_of(image: &Path) -> PathBuf {
        image.with_extension("verification.json")
    }

    /// What the last verification of the image at `path` found, if it was of this very file.
    pub fn of(path: &Path, sha256: &str) -> Option<Self> {
        let bytes = fs::read(Self::path_of(path)).ok()?;
        let report: Self = serde_json::from_slice(&bytes).ok()?;
        (report.sha256 == sha256).then_some(report)
    }

    /// `visa: 87 passed, 0 failed, 3 not run`.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        format!("{}: {} passed, {} failed, {} not run", self.contract, counts.passed, counts.failed, counts.not_run)
    }

    /// How many checks came out how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for check in &self.checks {
            *match check.outcome {
                Outcome::Passed => &mut counts.passed,
                Outcome::Failed { .. } => &mut counts.failed,
                Outcome::NotRun { .. } => &mut counts.not_run,
                Outcome::Skipped => &mut counts.skipped,
                Outcome::NotApplicable { .. } => &mut counts.not_applicable,
            } += 1;
        }
        counts
    }

    /// Whether nothing failed, and all was looked at but for what the call gave no value for.
    pub fn passed(&self) -> bool {
        let missed = |check: &CheckReport| matches!(check.outcome, Outcome::NotRun { not_given: false, .. });
        let counts = self.counts();
        counts.failed == 0 && counts.passed > 0 && !self.checks.iter().any(missed)
    }
}
