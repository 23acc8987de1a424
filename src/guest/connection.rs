//! Connections to the guest: made, held, made again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handle};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::host_key::{ConnectError, Judge};
use super::login::log_in;
use super::root::Elevation;
use super::{Address, Attempts, HostKey, Key, Options, Outcome, SshFault};
use crate::error::{Cause, Error, Kind, Result};
use crate::machine::{Ended, Watch};

/// Pause after an attempt that failed: one at a guest that has no sshd yet fails at once.
const PAUSE: Duration = Duration::from_millis(250);

/// What powers a guest off, with systemd and without.
pub const POWER_OFF: &str = "systemctl --no-block poweroff || poweroff";

/// Pause after a refused login. OpenSSH 9.8 and later shuts a client out whose failures come
/// faster (sshd_config(5), PerSourcePenalties: 5 s for each, shut out from 15 s on).
const PAUSE_REFUSED: Duration = Duration::from_secs(6);

/// How long one attempt waits for sshd's banner; an emulated guest is slow to start sshd's process.
const BANNER: Duration = Duration::from_secs(15);

/// QEMU accepts a forwarded connection before the guest has a network, and its first packets are
/// lost then: after this long without a banner, another attempt is made beside the first.
const OVERLAP: Duration = Duration::from_secs(3);

/// Attempts at a time.
const ATTEMPTS: usize = 5;

/// How long key exchange and login may take once the banner was there.
const LOGIN: Duration = Duration::from_secs(60);

/// Time between two signs of life, where nothing else is said.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A guest that gives no sign of life for so long is dead; one that is only busy has that long to answer.
const DEAD: Duration = Duration::from_secs(120);

/// How long the reason of a lost connection, or of a command that failed, may lag behind it.
const REASON: Duration = Duration::from_secs(1);

/// Where the guest is and how to get in.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where its SSH server listens.
    pub address: Address,
    /// The account.
    pub user: String,
    /// The key that opens it.
    pub key: Key,
    /// What else may open it, and how connections are kept.
    pub options: Options,
    /// The guest's host key; shared by all connections to one guest.
    pub host_key: HostKey,
    /// How far attempts to connect came; shared by all connections to one guest.
    pub attempts: Attempts,
    /// The machine that the guest runs on: its end ends all waiting.
    pub watch: Watch,
    /// Ends all waiting.
    pub cancel: CancellationToken,
}

/// A guest that can be worked with over SSH.
pub struct Guest {
    endpoint: Endpoint,
    /// How long the guest may take to answer, at first and after a reboot.
    patience: Duration,
    pub(super) session: Session,
    /// Whose the commands are.
    pub(super) elevation: Elevation,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// One connection.
pub(super) struct Session {
    pub handle: Handle<Judge>,
    /// Fires when the connection is gone.
    pub closed: CancellationToken,
    /// How often the guest had been reset when the connection was made.
    resets: u64,
}

impl Guest {
    /// Connects, trying again until the guest answers or `patience` is over.
    ///
    /// # Errors
    /// The guest does not answer in time (the last cause is told), offers another host key than
    /// before, the machine ends, or the build is cancelled.
    pub async fn connect(endpoint: Endpoint, patience: Duration) -> Result<Self> {
        let session = Session::open(&endpoint, patience).await?;
        Ok(Self { endpoint, patience, session, elevation: Elevation::None })
    }

    /// Drops the connection and makes a new one.
    ///
    /// # Errors
    /// As [`Guest::connect`].
    pub async fn reconnect(&mut self) -> Result<()> {
        self.session = Session::open(&self.endpoint, self.patience).await?;
        Ok(())
    }

    /// Waits for the guest to be back after its connection was lost on purpose. A guest that is
    /// shutting down may still let one in: that connection is waited out.
    ///
    /// # Errors
    /// As [`Guest::connect`]; the whole may take as long as one connection.
    pub async fn come_back(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.session = Session::open(&self.endpoint, left).await?;
            if !self.is_stopping().await? {
                return Ok(());
            }
            if !self.lost_within(deadline.saturating_duration_since(Instant::now())).await? {
                return Err(Error::build(format!("the guest was still on its way down after {:?}", self.patience)));
            }
        }
    }

