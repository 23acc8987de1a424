//! Provisioners against a real sshd.
#![allow(clippy::unwrap_used)]

mod sshd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sshd::PATIENCE;
use sshd::bench::{Bench, PASSWORD, copy, provisioner, read, scripts, secret, shell};
use visabuild::guest::Guest;
use visabuild::machine::Ended;
use visabuild::template::{Action, FileCopy, FileSource, ShellSource, Text};

#[tokio::test]
async fn inline_lines_run_as_one_script_with_the_steps_environment() {
    let mut bench = Bench::new().await;
    bench.environment = vec![("A".into(), "from the build".into()), ("B".into(), "it's".into())];
    let mut step = bench.shell(ShellSource::Inline(vec!["X=1".into(), "echo $X $A $B $PACKER_BUILD_NAME".into()]));
    step.environment_vars = vec![("A".into(), "from the step".into())];
    assert_eq!(bench.lines(&shell(step)).await, ["1 from the step it's visa-base"]);
    assert!(bench.remote_files().is_empty());
}

#[tokio::test]
async fn scripts_run_in_order_without_their_carriage_returns() {
    let mut bench = Bench::new().await;
    let (one, two) = (bench.sshd.folder().join("one.sh"), bench.sshd.folder().join("two.sh"));
    fs::write(&one, "#!/bin/sh\r\necho one\r\n").unwrap();
    fs::write(&two, "#!/bin/sh\necho \"$PACKER_BUILDER_TYPE\"\n").unwrap();
    let step = bench.shell(scripts(&[&one, &two]));
    assert_eq!(bench.lines(&shell(step)).await, ["one", "qemu"]);

    let mut binary = bench.shell(scripts(&[&one]));
    binary.binary = true;
    assert!(bench.failure(&shell(binary)).await.chain()[1].starts_with("exit code 12"));
}

#[tokio::test]
async fn a_failure_names_template_step_place_exit_code_and_standard_error() {
    let mut bench = Bench::new().await;
    let step = bench.inline("echo out; echo cannot find it >&2; exit 3");
    let error = bench.failure(&shell(step)).await;
    assert_eq!(
        error.chain(),
        [
            "template `visa-base`: provisioner `install xrdp` (templates/visa-base/manifest.yml:12:5) failed",
            "exit code 3",
            "cannot find it"
        ]
    );
    assert!(bench.remote_files().is_empty());
}

#[tokio::test]
async fn a_failing_script_of_several_is_named() {
    let mut bench = Bench::new().await;
    let path = bench.sshd.folder().join("bad.sh");
    fs::write(&path, "#!/bin/sh\nexit 4\n").unwrap();
    let step = bench.shell(scripts(&[&path, &path]));
    assert_eq!(bench.failure(&shell(step)).await.chain()[1..], ["script bad.sh", "exit code 4"]);
}

#[tokio::test]
async fn other_exit_codes_may_be_valid_and_zero_then_is_not() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("exit 100");
    step.valid_exit_codes = vec![100];
    bench.lines(&shell(step.clone())).await;
    step.source = ShellSource::Inline(vec!["exit 0".into()]);
    assert_eq!(bench.failure(&shell(step)).await.chain()[1], "exit code 0");
}

#[tokio::test]
async fn a_step_that_fails_is_tried_again_as_often_as_it_says() {
    let mut bench = Bench::new().await;
    let count = bench.sshd.folder().join("count");
    let mut step = shell(bench.inline(&format!("echo x >> {0}; test $(wc -l < {0}) = 3", count.display())));
    step.max_retries = Some(1);
    assert_eq!(bench.failure(&step).await.chain()[1], "exit code 1");
    assert_eq!(read(&count), "x\nx\n");
    bench.lines(&step).await;
    assert_eq!(read(&count), "x\nx\nx\n");

    let mut slow = shell(bench.inline(&format!("echo slow >> {}; exec sleep 60", count.display())));
    (slow.timeout, slow.max_retries) = (Some(Duration::from_millis(300)), Some(1));
    let error = bench.failure(&slow).await;
    assert_eq!(error.chain()[1], "it did not end within its timeout of 300ms");
    assert!(read(&count).matches("slow").count() <= 1);
}

#[tokio::test]
async fn a_step_whose_file_is_missing_on_the_host_is_not_tried_again() {
    let mut bench = Bench::new().await;
    let mut step = shell(bench.shell(scripts(&[Path::new("/nowhere/x.sh")])));
    step.max_retries = Some(1000);
    assert!(bench.failure(&step).await.chain()[1].starts_with("reading the script"));
}

#[tokio::test]
async fn a_script_has_the_name_that_it_is_given_and_may_stay() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("echo $0");
    step.remote_file = Some("setup.sh".into());
    let folder = step.remote_folder.clone();
    assert_eq!(bench.lines(&shell(step.clone())).await, [format!("{folder}/setup.sh")]);
    assert!(bench.remote_files().is_empty());
    step.remote_path = Some(format!("{folder}/other.sh"));
    step.skip_clean = true;
    assert_eq!(bench.lines(&shell(step.clone())).await, [format!("{folder}/other.sh")]);
    assert_eq!(bench.remote_files(), ["other.sh"]);
    step.source = ShellSource::Inline(vec![secret("echo hush")]);
    bench.lines(&shell(step)).await;
    assert!(bench.remote_files().is_empty());
}

