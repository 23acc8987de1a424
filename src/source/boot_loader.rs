//! GRUB for BIOS and for UEFI, on a disk that is a file.
//!
//! grub-install needs the disk to be a device and its file systems to be mounted. Here scripts put
//! GRUB's files into the tree that becomes the root file system ([`INSTALL_SCRIPT`],
//! [`GRUB_CONFIG_SCRIPT`]), and [`Images::write`] puts its images where firmware looks: the boot
//! sector, the BIOS boot partition, and the fallback path of the EFI system partition.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use fatfs::{FileSystem, FsOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::disk::{Layout, ROOT_NUMBER, SECTOR, Window};
use super::namespace;
use crate::error::{Context, Error, Kind, Result};

/// Puts GRUB's files and images into a tree, and runs [`GRUB_CONFIG_SCRIPT`] there: a POSIX shell
/// script that runs natively, as root of name spaces of its own.
pub const INSTALL_SCRIPT: &str = include_str!("boot-loader.sh");

/// Makes GRUB's configuration inside a root file system without a disk (a chroot or a container):
/// a POSIX shell script whose arguments are the file system's UUID, the partition's GUID and its
/// number. For a tree in which a kernel was installed.
pub const GRUB_CONFIG_SCRIPT: &str = include_str!("grub-config.sh");

/// Both scripts, for fingerprints.
pub const SCRIPTS: &str = concat!(include_str!("boot-loader.sh"), include_str!("grub-config.sh"));

/// Bytes of the boot sector that are code: the partition table is behind them.
const BOOT_CODE: usize = 440;
/// Where the boot sector has the first sector of the core image, u64
/// (`GRUB_BOOT_MACHINE_KERNEL_SECTOR` in GRUB's i386/pc/boot.h).
const KERNEL_SECTOR: usize = 0x5c;
/// A jump over what mistrusts the BIOS's drive number (`GRUB_BOOT_MACHINE_DRIVE_CHECK`). On hard
/// disks grub-install replaces it by no operation, so that wrong numbers are corrected.
const DRIVE_CHECK: Range<usize> = 0x66..0x68;
const NO_OPERATION: u8 = 0x90;
/// The core image's first block list, at the end of its first sector: where the rest of the image
/// is. First sector (u64), number of sectors (u16), segment to load them to (u16); `struct
/// grub_boot_blocklist` in GRUB's i386/pc/boot.h.
const BLOCK_LIST: usize = 0x1f4;
/// The segment where the core image expects itself.
const CORE_SEGMENT: u16 = 0x0820;
/// Where firmware without boot entries looks (UEFI 3.5.1.1).
const EFI_PROGRAM: [&str; 3] = ["EFI", "BOOT", "BOOTX64.EFI"];

/// How the root file system is found.
#[derive(Debug, Clone, Copy)]
pub struct RootIds {
    /// UUID of the file system.
    pub file_system: Uuid,
    /// GUID of its partition.
    pub partition: Uuid,
}

/// Whether the tree has what a disk needs to boot.
///
/// # Errors
/// The template's packages do not bring it (kind usage), or the tree cannot be read (kind build).
pub fn check(tree: &Path) -> Result<()> {
    let boot = tree.join("boot");
    let entries = fs::read_dir(&boot).context(Kind::Build, || format!("reading {}", boot.display()))?;
    let names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let kernel = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let has = |path: &str| tree.join(path).exists();
    let needed = [
        (kernel("vmlinuz-"), "kernel", "linux-image-cloud-amd64"),
        (kernel("initrd.img-"), "initrd", "initramfs-tools"),
        (has("usr/sbin/update-grub") && has("usr/bin/grub-mkimage"), "GRUB", "grub2-common"),
        (has("usr/lib/grub/i386-pc/boot.img"), "GRUB for BIOS", "grub-pc-bin"),
        (has("usr/lib/grub/x86_64-efi/modinfo.sh"), "GRUB for UEFI", "grub-efi-amd64-bin"),
    ];
    let missing: Vec<_> = needed.into_iter().filter(|(there, ..)| !there).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let things: Vec<_> = missing.iter().map(|(_, thing, _)| format!("no {thing}")).collect();
    let packages: Vec<_> = missing.iter().map(|(.., package)| format!("`{package}`")).collect();
    Err(Error::usage(format!("the template's packages bring {}", things.join(", ")))
        .hint(format!("add {} to `packages`", packages.join(", "))))
}