    /// Waits up to `limit` for the connection to be lost; says whether it was.
    ///
    /// # Errors
    /// The machine ends, or the build is cancelled.
    pub async fn lost_within(&self, limit: Duration) -> Result<bool> {
        let lost = async {
            self.lost().await;
            Ok(())
        };
        match timeout(limit, self.unless_ended(lost)).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether the guest's service manager is on its way down.
    ///
    /// # Errors
    /// The machine ends, or the build is cancelled.
    pub async fn is_stopping(&mut self) -> Result<bool> {
        let mut state = String::new();
        let question = "systemctl is-system-running 2>/dev/null";
        let outcome = self.run_here(question, tokio::io::empty(), |_, line| state.push_str(line)).await?;
        Ok(state == "stopping" || outcome == Outcome::Disconnected)
    }

    /// Tells the guest to power off; [`crate::machine::Running::shutdown`] waits for it.
    ///
    /// # Errors
    /// The guest refuses, the machine ends in another way, or the build is cancelled.
    pub async fn power_off(&mut self) -> Result<()> {
        self.power_off_by(POWER_OFF).await
    }

    /// As [`Guest::power_off`], by `command`.
    ///
    /// # Errors
    /// As [`Guest::power_off`].
    pub async fn power_off_by(&mut self, command: &str) -> Result<()> {
        let mut said = String::new();
        let outcome = self.run_here(command, tokio::io::empty(), |_, line| said.push_str(line)).await;
        match outcome {
            Ok(Outcome::Exit(0) | Outcome::Signal(_) | Outcome::Disconnected) => Ok(()),
            Ok(outcome) => Err(Error::build(format!("the guest cannot power off ({outcome})")).because(said)),
            Err(_) if self.endpoint.watch.has_ended() == Some(Ended::PoweredOff) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the guest is and how to get in.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// From now on the guest may take so long to answer after a reboot.
    pub fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How long the guest may take to answer, at first and after a reboot.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits until the connection is of no more use: closed, or to a guest that was reset.
    pub(super) async fn lost(&self) {
        tokio::select! {
            () = self.session.closed.cancelled() => {}
            () = self.endpoint.watch.reset_after(self.session.resets) => {}
        }
    }

    /// Whether the connection is known to be of no more use.
    pub fn is_lost(&self) -> bool {
        self.session.closed.is_cancelled() || self.endpoint.watch.resets() > self.session.resets
    }

    /// Runs `work` unless the machine ends or the build is cancelled.
    ///
    /// # Errors
    /// What `work` says, why the machine ended, or that the build was interrupted.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.endpoint.unless_ended(work).await
    }

    /// Runs `work`, which ends itself when the build is cancelled, unless the machine ends.
    ///
    /// # Errors
    /// What `work` says, or why the machine ended.
    pub async fn unless_machine_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result,
            ended = self.endpoint.watch.ended() => Err(ended.into()),
        }
    }

    /// After a lost connection or a command that failed: the machine's end, if that is why.
    ///
    /// # Errors
    /// Why the machine ended.
    pub async fn reason_of_loss(&self) -> Result<()> {
        match timeout(REASON, self.endpoint.watch.ended()).await {
            Ok(ended) => Err(ended.into()),
            Err(_) => Ok(()),
        }
    }
}

impl Endpoint {
    async fn unless_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::new(Kind::Interrupted, "the build was stopped")),
            ended = self.watch.ended() => Err(ended.into()),
            result = work => result,
        }
    }
}

impl Session {
    async fn open(endpoint: &Endpoint, patience: Duration) -> Result<Self> {
        let mut cause = None;
        endpoint.attempts.forget();
        let result = timeout(patience, endpoint.unless_ended(Self::open_sometime(endpoint, &mut cause))).await;
        result.unwrap_or_else(|_| {
            let address = &endpoint.address;
            let fault = endpoint.attempts.furthest().unwrap_or(SshFault::NeverAnswered);
            let what = match fault {
                SshFault::NeverAnswered => "did not answer SSH",
                SshFault::RefusedKey => "refused the build's key by SSH",
                SshFault::Closed | SshFault::HostKeyChanged => "answered SSH, but let nobody in",
            };
            let error = Error::build(format!("the guest {what} on {address} within {patience:?}"))
                .caused_by(Cause::Ssh(fault))
                .hint("look at the serial log; `ssh_timeout` gives the guest more time");
            Err(match cause {
                Some(cause) => error.because(cause),
                None => error,
            })
        })
    }

