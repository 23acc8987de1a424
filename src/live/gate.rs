//! Who gets in: whoever has the token, from a page of this server.
//!
//! The port is on loopback, where every user and every page in a browser can reach it. So: the token is the first part
//! of each path (a cookie would also go to whatever else listens on loopback, because cookies know no ports); the
//! `Host` must be a name of loopback, or a name somewhere could be made to mean it (DNS rebinding); an `Origin`, where
//! a browser says one, must be this very server.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// What lets one in: 122 random bits in hexadecimal.
#[derive(Debug, Clone)]
pub(super) struct Token(SecretString);

impl Token {
    /// A new one.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// The token.
    pub(super) fn secret(&self) -> &SecretString {
        &self.0
    }

    /// The address of the page at `address`.
    pub(super) fn url(&self, address: SocketAddr) -> String {
        format!("http://{address}/{}/", self.0.expose_secret())
    }

    /// Whether the path begins with it.
    fn opens(&self, uri: &Uri) -> bool {
        let first = uri.path().split('/').nth(1).unwrap_or_default();
        first.as_bytes().ct_eq(self.0.expose_secret().as_bytes()).into()
    }
}

/// Lets a request through to the routes, or refuses it; both with headers that shut others out.
pub(super) async fn gate(State(token): State<Token>, request: Request, next: Next) -> Response {
    let host = host(request.headers());
    let mut response = match &host {
        Err(refused) => (*refused).into_response(),
        Ok(_) if !token.opens(request.uri()) => refused(StatusCode::NOT_FOUND),
        Ok(host) if !origin_is(host, request.headers(), request.method()) => refused(StatusCode::FORBIDDEN),
        Ok(_) => next.run(request).await,
    };
    shut(response.headers_mut(), host.ok().as_ref());
    response
}

fn refused(status: StatusCode) -> Response {
    status.into_response()
}

/// The `Host` of a request, which must be loopback's. Its port is not looked at: a tunnel may have another one.
fn host(headers: &HeaderMap) -> Result<Authority, StatusCode> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(StatusCode::FORBIDDEN) };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()).ok_or(StatusCode::FORBIDDEN)?;
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    if is_loopback && !host.as_str().contains('@') { Ok(host) } else { Err(StatusCode::FORBIDDEN) }
}

/// Whether a request comes from a page of this server. Browsers say so of all but simple requests for what can be read;
/// who says nothing is no browser, or asks for a part of the page, and has the token in either case.
fn origin_is(host: &Authority, headers: &HeaderMap, method: &Method) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) == Some(host.as_str())
        }
        (None, _) => method == Method::GET && !headers.contains_key("sec-websocket-key"),
        _ => false,
    }
}

/// Nothing but this server's own files is loaded, nothing inline runs, nobody puts the page into another, keeps it, or
/// is told its address.
fn shut(headers: &mut HeaderMap, host: Option<&Authority>) {
    // `'self'` means WebSockets too, but not in every browser. Its grammar has no addresses in brackets.
    let sockets = host.map(Authority::as_str).filter(|host| !host.contains('[')).map(|host| format!(" ws://{host}"));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sockets.unwrap_or_default()
    );
    let fixed: [(HeaderName, &'static str); 5] = [
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // An authority is visible ASCII.
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_path_opens_with_the_whole_token_in_its_first_part_only() {
        let token = Token::random();
        let text = token.secret().expose_secret();
        assert_eq!(text.len(), 32);
        let opens = |path: String| token.opens(&path.parse().unwrap());
        for path in [format!("/{text}/"), format!("/{text}"), format!("/{text}/events?x=1")] {
            assert!(opens(path.clone()), "{path}");
        }
        for path in [
            "/".to_owned(),
            "//".to_owned(),
            format!("//{text}/"),
            format!("/{}/", &text[1..]),
            format!("/{text}x/"),
            format!("/x/{text}/"),
            format!("/?{text}"),
            format!("/{}/", Token::random().secret().expose_secret()),
        ] {
            assert!(!opens(path.clone()), "{path}");
        }
        assert!(!format!("{token:?}").contains(text));
    }

    #[test]
    fn hosts_are_those_of_loopback() {
        for name in ["127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:99", "127.1.2.3"] {
            assert_eq!(host(&headers(&[("host", name)])).unwrap().as_str(), name);
        }
        for name in
            ["example.org:8080", "127.0.0.1.example.org", "localhost.example.org:1", "10.0.2.2", "", "u@localhost"]
        {
            assert_eq!(host(&headers(&[("host", name)])), Err(StatusCode::FORBIDDEN), "{name}");
        }
        assert!(host(&HeaderMap::new()).is_err());
        let mut two = headers(&[("host", "localhost")]);
        two.append(HOST, "localhost".parse().unwrap());
        assert!(host(&two).is_err());
    }

    #[test]
    fn an_origin_is_this_server_and_must_be_there_where_something_is_done() {
        let host: Authority = "127.0.0.1:80".parse().unwrap();
        let is = |pairs: &[(&'static str, &str)], method: Method| origin_is(&host, &headers(pairs), &method);
        let own = ("origin", "http://127.0.0.1:80");
        let socket = ("sec-websocket-key", "x");
        assert!(
            is(&[], Method::GET)
                && is(&[own], Method::GET)
                && is(&[own], Method::POST)
                && is(&[own, socket], Method::GET)
        );
        assert!(!is(&[], Method::POST) && !is(&[socket], Method::GET));
        for other in ["null", "http://127.0.0.1:81", "https://127.0.0.1:80", "http://localhost:80", "http://evil"] {
            assert!(!is(&[("origin", other)], Method::GET), "{other}");
            assert!(!is(&[("origin", other), socket], Method::GET), "{other}");
        }
    }
}
