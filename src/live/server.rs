//! What the server answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::{Token, gate};
use super::page;
use super::screen;
use super::seats::{Refusal, Seats};
use super::story::{Story, Told};
use crate::attach::Record;

/// How many events a connection takes at a time.
const BATCH: usize = 200;
/// The longest message of a page.
const LONGEST_MESSAGE: usize = 1 << 20;
/// The longest name that a page may give itself.
const LONGEST_NAME: usize = 64;
/// Silence after which a connection is tried.
const ALIVE: Duration = Duration::from_secs(15);

/// What all answers are made of.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) story: Arc<Story>,
    pub(super) seats: Arc<Seats>,
    /// The machines that run.
    pub(super) machines: Mutex<Vec<Record>>,
    /// Nothing more will happen.
    pub(super) ended: CancellationToken,
    /// Pages that look at a screen.
    pub(super) screens: TaskTracker,
}

impl Shared {
    pub(super) fn new() -> Self {
        let story = Arc::<Story>::default();
        Self {
            seats: Arc::new(Seats::new(Arc::clone(&story))),
            story,
            machines: Mutex::default(),
            ended: CancellationToken::new(),
            screens: TaskTracker::new(),
        }
    }

    fn machines(&self) -> MutexGuard<'_, Vec<Record>> {
        // It is only read and replaced.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These machines run now.
    pub(super) fn set_machines(&self, machines: Vec<Record>) {
        let told: Vec<_> = machines
            .iter()
            .map(|machine| {
                json!({
                    "id": id(machine),
                    "template": machine.template,
                    "purpose": machine.purpose,
                    "started": machine.started,
                    "screen": machine.screen.is_some(),
                })
            })
            .collect();
        *self.machines() = machines;
        self.story.tell("machines", json!({ "machines": told }));
    }

    fn machine(&self, name: &str) -> Option<Record> {
        self.machines().iter().find(|machine| id(machine) == name).cloned()
    }
}

/// A machine's name in addresses.
fn id(machine: &Record) -> String {
    format!("{}.{}", machine.template, machine.purpose)
}

/// All that is answered, to those who have the token.
pub(super) fn router(token: Token, shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{token}/", get(index))
        .route("/{token}/{*path}", get(file))
        .route("/{token}/events", get(events))
        .route("/{token}/screen/{machine}/{viewer}", any(look))
        .route("/{token}/take/{viewer}", post(take))
        .route("/{token}/take-anyway/{viewer}", post(take_anyway))
        .route("/{token}/give-back/{viewer}", post(give_back))
        .with_state(shared)
        .layer(from_fn_with_state(token, gate))
}

async fn index() -> Response {
    serve("")
}

async fn file(Path((_, path)): Path<(String, String)>) -> Response {
    serve(&path)
}

fn serve(path: &str) -> Response {
    match page::find(path) {
        Some(file) => ([(CONTENT_TYPE, file.media_type())], file.content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A connection that is told what happens.
struct Listener {
    shared: Arc<Shared>,
    last: tokio::sync::watch::Receiver<u64>,
    /// The number of the last thing that it was told.
    seen: u64,
}

impl Listener {
    /// What is to be told next; nothing when all is told.
    async fn next(mut self) -> Option<(Vec<Event>, Self)> {
        loop {
            // In this order: what was told before the end is read after it.
            let ended = self.shared.ended.is_cancelled();
            self.last.mark_unchanged();
            let news = self.shared.story.since(self.seen, BATCH);
            if let Some(last) = news.told.last() {
                self.seen = last.number;
                let gap = news.gap.then(|| Event::default().data(r#"{"event":"gap"}"#));
                return Some((gap.into_iter().chain(news.told.iter().map(event)).collect(), self));
            }
            if ended {
                return None;
            }
            tokio::select! {
                _ = self.last.changed() => {}
                () = self.shared.ended.cancelled() => {}
            }
        }
    }
}

fn event(told: &Told) -> Event {
    Event::default().id(told.number.to_string()).data(&*told.json)
}

/// All that has happened since what the page has seen, and then what happens (server-sent events).
async fn events(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    // A number that was never told is another server's.
    let seen = seen.filter(|seen| *seen <= shared.story.last()).unwrap_or(0);
    let last = shared.story.follow();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let hello = json!({ "event": "hello", "now": now, "again": seen > 0, "visabuild": env!("CARGO_PKG_VERSION") });
    let told = stream::unfold(Listener { shared, last, seen }, Listener::next).flat_map(stream::iter);
    let hello = stream::iter([Event::default().data(hello.to_string())]);
    Sse::new(hello.chain(told).map(Ok)).keep_alive(KeepAlive::new().interval(ALIVE))
}

/// The screen of a machine, over a WebSocket.
async fn look(
    State(shared): State<Arc<Shared>>,
    Path((_, machine, viewer)): Path<(String, String, String)>,
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let socket = match socket {
        Ok(socket) => socket.max_message_size(LONGEST_MESSAGE),
        Err(rejection) => return rejection.into_response(),
    };
    let Some(found) = shared.machine(&machine).filter(|_| is_name(&viewer)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(address) = found.screen else { return StatusCode::NOT_FOUND.into_response() };
    let Some(seat) = shared.seats.sit(&viewer, &machine, &found.template) else {
        return StatusCode::CONFLICT.into_response();
    };
    match screen::connect(&address).await {
        Ok(stream) => {
            let (stop, screens) = (shared.ended.clone(), shared.screens.clone());
            // Counted from now on, not from when the page has switched over.
            let token = screens.token();
            socket.on_upgrade(move |page| async move {
                screen::show(page, stream, seat, stop).await;
                drop(token);
            })
        }
        // It has just ended, or has not begun: the page tries again.
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

async fn take(State(shared): State<Arc<Shared>>, Path((_, viewer)): Path<(String, String)>) -> Response {
    answer(shared.seats.take(&viewer, false))
}

async fn take_anyway(State(shared): State<Arc<Shared>>, Path((_, viewer)): Path<(String, String)>) -> Response {
    answer(shared.seats.take(&viewer, true))
}

async fn give_back(State(shared): State<Arc<Shared>>, Path((_, viewer)): Path<(String, String)>) -> Response {
    answer(shared.seats.give_back(&viewer))
}

fn answer(done: Result<(), Refusal>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(Refusal::Unknown) => StatusCode::NOT_FOUND,
        Err(Refusal::Taken) => StatusCode::CONFLICT,
        Err(Refusal::Typing) => StatusCode::PRECONDITION_REQUIRED,
    }
    .into_response()
}
