//! What goes wrong at a fault proxy, when, and what it writes down about requests.

use std::sync::Mutex;

use regex::Regex;
use tokio::sync::watch;

use super::http::{Head, header};

/// What is kept of a request's body, for looking at the JSON of small ones.
const BEGINNING: usize = 16 * 1024;

/// What happens to a request. Bytes of a body are counted without its framing.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request goes its way; the rule is only reached after so many bytes of its body.
    None { after: u64 },
    /// The request goes its way, but rests after so many bytes of its body until the rule is removed.
    Hold { after: u64 },
    /// The connection is reset (RST) after so many bytes of the request's body, or at its end if it is shorter.
    /// Without `forward` the service learns nothing of the request; with it, it got those bytes.
    Reset { after: u64, forward: bool },
    /// Nothing more is read or answered after so many bytes of the request's body, or after its end, until the rule is
    /// removed.
    Stall { after: u64 },
    /// An answer in the service's place, after so many bytes of the body.
    Status { code: u16, headers: Vec<(String, String)>, body: Vec<u8>, after: u64 },
    /// The service does the whole work, and the connection is reset instead of its answer.
    LoseResponse,
    /// The service does the whole work, and the client gets this status instead of its answer.
    ReplaceResponse { code: u16 },
    /// Both bodies pass at this rate.
    Slow { bytes_per_second: u64 },
    /// One byte of the request's body arrives changed.
    CorruptByte { at: u64 },
    /// The connection is closed in order after so many bytes of the response's body.
    TruncateResponse { after: u64 },
    /// Nothing more of the response comes after so many bytes of its body.
    StallResponse { after: u64 },
}

impl Fault {
    /// An empty answer at once.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: Vec::new(), after: 0 }
    }

    /// What Keystone's middleware answers to a token that is no longer valid.
    pub fn unauthorized() -> Self {
        let challenge = ("WWW-Authenticate".to_owned(), "Keystone uri=\"http://127.0.0.1/\"".to_owned());
        let body = br#"{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}"#;
        Self::Status { code: 401, headers: vec![challenge], body: body.to_vec(), after: 0 }
    }

    /// Bytes after which the request's body is stopped, and whether the service gets them.
    pub(super) fn stop(&self) -> Option<(u64, bool)> {
        match self {
            Self::Reset { after, forward } => Some((*after, *forward)),
            Self::Stall { after } => Some((*after, true)),
            Self::Status { after, .. } => Some((*after, false)),
            _ => None,
        }
    }
}

/// Which of the requests that match.
#[derive(Clone, Copy, Debug)]
enum Occurrence {
    Always,
    Nth(usize),
    First(usize),
}

/// A fault, and the requests to which it happens. Of several rules that apply, the one that was added first counts.
#[derive(Clone, Debug)]
pub struct Rule {
    method: String,
    path: Regex,
    occurrence: Occurrence,
    fault: Fault,
}

impl Rule {
    /// All requests of a method (`*`: of any) whose path and query contain `path`.
    pub fn new(method: &str, path: &str, fault: Fault) -> Self {
        Self::matching(method, &regex::escape(path), fault)
    }

    /// All requests of a method (`*`: of any) whose path and query the regular expression finds.
    pub fn matching(method: &str, path: &str, fault: Fault) -> Self {
        let path = Regex::new(path).unwrap();
        Self { method: method.to_owned(), path, occurrence: Occurrence::Always, fault }
    }

    /// Only the nth matching request, from 1, since the rule was added.
    pub fn nth(mut self, n: usize) -> Self {
        self.occurrence = Occurrence::Nth(n);
        self
    }

    /// Only the first `n` matching requests since the rule was added.
    pub fn first(mut self, n: usize) -> Self {
        self.occurrence = Occurrence::First(n);
        self
    }

    /// Only the next matching request.
    pub fn once(self) -> Self {
        self.nth(1)
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method == method) && self.path.is_match(path)
    }

    fn applies(&self, occurrence: usize) -> bool {
        match self.occurrence {
            Occurrence::Always => true,
            Occurrence::Nth(n) => occurrence == n,
            Occurrence::First(n) => occurrence <= n,
        }
    }
}

