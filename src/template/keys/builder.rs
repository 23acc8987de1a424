//! Keys of builders.

use super::machine::{COMMUNICATOR, HARDWARE, WINRM};
use super::{Form, Group, Key, Map, Table};

const TEXT: Form = Form::Text;
const TEXTS: Form = Form::List(&TEXT);
const QEMU_BUILDER: &str = "Packer's qemu builder";

/// A builder of type `bootstrap`.
pub(crate) const BOOTSTRAP: Table = Table {
    name: "bootstrap",
    about: "mmdebstrap makes the root file system, and the disk is assembled from it",
    groups: &[&GENERAL, &DEBIAN, &RESULT, &HARDWARE, &COMMUNICATOR, &WINRM],
    one_of: &[],
};

/// A builder of a template that has no parent, of type `installer` or, with a medium, `qemu`.
pub(crate) const INSTALLER: Table = Table {
    name: "installer",
    about: "A distribution's own installer makes the disk, or it is a ready image",
    groups: &[&GENERAL, &MEDIUM, &INSTALLATION, &PACKAGE, &RESULT, &HARDWARE, &COMMUNICATOR, &WINRM],
    one_of: &[],
};

/// A builder of type `qemu`, of which a schema does not know whether the template has a parent.
pub(crate) const QEMU: Table = Table {
    name: "qemu",
    about: "An overlay on the parent's layer; without a parent, an installer or a ready image",
    groups: INSTALLER.groups,
    one_of: &[],
};

/// A builder of a template that has a parent.
pub(crate) const CHILD: Table = Table {
    name: "child",
    about: "An overlay on the parent's layer",
    groups: &[&GENERAL, &MEDIUM, &RESULT, &HARDWARE, &COMMUNICATOR, &WINRM],
    one_of: &[],
};

const GENERAL: Group = Group {
    whose: QEMU_BUILDER,
    keys: &[
        Key::packer("type", "-", TEXT, "qemu", "`qemu`, or visabuild's own `bootstrap` and `installer`").required(),
        Key::packer("name", "the type", TEXT, "disk", "read; images are named for their template"),
    ],
};

/// What becomes of the disk.
const RESULT: Group = Group {
    whose: QEMU_BUILDER,
    keys: &[
        Key::ignored("vm_name", "packer-NAME", "disk", "images are named for their template"),
        Key::ignored("output_directory", "output-NAME", "out", "the command line says where results go: `--output`"),
        Key::ignored("accelerator", "kvm or tcg", "kvm", "the command line says: `--accel`"),
        Key::fixed(
            "format",
            "qcow2",
            (TEXT, "qcow2", "raw"),
            "images are compressed, flat qcow2 files",
            "`visabuild upload --format raw` unpacks while it sends; `qemu-img convert` makes any other",
        ),
        Key::fixed(
            "skip_compaction",
            "false",
            (Form::Boolean, "false", "true"),
            "sealing writes the image anew, without what the guest has given up",
            "drop it",
        ),
        Key::fixed(
            "disk_compression",
            "false",
            (Form::Boolean, "true", "false"),
            "an image is written once and read often, so it is compressed",
            "drop it; `--compression zstd|zlib` chooses how",
        ),
        Key::fixed(
            "skip_resize_disk",
            "false",
            (Form::Boolean, "false", "true"),
            "a ready image becomes as large as `disk_size` says",
            "give the image's own size as `disk_size`",
        ),
        Key::fixed(
            "use_backing_file",
            "false",
            (Form::Boolean, "false", "true"),
            "a finished image lies on no other file",
            "drop it: while it is built, each disk is an overlay on its parent's anyway",
        ),
        Key::refused(
            "qemu_img_args",
            "-",
            "visabuild's overlays, layers and images rest on how it calls qemu-img",
            "drop it; `--compression zstd|zlib` is what can be chosen",
        ),
        Key::ignored("run_once", "-", "true", "it has no effect in Packer either"),
        Key::ignored("http_port_min", "8000", "8000", WEB),
        Key::ignored("http_port_max", "9000", "9000", WEB),
        Key::ignored("http_bind_address", "0.0.0.0", "0.0.0.0", WEB),
        Key::ignored("http_interface", "-", "eth0", WEB),
        Key::ignored("http_network_protocol", "tcp", "tcp4", WEB),
        Key::ignored("iso_target_path", "the cache", "/tmp/x.iso", DOWNLOADS),
        Key::ignored("iso_target_extension", "iso", "iso", DOWNLOADS),
    ],
};

