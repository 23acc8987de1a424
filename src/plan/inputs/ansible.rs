//! What a play reads on the build host.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{InputFile, file, tree};
use crate::template::{Ansible, HostPath, Text};

/// Folders that Ansible looks for beside a playbook, where it is there that they are.
const BESIDE_PLAYBOOK: [&str; 17] = [
    "action_plugins",
    "callback_plugins",
    "collections",
    "defaults",
    "files",
    "filter_plugins",
    "group_vars",
    "handlers",
    "host_vars",
    "library",
    "lookup_plugins",
    "meta",
    "module_utils",
    "roles",
    "tasks",
    "templates",
    "vars",
];

/// And beside an inventory.
const BESIDE_INVENTORY: [&str; 2] = ["group_vars", "host_vars"];

/// Files of a visabuild project that stand beside playbooks and are none of theirs.
const NOT_ANSIBLES: [&str; 3] = ["config.yml", "environment.yml", "manifest.yml"];

/// The playbooks with what Ansible looks for beside them, other playbooks and lists of variables among it; inventories,
/// the galaxy file, folders of roles and collections that nothing is installed into, `ansible.cfg`, and files that
/// arguments name by `@`. What other folders hold, and what is fetched from elsewhere, is not seen.
pub(super) fn files(ansible: &Ansible) -> io::Result<Vec<InputFile>> {
    let mut found = Found { installed: installed(ansible), files: BTreeMap::new() };
    for playbook in &ansible.playbooks {
        found.take(&playbook.path, &playbook.shown)?;
        found.beside(playbook, beside(&playbook.path)?)?;
    }
    for inventory in &ansible.inventories {
        found.take(&inventory.path, &inventory.shown)?;
        if !inventory.path.is_dir() {
            found.beside(inventory, BESIDE_INVENTORY.map(OsString::from))?;
        }
    }
    for path in
        ansible.galaxy.iter().map(|galaxy| &galaxy.file).chain(&ansible.roles_path).chain(&ansible.collections_path)
    {
        found.take(&path.path, &path.shown)?;
    }
    found.take(&ansible.folder.join("ansible.cfg"), "ansible.cfg")?;
    for name in ansible.extra_arguments.iter().filter_map(named) {
        found.take(&ansible.folder.join(name), name)?;
    }
    Ok(found.files.into_values().flatten().collect())
}

/// Where the galaxy file's roles and collections are installed: it says what is there.
fn installed(ansible: &Ansible) -> Vec<PathBuf> {
    let paths = ansible.roles_path.iter().chain(&ansible.collections_path);
    paths.filter(|_| ansible.galaxy.is_some()).map(|path| path.path.clone()).collect()
}

/// The file of `@FILE` and `--extra-vars=@FILE`.
fn named(argument: &Text) -> Option<&str> {
    let argument = argument.plain();
    argument.strip_prefix('@').or_else(|| argument.split_once("=@").map(|(_, name)| name))
}

/// Files by path, each once.
struct Found {
    installed: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<InputFile>>,
}

impl Found {
    /// What is not there is not read.
    fn take(&mut self, path: &Path, shown: &str) -> io::Result<()> {
        let path = std::path::absolute(path)?;
        let is_installed = self
            .installed
            .iter()
            .any(|folder| std::path::absolute(folder).is_ok_and(|folder| path.starts_with(folder)));
        if is_installed || self.files.contains_key(&path) || !path.exists() {
            return Ok(());
        }
        let mut files = Vec::new();
        if path.is_dir() {
            let (shown, secrets) = (shown.to_owned(), [].into());
            tree(&HostPath { path: path.clone(), shown, contents_only: true, secrets }, &mut files)?;
            files.retain(|file| !self.installed.iter().any(|folder| file.path.starts_with(folder)));
            // The same name in two folders is two files.
            for file in &mut files {
                file.name.clone_from(&file.shown);
            }
        } else {
            files.push(file(&path, shown.to_owned(), shown)?);
        }
        self.files.insert(path, files);
        Ok(())
    }

    fn beside(&mut self, file: &HostPath, names: impl IntoIterator<Item = OsString>) -> io::Result<()> {
        for name in names {
            let (path, shown) = sibling(file, &name);
            self.take(&path, &shown)?;
        }
        Ok(())
    }
}

/// Names of what Ansible may read beside a playbook: folders of the names that it knows, playbooks and lists of variables.
///
/// # Errors
/// The folder cannot be read.
pub fn beside(playbook: &Path) -> io::Result<Vec<OsString>> {
    let folder = playbook.parent().unwrap_or(Path::new("."));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let is_text = [".yml", ".yaml"].iter().any(|ending| text.ends_with(ending)) && !NOT_ANSIBLES.contains(&&*text);
        if is_text || BESIDE_PLAYBOOK.contains(&&*text) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What has this name beside a file, and as it is shown.
fn sibling(file: &HostPath, name: &OsStr) -> (PathBuf, String) {
    let shown = Path::new(&file.shown).with_file_name(name);
    (file.path.with_file_name(name), shown.to_string_lossy().into_owned())
}
