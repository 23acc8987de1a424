//! What is left for the user: logs after success, a report after a failure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Context, session};
use crate::cache::publish_file;
use crate::engine::Engine;
use crate::error::Error;
use crate::machine;
use crate::plan::Stage;
use crate::report::{self, TemplateLogs};

/// Bytes of the serial console that go into the report.
const SERIAL_TAIL: u64 = 64 * 1024;

/// Copies the logs of `stage` into `folder` as `build.log` and `serial.log`, and removes the
/// report of an earlier failure.
pub(super) fn publish_logs(context: &Context<'_>, stage: &Stage, folder: &Path) -> io::Result<()> {
    copy(&TemplateLogs::path(&context.work, &stage.name), &folder.join("build.log"))?;
    copy(&session::serial_log(&context.work, &stage.name), &folder.join("serial.log"))?;
    match fs::remove_dir_all(folder.join("failure")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes `failure/` beside the results of `stage`, whose earlier image stays as it is: `reason.txt`,
/// `build.log`, `serial.log` (its end), `screen.png` and `command.txt` where there was a machine.
/// Nothing is written when the build was stopped before anything was done.
pub(super) fn report(context: &Context<'_>, stage: &Stage, error: &Error) -> io::Result<Option<PathBuf>> {
    let log = TemplateLogs::path(&context.work, &stage.name);
    if !log.is_file() {
        return Ok(None);
    }
    let folder = context.settings.results.folder(stage).join("failure");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let reason = context.events.redact(&report::render(error, false));
    fs::write(folder.join("reason.txt"), reason)?;
    copy(&log, &folder.join("build.log"))?;
    let serial = session::serial_log(&context.work, &stage.name);
    if serial.is_file() {
        fs::write(folder.join("serial.log"), machine::log_tail(&serial, SERIAL_TAIL)?)?;
    }
    for name in ["screen.png", "command.txt"].into_iter().chain(super::verification::SUFFIXES) {
        copy(&context.work.join(format!("{}.{name}", stage.name)), &folder.join(name))?;
    }
    Ok(Some(folder))
}

/// How to look at the disk of a failed build that was kept.
pub(super) fn how_to_boot(work: &Path, engine: Engine) -> String {
    match engine {
        Engine::Qemu => format!("{} (command.txt in `failure/` has QEMU's command line)", work.display()),
        Engine::Nspawn => format!("the qcow2 in {}; QEMU boots it", work.display()),
    }
}

/// Copies a file that may not be there.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_file() {
        return Ok(());
    }
    let beside = crate::cache::beside(to);
    fs::copy(from, &beside)?;
    publish_file(&beside, to)
}
