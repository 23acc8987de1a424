//! Files for an installer, appended to its initial file system (`initrd_files`).
//!
//! The kernel unpacks any number of cpio archives, one behind the other, compressed or not, and lets later files replace
//! earlier ones (Documentation/driver-api/early-userspace/buffer-format.rst). So a second, uncompressed archive in the
//! `newc` format is all that is needed; debian-installer takes its answers from `/preseed.cfg` in it. An uncompressed
//! archive must begin at a multiple of four bytes; zero bytes may stand before it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::Content;
use crate::error::{Context, Error, Kind, Result};

/// What ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Everything is aligned to this.
const ALIGNMENT: u64 = 4;
/// File types of inode(7).
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// A file that the initial file system gets; root owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitrdFile {
    /// Its path, with or without a slash before it.
    pub path: String,
    /// What is in it.
    pub content: Content,
    /// Its permissions: 0644, or 0755 for a program.
    pub mode: u32,
}

impl InitrdFile {
    /// A file that everybody may read.
    pub fn text(path: &str, text: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), content: Content::Bytes(text.into()), mode: 0o644 }
    }
}

/// Writes the initial file system `initrd` with the archives `more` and then `files` behind it to the new file `to`.
/// Folders on the way to the files
/// are made, for everybody to read; one that is there gets these permissions. The same files give the same bytes.
///
/// # Errors
/// A path is not one (kind usage), a file is unreadable or over 4 GiB, or the new one cannot be written (kind host).
pub fn append<P: AsRef<Path>>(initrd: &Path, more: &[P], files: &[InitrdFile], to: &Path) -> Result<()> {
    let entries = entries(files)?;
    let write = || {
        let mut out = File::options().write(true).create_new(true).open(to)?;
        for archive in std::iter::once(initrd).chain(more.iter().map(AsRef::as_ref)) {
            let bytes = io::copy(&mut File::open(archive)?, &mut out)?;
            pad(&mut out, bytes)?;
        }
        let mut out = io::BufWriter::with_capacity(1 << 20, out);
        write_archive(&mut out, &entries)?;
        out.into_inner()?.sync_all()
    };
    write().context(Kind::Host, || format!("cannot append {} files to {}", files.len() + more.len(), initrd.display()))
}

/// Folders that every initial file system has, in most as links to others: the kernel would put an empty folder in the
/// place of a link (its `init/initramfs.c`, `clean_path`), and paths through a link work.
const LINKS: [&str; 8] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "var/run", "var/lock"];

enum Entry<'a> {
    Folder,
    File(&'a InitrdFile),
}

/// The files and the folders that they are in, folders first: the kernel makes no folders by itself.
fn entries(files: &[InitrdFile]) -> Result<BTreeMap<String, Entry<'_>>> {
    let mut entries = BTreeMap::new();
    for file in files {
        let name = file.path.trim_start_matches('/');
        let parts: Vec<&str> = name.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || name.contains('\0') || name == TRAILER {
            return Err(Error::usage(format!("`{}` is not the path of a file in an initrd", file.path))
                .hint("give a path such as `preseed.cfg` or `/bin/tool`"));
        }
        for length in 1..parts.len() {
            let folder = parts[..length].join("/");
            if !LINKS.contains(&folder.as_str()) {
                entries.entry(folder).or_insert(Entry::Folder);
            }
        }
        if matches!(entries.insert(name.to_owned(), Entry::File(file)), Some(Entry::Folder)) {
            return Err(Error::usage(format!("`{}` is a file and a folder of the initrd", file.path)));
        }
    }
    let clash = entries.iter().find(|(name, entry)| {
        let below = format!("{name}/");
        matches!(entry, Entry::File(_)) && entries.keys().any(|other| other.starts_with(&below))
    });
    match clash {
        Some((name, _)) => Err(Error::usage(format!("`{name}` is a file and a folder of the initrd"))),
        None => Ok(entries),
    }
}

/// Writes an archive in the format `newc` (cpio(5), "New ASCII Format").
fn write_archive(out: &mut impl Write, entries: &BTreeMap<String, Entry<'_>>) -> io::Result<()> {
    for (number, (name, entry)) in (1..).zip(entries) {
        match entry {
            Entry::Folder => {
                // 1777 is what /tmp must stay.
                let mode = if name == "tmp" { 0o1777 } else { 0o755 };
                header(out, number, DIRECTORY | mode, 2, 0, name)?;
            }
            Entry::File(file) => {
                let mode = REGULAR | (file.mode & 0o7777);
                match &file.content {
                    Content::Bytes(bytes) => write_file(out, number, mode, name, bytes.len() as u64, bytes.as_slice())?,
                    Content::File(path) => {
                        let named = |error| io::Error::other(format!("{}: {error}", path.display()));
                        let mut source = File::open(path).map_err(named)?;
                        let bytes = source.seek(io::SeekFrom::End(0)).map_err(named)?;
                        source.rewind().map_err(named)?;
                        write_file(out, number, mode, name, bytes, source)?;
                    }
                }
            }
        }
    }
    header(out, 0, 0, 1, 0, TRAILER)
}

