//! qemu-img, driven.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Compression;
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Phase, Stream};
use crate::process::Run;

const QEMU_IMG: &str = "qemu-img";

/// What `qemu-img info --output=json` says of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// `qcow2`, `raw` …
    pub format: String,
    /// Size that a guest sees, bytes.
    pub virtual_size: u64,
    /// Size on the host's disk, bytes.
    pub actual_size: u64,
    /// The file that it lies on, as its header names it.
    pub backing_filename: Option<String>,
    /// What only images of its format have.
    pub format_specific: Option<FormatSpecific>,
    /// The same, with the image's own folder before it if it is relative.
    pub full_backing_filename: Option<String>,
    /// Whether it cannot be read without a key.
    #[serde(default)]
    pub encrypted: bool,
    /// Its internal snapshots, which a conversion leaves behind.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
}

impl Info {
    /// The other file that has content of the image: what it lies on, or its data file.
    pub fn other_file(&self) -> Option<&str> {
        let data_file = || self.format_specific.as_ref()?.data.data_file.as_deref();
        self.backing_filename.as_deref().or_else(data_file)
    }
}

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
}

/// What `qemu-img check` found of an image's metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Faults {
    /// Places where the metadata is wrong, also data that lie behind the file's end.
    pub corruptions: u64,
    /// Clusters that nothing refers to: space lost, no harm.
    pub leaks: u64,
    /// Checks that could not be made.
    pub check_errors: u64,
}

/// What qemu-img says of a qcow2 beside what all formats have.
#[derive(Debug, Clone, Deserialize)]
pub struct FormatSpecific {
    /// Its properties.
    #[serde(default)]
    pub data: FormatData,
}

/// Properties of a qcow2.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FormatData {
    /// The file that has its content, where that is another (docs/interop/qcow2.txt, "External data file").
    pub data_file: Option<String>,
}

/// How an overlay keeps its data: in pieces of 4 KiB, the block of ext4, so that a block that is
/// written does not copy its neighbours, and one that is discarded is given back (QEMU 5.2 and newer,
/// docs/interop/qcow2.txt, "Extended L2 Entries": 32 subclusters a cluster).
const OVERLAY: &str = "extended_l2=on,cluster_size=128k";

/// Makes an empty qcow2 of `size` bytes at `disk`.
///
/// # Errors
/// qemu-img fails.
pub async fn create_empty(disk: &Path, size: u64, cancel: &CancellationToken) -> Result<()> {
    let mut args: Vec<OsString> = ["create", "-q", "-f", "qcow2"].map(Into::into).into();
    args.extend([disk.into(), size.to_string().into()]);
    Run::new(QEMU_IMG, args).output(cancel).await.map(drop)
}

/// Makes an overlay at `disk` on the qcow2 `backing`, of `size` bytes if that is larger.
///
/// # Errors
/// qemu-img fails.
pub async fn create_overlay(backing: &Path, disk: &Path, size: Option<u64>, cancel: &CancellationToken) -> Result<()> {
    create_overlay_on(backing, "qcow2", disk, size, cancel).await
}

/// Makes an overlay of `size` bytes at `disk` on the qcow2 `backing`, which somebody may have open for writing.
///
/// # Errors
/// qemu-img fails.
pub async fn create_overlay_unseen(backing: &Path, disk: &Path, size: u64, cancel: &CancellationToken) -> Result<()> {
    let mut args: Vec<OsString> =
        ["create", "-q", "-u", "-f", "qcow2", "-o", OVERLAY, "-F", "qcow2", "-b"].map(Into::into).into();
    args.extend([backing.into(), disk.into(), size.to_string().into()]);
    Run::new(QEMU_IMG, args).output(cancel).await.map(drop)
}