const WEB: &str = "the web server listens on loopback, where QEMU's guest finds it, at a port that the kernel chooses";
const DOWNLOADS: &str = "downloads are kept in visabuild's cache, under their checksum";

/// What a disk begins with. In a child it is the parent's disk, and these have no effect.
pub(crate) const MEDIUM: Group = Group {
    whose: QEMU_BUILDER,
    keys: &[
        Key::packer(
            "iso_url",
            "-",
            TEXT,
            "/medium.iso",
            "the medium; in a child without effect, as its disk is the parent's",
        ),
        Key::packer(
            "iso_checksum",
            "-",
            TEXT,
            "none",
            "as in Packer: bare or with `sha256:` and its like, `file:URL` of a list, `none`; in a child without effect",
        ),
        Key::packer(
            "disk_image",
            "false",
            Form::Boolean,
            "true",
            "the medium is a bootable disk, and nothing is installed; in a child always so",
        ),
        Key::packer(
            "boot_wait",
            "10s",
            Form::Duration,
            "5s",
            "what passes before the boot command is typed; in a child without effect",
        ),
    ],
};

/// How a system is installed on it.
pub(crate) const INSTALLATION: Group = Group {
    whose: QEMU_BUILDER,
    keys: &[
        Key::packer("iso_urls", "-", Form::Some(&TEXT), "[/medium.iso]", "places of the medium, tried in this order"),
        Key::fixed(
            "iso_skip_cache",
            "false",
            (Form::Boolean, "false", "true"),
            "a medium is checked before it is booted, so it has to be here",
            "drop it: `iso_url` with a path of this host is used in place",
        ),
        Key::packer(
            "boot_command",
            "-",
            TEXTS,
            "['<enter>']",
            "typed over VNC as fast as the guest draws, and read back; also `<waitForScreen …>`",
        ),
        Key::packer(
            "boot_steps",
            "-",
            Form::List(&Form::Some(&TEXT)),
            "[['<enter>', 'begin']]",
            "a boot command as rows of a command and its description",
        ),
        Key::packer("boot_key_interval", "100ms", Form::Duration, "50ms", "what passes after each key event"),
        Key::packer(
            "boot_keygroup_interval",
            "-",
            Form::Duration,
            "1s",
            "what passes after each string of the command",
        ),
        Key::own(
            "boot_read_back",
            Form::Boolean,
            "false",
            "lines are read back off the screen before `<enter>`; true where nothing is said",
        ),
        Key::packer("http_directory", "-", TEXT, "http", "files of a web server on loopback; text is rendered"),
        Key::packer("http_content", "-", FILES, "{/preseed.cfg: text}", "texts of that web server, by path"),
        Key::packer("cd_files", "-", TEXTS, "[note]", "files of a second CD"),
        Key::packer("cd_content", "-", FILES, "{user-data: text}", "texts of a second CD, by path"),
        Key::packer("cd_label", "packer", TEXT, "CIDATA", "its label").beside("cd_content: {a: b}"),
        Key::packer("floppy_files", "-", TEXTS, "[note]", "files of a floppy"),
        Key::packer("floppy_dirs", "-", TEXTS, "[http]", "folders of a floppy"),
        Key::packer("floppy_content", "-", FILES, "{a.txt: text}", "texts of a floppy, by path"),
        Key::packer("floppy_label", "packer", TEXT, "ANSWERS", "its label").beside("floppy_content: {a.txt: b}"),
        Key::own("iso_checksum_keyring", TEXT, "note", "a key of this file must have signed the list of checksums")
            .beside("iso_checksum: 'file:/SHA256SUMS'"),
        Key::own("iso_checksum_signature", TEXT, "/SHA256SUMS.sign", "where the list's signature is, if not in itself")
            .beside("iso_checksum: 'file:/SHA256SUMS', iso_checksum_keyring: note"),
        Key::own(
            "install_timeout",
            Form::Duration,
            "2h",
            "how long the installation may take; 2h where nothing is said",
        ),
        Key::own("kernel", TEXT, "/boot/vmlinuz", "a kernel that QEMU boots; with `package` its path in it")
            .beside(INITRD),
        Key::own("kernel_urls", Form::Some(&TEXT), "[/boot/vmlinuz]", "places of the kernel, tried in this order")
            .beside(INITRD),
        Key::own("kernel_checksum", TEXT, "none", "as `iso_checksum`").beside(KERNEL),
        Key::own("kernel_checksum_keyring", TEXT, "note", "as `iso_checksum_keyring`").beside(SIGNED),
        Key::own("kernel_checksum_signature", TEXT, "/SHA256SUMS.sign", "as `iso_checksum_signature`").beside(SIGNED),
        Key::own("initrd", TEXT, "/boot/initrd", "its initial file system; with `package` its path in it")
            .beside(KERNEL),
        Key::own(
            "initrd_urls",
            Form::Some(&TEXT),
            "[/boot/initrd]",
            "places of the initial file system, tried in this order",
        )
        .beside("kernel: /vmlinuz, kernel_checksum: none, initrd_checksum: none"),
        Key::own("initrd_checksum", TEXT, "none", "as `iso_checksum`").beside(KERNEL),
        Key::own("initrd_checksum_keyring", TEXT, "note", "as `iso_checksum_keyring`").beside(SIGNED),
        Key::own("initrd_checksum_signature", TEXT, "/SHA256SUMS.sign", "as `iso_checksum_signature`").beside(SIGNED),
        Key::own("cmdline", TEXT, "console=ttyS0", "the kernel's command line").beside(KERNEL),
        Key::own("initrd_files", FILES, "{/preseed.cfg: note}", "files put into the initial file system, by path")
            .beside(KERNEL),
        Key::own("initrd_content", FILES, "{/preseed.cfg: text}", "texts put into it, by path").beside(KERNEL),
        Key::own("initrd_append", Form::Some(&TEXT), "[note]", "cpio archives appended to it").beside(KERNEL),
        Key::own(
            "package",
            Form::Word,
            "debian-installer-13-netboot-amd64",
            "a Debian package with kernel and initial file system",
        )
        .beside("suite: trixie, kernel: /linux, initrd: /initrd.gz"),
        Key::own("package_version", Form::Word, "'20250803'", "its version; the newest where nothing is said")
            .beside(FROM_PACKAGE),
        Key::own(
            "exclude_components",
            Form::List(&Form::Word),
            "[jfs-modules]",
            "components that debian-installer is not to load by itself",
        )
        .beside(KERNEL),
    ],
};

