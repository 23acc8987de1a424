//! Watching a machine from anywhere.

use tokio::sync::watch;

use super::Ended;

#[derive(Debug, Clone, Default)]
struct State {
    ended: Option<Ended>,
    /// What ran the guest is gone, and its files are closed.
    gone: bool,
    resets: u64,
}

/// A view of a machine: whether it ended, why, and how often its guest was reset. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watch {
    state: watch::Receiver<State>,
}

impl Watch {
    /// A watch and the side that tells it.
    pub fn channel() -> (Reporter, Self) {
        let (sender, state) = watch::channel(State::default());
        (Reporter { state: sender }, Self { state })
    }

    /// A watch over a machine that never ends: one that visabuild does not own.
    pub fn never() -> Self {
        Self::channel().1
    }

    /// Waits until the machine ended or can no longer go on. May be called again and again; drop
    /// the future at will.
    pub async fn ended(&self) -> Ended {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| state.ended.is_some()).await.ok().and_then(|state| state.ended.clone());
        match ended {
            Some(ended) => ended,
            // Nobody will ever tell.
            None => std::future::pending().await,
        }
    }

    /// Why it ended, if it did.
    pub fn has_ended(&self) -> Option<Ended> {
        self.state.borrow().ended.clone()
    }

    /// Waits until what ran the guest is gone; a panicked guest, for one, has ended long before.
    pub async fn gone(&self) {
        if self.state.clone().wait_for(|state| state.gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How often the guest was reset; it counts up at every reboot.
    pub fn resets(&self) -> u64 {
        self.state.borrow().resets
    }

    /// Waits until the guest was reset more often than `count` times.
    pub async fn reset_after(&self, count: u64) {
        let mut state = self.state.clone();
        if state.wait_for(|state| state.resets > count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The side of a [`Watch`] that tells.
#[derive(Debug, Clone)]
pub struct Reporter {
    state: watch::Sender<State>,
}

impl Reporter {
    /// The machine ended; the first reason told is the one that counts.
    pub fn end(&self, ended: Ended) {
        self.state.send_if_modified(|state| {
            let first = state.ended.is_none();
            if first {
                state.ended = Some(ended);
            }
            first
        });
    }

    /// What ran the guest is gone.
    pub fn gone(&self) {
        self.state.send_modify(|state| state.gone = true);
    }

    /// Waits until somebody told why the machine ended.
    pub async fn told(&self) {
        // The sender is alive: the wait cannot fail.
        let _ = self.state.subscribe().wait_for(|state| state.ended.is_some()).await;
    }

    /// The guest was reset.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts_and_can_be_asked_for_again() {
        let (reporter, watch) = Watch::channel();
        assert_eq!(watch.has_ended(), None);
        reporter.end(Ended::KernelPanic { line: "x".into() });
        reporter.end(Ended::Stopped);
        for _ in 0..2 {
            assert_eq!(watch.ended().await, Ended::KernelPanic { line: "x".into() });
        }
    }

    #[tokio::test]
    async fn a_reset_wakes_who_waits_for_it() {
        let (reporter, watch) = Watch::channel();
        let before = watch.resets();
        let waiting = tokio::spawn({
            let watch = watch.clone();
            async move { watch.reset_after(before).await }
        });
        reporter.reset();
        waiting.await.unwrap();
        assert_eq!(watch.resets(), before + 1);
    }
}
