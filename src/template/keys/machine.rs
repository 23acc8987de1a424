//! Keys of a builder that are about its machine and the way into it.

use super::{Form, Group, Key};
use crate::template::facts::names;
use crate::template::hardware;

const TEXT: Form = Form::Text;
const BOOLEAN: Form = Form::Boolean;
const COUNT: Form = Form::Number(1);
const PORT: Form = Form::Number(5900);
const DURATION: Form = Form::Duration;
const INTERFACES: Form = Form::OneOf(|| names(&hardware::INTERFACES));

/// Board, processor, disks, firmware, screen.
pub(crate) const HARDWARE: Group = Group {
    whose: "Packer's qemu builder",
    keys: &[
        Key::packer("cpus", "1", COUNT, "2", "virtual CPUs; the host's where nothing is said"),
        Key::packer("sockets", "-", COUNT, "1", "processor sockets"),
        Key::packer("cores", "-", COUNT, "2", "cores of a socket"),
        Key::packer("threads", "-", COUNT, "1", "threads of a core"),
        Key::packer("memory", "512", COUNT, "2048", "MiB, at least 1024; sized to the host where nothing is said"),
        Key::packer("cpu_model", "-", TEXT, "max", "QEMU's `-cpu`; all features of the host where nothing is said"),
        Key::packer(
            "machine_type",
            "pc",
            TEXT,
            "pc",
            "`q35` (where nothing is said), `pc`, or either with its version",
        ),
        Key::packer("qemu_binary", "qemu-system-x86_64", TEXT, "qemu-system-x86_64", "the QEMU of this template"),
        Key::packer(
            "qemuargs",
            "-",
            Form::List(&Form::Some(&TEXT)),
            "[['-device', 'virtio-balloon-pci']]",
            "added to visabuild's arguments; only what QEMU takes once is replaced, with a warning",
        ),
        Key::packer(
            "disk_size",
            "40960M",
            Form::Size,
            "20G",
            "size of the disk, MiB without a unit; a child's disk grows where it says so. `bootstrap`: 10G where nothing is said",
        ),
        Key::packer("disk_interface", "virtio", INTERFACES, "virtio-scsi", "what disks are attached to; not `sd`"),
        Key::packer(
            "disk_additional_size",
            "-",
            Form::List(&Form::Size),
            "[1G]",
            "empty disks for the build only: they are no part of the image",
        ),
        Key::packer(
            "disk_cache",
            "writeback",
            Form::OneOf(|| names(&hardware::CACHES)),
            "none",
            "how the host caches disks; flushes are ignored where nothing is said, as a failed build's disk is thrown away",
        ),
        Key::packer(
            "disk_discard",
            "ignore",
            Form::OneOf(|| names(&hardware::DISCARD)),
            "ignore",
            "`unmap` where nothing is said",
        ),
        Key::packer(
            "disk_detect_zeroes",
            "off",
            Form::OneOf(|| names(&hardware::ZEROES)),
            "unmap",
            "`unmap` where nothing is said",
        ),
        Key::packer("cdrom_interface", "-", INTERFACES, "ide", "what CD drives are attached to"),
        Key::packer(
            "net_device",
            "virtio-net",
            Form::OneOf(hardware::network_devices),
            "e1000",
            "any that QEMU has on a PC",
        ),
        Key::own("usb", BOOLEAN, "true", "a USB controller with keyboard and tablet"),
        Key::refused(
            "net_bridge",
            "-",
            "a guest of a build is never on a network of the site",
            "drop it: QEMU's own network takes the guest everywhere that this host gets to",
        ),
        Key::packer(
            "firmware",
            "-",
            TEXT,
            "/usr/share/seabios/bios.bin",
            "another BIOS, or firmware for a flash device",
        ),
        Key::packer("use_pflash", "false", BOOLEAN, "false", "`firmware` goes into a flash device"),
        Key::packer(
            "efi_boot",
            "false",
            BOOLEAN,
            "true",
            "UEFI: OVMF as the host has it, with fresh variables for each boot",
        ),
        Key::packer("efi_firmware_code", "OVMF_CODE.fd", TEXT, "/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI's code"),
        Key::packer(
            "efi_firmware_vars",
            "OVMF_VARS.fd",
            TEXT,
            "/usr/share/OVMF/OVMF_VARS_4M.fd",
            "what UEFI's variables are at first",
        ),
        Key::own("efi_secure_boot", BOOLEAN, "false", "UEFI starts signed boot loaders only; needs `q35`"),
        Key::ignored("efi_drop_efivars", "false", "true", "the variables are never a result of a build"),
        Key::packer("vtpm", "false", BOOLEAN, "true", "a TPM by swtpm, with a new state for each boot"),
        Key::packer("use_tpm1", "false", BOOLEAN, "false", "TPM 1.2 instead of 2.0"),
        Key::packer(
            "tpm_device_type",
            "tpm-tis",
            Form::OneOf(|| names(&hardware::TPM)),
            "tpm-crb",
            "QEMU's device for it",
        ),
        Key::packer(
            "headless",
            "false",
            BOOLEAN,
            "true",
            "`false` opens a window, as `--not-headless` does; none where nothing is said",
        ),
        Key::packer("display", "gtk", TEXT, "sdl", "QEMU's `-display`, where there is a window"),
        Key::packer("use_default_display", "false", BOOLEAN, "false", "QEMU chooses by itself how the screen is shown"),
        Key::packer("vga", "-", Form::OneOf(|| names(&hardware::VGA)), "std", "QEMU's `-vga`"),
        Key::packer("vnc_bind_address", "127.0.0.1", TEXT, "127.0.0.1", "loopback addresses only"),
        Key::packer("vnc_port_min", "5900", PORT, "5901", "the first port that VNC may take"),
        Key::packer("vnc_port_max", "6000", PORT, "5999", "the last port that VNC may take"),
        Key::packer(
            "vnc_use_password",
            "false",
            BOOLEAN,
            "true",
            "VNC asks for a password, which is told when the machine starts",
        ),
        Key::packer("vnc_password", "made up", TEXT, "secret", "at most 8 bytes, given to QEMU over its monitor"),
        Key::fixed(
            "disable_vnc",
            "false",
            (BOOLEAN, "false", "true"),
            "a failure is shown with the guest's last screen, which is read over VNC",
            "drop it: VNC listens on loopback only",
        ),
        Key::ignored("qmp_enable", "false", "true", "visabuild always has QEMU's monitor"),
        Key::refused(
            "qmp_socket_path",
            "in output_directory",
            "the socket is visabuild's own, in the working folder of the build",
            "look into a running build by `visabuild attach`",
        ),
    ],
};

