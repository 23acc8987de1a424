//! What a web server calls its files (RFC 9110, section 8.3).

use std::path::Path;

/// The media type of a file by its name; text is UTF-8.
pub(super) fn of(name: &str, text: bool) -> &'static str {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        // RFC 9512.
        "yaml" | "yml" => "application/yaml",
        "xml" => "application/xml",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "gz" => "application/gzip",
        "xz" => "application/x-xz",
        "zst" => "application/zstd",
        "tar" => "application/x-tar",
        "zip" => "application/zip",
        "iso" => "application/vnd.efi.iso",
        "img" => "application/vnd.efi.img",
        "deb" | "udeb" => "application/vnd.debian.binary-package",
        "rpm" => "application/x-rpm",
        _ if text => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_text_and_the_unknown_is_bytes() {
        for (name, text, media_type) in [
            ("preseed.cfg", true, "text/plain; charset=utf-8"),
            ("user-data", true, "text/plain; charset=utf-8"),
            ("KS.YAML", true, "application/yaml"),
            ("initrd.gz", false, "application/gzip"),
            ("linux", false, "application/octet-stream"),
        ] {
            assert_eq!(of(name, text), media_type, "{name}");
        }
    }
}