/// A rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(usize);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended.
    InFlight,
    /// The client got the service's answer.
    Answered(u16),
    /// The client got the rule's answer.
    Replied(u16),
    /// The rule reset the connection.
    Reset,
    /// The rule stopped the connection, which lasts.
    Stalled,
    /// The service answered the first, and the client got the second.
    Replaced(u16, u16),
    /// The service answered this, and the rule kept it from the client.
    LostResponse(u16),
    /// The client got a part of this answer.
    Truncated(u16),
    /// The client closed the connection before the end.
    ClientGone,
    /// The service closed the connection before the end.
    ServiceGone,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Bytes of its body that came from the client.
    pub body_bytes: u64,
    /// The first of them.
    pub beginning: Vec<u8>,
    /// The rule that applied.
    pub rule: Option<RuleId>,
    pub outcome: Outcome,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as JSON, if that is what it is.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.beginning).ok()
    }
}

#[derive(Debug)]
struct Added {
    rule: Rule,
    active: bool,
    matched: usize,
    reached: watch::Sender<usize>,
}

/// Rules and requests of one proxy.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    rules: Vec<Added>,
    requests: Vec<Request>,
    /// How many of them, from the first, are no longer told.
    forgotten: usize,
    changed: watch::Sender<()>,
}

/// A request in the book, while it is served.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    book: &'a Book,
    number: usize,
    rule: Option<RuleId>,
    pub(super) fault: Fault,
}

impl Book {
    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    pub(super) fn add(&self, rule: Rule) -> RuleId {
        let rules = &mut self.pages().rules;
        rules.push(Added { rule, active: true, matched: 0, reached: watch::Sender::new(0) });
        RuleId(rules.len() - 1)
    }

    pub(super) fn remove(&self, RuleId(rule): RuleId) {
        let mut pages = self.pages();
        pages.rules[rule].active = false;
        pages.changed.send_replace(());
    }

    pub(super) fn clear(&self) {
        let mut pages = self.pages();
        pages.rules.iter_mut().for_each(|added| added.active = false);
        pages.changed.send_replace(());
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        let pages = self.pages();
        pages.requests[pages.forgotten..].to_vec()
    }

    pub(super) fn forget_requests(&self) {
        let mut pages = self.pages();
        pages.forgotten = pages.requests.len();
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.pages().changed.subscribe()
    }

    pub(super) fn reached(&self, RuleId(rule): RuleId) -> watch::Receiver<usize> {
        self.pages().rules[rule].reached.subscribe()
    }

    /// Writes a request down and finds the rule for it.
    pub(super) fn begin(&self, head: &Head) -> Entry<'_> {
        let (method, path) = head.request_line();
        let mut pages = self.pages();
        let mut found = None;
        for (number, added) in pages.rules.iter_mut().enumerate().filter(|(_, added)| added.active) {
            if added.rule.matches(&method, &path) {
                added.matched += 1;
                if found.is_none() && added.rule.applies(added.matched) {
                    found = Some((RuleId(number), added.rule.fault.clone()));
                }
            }
        }
        let (rule, fault) = found.map_or((None, Fault::None { after: 0 }), |(rule, fault)| (Some(rule), fault));
        let headers = head.headers.clone();
        let (beginning, outcome) = (Vec::new(), Outcome::InFlight);
        pages.requests.push(Request { method, path, headers, body_bytes: 0, beginning, rule, outcome });
        let number = pages.requests.len() - 1;
        pages.changed.send_replace(());
        Entry { book: self, number, rule, fault }
    }
}

impl Entry<'_> {
    fn change(&self, change: impl FnOnce(&mut Request)) {
        let mut pages = self.book.pages();
        change(&mut pages.requests[self.number]);
        pages.changed.send_replace(());
    }

    /// Counts bytes of the request's body.
    pub(super) fn came(&self, piece: &[u8]) {
        self.change(|request| {
            request.body_bytes += piece.len() as u64;
            let room = BEGINNING - request.beginning.len();
            request.beginning.extend(&piece[..room.min(piece.len())]);
        });
    }

    /// The rule's point is reached.
    pub(super) fn reached(&self) {
        if let Some(RuleId(rule)) = self.rule {
            self.book.pages().rules[rule].reached.send_modify(|times| *times += 1);
        }
    }

    /// Waits until the rule is removed.
    pub(super) async fn removed(&self) {
        let mut changes = self.book.changes();
        while self.rule.is_some_and(|RuleId(rule)| self.book.pages().rules[rule].active) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        self.change(|request| request.outcome = outcome);
    }
}
