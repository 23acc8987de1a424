//! Reads an image without booting it, without mounts and without root.
//!
//! A qcow2 (or whatever else qemu-img reads) is copied to a sparse raw file first; the image itself
//! is never written. Internal snapshots and clusters that a qcow2 no longer uses stay behind in that
//! copy: [`Info::snapshots`] tells of the former.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempPath;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Kind, Result};
use crate::event::Phase;
use crate::image::qemu_img::{self, Info};

pub mod files;
pub mod partitions;
pub mod scan;

#[cfg(test)]
pub(super) mod testing;

use files::Files;
use partitions::Partition;

/// An image whose content can be read.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    info: Info,
    raw: Raw,
    partitions: Vec<Partition>,
}

#[derive(Debug)]
enum Raw {
    /// The image is raw itself.
    Image,
    /// A copy of it, removed with this.
    Copy(TempPath),
}

impl Disk {
    /// Makes `image` readable. Unless it is raw, a sparse copy of its content is made in the folder
    /// `work`, which goes when the result is dropped.
    ///
    /// # Errors
    /// The file is no image, encrypted, or lies on a file that is missing, or on any without `allow_backing`
    /// (kind usage); it is damaged (kind verification); there is no space for the copy (kind host); `cancel` fires.
    pub async fn open(
        image: &Path,
        allow_backing: bool,
        work: &Path,
        phase: &Phase,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let info = describe(image, allow_backing, cancel).await?;
        let raw = if info.format == "raw" {
            Raw::Image
        } else {
            check(image, &info, cancel).await?;
            Raw::Copy(copy(image, &info.format, work, phase, cancel).await?)
        };
        let mut disk = Self { image: image.to_owned(), info, raw, partitions: Vec::new() };
        disk.partitions = partitions::find(&disk.file()?)
            .map_err(|error| error.context(format!("the partition table of {} cannot be read", image.display())))?;
        if matches!(disk.raw, Raw::Image) && disk.partitions.is_empty() {
            return Err(no_image(image));
        }
        Ok(disk)
    }

    /// The image's file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// What qemu-img says of it: format, sizes, snapshots.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The content as a raw file. To be read only: it is the image itself where that is raw.
    pub fn raw(&self) -> &Path {
        match &self.raw {
            Raw::Image => &self.image,
            Raw::Copy(path) => path,
        }
    }

    /// Partitions by their place on the disk; a file system without a partition table is one, too.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The files of the root file system. Not to be kept across an `await`: see [`Files`].
    ///
    /// # Errors
    /// As [`Files::open`].
    pub fn files(&self) -> Result<Files> {
        Files::open(self)
    }

    fn file(&self) -> Result<File> {
        File::open(self.raw()).context(Kind::Host, || format!("cannot read {}", self.raw().display()))
    }
}

/// What the image is, after what can be known without reading its content.
async fn describe(image: &Path, allow_backing: bool, cancel: &CancellationToken) -> Result<Info> {
    let unreadable = |error| Error::usage(format!("cannot read {}", image.display())).because(error);
    let metadata = std::fs::metadata(image).map_err(|error| unreadable(error.into()))?;
    if !metadata.is_file() {
        return Err(Error::usage(format!("{} is not a file", image.display())));
    }
    File::open(image).map_err(|error| unreadable(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
    let info = qemu_img::info(image, cancel).await.map_err(|error| match error.kind() {
        Kind::Build => error.of_kind(Kind::Usage).context(format!("{} is no readable disk image", image.display())),
        _ => error,
    })?;
    if info.virtual_size == 0 {
        return Err(Error::usage(format!("{} is empty", image.display())));
    }
    if info.encrypted {
        return Err(Error::usage(format!("{} is encrypted: nothing of it can be read", image.display())));
    }
    if let Some(other) = info.other_file().filter(|_| !allow_backing) {
        return Err(Error::usage(format!("{} lies on another file, {other}", image.display()))
            .hint("flatten it with `qemu-img convert`, or say --allow-backing if you trust who made it"));
    }
    if let Some(backing) = info.full_backing_filename.as_deref().filter(|backing| is_missing(backing)) {
        return Err(Error::usage(format!("{} lies on {backing}, which is missing", image.display()))
            .hint("`qemu-img convert -O qcow2` makes one file of an image and what it lies on"));
    }
    Ok(info)
}

/// Whether a backing file is a path (and not a URL or a description in JSON) where no file is.
fn is_missing(backing: &str) -> bool {
    let is_path = backing.starts_with('/') || !backing.contains(':');
    is_path && !Path::new(backing).exists()
}

/// Finds what a conversion would pass over: data behind a truncated file's end read as zeros.
async fn check(image: &Path, info: &Info, cancel: &CancellationToken) -> Result<()> {
    if info.format != "qcow2" {
        return Ok(());
    }
    let damaged = || format!("{} is damaged", image.display());
    let faults = qemu_img::faults(image, cancel).await.map_err(|error| match error.kind() {
        Kind::Build => error.of_kind(Kind::Verification).context(damaged()),
        _ => error,
    })?;
    match faults.corruptions + faults.check_errors {
        0 => Ok(()),
        faults => Err(Error::new(Kind::Verification, damaged())
            .because(format!("`qemu-img check` finds {faults} faults"))
            .hint("an incomplete download or copy looks like this: compare the checksum")),
    }
}

async fn copy(image: &Path, format: &str, work: &Path, phase: &Phase, cancel: &CancellationToken) -> Result<TempPath> {
    // Readable by its owner only: an image's files are not meant for the host's users.
    let copy = tempfile::Builder::new()
        .prefix("disk-")
        .suffix(".raw")
        .tempfile_in(work)
        .context(Kind::Host, || format!("cannot write in {}", work.display()))?
        .into_temp_path();
    qemu_img::convert_raw(image, format, &copy, phase, cancel).await.map_err(|error| match error.kind() {
        Kind::Interrupted => error,
        _ => error.context(format!("copying the content of {} to {}", image.display(), work.display())),
    })?;
    Ok(copy)
}

/// First bytes of files that are often an image inside of something else.
const WRAPPERS: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "ZIP"),
];

/// Why a file that qemu-img takes for a raw disk, as it does with every file, is none.
fn no_image(image: &Path) -> Error {
    let mut start = Vec::new();
    let read = File::open(image).and_then(|file| file.take(16).read_to_end(&mut start));
    let wrapper = WRAPPERS.iter().find(|(magic, _)| read.is_ok() && start.starts_with(magic));
    let error = Error::usage(format!("{} is no disk image", image.display()));
    match wrapper {
        Some((_, name)) => error.because(format!("it is compressed ({name})")).hint("decompress it first"),
        None => error.because("it has neither a format that qemu-img knows, nor partitions, nor a file system"),
    }
}

#[cfg(test)]
mod tests;
