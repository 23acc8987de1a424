//! Which builds are running.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::record::{ENDING, Record};
use crate::error::{Error, Result};

/// The machines of running builds below the cache folder `root`, in the order of their start. What cannot be read is
/// left out: it is another user's or another visabuild's, or has just ended.
pub fn running(root: &Path) -> Vec<Record> {
    let folders = fs::read_dir(root.join("work")).into_iter().flatten().flatten();
    let mut found: Vec<Record> = folders.flat_map(|folder| living(&folder.path())).collect();
    found.sort_by(|a, b| (a.started, &a.build).cmp(&(b.started, &b.build)));
    found
}

/// The records of the run with this working folder, if it lives.
fn living(folder: &Path) -> Vec<Record> {
    let records = records(folder);
    // A build that is just being started takes its lock before it writes a record: looking at the lock only where there
    // is one never gets into its way.
    if records.is_empty() || !is_locked(folder) { Vec::new() } else { records }
}

/// The records in a working folder.
pub(super) fn records(folder: &Path) -> Vec<Record> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let records = files.filter(|file| file.file_name().to_string_lossy().ends_with(ENDING));
    records.filter_map(|file| Record::read(&file.path()).ok()).collect()
}

/// Whether the run that owns a working folder lives. Shared, so that two who look do not take each other for it.
fn is_locked(folder: &Path) -> bool {
    let lock = File::open(folder.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The machine that is meant: by its build's name, template or run's id, by what it is for, or the only one.
///
/// # Errors
/// None runs (kind host: the call is right, but there is nothing that it could do now); the name fits none or several,
/// or several run (kind usage).
pub fn choose(mut running: Vec<Record>, name: Option<&str>) -> Result<Record> {
    if running.is_empty() {
        return Err(Error::host("no build is running")
            .hint("start one with `visabuild build`; a machine can be looked at from its start to its end")
            .hint("builds are found in the cache folder: XDG_CACHE_HOME must be that of the build"));
    }
    let fits = |record: &Record| name.is_none_or(|name| record.is_called(name));
    let fitting = running.iter().filter(|record| fits(record)).count();
    match (fitting, name) {
        (1, _) => Ok(running.swap_remove(running.iter().position(fits).unwrap_or_default())),
        (0, Some(name)) => Err(list(Error::usage(format!("no build `{name}` is running")), &running)),
        _ => {
            let fitting: Vec<Record> = running.into_iter().filter(fits).collect();
            let builds: BTreeSet<&String> = fitting.iter().map(|record| &record.build).collect();
            // A build verifies in several machines at a time.
            let text = match builds.len() {
                1 => format!("{} machines of one build are running: name the one that is meant", fitting.len()),
                builds => format!("{builds} builds are running: name the one that is meant"),
            };
            Err(list(Error::usage(text), &fitting))
        }
    }
}

fn list(error: Error, running: &[Record]) -> Error {
    running.iter().fold(error, |error, record| error.hint(record.to_string()))
}

impl Record {
    /// Whether `name` means this machine: its build by one of its names, what it is for, or both.
    pub fn is_called(&self, name: &str) -> bool {
        let both = name.split_once('/').is_some_and(|(build, purpose)| self.is_build(build) && self.purpose == purpose);
        self.is_build(name) || self.purpose == name || both
    }

    fn is_build(&self, name: &str) -> bool {
        [&self.build, &self.template, &self.run].into_iter().any(|own| own == name)
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { build, purpose, output, .. } = self;
        let age = humantime::format_duration(self.age());
        write!(f, "{build}  ({purpose}, into {}, for {age})", output.display())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recorded;
    use super::*;
    use crate::cache::{Cache, WorkFolder};
    use crate::error::Kind;

    fn recorded(work: &Path, template: &str) -> Recorded {
        let mut recorded = Recorded::new(work, Path::new("/out"), template, "layer");
        recorded.running(None).unwrap();
        recorded
    }

    #[test]
    fn builds_are_found_while_they_run() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let find = || running(cache.root());
        assert_eq!(choose(find(), None).unwrap_err().kind(), Kind::Host);
        let (one, _) = WorkFolder::new(&cache).unwrap();
        let first = recorded(one.path(), "tiny");
        let only = choose(find(), None).unwrap();
        assert_eq!((only.template.as_str(), find().len()), ("tiny", 1));
        let (two, _) = WorkFolder::new(&cache).unwrap();
        let _second = recorded(two.path(), "tiny");
        for name in [None, Some("tiny")] {
            let error = choose(find(), name).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert_eq!(error.to_string(), "2 builds are running: name the one that is meant");
            assert!(error.hints()[0].starts_with("tiny-") && error.hints()[0].contains("(layer, into /out, for "));
        }
        let both = format!("{}/layer", only.run);
        for name in [&only.build, &only.run, &both] {
            assert_eq!(choose(find(), Some(name)).unwrap(), only);
        }
        assert_eq!(choose(find(), Some("other")).unwrap_err().to_string(), "no build `other` is running");
        let mut verified = Recorded::new(one.path(), Path::new("/out"), "tiny", "verify-uefi");
        verified.running(None).unwrap();
        assert_eq!(choose(find(), Some("verify-uefi")).unwrap().run, only.run);
        let error = choose(find(), Some(&only.run)).unwrap_err();
        assert_eq!(error.to_string(), "2 machines of one build are running: name the one that is meant");
        drop(verified);
        drop(first);
        assert_eq!(find().len(), 1);
    }

    #[test]
    fn what_a_killed_build_left_is_no_build() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (work, _) = WorkFolder::new(&cache).unwrap();
        let _recorded = recorded(work.path(), "tiny");
        let left = cache.root().join("work/run-killed");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("lock"), "").unwrap();
        fs::copy(work.path().join("tiny.layer.machine.json"), left.join("tiny.layer.machine.json")).unwrap();
        fs::write(work.path().join("other.seal.machine.json"), "of another visabuild").unwrap();
        assert_eq!(running(cache.root()).len(), 1);
    }
}
