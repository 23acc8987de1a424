//! `visabuild validate`.

use serde_json::json;

use super::args::ProjectArgs;
use super::build::output_folder;
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, print};
use crate::error::Result;
use crate::post_process;

/// Resolves the project and reads every file that it names; says how many templates are right.
pub(super) async fn run(args: ProjectArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let prepared = Prepared::new(&args, environment, true, signals.cancel()).await?;
    post_process::check_outputs(&prepared.plan, &output_folder(None, &prepared.root)?)?;
    let names: Vec<&str> = prepared.plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    if args.json {
        print(&format!("{}\n", json!({ "event": "valid", "templates": names })));
    } else {
        print(&format!(
            "{} {}: {}\n",
            names.len(),
            if names.len() == 1 { "template is valid" } else { "templates are valid" },
            names.join(", ")
        ));
    }
    Ok(())
}
