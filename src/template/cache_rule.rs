//! `cache`: what a provisioner's result depends on beside what the plan can see.

use serde::{Serialize, Serializer};

use super::Text;
use super::fields::{Fields, Reader};
use super::keys::project::CACHE_KEY;
use super::nearest::suggestion;
use super::yaml::{Content, Node};
use crate::error::Problem;
use crate::image::manifest::rfc3339;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What a provisioner's result depends on beside its own text and files. It is part of the step's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheRule {
    /// On what may be different at any time: the step, and what follows it, is done in every build.
    Never,
    /// On the day: the date in UTC, `YYYY-MM-DD`.
    Daily(String),
    /// On the week: the date of its Monday in UTC.
    Weekly(String),
    /// On this text, such as a variable of the environment.
    Key(Text),
}

impl CacheRule {
    /// How people are told of it.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Never => "cache: never",
            Self::Daily(_) => "cache: daily",
            Self::Weekly(_) => "cache: weekly",
            Self::Key(_) => "cache: key",
        }
    }
}

impl Serialize for CacheRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => serializer.serialize_str("never"),
            Self::Daily(date) => serializer.collect_map([("daily", date)]),
            Self::Weekly(date) => serializer.collect_map([("weekly", date)]),
            Self::Key(text) => serializer.collect_map([("key", text)]),
        }
    }
}

/// Reads `never`, `daily`, `weekly` or `{ key: TEXT }`; `now` is in seconds since 1970.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, now: u64) -> Option<CacheRule> {
    if matches!(node.content, Content::Map(_)) {
        return key(reader, node);
    }
    let word = reader.public(node)?;
    match word.as_str() {
        "never" => Some(CacheRule::Never),
        "daily" => Some(CacheRule::Daily(date(now))),
        "weekly" => Some(CacheRule::Weekly(date(monday(now)))),
        other => {
            let message = format!("expected `never`, `daily`, `weekly` or `key: TEXT`, found `{other}`");
            let problem = Problem::at(node.location(), message);
            reader.problems.add(match suggestion(other, ["never", "daily", "weekly"]) {
                Some(hint) => problem.hint(hint),
                None => problem.hint("without `cache` a step is done again when it or its files change"),
            });
            None
        }
    }
}

fn key(reader: &mut Reader<'_>, node: &Node) -> Option<CacheRule> {
    let mut fields = Fields::of(node, reader.problems)?;
    let key = fields.required("key", reader.problems);
    fields.finish_as(&CACHE_KEY, reader.problems);
    let key = key?;
    let text = reader.text(key)?;
    // Facts of the host stand in fingerprints as their names, so such a key would never change.
    if text.masked().contains("‹host:") {
        let problem = Problem::at(key.location(), "a fact of the host cannot be a cache key: it is in no fingerprint");
        reader.problems.add(problem.hint("use a variable of the environment"));
        return None;
    }
    Some(CacheRule::Key(text))
}

fn date(seconds: u64) -> String {
    rfc3339(seconds).chars().take("YYYY-MM-DD".len()).collect()
}

/// The Monday of a moment's week; 1970 began on a Thursday.
fn monday(seconds: u64) -> u64 {
    let day = seconds / DAY;
    day.saturating_sub((day + 3) % 7) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_weeks_are_those_of_utc() {
        // 2026-11-22 is a Sunday.
        let sunday = 1_795_305_600;
        assert_eq!((date(sunday).as_str(), date(sunday + DAY - 1).as_str()), ("2026-11-22", "2026-11-22"));
        assert_eq!(date(monday(sunday)), "2026-11-16");
        assert_eq!(date(monday(sunday + DAY)), "2026-11-23");
        assert_eq!(date(monday(0)), "1970-01-01");
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        let json = |rule: CacheRule| serde_json::to_string(&rule).unwrap();
        assert_eq!(json(CacheRule::Never), r#""never""#);
        assert_eq!(json(CacheRule::Daily("2026-11-22".to_owned())), r#"{"daily":"2026-11-22"}"#);
        assert_eq!(json(CacheRule::Key("a".into())), r#"{"key":"a"}"#);
    }
}
