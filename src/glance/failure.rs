//! What a service of the cloud answers when it does not do what it is asked.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value as Json;

use crate::error::{Error, Kind};

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service said no.
    Refused(Refusal),
    /// There was no whole answer: no connection, a broken one, or one that fell silent.
    Unreachable(Unreachable),
    /// What the cloud has of an image is not what was sent.
    NotWhole(String),
    /// Nothing the cloud did: the run was interrupted, or a file of ours cannot be read.
    Ours(Error),
}

/// An answer with a status of 300 and above.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// What it says, as one line.
    pub message: String,
    /// What the cloud's administrator finds it by in the logs.
    pub request_id: Option<String>,
    /// When to come again, as the service says (RFC 9110, section 10.2.3, in seconds).
    pub retry_after: Option<Duration>,
}

/// A connection that did not come about or did not hold.
#[derive(Debug, Clone)]
pub(super) struct Unreachable {
    /// The causes, outermost first, as one line.
    pub cause: String,
    /// Whether trying again may help: a certificate does not get better.
    pub may_heal: bool,
}

impl Failure {
    /// Whether the same request may succeed later.
    pub fn may_heal(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            Self::Unreachable(unreachable) => unreachable.may_heal,
            Self::NotWhole(_) => true,
            Self::Ours(_) => false,
        }
    }

    /// The status, where there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Unreachable(_) | Self::NotWhole(_) | Self::Ours(_) => None,
        }
    }

    /// Whether the service may have done all the same what it was asked to do: the answer is missing, or is
    /// that of a proxy before it.
    pub fn leaves_open(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status.is_server_error(),
            Self::Unreachable(_) => true,
            Self::NotWhole(_) | Self::Ours(_) => false,
        }
    }

    /// Whether nothing is there by that name.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// A connection that was silent for too long.
    pub fn stalled(what: &str, patience: Duration) -> Self {
        let cause = format!("{what} for {} s", patience.as_secs());
        Self::Unreachable(Unreachable { cause, may_heal: true })
    }

    /// The error for the user; `doing` as in "creating the image".
    pub fn explain(self, doing: &str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::NotWhole(what) => Error::new(Kind::Cloud, format!("{doing}: the image did not arrive whole"))
                .because(what)
                .hint("nothing of it is kept; a cloud in which this happens again has a fault: tell its administrator"),
            Self::Unreachable(unreachable) => {
                let error = Error::new(Kind::Cloud, format!("{doing}: the cloud was not reachable"));
                let error = error.because(unreachable.clone());
                match hint_of_connection(&unreachable.cause) {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            Self::Refused(refusal) => {
                let error = Error::new(Kind::Cloud, format!("{doing}: the cloud refused")).because(refusal.clone());
                match hint_of_status(refusal.status) {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

fn hint_of_connection(cause: &str) -> Option<&'static str> {
    let has = |text: &str| cause.to_ascii_lowercase().contains(text);
    Some(if has("certificaterequired") || has("certificate required") || has("handshakefailure") {
        "the cloud asks for a client certificate: name it with --os-cert and --os-key (OS_CERT, OS_KEY)"
    } else if has("certificate") || has("unknownissuer") {
        "name the certificate authority of the cloud with --os-cacert FILE (OS_CACERT); --insecure believes any certificate"
    } else if has("dns") {
        "the host's name is not known here: look at OS_AUTH_URL, and at the VPN"
    } else if has("refused") {
        "nothing listens there: look at the port in OS_AUTH_URL"
    } else {
        return None;
    })
}

fn hint_of_status(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        401 => "the token is not valid (any more): log in again",
        403 => {
            "the user may not do that in this project: a role (`member`, say) or the cloud's policy is missing; ask its administrator"
        }
        409 => "something else changes the image at the same time, or it is in use",
        413 => {
            "the project's quota of images or their size is used up: `visabuild prune` removes old ones, or ask the administrator for more"
        }
        500..=599 => "the cloud has a fault: its administrator finds the request by its id",
        _ => return None,
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unreachable(unreachable) => unreachable.fmt(f),
            Self::NotWhole(what) => f.write_str(what),
            Self::Ours(error) => f.write_str(&error.chain().join(": ")),
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let mut causes: Vec<String> = Vec::new();
        // The outermost sentence only names the URL again.
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // hyper-util's word for what its cause says.
            if !text.starts_with("client error (") && !causes.last().is_some_and(|last| last.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        if causes.is_empty() {
            causes.push(if error.is_timeout() {
                "no answer in time".to_owned()
            } else {
                error.without_url().to_string()
            });
        }
        let cause = causes.join(": ");
        let certificate = cause.to_ascii_lowercase().contains("certificate");
        Self::Unreachable(Unreachable { cause, may_heal: !certificate })
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl StdError for Unreachable {}

impl Refusal {
    /// Out of an answer's parts.
    pub fn new(status: StatusCode, headers: &reqwest::header::HeaderMap, body: &str) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            status,
            message: message(body).unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned()),
            request_id: header("x-openstack-request-id").or_else(|| header("x-compute-request-id")),
            retry_after: header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {}", self.message, self.status.as_u16())?;
        match &self.request_id {
            Some(id) => write!(f, ", {id})"),
            None => f.write_str(")"),
        }
    }
}

impl StdError for Refusal {}

/// Longest message that is passed on, characters; proxies answer with whole pages.
const LONGEST: usize = 400;

/// The sentence in an error's body: JSON of Keystone (`error.message`), of Nova (`forbidden.message`),
/// of others (`message`), or Glance's HTML.
fn message(body: &str) -> Option<String> {
    let json: Option<Json> = serde_json::from_str(body).ok();
    let text = match &json {
        Some(Json::Object(fields)) => {
            let own = fields.get("message").or_else(|| fields.get("faultstring"));
            let found =
                own.or_else(|| fields.values().find_map(|value| value.get("message"))).and_then(Json::as_str)?;
            // Glance puts its pages' line breaks into JSON as well.
            found.replace("<br />", " ")
        }
        Some(_) => return None,
        // Its page says the status in title and heading, then the reason.
        None => without_tags(body.rsplit_once("</h1>").map_or(body, |(_, rest)| rest)),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then(|| text.chars().take(LONGEST).collect())
}

fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut inside = false;
    for letter in html.chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if inside => {}
            _ => text.push(letter),
        }
    }
    text.replace("&#x27;", "'").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_found_in_what_each_service_answers() {
        let keystone = r#"{"error": {"code": 401, "message": "The request you have made requires authentication."}}"#;
        assert_eq!(message(keystone).unwrap(), "The request you have made requires authentication.");
        assert_eq!(message(r#"{"forbidden": {"code": 403, "message": "no"}}"#).unwrap(), "no");
        assert_eq!(message(r#"{"message": "x\n y.<br /><br />\n", "code": "500"}"#).unwrap(), "x y.");
        let glance = "<html>\n <head>\n  <title>403 Forbidden</title>\n </head>\n <body>\n  <h1>403 Forbidden</h1>\n  \
                      You are not authorized to complete publicize_image action.<br /><br />\n\n\n </body>\n</html>";
        assert_eq!(message(glance).unwrap(), "You are not authorized to complete publicize_image action.");
        assert_eq!(message("plain &amp; simple").unwrap(), "plain & simple");
        assert_eq!((message(""), message("[]"), message("{}")), (None, None, None));
        assert_eq!(message(&"x".repeat(5000)).unwrap().len(), LONGEST);
    }

    #[test]
    fn only_what_may_heal_is_tried_again() {
        let refused = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            Failure::Refused(Refusal { status, message: String::new(), request_id: None, retry_after: None })
        };
        assert!([500, 502, 503, 504, 429, 408].into_iter().all(|status| refused(status).may_heal()));
        assert!(![400, 401, 403, 404, 409, 413, 501].into_iter().any(|status| refused(status).may_heal()));
        assert!(Failure::stalled("nothing moved", Duration::from_secs(3)).may_heal());
    }
}
