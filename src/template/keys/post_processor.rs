//! Keys of post-processors.

use super::provisioner::SHELL_LOCAL_KEYS;
use super::{Form, Group, Key, Map, Table};
use crate::bom;
use crate::checksum::Algorithm;
use crate::template::post_processor::{DiffFormat, DiskFormat, Format};

const TEXT: Form = Form::Text;
const BOOLEAN: Form = Form::Boolean;

/// The post-processors, by the type that a manifest names.
pub(crate) const KINDS: [(&str, &Table); 9] = [
    ("checksum", &CHECKSUM),
    ("compress", &COMPRESS),
    ("manifest", &MANIFEST),
    ("artifice", &ARTIFICE),
    ("shell-local", &SHELL_LOCAL),
    ("convert", &CONVERT),
    ("sbom", &SBOM),
    ("package-diff", &PACKAGE_DIFF),
    ("release-note", &RELEASE_NOTE),
];

/// The value of `post-processors`.
pub(crate) const POST_PROCESSORS: Form =
    Form::List(&Form::Either(&[ONE, TYPE, Form::List(&Form::Either(&[ONE, TYPE]))]));
const ONE: Form = Form::ByType(&KINDS);
const TYPE: Form = Form::OneOf(names);

/// The types that there are.
pub(crate) fn names() -> Vec<&'static str> {
    KINDS.iter().map(|(name, _)| *name).collect()
}

const fn table(name: &'static str, about: &'static str, groups: &'static [&'static Group]) -> Table {
    Table { name, about, groups, one_of: &[] }
}

/// The `checksum` post-processor.
pub(crate) const CHECKSUM: Table =
    table("checksum", "Writes checksums as sha256sum(1) and its kin read them", &[&COMMON, &CHECKSUM_KEYS]);

/// The `compress` post-processor.
pub(crate) const COMPRESS: Table =
    table("compress", "Makes one compressed file or an archive of the artifact", &[&COMMON, &COMPRESS_KEYS]);

/// The `manifest` post-processor.
pub(crate) const MANIFEST: Table =
    table("packer_manifest", "Adds the artifact to a list in Packer's form", &[&COMMON, &MANIFEST_KEYS]);

/// The `artifice` post-processor.
pub(crate) const ARTIFICE: Table =
    table("artifice", "Names the files that the rest of the chain is about", &[&COMMON, &ARTIFICE_KEYS]);

/// The `shell-local` post-processor.
pub(crate) const SHELL_LOCAL: Table = Table {
    name: "shell-local-after",
    about: "Runs commands or scripts on the build host, with the artifact's files in `VISABUILD_ARTIFACT_FILES`",
    groups: &[&COMMON, &SHELL_LOCAL_KEYS],
    one_of: &["command", "inline", "script", "scripts"],
};

/// The `convert` post-processor.
pub(crate) const CONVERT: Table =
    table("convert", "Makes the image in another format of disks", &[&COMMON, &CONVERT_KEYS]);

/// The `sbom` post-processor.
pub(crate) const SBOM: Table = table("sbom", "Writes software bills of materials of the image", &[&COMMON, &SBOM_KEYS]);

/// The `package-diff` post-processor.
pub(crate) const PACKAGE_DIFF: Table =
    table("package_diff", "Writes which packages are not as in the image before", &[&COMMON, &PACKAGE_DIFF_KEYS]);

/// The `release-note` post-processor.
pub(crate) const RELEASE_NOTE: Table =
    table("release_note", "Writes a release note of the image as Markdown", &[&COMMON, &RELEASE_NOTE_KEYS]);

const COMMON: Group = Group {
    whose: "Packer's post-processors",
    keys: &[
        Key::packer("type", "-", TEXT, "checksum", "which one it is").required(),
        Key::packer("name", "the type", TEXT, "sums", "how it is called in messages"),
        Key::packer(
            "keep_input_artifact",
            "by type",
            BOOLEAN,
            "true",
            "`compress`, `convert` and `artifice` remove what the chain made before them, unless this is `true`; the \
             others keep it, as in Packer. The image itself always stays",
        ),
        Key::refused("only", "-", super::provisioner::ONE_BUILD, OWN_TEMPLATE),
        Key::refused("except", "-", super::provisioner::ONE_BUILD, OWN_TEMPLATE),
    ],
};

const OWN_TEMPLATE: &str = "write it into the manifests of the templates that it is for";

