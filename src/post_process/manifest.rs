//! The `manifest` post-processor: a list of builds in Packer's form, to which each run adds.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::background::{self, Meter};
use super::new_file::{Place, failed};
use super::{Given, Outcome};
use crate::error::{Error, Result};
use crate::template::post_processor::{BUILDER_TYPE, Manifest};

/// How long another run may have the list before it is asked for again.
const WAIT: Duration = Duration::from_millis(50);

/// One build as Packer has it (hcl2 and JSON write the same).
#[derive(Debug, Serialize)]
struct Build {
    name: String,
    builder_type: &'static str,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    build_time: Option<u64>,
    files: Vec<BuildFile>,
    artifact_id: &'static str,
    packer_run_uuid: String,
    /// `null` where nothing is said.
    custom_data: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
struct BuildFile {
    name: String,
    size: u64,
}

pub(super) async fn run(given: &Given<'_>, manifest: &Manifest) -> Result<Outcome> {
    let place = Place::new(given.image, &manifest.output)?;
    let id = given.run.id.to_string();
    let build = build(given, manifest, &id)?;
    let force = given.run.force;
    let mark = id.clone();
    // Another run may have it in its hands, of another project even, and is waited for.
    let path = background::run(given, 0, move |meter| add(place, &build, (&mark, force), meter)).await?;
    Ok(Outcome { outputs: vec![path], artifact: None, holds: Some(id) })
}

fn build(given: &Given<'_>, manifest: &Manifest, id: &str) -> Result<Build> {
    let file = |path: &PathBuf| -> Result<BuildFile> {
        let size = fs::metadata(path).map_err(|error| failed(path, error))?.len();
        Ok(BuildFile { name: shown(given.run.root, path, manifest.strip_path), size })
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Build {
        name: given.image.template.clone(),
        builder_type: BUILDER_TYPE,
        build_time: (!manifest.strip_time).then_some(now),
        files: given.artifact.files.iter().map(file).collect::<Result<_>>()?,
        // What Packer's qemu builder calls its own; files that were made of it have no id.
        artifact_id: if given.artifact.is_image { "VM" } else { "" },
        packer_run_uuid: id.to_owned(),
        custom_data: Some(manifest.custom_data.clone()).filter(|data| !data.is_empty()),
    })
}

/// A file as the list names it: relative to the project, where it is inside.
fn shown(root: &Path, path: &Path, strip: bool) -> String {
    let path = if strip { path.file_name().map_or(path, Path::new) } else { path.strip_prefix(root).unwrap_or(path) };
    path.to_string_lossy().into_owned()
}

/// Adds `build` to the list, which is the old or the new one at any moment.
fn add(place: Place, build: &Build, (id, force): (&str, bool), meter: &Meter) -> Result<PathBuf> {
    let folder = place.path.parent().unwrap_or(Path::new("."));
    let lock = File::open(folder).map_err(|error| failed(folder, error))?;
    while let Err(error) = lock.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(failed(folder, error));
        }
        // Nothing is done, but whoever stops the build does not wait.
        meter.add(0).map_err(|error| failed(folder, error))?;
        std::thread::sleep(WAIT);
    }
    let mut list = read(&place.path)?;
    let is_other = list.get("last_run_uuid").is_none_or(|last| *last != json!(id));
    let builds = list.entry("builds").or_insert_with(|| json!([]));
    if builds.is_null() || (force && is_other) {
        *builds = json!([]);
    }
    let Value::Array(builds) = builds else { return Err(not_a_list(&place.path)) };
    builds.push(json!(build));
    list.insert("last_run_uuid".to_owned(), json!(id));
    // Packer writes it like this.
    let text = serde_json::to_string_pretty(&list).map_err(|_| not_a_list(&place.path))?;
    place.write(text.as_bytes())
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let bytes = match fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => return Ok(Map::new()),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed(path, error)),
    };
    serde_json::from_slice(&bytes).map_err(|error| not_a_list(path).because(error))
}

fn not_a_list(path: &Path) -> Error {
    Error::build(format!("{} is there already, and is no list of builds in Packer's form", path.display()))
        .hint("move it away, or name another `output`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_project() {
        let shown = |path: &str, strip| shown(Path::new("/p"), Path::new(path), strip);
        assert_eq!(shown("/p/builds/a/a.qcow2", false), "builds/a/a.qcow2");
        assert_eq!(shown("/q/a.qcow2", false), "/q/a.qcow2");
        assert_eq!(shown("/p/builds/a/a.qcow2", true), "a.qcow2");
    }
}
