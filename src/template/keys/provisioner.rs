//! Keys of provisioners.

use super::project::CACHE_KEY;
use super::{Form, Group, Key, Map, Table};

const TEXT: Form = Form::Text;
const BOOLEAN: Form = Form::Boolean;

/// All of them by their types.
pub(crate) const KINDS: [(&str, &Table); 5] = [
    ("shell", &SHELL),
    ("file", &FILE),
    ("shell-local", &SHELL_LOCAL),
    ("ansible", &ANSIBLE),
    ("breakpoint", &BREAKPOINT),
];

/// The `shell` provisioner.
pub(crate) const SHELL: Table = Table {
    name: "shell",
    about: "Runs commands or scripts in the guest",
    groups: &[&COMMON, &SHELL_KEYS],
    one_of: &["inline", "script", "scripts"],
};

/// The `file` provisioner.
pub(crate) const FILE: Table = Table {
    name: "file",
    about: "Puts files into the guest",
    groups: &[&COMMON, &FILE_KEYS],
    one_of: &["source", "sources", "content"],
};

/// The `shell-local` provisioner.
pub(crate) const SHELL_LOCAL: Table = Table {
    name: "shell-local",
    about: "Runs commands or scripts on the build host",
    groups: &[&COMMON, &SHELL_LOCAL_KEYS],
    one_of: &["command", "inline", "script", "scripts"],
};

/// The `ansible` provisioner.
pub(crate) const ANSIBLE: Table = Table {
    name: "ansible",
    about: "Plays playbooks of the build host in the guest",
    groups: &[&COMMON, &super::ansible::KEYS],
    one_of: &["playbook_file", "playbook_files"],
};

/// The `breakpoint` provisioner.
pub(crate) const BREAKPOINT: Table = Table {
    name: "breakpoint",
    about: "Stops until somebody at the terminal presses Enter",
    groups: &[&COMMON, &BREAKPOINT_KEYS],
    one_of: &[],
};

const COMMON: Group = Group {
    whose: "Packer's provisioners",
    keys: &[
        Key::packer("type", "-", TEXT, "shell", "`shell`, `file`, `shell-local`, `ansible` or `breakpoint`").required(),
        Key::packer("name", "the type", TEXT, "update", "how the step is called in messages"),
        Key::packer("pause_before", "0s", Form::Duration, "10s", "wait this long before it starts"),
        Key::packer("timeout", "-", Form::Duration, "30m", "give an attempt up after this long"),
        Key::packer(
            "max_retries",
            "0",
            Form::Number(0),
            "3",
            "so many further attempts where it fails, but not after its timeout; the last one's error is told",
        ),
        Key::own(
            "cache",
            Form::Either(&[Form::OneOf(|| vec!["never", "daily", "weekly"]), Form::Table(&CACHE_KEY)]),
            "daily",
            "when a step that fetches what changes is done again",
        ),
        Key::refused("only", "-", ONE_BUILD, OWN_TEMPLATE),
        Key::refused("except", "-", ONE_BUILD, OWN_TEMPLATE),
        Key::refused("override", "-", ONE_BUILD, "write the values into the provisioner itself"),
        Key::fixed(
            "continue_on_error",
            "false",
            (BOOLEAN, "false", "true"),
            "what failed would be in the image and in the cache as if it had not",
            "write `|| true` behind the command that may fail, or name its exit code in `valid_exit_codes`",
        ),
    ],
};

pub(super) const ONE_BUILD: &str = "a template has one build, and all its builders make the same disk";
const OWN_TEMPLATE: &str = "put the step into a template of its own that extends this one";

const INLINE_SHEBANG: Key = Key::packer(
    "inline_shebang",
    "/bin/sh -e",
    TEXT,
    "/bin/bash -eu",
    "first line of an inline script that brings none",
);
const ENVIRONMENT_VARS: Key = Key::packer(
    "environment_vars",
    "-",
    Form::List(&TEXT),
    "['LANG=C']",
    "`NAME=VALUE`; a secret is never on a command line",
);
const ENV: Key = Key::packer(
    "env",
    "-",
    Form::Map(&Map { names: Some(super::project::IDENTIFIER), value: TEXT, or_nothing: true, some: false }),
    "{LANG: C}",
    "as `environment_vars`, which it wins over",
);

