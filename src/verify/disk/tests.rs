use std::os::unix::fs::MetadataExt;

use super::testing::{MIB, open, run, system_ext4, with_gpt};
use super::*;
use crate::event::Events;

#[tokio::test]
async fn a_qcow2_is_copied_to_a_sparse_file_that_goes_with_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    with_gpt(&path("raw"), &path("fs"));
    run("qemu-img", &[&"convert", &"-c", &"-O", &"qcow2", &path("raw"), &path("q")]);
    run("qemu-img", &[&"snapshot", &"-c", &"before", &path("q")]);
    let before = std::fs::read(path("q")).unwrap();
    let disk = open(&path("q")).await.unwrap();
    assert_eq!((disk.info().format.as_str(), disk.info().virtual_size), ("qcow2", 11 * MIB));
    assert_eq!(disk.info().snapshots.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["before"]);
    assert_eq!(std::fs::read(disk.raw()).unwrap(), std::fs::read(path("raw")).unwrap());
    let copy = std::fs::metadata(disk.raw()).unwrap();
    assert!(copy.blocks() * 512 < 4 * MIB && copy.mode() & 0o777 == 0o600, "{copy:?}");
    assert_eq!(disk.files().unwrap().read("/etc/os-release", 99).unwrap().unwrap(), b"ID=test\n");
    let raw = disk.raw().to_owned();
    drop(disk);
    assert!(!raw.exists());
    assert_eq!(std::fs::read(path("q")).unwrap(), before);
}

#[tokio::test]
async fn a_raw_image_is_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("fs");
    system_ext4(&image, |_| {});
    let disk = open(&image).await.unwrap();
    assert_eq!(disk.raw(), image);
    assert_eq!(disk.image(), image);
    drop(disk);
    assert!(image.exists());
}

#[tokio::test]
async fn what_is_no_image_is_the_users_mistake_and_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &[u8]| std::fs::write(path(name), content).unwrap();
    write("empty", b"");
    write("text", b"hello\n");
    write("gz", b"\x1f\x8b\x08 and so on");
    write("short", b"QFI\xfb\0\0\0\x03");
    std::fs::create_dir(path("folder")).unwrap();
    system_ext4(&path("fs"), |_| {});
    run("qemu-img", &[&"convert", &"-O", &"qcow2", &path("fs"), &path("base")]);
    run("qemu-img", &[&"create", &"-q", &"-f", &"qcow2", &"-F", &"qcow2", &"-b", &path("base"), &path("overlay")]);
    open(&path("overlay")).await.unwrap().files().unwrap();
    std::fs::remove_file(path("base")).unwrap();
    let secret = ["--object", "secret,id=k,data=passphrase"];
    let options = "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10";
    let encrypted = path("encrypted");
    run("qemu-img", &[&"create", &"-q", &secret[0], &secret[1], &"-f", &"qcow2", &"-o", &options, &encrypted, &"1M"]);
    for (name, says) in [
        ("missing", "No such file"),
        ("folder", "is not a file"),
        ("empty", "is empty"),
        ("text", "is no disk image"),
        ("gz", "it is compressed (gzip)"),
        ("short", "is no readable disk image"),
        ("overlay", "base, which is missing"),
        ("encrypted", "is encrypted"),
    ] {
        let error = open(&path(name)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{name}: {:?}", error.chain());
        assert!(error.chain().join(": ").contains(says), "{name}: {:?}", error.chain());
    }
}

#[tokio::test]
async fn an_image_on_another_file_is_read_only_where_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    run("qemu-img", &[&"create", &"-q", &"-f", &"qcow2", &"-F", &"raw", &"-b", &path("fs"), &path("overlay")]);
    let data_file = format!("data_file={}", path("data").display());
    run("qemu-img", &[&"convert", &"-O", &"qcow2", &"-o", &data_file, &path("fs"), &path("outside")]);
    let phase = Events::none().phase("t", "open");
    let cancel = CancellationToken::new();
    for (name, other) in [("overlay", "fs"), ("outside", "data")] {
        let error = Disk::open(&path(name), false, folder.path(), &phase, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        let says = format!("{} lies on another file, {}", path(name).display(), path(other).display());
        assert_eq!(error.chain()[0], says);
        open(&path(name)).await.unwrap().files().unwrap();
    }
    // Which file that is tells enough: that it is missing, too, is of no interest then.
    std::fs::remove_file(path("fs")).unwrap();
    let error = Disk::open(&path("overlay"), false, folder.path(), &phase, &cancel).await.unwrap_err();
    assert!(error.chain()[0].contains("lies on another file"), "{:?}", error.chain());
}

#[tokio::test]
async fn a_truncated_qcow2_is_damaged_though_qemu_img_would_convert_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    run("qemu-img", &[&"convert", &"-O", &"qcow2", &path("fs"), &path("q")]);
    let file = File::options().write(true).open(path("q")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 65536 * 65536).unwrap();
    let error = open(&path("q")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Verification, "{:?}", error.chain());
    assert!(error.chain()[0].ends_with("is damaged"));
}

#[tokio::test]
async fn a_work_folder_that_cannot_be_written_is_the_hosts_fault_and_a_cancelled_copy_is_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    system_ext4(&path("fs"), |_| {});
    run("qemu-img", &[&"convert", &"-O", &"qcow2", &path("fs"), &path("q")]);
    let phase = Events::none().phase("t", "open");
    let cancel = CancellationToken::new();
    let error = Disk::open(&path("q"), true, &path("nowhere"), &phase, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    cancel.cancel();
    let error = Disk::open(&path("q"), true, folder.path(), &phase, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
