//! The files of the page, which are in the program itself.

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct File {
    /// Its path, relative to the page.
    pub(super) path: &'static str,
    /// What it holds.
    pub(super) content: &'static [u8],
}

impl File {
    /// What a browser is told that it is.
    pub(super) fn media_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

macro_rules! files {
    ($folder:literal: $($path:literal)*) => {
        &[$(File { path: concat!($folder, $path), content: include_bytes!(concat!("page/", $folder, $path)) }),*]
    };
}

/// The page's own files. The first one is the page itself.
const OWN: &[File] = files!("":
    "index.html" "style.css" "icon.svg"
    "main.js" "events.js" "text.js" "model.js" "stages.js" "log.js" "requests.js" "screen.js" "ending.js"
);

/// noVNC 1.7.0 as npm has it (`scripts/vendor-novnc`): what its RFB class is made of, with the licences.
const NOVNC: &[File] = files!("novnc/":
    "AUTHORS" "LICENSE.txt" "core/base64.js" "core/crypto/aes.js" "core/crypto/bigint.js" "core/crypto/crypto.js"
    "core/crypto/des.js" "core/crypto/dh.js" "core/crypto/md5.js" "core/crypto/rsa.js" "core/decoders/copyrect.js"
    "core/decoders/h264.js" "core/decoders/hextile.js" "core/decoders/jpeg.js" "core/decoders/raw.js"
    "core/decoders/rre.js" "core/decoders/tight.js" "core/decoders/tightpng.js" "core/decoders/zlib.js"
    "core/decoders/zrle.js" "core/deflator.js" "core/display.js" "core/encodings.js" "core/inflator.js"
    "core/input/domkeytable.js" "core/input/fixedkeys.js" "core/input/gesturehandler.js" "core/input/keyboard.js"
    "core/input/keysym.js" "core/input/keysymdef.js" "core/input/util.js" "core/input/vkeys.js"
    "core/input/xtscancodes.js" "core/ra2.js" "core/rfb.js" "core/util/browser.js" "core/util/cursor.js"
    "core/util/element.js" "core/util/events.js" "core/util/eventtarget.js" "core/util/int.js" "core/util/logging.js"
    "core/util/strings.js" "core/websock.js" "docs/LICENSE.BSD-2-Clause" "docs/LICENSE.BSD-3-Clause"
    "docs/LICENSE.MPL-2.0" "package.json" "vendor/pako/LICENSE" "vendor/pako/README.md"
    "vendor/pako/lib/utils/common.js" "vendor/pako/lib/zlib/adler32.js" "vendor/pako/lib/zlib/constants.js"
    "vendor/pako/lib/zlib/crc32.js" "vendor/pako/lib/zlib/deflate.js" "vendor/pako/lib/zlib/gzheader.js"
    "vendor/pako/lib/zlib/inffast.js" "vendor/pako/lib/zlib/inflate.js" "vendor/pako/lib/zlib/inftrees.js"
    "vendor/pako/lib/zlib/messages.js" "vendor/pako/lib/zlib/trees.js" "vendor/pako/lib/zlib/zstream.js"
);

/// The file at `path`; the page itself where that is empty.
pub(super) fn find(path: &str) -> Option<&'static File> {
    let path = if path.is_empty() { OWN[0].path } else { path };
    OWN.iter().chain(NOVNC).find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn all_files_are_there_and_no_others() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/live/page");
        let files =
            walkdir::WalkDir::new(&folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
        let path = |entry: walkdir::DirEntry| entry.path().strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        let there: BTreeSet<String> = files.map(path).filter(|path| path != "novnc.sha256").collect();
        let served: BTreeSet<String> = OWN.iter().chain(NOVNC).map(|file| file.path.to_owned()).collect();
        assert_eq!(there, served);
        assert_eq!(find("").unwrap().path, "index.html");
        assert_eq!((find("nothing"), find("../page.rs")), (None, None));
    }

    #[test]
    fn novnc_is_as_its_package_has_it() {
        // scripts/vendor-novnc writes the checksums of what it fetched, and compares with it.
        let wanted: BTreeSet<&str> = include_str!("page/novnc.sha256").lines().collect();
        let sum = |file: &File| {
            let path = file.path.strip_prefix("novnc/").unwrap();
            format!("{}  {path}", crate::checksum::hex(&Sha256::digest(file.content)))
        };
        let there: Vec<String> = NOVNC.iter().map(sum).collect();
        assert_eq!(there.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn nothing_of_ours_runs_inline_or_is_loaded_from_elsewhere() {
        for file in OWN {
            let text = std::str::from_utf8(file.content).unwrap();
            for part in [
                "https://",
                "//cdn",
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "<style",
                " style=",
                "@import",
            ] {
                assert!(!text.contains(part), "{}: {part}", file.path);
            }
            let html = file.path.ends_with(".html");
            assert!(!html || (!text.contains(" on") || !text.contains("=\"javascript")), "{}", file.path);
            for (at, _) in text.match_indices("<script") {
                assert!(text[at..].starts_with("<script type=\"module\" src=\""), "{}", file.path);
            }
        }
    }
}
