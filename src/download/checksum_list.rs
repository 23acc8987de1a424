//! Checksum lists as sha256sum(1) and its kin write them: `SHA256SUMS`, `CHECKSUM`, `image.iso.sha256`.
//!
//! Read are the lines of GNU coreutils (`HEX  name`, `HEX *name`, names with line ends escaped), of BSD and
//! coreutils' `--tag` (`SHA256 (name) = HEX`), of OpenSSL (`SHA2-256(name)= HEX`), of Packer's checksum
//! post-processor (`HEX`, tab, name), and a file that is one checksum and nothing else. Other lines (comments, the
//! armour of a clear-signed list, RFC 9580 section 7) are passed over.

use std::path::{Component, Path, PathBuf};

use super::checksum::Digest;
use super::place::Place;
use crate::checksum::Algorithm;

/// Checksums and the names of what they are of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChecksumList {
    lines: Vec<(String, Digest)>,
    bare: Vec<Digest>,
}

impl ChecksumList {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if let Some(named) = tagged(line).or_else(|| plain(line)) {
                list.lines.push(named);
            } else if let Some(digest) = Digest::of_length(line.trim()) {
                list.bare.push(digest);
            }
        }
        list
    }

    /// The checksum of the file at `place`. A name counts when it ends the file's path; the longest such name wins, so
    /// that lists over folders (`./netboot/linux`, `./netboot/gtk/linux`) are understood, then the strongest algorithm.
    ///
    /// # Errors
    /// A sentence: no line is about the file, or several are and do not agree.
    pub fn checksum_of(&self, place: &Place) -> Result<Digest, String> {
        let path = place.path();
        let suffix = |name: &str| {
            let name = normal(Path::new(name));
            path.ends_with(&name).then(|| name.components().count())
        };
        let mut found: Vec<(usize, &Digest)> =
            self.lines.iter().filter_map(|(name, digest)| Some((suffix(name)?, digest))).collect();
        if found.is_empty() {
            // A list may name folders that the mirror has not.
            let same_name = |name: &str| path.file_name().is_some() && Path::new(name).file_name() == path.file_name();
            found.extend(self.lines.iter().filter(|(name, _)| same_name(name)).map(|(_, digest)| (0, digest)));
        }
        let rank = |(length, digest): &(usize, &Digest)| (*length, digest.algorithm);
        let Some(best) = found.iter().map(rank).max() else { return self.only_bare(place) };
        found.retain(|line| rank(line) == best);
        let digest = found[0].1;
        if found.iter().any(|(_, other)| *other != digest) {
            return Err(format!("{} lines are about `{}` and do not agree", found.len(), name_of(place)));
        }
        Ok(digest.clone())
    }

    fn only_bare(&self, place: &Place) -> Result<Digest, String> {
        match (self.lines.as_slice(), self.bare.as_slice()) {
            ([], [digest]) => Ok(digest.clone()),
            ([], _) => Err("it holds no checksum with a name".to_owned()),
            (lines, _) => {
                let names: Vec<&str> = lines.iter().take(5).map(|(name, _)| name.as_str()).collect();
                let more = if lines.len() > names.len() { ", …" } else { "" };
                Err(format!("it does not name `{}`; it names {}{more}", name_of(place), names.join(", ")))
            }
        }
    }
}

fn name_of(place: &Place) -> String {
    place.file_name().unwrap_or_else(|| place.to_string())
}

/// `path` without `.` and without a slash at its beginning.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir)).collect()
}

/// `SHA256 (name) = HEX`, perhaps with a backslash before it when the name is escaped.
fn tagged(line: &str) -> Option<(String, Digest)> {
    let (escaped, line) = without_mark(line);
    let (algorithm, rest) = line.split_once('(')?;
    let algorithm = algorithm.trim_end();
    // OpenSSL 3 calls the hash functions of FIPS 180 SHA2-….
    let algorithm = Algorithm::named(&algorithm.replace("SHA2-", "SHA"))?;
    let (name, digits) = rest.rsplit_once(')')?;
    let digits = digits.trim_start().strip_prefix('=')?.trim();
    named(escaped, name, Digest::new(algorithm, digits)?)
}

/// `HEX  name`: the digits, a blank, and a second one or an asterisk.
fn plain(line: &str) -> Option<(String, Digest)> {
    let (escaped, line) = without_mark(line);
    let end = line.find([' ', '\t'])?;
    let (digits, rest) = line.split_at(end);
    let mut rest = rest.chars();
    rest.next();
    let name = rest.as_str();
    let name = name.strip_prefix([' ', '*', '\t']).unwrap_or(name);
    named(escaped, name, Digest::of_length(digits)?)
}

fn without_mark(line: &str) -> (bool, &str) {
    line.strip_prefix('\\').map_or((false, line), |line| (true, line))
}

