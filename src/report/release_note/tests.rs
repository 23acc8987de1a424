use serde_json::json;

use super::*;

#[test]
fn the_first_image_has_a_note_too() {
    let record = serde_json::from_value(json!({
        "version": 1, "template": "t", "description": "A <b>desktop</b> | *x*\n", "created": "2026-11-21T11:50:00Z",
        "visabuild": "0.1.0", "commit": null, "end_of_life": true, "warnings": ["guacd 1.2 is old"],
        "image": {"file": "t.qcow2", "size": 2048, "sha256": "aa", "sha512": "bb"},
        "inputs": {"seal_fingerprint": "f"}, "packages": {"bash": "5.2-1"}
    }))
    .unwrap();
    assert_eq!(
        release_note(&record, None),
        "# t of 2026-11-21T11:50:00Z\n\nA \\<b\\>desktop\\</b\\> \\| \\*x\\*\n\n\
         > **Warning:** Content of this image is past its end of life.\n>\n> **Warning:** guacd 1.2 is old\n\n\
         | | |\n|---|---|\n| File | `t.qcow2` (2.0 KiB) |\n| Finished | 2026-11-21T11:50:00Z |\n\
         | Made by | visabuild 0.1.0 |\n| SHA-256 | `aa` |\n| SHA-512 | `bb` |\n| Contains | 1 Debian package |\n\n\
         ## Verification\n\nThis file was not verified.\n\n\
         ## Changes\n\nThere was no image before, or nothing is known of it.\n\n\
         ## Check and publish\n\n```sh\nprintf '%s\\n' 'aa  t.qcow2' | sha256sum --check\nvisabuild verify t.qcow2\n\
         visabuild upload t.qcow2\n```\n"
    );
}

#[test]
fn long_lists_are_cut_and_code_stays_code() {
    let mut out = String::new();
    list_of(&mut out, &vec!["- x".to_owned(); LINES + 3]);
    assert!(out.ends_with("- x\n\n… and 3 more, which the manifest has.\n"), "{out}");
    assert_eq!(code("a`|b\n"), "`a \\|b`");
}
