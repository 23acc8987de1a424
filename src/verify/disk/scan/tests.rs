use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::event::Events;
use crate::verify::disk::testing::{MIB, open, run, system_ext4, with_gpt, write_at};

const SECRET: &str = r#"pä'w&1"x/~>?Q"#;

fn secret(name: &str, value: &str) -> Secret {
    Secret { name: name.to_owned(), value: value.into() }
}

async fn scanned(image: &Path, secrets: &[Secret]) -> Findings {
    let phase = Events::none().phase("t", "scan");
    scan(&open(image).await.unwrap(), secrets, &phase, &CancellationToken::new()).await.unwrap()
}

/// A system with `content` in `/var/log/foo.log`.
fn image_with(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fs");
    system_ext4(&path, |root| std::fs::write(root.join("var/log/foo.log"), content).unwrap());
    (folder, path)
}

#[tokio::test]
async fn a_secret_is_found_in_every_form_and_the_file_is_told() {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| SECRET.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    for (form, text) in [
        (Form::Plain, SECRET.as_bytes().to_vec()),
        (Form::Base64, b"cMOkJ3cmMSJ4L34+P1E=".to_vec()),
        (Form::Base64, b"cMOkJ3cmMSJ4L34-P1E".to_vec()),
        (Form::PercentEncoded, b"p%C3%A4%27w%261%22x%2F~%3E%3FQ".to_vec()),
        (Form::PercentEncoded, b"p%c3%a4%27w%261%22x%2f~%3e%3fQ".to_vec()),
        (Form::Utf16, utf16(u16::to_le_bytes)),
        (Form::Utf16, utf16(u16::to_be_bytes)),
        (Form::Html, "pä'w&amp;1\"x/~&gt;?Q".into()),
        (Form::Html, "pä&#39;w&amp;1&quot;x/~&gt;?Q".into()),
        (Form::Json, r#"pä'w&1\"x/~>?Q"#.into()),
    ] {
        let (_folder, image) = image_with(&[b"before ", &text[..], b" after"].concat());
        let found = scanned(&image, &[secret("other", "not there"), secret("mine", SECRET)]).await;
        let [hit] = &found.hits[..] else { panic!("{form}: {found:?}") };
        assert_eq!((hit.secret.as_str(), hit.form, hit.count), ("mine", form, 1));
        assert_eq!(hit.files.as_deref(), Some(&["/var/log/foo.log".to_owned()][..]), "{form}");
        assert_eq!(hit.place, "the disk, which has no partitions (ext4)");
        let line = hit.to_string();
        assert!(
            line.starts_with(&format!("`mine` ({form}) once in ")) && line.ends_with(": /var/log/foo.log"),
            "{line}"
        );
    }
}

#[test]
fn base64_is_found_whatever_stands_around() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let matcher = Matcher::new(&[SECRET]).unwrap();
    for before in 0..7 {
        for after in 0..4 {
            let text = [&b"prefix~"[..before], SECRET.as_bytes(), &b"\xff\xfe>"[..after.min(3)]].concat();
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                assert_eq!(matcher.count(encoded.as_bytes())[&(0, Form::Base64)], 1, "{before} {after}");
            }
        }
    }
}

#[test]
fn a_plain_word_has_few_forms() {
    let found: Vec<_> = forms::of("hunter2x").into_iter().map(|(form, _)| form).collect();
    assert_eq!(found, [Form::Plain, Form::Base64, Form::Base64, Form::Base64, Form::Utf16]);
}

#[tokio::test]
async fn a_secret_outside_of_files_is_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let value = "deleted-secret";
    system_ext4(&path("fs"), |root| std::fs::write(root.join("var/log/foo.log"), value).unwrap());
    run("debugfs", &[&"-w", &"-R", &"rm /var/log/foo.log", &path("fs")]);
    with_gpt(&path("disk"), &path("fs"));
    let mut file = File::options().read(true).write(true).open(path("disk")).unwrap();
    let size = file.metadata().unwrap().len();
    write_at(&mut file, 700 * 1024, value.as_bytes());
    write_at(&mut file, MIB + 5, format!("{value}{value}").as_bytes());
    write_at(&mut file, size - 40000, value.as_bytes());
    let found = scanned(&path("disk"), &[secret("s", value)]).await;
    let seen: Vec<_> = found.hits.iter().map(|hit| (hit.place.as_str(), hit.count, hit.files.clone())).collect();
    let expected = [
        ("partition 1 (no known file system)", 2, None),
        ("partition 2 (ext4)", 1, Some(vec![])),
        ("the boot area or partition table", 1, None),
        ("the disk's end, behind the last partition", 1, None),
    ];
    assert_eq!(seen, expected);
    assert!(found.hits[1].to_string().contains("in no file, so in free space"));
    assert_eq!(found.hits[0].offset, Some(MIB + 5));
    // A copy of a qcow2 says the same.
    run("qemu-img", &[&"convert", &"-O", &"qcow2", &path("disk"), &path("q")]);
    assert_eq!(scanned(&path("q"), &[secret("s", value)]).await.hits, found.hits);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_not_found_and_short_ones_are_told() {
    let (_folder, image) = image_with(b"abc nothing to see");
    let found =
        scanned(&image, &[secret("short", "abc"), secret("empty", ""), secret("absent", "something else")]).await;
    assert_eq!((found.hits.len(), found.too_short), (0, vec!["short".to_owned(), "empty".to_owned()]));
    assert!(found.bytes > 0);
    assert_eq!(scanned(&image, &[secret("short", "abc")]).await.bytes, 0);
}