/// As [`create_overlay`], on an image of any format that qemu-img names.
///
/// # Errors
/// qemu-img fails.
pub async fn create_overlay_on(
    backing: &Path,
    format: &str,
    disk: &Path,
    size: Option<u64>,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut args: Vec<OsString> =
        ["create", "-q", "-f", "qcow2", "-o", OVERLAY, "-F", format, "-b"].map(Into::into).into();
    args.push(backing.into());
    args.push(disk.into());
    if let Some(size) = size {
        let now = info(backing, cancel).await?.virtual_size;
        if size < now {
            return Err(Error::usage(format!(
                "`disk_size` ({size} bytes) is smaller than the parent's disk ({now} bytes): a disk cannot shrink"
            )));
        }
        args.push(size.to_string().into());
    }
    Run::new(QEMU_IMG, args).output(cancel).await.map(drop)
}

/// Copies a disk image of any format to a new qcow2 of `size` bytes.
///
/// # Errors
/// It is larger, or refers to other files, which could be any of this host (kind usage); or qemu-img fails.
pub async fn take(image: &Path, disk: &Path, size: u64, cancel: &CancellationToken) -> Result<()> {
    let found = info(image, cancel).await?;
    if let Some(other) = found.other_file() {
        return Err(Error::usage(format!("{} is not whole: it refers to {other}", image.display()))
            .hint("`qemu-img convert` makes one file of it"));
    }
    if size < found.virtual_size {
        return Err(Error::usage(format!(
            "`disk_size` ({size} bytes) is smaller than the disk image ({} bytes): a disk cannot shrink",
            found.virtual_size
        )));
    }
    let mut args: Vec<OsString> = ["convert", "-O", "qcow2", "-W", "-f"].map(Into::into).into();
    args.extend([OsString::from(&found.format), image.into(), disk.into()]);
    Run::new(QEMU_IMG, args).output(cancel).await?;
    let args: [OsString; 4] = ["resize".into(), "-q".into(), disk.into(), size.to_string().into()];
    Run::new(QEMU_IMG, args).output(cancel).await.map(drop)
}

/// What an image is.
///
/// # Errors
/// qemu-img fails, or says what we do not understand.
pub async fn info(image: &Path, cancel: &CancellationToken) -> Result<Info> {
    let args = [OsString::from("info"), "-U".into(), "--output=json".into(), image.into()];
    let json = Run::new(QEMU_IMG, args).output(cancel).await?;
    serde_json::from_str(&json).context(Kind::Build, || format!("qemu-img info of {}", image.display()))
}

