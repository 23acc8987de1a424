//! Keys of `config.yml`, of manifests outside builders and provisioners, and of `environment.yml`.

use super::builder::{BOOTSTRAP, INSTALLER, QEMU};
use super::post_processor::POST_PROCESSORS;
use super::provisioner::KINDS;
use super::{Form, Group, Key, Map, Table};

/// Names that template variables and shell variables can have ([`is_identifier`](crate::template::scalar)).
pub(super) const IDENTIFIER: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

const BUILDERS: Form =
    Form::List(&Form::ByType(&[("bootstrap", &BOOTSTRAP), ("installer", &INSTALLER), ("qemu", &QEMU)]));
const PROVISIONERS: Form = Form::List(&Form::ByType(&KINDS));

const fn table(name: &'static str, about: &'static str, groups: &'static [&'static Group]) -> Table {
    Table { name, about, groups, one_of: &[] }
}

const fn own(keys: &'static [Key]) -> Group {
    Group { whose: "", keys }
}

/// `config.yml`.
pub(crate) const CONFIG: Table = table(
    "config",
    "Which templates exist, and what extends what",
    &[&own(&[
        Key::own(
            "templates",
            Form::Map(&Map {
                names: Some("^[A-Za-z0-9][A-Za-z0-9._-]*$"),
                value: Form::Table(&DECLARATION),
                or_nothing: true,
                some: true,
            }),
            "{base: }",
            "The templates: each is a folder of templates/",
        )
        .required(),
        Key::own(
            "engine",
            Form::Exactly(|| vec!["qemu", "nspawn"]),
            "qemu",
            "What boots the guests, where nothing else is asked for",
        ),
    ])],
);

pub(crate) const DECLARATION: Table = table(
    "declaration",
    "A template",
    &[&own(&[
        Key::own("extends", Form::Plain, "base", "The template whose disk it begins with"),
        Key::own(
            "packages",
            Form::List(&Form::Plain),
            "['*']",
            "Packages (folders of packages/) whose provisioners come after its own; `*` stands for all",
        ),
    ])],
);

/// `templates/NAME/manifest.yml`.
pub(crate) const MANIFEST: Table = table(
    "manifest",
    "What a template is made of",
    &[&own(&[
        Key::own("packer", Form::Table(&PACKER), "{}", "Builders and provisioners, as Packer has them"),
        Key::own("seal", Form::Table(&SEAL), "{}", "What is done only on the overlay that becomes the image: secrets"),
        Key::own(
            "alternatives",
            Form::Map(&Map {
                names: Some(IDENTIFIER),
                value: Form::Map(&Map { names: None, value: Form::Table(&CHOICE), or_nothing: true, some: true }),
                or_nothing: false,
                some: false,
            }),
            "{method: {a: }}",
            "Ways to the same thing, by variable: the first that is reachable is taken, unless the variable names one",
        ),
        Key::own("verify", Form::Table(&VERIFY), "{contract: cloud}", "What the image must keep"),
    ])],
);

pub(crate) const PACKER: Table = table(
    "packer",
    "Builders and provisioners, as Packer has them",
    &[&own(&[
        Key::own("description", Form::Text, "Debian 13", "What the template is"),
        Key::own(
            "variables",
            Form::Map(&Map { names: None, value: Form::Text, or_nothing: true, some: false }),
            "{release: trixie}",
            "Recorded with the image",
        ),
        Key::own("builders", BUILDERS, "[]", "Where the disk comes from, and on what machine it is provisioned"),
        Key::own("provisioners", PROVISIONERS, "[]", "What is done in the guest, in this order"),
        Key::own(
            "error-cleanup-provisioner",
            Form::ByType(&KINDS),
            "{type: shell, inline: [journalctl]}",
            "What is done in the guest when a provisioner has failed, before the build ends",
        ),
        Key::own("post-processors", POST_PROCESSORS, "[]", ABOUT_POST_PROCESSORS),
        Key::own("postprocessors", POST_PROCESSORS, "[]", ABOUT_POST_PROCESSORS),
    ])],
);

const ABOUT_POST_PROCESSORS: &str = "What is made of the finished image; a list in the list is a chain, each beginning \
                                     with what the one before made";

pub(crate) const SEAL: Table = table(
    "seal",
    "What is done only on the overlay that becomes the image",
    &[&own(&[
        Key::own("root_password", Form::Text, "secret", "Root's password for the console; empty: root stays locked"),
        Key::own(
            "ca_certificates",
            Form::OneOf(|| vec!["keep", "remove"]),
            "keep",
            "Whether the build host's own certificate authorities stay in the image",
        ),
        Key::own("provisioners", PROVISIONERS, "[]", "What puts secrets in; those of the parents come before"),
    ])],
);

pub(crate) const VERIFY: Table = table(
    "verify",
    "What the image must keep",
    &[&own(&[
        Key::own("contract", Form::Text, "cloud", "A contract's name (`visa`, `cloud`, `none`) or file"),
        Key::own("require", Form::List(&Form::Text), "[jupyter]", "Components that the image must have")
            .beside("contract: visa"),
        Key::own("skip", Form::List(&Form::Text), "[RDP-13]", "Checks, or areas of checks, that are left out")
            .beside("contract: visa"),
    ])],
);

pub(crate) const CHOICE: Table = table(
    "choice",
    "One way",
    &[&own(&[
        Key::own(
            "urls",
            Form::Some(&Form::Text),
            "['https://example.org/']",
            "The first of these that is reachable serves; without any, nothing has to be",
        ),
        Key::own("suite", Form::Word, "bullseye", "A suite that the mirror must have"),
        Key::own("warning", Form::Text, "It is old", "What the user should know about it"),
        Key::own("end_of_life", Form::Boolean, "true", "The content is past its end of life"),
    ])],
);

/// `packages/NAME/manifest.yml`.
pub(crate) const PACKAGE: Table = table(
    "package",
    "What a package adds to a template",
    &[&own(&[Key::own(
        "provisioners",
        PROVISIONERS,
        "[]",
        "What is done in the guest after the template's own provisioners",
    )])],
);

/// `templates/NAME/environment.yml`.
pub(crate) const ENVIRONMENT: Table = table(
    "environment",
    "A template's variables",
    &[&own(&[Key::own(
        "environment",
        Form::Map(&Map { names: Some(IDENTIFIER), value: Form::Plain, or_nothing: true, some: false }),
        "{locale: C}",
        "Values of the template and, beneath their own, of those that extend it; nothing is filled in here",
    )])],
);

/// The inside of `cache: {key: …}`.
pub(crate) const CACHE_KEY: Table = table(
    "cache_key",
    "A text of the step's fingerprint",
    &[&own(&[Key::own("key", Form::Text, "2026-11", "The step is done again when this text changes").required()])],
);
