//! Which stages are built when: several at a time, where none lies on another.

use futures_util::future::join_all;
use tokio::sync::{Semaphore, watch};

use super::Artifact;
use crate::error::{Error, Kind, Result};
use crate::plan::Stage;

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its layer is not there yet.
    Waiting,
    /// Its layer is there: what lies on it can be built.
    Ready,
    /// Its layer will never be there.
    Failed,
}

/// Tells those that lie on a stage that its layer is there.
#[derive(Debug)]
pub(super) struct Ready(watch::Sender<State>);

impl Ready {
    pub(super) fn tell(&self) {
        self.0.send_replace(State::Ready);
    }
}

/// What became of a stage.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    Done(T),
    Failed(Error),
    /// It was not begun, because this one failed that it lies on.
    Left(String),
    /// It was not begun, because the run ended before.
    NotBegun,
}

/// Does `work` for every stage, for at most `jobs` at a time, for none before its parent's layer is there, and for no more
/// once the run `is_over`. The outcomes come in the order of the stages.
pub(super) async fn run<'a, T>(
    stages: &'a [Stage],
    jobs: usize,
    is_over: impl Fn() -> bool,
    work: impl AsyncFn(&'a Stage, &Ready) -> Result<T>,
) -> Vec<(&'a Stage, Outcome<T>)> {
    let parent = |stage: &Stage| stages.iter().position(|other| Some(&other.name) == stage.parent.as_ref());
    let parents: Vec<Option<usize>> = stages.iter().map(parent).collect();
    let outcomes = in_order(&parents, jobs, is_over, async |index, ready| work(&stages[index], ready).await).await;
    let named = |outcome| match outcome {
        Ok(Ok(done)) => Outcome::Done(done),
        Ok(Err(error)) => Outcome::Failed(error),
        Err(Left::On(parent)) => Outcome::Left(stages[parent].name.clone()),
        Err(Left::Over) => Outcome::NotBegun,
    };
    stages.iter().zip(outcomes.into_iter().map(named)).collect()
}

/// Why one was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// This one failed.
    On(usize),
    /// The run was over.
    Over,
}

/// [`run`] for nodes that are numbers; `parents` has each one's.
async fn in_order<T, E>(
    parents: &[Option<usize>],
    jobs: usize,
    is_over: impl Fn() -> bool,
    work: impl AsyncFn(usize, &Ready) -> Result<T, E>,
) -> Vec<Result<Result<T, E>, Left>> {
    let seats = Semaphore::new(jobs.max(1));
    let ready: Vec<Ready> = parents.iter().map(|_| Ready(watch::Sender::new(State::Waiting))).collect();
    let tasks = parents.iter().zip(&ready).enumerate().map(async |(index, (parent, own))| {
        if let Some(parent) = *parent {
            let mut state = ready[parent].0.subscribe();
            // Its sender lives as long as this.
            let state = state.wait_for(|state| *state != State::Waiting).await.map_or(State::Failed, |state| *state);
            if state == State::Failed {
                own.0.send_replace(State::Failed);
                return Err(Left::On(parent));
            }
        }
        // It is never closed.
        let _seat = seats.acquire().await;
        if is_over() {
            own.0.send_replace(State::Failed);
            return Err(Left::Over);
        }
        let outcome = work(index, own).await;
        own.0.send_if_modified(|state| {
            let was_waiting = *state == State::Waiting;
            if was_waiting {
                *state = if outcome.is_ok() { State::Ready } else { State::Failed };
            }
            was_waiting
        });
        Ok(outcome)
    });
    join_all(tasks).await
}

