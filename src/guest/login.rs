//! How a build gets into the guest, beside with its own key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::HashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use secrecy::{ExposeSecret, SecretString};

use super::Key;
use super::host_key::{ConnectError, Judge};

/// Rounds of questions that a server may ask; PAM asks one.
const ROUNDS: usize = 5;

/// What opens the account.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A key of a file.
    Key(Key),
    /// The keys of the agent that listens at this socket.
    Agent(PathBuf),
    /// A password, which is told to whoever asks for one.
    Password(SecretString),
}

/// How a connection is made and kept.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is tried after the build's key, in this order.
    pub credentials: Vec<Credential>,
    /// Refused logins after which the guest is given up; none tries for as long as there is time.
    pub attempts: Option<u32>,
    /// Time between two signs of life; the outer none is visabuild's own, the inner none is none at all.
    pub keep_alive: Option<Option<Duration>>,
    /// Give a connection up on which nothing comes for so long.
    pub silence: Option<Duration>,
    /// Commands of provisioners have a terminal.
    pub pty: bool,
}

impl Credential {
    fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "the private key",
            Self::Agent(_) => "the agent's keys",
            Self::Password(_) => "the password",
        }
    }
}

/// Logs `user` in with `key`, or one of `credentials`.
///
/// # Errors
/// All are refused, or the connection is lost.
pub(super) async fn log_in(
    handle: &mut Handle<Judge>,
    user: &str,
    key: &Key,
    credentials: &[Credential],
) -> Result<(), ConnectError> {
    let own = handle.authenticate_publickey(user, key.private(None)).await?;
    if own.success() {
        return Ok(());
    }
    for credential in credentials {
        let let_in = match credential {
            Credential::Key(key) => with_key(handle, user, key).await?,
            Credential::Agent(socket) => with_agent(handle, user, socket).await?,
            Credential::Password(password) => with_password(handle, user, password).await?,
        };
        if let_in {
            return Ok(());
        }
    }
    let tried = ["the build's key"].into_iter().chain(credentials.iter().map(Credential::name));
    let tried = tried.collect::<Vec<_>>().join(", ");
    Err(ConnectError::Refused { user: user.to_owned(), tried })
}

/// RSA keys sign with the best hash that the server knows (RFC 8332).
async fn hash(handle: &Handle<Judge>) -> Result<Option<HashAlg>, ConnectError> {
    Ok(handle.best_supported_rsa_hash().await?.flatten())
}

async fn with_key(handle: &mut Handle<Judge>, user: &str, key: &Key) -> Result<bool, ConnectError> {
    let hash = if key.is_rsa() { hash(handle).await? } else { None };
    Ok(handle.authenticate_publickey(user, key.private(hash)).await?.success())
}

async fn with_agent(handle: &mut Handle<Judge>, user: &str, socket: &Path) -> Result<bool, ConnectError> {
    let failed = |error: &dyn std::fmt::Display| {
        ConnectError::NotYet(format!("the SSH agent at {} does not answer: {error}", socket.display()))
    };
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| failed(&error))?;
    let identities = agent.request_identities().await.map_err(|error| failed(&error))?;
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if key.algorithm().is_rsa() { hash(handle).await? } else { None };
        let result = handle.authenticate_publickey_with(user, key, hash, &mut agent).await;
        if result.map_err(|error| failed(&error))?.success() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// By the method `password`, and where the server does not know it by `keyboard-interactive`.
async fn with_password(handle: &mut Handle<Judge>, user: &str, password: &SecretString) -> Result<bool, ConnectError> {
    if let AuthResult::Success = handle.authenticate_password(user, password.expose_secret()).await? {
        return Ok(true);
    }
    let mut answer = handle.authenticate_keyboard_interactive_start(user, None).await?;
    for _ in 0..ROUNDS {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let answers = prompts.iter().map(|_| password.expose_secret().to_owned()).collect();
        answer = handle.authenticate_keyboard_interactive_respond(answers).await?;
    }
    Ok(false)
}
