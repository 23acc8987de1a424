//! Small disks for tests, made without root.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types;
use tokio_util::sync::CancellationToken;

use super::Disk;
use crate::error::Result;
use crate::event::Events;

pub const MIB: u64 = 1 << 20;

pub fn run(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) {
    let output = Command::new(program).args(args.iter().map(AsRef::as_ref)).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What looks like a system's root to visabuild.
pub fn system(root: &Path) {
    for folder in ["etc/conf.d", "usr/lib", "usr/bin", "var/log"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("usr/lib/os-release"), "ID=test\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nshadow:x:42:alice\n").unwrap();
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
}

/// A file system of `mib` at `path` with what is in `root`.
pub fn ext(path: &Path, root: &Path, mib: u64, options: &[&str]) {
    let size = format!("{mib}M");
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-q", &"-F", &"-E", &"root_owner=0:0"];
    args.extend(options.iter().map(|option| option as &dyn AsRef<std::ffi::OsStr>));
    args.extend([&"-d" as &dyn AsRef<std::ffi::OsStr>, &root, &path, &size]);
    run("mke2fs", &args);
}

/// A system's file system of 8 MiB at `path`; `change` changes its files before.
pub fn system_ext4(path: &Path, change: impl FnOnce(&Path)) {
    let root = tempfile::tempdir().unwrap();
    system(root.path());
    change(root.path());
    ext(path, root.path(), 8, &["-t", "ext4"]);
}

/// A disk at `path` with a GPT: a BIOS boot partition at 1 MiB and `content` at 2 MiB.
pub fn with_gpt(path: &Path, content: &Path) {
    let content = fs::read(content).unwrap();
    let length = content.len() as u64;
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(length + 3 * MIB).unwrap();
    ProtectiveMBR::with_lb_size(u32::try_from((length + 3 * MIB) / 512 - 1).unwrap())
        .overwrite_lba0(&mut file)
        .unwrap();
    let config = gpt::GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(&mut file, None).unwrap();
    table.add_partition_at("bios", 1, MIB / 512, MIB / 512, partition_types::BIOS, 0).unwrap();
    table.add_partition_at("root", 2, 2 * MIB / 512, length / 512, partition_types::LINUX_ROOT_X64, 0).unwrap();
    table.write().unwrap();
    write_at(&mut file, 2 * MIB, &content);
}

/// One entry of an MBR, in sectors.
pub fn mbr_entry(file: &mut File, table: u64, index: u64, kind: u8, start: u32, count: u32) {
    let mut entry = [0; 16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..].copy_from_slice(&count.to_le_bytes());
    write_at(file, table * 512 + 446 + 16 * index, &entry);
    write_at(file, table * 512 + 510, &[0x55, 0xaa]);
}

pub fn write_at(file: &mut File, offset: u64, bytes: &[u8]) {
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

pub async fn open(image: &Path) -> Result<Disk> {
    let phase = Events::none().phase("t", "open");
    Disk::open(image, true, image.parent().unwrap(), &phase, &CancellationToken::new()).await
}
