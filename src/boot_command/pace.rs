//! How fast is typed: as fast as the guest draws what it was sent.
//!
//! Between a key event and the program that reads it are queues that forget. QEMU passes key events on some
//! of the guest's time apart (`key-delay-ms`) and drops what is beyond 1024 entries (ui/input.c, `queue_limit`); its PS/2
//! keyboard holds 16 bytes (hw/input/ps2.c, `PS2_QUEUE_SIZE`), which is five keys, or two with shift; the BIOS holds
//! 15 keys. The guest's time goes on while its processor is kept from running (TCG without icount). A guest
//! that does not get the processor for a while loses what does not fit. So a key is sent only when the one before
//! has been drawn, or where its cells are known, when those that are not drawn yet leave room for it (`ahead`). A key is released at once, whatever the guest does: one that stays down is repeated.
//!
//! A blinking cursor is drawn too and must not be taken for an echo; see [`Change::Cursor`](super::screen::Change::Cursor). Anything else that moves
//! by itself (a spinner, boot messages) is: where the screen does not rest, a command should wait until it is stable
//! before it types, or the template set an interval.

use std::collections::VecDeque;
use std::time::Duration;

use super::key::Key;

/// Packer's time between two key events.
pub const PACKER_KEY_INTERVAL: Duration = Duration::from_millis(100);

/// How long the drawing of a key is waited for where the guest has drawn those before.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The same for keys of which nothing may be seen: arrows, spaces, shortcuts; and for the first one.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// The time for a key where nothing is drawn, as for passwords: Packer's for two events.
const UNSEEN: Duration = PACKER_KEY_INTERVAL.saturating_mul(2);
/// The shortest time in which nothing is drawn that ends a line: QEMU looks for changes 30 and 80 ms after the last.
const SETTLED: Duration = Duration::from_millis(100);
/// How many times longer than the slowest key of late.
const SETTLED_FACTOR: u32 = 3;
/// The longest such time.
const SETTLED_MOST: Duration = Duration::from_millis(2500);
/// How many keys are "of late".
const REMEMBERED: usize = 16;
/// A guest that takes longer for a key may be behind by some: it gets a rest after every few of them.
const SLOW: Duration = Duration::from_millis(120);
/// How many keys a slow guest gets without a rest, and how many of which nothing was seen.
const WITHOUT_REST: u32 = 8;
const MOST_UNSEEN: u32 = 3;

/// What the user says about speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time after each key event (`boot_key_interval`). Not needed where keys are seen.
    pub key_interval: Duration,
    /// The time after each group (`boot_keygroup_interval`).
    pub group_interval: Duration,
    /// Whether a key waits until the one before it was drawn.
    pub echo: bool,
    /// Whether a line is read back before the key that ends it (`boot_read_back`).
    pub read_back: bool,
}

impl Default for Pace {
    /// As fast as the guest draws.
    fn default() -> Self {
        Self { key_interval: Duration::ZERO, group_interval: Duration::ZERO, echo: true, read_back: true }
    }
}

impl Pace {
    /// As Packer types: 100 ms after every key event, whatever the guest does.
    pub fn packer() -> Self {
        Self { key_interval: PACKER_KEY_INTERVAL, group_interval: Duration::ZERO, echo: false, read_back: true }
    }
}

/// What is to be seen of a key that is pressed, beside a cursor that blinks or moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// A letter.
    Ink,
    /// A rectangle, which differs from a cursor's blink only when the cursor is seen too.
    Solid,
    /// Nothing: the key after it tells.
    Space,
    /// Perhaps nothing: an arrow at the end of a list, a shortcut.
    Doubtful,
    /// The end of a line, after which the guest does something.
    Line,
}

impl Trace {
    /// `commanding`: a modifier other than shift is held.
    pub(super) fn of(key: Key, commanding: bool) -> Self {
        match key.character() {
            _ if Key::named("enter") == Some(key) => Self::Line,
            None => Self::Doubtful,
            Some(_) if commanding => Self::Doubtful,
            Some(' ') => Self::Space,
            Some('-' | '_' | '|' | '.' | ',' | '\'' | '`') => Self::Solid,
            Some(_) => Self::Ink,
        }
    }
}

/// Whether keys are drawn here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echoes {
    Unknown,
    Seen,
    Missing,
}

/// What typing has shown of the guest.
#[derive(Debug, Clone)]
pub(super) struct Echo {
    state: Echoes,
    latencies: VecDeque<Duration>,
    /// The last key was a space, of which nothing is known yet.
    pending: bool,
    /// Keys since the last rest, and those of them of which nothing was seen.
    since_rest: u32,
    unseen_since_rest: u32,
    /// Keys of which nothing was seen.
    pub(super) unseen: u64,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            state: Echoes::Unknown,
            latencies: VecDeque::new(),
            pending: false,
            since_rest: 0,
            unseen_since_rest: 0,
            unseen: 0,
        }
    }
}

impl Echo {
    /// Whether keys are drawn, as far as is known.
    pub(super) fn is_seen(&self) -> bool {
        self.state == Echoes::Seen
    }

    /// After a wait the guest may be at something else.
    pub(super) fn forget(&mut self) {
        self.pending = false;
        if self.state == Echoes::Missing {
            self.state = Echoes::Unknown;
        }
    }