#[tokio::test]
async fn variables_come_out_of_a_file_where_the_command_asks_for_it() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("echo \"$V\"");
    step.environment_vars = vec![("V".into(), "it's".into())];
    step.execute_command = "chmod +x {{ .Path }}; . {{ .EnvVarFile }} && {{ .Path }}".into();
    assert_eq!(bench.lines(&shell(step)).await, ["it's"]);
    assert!(bench.remote_files().is_empty());
}

#[tokio::test]
async fn execute_command_decides_how_the_script_runs() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("echo \"$V/$W\"");
    step.environment_vars = vec![("V".into(), "v".into())];
    step.execute_command = "chmod +x {{.Path}} && env {{.Vars}} W=w /bin/sh -x {{.Path}}".into();
    assert_eq!(bench.lines(&shell(step)).await.iter().filter(|line| *line == "v/w").count(), 1);
}

#[tokio::test]
async fn a_secret_reaches_the_script_but_no_command_line() {
    let mut bench = Bench::new().await;
    // The script looks for the secret in the command line of every process; its own has the brackets.
    let look = "if grep -l -a '[h]unter2' /proc/[0-9]*/cmdline 2>/dev/null; then echo LEAK; fi\n\
                printf %s \"$PW\" > \"$COPY\"; printf '%s\\n' \"$PW\" \"$PLAIN\"; stat -c %a \"$0\"";
    let copy = bench.sshd.folder().join("copy");
    let mut step = bench.inline(look);
    step.environment_vars = vec![
        ("PW".into(), secret(PASSWORD)),
        ("PLAIN".into(), "plain".into()),
        ("COPY".into(), copy.to_str().unwrap().into()),
    ];
    // The last `true` keeps the outer shell, whose command line this is about, from becoming the script.
    for command in [
        "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }} && true",
        "chmod +x {{ .Path }}; env {{ .Vars }} {{ .Path }} && true",
        "chmod +x {{ .Path }}; {{ .Vars }}{{ .Path }} && true",
        "chmod +x {{ .Path }}; . {{ .EnvVarFile }} && {{ .Path }} && true",
    ] {
        step.execute_command = command.into();
        assert_eq!(bench.lines(&shell(step.clone())).await, ["‹secret›", "plain", "755"], "{command}");
        assert_eq!(read(&copy), PASSWORD, "{command}");
        assert!(bench.remote_files().is_empty(), "{command}");
    }
}

#[tokio::test]
async fn a_secret_in_standard_error_is_not_in_the_error() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("echo \"wrong: $PW\" >&2; exit 1");
    step.environment_vars = vec![("PW".into(), secret(PASSWORD))];
    assert_eq!(bench.failure(&shell(step)).await.chain()[2], "wrong: ‹secret›");
}

#[tokio::test]
async fn an_expected_disconnect_waits_for_the_guest_to_be_back() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline(&bench.sshd.endless());
    step.expect_disconnect = true;
    let sshd = Arc::clone(&bench.sshd);
    let reboot = move |_: &str| {
        sshd.refuse_next(3);
        sshd.drop_connections();
    };
    let (result, lines) = bench.run(&shell(step), Box::new(reboot)).await;
    result.unwrap();
    assert_eq!(lines, ["up"]);
    assert!(!bench.guest.is_lost());
    assert!(bench.remote_files().is_empty());
    let next = bench.inline("echo next");
    assert_eq!(bench.lines(&shell(next)).await, ["next"]);
}

#[tokio::test]
async fn a_step_that_may_disconnect_need_not() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("echo stays");
    step.expect_disconnect = true;
    assert_eq!(bench.lines(&shell(step.clone())).await, ["stays"]);
    step.source = ShellSource::Inline(vec!["exit 5".into()]);
    assert_eq!(bench.failure(&shell(step)).await.chain()[1], "exit code 5");
}

#[tokio::test]
async fn a_disconnect_that_was_not_expected_says_so() {
    let mut bench = Bench::new().await;
    let step = bench.inline(&bench.sshd.endless());
    let sshd = Arc::clone(&bench.sshd);
    let (result, _) = bench.run(&shell(step), Box::new(move |_| sshd.drop_connections())).await;
    let error = result.unwrap_err();
    assert_eq!(error.chain()[1], "the guest closed the connection while the command ran");
    assert_eq!(error.hints(), ["a step that reboots the guest needs `expect_disconnect: true`"]);
}

#[tokio::test]
async fn another_machine_after_a_reboot_is_refused() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline(&bench.sshd.endless());
    step.expect_disconnect = true;
    let sshd = Arc::clone(&bench.sshd);
    let swap = move |_: &str| {
        sshd.change_host_key();
        sshd.drop_connections();
    };
    let (result, _) = bench.run(&shell(step), Box::new(swap)).await;
    let chain = result.unwrap_err().chain();
    assert!(chain[1].starts_with("the guest's host key changed from "), "{chain:?}");
}

