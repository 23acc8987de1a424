use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::verify::disk::partitions;
use crate::verify::disk::testing::{MIB, ext, open, run, system, system_ext4, write_at};

fn files(image: &Path) -> Result<Files> {
    let disk = File::open(image).unwrap();
    Files::among(&disk, &partitions::find(&disk)?)
}

fn example() -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("fs");
    system_ext4(&image, |root| {
        fs::write(root.join("usr/bin/su"), "x").unwrap();
        fs::set_permissions(root.join("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
        for name in ["a.conf", "b.conf", ".hidden.conf", "c.conf.bak"] {
            fs::write(root.join("etc/conf.d").join(name), name).unwrap();
        }
        for (link, target) in [
            ("abs", "/etc/passwd"),
            ("up", "../../../../etc/passwd"),
            ("loop", "loop2"),
            ("loop2", "loop"),
            ("dead", "x"),
        ] {
            symlink(target, root.join("var").join(link)).unwrap();
        }
        symlink("l".repeat(200), root.join("var/long")).unwrap();
        fs::write(root.join("var/large"), vec![b'x'; 300_000]).unwrap();
    });
    let commands = "sif /usr/bin/su gid 42\nsif /usr/bin/su uid 1000\ncd /etc\nmknod null c 1 3\nmknod pipe p\n";
    fs::write(folder.path().join("commands"), commands).unwrap();
    run("debugfs", &[&"-w", &"-f", &folder.path().join("commands"), &image]);
    let files = files(&image).unwrap();
    (folder, files)
}

#[test]
fn an_entry_has_what_stat_says() {
    let (_folder, files) = example();
    let su = files.stat("/bin/su").unwrap().unwrap();
    assert_eq!((su.kind, su.mode, su.uid, su.gid, su.size, &su.target), (EntryKind::File, 0o4755, 1000, 42, 1, &None));
    assert_eq!((files.user_name(1000).unwrap(), files.group_name(42).unwrap()), (Some("alice"), Some("shadow")));
    assert_eq!((files.user_name(7).unwrap(), files.group_name(7).unwrap()), (None, None));
    let kind = |path: &str| files.stat_link(path).unwrap().map(|entry| entry.kind);
    assert_eq!(kind("/"), Some(EntryKind::Folder));
    assert_eq!(kind("/bin"), Some(EntryKind::Link));
    assert_eq!(kind("/etc/null"), Some(EntryKind::CharacterDevice));
    assert_eq!(kind("/etc/pipe"), Some(EntryKind::Pipe));
    for missing in ["/nothing", "/etc/passwd/x", "/nothing/x"] {
        assert_eq!(kind(missing), None, "{missing}");
    }
    assert_eq!(files.stat("etc").unwrap_err().kind(), Kind::Usage);
}

#[test]
fn links_are_followed_inside_of_the_image() {
    let (_folder, files) = example();
    for link in ["/var/abs", "/var/up", "/var/../var/./abs", "/etc/../../var//abs"] {
        assert_eq!(files.real_path(link).unwrap().unwrap(), Path::new("/etc/passwd"), "{link}");
        assert!(files.read(link, 99).unwrap().unwrap().starts_with(b"root:"), "{link}");
    }
    assert_eq!(files.stat("/var/dead").unwrap(), None);
    let target = |link: &str| files.stat_link(link).unwrap().unwrap().target.unwrap();
    assert_eq!(target("/var/dead"), Path::new("x"));
    assert_eq!(target("/var/long").as_os_str().len(), 200);
    let error = files.stat("/var/loop").unwrap_err();
    assert_eq!(error.chain(), ["cannot read /var/loop in the image", "links form a loop"]);
    assert_eq!(target("/var/loop"), Path::new("loop2"));
}

#[test]
fn a_file_is_read_up_to_the_limit() {
    let (_folder, files) = example();
    for (limit, length) in [(0, 0), (10, 10), (299_999, 299_999), (1 << 20, 300_000)] {
        assert_eq!(files.read("/var/large", limit).unwrap().unwrap().len(), length);
    }
    assert_eq!(files.read("/nothing", 1).unwrap(), None);
    let error = files.read("/etc", 1).unwrap_err();
    assert_eq!(error.to_string(), "/etc in the image is no ordinary file but a folder");
}

#[test]
fn globs_are_expanded_as_a_shell_does() {
    let (_folder, files) = example();
    for (pattern, expected) in [
        ("/etc/conf.d/*.conf", &["/etc/conf.d/a.conf", "/etc/conf.d/b.conf"][..]),
        ("/etc/conf.d/[!a].conf", &["/etc/conf.d/b.conf"]),
        ("/et?/*.d/.*", &["/etc/conf.d/.hidden.conf"]),
        ("/b*/su", &["/bin/su"]),
        ("/etc/passwd/*", &[]),
        ("/etc/nothing", &[]),
        ("/var/dead", &["/var/dead"]),
        ("/", &["/"]),
    ] {
        assert_eq!(files.glob(pattern).unwrap(), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{pattern}");
    }
    assert_eq!(files.glob("etc/*").unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_walk_shows_everything_once_and_ends_when_told() {
    let (_folder, files) = example();
    let mut seen = Vec::new();
    files
        .walk(|path, _| {
            seen.push(path.to_owned());
            Ok(())
        })
        .unwrap();
    for path in ["/bin", "/etc", "/etc/conf.d/a.conf", "/etc/null", "/lost+found", "/usr/bin/su", "/var/loop"] {
        assert_eq!(seen.iter().filter(|seen| **seen == Path::new(path)).count(), 1, "{path}");
    }
    assert!(!seen.contains(&PathBuf::from("/bin/su")));
    let mut count = 0;
    let stopped = files.walk(|_, _| {
        count += 1;
        Err(Error::usage("enough"))
    });
    assert_eq!((stopped.unwrap_err().to_string(), count), ("enough".to_owned(), 1));
}

#[test]
fn why_there_is_no_root_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = || {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(MIB).unwrap();
        file
    };
    write_at(&mut disk(), 0, b"XFSB");
    let said = "the root file system is xfs (the disk, which has no partitions (xfs)), which visabuild cannot read without booting";
    assert_eq!(files(&path).unwrap_err().to_string(), said);
    write_at(&mut disk(), 0, b"LUKS\xba\xbe");
    assert!(files(&path).unwrap_err().to_string().contains("is encrypted"));
    disk();
    assert_eq!(files(&path).unwrap_err().to_string(), "the disk has no file system that a system could be on");
    let empty = tempfile::tempdir().unwrap();
    ext(&path, empty.path(), 8, &["-t", "ext4"]);
    assert!(files(&path).unwrap_err().to_string().contains("there is no system on the disk"));
    system(empty.path());
    ext(&path, empty.path(), 8, &["-t", "ext4", "-O", "inline_data"]);
    let error = files(&path).unwrap_err();
    assert!(error.to_string().starts_with("the file system of "), "{error}");
    assert!(error.chain()[1].contains("incompatible"), "{:?}", error.chain());
}

#[tokio::test]
async fn all_versions_of_ext_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, path) = (folder.path().join("root"), folder.path().join("fs"));
    system(&root);
    for options in
        [&["-t", "ext2"][..], &["-t", "ext3"], &["-t", "ext4", "-b", "4096"], &["-t", "ext4", "-O", "^metadata_csum"]]
    {
        ext(&path, &root, 8, options);
        let files = open(&path).await.unwrap().files().unwrap();
        assert_eq!(files.read("/etc/os-release", 3).unwrap().unwrap(), b"ID=", "{options:?}");
    }
}

/// File systems with and without checksums, which find most faults before anything else does.
fn sound() -> &'static [Vec<u8>; 2] {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (root, path) = (folder.path().join("root"), folder.path().join("fs"));
        system(&root);
        symlink("l".repeat(100), root.join("long")).unwrap();
        [&["-t", "ext4", "-N", "64"][..], &["-t", "ext4", "-N", "64", "-O", "^metadata_csum,^has_journal"]].map(
            |options| {
                ext(&path, &root, 2, options);
                fs::read(&path).unwrap()
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_damaged_file_system_never_panics(
        checksums in any::<bool>(),
        near in proptest::collection::vec((1024..60_000usize, any::<u8>()), 0..40),
        far in proptest::collection::vec((0..2_000_000usize, any::<u8>()), 0..200),
    ) {
        let mut image = sound()[usize::from(!checksums)].clone();
        for (at, byte) in near.into_iter().chain(far) {
            image[at] = byte;
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write_at(file.as_file_mut(), 0, &image);
        if let Ok(files) = files(file.path()) {
            let mut seen = Vec::new();
            let _ = files.walk(|path, entry| {
                seen.push((path.to_owned(), entry.kind));
                Ok(())
            });
            for (path, _) in &seen {
                let _ = files.stat(path);
                let _ = files.read(path, 1 << 20);
            }
            let _ = files.glob("/*/*");
            let _ = files.user_name(0);
        }
    }
}
