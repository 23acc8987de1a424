//! Carries the probes out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::contract::{Check, Expect, Level, Probe, Token, What, variables};
use super::disk::Disk;
use super::disk::files::Files;
use super::disk::scan::Secret;
use super::instance::Instance;
use super::report::{Failure, Outcome};
use super::run::ends_all;
use super::token::Signer;
use super::web::jupyter::Jupyter;
use crate::error::{Error, Result};
use crate::event::Phase;

mod desktop;
mod expect;
mod guest;
mod jupyter;
mod net;
mod offline;
mod power;

use expect::{shown, unmet};

/// Pause between two tries of a probe that has time.
const PAUSE: Duration = Duration::from_secs(1);

/// Seconds that are much more than a token's age.
const HOUR: u64 = 3600;

/// How a probe ended without success.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It saw something else than it should.
    Failed(Failure),
    /// It could not be made.
    NotRun(String),
    /// It could not be made for want of a value that the call did not give.
    NotGiven(String),
}

/// The outer error ends the whole verification.
pub(super) type Probed = Result<Result<(), Verdict>>;

pub(super) fn failed(probe: String, expected: String, seen: String) -> Probed {
    Ok(Err(Verdict::Failed(Failure { probe, expected, seen, look: None })))
}

pub(super) fn not_run(why: impl Into<String>) -> Probed {
    Ok(Err(Verdict::NotRun(why.into())))
}

pub(super) fn not_given(why: impl Into<String>) -> Probed {
    Ok(Err(Verdict::NotGiven(why.into())))
}

/// What is known of the image without booting it.
pub(super) struct Offline<'a> {
    pub disk: &'a Disk,
    /// Its root file system, or why it cannot be read.
    pub files: Result<Files, String>,
    /// What must not be on the disk.
    pub secrets: &'a [Secret],
    /// Root's password that was asked for.
    pub root_password: Option<&'a SecretString>,
    pub image: &'a Path,
}

/// Where probes are made.
pub(super) struct Bench<'a, 'p> {
    pub offline: &'a Offline<'a>,
    pub instance: Option<&'a mut Instance<'p>>,
    /// The platform's key, and somebody else's.
    pub signer: &'a Signer,
    pub stranger: &'a Signer,
    /// Pictures of desktops, with what they show.
    pub pictures: Vec<(String, Vec<u8>)>,
    pub jupyter: Option<Jupyter>,
    pub phase: &'a Phase,
    pub cancel: &'a CancellationToken,
    /// How much longer things take here than on a fast machine.
    pub slowness: u32,
}

