//! CDs with files for an installer (`cd_files`, `cd_content`, `cd_label`).
//!
//! They are ISO 9660 with Rock Ridge and Joliet, so that Linux and Windows see the files' own names. An installed tool
//! makes them, as Packer has it: xorriso, genisoimage or mkisofs. Where there is none, a volume that is looked for by
//! its label on any file system (`CIDATA` of NoCloud, `OEMDRV` of Anaconda) is a FAT disk instead.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::volume::VolumeFiles;
use super::{Content, fat};
use crate::error::{Context, Error, Kind, Result};
use crate::process::Run;

/// Programs that make CDs, and what makes them understand mkisofs' options; the first that is installed is taken.
const TOOLS: [(&str, &[&str]); 3] = [("xorriso", &["-as", "mkisofs"]), ("genisoimage", &[]), ("mkisofs", &[])];

/// Labels that are looked for on FAT, too.
const ALSO_ON_FAT: [&str; 2] = ["CIDATA", "OEMDRV"];

/// A volume identifier has so many characters (ECMA-119, section 8.4.7).
const LONGEST_LABEL: usize = 32;

/// What a volume became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A CD.
    Iso9660,
    /// A disk with FAT.
    Fat,
}

/// Writes a volume with `files` to the new file `to`.
///
/// # Errors
/// The label cannot be one (kind usage); no tool is installed and the label needs one, or the tool fails (kind host);
/// or `cancel` fires.
pub async fn write(files: &VolumeFiles, label: &str, to: &Path, cancel: &CancellationToken) -> Result<Format> {
    write_with(&TOOLS, files, label, to, cancel).await
}

async fn write_with(
    tools: &[(&str, &[&str])],
    files: &VolumeFiles,
    label: &str,
    to: &Path,
    cancel: &CancellationToken,
) -> Result<Format> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
    if label.is_empty() || label.len() > LONGEST_LABEL || label.starts_with('-') || !label.bytes().all(good) {
        return Err(Error::usage(format!("`{label}` cannot be the label of a CD"))
            .hint("give at most 32 letters, digits, blanks, `_`, `-` or `.`"));
    }
    let stage = stage(files).context(Kind::Host, || "cannot collect the files of a CD")?;
    for (tool, first) in tools {
        let run = Run::new(tool, arguments(first, label, to, stage.path())).with(|command| {
            // FAT's first day: the volume's own dates do not tell when it was made.
            command.env("SOURCE_DATE_EPOCH", "315532800").env("LC_ALL", "C");
        });
        match run.output(cancel).await {
            Ok(_) => return Ok(Format::Iso9660),
            // It is not installed.
            Err(error) if error.kind() == Kind::Host => {}
            Err(error) if error.kind() == Kind::Build => {
                return Err(error.of_kind(Kind::Host).context(format!("cannot make the CD `{label}`")));
            }
            Err(error) => return Err(error),
        }
    }
    if ALSO_ON_FAT.iter().any(|known| label.eq_ignore_ascii_case(known)) {
        fat::write_volume(to, label, files)?;
        return Ok(Format::Fat);
    }
    Err(Error::host(format!("no program that makes CDs is installed, which the CD `{label}` needs"))
        .hint("install the package `xorriso`"))
}

/// mkisofs' options: readable for everybody, long names, files over 4 GiB, and links stand for what they point at.
fn arguments(first: &[&str], label: &str, to: &Path, stage: &Path) -> Vec<OsString> {
    let options = ["-quiet", "-r", "-J", "-joliet-long", "-iso-level", "3", "-f", "-V", label, "-o"];
    let options = first.iter().chain(&options).map(OsString::from);
    options.chain([to.as_os_str().to_owned(), stage.as_os_str().to_owned()]).collect()
}

