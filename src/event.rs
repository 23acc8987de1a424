//! What happens during slow work, as data.
//!
//! Everything slow tells an [`Events`] handle; the terminal, JSON lines and the build log are
//! [`Subscriber`]s (module `report`). Nothing below `cli` prints. Secrets are taken out here, once,
//! before any subscriber sees an event ([`Redactor`]).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

pub(crate) use redact::RESERVED;
pub use redact::Redactor;

mod redact;

/// Which stream of a command a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the log.
    Debug,
    /// Said once, in passing.
    Info,
    /// The build goes on, but the user should know.
    Warning,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage (one template's part of the plan) begins.
    StageStarted {
        /// Template name.
        template: String,
    },
    /// A stage ended well.
    StageFinished {
        /// Template name.
        template: String,
        /// Wall time, seconds.
        seconds: f64,
    },
    /// A stage failed. Why is the run's error, which comes last.
    StageFailed {
        /// Template name.
        template: String,
        /// The failure's class, as `docs/failures.md` has it.
        class: &'static str,
        /// The class in words.
        words: &'static str,
    },
    /// A stage needs no work.
    StageSkipped {
        /// Template name.
        template: String,
        /// Why, as a sentence fragment.
        reason: String,
    },
    /// A phase of a stage begins (bootstrap, boot, a provisioner, seal, convert …).
    PhaseStarted {
        /// Template name.
        template: String,
        /// Phase name, as the user knows it.
        phase: String,
    },
    /// A phase ended well.
    PhaseFinished {
        /// Template name.
        template: String,
        /// Phase name.
        phase: String,
        /// Wall time, seconds.
        seconds: f64,
    },
    /// How far the running phase is.
    Progress {
        /// Template name.
        template: String,
        /// Phase name.
        phase: String,
        /// Done so far, in `unit`.
        done: u64,
        /// The whole, in `unit`, where it is known.
        total: Option<u64>,
        /// `bytes`, `percent` or a plural noun.
        unit: &'static str,
    },
    /// A line that a command printed, in the guest or on the host.
    Output {
        /// Template name.
        template: String,
        /// Phase name.
        phase: String,
        /// Which stream.
        stream: Stream,
        /// The line, without its end.
        line: String,
    },
    /// A line of the guest's serial console; for the log, not the terminal.
    Serial {
        /// Template name.
        template: String,
        /// The line, without its end and control characters.
        line: String,
    },
    /// Where to look at the running machine.
    Console {
        /// Template name.
        template: String,
        /// For example `vnc://127.0.0.1:5900`.
        url: String,
    },
    /// Keys of a boot command are being typed at the machine, or no more.
    Typing {
        /// Template name.
        template: String,
        /// Whether they are.
        typing: bool,
    },
    /// Somebody is asked what to do about a step that failed; until there is an answer nothing happens.
    Waiting {
        /// Template name.
        template: String,
    },
    /// Where the run can be watched in a browser. The address is a secret: who has it gets in. It is about no template,
    /// so that it is in no log file.
    LivePage {
        /// `http://127.0.0.1:PORT/TOKEN/`.
        url: String,
    },
    /// A guest asked the build's web server for something.
    Request {
        /// Template name.
        template: String,
        /// For example `GET`.
        method: String,
        /// Path and query, as they came.
        path: String,
        /// The status that was answered.
        status: u16,
        /// What the client calls itself.
        user_agent: Option<String>,
        /// Bytes of the body that were sent.
        bytes: u64,
    },
    /// A sentence for the user.
    Message {
        /// How much it matters.
        level: Level,
        /// The template it is about, when it is about one.
        template: Option<String>,
        /// The sentence.
        text: String,
    },
    /// An image was verified against its contract.
    Verified {
        /// Template name.
        template: String,
        /// The contract's name.
        contract: String,
        /// Checks that passed.
        passed: usize,
        /// Checks that failed.
        failed: usize,
        /// Checks that could not be made.
        not_run: usize,
    },
    /// An image is in the cloud.
    Published {
        /// Template name.
        template: String,
        /// The image's id.
        image: String,
        /// Its name there.
        name: String,
        /// What it is among those of its name: `candidate`, `current` …
        state: &'static str,
        /// Who may see it.
        visibility: String,
        /// Whether the same data were there already, so that nothing was sent.
        was_there: bool,
        /// Ids of the images that it replaced.
        replaced: Vec<String>,
    },
    /// A file that a post-processor made of an image.
    PostProcessed {
        /// Template name.
        template: String,
        /// The post-processor's label.
        post_processor: String,
        /// Path of the file.
        path: String,
        /// Bytes.
        bytes: u64,
    },
    /// A finished image.
    Artifact {
        /// Template name.
        template: String,
        /// Path of the qcow2.
        path: String,
        /// Bytes on disk.
        bytes: u64,
        /// SHA-256 in hexadecimal.
        sha256: String,
    },
}