impl<'p> Bench<'_, 'p> {
    /// Makes a check; its probes are made in their order, and the first that cannot be made ends it.
    ///
    /// # Errors
    /// The verification is to end.
    pub(super) async fn check(&mut self, check: &Check) -> Result<Outcome> {
        let mut failures = Vec::new();
        for probe in &check.probes {
            match self.probe(probe, check.level).await? {
                Ok(()) => {}
                Err(Verdict::Failed(failure)) => {
                    failures.push(Failure { look: failure.look.or_else(|| check.look.clone()), ..failure });
                }
                // What was seen weighs more than what was not.
                Err(Verdict::NotRun(why)) if failures.is_empty() => {
                    return Ok(Outcome::NotRun { why, not_given: false });
                }
                Err(Verdict::NotGiven(why)) if failures.is_empty() => {
                    return Ok(Outcome::NotRun { why, not_given: true });
                }
                Err(Verdict::NotRun(_) | Verdict::NotGiven(_)) => break,
            }
        }
        Ok(if failures.is_empty() { Outcome::Passed } else { Outcome::Failed { failures } })
    }

    /// Makes a probe until it succeeds or its time is over.
    async fn probe(&mut self, probe: &Probe, level: Level) -> Probed {
        let deadline = Instant::now() + probe.within.unwrap_or_default() * self.slowness;
        loop {
            let result = self.once(&probe.what, level).await;
            let result = match result {
                Err(error) if self.ends_all(&error) => return Err(error),
                Err(error) => failed(name(&probe.what), "an answer".to_owned(), error.chain().join(": "))?,
                Ok(result) => result,
            };
            let hopeless = self.instance.as_deref().is_some_and(|instance| !instance.is_on());
            if result.is_ok() || hopeless || Instant::now() + PAUSE >= deadline {
                return Ok(result);
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether `error` is about the verification rather than about what is verified.
    fn ends_all(&self, error: &Error) -> bool {
        ends_all(error, self.cancel)
    }

    async fn once(&mut self, what: &What, level: Level) -> Probed {
        match what {
            What::Image | What::Secrets | What::RootPassword | What::Modes { .. } => self.offline(what).await,
            What::File { .. } if level == Level::Static => self.offline(what).await,
            What::File { .. } => self.file_in_guest(what).await,
            What::Command { run, user, status, output } => self.command(run, user.as_deref(), *status, output).await,
            What::Unit { name, active, enabled } => self.unit(name, *active, *enabled).await,
            What::Listening { ports, only } => self.listening(ports, *only).await,
            What::Serial(expect) => self.serial(expect),
            What::Pam { service, login, result } => self.pam(service, login, *result).await,
            What::Clock(tolerance) => self.clock(*tolerance).await,
            What::Port { port, empty_connections } => self.port(*port, *empty_connections).await,
            What::RdpTls { port } => self.rdp_tls(*port).await,
            What::Http { .. } => self.http(what).await,
            What::WebSocket { port, path, origin, status } => {
                self.web_socket(*port, path, origin.as_deref(), *status).await
            }
            What::JupyterKernel { .. }
            | What::JupyterTerminal { .. }
            | What::JupyterOrigin
            | What::JupyterXsrf
            | What::JupyterUpload { .. } => self.notebook(what).await,
            What::GuacamoleArguments(expect) => self.guacamole_arguments(expect).await,
            What::Guacamole { login, result, size, picture, join } => {
                self.desktop(login, *result, *size, picture, *join).await
            }
            What::Reset => self.reset().await,
            What::PowerButton { limit } => self.power_button(*limit).await,
            What::Ports { limit } => self.all_ports(*limit).await,
        }
    }

    /// The instance, which is on; or why there is none.
    fn running(&self) -> Result<&Instance<'p>, String> {
        match self.instance.as_deref() {
            Some(instance) if instance.is_on() => Ok(instance),
            Some(_) => Err("the instance is off".to_owned()),
            None => Err("no instance".to_owned()),
        }
    }

    /// What probes may name here.
    fn values(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.instance.as_deref().map_or(&NONE, |instance| &instance.variables)
    }

    /// `text` with the values of what it names.
    fn fill(&self, text: &str) -> String {
        variables::fill(text, self.values(), str::to_owned)
    }

    /// Whether `said` is as expected.
    fn judge(&self, name: String, expect: &Expect, said: &str) -> Probed {
        match unmet(expect, said, self.values()) {
            None => Ok(Ok(())),
            Some(expected) => failed(name, expected, shown(said)),
        }
    }

    /// A password for `user`.
    fn token(&self, user: &str, token: Token) -> Result<SecretString> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match token {
            Token::Valid => self.signer.token(user, now),
            Token::WrongKey => self.stranger.token(user, now),
            Token::Old => self.signer.token(user, now - HOUR),
            Token::Future => self.signer.token(user, now + HOUR),
            Token::Others => self.signer.token("somebody.else", now),
            Token::OthersLonger => self.signer.token(&format!("{user}2"), now),
            Token::Password => Ok(SecretString::from("no token at all")),
        }
    }
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Self::Valid => "a valid token",
            Self::WrongKey => "a token of another key",
            Self::Old => "a token of an hour ago",
            Self::Future => "a token of the next hour",
            Self::Others => "somebody else's token",
            Self::OthersLonger => "a token of a longer name with the same beginning",
            Self::Password => "a password that is no token",
        }
    }
}

/// A probe, for people, where nothing better is known.
fn name(what: &What) -> String {
    match what {
        What::Port { port, .. } | What::RdpTls { port } => format!("port {port}"),
        What::Http { port, path, method, .. } => format!("{method} {path} at port {port}"),
        What::WebSocket { port, path, .. } => format!("WebSocket {path} at port {port}"),
        What::Guacamole { login, .. } => format!("session of {} through guacd", login.user),
        What::GuacamoleArguments(_) => "guacd's handshake".to_owned(),
        What::JupyterKernel { .. } => "Jupyter's kernel".to_owned(),
        What::JupyterTerminal { .. } => "Jupyter's terminal".to_owned(),
        What::JupyterOrigin => "a WebSocket of another origin".to_owned(),
        What::JupyterXsrf => "Jupyter's check against cross-site requests".to_owned(),
        What::JupyterUpload { .. } => "an upload to Jupyter".to_owned(),
        What::Reset => "a hard reset".to_owned(),
        What::PowerButton { .. } => "the power button".to_owned(),
        What::Ports { .. } => "the declared ports".to_owned(),
        _ => "the probe".to_owned(),
    }
}
