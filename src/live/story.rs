//! What has happened so far, as much as a page needs that is opened late.
//!
//! Everything has a number. A page that has seen all up to a number asks for what came after it, so it gets each thing
//! once, however often it connects, and a slow one holds nothing up and nothing in memory: nothing is queued for it.
//! What a long build would make too much of is kept in part: the newest lines of the log, the newest requests, the
//! newest progress of each phase.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::event::{Event, Subscriber, Timed};

/// Lines of the log that are kept, and how many bytes of them.
const LOG: Limit = Limit { count: 4000, bytes: 4 << 20 };
/// Requests of the guest that are kept.
const REQUESTS: Limit = Limit { count: 1000, bytes: 1 << 20 };
/// Stages, phases and results: hundreds, unless something runs wild.
const COURSE: Limit = Limit { count: 20_000, bytes: 8 << 20 };

/// How much of something is kept.
#[derive(Debug, Clone, Copy)]
struct Limit {
    count: usize,
    bytes: usize,
}

/// One thing that pages are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Its number, from 1.
    pub(super) number: u64,
    /// A JSON object with `event`, as a line of `--json` has it.
    pub(super) json: Arc<str>,
}

/// What came after some number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// In the order in which it happened.
    pub(super) told: Vec<Told>,
    /// Lines or requests between were not kept.
    pub(super) gap: bool,
}

/// The newest of one kind.
#[derive(Debug)]
struct Ring {
    limit: Limit,
    kept: VecDeque<Told>,
    bytes: usize,
    /// The number of the last one that was forgotten.
    forgotten: u64,
}

impl Ring {
    fn new(limit: Limit) -> Self {
        Self { limit, kept: VecDeque::new(), bytes: 0, forgotten: 0 }
    }

    fn push(&mut self, told: Told) {
        self.bytes += told.json.len();
        self.kept.push_back(told);
        while self.kept.len() > self.limit.count || self.bytes > self.limit.bytes {
            let Some(first) = self.kept.pop_front() else { return };
            self.bytes -= first.json.len();
            self.forgotten = first.number;
        }
    }

    fn since(&self, number: u64, news: &mut News) {
        let from = self.kept.partition_point(|told| told.number <= number);
        news.told.extend(self.kept.range(from..).cloned());
        news.gap |= self.forgotten > number;
    }
}

#[derive(Debug)]
struct State {
    last: u64,
    course: Ring,
    log: Ring,
    requests: Ring,
    /// Of these only the last matters: the progress of a phase, the machines that run.
    newest: BTreeMap<String, Told>,
    /// Templates at whose machine a boot command is being typed.
    typing: BTreeSet<String>,
}

/// What is told to pages; see the module.
#[derive(Debug)]
pub(super) struct Story {
    state: Mutex<State>,
    /// The last number, for those who wait.
    last: watch::Sender<u64>,
}

/// Where something is kept.
enum Place {
    Course,
    Log,
    Requests,
    Newest(String),
}

impl Default for Story {
    fn default() -> Self {
        let state = State {
            last: 0,
            course: Ring::new(COURSE),
            log: Ring::new(LOG),
            requests: Ring::new(REQUESTS),
            newest: BTreeMap::new(),
            typing: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), last: watch::Sender::new(0) }
    }
}

impl Story {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is done with it that could panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, place: Place, value: &impl Serialize) {
        // Numbers, texts and lists of them: that cannot fail.
        let Ok(json) = serde_json::to_string(value) else { return };
        let mut state = self.state();
        state.last += 1;
        let told = Told { number: state.last, json: json.into() };
        match place {
            Place::Course => state.course.push(told),
            Place::Log => state.log.push(told),
            Place::Requests => state.requests.push(told),
            Place::Newest(key) => drop(state.newest.insert(key, told)),
        }
        // Under the lock, so that it never goes back.
        self.last.send_replace(state.last);
    }

    /// Tells something of the page's own that replaces what was told of the same `kind`; `value` is an object.
    pub(super) fn tell(&self, kind: &str, mut value: Value) {
        value["event"] = json!(kind);
        self.keep(Place::Newest(kind.to_owned()), &value);
    }

    /// At most `most` things that came after `number`.
    pub(super) fn since(&self, number: u64, most: usize) -> News {
        let mut news = News::default();
        let state = self.state();
        for ring in [&state.course, &state.log, &state.requests] {
            ring.since(number, &mut news);
        }
        news.told.extend(state.newest.values().filter(|told| told.number > number).cloned());
        drop(state);
        news.told.sort_unstable_by_key(|told| told.number);
        news.told.truncate(most);
        news
    }

    /// Tells whenever there is more.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The number of the last thing.
    pub(super) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Whether a boot command is being typed at `template`'s machine.
    pub(super) fn is_typing(&self, template: &str) -> bool {
        self.state().typing.contains(template)
    }
}