#[tokio::test]
async fn names_and_targets_of_links_hold_secrets_which_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fs");
    system_ext4(&path, |root| {
        std::fs::create_dir(root.join("var/top-secret")).unwrap();
        std::fs::write(root.join("var/top-secret/file"), "top-secret").unwrap();
        std::os::unix::fs::symlink("top-secret", root.join("etc/link")).unwrap();
    });
    let found = scanned(&path, &[secret("s", "top-secret")]).await;
    let files = found.hits[0].files.clone().unwrap();
    assert_eq!(files, ["/etc/link", "something in /var", "something in /var"]);
    assert!(!format!("{found:?} {}", found.hits[0]).contains("top-secret"));
}

#[tokio::test]
async fn a_secret_split_over_blocks_that_do_not_follow_each_other_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fs");
    let value = "Zq7-split-secret-Zq7";
    for cut in [1, 3, 10, 11, 19] {
        let mut content = vec![b'.'; 1024 - cut];
        content.extend_from_slice(value.as_bytes());
        content.resize(2048, b'.');
        system_ext4(&path, |root| {
            std::fs::write(root.join("var/log/foo.log"), &content).unwrap();
            std::fs::write(root.join("var/log/other"), vec![b'-'; 2048]).unwrap();
        });
        swap_second_blocks(&path);
        let found = scanned(&path, &[secret("s", value)]).await;
        let [hit] = &found.hits[..] else { panic!("{cut}: {found:?}") };
        assert_eq!((hit.offset, hit.count), (None, 1), "{cut}");
        assert_eq!(hit.files.as_deref(), Some(&["/var/log/foo.log".to_owned()][..]));
    }
}

/// Gives `/var/log/foo.log` a second block that does not follow the first.
fn swap_second_blocks(image: &Path) {
    let commands = tempfile::NamedTempFile::new().unwrap();
    // Rewritten without extents, so that a block can be set.
    let blocks = |path: &str| {
        let output =
            std::process::Command::new("debugfs").args(["-R", &format!("blocks {path}")]).arg(image).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|block| block.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let (foo, other) = (blocks("/var/log/foo.log"), blocks("/var/log/other"));
    assert_eq!((foo.len(), other.len()), (2, 2));
    let mut set = String::new();
    for (path, first, second) in [("/var/log/foo.log", foo[0], other[1]), ("/var/log/other", other[0], foo[1])] {
        set += &format!("sif {path} flags 0\n");
        for (index, block) in [first, second].into_iter().chain([0; 13]).enumerate() {
            let field = match index {
                12 => "block[IND]".to_owned(),
                13 => "block[DIND]".to_owned(),
                14 => "block[TIND]".to_owned(),
                _ => format!("block[{index}]"),
            };
            set += &format!("sif {path} {field} {block}\n");
        }
    }
    std::fs::write(commands.path(), set).unwrap();
    run("debugfs", &[&"-w", &"-f", &commands.path(), &image]);
    let mut file = File::options().read(true).write(true).open(image).unwrap();
    let bytes = std::fs::read(image).unwrap();
    let block = |number: u64| &bytes[usize::try_from(number * 1024).unwrap()..][..1024];
    write_at(&mut file, foo[1] * 1024, block(other[1]));
    write_at(&mut file, other[1] * 1024, block(foo[1]));
}

#[tokio::test]
async fn a_cancelled_scan_is_an_interruption() {
    let (_folder, image) = image_with(b"x");
    let disk = open(&image).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let phase = Events::none().phase("t", "scan");
    let error = scan(&disk, &[secret("s", "some secret")], &phase, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
}

proptest! {
    /// Also where a piece ends, which is where chunks of a disk meet.
    #[test]
    fn every_occurrence_is_counted_once_however_the_bytes_are_cut(
        gaps in proptest::collection::vec(0..40usize, 1..8),
        cuts in proptest::collection::vec(1..30usize, 1..60),
    ) {
        let matcher = Matcher::new(&["abcab-abcab", "cab-"]).unwrap();
        let mut text = Vec::new();
        let mut places = Vec::new();
        for gap in gaps {
            text.extend(std::iter::repeat_n(b'a', gap));
            places.push(text.len() as u64 + 1000);
            text.extend_from_slice(b"abcab-abcab");
        }
        let mut stream = matcher.stream(1000, None);
        let (mut seen, mut short) = (Vec::new(), 0);
        let mut left = &text[..];
        for cut in cuts.into_iter().cycle() {
            let (piece, rest) = left.split_at(cut.min(left.len()));
            stream.push(piece, |needle, offset| if needle.secret == 0 { seen.push(offset) } else { short += 1 });
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&seen, &places);
        prop_assert_eq!(short, places.len());
    }
}