    async fn open_sometime(endpoint: &Endpoint, cause: &mut Option<ConnectError>) -> Result<Self> {
        let mut refused = 0;
        loop {
            let resets = endpoint.watch.resets();
            let stream = answering_stream(endpoint, cause).await;
            let login = timeout(LOGIN, Self::log_in(endpoint, stream, resets)).await;
            let login = login.unwrap_or_else(|_| Err(ConnectError::NotYet(format!("no login within {LOGIN:?}"))));
            if let Err(error) = &login {
                endpoint.attempts.came(error.after_banner());
            }
            match login {
                Ok(session) => return Ok(session),
                Err(error @ ConnectError::HostKeyChanged { .. }) => {
                    return Err(Error::build(error.to_string())
                        .caused_by(Cause::Ssh(SshFault::HostKeyChanged))
                        .hint("another machine answers on the guest's port, or the guest made new host keys"));
                }
                Err(error @ ConnectError::Refused { .. }) => {
                    refused += 1;
                    if endpoint.options.attempts == Some(refused) {
                        return Err(Error::build(format!("the guest refused {refused} login(s)"))
                            .caused_by(Cause::Ssh(SshFault::RefusedKey))
                            .because(error)
                            .hint("`ssh_handshake_attempts` is how many there may be"));
                    }
                    *cause = Some(error);
                    sleep(PAUSE_REFUSED).await;
                }
                Err(error) => {
                    *cause = Some(error);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn log_in(endpoint: &Endpoint, stream: TcpStream, resets: u64) -> Result<Self, ConnectError> {
        let closed = CancellationToken::new();
        let offered = Arc::new(Mutex::new(None));
        let judge = Judge {
            held: endpoint.host_key.clone(),
            offered: Arc::clone(&offered),
            _closed: closed.clone().drop_guard(),
        };
        let options = &endpoint.options;
        let mut handle = client::connect_stream(Arc::new(config(options)), stream, judge).await?;
        log_in(&mut handle, &endpoint.user, &endpoint.key, &options.credentials).await?;
        if let Some(key) = offered.lock().unwrap_or_else(PoisonError::into_inner).take() {
            endpoint.host_key.record(key);
        }
        Ok(Self { handle, closed, resets })
    }
}

/// A connection on which sshd's banner has come, but is not taken.
async fn answering_stream(endpoint: &Endpoint, cause: &mut Option<ConnectError>) -> TcpStream {
    let mut attempts = JoinSet::new();
    loop {
        if attempts.len() < ATTEMPTS {
            attempts.spawn(attempt(endpoint.address.clone()));
        }
        tokio::select! {
            Some(result) = attempts.join_next() => match result {
                Ok(Ok(stream)) => return stream,
                Ok(Err(error)) => {
                    endpoint.attempts.came(SshFault::NeverAnswered);
                    *cause = Some(error);
                    sleep(PAUSE).await;
                }
                Err(error) => *cause = Some(ConnectError::NotYet(error.to_string())),
            },
            () = sleep(OVERLAP) => {
                endpoint.attempts.came(SshFault::NeverAnswered);
                *cause = Some(ConnectError::NotYet("connections are taken, but no banner comes".to_owned()));
            }
        }
    }
}

async fn attempt(address: Address) -> Result<TcpStream, ConnectError> {
    let stream = address.connect().await?;
    stream.set_nodelay(true)?;
    match timeout(BANNER, stream.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(ConnectError::NotYet("the connection is closed before sshd's banner".to_owned())),
        Ok(Ok(_)) => Ok(stream),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ConnectError::NotYet(format!("no banner within {BANNER:?}"))),
    }
}

fn config(options: &Options) -> client::Config {
    let interval = options.keep_alive.unwrap_or(Some(KEEP_ALIVE));
    // A guest that is only busy has as long to answer with a shorter interval.
    let signs = interval.map_or(0, |interval| DEAD.as_millis() / interval.as_millis().max(1));
    client::Config {
        nodelay: true,
        window_size: 8 << 20,
        maximum_packet_size: 65535,
        keepalive_interval: interval,
        keepalive_max: usize::try_from(signs).unwrap_or(usize::MAX).max(1),
        inactivity_timeout: options.silence,
        ..client::Config::default()
    }
}
