//! Takes secrets out of text before anybody sees it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Event;

/// What stands where a secret stood.
const MASK: &str = "‹secret›";

/// Everything but RFC 3986's unreserved characters.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces known secrets in text, also in the forms that shells, URLs and encoders give them:
/// plain, base64, URL-encoded, single-quoted for a shell, and as a JSON string.
#[derive(Default, Clone)]
pub struct Redactor {
    /// Longest first, so that a form which contains another is replaced whole.
    forms: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("forms", &self.forms.len()).finish()
    }
}

impl Redactor {
    /// Bytes of the shortest secret that is taken out: a shorter one stands in ordinary words, which
    /// would then tell it by their gaps.
    pub const SHORTEST: usize = 4;

    /// A redactor for `secrets`; those below [`Redactor::SHORTEST`] are ignored.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> = Vec::new();
        for secret in secrets {
            if secret.len() < Self::SHORTEST {
                continue;
            }
            forms.push(secret.to_owned());
            forms.push(STANDARD.encode(secret));
            forms.push(STANDARD.encode(format!("{secret}\n")));
            forms.push(utf8_percent_encode(secret, RESERVED).to_string());
            forms.push(secret.replace('\'', r"'\''"));
            forms.push(secret.replace('\'', r#"'"'"'"#));
            let json = serde_json::Value::from(secret).to_string();
            forms.push(json[1..json.len() - 1].to_owned());
        }
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { forms }
    }

    /// `text` without the secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), MASK);
            }
        }
        text
    }

    pub(super) fn redact_event(&self, event: Event) -> Event {
        if self.forms.is_empty() {
            return event;
        }
        match event {
            Event::Output { template, phase, stream, line } => {
                Event::Output { template, phase, stream, line: self.redact(&line) }
            }
            Event::Request { template, method, path, status, user_agent, bytes } => Event::Request {
                template,
                method: self.redact(&method),
                path: self.redact(&path),
                status,
                user_agent: user_agent.map(|agent| self.redact(&agent)),
                bytes,
            },
            Event::Serial { template, line } => Event::Serial { template, line: self.redact(&line) },
            Event::Message { level, template, text } => Event::Message { level, template, text: self.redact(&text) },
            Event::StageSkipped { template, reason } => Event::StageSkipped { template, reason: self.redact(&reason) },
            Event::PhaseStarted { template, phase } => Event::PhaseStarted { template, phase: self.redact(&phase) },
            Event::PhaseFinished { template, phase, seconds } => {
                Event::PhaseFinished { template, phase: self.redact(&phase), seconds }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_masked() {
        let redactor = Redactor::new(["p'w&1\"x"]);
        for text in ["p'w&1\"x", "cCd3JjEieA==", "cCd3JjEieAo=", "p%27w%261%22x", r#"p'\''w&1"x"#, r#"p'w&1\"x"#] {
            assert_eq!(redactor.redact(&format!("a {text} b")), format!("a {MASK} b"), "{text}");
        }
    }

    #[test]
    fn text_without_secrets_and_secrets_that_are_words_are_untouched() {
        assert_eq!(Redactor::new(["", "no", "x1yz"]).redact("nothing here"), "nothing here");
    }
}
