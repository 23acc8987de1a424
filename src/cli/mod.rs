//! The command line: the only place that reads arguments and the environment, prints, and knows
//! whether there is a terminal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches};

use crate::error::{Error, Kind, Result};
use crate::event::Subscriber;
use crate::report::{self, JsonLines, PlainLines, Terminal};
use args::{Cli, Command};
use cloud_args::{CloudArgs, PublishArgs};
use signals::Signals;

mod again;
mod args;
mod argv;
mod ask;
mod attach;
mod base_disk;
mod bills;
mod build;
mod build_upload;
mod cache;
mod cache_args;
mod cache_table;
mod cloud;
mod cloud_args;
mod doctor;
mod guest;
mod import;
mod init;
mod look;
mod manual;
mod packages;
mod packer;
mod packme;
mod packme_args;
mod plan;
mod project;
mod schema;
mod signals;
mod steps;
mod validate;
mod verify;
mod watch;
mod why;

/// The process environment, as far as it is text.
pub(crate) type Environment = BTreeMap<String, String>;

/// Runs the command line and returns the exit code (design: a contract).
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> u8 {
    let command = command_line();
    let argv = argv::normalize(argv, &command);
    let program = argv.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
    let mut cli = match command.clone().try_get_matches_from(argv).and_then(|matches| parsed(&command, &matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing can only fail when nobody reads.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let environment = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if let Command::Init(args) = &mut cli.command {
        // Found by its path it may not be found by its name.
        args.program = if program.contains('/') { program } else { "visabuild".to_owned() };
    }
    let json = cli.command.json();
    match with_runtime(cli.command, &environment) {
        Ok(()) => 0,
        Err(error) => {
            show_error(&error, json);
            error.kind().exit_code()
        }
    }
}

/// What the command line says, and how it is said again.
fn parsed(command: &clap::Command, matches: &clap::ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    if let (Command::Build(args), Some((name, matches))) = (&mut cli.command, matches.subcommand())
        && let Some(command) = command.find_subcommand(name)
    {
        args.again = again::command_line(command, matches);
    }
    Ok(cli)
}

/// The commands and their options, complete.
fn command_line() -> clap::Command {
    let mut command = Cli::command().mut_subcommand("build", with_upload_only);
    command.build();
    command
}

/// Options of `upload` that `build` has too mean nothing there without `--upload`.
fn with_upload_only(build: clap::Command) -> clap::Command {
    let options = CloudArgs::augment_args(PublishArgs::augment_args(clap::Command::new("")));
    let ids: Vec<_> = options.get_arguments().map(|argument| argument.get_id().clone()).collect();
    ids.iter().fold(build, |build, id| build.mut_arg(id, |argument| argument.requires("upload")))
}

impl Command {
    fn json(&self) -> bool {
        match self {
            Self::Build(args) => args.project.json,
            Self::Validate(args) => args.json,
            Self::Plan(args) => args.project.json,
            Self::Why(args) => args.project.json,
            // Its standard output is the report and nothing else.
            Self::Verify(_) | Self::Cache(_) | Self::Sbom(_) | Self::Diff(_) | Self::ReleaseNote(_) => false,
            Self::Cloud(command) => command.json(),
            Self::Doctor(args) => args.json,
            Self::Packme(_) | Self::Import(_) | Self::Init(_) | Self::Schema { .. } => false,
            Self::Attach(_) | Self::Completions { .. } | Self::Man { .. } => false,
        }
    }
}

fn with_runtime(command: Command, environment: &Environment) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::host("cannot start").because(error))?;
    let result = runtime.block_on(async {
        let signals = Signals::listen()?;
        let result = match command {
            Command::Build(args) => build::run(*args, environment, &signals).await,
            Command::Validate(args) => validate::run(args, environment, &signals).await,
            Command::Plan(args) => plan::run(args, environment, &signals).await,
            Command::Why(args) => why::run(args, environment, &signals).await,
            Command::Verify(args) => verify::run(args, environment, &signals).await,
            Command::Sbom(args) => bills::sbom(&args),
            Command::Diff(args) => bills::diff(&args),
            Command::ReleaseNote(args) => bills::note(&args),
            Command::Cloud(command) => cloud::run(command, environment, &signals).await,
            Command::Attach(args) => attach::run(args, environment, &signals).await,
            Command::Cache(args) => cache::run(args, environment, &signals).await,
            Command::Packme(args) => packme::run(args, environment, &signals).await,
            Command::Import(args) => import::run(args, environment),
            Command::Doctor(args) => doctor::run(args, environment).await,
            Command::Init(args) => init::run(&args),
            Command::Schema { document } => schema::run(document),
            Command::Completions { shell } => {
                manual::completions(shell, command_line());
                Ok(())
            }
            Command::Man { name, output } => manual::man(name.as_deref(), output.as_deref(), &command_line()),
        };
        match (result, signals.received()) {
            // Whatever failed because of the signal, the signal is the reason.
            (Err(error), Some(kind)) => Err(error.context(signal_text(kind)).of_kind(kind)),
            (result, _) => result,
        }
    });
    // A blocking task (a lock that is waited for, say) must not hold the end up.
    runtime.shutdown_background();
    result
}

fn signal_text(kind: Kind) -> &'static str {
    if kind == Kind::Terminated { "terminated" } else { "interrupted" }
}

fn show_error(error: &Error, json: bool) {
    let stderr = io::stderr();
    let text = report::render(error, stderr.is_terminal());
    // Printing can only fail when nobody reads.
    let _ = stderr.lock().write_all(text.as_bytes());
    if json {
        let _ = writeln!(io::stdout(), "{}", report::render_json(error));
    }
}

/// Who shows what happens: JSON lines on standard output where they are asked for, and people what standard error
/// can show them.
fn subscribers(json: bool) -> Vec<Box<dyn Subscriber>> {
    let mut subscribers: Vec<Box<dyn Subscriber>> = Vec::new();
    if json {
        subscribers.push(Box::new(JsonLines::new(io::stdout())));
    }
    if io::stderr().is_terminal() {
        subscribers.push(Box::new(Terminal::new()));
    } else if !json {
        subscribers.push(Box::new(PlainLines::new(io::stderr())));
    }
    subscribers
}

/// Prints a result on standard output; whoever reads may have gone.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The cache folder: `$XDG_CACHE_HOME/visabuild`, or `~/.cache/visabuild` (XDG Base Directory
/// Specification 0.8: a relative path there is ignored).
pub(crate) fn cache_folder(environment: &Environment) -> Result<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("visabuild"))
        .ok_or_else(|| Error::host("neither XDG_CACHE_HOME nor HOME names a folder for the cache"))
}
