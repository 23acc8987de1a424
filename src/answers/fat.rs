//! Volumes with a FAT file system: floppies, and disks where no tool makes a CD.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::Content;
use super::volume::VolumeFiles;
use crate::error::{Context, Error, Kind, Result};
use crate::machine::seed::STANDSTILL;

/// A 3.5" floppy: 80 cylinders, 2 heads, 18 sectors of 512 bytes.
const FLOPPY: u64 = 80 * 2 * 18 * 512;
/// Room for the file system's own tables, and the smallest volume.
const TABLES: u64 = 1 << 20;
/// The largest cluster of FAT32, which every file may waste.
const LARGEST_CLUSTER: u64 = 32 << 10;
/// A file's size has 32 bits.
const LONGEST_FILE: u64 = u32::MAX as u64;
/// A label has so many characters.
const LONGEST_LABEL: usize = 11;

/// Writes a floppy of 1.44 MB with `files` to the new file `path`. The same files give the same bytes.
///
/// # Errors
/// The files do not fit, or a name or the label cannot be on FAT (kind usage); a file cannot be read or written (kind
/// host).
pub fn write_floppy(path: &Path, label: &str, files: &VolumeFiles) -> Result<()> {
    // The geometry and media byte of mkfs.fat(8) and DOS for this size.
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat12)
        .bytes_per_cluster(512)
        .max_root_dir_entries(224)
        .media(0xf0)
        .sectors_per_track(18)
        .heads(2)
        .drive_num(0);
    let content = content_bytes(files)?;
    if content > FLOPPY {
        return Err(too_much(content));
    }
    write(path, label, FLOPPY, options, files).map_err(|error| if is_full(&error) { too_much(content) } else { error })
}

/// Whether the volume, not the host, had no room: fatfs says so by an error of its own (`Other`) or by having written
/// nothing.
fn is_full(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| {
        error.raw_os_error().is_none() && matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::WriteZero)
    })
}

/// Writes a volume that is as large as `files` need to the new file `path`. The same files give the same bytes.
///
/// # Errors
/// A name, a size or the label cannot be on FAT (kind usage); a file cannot be read or written (kind host).
pub fn write_volume(path: &Path, label: &str, files: &VolumeFiles) -> Result<()> {
    let content = content_bytes(files)?;
    let slack = files.iter().count() as u64 * 2 * LARGEST_CLUSTER;
    let size = (content + slack + content / 64 + TABLES).next_multiple_of(512);
    write(path, label, size, FormatVolumeOptions::new(), files)
}

fn too_much(content: u64) -> Error {
    Error::usage(format!("{content} bytes of files do not fit on a floppy of 1.44 MB"))
        .hint("put them on a CD (`cd_files`), or serve them over HTTP")
}

/// Bytes of all files together.
fn content_bytes(files: &VolumeFiles) -> Result<u64> {
    let mut sum = 0;
    for (name, content) in files.iter() {
        let bytes = match content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(path) => {
                std::fs::metadata(path).context(Kind::Host, || format!("cannot read {}", path.display()))?.len()
            }
        };
        if bytes > LONGEST_FILE {
            return Err(Error::usage(format!("`{name}` has {bytes} bytes: a file on FAT has 4 GiB at most")));
        }
        sum += bytes;
    }
    Ok(sum)
}

fn write(path: &Path, label: &str, size: u64, options: FormatVolumeOptions, files: &VolumeFiles) -> Result<()> {
    check_names(files)?;
    let failed = || format!("cannot write the volume {}", path.display());
    let mut padded = [b' '; LONGEST_LABEL];
    if label.is_empty() || label.len() > padded.len() || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::usage(format!("`{label}` cannot be the label of a FAT volume"))
            .hint("give at most eleven characters of ASCII"));
    }
    // Labels on FAT are in capitals.
    padded.iter_mut().zip(label.bytes()).for_each(|(to, from)| *to = from.to_ascii_uppercase());
    let options = options.volume_label(padded).volume_id(0x5649_5341);
    let format = || {
        let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(size)?;
        fatfs::format_volume(&mut file, options)?;
        file.seek(SeekFrom::Start(0))?;
        FileSystem::new(file, FsOptions::new().time_provider(&STANDSTILL))
    };
    let volume = format().context(Kind::Host, failed)?;
    for (name, content) in files.iter() {
        put(&volume, name, content).context(Kind::Host, || format!("cannot put `{name}` on the volume"))?;
    }
    volume.unmount().context(Kind::Host, failed)
}

