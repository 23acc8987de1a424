//! Playbooks, played by the host's own Ansible, with a guest that is a real sshd.
#![allow(clippy::unwrap_used)]

mod sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sshd::bench::{Bench, PASSWORD, host_path, provisioner, read, secret};
use visabuild::error::Kind;
use visabuild::template::{Action, Ansible, Galaxy, Provisioner};

/// A playbook with a role, whose tasks have `TO` as the guest's folder.
const SITE: &str = "\
- hosts: all
  gather_facts: false
  roles: [web]
";

const TASKS: &str = "\
- name: copy a file
  ansible.builtin.copy: {src: motd, dest: TO/motd, mode: '0640'}
- name: fill a template
  ansible.builtin.template: {src: conf.j2, dest: TO/conf, mode: '0644'}
";

fn ansible(playbooks: &[PathBuf], folder: &Path) -> Ansible {
    Ansible {
        playbooks: playbooks.iter().map(|path| host_path(path, false)).collect(),
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
        inventory_line: "{{ .HostAlias }} ansible_host={{ .Host }}".into(),
        galaxy: None,
        roles_path: None,
        collections_path: None,
        use_sftp: false,
        folder: folder.to_owned(),
    }
}

/// A project with a role that writes into the folder that it returns.
fn project(bench: &Bench, site: &str, tasks: &str) -> (Ansible, PathBuf) {
    let (folder, to) = (bench.folder("project"), bench.folder("to"));
    let put = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("site.yml", site);
    put("roles/web/tasks/main.yml", &tasks.replace("TO", to.to_str().unwrap()));
    put("roles/web/files/motd", "hello\n");
    put("roles/web/templates/conf.j2", "{{ packer_build_name }} {{ packer_builder_type }} {{ inventory_hostname }}\n");
    (ansible(&[folder.join("site.yml")], &folder), to)
}

fn step(ansible: Ansible) -> Provisioner {
    provisioner(Action::Ansible(Box::new(ansible)))
}

