//! What a play reads on the build host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{InputFile, file, tree};
use crate::template::paths::cleaned;
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

/// The playbooks with what Ansible looks for beside them: its folders and all other files; inventories, the galaxy file,
/// folders of roles and collections, `ansible.cfg`, programs of the user's own, and files that arguments name by `@`. What
/// the galaxy file installs, what other folders hold, and what is fetched from elsewhere, is not seen.
pub(super) fn files(ansible: &Ansible) -> io::Result<Vec<InputFile>> {
    let mut found = Found::default();
    for playbook in &ansible.playbooks {
        found.take(&playbook.path, &playbook.shown)?;
        found.beside(playbook, beside(&playbook.path)?.into_iter().chain(plain(&playbook.path)?))?;
    }
    let of_arguments = ansible.inventories_of_arguments().map(|name| HostPath {
        path: ansible.folder.join(name),
        shown: name.to_owned(),
        contents_only: false,
        secrets: BTreeSet::new(),
    });
    for inventory in ansible.inventories.iter().cloned().chain(of_arguments) {
        found.take(&inventory.path, &inventory.shown)?;
        if !inventory.path.is_dir() {
            found.beside(&inventory, BESIDE_INVENTORY.map(OsString::from))?;
        }
    }
    let galaxy_file = ansible.galaxy.iter().map(|galaxy| &galaxy.file);
    for path in galaxy_file.chain(&ansible.roles_path).chain(&ansible.collections_path) {
        found.take(&path.path, &path.shown)?;
    }
    found.take(&ansible.folder.join("ansible.cfg"), "ansible.cfg")?;
    let programs = ansible.galaxy.iter().map(|galaxy| &galaxy.command).chain([&ansible.command]);
    for program in programs.filter(|program| program.contains('/')) {
        found.take(&ansible.program(program), program)?;
    }
    for name in ansible.extra_arguments.iter().filter_map(named) {
        found.take(&ansible.folder.join(name), name)?;
    }
    Ok(found.files.into_values().flatten().collect())
}

/// The file of `@FILE`, `-e@FILE` and `--extra-vars=@FILE`.
fn named(argument: &Text) -> Option<&str> {
    let argument = argument.plain();
    let argument = argument.strip_prefix("-e").filter(|rest| rest.starts_with('@')).unwrap_or(argument);
    argument.strip_prefix('@').or_else(|| argument.split_once("=@").map(|(_, name)| name))
}

/// Files by path, each once.
#[derive(Default)]
struct Found {
    files: BTreeMap<PathBuf, Vec<InputFile>>,
}

