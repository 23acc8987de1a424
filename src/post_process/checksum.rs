//! The `checksum` post-processor: files that sha256sum(1) and its kin check.
//!
//! Packer puts a tab between checksum and name and adds to what is there. GNU's programs read that, but others want two
//! blanks, and a second run would leave the sums of two images under one name; so here there are two blanks, and the
//! file is written anew.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::background::{self, Meter};
use super::new_file::{Place, failed};
use super::{Given, Outcome};
use crate::checksum::{self, Algorithm};
use crate::error::Result;
use crate::template::post_processor::Checksum;

pub(super) async fn run(given: &Given<'_>, checksum: &Checksum) -> Result<Outcome> {
    let files = given.artifact.files.clone();
    let algorithms: Vec<Algorithm> = checksum.sums.iter().map(|sum| sum.algorithm).collect();
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let sums = background::run(given, total, move |meter| {
        files.iter().map(|file| Ok((file.clone(), sums(file, &algorithms, meter)?))).collect::<Result<Vec<_>>>()
    });
    let sums = sums.await?;
    let mut texts: Vec<(&str, String)> = Vec::new();
    for (at, sum) in checksum.sums.iter().enumerate() {
        let place = given.image.file(&sum.output);
        let lines: String = sums.iter().map(|(file, sums)| line(&sums[at], &place, file)).collect();
        match texts.iter_mut().find(|(output, _)| *output == sum.output) {
            Some((_, text)) => text.push_str(&lines),
            None => texts.push((&sum.output, lines)),
        }
    }
    let mut outputs = Vec::new();
    for (output, text) in texts {
        outputs.push(Place::new(given.image, output)?.write(text.as_bytes())?);
    }
    let artifact = given.artifact.files.iter().chain(&outputs).cloned().collect();
    Ok(Outcome { outputs, artifact: Some(artifact), holds: None })
}

/// The checksums of a file, which is read once.
fn sums(file: &Path, algorithms: &[Algorithm], meter: &Meter) -> Result<Vec<String>> {
    let source = meter.count(File::open(file).map_err(|error| failed(file, error))?);
    checksum::sums(source, algorithms, |_| true).map_err(|error| failed(file, error))
}

/// A line as sha256sum(1) writes it into the file `list`, from whose folder the names are.
fn line(sum: &str, list: &Path, file: &Path) -> String {
    let name: PathBuf = list.parent().and_then(|folder| file.strip_prefix(folder).ok()).unwrap_or(file).to_owned();
    let name = name.to_string_lossy();
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{sum}  {escaped}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_seen_from_the_list() {
        let line = |list: &str, file: &str| line("ab", Path::new(list), Path::new(file));
        assert_eq!(line("/b/t/list", "/b/t/t.qcow2"), "ab  t.qcow2\n");
        assert_eq!(line("/b/t/list", "/b/t/x/y.gz"), "ab  x/y.gz\n");
        assert_eq!(line("/srv/list", "/b/t/t.qcow2"), "ab  /b/t/t.qcow2\n");
        assert_eq!(line("/b/list", "/b/a\\b\nc"), "\\ab  a\\\\b\\nc\n");
    }
}
