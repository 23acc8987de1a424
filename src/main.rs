//! The thin binary: argv and environment in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    visabuild::cli::run(std::env::args_os(), std::env::vars_os()).into()
}
