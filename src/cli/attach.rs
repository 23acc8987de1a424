//! `visabuild attach`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::args::{AttachArgs, AttachWay, BuildName};
use super::signals::Signals;
use super::{Environment, cache_folder, print};
use crate::attach::{self, End, Record, Screen, Ssh};
use crate::boot_command::{Address, Vnc};
use crate::error::{Context, Error, Kind, Result};
use crate::preflight::tools;

/// Viewers of VNC, in the order in which they are taken, and how each is told where.
const VIEWERS: [(&str, Spelling); 4] = [
    ("remote-viewer", Spelling::Url),
    ("vncviewer", Spelling::DoubleColon),
    ("xtigervncviewer", Spelling::DoubleColon),
    ("vinagre", Spelling::Url),
];

/// How a viewer is told the address.
#[derive(Clone, Copy)]
enum Spelling {
    Url,
    DoubleColon,
}

/// Looks into a running build; without a way, says which builds are running.
pub(super) async fn run(args: AttachArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let running = attach::running(&cache_folder(environment)?);
    let choose = |build: &BuildName| attach::choose(running.clone(), build.build.as_deref());
    match args.way {
        None => list(running),
        Some(AttachWay::Vnc(build)) => vnc(&choose(&build)?, environment),
        Some(AttachWay::Serial(build)) => serial(&choose(&build)?, signals).await,
        Some(AttachWay::Ssh { build, command }) => ssh(&choose(&build)?, &command, environment),
        Some(AttachWay::Screenshot { words }) => {
            let (build, file) = picture_words(&running, words)?;
            screenshot(&attach::choose(running, build.as_deref())?, file, signals.cancel()).await
        }
    }
}

/// What runs, one build a line.
fn list(running: Vec<Record>) -> Result<()> {
    if running.is_empty() {
        return attach::choose(running, None).map(drop);
    }
    let lines: String = running.iter().map(|record| format!("{record}\n")).collect();
    print(&lines);
    Ok(())
}

/// Says where the screen is, and becomes a viewer where there is one and a display for it.
fn vnc(record: &Record, environment: &Environment) -> Result<()> {
    let screen = screen(record)?;
    print(&format!("{}\n", screen.url));
    let set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    if !set("DISPLAY") && !set("WAYLAND_DISPLAY") {
        return Ok(());
    }
    let search = OsString::from(environment.get("PATH").map(String::as_str).unwrap_or_default());
    let viewer = VIEWERS.iter().find_map(|(name, spelling)| Some((tools::find(name, &search)?, *spelling)));
    let Some((viewer, spelling)) = viewer else { return Ok(()) };
    let mut command = Command::new(viewer);
    command.arg(match spelling {
        Spelling::Url => screen.url.clone(),
        Spelling::DoubleColon => double_colon(&screen.url),
    });
    become_program(command).map(|never| match never {})
}

/// `ADDRESS::PORT`, which tells a port from the number of a display.
fn double_colon(url: &str) -> String {
    let address = url.trim_start_matches("vnc://");
    address.rsplit_once(':').map_or_else(|| address.to_owned(), |(host, port)| format!("{host}::{port}"))
}

fn screen(record: &Record) -> Result<&Screen> {
    record.screen.as_ref().ok_or_else(|| {
        Error::usage(format!("the machine of `{}` is a container: it has no screen", record.build))
            .hint("`visabuild attach serial` and `visabuild attach ssh` show it")
    })
}

/// Shows what the serial console says. Ctrl-C is the ordinary end of that.
async fn serial(record: &Record, signals: &Signals) -> Result<()> {
    let end = attach::follow(record, &mut io::stdout(), signals.cancel()).await?;
    match (end, signals.received()) {
        (End::Cancelled, Some(Kind::Terminated)) => Err(Error::new(Kind::Terminated, "stopped")),
        (End::Machine, _) => {
            // Not among what the guest has said.
            let _ = writeln!(io::stderr(), "the machine of `{}` has ended", record.build);
            Ok(())
        }
        (End::Cancelled | End::Reader, _) => Ok(()),
    }
}

/// Becomes the SSH client, with the build's key and the host key that the build knows.
fn ssh(record: &Record, words: &[OsString], environment: &Environment) -> Result<()> {
    let Some(way) = &record.ssh else {
        return Err(match record.purpose.as_str() {
            "install" => Error::host(format!("`{}` is being installed: the way in is made later", record.build)),
            _ => Error::host(format!("the guest of `{}` has not let the build in yet", record.build)),
        }
        .hint("`visabuild attach serial` and `visabuild attach vnc` show what it does"));
    };
    let search = OsString::from(environment.get("PATH").map(String::as_str).unwrap_or_default());
    let find = |program: &str| {
        tools::find(program, &search)
            .ok_or_else(|| Error::host(format!("`{program}` is not installed")).hint("install it and try again"))
    };
    let client = find("ssh")?;
    let mut command = match &way.name_space {
        None => Command::new(client),
        Some(name_space) => {
            let mut command = Command::new(find("nsenter")?);
            let mut net = OsString::from("--net=");
            net.push(name_space);
            command.arg(net).arg("--").arg(client);
            command
        }
    };
    command.args(ssh_arguments(way)).args(words);
    become_program(command).map(|never| match never {})
}

