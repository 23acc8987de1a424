//! Facts about the host, and whether it can do what is asked of it.
//!
//! Everything here is cheap and runs before anything slow. Each part answers with [`Finding`]s;
//! [`doctor`] collects them all, [`check`] turns those that forbid a build into one error that names
//! every one. Nothing is printed and no environment variable is read: the caller passes both in.

use serde::Serialize;

use crate::error::{Error, Kind, Problem, Result};

pub mod accelerator;
pub mod ansible;
pub mod certificates;
pub mod distribution;
pub mod doctor;
pub mod machines;
pub mod npm;
pub mod nspawn;
pub mod pip;
pub mod reach;
pub mod resources;
pub mod tools;

/// How a finding stands to a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// A build will do, but the user should know.
    Warning,
    /// A build cannot succeed.
    Problem,
}

/// One fact about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about (`qemu-img`, `disk`).
    pub name: String,
    /// How it stands to a build.
    pub state: State,
    /// A lower-case sentence without a full stop.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(name: impl Into<String>, state: State, what: impl Into<String>) -> Self {
        Self { name: name.into(), state, what: what.into(), hint: None }
    }

    /// A finding that is as it should be.
    pub fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, State::Ok, what)
    }

    /// A finding that the user should know.
    pub fn warning(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, State::Warning, what)
    }

    /// A finding that forbids a build.
    pub fn problem(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, State::Problem, what)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Refuses a build where a finding forbids it.
///
/// # Errors
/// One error of kind host with every problem among `findings`, in their order.
pub fn check(findings: &[Finding]) -> Result<()> {
    let problems: Vec<Problem> =
        findings.iter().filter(|finding| finding.state == State::Problem).map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::problems(Kind::Host, problems)) }
}

fn problem(finding: &Finding) -> Problem {
    let problem = Problem::new(format!("{}: {}", finding.name, finding.what));
    match &finding.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_in_the_one_error_and_warnings_are_not() {
        let findings = [
            Finding::problem("gpgv", "is not on this host").hint("install it"),
            Finding::warning("memory", "is little"),
            Finding::ok("cpus", "2"),
            Finding::problem("disk", "is full"),
        ];
        let error = check(&findings).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        let told: Vec<_> =
            error.problem_list().iter().map(|problem| (problem.message.as_str(), problem.hint.as_deref())).collect();
        assert_eq!(told, [("gpgv: is not on this host", Some("install it")), ("disk: is full", None)]);
        check(&findings[1..3]).unwrap();
    }
}
