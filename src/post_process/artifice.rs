//! The `artifice` post-processor: other files are the artifact from here on.

use super::{Given, Outcome};
use crate::error::{Error, Result};
use crate::template::post_processor::Artifice;

pub(super) fn run(given: &Given<'_>, artifice: &Artifice) -> Result<Outcome> {
    let files: Vec<_> = artifice.files.iter().map(|name| given.image.file(name)).collect();
    let missing: Vec<_> = files.iter().filter(|file| !file.is_file()).map(|file| file.display().to_string()).collect();
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "does" } else { "do" };
        return Err(Error::build(format!("{} {verb} not exist", missing.join(", "))).hint(format!(
            "names are relative to {}; a post-processor before this one should have made them",
            given.image.folder.display()
        )));
    }
    Ok(Outcome { artifact: Some(files), ..Outcome::default() })
}
