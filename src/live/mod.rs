//! The live page: a running build in a browser, `visabuild build --watch`.
//!
//! A web server on loopback, behind a token in its address ([`gate`]). It tells pages what has happened and what happens
//! ([`story`]), as one more subscriber of the events. It shows the screens of the build's machines through noVNC, finding
//! them as `visabuild attach` does ([`crate::attach`]); whoever looks types nothing unless they take over
//! ([`viewer`], [`seats`]). It ends with the build.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::attach;
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Event, Events, Subscriber};
use crate::plan::Stage;
use gate::Token;
use server::Shared;
use story::Teller;

mod gate;
mod page;
mod rfb;
mod screen;
mod seats;
mod server;
mod story;
mod viewer;

/// How long pages may take to be told the end.
const GRACE: Duration = Duration::from_secs(2);

/// How a build ended.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// With all that was wanted.
    Done,
    /// With an error.
    Failed(&'a Error),
    /// By a signal.
    Stopped,
}

/// A running page; dropping it ends it at once.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
    token: Token,
    address: SocketAddr,
    /// Who is told since [`Live::follow`].
    events: Option<Events>,
    watching: Option<JoinHandle<()>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Live {
    /// Listens on loopback, on a port that the kernel chooses.
    ///
    /// # Errors
    /// That is not possible (kind host).
    pub async fn bind() -> Result<Self> {
        let failed = || "the live page cannot listen on loopback";
        let hint = "build without --watch, or see whether the interface `lo` is up";
        let bound = TcpListener::bind("127.0.0.1:0").await.context(Kind::Host, failed);
        let listener = bound.map_err(|error| error.hint(hint))?;
        let address = listener.local_addr().context(Kind::Host, failed)?;
        let (token, shared, stop) = (Token::random(), Arc::new(Shared::new()), CancellationToken::new());
        let router = server::router(token.clone(), Arc::clone(&shared));
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move {
            // Accepting goes on after every error, so this ends only when it is told to.
            let _ = serving.await;
        });
        Ok(Self { shared, token, address, events: None, watching: None, stop, serving })
    }

    /// What tells pages of events.
    pub fn subscriber(&self) -> Box<dyn Subscriber> {
        Box::new(Teller(Arc::clone(&self.shared.story)))
    }

    /// What must be in no log.
    pub fn secret(&self) -> &SecretString {
        self.token.secret()
    }

    /// Follows a run: tells its `stages`, shows the machines that it starts in `work`, and says in `events`, once, where
    /// the page is.
    pub fn follow(&mut self, events: &Events, work: &Path, stages: &[Stage]) {
        self.shared.story.tell("plan", plan(events, work, stages));
        self.shared.seats.tell(events);
        if self.events.replace(events.clone()).is_none() {
            events.emit(Event::LivePage { url: self.token.url(self.address) });
        }
        let (shared, events, work) = (Arc::clone(&self.shared), events.clone(), work.to_owned());
        let watching = tokio::spawn(async move {
            let watched = attach::watch(&work, |machines| shared.set_machines(machines)).await;
            if let Err(error) = watched {
                events.warn(None, format!("the live page shows no screen: {}", error.chain().join(": ")));
            }
        });
        if let Some(before) = self.watching.replace(watching) {
            before.abort();
        }
    }

    /// Tells the end to pages that are open, and ends when they know it, or do not listen.
    pub async fn finish(mut self, ending: Ending<'_>) {
        if let Some(watching) = self.watching.take() {
            watching.abort();
            // Nothing may come after the last word.
            let _ = watching.await;
        }
        self.shared.set_machines(Vec::new());
        self.shared.story.tell("ended", ended(ending, self.events.as_ref()));
        self.shared.ended.cancel();
        self.stop.cancel();
        self.shared.screens.close();
        let told = async {
            let _ = (&mut self.serving).await;
            self.shared.screens.wait().await;
        };
        // Who has not taken it by then does not read.
        let _ = tokio::time::timeout(GRACE, told).await;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.ended.cancel();
        self.stop.cancel();
        self.serving.abort();
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

/// What is going to be done, without secrets.
fn plan(events: &Events, work: &Path, stages: &[Stage]) -> Value {
    let run = work.file_name().unwrap_or_default().to_string_lossy();
    let stages: Vec<Value> = stages
        .iter()
        .map(|stage| {
            let steps = stage.steps.iter().chain(&stage.seal.steps);
            let steps: Vec<String> = steps.map(|step| events.redact(&step.provisioner.label)).collect();
            let description = events.redact(&stage.description);
            json!({ "template": stage.name, "parent": stage.parent, "description": description, "steps": steps })
        })
        .collect();
    json!({ "run": run.strip_prefix("run-").unwrap_or(&run), "stages": stages })
}

/// The last thing that a page is told.
fn ended(ending: Ending<'_>, events: Option<&Events>) -> Value {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let (how, error) = match ending {
        Ending::Done => ("done", None),
        Ending::Failed(error) => ("failed", Some(error)),
        Ending::Stopped => ("stopped", None),
    };
    let redact = |text: String| events.map_or_else(|| text.clone(), |events| events.redact(&text));
    let texts = |texts: Vec<String>| texts.into_iter().map(redact).collect::<Vec<_>>();
    let error = error.map(|error| {
        let problems = error.problem_list().iter().map(ToString::to_string);
        let message = if error.problem_list().is_empty() { error.chain() } else { problems.collect() };
        json!({ "exit_code": error.kind().exit_code(), "message": texts(message), "hints": texts(error.hints().to_vec()) })
    });
    json!({ "time": time, "how": how, "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Redactor;

    #[tokio::test]
    async fn the_end_has_the_error_without_secrets() {
        let events = Events::new(Vec::new(), Redactor::new(["geheim"]));
        let error = Error::build("no geheim").because("why geheim").hint("use geheim");
        let told = ended(Ending::Failed(&error), Some(&events));
        assert_eq!((told["how"].as_str(), told["error"]["exit_code"].as_u64()), (Some("failed"), Some(4)));
        assert!(told.to_string().contains("‹secret›") && !told.to_string().contains("geheim"), "{told}");
        assert_eq!(ended(Ending::Stopped, None)["error"], Value::Null);
    }

    #[tokio::test]
    async fn an_end_that_nobody_listens_to_takes_no_time() {
        let live = Live::bind().await.unwrap();
        let address = live.address;
        tokio::time::timeout(Duration::from_secs(1), live.finish(Ending::Done)).await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
