//! An empty bootable disk in a sparse raw file: partition table and EFI system partition.
//!
//! ```text
//! 0        1 MiB          2 MiB                     102 MiB                  end - 1 MiB   end
//! | GPT    | BIOS boot    | EFI system (FAT32, EFI) | root (ext4, root)      | backup GPT  |
//! ```
//! The BIOS boot partition holds GRUB's core image, the EFI system partition its EFI programs.
//! Root comes last so that it can grow with the disk (growpart). No loop device and no mount:
//! everything is written through the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use fatfs::{FatType, FormatVolumeOptions, format_volume};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{self, Type};
use uuid::Uuid;

use crate::error::{Context, Error, Kind, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a mebibyte, to which every partition is aligned.
pub const MIB: u64 = 1 << 20;
/// Bytes of a logical block of the disk.
pub(super) const SECTOR: u64 = 512;
const BIOS_BOOT_END: u64 = 2 * MIB;
const EFI_SYSTEM_END: u64 = 102 * MIB;
/// The smallest disk that a Debian with a kernel fits on, bytes.
const SMALLEST: u64 = 2048 * MIB;
/// Name of the EFI system partition and label of its file system.
pub const EFI_LABEL: &str = "EFI";
/// Name of the root partition and label of its file system.
pub const ROOT_LABEL: &str = "root";
/// Number of the root partition, from 1.
pub const ROOT_NUMBER: u32 = 3;

/// Where the parts of the disk are, in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The whole disk: a multiple of [`MIB`].
    pub size: u64,
    /// Where GRUB for BIOS puts its core image.
    pub bios_boot: Range<u64>,
    /// The EFI system partition.
    pub efi_system: Range<u64>,
    /// The root file system.
    pub root: Range<u64>,
}

impl Layout {
    /// The layout of a disk of `size` bytes, rounded down to [`MIB`].
    ///
    /// # Errors
    /// The disk is too small (kind usage).
    pub fn new(size: u64) -> Result<Self> {
        if size < SMALLEST {
            return Err(Error::usage(format!("a disk of {size} bytes is too small for a system"))
                .hint(format!("set the builder's `disk_size` to at least {}M", SMALLEST / MIB)));
        }
        let size = size / MIB * MIB;
        Ok(Self {
            size,
            bios_boot: MIB..BIOS_BOOT_END,
            efi_system: BIOS_BOOT_END..EFI_SYSTEM_END,
            root: EFI_SYSTEM_END..size - MIB,
        })
    }

    fn partitions(&self) -> [(&'static str, &Range<u64>, Type); 3] {
        [
            ("bios", &self.bios_boot, partition_types::BIOS),
            (EFI_LABEL, &self.efi_system, partition_types::EFI),
            (ROOT_LABEL, &self.root, partition_types::LINUX_ROOT_X64),
        ]
    }
}

/// Makes the sparse file `path` with partition table and an empty EFI system partition; the root
/// partition, whose GUID it returns, is left to mke2fs. A file that is there is replaced.
///
/// # Errors
/// The file cannot be written (kind host).
pub fn create(path: &Path, layout: &Layout) -> Result<Uuid> {
    let write = || -> Result<Uuid, BoxError> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(layout.size)?;
        let root = write_partition_table(&mut file, layout)?;
        format_efi_system(&mut file, &layout.efi_system)?;
        Ok(root)
    };
    write().context(Kind::Host, || format!("writing the disk {}", path.display()))
}

fn write_partition_table(file: &mut File, layout: &Layout) -> Result<Uuid, BoxError> {
    protective(layout.size).overwrite_lba0(file)?;
    let config = gpt::GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file, None)?;
    for (number, (name, range, kind)) in (1..).zip(layout.partitions()) {
        let length = (range.end - range.start) / SECTOR;
        table.add_partition_at(name, number, range.start / SECTOR, length, kind, 0)?;
    }
    let root = table.partitions().get(&ROOT_NUMBER).ok_or("the root partition is not in the table")?.part_guid;
    table.write()?;
    Ok(root)
}

fn format_efi_system(file: &mut File, partition: &Range<u64>) -> io::Result<()> {
    let mut label = [b' '; 11];
    label[..EFI_LABEL.len()].copy_from_slice(EFI_LABEL.as_bytes());
    let volume = Uuid::new_v4().as_fields().0;
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).volume_label(label).volume_id(volume);
    format_volume(&mut Window::new(file, partition.clone())?, options)
}

/// The last partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPartition {
    /// Its number, from 1.
    pub number: u32,
    /// Its GUID.
    pub guid: Uuid,
    /// Where it is, bytes from the disk's start.
    pub range: Range<u64>,
}

/// Grows the last partition of the disk `path` to the disk's end, as growpart(1) does; also says
/// whether it grew.
///
/// # Errors
/// The disk has no GPT with a partition, or cannot be written (kind build).
pub fn grow_last_partition(path: &Path) -> Result<(LastPartition, bool)> {
    let grow = || -> Result<(LastPartition, bool), BoxError> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let size = file.seek(SeekFrom::End(0))? / MIB * MIB;
        // The backup table of a disk that was made larger is not at its end.
        let config = || {
            gpt::GptConfig::new().writable(true).only_valid_headers(false).logical_block_size(LogicalBlockSize::Lb512)
        };
        let table = config().open_from_device(&mut file)?;
        let mut partitions = table.partitions().clone();
        let guid = *table.guid();
        let last = partitions.iter_mut().max_by_key(|(_, partition)| partition.last_lba);
        let (number, last) = last.ok_or("it has no partition")?;
        let (is, wanted) = ((last.last_lba + 1) * SECTOR, size.saturating_sub(MIB));
        let range = last.first_lba * SECTOR..is.max(wanted);
        let found = LastPartition { number: *number, guid: last.part_guid, range };
        if is >= wanted {
            return Ok((found, false));
        }
        last.last_lba = wanted / SECTOR - 1;
        // Not the boot loader before it.
        protective(size).update_conservative(&mut file)?;
        let mut table = config().create_from_device(&mut file, Some(guid))?;
        table.update_partitions(partitions)?;
        table.write()?;
        Ok((found, true))
    };
    grow().context(Kind::Build, || format!("reading the partition table of {}", path.display()))
}