/// A folder with the files as they shall be on the volume; those of the host as links.
fn stage(files: &VolumeFiles) -> io::Result<tempfile::TempDir> {
    let stage = tempfile::tempdir()?;
    for (name, content) in files.iter() {
        let path = stage.path().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match content {
            Content::Bytes(bytes) => std::fs::write(&path, bytes)?,
            Content::File(source) => symlink(std::path::absolute(source)?, &path)?,
        }
    }
    Ok(stage)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    fn files(folder: &Path) -> VolumeFiles {
        std::fs::write(folder.join("a file.bin"), vec![7; 100_000]).unwrap();
        let content = BTreeMap::from([
            ("user-data".to_owned(), "#cloud-config\n".to_owned()),
            ("Sub Folder/A Rather Long Name.with.dots".to_owned(), "x".to_owned()),
        ]);
        VolumeFiles::collect(&["a file.bin"], &content, folder).unwrap()
    }

    fn told(program: &str, arguments: &[&str], path: &Path) -> String {
        let output = Command::new(program).args(arguments).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[tokio::test]
    async fn a_cd_has_its_label_and_files_with_their_own_names() {
        let folder = tempfile::tempdir().unwrap();
        let (iso, cancel) = (folder.path().join("cd.iso"), CancellationToken::new());
        let files = files(folder.path());
        if write(&files, "cidata", &iso, &cancel).await.unwrap() == Format::Fat {
            return; // No tool is installed here; the next test is about that.
        }
        let probed = told("blkid", &["-p", "-o", "export"], &iso);
        assert!(probed.contains("TYPE=iso9660") && probed.contains("LABEL=cidata"), "{probed}");
        let out = folder.path().join("out");
        let arguments = ["-osirrox", "on", "-indev"];
        if let Ok(read) = Command::new("xorriso").args(arguments).arg(&iso).args(["-extract", "/"]).arg(&out).output() {
            assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
            assert_eq!(std::fs::read_to_string(out.join("user-data")).unwrap(), "#cloud-config\n");
            assert_eq!(std::fs::read_to_string(out.join("Sub Folder/A Rather Long Name.with.dots")).unwrap(), "x");
            let copied = out.join("a file.bin");
            assert!(std::fs::symlink_metadata(&copied).unwrap().is_file());
            assert!(std::fs::read(copied).unwrap() == vec![7; 100_000]);
        }
        // The supplementary descriptor of Joliet, "%/E" in sector 17 or behind it (ECMA-119, section 8.5.6).
        let bytes = std::fs::read(&iso).unwrap();
        let descriptors = (16..32).map(|sector| &bytes[sector * 2048..][..2048]);
        assert!(descriptors.into_iter().any(|sector| sector[0] == 2 && sector[88..91] == *b"%/E"));
    }

    #[tokio::test]
    async fn without_a_tool_a_seed_is_on_fat_and_another_cd_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (to, cancel) = (folder.path().join("volume"), CancellationToken::new());
        let files = files(folder.path());
        let tools: [(&str, &[&str]); 1] = [("visabuild-no-such-program", &[])];
        let format = write_with(&tools, &files, "cidata", &to, &cancel).await.unwrap();
        assert_eq!(format, Format::Fat);
        assert!(told("blkid", &["-p", "-o", "export"], &to).contains("LABEL=CIDATA"));
        let error = write_with(&tools, &files, "drivers", &to, &cancel).await.unwrap_err();
        assert_eq!((error.kind(), error.hints()), (Kind::Host, &["install the package `xorriso`".to_owned()][..]));
    }

    #[tokio::test]
    async fn a_tool_that_fails_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let tools: [(&str, &[&str]); 1] = [("sh", &["-c", "echo broken >&2; exit 5"])];
        let files = files(folder.path());
        let cancel = CancellationToken::new();
        let error = write_with(&tools, &files, "x", &folder.path().join("cd"), &cancel).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert_eq!(error.chain()[0], "cannot make the CD `x`");
        assert_eq!(error.chain()[2], "broken");
    }

    #[tokio::test]
    async fn labels_that_cannot_be_are_refused() {
        let (files, cancel) = (VolumeFiles::default(), CancellationToken::new());
        for label in ["", "-o", "é", &"x".repeat(33), "a/b"] {
            let error = write(&files, label, Path::new("/x"), &cancel).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{label}");
        }
    }
}
