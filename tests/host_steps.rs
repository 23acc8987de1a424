//! Provisioners that run on the build host, with a guest that is a real sshd.
#![allow(clippy::unwrap_used)]

mod sshd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sshd::bench::{Bench, PASSWORD, provisioner, scripts, secret};
use visabuild::error::Kind;
use visabuild::template::{Action, Provisioner, ShellLocal, ShellSource, Text};

fn local(source: ShellSource, folder: &Path) -> ShellLocal {
    ShellLocal {
        source,
        inline_shebang: "/bin/sh -e".to_owned(),
        environment_vars: Vec::new(),
        execute_command: ["/bin/sh", "-c", "{{ .Vars }} {{ .Script }}"].map(Text::from).into(),
        only_on: Vec::new(),
        tempfile_extension: String::new(),
        valid_exit_codes: vec![0],
        folder: folder.to_owned(),
    }
}

fn inline(lines: &[&str], folder: &Path) -> ShellLocal {
    local(ShellSource::Inline(lines.iter().map(|line| Text::from(*line)).collect()), folder)
}

fn step(local: ShellLocal) -> Provisioner {
    provisioner(Action::ShellLocal(local))
}

/// What the test's folder has beside what sshd needs.
fn left(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.sshd.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !["authorized", "config", "host", "host.pub", "log"].contains(&name.as_str()));
    names.sort();
    names
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Waits until a process that was killed is gone; one that nobody has waited for is.
async fn until_gone(pid: &str) {
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while state().rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z')) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_runs_in_its_folder_with_packers_variables_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    let folder = bench.folder("project");
    let mut command = inline(&["pwd", "echo \"$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $A\"", "touch here"], &folder);
    command.environment_vars = vec![("A".to_owned(), Text::from("it's"))];
    let lines = bench.lines(&step(command)).await;
    assert_eq!(lines, [folder.to_str().unwrap(), "visa-base qemu it's"]);
    assert!(folder.join("here").exists());
    assert_eq!(left(&bench), ["project"]);
}

#[tokio::test]
async fn a_command_line_without_vars_has_the_variables_as_well() {
    let mut bench = Bench::new().await;
    let mut local = inline(&["echo \"$V $PACKER_BUILD_NAME\""], bench.sshd.folder());
    local.environment_vars = vec![("V".to_owned(), "it's".into())];
    local.execute_command = ["/bin/sh", "{{ .Script }}"].map(Text::from).into();
    assert_eq!(bench.lines(&step(local)).await, ["it's visa-base"]);
}

#[tokio::test]
async fn a_command_reaches_the_guest_by_what_it_is_told() {
    let mut bench = Bench::new().await;
    let folder = bench.folder("project");
    let ssh = "ssh -F none -i \"$VISABUILD_SSH_KEY_FILE\" -o UserKnownHostsFile=\"$VISABUILD_SSH_KNOWN_HOSTS_FILE\" \
               -o StrictHostKeyChecking=yes -o BatchMode=yes -p \"$VISABUILD_SSH_PORT\" \
               \"$VISABUILD_SSH_USER@$VISABUILD_SSH_HOST\" 'echo in the guest'";
    assert_eq!(bench.lines(&step(inline(&[ssh], &folder))).await, ["in the guest"]);
}

#[tokio::test]
async fn secrets_are_in_no_command_line_and_in_no_output() {
    let mut bench = Bench::new().await;
    let folder = bench.folder("project");
    let mut command =
        inline(&["echo \"$P\"", "[ \"$P\" = \"$Q\" ]", "cat /proc/$PPID/cmdline /proc/$$/cmdline"], &folder);
    command.environment_vars = vec![("P".to_owned(), secret(PASSWORD)), ("Q".to_owned(), secret(PASSWORD))];
    command.execute_command[2] = "{{ .Vars }} {{ .Script }}; exit".into();
    let lines = bench.lines(&step(command)).await;
    assert_eq!(lines[0], "‹secret›");
    assert!(lines.len() == 2 && lines[1].contains("script") && !lines[1].contains("P="), "{lines:?}");
    assert_eq!(left(&bench), ["project"]);
}

#[tokio::test]
async fn scripts_run_in_order_until_one_fails() {
    let mut bench = Bench::new().await;
    let folder = bench.folder("a project");
    let paths: [PathBuf; 3] = ["one", "two", "three"].map(|name| folder.join(name));
    executable(&paths[0], "#!/bin/sh\necho one");
    executable(&paths[1], "#!/bin/sh\necho two; echo broken >&2; exit 3");
    executable(&paths[2], "#!/bin/sh\necho three");
    let mut command = local(scripts(&[&paths[0], &paths[1], &paths[2]]), &folder);
    let (result, lines) = bench.run(&step(command.clone()), Box::new(|_| {})).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Build);
    assert_eq!(
        error.chain(),
        [
            "template `visa-base`: provisioner `install xrdp` (templates/visa-base/manifest.yml:12:5) failed",
            "script two",
            "exit code 3",
            "broken"
        ]
    );
    assert_eq!(lines, ["one", "two", "broken"]);
    command.valid_exit_codes = vec![0, 3];
    assert_eq!(bench.lines(&step(command)).await, ["one", "two", "broken", "three"]);
}

#[tokio::test]
async fn what_cannot_run_says_so() {
    let mut bench = Bench::new().await;
    let folder = bench.folder("project");
    fs::write(folder.join("plain"), "echo ran\n").unwrap();
    let mut command = local(scripts(&[&folder.join("plain")]), &folder);
    let error = bench.failure(&step(command.clone())).await;
    assert_eq!(error.chain()[1], "exit code 126");
    let hint = "make the script executable (`chmod +x`), or name its interpreter in `execute_command`";
    assert_eq!(error.hints(), [hint]);
    command.execute_command = ["/bin/sh", "{{ .Script }}"].map(Text::from).into();
    assert_eq!(bench.lines(&step(command.clone())).await, ["ran"]);
    command.execute_command[0] = "/nowhere/sh".into();
    let error = bench.failure(&step(command)).await;
    assert_eq!((error.kind(), error.chain()[1].as_str()), (Kind::Host, "cannot run `/nowhere/sh`"));
}

#[tokio::test]
async fn an_inline_scripts_file_has_its_ending() {
    let mut bench = Bench::new().await;
    let mut command = inline(&["print('python')"], bench.sshd.folder());
    command.tempfile_extension = "py".to_owned();
    command.execute_command =
        ["/bin/sh", "-c", "echo {{ .Script }} | sed 's/.*[.]//'; python3 {{ .Command }}"].map(Text::from).into();
    assert_eq!(bench.lines(&step(command)).await, ["py", "python"]);
}

#[tokio::test]
async fn a_timeout_and_a_cancelled_build_end_all_that_was_started() {
    let mut bench = Bench::new().await;
    let line = "sh -c 'echo $$; sleep 1000' & wait";
    let mut late = step(inline(&[line], bench.sshd.folder()));
    late.timeout = Some(Duration::from_millis(500));
    let (result, lines) = bench.run(&late, Box::new(|_| {})).await;
    assert_eq!(result.unwrap_err().chain()[1], "it did not end within its timeout of 500ms");
    until_gone(&lines[0]).await;

    let cancel = bench.guest.endpoint().cancel.clone();
    let step = step(inline(&[line], bench.sshd.folder()));
    let (result, lines) = bench.run(&step, Box::new(move |_| cancel.cancel())).await;
    assert_eq!(result.unwrap_err().kind(), Kind::Interrupted);
    until_gone(&lines[0]).await;
    assert_eq!(left(&bench), Vec::<String>::new());
}
