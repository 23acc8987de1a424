//! What `plan` and `why` look up before a build.

use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret;

use super::build::output_folder;
use super::project::Prepared;
use super::{Environment, cache_folder};
use crate::cache::Cache;
use crate::error::Result;
use crate::event::Redactor;
use crate::image::Compression;
use crate::pipeline::{self, Explanation, Results};
use crate::plan::Detail;

/// Where results are looked for, as `build` has it.
#[derive(Debug, Args)]
pub struct LookArgs {
    /// Folder of the results
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Compression that the images shall have: zstd or zlib
    #[arg(long, value_name = "TYPE", env = "VISABUILD_COMPRESSION")]
    pub compression: Option<Compression>,
}

/// What a build of the plan would do with each stage. Takes the plan that has no installers where all its images are
/// there, as the build does.
pub(super) fn explained(
    prepared: &mut Prepared,
    args: &LookArgs,
    environment: &Environment,
) -> Result<Vec<Explanation>> {
    let cache = Cache::open(&cache_folder(environment)?)?;
    let results = Results {
        from: None,
        history: cache.history(&prepared.root),
        cache,
        output: output_folder(args.output.clone(), &prepared.root)?,
        force: false,
        compression: args.compression.unwrap_or(Compression::Zstd),
        secrets: prepared.secrets.clone(),
    };
    let mut explained = pipeline::explain(&prepared.plan, &results, &prepared.missing)?;
    let is_there = |explained: &[Explanation]| explained.iter().all(|one| one.state.is_unchanged());
    if let Some(instead) = prepared.instead.as_ref().filter(|_| !is_there(&explained)) {
        let other = pipeline::explain(instead, &results, &prepared.missing)?;
        if is_there(&other) {
            prepared.bootstrap_instead("the images are there");
            return Ok(other);
        }
    }
    redact(prepared, &mut explained);
    Ok(explained)
}

/// Takes what must never be shown out of what changed: somebody may have written the password into a script.
fn redact(prepared: &Prepared, explained: &mut [Explanation]) {
    let redactor = Redactor::new(prepared.hidden.iter().map(ExposeSecret::expose_secret));
    let redact = |text: &mut String| *text = redactor.redact(text);
    for explanation in explained {
        redact(&mut explanation.headline);
        let parts = explanation.difference.iter_mut().flat_map(|difference| &mut difference.parts);
        for detail in parts.flat_map(|part| &mut part.details) {
            match detail {
                Detail::Value { old, new, .. } => old.iter_mut().chain(new).for_each(redact),
                Detail::File(file) => file.diff.iter_mut().for_each(redact),
                Detail::Tool(_) => {}
            }
        }
    }
}

/// About how long a build of all of it takes, for people.
pub(super) fn estimate(explained: &[Explanation]) -> String {
    let seconds: f64 = explained.iter().map(|one| one.estimate_seconds).sum();
    let complete = explained.iter().all(|one| one.estimate_is_complete);
    match (complete, seconds > 0.0) {
        (true, _) => format!("about {}", crate::report::duration(seconds)),
        (false, true) => format!("more than {}: not all of it is known", crate::report::duration(seconds)),
        (false, false) => "unknown: it was never done here".to_owned(),
    }
}
