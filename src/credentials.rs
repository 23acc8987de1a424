//! User names and passwords in URLs, taken apart without understanding the rest of the URL.

/// `url` without `user:password@`. Text that is no URL comes back as it is.
pub fn strip(url: &str) -> String {
    split(url).0
}

/// `url` without its credentials, and the credentials (`user:password`, still percent-encoded).
pub fn split(url: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(at) => (format!("{scheme}://{}", &rest[at + 1..]), Some(&rest[..at])),
        None => (url.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_before_the_host_is_taken() {
        for (url, stripped, credentials) in [
            ("http://u:p@h:1/x", "http://h:1/x", Some("u:p")),
            ("http://u:p%40q@h", "http://h", Some("u:p%40q")),
            ("http://h/a@b", "http://h/a@b", None),
            ("http://h?q=a@b", "http://h?q=a@b", None),
            ("u:p@h", "u:p@h", None),
        ] {
            assert_eq!(split(url), (stripped.to_owned(), credentials), "{url}");
        }
    }
}