/// A phase's progress.
fn progress(template: &str, phase: &str) -> String {
    format!("progress/{template}/{phase}")
}

/// Tells a story what happens.
#[derive(Debug)]
pub(super) struct Teller(pub(super) Arc<Story>);

impl Subscriber for Teller {
    fn receive(&self, timed: &Timed) {
        let place = match &timed.event {
            // Whoever sees the page has the address.
            Event::LivePage { .. } => return,
            Event::Serial { .. } | Event::Output { .. } | Event::Message { .. } => Place::Log,
            Event::Request { .. } => Place::Requests,
            Event::Progress { template, phase, .. } => Place::Newest(progress(template, phase)),
            Event::Typing { template, typing } => {
                let mut state = self.0.state();
                if *typing {
                    state.typing.insert(template.clone())
                } else {
                    state.typing.remove(template)
                };
                drop(state);
                Place::Newest(format!("typing/{template}"))
            }
            Event::PhaseFinished { template, phase, .. } => {
                self.0.state().newest.remove(&progress(template, phase));
                Place::Course
            }
            _ => Place::Course,
        };
        self.0.keep(place, timed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Events, Redactor, Stream};

    fn story() -> (Arc<Story>, Events) {
        let story = Arc::<Story>::default();
        let events = Events::new(vec![Box::new(Teller(Arc::clone(&story)))], Redactor::new(["geheim"]));
        (story, events)
    }

    fn kinds(news: &News) -> Vec<String> {
        let kind =
            |told: &Told| serde_json::from_str::<Value>(&told.json).unwrap()["event"].as_str().unwrap().to_owned();
        news.told.iter().map(kind).collect()
    }

    #[test]
    fn each_thing_is_told_once_and_in_order() {
        let (story, events) = story();
        let phase = events.phase("t", "boot");
        phase.output(Stream::Stdout, "a geheim b");
        story.tell("machines", json!({ "machines": [] }));
        let first = story.since(0, 2);
        assert_eq!((kinds(&first), first.gap), (vec!["phase_started".to_owned(), "output".to_owned()], false));
        assert!(first.told[1].json.contains("a ‹secret› b"));
        phase.finish();
        let rest = story.since(first.told[1].number, 100);
        assert_eq!(kinds(&rest), ["machines", "phase_finished"]);
        assert_eq!(rest.told.last().unwrap().number, story.last());
        assert_eq!(story.since(story.last(), 100), News::default());
    }

    #[test]
    fn of_progress_and_machines_the_newest_is_kept() {
        let (story, events) = story();
        let phase = events.phase("t", "fetch");
        for done in 0..1000 {
            phase.progress(done, None, "bytes");
            story.tell("machines", json!({ "machines": [done] }));
        }
        let news = story.since(0, usize::MAX);
        assert_eq!(kinds(&news), ["phase_started", "progress", "machines"]);
        assert!(news.told[1].json.contains("\"done\":999") && news.told[2].json.contains("[999]"));
        phase.finish();
        assert_eq!(kinds(&story.since(0, usize::MAX)), ["phase_started", "machines", "phase_finished"]);
    }

    #[test]
    fn old_lines_are_forgotten_and_that_is_said_to_those_who_missed_them() {
        let (story, events) = story();
        let phase = events.phase("t", "noise");
        for line in 0..LOG.count + 10 {
            phase.output(Stream::Stderr, line.to_string());
        }
        let late = story.since(0, usize::MAX);
        assert_eq!((late.told.len(), late.gap), (LOG.count + 1, true));
        assert_eq!(kinds(&late)[0], "phase_started", "the course is whole");
        assert!(!story.since(11, usize::MAX).gap, "numbers 2 to 11 were forgotten");
        assert!(story.since(10, usize::MAX).gap);
        let long = "x".repeat(LOG.bytes / 4);
        for _ in 0..8 {
            phase.output(Stream::Stdout, long.clone());
        }
        assert!(story.since(0, usize::MAX).told.len() < 8, "bytes count too");
    }

    #[test]
    fn the_address_is_not_told_and_typing_is_known_while_it_lasts() {
        let (story, events) = story();
        events.emit(Event::LivePage { url: "http://127.0.0.1:1/token/".into() });
        assert_eq!(story.last(), 0);
        let typing = events.typing("t");
        assert!(story.is_typing("t") && !story.is_typing("u"));
        drop(typing);
        assert!(!story.is_typing("t"));
    }

    #[test]
    fn whoever_waits_is_told() {
        let (story, events) = story();
        let follower = story.follow();
        assert!(!follower.has_changed().unwrap());
        events.info(None, "hello");
        assert!(follower.has_changed().unwrap());
    }
}
