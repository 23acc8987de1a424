//! The `artifice` post-processor: other files are the artifact from here on.

use super::{Given, Outcome};
use crate::error::{Error, Kind, Problem, Result};
use crate::template::post_processor::Artifice;

pub(super) fn run(given: &Given<'_>, artifice: &Artifice) -> Result<Outcome> {
    let files: Vec<_> = artifice.files.iter().map(|name| given.image.file(name)).collect();
    let missing = files.iter().filter(|file| !file.is_file());
    let problems: Vec<_> = missing.map(|file| Problem::new(format!("{} does not exist", file.display()))).collect();
    if !problems.is_empty() {
        let error = Error::problems(Kind::Build, problems.clone());
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        return Err(error.context(said.join(", ")).hint(format!(
            "names are relative to {}; a post-processor before this one should have made them",
            given.image.folder.display()
        )));
    }
    Ok(Outcome { artifact: Some(files), ..Outcome::default() })
}
