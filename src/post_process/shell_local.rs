//! The `shell-local` post-processor: a command of the user's own on the build host, which leaves the artifact as it is.

use std::path::Path;

use super::{Given, Outcome};
use crate::error::Result;
use crate::host_command::{self, Surroundings};
use crate::template::post_processor::BUILDER_TYPE;
use crate::template::{ShellLocal, Text};

pub(super) async fn run(given: &Given<'_>, local: &ShellLocal) -> Result<Outcome> {
    let image = given.image;
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let files: Vec<String> = given.artifact.files.iter().map(|file| shown(file)).collect();
    let variables = [
        ("PACKER_BUILD_NAME", image.template.clone()),
        ("PACKER_BUILDER_TYPE", BUILDER_TYPE.to_owned()),
        ("VISABUILD_ARTIFACT_FILES", files.join("\n")),
        ("VISABUILD_IMAGE", shown(&image.path)),
        ("VISABUILD_MANIFEST", shown(&image.manifest)),
        ("VISABUILD_RESULTS", shown(&image.folder)),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), Text::public(value)));
    let (work, phase, cancel) = (given.run.work, given.phase, given.run.cancel);
    host_command::run(local, &Surroundings { variables: &variables, work, phase, cancel }).await?;
    Ok(Outcome::default())
}