/// An event with its time.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// Seconds since 1970, with fraction.
    pub time: f64,
    /// Seconds since the run began.
    pub elapsed: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Someone who listens to events. Called from any thread; must not block for long.
pub trait Subscriber: Send + Sync {
    /// Takes one event.
    fn receive(&self, event: &Timed);
}

/// The handle that everything slow reports to. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    subscribers: Arc<[Box<dyn Subscriber>]>,
    redactor: Arc<Redactor>,
    started: Instant,
    /// Phases that have not ended well, in the order of their beginning.
    running: Arc<Mutex<Vec<Beginning>>>,
}

/// When a phase of which template began, and its name.
type Beginning = (Instant, String, String);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("subscribers", &self.subscribers.len()).finish_non_exhaustive()
    }
}

impl Events {
    /// A handle that passes events to `subscribers` after `redactor` has taken the secrets out.
    pub fn new(subscribers: Vec<Box<dyn Subscriber>>, redactor: Redactor) -> Self {
        Self {
            subscribers: subscribers.into(),
            redactor: Arc::new(redactor),
            started: Instant::now(),
            running: Arc::default(),
        }
    }

    /// A handle that nobody listens to.
    pub fn none() -> Self {
        Self::new(Vec::new(), Redactor::default())
    }

    /// Takes secrets out of `text`; for what does not travel as an event (an error, a report file).
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// Tells everybody.
    pub fn emit(&self, event: Event) {
        if self.subscribers.is_empty() {
            return;
        }
        let event = self.redactor.redact_event(event);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let timed = Timed { time, elapsed: self.started.elapsed().as_secs_f64(), event };
        for subscriber in self.subscribers.iter() {
            subscriber.receive(&timed);
        }
    }

    /// A note for the log.
    pub fn debug(&self, template: Option<&str>, text: impl Into<String>) {
        self.message(Level::Debug, template, text.into());
    }

    /// A sentence for the user.
    pub fn info(&self, template: Option<&str>, text: impl Into<String>) {
        self.message(Level::Info, template, text.into());
    }

    /// A warning for the user.
    pub fn warn(&self, template: Option<&str>, text: impl Into<String>) {
        self.message(Level::Warning, template, text.into());
    }

    fn message(&self, level: Level, template: Option<&str>, text: String) {
        self.emit(Event::Message { level, template: template.map(str::to_owned), text });
    }

    /// Begins a phase of `template`'s stage; dropping the result without
    /// [`Phase::finish`] leaves it unfinished, which is what a failure looks like.
    pub fn phase(&self, template: &str, phase: impl Into<String>) -> Phase {
        let name = phase.into();
        self.emit(Event::PhaseStarted { template: template.to_owned(), phase: name.clone() });
        let started = Instant::now();
        self.running().push((started, template.to_owned(), name.clone()));
        Phase { events: self.clone(), template: template.to_owned(), name, started }
    }

    /// Keys are being typed at `template`'s machine until the result is dropped.
    pub fn typing(&self, template: &str) -> Typing {
        self.emit(Event::Typing { template: template.to_owned(), typing: true });
        Typing { events: self.clone(), template: template.to_owned() }
    }

    /// The phase of `template` that began last and has not ended well, and how long ago that was.
    pub fn running_phase(&self, template: &str) -> Option<(String, Duration)> {
        let running = self.running();
        let (started, _, name) = running.iter().rfind(|(_, of, _)| of == template)?;
        Some((name.clone(), started.elapsed()))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<Beginning>> {
        // A panic elsewhere leaves the list whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running phase: the template and phase that output lines and progress belong to.
#[derive(Debug)]
pub struct Phase {
    events: Events,
    template: String,
    name: String,
    started: Instant,
}

impl Phase {
    /// The handle that the phase reports to.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The template whose stage this is.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The phase's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Passes on a line that a command printed.
    pub fn output(&self, stream: Stream, line: impl Into<String>) {
        self.events.emit(Event::Output {
            template: self.template.clone(),
            phase: self.name.clone(),
            stream,
            line: line.into(),
        });
    }

    /// Tells how far the phase is.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &'static str) {
        self.events.emit(Event::Progress {
            template: self.template.clone(),
            phase: self.name.clone(),
            done,
            total,
            unit,
        });
    }

    /// Ends the phase well and returns its wall time.
    pub fn finish(self) -> Duration {
        let took = self.started.elapsed();
        self.events.running().retain(|(started, template, name)| {
            (started, template.as_str(), name.as_str()) != (&self.started, &self.template, &self.name)
        });
        self.events.emit(Event::PhaseFinished {
            template: self.template.clone(),
            phase: self.name.clone(),
            seconds: took.as_secs_f64(),
        });
        took
    }
}

/// Keys are being typed at a machine; they no longer are when this is dropped.
#[derive(Debug)]
pub struct Typing {
    events: Events,
    template: String,
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.events.emit(Event::Typing { template: self.template.clone(), typing: false });
    }
}
