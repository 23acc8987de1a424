//! What must hold for any bytes in a user's file. `scripts/fuzz` searches for bytes for which it does not; the tests in
//! `tests/` share these checks, and try every file of the corpus.

mod boot_command;
mod import;
mod project;

use std::cell::RefCell;

pub use boot_command::check as boot_command;

thread_local! {
    /// Made once: what is tried is only one of their files.
    static PROJECT: project::Project = project::Project::new();
    static IMPORT: RefCell<import::Folder> = RefCell::new(import::Folder::new());
}

/// The first byte says which file of a healthy project is replaced by the others.
pub fn yaml(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let files = project::FILES;
    PROJECT.with(|project| project.check_with(files[usize::from(*which) % files.len()], text));
}

/// A template of Packer's in its old form.
pub fn packer_json(data: &[u8]) {
    IMPORT.with_borrow_mut(|folder| folder.check_with("fuzzed.json", data));
}

/// A template of Packer's in HCL.
pub fn packer_hcl(data: &[u8]) {
    IMPORT.with_borrow_mut(|folder| folder.check_with("fuzzed.pkr.hcl", data));
}