/// Puts GRUB into the tree, configured for a root file system of these ids.
///
/// # Errors
/// The script fails (kind build), or `cancel` fires.
pub async fn install(tree: &Path, ids: RootIds, cancel: &CancellationToken) -> Result<()> {
    let number = ROOT_NUMBER.to_string();
    let (file_system, partition) = (ids.file_system.to_string(), ids.partition.to_string());
    let script = ["-c".as_ref(), INSTALL_SCRIPT.as_ref(), "boot-loader.sh".as_ref(), tree.as_os_str()];
    let arguments = [GRUB_CONFIG_SCRIPT, &file_system, &partition, &number].map(AsRef::as_ref);
    let installed = namespace::run("sh", script.into_iter().chain(arguments)).output(cancel).await;
    installed.map(drop).map_err(|error| error.context("GRUB could not be put into the new root file system"))
}

/// What firmware starts.
#[derive(Debug, Clone)]
pub struct Images {
    /// GRUB's boot sector.
    boot: Vec<u8>,
    /// GRUB for BIOS.
    core: Vec<u8>,
    /// GRUB for UEFI.
    efi: Vec<u8>,
}

impl Images {
    /// The images that [`install`] made in the tree.
    ///
    /// # Errors
    /// One cannot be read (kind build).
    pub fn read(tree: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = tree.join("boot/grub").join(name);
            fs::read(&path).context(Kind::Build, || format!("reading {}", path.display()))
        };
        Ok(Self { boot: read("i386-pc/boot.img")?, core: read("i386-pc/core.img")?, efi: read("x86_64-efi/core.efi")? })
    }

    /// Writes them to the disk, a raw file with `layout`.
    ///
    /// # Errors
    /// They are not GRUB's or do not fit (kind build), or the file cannot be written (kind host).
    pub fn write(&self, disk: &Path, layout: &Layout) -> Result<()> {
        let boot = boot_code(&self.boot, &layout.bios_boot)?;
        let core = core_image(&self.core, &layout.bios_boot)?;
        let write = || -> io::Result<()> {
            let mut file = File::options().read(true).write(true).open(disk)?;
            file.write_all(&boot)?;
            file.seek(SeekFrom::Start(layout.bios_boot.start))?;
            file.write_all(&core)?;
            write_efi_program(&mut file, &layout.efi_system, &self.efi)
        };
        write().context(Kind::Host, || format!("writing the boot loader to {}", disk.display()))
    }
}

/// GRUB's boot sector up to the partition table, for a core image at the start of `partition`.
fn boot_code(image: &[u8], partition: &Range<u64>) -> Result<[u8; BOOT_CODE]> {
    if image.len() as u64 != SECTOR || !image.ends_with(&[0x55, 0xaa]) {
        return Err(unknown("boot.img is not a boot sector"));
    }
    let mut code = [0; BOOT_CODE];
    code.copy_from_slice(&image[..BOOT_CODE]);
    code[KERNEL_SECTOR..][..8].copy_from_slice(&(partition.start / SECTOR).to_le_bytes());
    code[DRIVE_CHECK].fill(NO_OPERATION);
    Ok(code)
}

/// GRUB's core image for the start of `partition`. Its first sector loads the others, which follow.
/// Without the Reed-Solomon codes that grub-install adds behind it: they are against other programs
/// that write to the unused sectors before the first partition.
fn core_image(image: &[u8], partition: &Range<u64>) -> Result<Vec<u8>> {
    let segment = image.get(BLOCK_LIST + 10..BLOCK_LIST + 12);
    if segment != Some(CORE_SEGMENT.to_le_bytes().as_slice()) {
        return Err(unknown("core.img does not begin with a block list"));
    }
    let (length, room) = (image.len() as u64, partition.end - partition.start);
    let sectors = u16::try_from(length.div_ceil(SECTOR) - 1).ok().filter(|_| length <= room).ok_or_else(|| {
        let text = format!("the BIOS boot partition has {room} bytes, GRUB's core.img {length}");
        Error::build(text).hint("the suite's GRUB is too big for this version of visabuild")
    })?;
    let mut core = image.to_owned();
    core[BLOCK_LIST..][..8].copy_from_slice(&(partition.start / SECTOR + 1).to_le_bytes());
    core[BLOCK_LIST + 8..][..2].copy_from_slice(&sectors.to_le_bytes());
    Ok(core)
}