/// What Debian's bootstrap and installer have in common.
const PACKAGE: Group = Group {
    whose: "",
    keys: &[
        Key::own("suite", Form::Word, "trixie", "the code name of the release").beside(FROM_PACKAGE),
        Key::own("packages", Form::List(&Form::Word), "[sudo]", "packages beside the system's own").beside(KERNEL),
    ],
};

const DEBIAN: Group = Group {
    whose: "",
    keys: &[
        Key::own("suite", Form::Word, "trixie", "the code name of the release").required(),
        Key::own(
            "components",
            Form::Some(&Form::Word),
            "[main]",
            "components of the archive; `main` where nothing is said",
        ),
        Key::own(
            "variant",
            Form::OneOf(|| crate::template::builder::VARIANTS.to_vec()),
            "minbase",
            "what mmdebstrap installs by itself; `important` where nothing is said",
        ),
        Key::own("packages", Form::List(&Form::Word), "[sudo]", "packages beside the variant's"),
    ],
};

const FILES: Form = Form::Map(&Map { names: None, value: TEXT, or_nothing: true, some: false });
const INITRD: &str = "initrd: /initrd, kernel_checksum: none, initrd_checksum: none";
const KERNEL: &str = "kernel: /vmlinuz, initrd: /initrd, kernel_checksum: none, initrd_checksum: none";
const SIGNED: &str = "kernel: /vmlinuz, initrd: /initrd, kernel_checksum: 'file:/SHA256SUMS', \
                      initrd_checksum: 'file:/SHA256SUMS', kernel_checksum_keyring: note, initrd_checksum_keyring: note";
const FROM_PACKAGE: &str = "package: installer, suite: trixie, kernel: /linux, initrd: /initrd.gz";
