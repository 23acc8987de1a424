//! The `file` provisioner, upload only.

use std::path::Path;

use super::Context;
use crate::error::{self, Error, Kind, Result};
use crate::guest::{Guest, Target, file_mode};
use crate::template::{FileCopy, FileSource, HostPath};

/// What Packer calls the file when `content` goes to a folder.
const CONTENT_NAME: &str = "pkr-file-content";

/// Mode of text that comes from the manifest.
const CONTENT_MODE: u32 = 0o644;

/// Copies files, folders or text into the guest.
pub(super) async fn run(guest: &mut Guest, copy: &FileCopy, context: &Context<'_>) -> Result<()> {
    let destination = copy.destination.plain();
    match &copy.source {
        FileSource::Content(text) => {
            let mode = copy.mode.unwrap_or(CONTENT_MODE);
            guest.upload(text.plain().as_bytes(), Target { path: destination, name: CONTENT_NAME, mode }).await
        }
        FileSource::Paths(sources) => {
            // Several files cannot be one file: the destination is a folder then.
            let several = sources.len() > 1;
            for source in sources {
                copy_path(guest, source, destination, copy.mode, several).await?;
                context.phase.events().debug(
                    Some(context.phase.template()),
                    format!("copied {} to {}", source.shown, copy.destination.masked()),
                );
            }
            Ok(())
        }
    }
}

async fn copy_path(
    guest: &mut Guest,
    source: &HostPath,
    destination: &str,
    mode: Option<u32>,
    into_folder: bool,
) -> Result<()> {
    let metadata =
        error::Context::context(std::fs::metadata(&source.path), Kind::Usage, || format!("reading {}", source.shown))?;
    if metadata.is_dir() {
        let folder = tree_destination(source, destination)?;
        return guest.upload_tree(&source.path, &folder, mode).await;
    }
    let name = file_name(&source.path, &source.shown)?;
    let path = match into_folder && !destination.ends_with('/') {
        true => format!("{destination}/"),
        false => destination.to_owned(),
    };
    let file = error::Context::context(tokio::fs::File::open(&source.path).await, Kind::Usage, || {
        format!("reading {}", source.shown)
    })?;
    guest.upload(file, Target { path: &path, name, mode: mode.unwrap_or_else(|| file_mode(&metadata)) }).await
}

/// Packer's rule: with a trailing slash a folder's contents go into the destination, without one
/// the folder itself does.
fn tree_destination(source: &HostPath, destination: &str) -> Result<String> {
    if source.contents_only {
        return Ok(destination.to_owned());
    }
    Ok(format!("{}/{}", destination.trim_end_matches('/'), file_name(&source.path, &source.shown)?))
}

fn file_name<'a>(path: &'a Path, shown: &str) -> Result<&'a str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::usage(format!("{shown} has no name that the guest's copy could have")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, contents_only: bool) -> HostPath {
        HostPath { path: path.into(), shown: path.into(), contents_only, secrets: [].into() }
    }

    #[test]
    fn a_trailing_slash_of_the_source_means_its_contents() {
        assert_eq!(tree_destination(&source("/p/conf", false), "/etc").unwrap(), "/etc/conf");
        assert_eq!(tree_destination(&source("/p/conf", false), "/etc/").unwrap(), "/etc/conf");
        assert_eq!(tree_destination(&source("/p/conf/", false), "/").unwrap(), "/conf");
        assert_eq!(tree_destination(&source("/p/conf/", true), "/etc").unwrap(), "/etc");
    }

    #[test]
    fn a_folder_without_a_name_is_refused() {
        assert_eq!(
            tree_destination(&source("/", false), "/x").unwrap_err().to_string(),
            "/ has no name that the guest's copy could have"
        );
    }
}
