//! A folder as a tar stream (POSIX.1 ustar, with GNU's entry for long names).
//!
//! What is written depends on names, contents and executable bits only: not on owners, times or
//! the umask of whoever made the folder.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use walkdir::WalkDir;

use super::file_mode;
use crate::error::{Context, Error, Kind, Result};

const BLOCK: usize = 512;

/// Longest name in a header, bytes.
const NAME: usize = 100;

/// One file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    path: PathBuf,
    /// Relative to the folder.
    name: PathBuf,
    mode: u32,
    /// None for a folder.
    size: Option<u64>,
}

/// What is in `folder`, sorted, folders before their contents. Symbolic links are followed, as
/// Packer does. Files get `mode`, or 0755 when they are executable and 0644 otherwise.
pub(super) fn list(folder: &Path, mode: Option<u32>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in WalkDir::new(folder).follow_links(true).min_depth(1).sort_by_file_name() {
        let found = found.context(Kind::Usage, || format!("reading the folder {}", folder.display()))?;
        let metadata = found.metadata().context(Kind::Usage, || format!("reading {}", found.path().display()))?;
        let name = found.path().strip_prefix(folder).unwrap_or(found.path()).to_owned();
        let path = found.into_path();
        if metadata.is_dir() {
            entries.push(Entry { path, name, mode: 0o755, size: None });
        } else if metadata.is_file() {
            let mode = mode.unwrap_or_else(|| file_mode(&metadata));
            entries.push(Entry { path, name, mode, size: Some(metadata.len()) });
        } else {
            return Err(Error::usage(format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(entries)
}

/// Writes `entries` and the archive's end. An error of `writer` is told as an `io::Error` of kind
/// [`io::ErrorKind::BrokenPipe`] only; reading errors name the file.
pub(super) async fn write(entries: &[Entry], mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    for entry in entries {
        let mut name = entry.name.as_os_str().as_bytes().to_owned();
        if entry.size.is_none() {
            name.push(b'/');
        }
        if name.len() > NAME {
            writer.write_all(&header(b"././@LongLink", 0o644, name.len() as u64 + 1, b'L')?).await?;
            let padded = (name.len() + 1).next_multiple_of(BLOCK);
            let mut long = name.clone();
            long.resize(padded, 0);
            writer.write_all(&long).await?;
            name.truncate(NAME);
        }
        let kind = if entry.size.is_some() { b'0' } else { b'5' };
        writer.write_all(&header(&name, entry.mode, entry.size.unwrap_or(0), kind)?).await?;
        if let Some(size) = entry.size {
            write_content(&entry.path, size, &mut writer).await?;
        }
    }
    writer.write_all(&[0; 2 * BLOCK]).await?;
    writer.shutdown().await
}

async fn write_content(path: &Path, size: u64, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(named)?.take(size);
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let count = file.read(&mut buffer).await.map_err(named)?;
        if count == 0 {
            return Err(named(io::Error::other("the file became shorter while it was read")));
        }
        writer.write_all(&buffer[..count]).await?;
        left -= count as u64;
    }
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    writer.write_all(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)]).await
}

/// A header of POSIX.1's ustar format ("pax", Interchange Format).
fn header(name: &[u8], mode: u32, size: u64, kind: u8) -> io::Result<[u8; BLOCK]> {
    // Eleven octal digits.
    if size >= 1 << 33 {
        return Err(io::Error::other("a file of 8 GiB or more cannot be copied into the guest"));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    #[tokio::test]
    async fn the_hosts_tar_reads_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let deep = from.join("d".repeat(90)).join("e".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(deep.join("long"), "x".repeat(1000)).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        fs::write(from.join("run é"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("run é"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("empty", from.join("link")).unwrap();

        let mut archive = Vec::new();
        write(&list(&from, None).unwrap(), &mut archive).await.unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, archive).unwrap();
        let output = Command::new("tar").arg("-xpf").arg(&path).arg("-C").arg(&to).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

        let diff = Command::new("diff").arg("-r").arg(&from).arg(&to).output().unwrap();
        assert!(diff.status.success(), "{diff:?}");
        let mode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("run é"), mode("empty"), mode("link"), mode(&"d".repeat(90))), (0o755, 0o644, 0o644, 0o755));
    }

    #[test]
    fn a_given_mode_is_for_files_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/file"), "x").unwrap();
        let modes: Vec<_> = list(folder.path(), Some(0o600)).unwrap().iter().map(|entry| entry.mode).collect();
        assert_eq!(modes, [0o755, 0o600]);
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(list(folder.path(), None).unwrap_err().to_string().ends_with("/socket is neither a file nor a folder"));
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        let error = list(folder.path(), None).unwrap_err();
        assert!(error.chain()[1].contains("dangling"), "{:?}", error.chain());
    }
}
