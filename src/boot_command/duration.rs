//! Durations as Go writes them, which Packer's waits use.

use std::time::Duration;

/// The longest time that a boot command may wait: beyond it is a slip.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Go's units (time.ParseDuration) in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Whole seconds (`5`) or a duration of Go (`300ms`, `1m30s`, `1.5h`).
///
/// # Errors
/// Why it is none; what is said fits behind "`TEXT` ".
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let nanoseconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000_000))
    } else {
        let Some(sum) = sum(text) else {
            return Err("is not a duration such as 5, 300ms or 1m30s".to_owned());
        };
        sum
    };
    match nanoseconds.map(Duration::from_nanos) {
        Some(Duration::ZERO) => Err("is no time at all".to_owned()),
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("is longer than a day".to_owned()),
    }
}

/// The parts' sum in nanoseconds; `Some(None)` when it is beyond all bounds, `None` when it is malformed.
fn sum(text: &str) -> Option<Option<u64>> {
    let mut rest = text;
    let mut sum = Some(0_u64);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = part(number, *scale)?;
        sum = sum.and_then(|sum| sum.checked_add(part?));
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// `number` times `scale`; `Some(None)` when it is beyond all bounds.
fn part(number: &str, scale: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut part = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
    part = part.and_then(|whole| whole.checked_mul(scale));
    let mut place = scale;
    for digit in fraction.bytes() {
        // Go rounds below a nanosecond as well.
        place /= 10;
        part = part.and_then(|sum| sum.checked_add(u64::from(digit - b'0') * place));
    }
    Some(part)
}

/// The duration in Go's form, without rounding: `1h2m3s4ms`.
pub(super) fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for unit in ["h", "m", "s", "ms", "us", "ns"] {
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, scale)| *scale);
        if rest >= scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_duration_round_trips(nanoseconds in 1..=LONGEST.as_nanos() as u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse(&written(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text in "[0-9.a-z\u{b5}+-]{0,30}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration > Duration::ZERO && duration <= LONGEST);
            }
        }
    }

    #[test]
    fn gos_durations() {
        for (text, milliseconds) in [
            ("1", 1000),
            ("10", 10_000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("1s1s", 2000),
            ("500000\u{b5}s", 500),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["", "s", "-5", "+5s", "5x", "1.2.3s", ".s", "5 s", "five", "1.5", "s5", "\u{0665}s"] {
            assert_eq!(parse(text).unwrap_err(), "is not a duration such as 5, 300ms or 1m30s", "{text}");
        }
        for text in ["0", "0s", "0.0000000001s"] {
            assert_eq!(parse(text).unwrap_err(), "is no time at all", "{text}");
        }
        for text in ["24h1ns", "99999999999999999999", "99999999999999999999h", "86401", "9999999999999h9s"] {
            assert_eq!(parse(text).unwrap_err(), "is longer than a day", "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (nanoseconds, text) in [(1, "1ns"), (90_000_000_000, "1m30s"), (3_600_000_001_000, "1h1us"), (0, "0s")] {
            assert_eq!(written(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
