//! How often and when a place is asked again.

use std::time::Duration;

use reqwest::StatusCode;

use super::Policy;

/// A connection that brought at least so much was good for something: failures are counted anew after it. Files
/// being finite, so are the attempts.
const WORTH: u64 = 64 << 10;

/// The longest pause that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(120);

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    policy: &'a Policy,
    failures: u32,
}

impl<'a> Retries<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self { policy, failures: 0 }
    }

    /// After a failure that brought `bytes`: how long to wait before the next attempt; none: enough.
    /// `wish` is what the server asked for.
    pub(super) fn next(&mut self, bytes: u64, wish: Option<Duration>) -> Option<Duration> {
        self.failures = if bytes >= WORTH { 1 } else { self.failures + 1 };
        if self.failures >= self.policy.attempts {
            return None;
        }
        let pause = self.policy.pause.saturating_mul(1 << (self.failures - 1).min(16)).min(self.policy.longest_pause);
        Some(wish.map_or(pause, |wish| wish.min(LONGEST_WISH).max(pause)))
    }

    /// Failures in a row so far.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Whether a server that answers so may answer otherwise soon: RFC 9110 sections 15.5.9 and 15.6, RFC 6585
/// section 4, RFC 8470 section 5.2.
pub(super) fn passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_progress_starts_anew() {
        let policy = Policy {
            attempts: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(3),
            ..Policy::default()
        };
        let mut retries = Retries::new(&policy);
        let seconds = |pause: Option<Duration>| pause.map(|pause| pause.as_secs());
        assert_eq!([0; 5].map(|bytes| seconds(retries.next(bytes, None))), [Some(1), Some(2), Some(3), Some(3), None]);
        let mut retries = Retries::new(&policy);
        assert!([WORTH; 100].into_iter().all(|bytes| retries.next(bytes, None) == Some(Duration::from_secs(1))));
    }

    #[test]
    fn a_servers_wish_is_heard_within_reason() {
        let policy = Policy::default();
        let wish = |seconds| Retries::new(&policy).next(0, Some(Duration::from_secs(seconds))).unwrap().as_secs();
        assert_eq!([wish(0), wish(7), wish(86_400)], [1, 7, 120]);
    }
}