const CHECKSUM_KEYS: Group = Group {
    whose: "Packer's checksum post-processor",
    keys: &[
        Key::packer(
            "checksum_types",
            "md5",
            Form::Some(&Form::OneOf(|| Algorithm::ALL.map(Algorithm::name).to_vec())),
            "[sha256]",
            "`md5`, `sha1`, `sha224`, `sha256`, `sha384`, `sha512`; one reading for all of them",
        ),
        Key::packer(
            "output",
            "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum",
            TEXT,
            "'{{ .BuildName }}.{{ .ChecksumType }}'",
            "the same; a line has two blanks where Packer writes a tab, and the file is written anew, not added to",
        ),
    ],
};

const COMPRESS_KEYS: Group = Group {
    whose: "Packer's compress post-processor",
    keys: &[
        Key::packer(
            "output",
            "packer_{{.BuildName}}_{{.BuilderType}}",
            TEXT,
            "'{{ .BuildName }}.qcow2.xz'",
            "the same with the format's ending",
        ),
        Key::packer(
            "format",
            "by the end of `output`, else tar.gz",
            Form::OneOf(Format::names),
            "tar.zst",
            "the same; also `zst`, alone and with `tar.`",
        ),
        Key::packer(
            "compression_level",
            "-1",
            TEXT,
            "9",
            "1 to 9, for `zst` to 22, and the highest for what is more; the program's own default for -1 and 0. \
             Nothing depends on it for `lz4`",
        ),
    ],
};

const MANIFEST_KEYS: Group = Group {
    whose: "Packer's manifest post-processor",
    keys: &[
        Key::packer("output", "packer-manifest.json", TEXT, "list.json", "the same; a build is added to what is there"),
        Key::packer("strip_path", "false", BOOLEAN, "true", "names of files without their folders"),
        Key::packer("strip_time", "false", BOOLEAN, "true", "without the time"),
        Key::packer(
            "custom_data",
            "-",
            Form::Map(&Map { names: None, value: TEXT, or_nothing: true, some: false }),
            "{beamline: ID01}",
            "what else is to stand there",
        ),
    ],
};

const ARTIFICE_KEYS: Group = Group {
    whose: "Packer's artifice post-processor",
    keys: &[Key::packer("files", "-", Form::Some(&TEXT), "[extra.txt]", "files that have to be there then").required()],
};

const CONVERT_KEYS: Group = Group {
    whose: "",
    keys: &[
        Key::own(
            "format",
            Form::OneOf(DiskFormat::names),
            "raw",
            "`raw`, `vmdk`, `vdi`, `vhd` (or `vpc`), `vhdx`, `qcow2`",
        )
        .required(),
        Key::own(
            "options",
            Form::Map(&Map { names: Some("^[a-z_]+$"), value: TEXT, or_nothing: false, some: false }),
            "{subformat: streamOptimized}",
            "options of the format, as `qemu-img convert -o` has them",
        ),
        Key::own("output", TEXT, "disk.img", "`{{ .BuildName }}` with the format's ending where nothing is said"),
    ],
};

const SBOM_KEYS: Group = Group {
    whose: "visabuild's sbom post-processor",
    keys: &[
        Key::own(
            "formats",
            Form::Some(&Form::OneOf(bom::Format::names)),
            "[spdx, cyclonedx]",
            "`spdx` (SPDX 2.3) and `cyclonedx` (CycloneDX 1.6), both as JSON; `spdx` where nothing is said",
        ),
        Key::own(
            "output",
            TEXT,
            "'{{ .BuildName }}-{{ .SbomFormat }}.json'",
            "`{{ .BuildName }}.spdx.json` and `{{ .BuildName }}.cdx.json` where nothing is said",
        ),
    ],
};

const PACKAGE_DIFF_KEYS: Group = Group {
    whose: "visabuild's package-diff post-processor",
    keys: &[
        Key::own("format", Form::OneOf(DiffFormat::names), "json", "`text` where nothing is said, or `json`"),
        Key::own("output", TEXT, "changes.txt", "`{{ .BuildName }}.changes.txt` or `.json` where nothing is said"),
    ],
};

const RELEASE_NOTE_KEYS: Group = Group {
    whose: "visabuild's release-note post-processor",
    keys: &[Key::own("output", TEXT, "NOTE.md", "`{{ .BuildName }}.release-note.md` where nothing is said")],
};