/// FAT does not tell `a` from `A`: one would silently replace the other.
fn check_names(files: &VolumeFiles) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (name, _) in files.iter() {
        if name.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) || name.contains(|c: char| c.is_control()) {
            return Err(Error::usage(format!("`{name}` cannot be the name of a file on FAT")));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(Error::usage(format!(
                "`{name}` has the same name as another file on FAT, except for its case"
            )));
        }
    }
    Ok(())
}

fn put(volume: &FileSystem<File>, name: &str, content: &Content) -> io::Result<()> {
    let mut folder = volume.root_dir();
    let (folders, last) = name.rsplit_once('/').map_or((None, name), |(folders, last)| (Some(folders), last));
    for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
        folder = folder.create_dir(part)?;
    }
    let mut file = folder.create_file(last)?;
    match content {
        Content::Bytes(bytes) => file.write_all(bytes)?,
        Content::File(path) => {
            let mut source = File::open(path)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = source.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                file.write_all(&buffer[..count])?;
            }
        }
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files(entries: &[(&str, &str)]) -> VolumeFiles {
        let content = entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        VolumeFiles::collect::<&str>(&[], &content, Path::new("/")).unwrap()
    }

    fn open(path: &Path) -> FileSystem<File> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        FileSystem::new(file, FsOptions::new()).unwrap()
    }

    fn read(volume: &FileSystem<File>, name: &str) -> String {
        let mut text = String::new();
        volume.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// What libblkid, which udev uses, says.
    fn label(path: &Path) -> String {
        let output =
            std::process::Command::new("blkid").args(["-p", "-o", "value", "-s", "LABEL"]).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_floppy_reads_back_and_is_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let files = files(&[("autounattend.xml", "<x/>"), ("Drivers/net/a long name.inf", "[x]")]);
        write_floppy(&one, "oemdrv", &files).unwrap();
        write_floppy(&two, "oemdrv", &files).unwrap();
        assert_eq!(std::fs::metadata(&one).unwrap().len(), 1_474_560);
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
        assert_eq!(label(&one), "OEMDRV");
        let volume = open(&one);
        assert_eq!(volume.fat_type(), FatType::Fat12);
        assert_eq!(read(&volume, "autounattend.xml"), "<x/>");
        assert_eq!(read(&volume, "Drivers/net/a long name.inf"), "[x]");
    }

    #[test]
    fn what_does_not_fit_on_a_floppy_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (number, bytes) in [(1, 2 << 20), (2, 1_474_000)] {
            let error =
                write_floppy(&folder.path().join(number.to_string()), "X", &files(&[("a", &"x".repeat(bytes))]))
                    .unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{:?}", error.chain());
            assert!(error.to_string().ends_with("do not fit on a floppy of 1.44 MB"));
        }
        write_floppy(&folder.path().join("3"), "X", &files(&[("a", &"x".repeat(1_457_000))])).unwrap();
    }

    #[test]
    fn a_volume_grows_with_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for (number, count) in [0_usize, 1, 20, 200].into_iter().enumerate() {
            let path = folder.path().join(number.to_string());
            let contents: BTreeMap<String, String> =
                (0..count).map(|file| (format!("d{}/f{file}", file % 7), "x".repeat(file * 99 + 1))).collect();
            let files = VolumeFiles::collect::<&str>(&[], &contents, Path::new("/")).unwrap();
            write_volume(&path, "CIDATA", &files).unwrap();
            assert_eq!(label(&path), "CIDATA");
            let volume = open(&path);
            for (name, text) in &contents {
                assert_eq!(read(&volume, name), *text);
            }
        }
    }

    #[test]
    fn a_large_file_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("large.bin");
        let content: Vec<u8> = (0..9_000_000_u32).map(|number| (number % 251) as u8).collect();
        std::fs::write(&source, &content).unwrap();
        let files = VolumeFiles::collect(&["large.bin"], &BTreeMap::new(), folder.path()).unwrap();
        let path = folder.path().join("volume");
        write_volume(&path, "X", &files).unwrap();
        let mut found = Vec::new();
        open(&path).root_dir().open_file("large.bin").unwrap().read_to_end(&mut found).unwrap();
        assert!(found == content);
    }

    #[test]
    fn names_and_labels_that_fat_has_not_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        for entries in [[("a", ""), ("A", "")], [("a:b", ""), ("x", "")]] {
            assert_eq!(write_volume(&path, "X", &files(&entries)).unwrap_err().kind(), Kind::Usage);
        }
        for label in ["", "twelve-chars", "é"] {
            assert_eq!(write_volume(&path, label, &files(&[])).unwrap_err().kind(), Kind::Usage, "{label}");
        }
    }
}
