//! A report for programs.

use std::path::PathBuf;

use serde::Serialize;

use super::verdict;
use crate::verify::report::{Counts, Report};

/// Counts up when a program that reads it must change.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    verdict: &'static str,
    counts: Counts,
    #[serde(flatten)]
    report: &'a Report,
}

/// The report as JSON, with all that was seen; `verdict` is `passed`, `failed`, or `incomplete` where
/// nothing failed but not all was looked at.
pub fn json(report: &Report) -> String {
    let report = with_text_paths(report);
    let document = Document { version: VERSION, verdict: verdict(&report), counts: report.counts(), report: &report };
    // Only a path that is not text could fail.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// JSON has no bytes, and a report must not be lost because of a file's name.
fn with_text_paths(report: &Report) -> Report {
    let image = PathBuf::from(report.image.to_string_lossy().into_owned());
    Report { image, ..report.clone() }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use serde_json::Value;

    use super::super::sample;
    use super::*;

    #[test]
    fn a_report_comes_back_whole() {
        let report = sample::report();
        let text = json(&report);
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&report).unwrap());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["version"], &value["verdict"]), (&1.into(), &"failed".into()));
        assert_eq!((&value["counts"]["passed"], &value["counts"]["not_run"]), (&5.into(), &2.into()));
        let failed = value["checks"].as_array().unwrap().iter().find(|check| check["id"] == "GUAC-2").unwrap();
        assert_eq!((&failed["outcome"], &failed["level"]), (&"failed".into(), &"boot".into()));
        assert!(failed["failures"][1]["seen"].as_str().unwrap().lines().count() > 30);
    }

    #[test]
    fn whatever_a_guest_wrote_is_kept() {
        let every: String = ('\0'..='\u{a0}').chain("\u{ffff}\u{202e}".chars()).collect();
        let value: Value = serde_json::from_str(&json(&sample::hostile(&every))).unwrap();
        assert_eq!(value["boots"][0]["serial_tail"][1], every.as_str());
    }

    #[test]
    fn a_strange_file_name_loses_nothing_else() {
        let mut report = sample::report();
        report.image = OsStr::from_bytes(b"im\xffage.qcow2").into();
        let value: Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["image"], "im\u{fffd}age.qcow2");
        let empty: Value = serde_json::from_str(&json(&sample::empty())).unwrap();
        assert_eq!(empty["verdict"], "incomplete");
    }
}
