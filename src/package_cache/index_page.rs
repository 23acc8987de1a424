//! Pages of pip's index, with links that lead back to the cache.
//!
//! HTML is that of PEP 503: anchors, whose `href` may be relative; JSON is that of PEP 691. What is not understood
//! stays as it is, and pip then fetches it past the cache.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use reqwest::Url;
use serde_json::Value;

use super::target::pip_file;

/// The value of an anchor's `href`, in either kind of quotation marks.
static HREF: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?is)(<a\s[^>]*?\bhref\s*=\s*)(?:"([^"]*)"|'([^']*)')"#).ok());

/// `page`, which came from `base`, with links to files that lead here.
pub(super) fn rewritten(page: &[u8], media_type: &str, base: &Url) -> Vec<u8> {
    if media_type.contains("json") { json(page, base) } else { Some(html(page, base)) }.unwrap_or_else(|| page.to_vec())
}

fn json(page: &[u8], base: &Url) -> Option<Vec<u8>> {
    let mut page: Value = serde_json::from_slice(page).ok()?;
    for file in page.get_mut("files")?.as_array_mut()? {
        let hash = file.pointer("/hashes/sha256").and_then(Value::as_str).map(str::to_owned);
        let Some(mut url) = file.get("url").and_then(Value::as_str).and_then(|url| base.join(url).ok()) else {
            continue;
        };
        if let Some(hash) = hash {
            url.set_fragment(Some(&format!("sha256={hash}")));
        }
        if let Some(path) = pip_file(&url) {
            // In JSON the hash stands beside the link.
            let path = path.split('#').next().unwrap_or(&path).to_owned();
            *file.get_mut("url")? = Value::String(path);
        }
    }
    serde_json::to_vec(&page).ok()
}

fn html(page: &[u8], base: &Url) -> Vec<u8> {
    let text = String::from_utf8_lossy(page);
    let Some(href) = &*HREF else { return page.to_vec() };
    let replaced = href.replace_all(&text, |found: &Captures<'_>| {
        let link = found.get(2).or(found.get(3)).map_or("", |link| link.as_str());
        let path = base.join(&link.replace("&amp;", "&")).ok().and_then(|url| pip_file(&url));
        match path {
            Some(path) => format!("{}\"{}\"", &found[1], path.replace('&', "&amp;")),
            None => found[0].to_owned(),
        }
    });
    match replaced {
        Cow::Borrowed(_) => page.to_vec(),
        Cow::Owned(text) => text.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("https://index.example/root/simple/six/").unwrap()
    }

    #[test]
    fn links_of_html_lead_here_with_their_hashes() {
        let hash = "a".repeat(64);
        let page = format!(
            "<html><head><meta name=\"pypi:repository-version\" content=\"1.0\"></head><body>\n\
             <a href=\"https://files.example:8443/p/six-1.whl?t=1&amp;u=2#sha256={hash}\" \
             data-requires-python=\"&gt;=3\">six-1.whl</a>\n\
             <A data-core-metadata='x' href='../../packages/six-1.tar.gz#md5=00'>six</A>\n\
             <a href=\"mailto:joe@example.org\">joe</a></body>"
        );
        let text = String::from_utf8(rewritten(page.as_bytes(), "text/html", &base())).unwrap();
        let file = format!("/.pip/file/sha256-{hash}/https/files.example/8443/p/six-1.whl?t=1&amp;u=2#sha256={hash}");
        assert!(text.contains(&format!("<a href=\"{file}\" data-requires-python=\"&gt;=3\">")), "{text}");
        let other = "/.pip/file/-/https/index.example/-/root/packages/six-1.tar.gz#md5=00";
        assert!(text.contains(&format!("<A data-core-metadata='x' href=\"{other}\">")), "{text}");
        assert!(text.contains("mailto:joe@example.org"), "{text}");
    }

    #[test]
    fn links_of_json_lead_here_and_the_rest_stays() {
        let hash = "b".repeat(64);
        let page = format!(
            "{{\"name\":\"six\",\"files\":[{{\"filename\":\"six-1.whl\",\"url\":\"https://files.example/p/six-1.whl\",\
             \"hashes\":{{\"sha256\":\"{hash}\"}},\"core-metadata\":true}},{{\"url\":\"../x.zip\",\"hashes\":{{}}}}]}}"
        );
        let media_type = "application/vnd.pypi.simple.v1+json";
        let page: Value = serde_json::from_slice(&rewritten(page.as_bytes(), media_type, &base())).unwrap();
        assert_eq!(page["files"][0]["url"], format!("/.pip/file/sha256-{hash}/https/files.example/-/p/six-1.whl"));
        assert_eq!(page["files"][0]["core-metadata"], true);
        assert_eq!(page["files"][1]["url"], "/.pip/file/-/https/index.example/-/root/simple/x.zip");
        assert_eq!(rewritten(b"no json", media_type, &base()), b"no json");
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_a_panic(text in "(<a |href=|\"|'|>|#sha256=|https://|\\PC|\n){0,30}") {
            let _ = rewritten(text.as_bytes(), "text/html", &base());
            let _ = rewritten(text.as_bytes(), "application/json", &base());
        }
    }
}