/// Converts `source` with all that it lies on into a flat compressed qcow2 at `target`.
///
/// # Errors
/// qemu-img fails (no space left, say).
pub async fn convert_flat(
    source: &Path,
    target: &Path,
    compression: Compression,
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<()> {
    let compression = format!("compression_type={compression}");
    convert(&["-W", "-m", "16", "-c", "-O", "qcow2", "-o", &compression], source, target, phase, cancel).await
}

/// Copies the content of `source`, an image of `format`, to the raw file `target`, which stays sparse
/// where 4 KiB are zero.
///
/// # Errors
/// There is no space left (kind host), or qemu-img cannot read the image (kind verification).
pub async fn convert_raw(
    source: &Path,
    format: &str,
    target: &Path,
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<()> {
    let options = ["-W", "-m", "16", "-f", format, "-O", "raw", "-S", "4k"];
    convert(&options, source, target, phase, cancel).await.map_err(|error| match error.kind() {
        Kind::Build if is_full(&error) => error.of_kind(Kind::Host),
        Kind::Build => error.of_kind(Kind::Verification),
        _ => error,
    })
}

/// Copies the content of the qcow2 `source` to `target`, in the format that qemu-img calls so, with its options. What is
/// zero takes no room, where the format knows that.
///
/// # Errors
/// There is no space left (kind host), or qemu-img fails.
pub async fn convert_to(
    source: &Path,
    target: &Path,
    (format, options): (&str, &str),
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut args = vec!["-f", "qcow2", "-O", format, "-S", "4k"];
    if !options.is_empty() {
        args.extend(["-o", options]);
    }
    convert(&args, source, target, phase, cancel).await.map_err(|error| {
        if is_full(&error) { error.of_kind(Kind::Host).hint("make room where the result goes") } else { error }
    })
}

/// Says that `other`, in the format that qemu-img calls so, has the content of the qcow2 `image`.
///
/// # Errors
/// It has not, or qemu-img fails.
pub async fn compare(image: &Path, other: &Path, format: &str, cancel: &CancellationToken) -> Result<()> {
    let mut args: Vec<OsString> = ["compare", "-q", "-f", "qcow2", "-F", format].map(Into::into).into();
    args.extend([image.into(), other.into()]);
    let compared = Run::new(QEMU_IMG, args).output(cancel).await;
    compared.map(drop).map_err(|error| match error.kind() {
        Kind::Build => error.context("what was made does not have the content of the image"),
        _ => error,
    })
}

fn is_full(error: &Error) -> bool {
    error.chain().iter().any(|cause| cause.contains(NO_SPACE))
}

/// strerror(3) of ENOSPC; qemu-img does not translate it.
const NO_SPACE: &str = "No space left on device";

async fn convert(
    options: &[&str],
    source: &Path,
    target: &Path,
    phase: &Phase,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut args: Vec<OsString> = ["convert", "-p"].map(Into::into).into();
    args.extend(options.iter().map(Into::into));
    args.extend([source.into(), target.into()]);
    let run = Run::new(QEMU_IMG, args);
    run.lines(cancel, |stream, line| match percent(line) {
        Some(percent) => phase.progress(percent, Some(100), "percent"),
        None => phase.output(stream, line),
    })
    .await
}

/// Looks for faults in the metadata of a qcow2, without repairing them.
///
/// # Errors
/// qemu-img cannot even open it.
pub async fn faults(image: &Path, cancel: &CancellationToken) -> Result<Faults> {
    let args = ["check", "-U", "-f", "qcow2", "--output=json"].map(OsString::from);
    let mut json = Vec::new();
    let run = Run::new(QEMU_IMG, args.into_iter().chain([image.into()]));
    let ended = run
        .lines(cancel, |stream, line| {
            if stream == Stream::Stdout {
                json.push(line.to_owned());
            }
        })
        .await;
    // It fails where it finds faults, too, but then it tells them.
    serde_json::from_str(&json.join("\n")).or_else(|error| {
        ended?;
        Err(error).context(Kind::Build, || format!("qemu-img check of {}", image.display()))
    })
}

/// Checks the metadata of a qcow2.
///
/// # Errors
/// qemu-img finds a fault.
pub async fn check(image: &Path, phase: &Phase, cancel: &CancellationToken) -> Result<()> {
    let args = [OsString::from("check"), "-q".into(), "-f".into(), "qcow2".into(), image.into()];
    Run::new(QEMU_IMG, args)
        .lines(cancel, |stream: Stream, line| phase.output(stream, line))
        .await
        .map_err(|error| error.context(format!("{} is damaged", image.display())))
}

/// The whole percents of qemu-img's progress line, `    (12.50/100%)`.
fn percent(line: &str) -> Option<u64> {
    let number = line.trim().strip_prefix('(')?.strip_suffix("/100%)")?;
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_understood_and_others_are_not() {
        assert_eq!(percent("    (12.50/100%)"), Some(12));
        assert_eq!(percent("(100.00/100%)"), Some(100));
        assert_eq!(percent("qemu-img: error"), None);
    }

    #[tokio::test]
    async fn a_flat_image_has_the_overlays_content_and_no_backing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let cancel = CancellationToken::new();
        let create = ["create", "-q", "-f", "qcow2"].map(OsString::from);
        let args = create.into_iter().chain([path("base").into(), "8M".into()]);
        Run::new(QEMU_IMG, args).output(&cancel).await.unwrap();
        create_overlay(&path("base"), &path("overlay"), Some(16 << 20), &cancel).await.unwrap();
        let phase = crate::event::Events::none().phase("t", "convert");
        for compression in [Compression::Zstd, Compression::Zlib] {
            convert_flat(&path("overlay"), &path("flat"), compression, &phase, &cancel).await.unwrap();
            check(&path("flat"), &phase, &cancel).await.unwrap();
            let info = info(&path("flat"), &cancel).await.unwrap();
            assert_eq!((info.virtual_size, info.backing_filename), (16 << 20, None));
        }
        let error = create_overlay(&path("base"), &path("o2"), Some(1 << 20), &cancel).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }
}
