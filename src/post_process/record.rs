//! What post-processors have made, so that nothing is done twice: `.post-processors.json` beside the image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Image;
use crate::cache::replace_file;
use crate::error::{Context, Kind, Result};

/// The record's name in a template's folder of the results.
const FILE: &str = ".post-processors.json";
/// Version of its form.
const VERSION: u32 = 1;
/// Largest file that is looked into, bytes.
const LARGEST: u64 = 64 << 20;

/// What was made, by keys.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What a step has made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Files that it wrote.
    pub(super) outputs: Vec<Stamp>,
    /// The artifact behind it.
    pub(super) artifact: Vec<String>,
    /// That is the image itself.
    pub(super) is_image: bool,
    /// How long it took.
    pub(super) seconds: f64,
}

/// How a file is known to be the same, without reading a gigabyte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Relative to the image's folder, where it is inside.
    name: String,
    /// Bytes; none where it is not there.
    size: Option<u64>,
    /// Nanoseconds since 1970.
    modified: i128,
    /// A text in it, which says more than the rest where others add to the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds: Option<String>,
}

/// The name of `path` as records have it.
pub(super) fn name(image: &Image, path: &Path) -> String {
    path.strip_prefix(&image.folder).unwrap_or(path).to_string_lossy().into_owned()
}

impl Record {
    /// The record of the images in `folder`; empty where there is none that can be read: all is done again then.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).ok().filter(|record: &Self| record.version == VERSION).unwrap_or_default()
    }

    /// # Errors
    /// It cannot be written (kind host).
    pub(super) fn write(&mut self, folder: &Path) -> Result<()> {
        self.version = VERSION;
        let path = folder.join(FILE);
        let fail = || format!("cannot write {}", path.display());
        let json = serde_json::to_vec_pretty(self).context(Kind::Host, fail)?;
        replace_file(&path, &json, 0o644).context(Kind::Host, fail)
    }
}

impl Entry {
    /// Whether all that it made is there with nothing changed; what is part of its artifact may be gone where that
    /// `is_removed_later`.
    pub(super) fn is_there(&self, image: &Image, is_removed_later: bool) -> bool {
        self.outputs.iter().all(|stamp| {
            let gone = is_removed_later && self.artifact.contains(&stamp.name) && !stamp.path(image).exists();
            gone || stamp.is_the_same(image)
        })
    }
}

impl Stamp {
    /// The file at `path` as it is.
    pub(super) fn of(image: &Image, path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        let time =
            |metadata: &fs::Metadata| i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self {
            name: name(image, path),
            size: metadata.as_ref().map(fs::Metadata::len),
            modified: metadata.as_ref().map(time).unwrap_or_default(),
            holds: None,
        }
    }

    /// The same, known by a text in it.
    pub(super) fn holding(self, holds: Option<String>) -> Self {
        Self { holds, ..self }
    }

    pub(super) fn path(&self, image: &Image) -> PathBuf {
        image.file(&self.name)
    }

    fn is_the_same(&self, image: &Image) -> bool {
        let path = self.path(image);
        match &self.holds {
            Some(text) => {
                let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= LARGEST);
                is_small && fs::read_to_string(&path).is_ok_and(|content| content.contains(text))
            }
            None => self.size.is_some() && *self == Self::of(image, &path),
        }
    }
}