/// ssh(1)'s arguments up to the command. Nothing of the user's own configuration matters.
fn ssh_arguments(way: &Ssh) -> Vec<OsString> {
    let option = |name: &str, value: &str| [OsString::from("-o"), format!("{name}={value}").into()];
    let mut arguments: Vec<OsString> = vec!["-F".into(), "none".into()];
    arguments.extend(option("IdentityFile", &quoted(&way.key)));
    arguments.extend(option("IdentitiesOnly", "yes"));
    arguments.extend(option("UserKnownHostsFile", &quoted(&way.known_hosts)));
    arguments.extend(option("GlobalKnownHostsFile", "none"));
    arguments.extend(option("HostKeyAlias", Ssh::ALIAS));
    arguments.extend(option("StrictHostKeyChecking", "yes"));
    arguments.extend(["-p".into(), way.port.to_string().into()]);
    arguments.extend(["-l".into(), way.user.clone().into(), way.host.clone().into()]);
    arguments
}

/// A path as ssh_config(5) reads it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// Runs `command` in visabuild's place: the terminal, its signals and the exit code are its own.
fn become_program(mut command: Command) -> Result<Infallible> {
    let error = command.exec();
    Err(Error::host(format!("cannot run `{}`", Path::new(command.get_program()).display())).because(error))
}

/// Which build and which file `attach screenshot` means: one word that names a running build, or could not be a file's
/// name, is the build.
fn picture_words(running: &[Record], words: Vec<String>) -> Result<(Option<String>, Option<PathBuf>)> {
    let mut words = words.into_iter();
    Ok(match (words.next(), words.next()) {
        (Some(build), Some(file)) => (Some(build), Some(file.into())),
        (Some(word), None) => {
            let named = running.iter().any(|record| record.is_called(&word));
            if !named && (word == "-" || word.contains(['.', '/'])) {
                (None, Some(word.into()))
            } else {
                (Some(word), None)
            }
        }
        (None, _) => (None, None),
    })
}

/// Writes the screen as PNG, as any viewer would see it.
async fn screenshot(record: &Record, file: Option<PathBuf>, cancel: &CancellationToken) -> Result<()> {
    let screen = screen(record)?;
    let address = screen.url.parse::<Address>()?;
    let password = screen.password.clone().map(SecretString::from);
    // It is not the build that failed, and trying again may help.
    let here = |error: Error| if error.kind() == Kind::Build { error.of_kind(Kind::Host) } else { error };
    let vnc = Vnc::connect(&address, password.as_ref(), cancel).await.map_err(here)?;
    let png = vnc.screen().png().map_err(here)?;
    let file = file.unwrap_or_else(|| format!("{}.png", record.build).into());
    if file == Path::new("-") {
        return io::stdout().write_all(&png).context(Kind::Host, || "writing the picture");
    }
    // In place: it may be a device or a link.
    fs::write(&file, &png).map_err(|error| {
        Error::usage(format!("cannot write the picture {}", file.display()))
            .because(error)
            .hint("name a file in a folder that you may write to, or `-` for standard output")
    })?;
    print(&format!("{}\n", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            build: "tiny-Ab12Cd".into(),
            template: "tiny".into(),
            run: "Ab12Cd".into(),
            purpose: "layer".into(),
            output: "/out".into(),
            pid: 1,
            started: 0,
            serial: "/build/tiny.layer.serial.raw".into(),
            screen: None,
            ssh: None,
        }
    }

    #[test]
    fn a_word_is_a_file_or_a_build() {
        let words = |words: &[&str]| {
            let (build, file) = picture_words(&[record()], words.iter().map(ToString::to_string).collect()).unwrap();
            (build.unwrap_or_default(), file.unwrap_or_default().display().to_string())
        };
        for (given, build, file) in [
            (&[][..], "", ""),
            (&["tiny"], "tiny", ""),
            (&["Ab12Cd"], "Ab12Cd", ""),
            (&["other"], "other", ""),
            (&["-"], "", "-"),
            (&["shot.png"], "", "shot.png"),
            (&["tiny", "out"], "tiny", "out"),
        ] {
            assert_eq!(words(given), (build.to_owned(), file.to_owned()), "{given:?}");
        }
    }

    #[test]
    fn addresses_for_viewers() {
        assert_eq!(double_colon("vnc://127.0.0.1:5901"), "127.0.0.1::5901");
        assert_eq!(double_colon("vnc://[::1]:5901"), "[::1]::5901");
    }

    #[test]
    fn paths_are_quoted_for_ssh() {
        assert_eq!(quoted(Path::new("/my cache/50%/key")), "\"/my cache/50%%/key\"");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let record = record();
        assert_eq!(screen(&record).unwrap_err().kind(), Kind::Usage);
        let error = ssh(&record, &[], &Environment::new()).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::Host, "the guest of `tiny-Ab12Cd` has not let the build in yet")
        );
    }
}
