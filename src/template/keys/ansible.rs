//! Keys of the `ansible` provisioner.

use super::{Form, Group, Key};

const TEXT: Form = Form::Text;
const WORDS: Form = Form::List(&Form::Word);
const OWN_SSH: &str = "Ansible's SSH goes to the guest's own server";

/// Those beside what all provisioners have.
pub(super) const KEYS: Group = Group {
    whose: "Packer's ansible provisioner",
    keys: &[
        Key::packer("playbook_file", "-", TEXT, "note", "a playbook"),
        Key::own("playbook_files", Form::Some(&TEXT), "[note]", "several of them, in this order"),
        Key::packer(
            "command",
            "ansible-playbook",
            Form::Word,
            "ansible-playbook",
            "what plays it: a program, or a path",
        ),
        Key::packer(
            "extra_arguments",
            "-",
            Form::List(&TEXT),
            "[--extra-vars, release=13]",
            "further arguments; no secrets, which everybody on the host would see: `ansible_env_vars` take those",
        ),
        Key::packer(
            "ansible_env_vars",
            "-",
            Form::List(&TEXT),
            "['ANSIBLE_PIPELINING=True']",
            "`NAME=VALUE`, beside visabuild's own environment",
        ),
        Key::packer(
            "ansible_ssh_extra_args",
            "`-o IdentitiesOnly=yes`",
            Form::List(&TEXT),
            "['-o ForwardAgent=yes']",
            "`--ssh-extra-args`; that default holds in any case",
        ),
        Key::packer("groups", "-", WORDS, "[web]", "groups that the guest is in"),
        Key::packer("empty_groups", "-", WORDS, "[db]", "groups of the inventory that nothing is in"),
        Key::packer("host_alias", "default", Form::Word, "default", "the guest's name in the inventory"),
        Key::packer(
            "user",
            "who runs Packer",
            Form::Word,
            "root",
            "`ansible_user`; the account that provisioners run as, which alone the build's key opens",
        ),
        Key::own("limit", Form::Word, "default", "`--limit`; `host_alias` where an inventory is named"),
        Key::packer(
            "inventory_file",
            "-",
            TEXT,
            "note",
            "an inventory beside the generated one, which has the guest and the way to it",
        ),
        Key::packer(
            "inventory_directory",
            "-",
            TEXT,
            "templates",
            "likewise a folder with `host_vars` and `group_vars`; nothing is written there",
        ),
        Key::packer(
            "inventory_file_template",
            "`{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{ .User }} ansible_port={{ .Port }}`",
            TEXT,
            "'{{ .HostAlias }} ansible_host={{ .Host }}'",
            "the guest's line in the generated one",
        ),
        Key::ignored("keep_inventory_file", "false", "true", "the way to the guest that it has is gone with the step"),
        Key::packer("galaxy_file", "-", TEXT, "note", "roles and collections that are installed before"),
        Key::packer("galaxy_command", "ansible-galaxy", Form::Word, "ansible-galaxy", "what installs them"),
        Key::packer("galaxy_force_install", "false", Form::Boolean, "true", "`--force`"),
        Key::packer("galaxy_force_with_deps", "false", Form::Boolean, "true", "`--force-with-deps`"),
        Key::packer("roles_path", "Ansible's own", TEXT, "roles", "where roles are installed, and looked for"),
        Key::packer("collections_path", "Ansible's own", TEXT, "collections", "likewise collections"),
        Key::packer(
            "use_sftp",
            "false",
            Form::Boolean,
            "true",
            "files go by SFTP instead of through a command's input",
        ),
        Key::ignored("sftp_command", "`/usr/lib/sftp-server -e`", "/bin/sftp-server", OWN_SSH),
        Key::ignored("use_proxy", "true", "false", OWN_SSH),
        Key::ignored("local_port", "any", "2222", OWN_SSH),
        Key::ignored("ssh_host_key_file", "a new one", "key", "the guest's own host key is checked"),
        Key::ignored("ssh_authorized_key_file", "a new one", "key.pub", "the build's key opens the guest"),
        Key::ignored("ansible_proxy_key_type", "ECDSA", "RSA", OWN_SSH),
        Key::ignored(
            "skip_version_check",
            "false",
            "true",
            "preflight asks whether the program is there, not its version",
        ),
        Key::refused(
            "ansible_winrm_use_http",
            "false",
            "visabuild builds no Windows guests",
            "leave it out: the guest is reached over SSH",
        ),
    ],
};