/// The protective partition table covers all but the first sector of a disk of `size` bytes; larger
/// disks saturate (UEFI 5.2.3).
fn protective(size: u64) -> ProtectiveMBR {
    ProtectiveMBR::with_lb_size(u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX))
}

/// A part of a file that looks like a file of its own.
pub(super) struct Window<'a> {
    file: &'a mut File,
    range: Range<u64>,
    position: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a mut File, range: Range<u64>) -> io::Result<Self> {
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Self { file, range, position: 0 })
    }

    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// How many of `wanted` bytes lie between the position and the end.
    fn available(&self, wanted: usize) -> usize {
        let left = self.length().saturating_sub(self.position);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.available(buffer.len());
        let read = self.file.read(&mut buffer[..wanted])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let wanted = self.available(buffer.len());
        let written = self.file.write(&buffer[..wanted])?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.length().checked_add_signed(offset),
        };
        let position = position
            .filter(|position| *position <= self.length())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek outside the partition"))?;
        self.file.seek(SeekFrom::Start(self.range.start + position))?;
        self.position = position;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_reads_back_as_it_was_laid_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let layout = Layout::new(10 << 30).unwrap();
        let root = create(&path, &layout).unwrap();

        let table = gpt::GptConfig::new().open(&path).unwrap();
        assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
        let read: Vec<_> = table
            .partitions()
            .values()
            .map(|partition| (partition.name.as_str(), partition.first_lba * 512..(partition.last_lba + 1) * 512))
            .collect();
        let expected = [("bios", MIB..2 * MIB), ("EFI", 2 * MIB..102 * MIB), ("root", 102 * MIB..10239 * MIB)];
        assert_eq!(read, expected);
        assert_eq!(table.partitions()[&ROOT_NUMBER].part_guid, root);
    }

    #[test]
    fn the_efi_system_partition_is_an_empty_labelled_fat32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let layout = Layout::new(SMALLEST).unwrap();
        create(&path, &layout).unwrap();

        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        let window = Window::new(&mut file, layout.efi_system).unwrap();
        let fat = fatfs::FileSystem::new(window, fatfs::FsOptions::new()).unwrap();
        assert_eq!(fat.fat_type(), FatType::Fat32);
        assert_eq!(fat.volume_label(), "EFI");
        assert_eq!(fat.root_dir().iter().count(), 0);
    }

    #[test]
    fn a_new_disk_takes_hardly_any_space() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        create(&path, &Layout::new(100 << 30).unwrap()).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 100 << 30);
        assert!(metadata.blocks() * 512 < 8 * MIB, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_disk_too_small_for_a_system_is_refused() {
        let error = Layout::new(SMALLEST - 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(error.hints(), ["set the builder's `disk_size` to at least 2048M"]);
    }

    proptest! {
        #[test]
        fn partitions_are_aligned_in_order_and_inside(size in SMALLEST..1 << 50) {
            let layout = Layout::new(size).unwrap();
            let ranges = layout.partitions().map(|(_, range, _)| range.clone());
            for range in &ranges {
                prop_assert!(range.start < range.end && range.start % MIB == 0 && range.end % MIB == 0);
            }
            prop_assert!(ranges[0].end <= ranges[1].start && ranges[1].end <= ranges[2].start);
            prop_assert!(ranges[2].end <= layout.size - 34 * SECTOR && layout.size <= size);
        }
    }

    #[test]
    fn the_last_partition_grows_with_the_disk_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let layout = Layout::new(SMALLEST).unwrap();
        create(&path, &layout).unwrap();
        let (before, grew) = grow_last_partition(&path).unwrap();
        assert_eq!((before.number, &before.range, grew), (ROOT_NUMBER, &layout.root, false));
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        file.write_all(&[7; 440]).unwrap();
        file.set_len(SMALLEST + 300 * MIB + 5).unwrap();
        let table = |path| gpt::GptConfig::new().open(path).unwrap();
        let guid = {
            let read = gpt::GptConfig::new().only_valid_headers(false).open(&path).unwrap();
            (*read.guid(), read.partitions()[&3].part_guid)
        };
        let grown = layout.root.start..SMALLEST + 299 * MIB;
        let after = LastPartition { range: grown.clone(), ..before };
        assert_eq!(grow_last_partition(&path).unwrap(), (after.clone(), true));
        assert_eq!(grow_last_partition(&path).unwrap(), (after, false));
        file.set_len(SMALLEST + 300 * MIB).unwrap();
        let read = table(&path);
        assert_eq!((*read.guid(), read.partitions()[&3].part_guid), guid);
        assert_eq!(read.partitions()[&3].last_lba, grown.end / SECTOR - 1);
        assert_eq!(read.partitions()[&2].first_lba, BIOS_BOOT_END / SECTOR);
        let mut boot = [0; 440];
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut boot).unwrap();
        assert_eq!(boot, [7; 440]);
    }
}