fn named(escaped: bool, name: &str, digest: Digest) -> Option<(String, Digest)> {
    if name.is_empty() {
        return None;
    }
    Some((if escaped { unescape(name) } else { name.to_owned() }, digest))
}

/// Undoes what coreutils does to names with line ends and backslashes.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        let next = if character == '\\' { characters.next() } else { None };
        out.push(match next {
            None => character,
            Some('n') => '\n',
            Some('r') => '\r',
            Some(other) => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text, Path::new("/")).unwrap()
    }

    fn digits(algorithm: Algorithm, digit: char) -> String {
        digit.to_string().repeat(algorithm.digits())
    }

    fn a() -> String {
        digits(Algorithm::Sha256, 'a')
    }

    fn b() -> String {
        digits(Algorithm::Sha256, 'b')
    }

    fn find(list: &str, url: &str) -> Result<String, String> {
        ChecksumList::parse(list).checksum_of(&place(url)).map(|digest| digest.hex().to_owned())
    }

    #[test]
    fn every_tools_lines_are_read() {
        let (a, b) = (a(), b());
        for list in [
            format!("{b}  other.iso\n{a}  a.iso\n"),
            format!("{b} *other.iso\r\n{a} *a.iso\r\n"),
            format!("{b}\tother.iso\n{a}\ta.iso\n"),
            format!("SHA256 (other.iso) = {b}\nSHA256 (a.iso) = {a}\n"),
            format!("SHA2-256(other.iso)= {b}\nSHA2-256(a.iso)= {a}\n"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.iso: 12 bytes\nSHA256 (a.iso) = {a}\n-----BEGIN PGP SIGNATURE-----\n\niQEz\n=aaaa\n-----END PGP SIGNATURE-----\n"
            ),
            format!("{}\n", a.to_uppercase()),
        ] {
            assert_eq!(find(&list, "https://h/x/a.iso?y").as_ref(), Ok(&a), "{list}");
        }
    }

    #[test]
    fn the_line_whose_path_fits_best_is_taken() {
        let (a, b) = (a(), b());
        let list = format!("{a}  ./netboot/linux\n{b}  ./netboot/gtk/linux\n");
        assert_eq!(find(&list, "http://h/images/netboot/linux"), Ok(a.clone()));
        assert_eq!(find(&list, "http://h/images/netboot/gtk/linux"), Ok(b.clone()));
        assert_eq!(find(&list, "http://h/linux").unwrap_err(), "2 lines are about `linux` and do not agree");
        assert_eq!(find(&format!("{a}  ./netboot/linux\n"), "http://h/linux"), Ok(a));
        assert!(
            find(&list, "http://h/netboot/xlinux")
                .unwrap_err()
                .contains("does not name `xlinux`; it names ./netboot/linux")
        );
    }

    #[test]
    fn the_strongest_algorithm_is_taken_and_a_contradiction_is_told() {
        let (a, b) = (a(), b());
        let list = format!("{}  a.iso\n{a}  a.iso\n", digits(Algorithm::Md5, 'c'));
        assert_eq!(find(&list, "http://h/a.iso"), Ok(a.clone()));
        assert!(find(&format!("{a}  a.iso\n{b}  a.iso\n"), "http://h/a.iso").is_err());
        assert_eq!(find(&format!("{a}  a.iso\n{a}  a.iso\n"), "http://h/a.iso"), Ok(a));
    }

    #[test]
    fn several_checksums_without_names_are_nobodys() {
        assert!(
            find(&format!("{}\n{}\n", a(), b()), "http://h/a.iso").unwrap_err().contains("no checksum with a name")
        );
        assert!(find(&format!("{}\n{}  b.iso\n", a(), b()), "http://h/a.iso").is_err());
        assert!(find("<html>", "http://h/a.iso").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "([0-9a-f]{32}|[0-9a-f]{64}|SHA256| |\t|\\*|\\(|\\) = |\\\\|\r?\n|[a-zé./-]{0,6}){0,20}") {
            let _ = ChecksumList::parse(&text).checksum_of(&place("/x/a.iso"));
        }

        #[test]
        fn what_coreutils_writes_is_found_again(names in proptest::collection::btree_set("[a-z(][a-zA-Z é()*=\\\\\n-]{0,8}", 1..6), tag: bool) {
            let list: String = names.iter().enumerate().map(|(place, name)| {
                let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
                let mark = if escaped == *name { "" } else { "\\" };
                let hex = format!("{place:064x}");
                if tag { format!("{mark}SHA256 ({escaped}) = {hex}\n") } else { format!("{mark}{hex}  {escaped}\n") }
            }).collect();
            let parsed = ChecksumList::parse(&list);
            for (number, name) in names.iter().enumerate() {
                let digest = parsed.checksum_of(&Place::File(Path::new("/iso").join(name))).unwrap();
                prop_assert_eq!(digest.hex(), format!("{:064x}", number));
            }
        }
    }
}
