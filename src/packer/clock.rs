//! Times as Packer's languages write them: Go's layouts, HCL's `formatdate`, strftime.

/// A moment, in UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    year: u64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    weekday: usize,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Elements of Go's layouts (package time, constants), longer ones before their beginnings, and what they stand for in
/// the language of strftime(3).
const GO: [(&str, &str); 24] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

/// Runs of letters that `formatdate` knows.
const HCL: [(&str, &str); 23] = [
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("MM", "%m"),
    ("M", "%-m"),
    ("DD", "%d"),
    ("D", "%-d"),
    ("EEEE", "%A"),
    ("EEE", "%a"),
    ("hh", "%H"),
    ("h", "%-H"),
    ("HH", "%I"),
    ("H", "%-I"),
    ("AA", "%p"),
    ("aa", "%P"),
    ("mm", "%M"),
    ("m", "%-M"),
    ("ss", "%S"),
    ("s", "%-S"),
    ("ZZZZZ", "+00:00"),
    ("ZZZ", "UTC"),
    ("Z", "Z"),
];

impl Moment {
    /// From seconds since 1970.
    pub(super) fn new(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut day) = (1970, days);
        while day >= 365 + u64::from(is_leap(year)) {
            day -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u64::from(is_leap(year));
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while month < 11 && day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        // 1970 began on a Thursday.
        let weekday = usize::try_from((days + 4) % 7).unwrap_or_default();
        Self { year, month, day: day + 1, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, weekday }
    }

    /// Seconds since 1970 of a moment in RFC 3339's form.
    pub(super) fn parse(text: &str) -> Option<u64> {
        let time = humantime::parse_rfc3339(text).ok()?;
        Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
    }

    /// RFC 3339.
    pub(super) fn rfc3339(self) -> String {
        self.strftime("%Y-%m-%dT%H:%M:%SZ")
    }

    /// As strftime(3) does, in the C locale.
    pub(super) fn strftime(self, format: &str) -> String {
        let hour12 = (self.hour + 11) % 12 + 1;
        let half = if self.hour < 12 { "am" } else { "pm" };
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next().unwrap_or('%');
            let bare = directive == '-';
            if bare {
                directive = chars.next().unwrap_or('%');
            }
            let two = |number: u64| if bare { number.to_string() } else { format!("{number:02}") };
            out.push_str(&match directive {
                'Y' => self.year.to_string(),
                'y' => two(self.year % 100),
                'm' => two(self.month as u64 + 1),
                'd' => two(self.day),
                'e' => format!("{:2}", self.day),
                'H' => two(self.hour),
                'I' => two(hour12),
                'M' => two(self.minute),
                'S' => two(self.second),
                'B' => MONTHS[self.month].to_owned(),
                'b' | 'h' => MONTHS[self.month][..3].to_owned(),
                'A' => DAYS[self.weekday].to_owned(),
                'a' => DAYS[self.weekday][..3].to_owned(),
                'p' => half.to_ascii_uppercase(),
                'P' => half.to_owned(),
                'F' => self.strftime("%Y-%m-%d"),
                'T' => self.strftime("%H:%M:%S"),
                'Z' => "UTC".to_owned(),
                'z' => "+0000".to_owned(),
                '%' => "%".to_owned(),
                other => format!("%{other}"),
            });
        }
        out
    }
}

/// Go's layout in the language of strftime(3).
pub(super) fn from_go(layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        match GO.iter().find(|(element, _)| rest.starts_with(element)) {
            Some((element, directive)) => {
                out.push_str(directive);
                rest = &rest[element.len()..];
            }
            None => {
                out.push_str(if first == '%' { "%%" } else { &rest[..first.len_utf8()] });
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// The format of `formatdate` in the language of strftime(3), or what it does not know.
pub(super) fn from_hcl(format: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let end = rest[1..].find('\'').ok_or("a quote is not closed")?;
            out.push_str(&rest[1..=end].replace('%', "%%"));
            rest = &rest[end + 2..];
            continue;
        }
        let run = &rest[..rest.find(|c| c != first).unwrap_or(rest.len())];
        match HCL.iter().find(|(known, _)| *known == run) {
            Some((_, directive)) => out.push_str(directive),
            None if first.is_ascii_alphabetic() => return Err(format!("`{run}` is no part of a date")),
            None => out.push_str(&run.replace('%', "%%")),
        }
        rest = &rest[run.len()..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 14:05:09, a Sunday.
    const SUNDAY: u64 = 1_795_356_309;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(Moment::new(SUNDAY).strftime("%F %T %A %p %I"), "2026-11-22 14:05:09 Sunday PM 02");
        assert_eq!(Moment::new(951_782_400).strftime("%F"), "2000-02-29");
        assert_eq!(Moment::new(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Moment::parse("2026-11-22T14:05:09Z"), Some(SUNDAY));
    }

    #[test]
    fn layouts_become_formats() {
        assert_eq!(from_go("2006-01-02T150405Z"), "%Y-%m-%dT%H%M%SZ");
        assert_eq!(from_go("Jan _2 100%"), "%b %e %-m00%%");
        assert_eq!(from_hcl("YYYYMMDD'T'hhmmss").as_deref(), Ok("%Y%m%dT%H%M%S"));
        assert!(from_hcl("QQ").is_err() && from_hcl("'").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}", seconds in 0u64..253_402_300_799) {
            let _ = from_hcl(&text);
            let _ = Moment::new(seconds).strftime(&from_go(&text));
            let _ = Moment::parse(&text);
        }
    }
}