fn write_file(
    out: &mut impl Write,
    number: u32,
    mode: u32,
    name: &str,
    bytes: u64,
    content: impl Read,
) -> io::Result<()> {
    let size = u32::try_from(bytes)
        .map_err(|_| io::Error::other(format!("`{name}` has {bytes} bytes; a cpio archive takes 4 GiB at most")))?;
    header(out, number, mode, 1, size, name)?;
    let copied = io::copy(&mut content.take(bytes), out)?;
    if copied != bytes {
        return Err(io::Error::other(format!("`{name}` became shorter while it was read")));
    }
    pad(out, bytes)
}

/// One header: the magic number and thirteen numbers of eight hexadecimal digits, then the name.
fn header(out: &mut impl Write, inode: u32, mode: u32, links: u32, size: u32, name: &str) -> io::Result<()> {
    let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    // inode, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let numbers = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut text = "070701".to_owned();
    for number in numbers {
        text.push_str(&format!("{number:08x}"));
    }
    text.push_str(name);
    text.push('\0');
    out.write_all(text.as_bytes())?;
    pad(out, text.len() as u64)
}

/// Zero bytes up to the alignment after `written` bytes.
fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    let zeros = written.next_multiple_of(ALIGNMENT) - written;
    io::copy(&mut io::repeat(0).take(zeros), out).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const NONE: &[&Path] = &[];

    /// Names, modes and contents as another implementation reads them.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut rest = archive;
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            found.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
    }

    fn appended(initrd: &[u8], files: &[InitrdFile]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("initrd"), folder.path().join("new"));
        std::fs::write(&from, initrd).unwrap();
        append(&from, NONE, files, &to).unwrap();
        std::fs::read(to).unwrap()
    }

    #[test]
    fn files_and_their_folders_come_behind_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        let files = [
            InitrdFile::text("/preseed.cfg", "d-i\n"),
            InitrdFile { path: "usr/bin/tool".into(), content: Content::File(tool), mode: 0o755 },
        ];
        let out = appended(b"\x1f\x8babc", &files);
        assert_eq!(&out[..8], b"\x1f\x8babc\0\0\0");
        let found = read(&out[8..]);
        let names: Vec<(&str, u32)> = found.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
        assert_eq!(
            names,
            [("preseed.cfg", 0o100_644), ("usr", 0o040_755), ("usr/bin", 0o040_755), ("usr/bin/tool", 0o100_755)]
        );
        assert_eq!(found[3].2, b"#!/bin/sh\n");
        assert_eq!(out, appended(b"\x1f\x8babc", &files));
    }

    #[test]
    fn the_cpio_program_reads_it_where_it_is_installed() {
        let out = appended(b"", &[InitrdFile::text("a/b c", vec![0; 5]), InitrdFile::text("é", "x")]);
        let Ok(mut child) = Command::new("cpio").arg("-itv").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            return;
        };
        child.stdin.take().unwrap().write_all(&out).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("drwxr-xr-x") && told.contains("a/b c") && told.lines().count() == 3, "{told}");
    }

    #[test]
    fn what_is_no_path_in_an_initrd_is_refused() {
        for path in ["", "/", "a/../b", "./a", "a//b", "a/", TRAILER, "a\0b"] {
            let error = append(Path::new("/x"), NONE, &[InitrdFile::text(path, "")], Path::new("/y")).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{path}");
        }
        for paths in [["a", "a/b"], ["a/b", "a"], ["a/b/c", "a/b"]] {
            let files = paths.map(|path| InitrdFile::text(path, ""));
            assert_eq!(
                append(Path::new("/x"), NONE, &files, Path::new("/y")).unwrap_err().kind(),
                Kind::Usage,
                "{paths:?}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("initrd");
        std::fs::write(&from, "").unwrap();
        let file = InitrdFile { path: "a".into(), content: Content::File("/no/such/file".into()), mode: 0o644 };
        let error = append(&from, NONE, &[file], &folder.path().join("new")).unwrap_err();
        assert!(error.chain()[1].starts_with("/no/such/file: No such file"), "{:?}", error.chain());
    }

    proptest! {
        #[test]
        fn everything_is_read_back_as_it_was_given(
            initrd in proptest::collection::vec(any::<u8>(), 0..20),
            files in proptest::collection::btree_map("[a-z]{1,3}(/[a-zé ]{1,9}){0,3}\\.x", (proptest::collection::vec(any::<u8>(), 0..40), 0_u32..0o10000), 1..8),
        ) {
            let given: Vec<InitrdFile> = files.iter().map(|(path, (bytes, mode))| {
                InitrdFile { path: path.clone(), content: Content::Bytes(bytes.clone()), mode: *mode }
            }).collect();
            let out = appended(&initrd, &given);
            let start = initrd.len().next_multiple_of(4);
            prop_assert_eq!(out.len() % 4, 0);
            let found = read(&out[start..]);
            for (at, (name, mode, content)) in found.iter().enumerate() {
                match files.get(name) {
                    Some((bytes, given)) => prop_assert_eq!((bytes, REGULAR | *given), (content, *mode)),
                    None => prop_assert_eq!(mode & 0o170_000, DIRECTORY),
                }
                if let Some((folder, _)) = name.rsplit_once('/') {
                    let is_there = LINKS.contains(&folder) || found[..at].iter().any(|(earlier, ..)| earlier == folder);
                    prop_assert!(is_there, "{folder}");
                }
            }
            prop_assert_eq!(found.iter().filter(|(name, ..)| files.contains_key(name)).count(), files.len());
        }
    }
}