    /// How long to wait for a key to be drawn; none if the next key may follow at once. One space may: with the key
    /// after it, it fits into the shortest queue.
    pub(super) fn patience(&mut self, trace: Trace) -> Option<Duration> {
        let space = trace == Trace::Space;
        if space && !self.pending && self.state == Echoes::Seen {
            self.pending = true;
            return None;
        }
        self.pending = false;
        Some(match (self.state, trace) {
            (Echoes::Missing, _) => UNSEEN,
            (Echoes::Seen, Trace::Ink | Trace::Line) => PATIENCE,
            _ => SHORT_PATIENCE,
        })
    }

    /// A key was drawn so long after it was sent.
    pub(super) fn drawn(&mut self, trace: Trace, after: Duration) {
        self.since_rest += 1;
        self.state = Echoes::Seen;
        // Of others it is the cursor's next blink that was waited for.
        if matches!(trace, Trace::Ink | Trace::Line) {
            self.latencies.push_back(after);
            if self.latencies.len() > REMEMBERED {
                self.latencies.pop_front();
            }
        }
    }

    /// Nothing was seen of a key.
    pub(super) fn missed(&mut self, trace: Trace) {
        self.since_rest += 1;
        match trace {
            // That is as it should be.
            Trace::Space => return,
            Trace::Ink => self.state = Echoes::Missing,
            _ => {}
        }
        self.unseen += 1;
        self.unseen_since_rest += 1;
    }

    /// How long nothing must be drawn before the next key, if there is to be a rest now; and when to go on anyway.
    pub(super) fn rest(&mut self, trace: Trace) -> Option<(Duration, Duration)> {
        let slowest = self.latencies.iter().max().copied().unwrap_or_default();
        let behind = slowest > SLOW && self.since_rest >= WITHOUT_REST || self.unseen_since_rest >= MOST_UNSEEN;
        if trace != Trace::Line && !(behind && self.state == Echoes::Seen) {
            return None;
        }
        (self.since_rest, self.unseen_since_rest) = (0, 0);
        Some(((slowest * SETTLED_FACTOR).clamp(SETTLED, SETTLED_MOST), PATIENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Trace {
        Trace::of(Key::named(name).or_else(|| Key::of_char(name.chars().next()?)).unwrap(), false)
    }

    #[test]
    fn what_is_seen_of_keys() {
        let traces = [Trace::Ink, Trace::Space, Trace::Solid, Trace::Doubtful, Trace::Line];
        assert_eq!(["a", " ", "_", "up", "enter"].map(of), traces);
        assert_eq!(Trace::of(Key::of_char('c').unwrap(), true), Trace::Doubtful);
    }

    #[test]
    fn patience_follows_what_the_guest_does() {
        let mut echo = Echo::default();
        assert_eq!(echo.patience(Trace::Ink), Some(SHORT_PATIENCE));
        echo.missed(Trace::Doubtful);
        assert_eq!(echo.patience(Trace::Ink), Some(SHORT_PATIENCE));
        echo.missed(Trace::Ink);
        assert_eq!(echo.patience(Trace::Ink), Some(UNSEEN));
        assert_eq!(echo.patience(Trace::Space), Some(UNSEEN));
        echo.forget();
        assert_eq!(echo.patience(Trace::Ink), Some(SHORT_PATIENCE));
        echo.drawn(Trace::Ink, Duration::from_millis(30));
        assert_eq!(echo.patience(Trace::Ink), Some(PATIENCE));
        assert_eq!(echo.patience(Trace::Solid), Some(SHORT_PATIENCE));
        echo.forget();
        assert_eq!((echo.patience(Trace::Line), echo.unseen), (Some(PATIENCE), 2));
    }

    #[test]
    fn only_one_space_goes_ahead() {
        let mut echo = Echo::default();
        echo.drawn(Trace::Ink, Duration::from_millis(30));
        assert_eq!([echo.patience(Trace::Space), echo.patience(Trace::Ink)], [None, Some(PATIENCE)]);
        assert_eq!([echo.patience(Trace::Space), echo.patience(Trace::Space)], [None, Some(SHORT_PATIENCE)]);
    }

    #[test]
    fn a_slow_guest_gets_longer_rests() {
        let mut echo = Echo::default();
        for _ in 0..2 * WITHOUT_REST {
            echo.drawn(Trace::Ink, Duration::from_millis(20));
            echo.drawn(Trace::Solid, Duration::from_millis(500));
            assert_eq!(echo.rest(Trace::Ink), None);
        }
        assert_eq!(echo.rest(Trace::Line), Some((SETTLED, PATIENCE)));
        for _ in 1..WITHOUT_REST {
            echo.drawn(Trace::Ink, Duration::from_millis(400));
            assert_eq!(echo.rest(Trace::Ink), None);
        }
        echo.drawn(Trace::Ink, Duration::from_millis(400));
        assert_eq!(echo.rest(Trace::Ink), Some((Duration::from_millis(1200), PATIENCE)));
        assert_eq!(echo.rest(Trace::Ink), None);
        (0..MOST_UNSEEN).for_each(|_| echo.missed(Trace::Doubtful));
        assert!(echo.rest(Trace::Doubtful).is_some());
    }
}
