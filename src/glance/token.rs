//! Logging in: a token from Keystone, or why there is none.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use openstack_sdk_auth_applicationcredential::ApplicationCredentialAuthenticator;
use openstack_sdk_auth_core::types::{Domain, Project, ServiceEndpoints};
use openstack_sdk_auth_core::{Auth, AuthError, AuthToken, AuthTokenScope, OpenStackAuthType};
use openstack_sdk_auth_password::PasswordAuthenticator;
use openstack_sdk_auth_token::TokenAuthenticator;
use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::cloud::{Named, Patience, back_off, cancelled, identity_url};
use super::failure::{Failure, Refusal};
use super::login::{Login, Method, is_id};
use crate::error::{Error, Kind, Result};

/// What Keystone gave.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub secret: SecretString,
    pub expires: SystemTime,
    pub project: Named,
    pub catalog: Vec<ServiceEndpoints>,
}

/// A token, tried for as often as patience allows.
pub(super) async fn authenticate(
    client: &Client,
    login: &Login,
    patience: Patience,
    cancel: &CancellationToken,
) -> Result<Token> {
    let url = identity_url(&login.auth_url)?;
    let doing = format!("logging in at {url} with {}", login.source);
    let mut attempt = 0;
    loop {
        let mut failure = Failure::Ours(cancelled());
        for scope in scopes(login) {
            failure = match login_once(client, login, &url, scope.as_ref(), patience, cancel).await {
                Ok(token) => return checked(token, login, &doing),
                Err(failure) => failure,
            };
            // The project may be named by its id where a name was expected, and the other way round.
            if failure.status() != Some(StatusCode::UNAUTHORIZED) {
                break;
            }
        }
        // Keystone does not find a token that it never made.
        let unknown = failure.is_missing() && login.method == Method::Token;
        if failure.status() == Some(StatusCode::UNAUTHORIZED) || unknown {
            return Err(diagnose(client, login, &url, failure, patience, cancel).await.context(doing));
        }
        if !failure.may_heal() || attempt >= patience.retries {
            // Another service, or a web server, answers in its own way.
            let status = failure.status().map_or(0, |status| status.as_u16());
            let elsewhere = matches!(status, 300..400 | 404 | 405);
            let error = failure.explain(&doing);
            return Err(if elsewhere {
                error.hint("there is no Keystone at that address: look at OS_AUTH_URL")
            } else {
                error
            });
        }
        tokio::select! {
            () = tokio::time::sleep(back_off(attempt)) => attempt += 1,
            () = cancel.cancelled() => return Err(cancelled()),
        }
    }
}

/// The token must be for a project, and for the one that was named.
fn checked(token: Token, login: &Login, doing: &str) -> Result<Token> {
    if token.project.id.is_empty() {
        return Err(Error::new(Kind::Cloud, format!("{doing}: the token is for no project"))
            .hint("name the project with --project NAME, or set OS_PROJECT_NAME"));
    }
    let named = login.auth.project_name.as_ref().or(login.auth.project_id.as_ref());
    match named.filter(|_| login.project_is_named) {
        Some(named) if *named != token.project.name && *named != token.project.id => Err(Error::new(
            Kind::Cloud,
            format!("{doing}: the token is for the project `{}`, not `{named}`", token.project.name),
        )
        .hint("an application credential belongs to one project: make one in the other, or use a password")),
        _ => Ok(token),
    }
}

/// The scopes to ask for, first things first. An application credential brings its own.
fn scopes(login: &Login) -> Vec<Option<AuthTokenScope>> {
    if login.method == Method::ApplicationCredential {
        return vec![None];
    }
    let by_id = |id: &str| Project { id: Some(id.to_owned()), ..Project::default() };
    let domain = Domain {
        id: login.auth.project_domain_id.clone().filter(|_| login.auth.project_domain_name.is_none()),
        name: login.auth.project_domain_name.clone(),
    };
    let by_name = |name: &str| Project { name: Some(name.to_owned()), domain: Some(domain.clone()), id: None };
    let projects = match (&login.auth.project_id, &login.auth.project_name) {
        (Some(id), _) => vec![by_id(id)],
        (None, Some(name)) if is_id(name) => vec![by_id(name), by_name(name)],
        (None, Some(name)) => vec![by_name(name)],
        (None, None) => return vec![Some(AuthTokenScope::Unscoped)],
    };
    projects.into_iter().map(|project| Some(AuthTokenScope::Project(project))).collect()
}

async fn login_once(
    client: &Client,
    login: &Login,
    url: &Url,
    scope: Option<&AuthTokenScope>,
    patience: Patience,
    cancel: &CancellationToken,
) -> std::result::Result<Token, Failure> {
    let plugin: &dyn OpenStackAuthType = match login.method {
        Method::Password => &PasswordAuthenticator,
        Method::Token => &TokenAuthenticator,
        Method::ApplicationCredential => &ApplicationCredentialAuthenticator,
    };
    let values = values(login);
    let exchange = tokio::time::timeout(patience.answer, plugin.auth(client, url, &values, scope, None));
    let answer = tokio::select! {
        answer = exchange => answer.map_err(|_| Failure::stalled("Keystone did not answer", patience.answer))?,
        () = cancel.cancelled() => return Err(Failure::Ours(cancelled())),
    };
    match answer.map_err(auth_failure)? {
        Auth::AuthToken(token) => Ok(Token::from(*token)),
        _ => Err(Failure::Ours(Error::new(Kind::Cloud, "Keystone gave no token"))),
    }
}

