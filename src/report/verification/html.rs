//! A report for a browser: one file, without scripts and without anything from elsewhere.

use tera::Tera;

use super::page::page;
use crate::error::{Context, Kind, Result};
use crate::verify::report::Report;

const TEMPLATE: &str = include_str!("html.html");

/// The report as one HTML file with `pictures` (a title and a PNG file's bytes each) in it.
///
/// # Errors
/// The template cannot be rendered.
pub fn html(report: &Report, pictures: &[(String, Vec<u8>)]) -> Result<String> {
    let fail = || "writing the report as HTML";
    let context = tera::Context::from_serialize(&page(report, pictures)).context(Kind::Verification, fail)?;
    // All of it may come from the guest, so everything is escaped, and the template has no `safe`.
    Tera::one_off(TEMPLATE, &context, true).context(Kind::Verification, fail)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn pictures(title: &str) -> Vec<(String, Vec<u8>)> {
        vec![(title.to_owned(), b"\x89PNG\r\n\x1a\n".to_vec())]
    }

    #[test]
    fn all_that_was_found_is_in_the_page() {
        let html = html(&sample::report(), &pictures("the desktop")).unwrap();
        for part in [
            "5 of 9 checks passed",
            "GUAC-2",
            "listens on 127.0.0.1 only",
            "0.0.0.0:4822 (guacd)",
            "/etc/guacamole/guacd.conf",
            "line 1 of the journal\nguacd[712]",
            "line 40 of the journal",
            "boot `uefi` did not come up",
            "Kernel panic - not syncing",
            "„Größe“ and 你好",
            r#"src="data:image/png;base64,iVBORw0KGgo=" alt="the desktop""#,
            "no jupyter.service",
        ] {
            assert!(html.contains(part), "{part}");
        }
        let place = |text: &str| html.find(text).unwrap();
        assert!(place("5 of 9 checks passed") < place("Pictures") && place("Pictures") < place("Failed checks"));
        assert!(place("Failed checks") < place("All checks"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_runs() {
        let html = html(&sample::report(), &pictures("the desktop")).unwrap();
        for part in ["<script", "http://", "https://", "<link", "@import", "url(", "src=\"/"] {
            assert!(!html.contains(part), "{part}");
        }
        assert!(html.contains("default-src 'none'") && !TEMPLATE.contains('|'));
    }

    /// Start tags of a page, without their attributes' values, each once.
    fn tags(html: &str) -> std::collections::BTreeSet<String> {
        let tag = |start: usize| html[start..].split_inclusive('>').next().unwrap_or_default();
        let names = |tag: &str| tag.split('"').step_by(2).collect::<Vec<_>>().join("");
        html.match_indices('<').map(|(start, _)| names(tag(start))).collect()
    }

    #[test]
    fn a_guest_cannot_write_markup() {
        let hostile = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> {{ contract }}";
        let escaped = "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;";
        let page = html(&sample::hostile(hostile), &pictures(hostile)).unwrap();
        let harmless = html(&sample::hostile("harmless"), &pictures("harmless")).unwrap();
        assert!(!page.contains("<script") && !page.contains("<img src=x"), "{page}");
        assert!(page.contains(&format!("alt=\"{escaped}")), "{page}");
        assert!(page.contains(&format!("<title>{escaped}")), "{page}");
        assert!(page.contains("{{ contract }}"));
        assert_eq!(tags(&page), tags(&harmless));
        assert_eq!(page.matches('<').count(), harmless.matches('<').count());
    }

    #[test]
    fn an_empty_report_has_a_page_too() {
        let html = html(&sample::empty(), &[]).unwrap();
        assert!(html.contains("no check was made") && !html.contains("Failed checks") && !html.contains("<img"));
    }
}