const SHELL_KEYS: Group = Group {
    whose: "Packer's shell provisioner",
    keys: &[
        Key::packer("inline", "-", Form::Some(&TEXT), "[apt-get update]", "lines of one script"),
        Key::packer("script", "-", TEXT, "note", "a script of the host"),
        Key::packer("scripts", "-", Form::Some(&TEXT), "[note]", "scripts of the host, in this order"),
        INLINE_SHEBANG,
        ENVIRONMENT_VARS,
        ENV,
        Key::refused(
            "env_var_format",
            "`%s='%s' `",
            "values are quoted so that each comes through the guest's shell as it is",
            "write what has to stand before them into `execute_command`: `sudo env {{ .Vars }} {{ .Path }}`",
        ),
        Key::packer(
            "use_env_var_file",
            "false",
            BOOLEAN,
            "true",
            "variables are sourced from a file (`{{ .EnvVarFile }}`), which removes itself; with secrets always so",
        ),
        Key::packer(
            "execute_command",
            "`chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}`",
            TEXT,
            "'sudo env {{ .Vars }} {{ .Path }}'",
            "the same; with `use_env_var_file` `chmod +x {{ .Path }}; . {{ .EnvVarFile }} && {{ .Path }}`",
        ),
        Key::packer("remote_folder", "/tmp", TEXT, "/root", "folder of the guest for scripts"),
        Key::packer("remote_file", "script_NNNN.sh", TEXT, "setup.sh", "the script's name there"),
        Key::packer("remote_path", "folder and file", TEXT, "/root/setup.sh", "the script's whole path in the guest"),
        Key::packer("skip_clean", "false", BOOLEAN, "true", "the script stays in the guest, unless a secret is in it"),
        Key::ignored(
            "start_retry_timeout",
            "5m",
            "10m",
            "a connection that is lost while a script is sent is made again, for as long as `ssh_timeout` says",
        ),
        Key::packer(
            "valid_exit_codes",
            "0",
            Form::Some(&Form::Number(0)),
            "[0, 3]",
            "exit codes from 0 to 255 that mean success",
        ),
        Key::packer(
            "expect_disconnect",
            "false",
            BOOLEAN,
            "true",
            "the step may end the connection; the guest is waited for",
        ),
        Key::packer("pause_after", "0s", Form::Duration, "5s", "wait this long afterwards"),
        Key::packer("binary", "false", BOOLEAN, "true", "scripts go as they are instead of with LF for CRLF"),
    ],
};

/// What `shell-local` says, as a provisioner and as a post-processor.
pub(crate) const SHELL_LOCAL_KEYS: Group = Group {
    whose: "Packer's shell-local",
    keys: &[
        Key::packer("command", "-", TEXT, "make key", "one command: an inline script of one line"),
        Key::packer("inline", "-", Form::Some(&TEXT), "[make key]", "lines of one script"),
        Key::packer("script", "-", TEXT, "note", "a script, which has to be executable"),
        Key::packer("scripts", "-", Form::Some(&TEXT), "[note]", "scripts, in this order"),
        INLINE_SHEBANG,
        ENVIRONMENT_VARS,
        ENV,
        Key::refused(
            "env_var_format",
            "`%s='%s' `",
            "values are quoted so that each comes through the shell as it is",
            "write what has to stand before them into `execute_command`: `sudo env {{ .Vars }} {{ .Script }}`",
        ),
        Key::packer(
            "execute_command",
            "`[/bin/sh, -c, '{{ .Vars }} {{ .Script }}']`",
            Form::Either(&[TEXT, Form::Some(&TEXT)]),
            "[/bin/bash, -c, '{{ .Vars }} {{ .Script }}']",
            "the same: program and arguments without secrets; one text, or a list of one, is a command line for /bin/sh",
        ),
        Key::packer(
            "only_on",
            "-",
            Form::List(&TEXT),
            "[linux]",
            "operating systems: what is not for `linux` is left out of the plan",
        ),
        Key::packer("tempfile_extension", "-", TEXT, "py", "ending of an inline script's file"),
        Key::ignored("use_linux_pathing", "false", "true", "it is for Windows"),
        Key::packer(
            "valid_exit_codes",
            "0",
            Form::Some(&Form::Number(0)),
            "[0, 3]",
            "exit codes from 0 to 255 that mean success",
        ),
    ],
};

const BREAKPOINT_KEYS: Group = Group {
    whose: "Packer's breakpoint provisioner",
    keys: &[
        Key::packer("note", "-", TEXT, "look at the desktop", "what is said when it stops"),
        Key::packer("disable", "false", BOOLEAN, "true", "it does not stop, and is left out of the plan"),
    ],
};

const FILE_KEYS: Group = Group {
    whose: "Packer's file provisioner",
    keys: &[
        Key::packer(
            "source",
            "-",
            TEXT,
            "note",
            "a file or folder of the host; with a trailing slash a folder's contents",
        ),
        Key::packer("sources", "-", Form::Some(&TEXT), "[note]", "several of them"),
        Key::packer("content", "-", TEXT, "text", "text instead of a file"),
        Key::packer("destination", "-", TEXT, "/etc/note", "path in the guest; missing folders above it are made")
            .required(),
        Key::fixed(
            "direction",
            "upload",
            (TEXT, "upload", "download"),
            "a step whose result is in the cache is not done again, so nothing would come",
            "take it out of the finished image (`virt-copy-out -a IMAGE PATH .`), or send it from a `shell` step",
        ),
        Key::packer(
            "generated",
            "false",
            BOOLEAN,
            "true",
            "the source may appear later, from a `shell-local` step; while it is not there, the step is done in every build",
        ),
        Key::own(
            "mode",
            Form::Mode,
            "'0644'",
            "permission bits of files; as the source's executable bit says where nothing is said",
        ),
    ],
};