fn values(login: &Login) -> HashMap<String, SecretString> {
    let auth = &login.auth;
    let plain = [
        ("username", &auth.username),
        ("user_id", &auth.user_id),
        ("user_domain_id", &auth.user_domain_id),
        ("user_domain_name", &auth.user_domain_name),
        ("application_credential_id", &auth.application_credential_id),
        ("application_credential_name", &auth.application_credential_name),
    ];
    let secret = [
        ("password", &auth.password),
        ("token", &auth.token),
        ("application_credential_secret", &auth.application_credential_secret),
    ];
    let plain = plain.into_iter().filter_map(|(name, value)| Some((name, SecretString::from(value.clone()?))));
    let secret = secret.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    plain.chain(secret).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn auth_failure(error: AuthError) -> Failure {
    let refused = |code: u16, message: String| {
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        Failure::Refused(Refusal { status, message, request_id: None, retry_after: None })
    };
    match error {
        AuthError::Reqwest { source } => source.into(),
        AuthError::Identity(identity) => refused(u16::try_from(identity.code).unwrap_or(502), identity.message),
        AuthError::UnknownAuth { code, message } => {
            let headers = HeaderMap::new();
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            Failure::Refused(Refusal::new(status, &headers, message.as_deref().unwrap_or_default()))
        }
        other => Failure::Ours(Error::new(Kind::Cloud, "Keystone's answer is not understood").because(other)),
    }
}

/// Keystone does not say which of user, password and project it means; asking again does.
async fn diagnose(
    client: &Client,
    login: &Login,
    url: &Url,
    failure: Failure,
    patience: Patience,
    cancel: &CancellationToken,
) -> Error {
    let refusal = |message: &str| Error::new(Kind::Cloud, message);
    let because = |error: Error| match &failure {
        Failure::Refused(refusal) => error.because(refusal.clone()),
        _ => error,
    };
    match login.method {
        Method::ApplicationCredential => {
            return because(refusal("the application credential or its secret is wrong, or it has expired"))
                .hint("look at OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET; `openstack application credential list` shows what there is");
        }
        Method::Token => {
            return because(refusal("the token is not valid (any more), or not for this project"))
                .hint("`openstack token issue` makes a new one");
        }
        Method::Password => {}
    }
    let user = login.auth.username.as_deref().or(login.auth.user_id.as_deref()).unwrap_or_default();
    let domain = login.auth.user_domain_name.as_deref().or(login.auth.user_domain_id.as_deref()).unwrap_or_default();
    let unscoped = login_once(client, login, url, Some(&AuthTokenScope::Unscoped), patience, cancel).await;
    let Ok(token) = unscoped else {
        return because(refusal(&format!("user `{user}` of the domain `{domain}`, or the password, is wrong")))
            .hint("look at OS_USERNAME, OS_USER_DOMAIN_NAME and OS_PASSWORD (or clouds.yaml)");
    };
    let wanted = login.auth.project_name.as_deref().or(login.auth.project_id.as_deref()).unwrap_or_default();
    let error = because(refusal(&format!("user `{user}` has no role in a project `{wanted}`")));
    match projects(client, url, &token).await {
        Some(names) if names.is_empty() => {
            error.hint("the user has a role in no project: ask the cloud's administrator")
        }
        Some(names) => error.hint(format!("the user's projects are {}", names.join(", "))),
        None => error.hint("look at --project (OS_PROJECT_NAME) and OS_PROJECT_DOMAIN_NAME"),
    }
}

/// Names of the projects in which the token's user has a role.
async fn projects(client: &Client, identity: &Url, token: &Token) -> Option<Vec<String>> {
    let url = identity.join("auth/projects").ok()?;
    let request = client.get(url).header("X-Auth-Token", token.secret.expose_secret()).timeout(Duration::from_secs(10));
    let list: Json = request.send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
    let names = list.get("projects")?.as_array()?.iter().filter_map(|one| one.get("name")?.as_str());
    Some(names.map(|name| format!("`{name}`")).collect())
}

impl From<AuthToken> for Token {
    fn from(token: AuthToken) -> Self {
        let info = token.auth_info.unwrap_or_default().token;
        let project = info.project.unwrap_or_default();
        let expires = u64::try_from(info.expires_at.timestamp()).unwrap_or_default();
        Self {
            secret: token.token,
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(expires),
            project: Named { id: project.id.unwrap_or_default(), name: project.name.unwrap_or_default() },
            catalog: info.catalog.unwrap_or_default(),
        }
    }
}