/// The way in and the way out.
pub(crate) const COMMUNICATOR: Group = Group {
    whose: "Packer's SSH communicator",
    keys: &[
        Key::fixed(
            "communicator",
            "ssh",
            (TEXT, "ssh", "winrm"),
            "visabuild itself prepares, seals and powers off guests over SSH",
            "give the guest an SSH server; what needs no guest needs no build",
        ),
        Key::packer(
            "ssh_username",
            "-",
            TEXT,
            "builder",
            "the account that provisioners run as; root where nothing is said",
        ),
        Key::packer(
            "ssh_password",
            "-",
            TEXT,
            "secret",
            "tried after the build's own key; answers keyboard-interactive too",
        ),
        Key::packer("ssh_private_key_file", "-", TEXT, "/root/.ssh/id_ed25519", "tried after the build's own key"),
        Key::packer("ssh_agent_auth", "false", BOOLEAN, "true", "keys of the user's agent are tried, too"),
        Key::packer("ssh_port", "22", COUNT, "2222", "the port of the guest's SSH server"),
        Key::packer("ssh_timeout", "5m", DURATION, "20m", "how long SSH may take to answer; 10m where nothing is said"),
        Key::packer("ssh_wait_timeout", "-", DURATION, "20m", "the old name of `ssh_timeout`"),
        Key::packer(
            "ssh_handshake_attempts",
            "10",
            Form::Number(0),
            "10",
            "refused logins until visabuild gives up; no limit where nothing is said",
        ),
        Key::packer(
            "ssh_keep_alive_interval",
            "5s",
            DURATION,
            "-1s",
            "a sign of life so often, none where it is negative; 15s where nothing is said",
        ),
        Key::packer(
            "ssh_read_write_timeout",
            "off",
            DURATION,
            "1m",
            "a connection on which nothing comes for so long is given up",
        ),
        Key::packer("ssh_pty", "false", BOOLEAN, "true", "scripts have a terminal for output, and no input"),
        Key::packer(
            "ssh_disable_agent_forwarding",
            "false",
            BOOLEAN,
            "true",
            "always so: the agent is never forwarded",
        ),
        Key::packer("ssh_clear_authorized_keys", "false", BOOLEAN, "true", "always so: the build's key is removed"),
        Key::packer(
            "pause_before_connecting",
            "0s",
            DURATION,
            "10s",
            "wait so long once the guest answers, and connect anew",
        ),
        Key::own(
            "idle_timeout",
            DURATION,
            "10m",
            "how long the guest may do nothing that can be seen before SSH answers; 5m where nothing is said, 0 is for ever",
        ),
        Key::packer(
            "shutdown_command",
            "-",
            TEXT,
            "poweroff",
            "what powers the guest off; visabuild does where nothing is said",
        ),
        Key::packer("shutdown_timeout", "5m", DURATION, "5m", "how long the guest may take to power off"),
        Key::fixed("temporary_key_pair_type", "rsa", (TEXT, "ed25519", "rsa"), BUILD_KEY, OWN_KEY),
        Key::ignored("temporary_key_pair_bits", "4096", "4096", "keys of Ed25519 have one size"),
        Key::ignored(
            "temporary_key_pair_name",
            "made up",
            "mine",
            "the build's key has no name: it is made for each boot and gone after it",
        ),
        Key::refused(
            "ssh_keypair_name",
            "-",
            "key pairs with a name are a cloud's, and there is none during a build",
            OWN_KEY,
        ),
        Key::refused("ssh_certificate_file", "-", BUILD_KEY, OWN_KEY),
        Key::refused("ssh_public_key", "internal", "Packer sets it by itself, and so does visabuild", OWN_KEY),
        Key::refused("ssh_private_key", "internal", "Packer sets it by itself, and so does visabuild", OWN_KEY),
        Key::refused("ssh_host", "127.0.0.1", NEAR, DIRECT),
        Key::fixed("skip_nat_mapping", "false", (BOOLEAN, "false", "true"), NEAR, DIRECT),
        Key::ignored("host_port_min", "2222", "2222", FORWARD),
        Key::ignored("host_port_max", "4444", "4444", FORWARD),
        Key::ignored("ssh_host_port_min", "2222", "2222", FORWARD),
        Key::ignored("ssh_host_port_max", "4444", "4444", FORWARD),
        Key::refused("ssh_ciphers", "Go's", NEGOTIATED, "drop it; settings of the guest's own sshd are honoured"),
        Key::refused(
            "ssh_key_exchange_algorithms",
            "Go's",
            NEGOTIATED,
            "drop it; settings of the guest's own sshd are honoured",
        ),
        Key::refused("ssh_bastion_host", "-", NEAR, DIRECT),
        Key::refused("ssh_bastion_port", "22", NEAR, DIRECT),
        Key::refused("ssh_bastion_username", "-", NEAR, DIRECT),
        Key::refused("ssh_bastion_password", "-", NEAR, DIRECT),
        Key::refused("ssh_bastion_private_key_file", "ssh_private_key_file", NEAR, DIRECT),
        Key::refused("ssh_bastion_certificate_file", "-", NEAR, DIRECT),
        Key::refused("ssh_bastion_agent_auth", "false", NEAR, DIRECT),
        Key::refused("ssh_bastion_interactive", "false", NEAR, DIRECT),
        Key::refused("ssh_proxy_host", "-", NEAR, PROXY),
        Key::refused("ssh_proxy_port", "1080", NEAR, PROXY),
        Key::refused("ssh_proxy_username", "-", NEAR, PROXY),
        Key::refused("ssh_proxy_password", "-", NEAR, PROXY),
        Key::ignored(
            "ssh_file_transfer_method",
            "scp",
            "sftp",
            "files go over commands of the guest's shell, for which it needs neither scp nor sftp",
        ),
        Key::refused("ssh_remote_tunnels", "-", TUNNEL, "name the host as `10.0.2.2` in the guest"),
        Key::refused(
            "ssh_local_tunnels",
            "-",
            "the guest of a build serves nobody but the build",
            "use `visabuild attach ssh` while the build runs",
        ),
    ],
};

