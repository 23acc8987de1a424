//! The files of an image's root file system, read-only.
//!
//! Only ext2, ext3 and ext4 can be read, by the crate `ext4-view`, which also takes a journal that
//! was not replayed into account. Other partitions (`/boot`, say) are not looked into. Blocks that
//! were reserved for a file but never written (fallocate(2)) read as what was on the disk before,
//! and may shift what follows: the crate does not tell them apart.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use ext4_view::{Ext4, Ext4Error};

use super::Disk;
use super::partitions::Partition;
use crate::error::{Error, Kind, Result};

pub use entry::{Entry, EntryKind};

mod entry;
mod glob;
mod owners;
mod root;

use owners::Names;
use root::Superblock;

/// Links that are followed for one path, as in Linux (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// The longest target of a link, bytes: a page, less the zero at its end.
const LONGEST_TARGET: u64 = 4095;
/// The longest path, bytes (PATH_MAX).
const LONGEST_PATH: usize = 4096;

/// A root file system. It cannot go from thread to thread, so in asynchronous code it lives inside of
/// one `spawn_blocking`.
///
/// Paths are absolute. Every error of kind verification says that the file system is damaged or that
/// links form a loop; a file that is not there is no error.
#[derive(Debug)]
pub struct Files {
    fs: Ext4,
    partition: Partition,
    superblock: Superblock,
    users: OnceCell<Names>,
    groups: OnceCell<Names>,
}

impl Files {
    /// Finds the root file system of `disk`: the ext one that has `/etc/os-release`,
    /// `/usr/lib/os-release` or `/sbin/init`.
    ///
    /// # Errors
    /// There is none that can be read; the error says why (kind verification).
    pub fn open(disk: &Disk) -> Result<Self> {
        Self::among(&disk.file()?, disk.partitions())
    }

    /// The same, where the raw disk is open and its partitions are known.
    pub(super) fn among(disk: &File, partitions: &[Partition]) -> Result<Self> {
        root::find(disk, partitions)
    }

