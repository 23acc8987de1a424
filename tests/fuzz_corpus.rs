//! What `scripts/fuzz` has found or starts from, tried once each without its instruments.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Tries every file of the target's corpus; returns how many there are.
fn try_all(target: &str, check: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        println!("{}", file.display());
        check(&fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn yaml() {
    assert!(try_all("yaml", checks::yaml) > 10);
}

#[test]
fn boot_commands() {
    assert!(try_all("boot_command", checks::boot_command) > 10);
}

#[test]
fn packer_json() {
    assert!(try_all("packer_json", checks::packer_json) > 10);
}

#[test]
fn packer_hcl() {
    assert!(try_all("packer_hcl", checks::packer_hcl) > 10);
}