/// The images of a run in which nothing failed; `kept` says how to look at what is left of a failure.
///
/// # Errors
/// Everything that failed. An interruption comes before all.
pub(super) fn finished(outcomes: Vec<(&Stage, Outcome<Artifact>)>, kept_in: Option<&str>) -> Result<Vec<Artifact>> {
    let (mut artifacts, mut failed, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for (stage, outcome) in outcomes {
        match outcome {
            Outcome::Done(artifact) => artifacts.push(artifact),
            Outcome::Failed(error) => failed.push(error),
            Outcome::Left(parent) => left.push(format!("`{}` (on `{parent}`)", stage.name)),
            Outcome::NotBegun => left.push(format!("`{}`", stage.name)),
        }
    }
    let stopped =
        failed.iter().position(|error| !matches!(error.kind(), Kind::Build | Kind::Host | Kind::Verification));
    if let Some(index) = stopped {
        return Err(failed.swap_remove(index));
    }
    let Some(mut error) = Error::several(failed) else { return Ok(artifacts) };
    if let Some(text) = kept_in {
        error = error.hint(kept(text));
    }
    if !left.is_empty() {
        error = error.hint(format!("not built because of it: {}", left.join(", ")));
    }
    Err(error)
}

/// Says where the disk of a failed build is.
pub(super) fn kept(how_to_boot: &str) -> String {
    format!("the disk is kept: {how_to_boot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What happened in a run of nodes with these `parents`: `+` begun, `!` layer there, `-` ended; and the most at a time.
    async fn happened(parents: &[Option<usize>], jobs: usize, fails: &[usize]) -> (String, usize, Vec<Option<Left>>) {
        happened_until(parents, jobs, fails, None).await
    }

    /// Likewise, and it is over when this has happened.
    async fn happened_until(
        parents: &[Option<usize>],
        jobs: usize,
        fails: &[usize],
        over: Option<&str>,
    ) -> (String, usize, Vec<Option<Left>>) {
        let log = Mutex::new((String::new(), 0_usize, 0_usize));
        let note = |text: String| log.lock().unwrap().0.push_str(&text);
        let outcomes = in_order(
            parents,
            jobs,
            || over.is_some_and(|over| log.lock().unwrap().0.contains(over)),
            async |index, ready| {
                note(format!("+{index}"));
                {
                    let mut log = log.lock().unwrap();
                    log.1 += 1;
                    log.2 = log.2.max(log.1);
                }
                tokio::task::yield_now().await;
                let result = if fails.contains(&index) {
                    Err(())
                } else {
                    ready.tell();
                    note(format!("!{index}"));
                    tokio::task::yield_now().await;
                    Ok(())
                };
                note(format!("-{index}"));
                log.lock().unwrap().1 -= 1;
                result
            },
        );
        let outcomes = outcomes.await;
        let left = outcomes.iter().map(|outcome| outcome.as_ref().err().copied()).collect();
        let log = log.into_inner().unwrap();
        (log.0, log.2, left)
    }

    #[tokio::test]
    async fn one_at_a_time_goes_by_the_order_of_the_plan() {
        let (log, most, _) = happened(&[None, Some(0), Some(1), Some(0)], 1, &[]).await;
        assert_eq!((log.as_str(), most), ("+0!0-0+1!1-1+3!3-3+2!2-2", 1));
    }

    #[tokio::test]
    async fn a_child_begins_when_its_parents_layer_is_there_and_leaves_run_side_by_side() {
        let (log, most, _) = happened(&[None, Some(0), Some(0), Some(0)], 2, &[]).await;
        assert!(log.find("!0").unwrap() < log.find("+1").unwrap(), "{log}");
        assert!(log.find("+1").unwrap() < log.find("-0").unwrap(), "{log}");
        assert_eq!(most, 2, "{log}");
        assert_eq!(happened(&[None, Some(0), Some(0), Some(0), Some(0)], 9, &[]).await.1, 5);
    }

    #[tokio::test]
    async fn a_failure_stops_what_lies_on_it_and_nothing_else() {
        let (log, _, left) = happened(&[None, Some(0), Some(1), Some(2), Some(0)], 2, &[1]).await;
        assert!(!log.contains("+2") && !log.contains("+3") && log.contains("-4"), "{log}");
        assert_eq!(left, [None, None, Some(Left::On(1)), Some(Left::On(2)), None]);
    }

    #[tokio::test]
    async fn nothing_is_begun_any_more_when_it_is_over() {
        let (log, _, left) = happened_until(&[None, None, Some(0), None], 1, &[0], Some("-0")).await;
        assert_eq!(log, "+0-0");
        assert_eq!(left, [None, Some(Left::Over), Some(Left::On(0)), Some(Left::Over)]);
    }
}
