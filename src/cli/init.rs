//! `visabuild init`.

use super::args::InitArgs;
use super::print;
use crate::error::Result;
use crate::shell_word::word;
use crate::starter::{self, Starter};

/// Writes a new project, and says what can be done with it.
pub(super) fn run(args: &InitArgs) -> Result<()> {
    let count = starter::write(args.kind, &args.directory)?;
    let folder = args.directory.to_string_lossy();
    let program = word(&args.program);
    let there = if folder == "." { String::new() } else { format!(" -C {}", word(&folder)) };
    let secrets = match args.kind {
        Starter::Visa => "-pp KEY.pub -rp PASSWORD",
        Starter::Minimal => "-rp PASSWORD",
    };
    let mut text = format!(
        "{count} files written to {folder}\n\n\
         check:  {program} validate{there}\n\
         build:  {program} build{there} {secrets}\n\n\
         PASSWORD is root's on the image's console.\n"
    );
    if args.kind == Starter::Visa {
        text.push_str("KEY.pub is the public key (RSA, PEM) with which the platform's login tokens are checked.\n");
    }
    print(&text);
    Ok(())
}
