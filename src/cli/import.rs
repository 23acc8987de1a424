//! `visabuild import`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Environment, print, project};
use crate::error::Result;
use crate::packer::{Imported, Request, import};
use crate::shell_word::word;

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A template (`.pkr.hcl` or `.json`), or a folder with templates
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Folder of the new project
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub output: PathBuf,
    /// Value of a variable; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// File of variables (`.pkrvars.hcl` or `.json`); may be repeated
    #[arg(long = "var-file", value_name = "FILE")]
    pub variable_files: Vec<PathBuf>,
    /// Import what can be, with a comment at each place that cannot
    #[arg(long)]
    pub partial: bool,
}

/// Imports a Packer project; says what was written, and what was left out.
pub(super) fn run(args: ImportArgs, environment: &Environment) -> Result<()> {
    let request = Request {
        path: args.path,
        output: args.output.clone(),
        variables: args.variables,
        variable_files: args.variable_files,
        partial: args.partial,
        now: project::now(environment)?,
        environment: project::seen_by_templates(environment),
    };
    let imported = import(&request)?;
    // Printing can only fail when nobody reads.
    let _ = io::stderr().lock().write_all(left_out(&imported).as_bytes());
    print(&summary(&imported, &args.output.display().to_string()));
    Ok(())
}

fn left_out(imported: &Imported) -> String {
    let mut text = String::new();
    for problem in &imported.left_out {
        // Writing to a string does not fail.
        let _ = writeln!(text, "left out: {problem}");
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "  instead: {hint}");
        }
    }
    text
}

fn summary(imported: &Imported, output: &str) -> String {
    let count = imported.templates.len();
    let noun = if count == 1 { "template" } else { "templates" };
    let files: Vec<_> = imported.files.iter().map(|file| format!("  {}\n", file.display())).collect();
    let folder = if output == "." { String::new() } else { format!(" -C {}", word(output)) };
    format!(
        "{count} {noun} imported: {}\nwritten below {output}:\n{}next: visabuild validate{folder}\n",
        imported.templates.join(", "),
        files.concat()
    )
}