    /// Where the root file system is.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// What is at `path`, links followed, as stat(2) does; none if that leads nowhere.
    ///
    /// # Errors
    /// `path` is relative (kind usage); the links form a loop or the file system is damaged.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Option<Entry>> {
        Ok(self.resolve(path.as_ref(), true)?.map(|(_, entry)| entry))
    }

    /// What is at `path`, which may be a link itself, as lstat(2) does.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn stat_link(&self, path: impl AsRef<Path>) -> Result<Option<Entry>> {
        Ok(self.resolve(path.as_ref(), false)?.map(|(_, entry)| entry))
    }

    /// The path without links that `path` leads to; none if it leads nowhere.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn real_path(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        Ok(self.resolve(path.as_ref(), true)?.map(|(path, _)| path))
    }

    /// The first `limit` bytes of the file at `path`, links followed; none if it leads nowhere.
    ///
    /// # Errors
    /// It is no ordinary file, and as [`Files::stat`].
    pub fn read(&self, path: impl AsRef<Path>, limit: usize) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let Some((real, entry)) = self.resolve(path, true)? else { return Ok(None) };
        if entry.kind != EntryKind::File {
            let what = format!("{} in the image is no ordinary file but {}", path.display(), entry.kind);
            return Err(Error::new(Kind::Verification, what));
        }
        let mut content = Vec::new();
        self.read_in_pieces(&real, &mut |piece| {
            content.extend_from_slice(&piece[..piece.len().min(limit - content.len())]);
            Ok(content.len() < limit)
        })?;
        Ok(Some(content))
    }

    /// Names and entries (links not followed) of the folder at `path`, sorted; none if it is none.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Option<Vec<(OsString, Entry)>>> {
        match self.resolve(path.as_ref(), true)? {
            Some((real, entry)) if entry.kind == EntryKind::Folder => self.list_real(&real).map(Some),
            _ => Ok(None),
        }
    }

    /// The paths that match `pattern`, sorted: `*`, `?` and `[a-z]`, `[!a-z]` within a name, as in
    /// glob(7). A name that begins with a full stop is matched only by a pattern that does.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        glob::find(self, pattern)
    }

    /// Shows `each` everything in the file system but its root, folders before what is in them, sorted;
    /// links are not followed. An error of `each` ends it.
    ///
    /// # Errors
    /// The file system is damaged, or what `each` says.
    pub fn walk(&self, mut each: impl FnMut(&Path, &Entry) -> Result<()>) -> Result<()> {
        let mut waiting = vec![PathBuf::from("/")];
        let mut folders = 0;
        while let Some(folder) = waiting.pop() {
            folders += 1;
            // No sound file system has more folders.
            if folders > self.superblock.inodes {
                return Err(damaged(&folder, "folders form a loop"));
            }
            let mut inner = Vec::new();
            for (name, entry) in self.list_real(&folder)? {
                let path = folder.join(name);
                each(&path, &entry)?;
                if entry.kind == EntryKind::Folder {
                    inner.push(path);
                }
            }
            waiting.extend(inner.into_iter().rev());
        }
        Ok(())
    }

    /// The name of the user `uid` in the image's `/etc/passwd`.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn user_name(&self, uid: u32) -> Result<Option<&str>> {
        self.name(&self.users, "/etc/passwd", uid)
    }

    /// The name of the group `gid` in the image's `/etc/group`.
    ///
    /// # Errors
    /// As [`Files::stat`].
    pub fn group_name(&self, gid: u32) -> Result<Option<&str>> {
        self.name(&self.groups, "/etc/group", gid)
    }

    fn name<'a>(&'a self, names: &'a OnceCell<Names>, path: &str, id: u32) -> Result<Option<&'a str>> {
        if names.get().is_none() {
            let text = self.read(path, owners::LONGEST)?.unwrap_or_default();
            // It is empty: nobody else has set it.
            let _ = names.set(Names::parse(&text));
        }
        Ok(names.get().and_then(|names| names.of(id)))
    }

    /// Where the file system is on the disk, and the bytes of its blocks.
    pub(super) fn blocks(&self) -> (Range<u64>, u64) {
        (self.partition.start..self.partition.end(), self.superblock.block)
    }

    /// Reads the ordinary file at `path`, which has no links, until `each` says that it is enough.
    pub(super) fn read_in_pieces(&self, path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        let mut file = self.fs.open(bytes(path)).map_err(|error| damaged(path, error))?;
        let mut piece = vec![0; 256 << 10];
        loop {
            // The crate reads no more than a block at once.
            let mut filled = 0;
            while filled < piece.len() {
                match file.read_bytes(&mut piece[filled..]).map_err(|error| damaged(path, error))? {
                    0 => break,
                    count => filled += count,
                }
            }
            if filled == 0 || !each(&piece[..filled])? {
                return Ok(());
            }
        }
    }

    fn list_real(&self, folder: &Path) -> Result<Vec<(OsString, Entry)>> {
        let fail = |error: Ext4Error| damaged(folder, error);
        let mut entries = Vec::new();
        for entry in self.fs.read_dir(bytes(folder)).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let name = OsString::from_vec(name.as_ref().to_vec());
            let path = folder.join(&name);
            let metadata = entry.metadata().map_err(|error| damaged(&path, error))?;
            entries.push((name, self.entry(&path, &metadata)?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// The entry of what is at `path`, whose folders are no links.
    fn entry(&self, path: &Path, metadata: &ext4_view::Metadata) -> Result<Entry> {
        let target = if metadata.is_symlink() { Some(self.target(path, metadata.len())?) } else { None };
        Ok(Entry::new(metadata, target))
    }

    fn target(&self, link: &Path, length: u64) -> Result<PathBuf> {
        // The crate allocates what a damaged inode claims.
        if length > LONGEST_TARGET {
            return Err(damaged(link, "the link is too long"));
        }
        let target = self.fs.read_link(bytes(link)).map_err(|error| damaged(link, error))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_ref())))
    }

    /// Where `path` leads, inside of the image. The crate would follow links itself, but also those of
    /// a damaged file system, by whose length it allocates.
    fn resolve(&self, path: &Path, follow: bool) -> Result<Option<(PathBuf, Entry)>> {
        if !path.is_absolute() {
            return Err(Error::usage(format!("{} is not an absolute path", path.display())));
        }
        let mut at = PathBuf::from("/");
        let mut left: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let Some(entry) = self.look_up(&next)? else { return Ok(None) };
            match entry.target {
                Some(target) if follow || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(damaged(path, "links form a loop"));
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    names(&target).into_iter().rev().for_each(|name| left.push_front(name));
                }
                _ => at = next,
            }
        }
        let entry = self.look_up(&at)?;
        Ok(entry.map(|entry| (at, entry)))
    }

    /// What is at `path`, whose folders are no links.
    fn look_up(&self, path: &Path) -> Result<Option<Entry>> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(damaged(path, "the path is too long"));
        }
        match self.fs.symlink_metadata(bytes(path)) {
            Ok(metadata) => self.entry(path, &metadata).map(Some),
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => Ok(None),
            Err(error) => Err(damaged(path, error)),
        }
    }
}

/// The names that a path is made of; `.` and the root are none.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// A path as the crate takes it.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn damaged(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Verification, format!("cannot read {} in the image", path.display())).because(why)
}

#[cfg(test)]
mod tests;
