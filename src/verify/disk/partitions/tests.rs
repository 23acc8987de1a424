use proptest::prelude::*;

use super::*;
use crate::verify::disk::testing::{MIB, ext, mbr_entry, open, run, system, system_ext4, with_gpt, write_at};

fn sparse(path: &std::path::Path, size: u64) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size).unwrap();
    file
}

#[tokio::test]
async fn gpt_partitions_are_found_by_either_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    run("e2label", &[&path("fs"), &"my root"]);
    with_gpt(&path("disk"), &path("fs"));
    let mut file = File::options().read(true).write(true).open(path("disk")).unwrap();
    let found = find(&file).unwrap();
    let seen: Vec<_> = found.iter().map(|p| (p.number, p.start, p.length, p.content, p.name.as_deref())).collect();
    let expected =
        [(Some(1), MIB, MIB, Content::Unknown, Some("bios")), (Some(2), 2 * MIB, 8 * MIB, Content::Ext4, Some("root"))];
    assert_eq!(seen, expected);
    assert_eq!(found[1].to_string(), r#"partition 2 (ext4, label "my root")"#);
    write_at(&mut file, 512, &[7; 92]);
    assert_eq!(find(&file).unwrap(), found);
    write_at(&mut file, 512, b"EFI PART");
    assert_eq!(find(&file).unwrap(), found);
    write_at(&mut file, 11 * MIB - 512, &[7; 92]);
    let error = find(&file).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Verification, "the GPT is damaged"));
}

#[test]
fn a_gpt_with_entries_of_an_odd_size_is_refused_and_not_misread() {
    let folder = tempfile::tempdir().unwrap();
    let (content, disk) = (folder.path().join("content"), folder.path().join("disk"));
    sparse(&content, MIB);
    with_gpt(&disk, &content);
    let mut file = File::options().read(true).write(true).open(&disk).unwrap();
    let mut header = [0; 92];
    file.read_exact_at(&mut header, 512).unwrap();
    header[84..88].copy_from_slice(&256u32.to_le_bytes());
    header[16..20].fill(0);
    let checksum = crc32(&header).to_le_bytes();
    header[16..20].copy_from_slice(&checksum);
    write_at(&mut file, 512, &header);
    assert_eq!(find(&file).unwrap_err().to_string(), "the GPT has entries of a size that is not in use");
}

#[tokio::test]
async fn mbr_partitions_are_found_also_logical_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    let mut file = sparse(&path("disk"), 32 * MIB);
    mbr_entry(&mut file, 0, 0, 0x82, 2048, 4096);
    mbr_entry(&mut file, 0, 2, 0x05, 8192, 40960);
    mbr_entry(&mut file, 8192, 0, 0x83, 2048, 16384);
    mbr_entry(&mut file, 8192, 1, 0x05, 20480, 4096);
    mbr_entry(&mut file, 28672, 0, 0x8e, 63, 1000);
    // A loop back to the first logical partition.
    mbr_entry(&mut file, 28672, 1, 0x05, 0, 4096);
    write_at(&mut file, (8192 + 2048) * 512, &std::fs::read(path("fs")).unwrap());
    write_at(&mut file, MIB + 4086, b"SWAPSPACE2");
    let found = find(&file).unwrap();
    let seen: Vec<_> = found.iter().map(|p| (p.number, p.start / 512, p.content, p.kind.as_str())).collect();
    let expected = [
        (Some(1), 2048, Content::Swap, "0x82"),
        (Some(5), 10240, Content::Ext4, "0x83"),
        (Some(6), 28735, Content::Unknown, "0x8e"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(open(&path("disk")).await.unwrap().files().unwrap().partition().number, Some(5));
}

#[test]
fn file_systems_are_told_by_their_magic_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    for (offset, magic, content) in [
        (0, &b"XFSB"[..], Content::Xfs),
        (65600, b"_BHRfS_M", Content::Btrfs),
        (0, b"LUKS\xba\xbe", Content::Luks),
        (536, b"LVM2 001", Content::Unknown),
        (3, b"NTFS    ", Content::Ntfs),
        (32769, b"CD001", Content::Iso9660),
        (65526, b"SWAPSPACE2", Content::Swap),
        (0, b"hsqs", Content::Squashfs),
    ] {
        let mut file = sparse(&path, MIB);
        write_at(&mut file, offset, magic);
        let found = find(&file).unwrap();
        assert_eq!(found.first().map_or(Content::Unknown, |whole| whole.content), content, "{content}");
    }
    let mut file = sparse(&path, MIB);
    write_at(&mut file, 512, b"LABELONE");
    write_at(&mut file, 536, b"LVM2 001");
    assert_eq!(find(&file).unwrap()[0].content, Content::Lvm);
    let mut file = sparse(&path, MIB);
    fatfs::format_volume(&mut file, fatfs::FormatVolumeOptions::new().volume_label(*b"BOOT       ")).unwrap();
    let found = find(&file).unwrap();
    assert_eq!((found[0].content, found[0].label.as_deref(), found[0].number), (Content::Fat, Some("BOOT"), None));
}

#[test]
fn the_versions_of_ext_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (root, path) = (folder.path().join("root"), folder.path().join("fs"));
    system(&root);
    for (kind, content) in [("ext2", Content::Ext2), ("ext3", Content::Ext3), ("ext4", Content::Ext4)] {
        ext(&path, &root, 8, &["-t", kind, "-L", kind]);
        let found = find(&File::open(&path).unwrap()).unwrap();
        assert_eq!((found[0].content, found[0].label.as_deref()), (content, Some(kind)));
    }
}

#[test]
fn a_disk_without_anything_has_no_partitions() {
    let folder = tempfile::tempdir().unwrap();
    for size in [0, 100, 512, MIB] {
        assert_eq!(find(&sparse(&folder.path().join("disk"), size)).unwrap(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_garbled_partition_table_never_panics(
        bytes in proptest::collection::vec((0..1536u64, any::<u8>()), 1..12),
        gpt in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (content, disk) = (folder.path().join("content"), folder.path().join("disk"));
        sparse(&content, MIB);
        with_gpt(&disk, &content);
        let mut file = File::options().read(true).write(true).open(&disk).unwrap();
        if !gpt {
            write_at(&mut file, 512, &[0; 8]);
            mbr_entry(&mut file, 0, 0, 0x05, 2, 100);
            mbr_entry(&mut file, 2, 1, 0x05, 1, 100);
        }
        for (at, byte) in bytes {
            write_at(&mut file, at, &[byte]);
        }
        let _ = find(&file);
    }
}
