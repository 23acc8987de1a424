//! `visabuild plan`.

use serde_json::json;

use super::args::{PlanArgs, PlanFormat};
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, print};
use crate::error::Result;

/// Prints the plan; secrets need not be given and are never shown.
pub(super) async fn run(args: PlanArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let prepared = Prepared::new(&args.project, environment, true, signals.cancel()).await?;
    if args.format == PlanFormat::Json || args.project.json {
        let plan = &prepared.plan;
        let json = json!({ "version": plan.version, "stages": plan.stages, "host": prepared.host_facts() });
        print(&format!("{json:#}\n"));
    } else {
        print(&prepared.plan.to_text());
    }
    Ok(())
}