impl Found {
    /// What is not there is not read.
    fn take(&mut self, path: &Path, shown: &str) -> io::Result<()> {
        let path = cleaned(&std::path::absolute(path)?);
        if self.files.contains_key(&path) || !path.exists() {
            return Ok(());
        }
        let mut files = Vec::new();
        if path.is_dir() {
            let folder =
                HostPath { path: path.clone(), shown: shown.to_owned(), contents_only: true, secrets: [].into() };
            tree(&folder, is_of_the_user, &mut files)?;
            // Folders alone say nothing, and some come with what is installed or compiled.
            files.retain(|file| !file.name.ends_with('/') && !file.name.ends_with(".pyc"));
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

/// Whether a folder is none that ansible-galaxy has installed, of which the galaxy file speaks, and no template or package
/// of visabuild's. Roles have `meta/.galaxy_install_info` then, collections a list of their files.
fn is_of_the_user(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    let is_info = folder.extension() == Some(OsStr::new("info"))
        && folder.parent().and_then(Path::file_name) == Some(OsStr::new("ansible_collections"));
    let is_installed = has("meta/.galaxy_install_info") || (has("MANIFEST.json") && has("FILES.json")) || is_info;
    !is_installed && !has("manifest.yml")
}

/// Names of further files beside a playbook, which tasks may copy or run. In the project's own folder there are all
/// kinds, so only those with an ending of Ansible's count.
fn plain(playbook: &Path) -> io::Result<Vec<OsString>> {
    let folder = playbook.parent().unwrap_or(Path::new("."));
    let is_root = folder.join("config.yml").exists();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let is_wanted = !is_root || [".j2", ".json", ".ini", ".cfg"].iter().any(|ending| text.ends_with(ending));
        let is_none_of_its = text.starts_with('.') || NOT_ANSIBLES.contains(&&*text);
        if is_wanted && !is_none_of_its && folder.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, and a play of its `site.yml`.
    fn project(files: &[&str]) -> (tempfile::TempDir, Ansible) {
        let folder = tempfile::tempdir().unwrap();
        for name in files.iter().chain(&["site.yml"]) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let ansible = Ansible {
            playbooks: vec![host_path(&folder.path().join("site.yml"), "site.yml")],
            command: "ansible-playbook".to_owned(),
            extra_arguments: Vec::new(),
            environment_vars: Vec::new(),
            ssh_extra_args: Vec::new(),
            groups: Vec::new(),
            empty_groups: Vec::new(),
            host_alias: "default".to_owned(),
            user: None,
            limit: None,
            inventories: Vec::new(),
            inventory_line: "".into(),
            galaxy: None,
            roles_path: None,
            collections_path: None,
            use_sftp: false,
            folder: folder.path().to_owned(),
        };
        (folder, ansible)
    }

    fn host_path(path: &Path, shown: &str) -> HostPath {
        HostPath { path: path.to_owned(), shown: shown.to_owned(), contents_only: false, secrets: [].into() }
    }

    fn names(ansible: &Ansible) -> Vec<String> {
        let mut names: Vec<String> = files(ansible).unwrap().into_iter().map(|file| file.name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_galaxy_installs_or_python_compiles_is_not_the_users() {
        let (folder, mut ansible) = project(&[
            "roles/own/tasks/main.yml",
            "roles/geerlingguy.ntp/meta/.galaxy_install_info",
            "roles/geerlingguy.ntp/tasks/main.yml",
            "collections/ansible_collections/ansible/posix/MANIFEST.json",
            "collections/ansible_collections/ansible/posix/FILES.json",
            "collections/ansible_collections/ansible.posix-1.0.info/GALAXY.yml",
            "collections/ansible_collections/our/site/galaxy.yml",
            "filter_plugins/f.py",
            "filter_plugins/__pycache__/f.cpython-311.pyc",
        ]);
        let own = [
            "collections/ansible_collections/our/site/galaxy.yml",
            "filter_plugins/f.py",
            "roles/own/tasks/main.yml",
            "site.yml",
        ];
        assert_eq!(names(&ansible), own);
        ansible.roles_path = Some(host_path(&folder.path().join("x/../roles"), "roles"));
        assert_eq!(names(&ansible), own);
    }

    #[test]
    fn files_beside_the_playbook_count_but_not_those_of_visabuilds_project() {
        let (folder, ansible) = project(&["motd", "x.sh", ".hidden", "manifest.yml", "environment.yml"]);
        assert_eq!(names(&ansible), ["motd", "site.yml", "x.sh"]);
        for name in
            ["config.yml", "notes", "conf.j2", "templates/app/manifest.yml", "templates/app/x", "templates/a.j2"]
        {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(names(&ansible), ["conf.j2", "site.yml", "templates/a.j2"]);
    }

    #[test]
    fn files_of_arguments_count() {
        let (_folder, mut ansible) =
            project(&["a/v.json", "a/w.json", "a/x.json", "a/hosts", "a/group_vars/all", "a/other", "a/play"]);
        ansible.command = "./a/play".to_owned();
        ansible.extra_arguments =
            ["-e@a/v.json", "-e", "@a/w.json", "--extra-vars=@a/x.json", "-i", "a/hosts", "-ia/other", "-i", "one,"]
                .map(Text::from)
                .into();
        assert_eq!(ansible.inventories_of_arguments().collect::<Vec<_>>(), ["a/hosts", "a/other"]);
        let named =
            ["./a/play", "a/group_vars/all", "a/hosts", "a/other", "a/v.json", "a/w.json", "a/x.json", "site.yml"];
        assert_eq!(names(&ansible), named);
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let (folder, ansible) = project(&["files/a"]);
        assert!(std::process::Command::new("mkfifo").arg(folder.path().join("files/pipe")).status().unwrap().success());
        let error = files(&ansible).unwrap_err().to_string();
        assert!(error.ends_with("files/pipe: is neither a file nor a folder"), "{error}");
    }
}