#[tokio::test]
async fn the_end_of_the_machine_fails_the_step_at_once() {
    let mut bench = Bench::new().await;
    let (endpoint, reporter) = bench.sshd.endpoint();
    bench.guest = Guest::connect(endpoint, PATIENCE).await.unwrap();
    let step = bench.inline(&bench.sshd.endless());
    let full = move |_: &str| reporter.end(Ended::DiskFull { path: "/cache/l.qcow2".into(), free: Some(0) });
    let (result, _) = bench.run(&shell(step), Box::new(full)).await;
    assert_eq!(result.unwrap_err().chain()[1], "no space left on the host for /cache/l.qcow2 (0 MiB free there)");
}

#[tokio::test]
async fn a_step_has_a_timeout_and_pauses() {
    let mut bench = Bench::new().await;
    let mut step = shell(bench.inline(&bench.sshd.endless()));
    step.timeout = Some(Duration::from_millis(600));
    assert_eq!(bench.failure(&step).await.chain()[1], "it did not end within its timeout of 600ms");

    let before = std::time::Instant::now();
    let mut inner = bench.inline("true");
    inner.pause_after = Some(Duration::from_millis(30));
    let mut step = shell(inner);
    step.pause_before = Some(Duration::from_millis(40));
    bench.lines(&step).await;
    assert!(before.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn bad_names_and_missing_scripts_are_told_before_anything_runs() {
    let mut bench = Bench::new().await;
    let mut step = bench.inline("true");
    step.environment_vars = vec![("NOT-A-NAME".into(), "x".into())];
    let chain = bench.failure(&shell(step)).await.chain();
    assert_eq!(chain[1], "`NOT-A-NAME` cannot be the name of an environment variable");
    let missing = bench.shell(scripts(&[Path::new("/nowhere.sh")]));
    assert_eq!(bench.failure(&shell(missing)).await.chain()[1], "reading the script /nowhere.sh");
}

#[tokio::test]
async fn folders_follow_packers_trailing_slash_rule() {
    let mut bench = Bench::new().await;
    let from = bench.folder("conf");
    fs::create_dir(from.join("sub")).unwrap();
    fs::write(from.join("sub/file"), "x").unwrap();
    let to = bench.sshd.folder().join("to");
    for (contents_only, slash, expected) in [
        (false, "", "a/conf/sub/file"),
        (false, "/", "b/conf/sub/file"),
        (true, "", "c/sub/file"),
        (true, "/", "d/sub/file"),
    ] {
        let destination = to.join(&expected[..1]);
        bench.lines(&copy(&[&from], contents_only, &destination, slash, None)).await;
        assert_eq!(read(to.join(expected)), "x", "{expected}");
        assert_eq!(fs::read_dir(destination).unwrap().count(), 1, "{expected}");
    }
}

#[tokio::test]
async fn files_go_to_a_name_or_into_a_folder() {
    let mut bench = Bench::new().await;
    let (one, two) = (bench.sshd.folder().join("one"), bench.sshd.folder().join("two"));
    fs::write(&one, "1").unwrap();
    fs::write(&two, "2").unwrap();
    fs::set_permissions(&two, fs::Permissions::from_mode(0o700)).unwrap();
    let to = bench.sshd.folder().join("new/to");
    bench.lines(&copy(&[&one], false, &to.join("name"), "", Some(0o600))).await;
    bench.lines(&copy(&[&one], false, &to.join("in"), "/", None)).await;
    bench.lines(&copy(&[&one, &two], false, &to.join("both"), "", None)).await;
    let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
    for (name, content, bits) in
        [("name", "1", 0o600), ("in/one", "1", 0o644), ("both/one", "1", 0o644), ("both/two", "2", 0o755)]
    {
        assert_eq!((read(to.join(name)).as_str(), mode(name)), (content, bits), "{name}");
    }
}

#[tokio::test]
async fn content_is_written_as_it_is() {
    let mut bench = Bench::new().await;
    let to = bench.folder("content");
    for (destination, mode, expected) in [("key.pem", Some(0o600), "key.pem"), ("", None, "pkr-file-content")] {
        let source = FileSource::Content(secret("a 'b'\n$c"));
        let destination = Text::public(format!("{}/{destination}", to.display()));
        bench.lines(&provisioner(Action::File(FileCopy { source, destination, mode, generated: false }))).await;
        assert_eq!(read(to.join(expected)), "a 'b'\n$c");
    }
    assert_eq!(fs::metadata(to.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_missing_source_is_told_by_the_name_that_the_user_gave() {
    let mut bench = Bench::new().await;
    let step = copy(&[Path::new("/nowhere/conf")], false, Path::new("/tmp"), "", None);
    assert_eq!(bench.failure(&step).await.chain()[1], "reading conf");
}
