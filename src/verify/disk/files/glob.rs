//! Patterns of paths, as in glob(7).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{EntryKind, Files, names};
use crate::error::{Error, Result};

/// The paths that match `pattern`, sorted.
pub(super) fn find(files: &Files, pattern: &str) -> Result<Vec<PathBuf>> {
    let pattern = Path::new(pattern);
    if !pattern.is_absolute() {
        return Err(Error::usage(format!("the pattern {} is not an absolute path", pattern.display())));
    }
    let mut found = vec![PathBuf::from("/")];
    for name in names(pattern) {
        let mut next = Vec::new();
        for folder in found {
            step(files, &folder, &name, &mut next)?;
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// Adds to `found` what in `folder` matches one name's pattern.
fn step(files: &Files, folder: &Path, pattern: &OsStr, found: &mut Vec<PathBuf>) -> Result<()> {
    let bytes = pattern.as_bytes();
    if !bytes.iter().any(|byte| b"*?[".contains(byte)) {
        let path = folder.join(pattern);
        if files.stat_link(&path)?.is_some() {
            found.push(path);
        }
        return Ok(());
    }
    // What is no folder has nothing in it.
    if !files.stat(folder)?.is_some_and(|entry| entry.kind == EntryKind::Folder) {
        return Ok(());
    }
    let entries = files.list(folder)?.unwrap_or_default();
    found.extend(entries.iter().filter(|(name, _)| matches(bytes, name.as_bytes())).map(|(name, _)| folder.join(name)));
    Ok(())
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let hidden = name.starts_with(b".") && !pattern.starts_with(b".");
    !hidden && matches_rest(pattern, name)
}

/// Matches from left to right; when something does not fit, the last `*` takes one more byte.
fn matches_rest(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    let mut star = None;
    loop {
        let fits = match (pattern.get(at), name.get(in_name)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((at + 1, in_name));
                at += 1;
                continue;
            }
            (Some(_), Some(byte)) => one(&pattern[at..], *byte),
            _ => None,
        };
        match (fits, star) {
            (Some(length), _) => (at, in_name) = (at + length, in_name + 1),
            (None, Some((after, taken))) if taken < name.len() => {
                star = Some((after, taken + 1));
                (at, in_name) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// How many bytes of the pattern stand for `byte`, if they do.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => match class(pattern) {
            Some((length, set, wanted)) => (in_set(set, byte) == wanted).then_some(length),
            // Without its end it is an ordinary character.
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// A class at the pattern's start: its length, what is in it, and whether that is wanted.
fn class(pattern: &[u8]) -> Option<(usize, &[u8], bool)> {
    let wanted = !matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if wanted { 1 } else { 2 };
    // A bracket at the start is one of the characters.
    let end = pattern.iter().enumerate().skip(start + 1).find(|(_, byte)| **byte == b']')?.0;
    Some((end + 1, &pattern[start..end], wanted))
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    while let [first, rest @ ..] = set {
        if let [b'-', last, rest @ ..] = rest {
            if (*first..=*last).contains(&byte) {
                return true;
            }
            set = rest;
        } else if *first == byte {
            return true;
        } else {
            set = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_stands_for_the_names_that_glob_7_says() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "axbxbxc", true),
            ("?", "", false),
            ("??", "ab", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[ab", "[ab", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