/// Nothing is left of a play: neither files beside sshd's and the test's, nor processes that name the folder.
async fn nothing_is_left(bench: &Bench) {
    let entries = fs::read_dir(bench.sshd.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with("q-") || name.starts_with("local-")), "{names:?}");
    // A master of shared connections ends with its connection.
    let pattern = format!("{}/q-", bench.sshd.folder().display());
    while Command::new("pgrep").args(["-f", &pattern]).output().unwrap().status.success() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_role_copies_a_file_and_fills_a_template() {
    let mut bench = Bench::new().await;
    let (mut ansible, to) = project(&bench, SITE, TASKS);
    ansible.groups = vec!["web".to_owned()];
    ansible.empty_groups = vec!["db".to_owned()];
    let lines = bench.lines(&step(ansible)).await;
    assert!(lines.iter().any(|line| line.contains("ok=2") && line.contains("failed=0")), "{lines:?}");
    assert_eq!((read(to.join("motd")), read(to.join("conf"))), ("hello\n".into(), "visa-base qemu default\n".into()));
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn a_task_that_fails_is_named_with_its_reason() {
    let mut bench = Bench::new().await;
    let tasks = "- name: ask the server\n  ansible.builtin.shell: echo no licence >&2; exit 3\n";
    let (ansible, _) = project(&bench, SITE, tasks);
    let error = bench.failure(&step(ansible)).await;
    assert_eq!(error.kind(), Kind::Build);
    assert_eq!(
        error.chain()[1..],
        ["ansible-playbook: exit code 2", "task `web : ask the server`: non-zero return code: no licence"]
    );
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn what_is_no_playbook_fails_with_what_ansible_says() {
    let mut bench = Bench::new().await;
    let (ansible, _) = project(&bench, "- hosts: all\n  rolse: []\n", "");
    let error = bench.failure(&step(ansible)).await;
    let why = error.chain().pop().unwrap();
    assert!(why.contains("'rolse' is not a valid attribute for a Play"), "{why}");
}

#[tokio::test]
async fn variables_of_the_environment_may_be_secret_and_arguments_reach_the_play() {
    let mut bench = Bench::new().await;
    let tasks =
        "- ansible.builtin.copy: {content: \"{{ lookup('env', 'PW') }} {{ release }}\", dest: TO/pw, mode: '0600'}\n";
    let (mut ansible, to) = project(&bench, SITE, tasks);
    ansible.environment_vars = vec![("PW".into(), secret(PASSWORD))];
    ansible.extra_arguments = vec!["--extra-vars".into(), "release=13".into(), "-v".into()];
    let lines = bench.lines(&step(ansible)).await;
    assert_eq!(read(to.join("pw")), format!("{PASSWORD} 13"));
    assert!(!lines.iter().any(|line| line.contains(PASSWORD)), "{lines:?}");
}

#[tokio::test]
async fn other_machines_of_an_inventory_are_left_alone() {
    let mut bench = Bench::new().await;
    let (mut ansible, to) = project(&bench, SITE, TASKS);
    let inventory = ansible.folder.join("hosts");
    fs::write(&inventory, "[all]\ndefault\nother.example.org\n[all:vars]\nx=1\n").unwrap();
    ansible.inventories = vec![host_path(&inventory, false)];
    let lines = bench.lines(&step(ansible)).await;
    assert!(to.join("motd").exists() && !lines.iter().any(|line| line.contains("other.example.org")), "{lines:?}");
}

#[tokio::test]
async fn the_galaxy_is_asked_before_and_gets_packers_arguments() {
    let mut bench = Bench::new().await;
    let (mut ansible, to) = project(&bench, SITE, TASKS);
    let program = ansible.folder.join("galaxy");
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >>{}/said\n", to.display())).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = ansible.folder.join("requirements.yml");
    fs::write(&file, "roles:\n- name: a\ncollections:\n- name: b.c\n").unwrap();
    ansible.galaxy = Some(Galaxy {
        file: host_path(&file, false),
        command: "./galaxy".to_owned(),
        force_install: true,
        force_with_deps: false,
    });
    let roles = ansible.folder.join("roles");
    ansible.roles_path = Some(host_path(&roles, false));
    bench.lines(&step(ansible)).await;
    let (file, roles) = (file.display(), roles.display());
    let said = format!("install -r {file} -p {roles} --force\ncollection install -r {file} --force\n");
    assert_eq!(read(to.join("said")), said);
    assert!(to.join("motd").exists());
}

#[tokio::test]
async fn a_cancelled_play_leaves_nothing() {
    let mut bench = Bench::new().await;
    let tasks = format!("- name: wait\n  ansible.builtin.shell: {}\n", bench.sshd.endless());
    let (mut ansible, _) = project(&bench, SITE, &tasks);
    ansible.extra_arguments = vec!["-v".into()];
    let cancel = bench.guest.endpoint().cancel.clone();
    let on_line = move |line: &str| {
        if line.starts_with("TASK [web : wait]") {
            cancel.cancel();
        }
    };
    let (result, _) = bench.run(&step(ansible), Box::new(on_line)).await;
    assert_eq!(result.unwrap_err().kind(), Kind::Interrupted);
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn a_timeout_ends_a_play() {
    let mut bench = Bench::new().await;
    let tasks = format!("- ansible.builtin.shell: {}\n", bench.sshd.endless());
    let (ansible, _) = project(&bench, SITE, &tasks);
    let mut late = step(ansible);
    late.timeout = Some(Duration::from_secs(2));
    assert_eq!(bench.failure(&late).await.chain()[1], "it did not end within its timeout of 2s");
    nothing_is_left(&bench).await;
}

#[tokio::test]
async fn another_host_key_is_not_taken() {
    let mut bench = Bench::new().await;
    let (ansible, to) = project(&bench, SITE, TASKS);
    bench.sshd.change_host_key();
    let error = bench.failure(&step(ansible)).await;
    let why = error.chain().pop().unwrap();
    assert!(why.contains("Host key verification failed") && !to.join("motd").exists(), "{why}");
}