fn unknown(what: &str) -> Error {
    Error::build(format!("GRUB's {what}")).hint("the suite's GRUB is not one that this version of visabuild knows")
}

fn write_efi_program(file: &mut File, partition: &Range<u64>, program: &[u8]) -> io::Result<()> {
    let fat = FileSystem::new(Window::new(file, partition.clone())?, FsOptions::new())?;
    let [vendor, folder, name] = EFI_PROGRAM;
    let folder = fat.root_dir().create_dir(vendor)?.create_dir(folder)?;
    let mut written = folder.create_file(name)?;
    written.write_all(program)?;
    written.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::source::disk;

    const MIB: u64 = disk::MIB;

    fn images() -> Images {
        let mut boot = vec![0xb0; 512];
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut core = vec![0xc0; 3 * 512 + 1];
        core[0x1f4..0x200].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x20, 0x08]);
        Images { boot, core, efi: vec![0xef; 100_000] }
    }

    #[test]
    fn firmware_finds_the_images_and_the_partition_table_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let layout = Layout::new(2 << 30).unwrap();
        disk::create(&path, &layout).unwrap();
        let mut before = vec![0; 2 << 20];
        File::open(&path).unwrap().read_exact(&mut before).unwrap();
        images().write(&path, &layout).unwrap();

        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        let mut start = vec![0; 2 << 20];
        file.read_exact(&mut start).unwrap();
        assert_eq!(start[..0x5c], [0xb0; 0x5c]);
        assert_eq!(start[0x5c..0x64], 2048_u64.to_le_bytes());
        assert_eq!(start[0x64..0x69], [0xb0, 0xb0, 0x90, 0x90, 0xb0]);
        assert_eq!(start[440..1 << 20], before[440..1 << 20]);
        let core = &start[1 << 20..];
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0x20, 0x08], "sectors 2049, 2050 and 2051");
        assert_eq!((core[3 * 512], core[3 * 512 + 1]), (0xc0, 0));

        let fat = FileSystem::new(Window::new(&mut file, layout.efi_system).unwrap(), FsOptions::new()).unwrap();
        let mut program = Vec::new();
        fat.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap().read_to_end(&mut program).unwrap();
        assert!(program == images().efi);
    }

    #[test]
    fn a_core_image_that_fills_the_partition_fits_and_a_bigger_one_does_not() {
        let mut core = images().core;
        core.resize(1 << 20, 0);
        let filled = core_image(&core, &(MIB..2 * MIB)).unwrap();
        assert_eq!(filled[0x1fc..0x1fe], 2047_u16.to_le_bytes());
        core.push(0);
        let error = core_image(&core, &(MIB..2 * MIB)).unwrap_err();
        assert_eq!(error.chain(), ["the BIOS boot partition has 1048576 bytes, GRUB's core.img 1048577"]);
    }

    #[test]
    fn images_of_another_kind_are_refused() {
        for core in [vec![], vec![0; 0x1ff], vec![0; 4096]] {
            assert_eq!(core_image(&core, &(MIB..2 * MIB)).unwrap_err().kind(), Kind::Build);
        }
        for boot in [vec![], vec![0; 512], vec![0xaa; 513]] {
            assert_eq!(boot_code(&boot, &(MIB..2 * MIB)).unwrap_err().kind(), Kind::Build);
        }
    }

    #[test]
    fn what_a_tree_lacks_to_boot_is_named_with_its_package() {
        let tree = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        touch("boot/vmlinuz-6.12");
        touch("usr/sbin/update-grub");
        touch("usr/bin/grub-mkimage");
        touch("usr/lib/grub/x86_64-efi/modinfo.sh");
        let error = check(tree.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(error.chain(), ["the template's packages bring no initrd, no GRUB for BIOS"]);
        assert_eq!(error.hints(), ["add `initramfs-tools`, `grub-pc-bin` to `packages`"]);
        touch("boot/initrd.img-6.12");
        touch("usr/lib/grub/i386-pc/boot.img");
        check(tree.path()).unwrap();
    }
}