const BUILD_KEY: &str = "the build's own key, an Ed25519 one that is new for each boot, reaches the guest by its seed";
const OWN_KEY: &str = "drop it, or name a key that the guest lets in: `ssh_private_key_file`";
const NEAR: &str = "the guest runs on this host, which reaches it through QEMU's own network";
const DIRECT: &str = "drop it: there is nothing on the way";
const PROXY: &str = "drop it; the guest's own way out is `--http-proxy`";
const FORWARD: &str = "the kernel chooses a free port of loopback";
const NEGOTIATED: &str = "both ends are this build's, and agree on the best that both have";
const TUNNEL: &str = "the guest is on this host: it reaches what listens on the host's loopback";

/// The other communicator.
pub(crate) const WINRM: Group = Group {
    whose: "Packer's WinRM communicator",
    keys: &[
        Key::refused("winrm_username", "-", WINDOWS, SSH),
        Key::refused("winrm_password", "-", WINDOWS, SSH),
        Key::refused("winrm_host", "-", WINDOWS, SSH),
        Key::refused("winrm_port", "5985", WINDOWS, SSH),
        Key::refused("winrm_timeout", "30m", WINDOWS, SSH),
        Key::refused("winrm_use_ssl", "false", WINDOWS, SSH),
        Key::refused("winrm_insecure", "false", WINDOWS, SSH),
        Key::refused("winrm_use_ntlm", "false", WINDOWS, SSH),
        Key::refused("winrm_no_proxy", "false", WINDOWS, SSH),
    ],
};

const WINDOWS: &str = "guests are Linux, and visabuild prepares and seals them over SSH";
const SSH: &str = "use `ssh_username`, `ssh_password` and their like";
