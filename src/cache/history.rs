//! What images were made of, to say what changed, and how long the parts of a build took, to say how long the next
//! one takes.
//!
//! ```text
//! inputs/records/KEY.json   what the newest image of a template of a project was made of
//! inputs/times/KEY.json     how long its steps and phases took last
//! inputs/blobs/SHA256       contents of small text files that records name
//! ```
//!
//! KEY is made of the template's name and the project's folder. Nothing here is a secret's value: records have
//! placeholders and HMACs, and files that are secrets are not in them. It is no loss if any of it is lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Cache, replace_file};
use crate::checksum::hex;
use crate::error::{Context, Kind, Result};
use crate::plan::{InputFile, Record};

/// Largest file whose content is kept, bytes.
const LARGEST: u64 = 256 * 1024;

/// Times that are remembered of a template; the oldest are forgotten.
const REMEMBERED: usize = 400;

/// How long a content that no record names stays: a record that names it may be about to be written.
const UNNAMED: Duration = Duration::from_secs(24 * 3600);

/// The history of one project's templates.
#[derive(Debug, Clone)]
pub struct History {
    folder: PathBuf,
    project: String,
}

/// Which share of a stage's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// The making of the base disk.
    Base,
    /// The provisioning of the layer.
    Layer,
    /// The seal, up to the finished image.
    Seal,
    /// The proof of its contract.
    Verification,
}

/// How long the parts of a template's build took when they were done last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    times: Vec<Time>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Time {
    share: Share,
    name: String,
    /// What the step is, whatever lies below it; none of what is not a step.
    step: Option<String>,
    seconds: f64,
}

impl Cache {
    /// The history of the project in `folder`.
    pub fn history(&self, folder: &Path) -> History {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        History { folder: self.root().join("inputs"), project: short(folder.as_os_str().as_encoded_bytes()) }
    }
}

impl History {
    /// What the newest image of `template` in this project was made of; of a project that was never built, what the
    /// newest of that name elsewhere was.
    pub fn newest(&self, template: &str) -> Option<Record> {
        let mut elsewhere: Vec<Record> = Vec::new();
        let own = self.read(&self.path("records", template));
        if own.is_none() {
            elsewhere = self.of_others("records", template);
            elsewhere.retain(Record::is_known);
        }
        own.filter(Record::is_known).or_else(|| elsewhere.into_iter().max_by_key(|record| record.facts.created))
    }

    /// Whether it is kept what an image of `template` in this project was made of.
    pub fn has(&self, template: &str) -> bool {
        self.path("records", template).is_file()
    }

    /// Keeps what an image was made of, with the contents of `files`.
    ///
    /// # Errors
    /// It cannot be written (kind host).
    pub fn keep<'f>(&self, record: &Record, files: impl Iterator<Item = &'f InputFile>) -> Result<()> {
        let fail = || format!("cannot keep in the cache what {} was made of", record.template);
        for file in files {
            self.keep_content(file).context(Kind::Host, fail)?;
        }
        let json = serde_json::to_vec(record).context(Kind::Host, fail)?;
        replace_file(&self.path("records", &record.template), &json, 0o600).context(Kind::Host, fail)?;
        self.sweep();
        Ok(())
    }

    /// The content that has this SHA-256, where it was text and small.
    pub fn content(&self, sha256: &str) -> Option<String> {
        fs::read_to_string(self.blob(sha256)?).ok()
    }

    /// How long the parts of `template` took when they were done last.
    pub fn times(&self, template: &str) -> Times {
        self.read(&self.path("times", template))
            .or_else(|| self.of_others("times", template).into_iter().next())
            .unwrap_or_default()
    }

    /// Keeps how long a part took; `step` says which step it is, whatever lies below it.
    ///
    /// # Errors
    /// It cannot be written (kind host).
    pub fn took(&self, template: &str, share: Share, (name, step): (&str, Option<String>), seconds: f64) -> Result<()> {
        let fail = || format!("cannot keep in the cache how long {template} took");
        let mut times: Times = self.read(&self.path("times", template)).unwrap_or_default();
        let time = Time { share, name: name.to_owned(), step, seconds };
        let same = |other: &Time| (&other.share, &other.name, &other.step) == (&time.share, &time.name, &time.step);
        times.times.retain(|other| !same(other));
        times.times.push(time);
        let excess = times.times.len().saturating_sub(REMEMBERED);
        times.times.drain(..excess);
        let json = serde_json::to_vec(&times).context(Kind::Host, fail)?;
        replace_file(&self.path("times", template), &json, 0o600).context(Kind::Host, fail)
    }

    fn path(&self, kind: &str, template: &str) -> PathBuf {
        self.folder.join(kind).join(format!("{}-{}.json", short(template.as_bytes()), self.project))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn of_others<T: DeserializeOwned>(&self, kind: &str, template: &str) -> Vec<T> {
        let prefix = format!("{}-", short(template.as_bytes()));
        let entries = fs::read_dir(self.folder.join(kind)).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let mut paths: Vec<_> = named.map(|entry| entry.path()).collect();
        paths.sort_by_key(|path| std::cmp::Reverse(modified(path)));
        paths.iter().filter_map(|path| self.read(path)).collect()
    }

    fn blob(&self, sha256: &str) -> Option<PathBuf> {
        let is_name = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_name.then(|| self.folder.join("blobs").join(sha256))
    }

    fn keep_content(&self, file: &InputFile) -> io::Result<()> {
        let Some(blob) = self.blob(&file.sha256) else { return Ok(()) };
        if let Ok(there) = File::open(&blob) {
            // A sweep by another build takes it for new then.
            return there.set_modified(SystemTime::now());
        }
        let Some(text) = small_text(&file.path) else { return Ok(()) };
        // It may have been changed since the plan was made.
        if hex(&Sha256::digest(text.as_bytes())) != file.sha256 {
            return Ok(());
        }
        replace_file(&blob, text.as_bytes(), 0o600)
    }

    /// Removes contents that no record names any more. What cannot be read or removed stays.
    fn sweep(&self) {
        let records = fs::read_dir(self.folder.join("records")).into_iter().flatten().flatten();
        let records = records.filter_map(|entry| self.read::<Record>(&entry.path()));
        let named: BTreeSet<String> =
            records.flat_map(|record| record.parts).flat_map(|part| part.files).map(|file| file.sha256).collect();
        for blob in fs::read_dir(self.folder.join("blobs")).into_iter().flatten().flatten() {
            let age = modified(&blob.path()).and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if age > UNNAMED && !named.contains(&*blob.file_name().to_string_lossy()) {
                let _ = fs::remove_file(blob.path());
            }
        }
    }
}

impl Times {
    /// Takes what an earlier build wrote down elsewhere, where nothing is remembered of that share: whether it is a
    /// step, its name, seconds.
    pub fn fill_in(&mut self, share: Share, times: impl Iterator<Item = (bool, String, f64)>) {
        if !self.times.iter().any(|time| time.share == share) {
            let time = |(is_step, name, seconds): (bool, String, f64)| Time {
                share,
                name,
                step: is_step.then(String::new),
                seconds,
            };
            self.times.extend(times.map(time));
        }
    }

    /// How long a step took: this very one, else one of its name.
    pub fn step(&self, share: Share, name: &str, step: &str) -> Option<f64> {
        let of_share = || self.times.iter().rev().filter(move |time| time.share == share);
        let same = of_share().find(|time| time.step.as_deref() == Some(step));
        same.or_else(|| of_share().find(|time| time.step.is_some() && time.name == name)).map(|time| time.seconds)
    }

    /// How long all that took that is not a step and whose name `counts`, seconds; none if it was never done.
    pub fn rest(&self, share: Share, counts: impl Fn(&str) -> bool) -> Option<f64> {
        let of_share = self.times.iter().filter(|time| time.share == share && time.step.is_none());
        let rest = of_share.filter(|time| counts(&time.name));
        rest.map(|time| time.seconds).reduce(|a, b| a + b)
    }
}

/// The content of a file that people can read in a diff.
pub fn small_text(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LARGEST + 1).read_to_end(&mut text).ok()?;
    let small = text.len() as u64 <= LARGEST && !text.contains(&0);
    small.then(|| String::from_utf8(text).ok()).flatten()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn short(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_known_by_what_it_does_then_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let history = Cache::open(folder.path()).unwrap().history(folder.path());
        let took = |share, name: &str, step: Option<&str>, seconds| {
            history.took("t", share, (name, step.map(str::to_owned)), seconds).unwrap();
        };
        took(Share::Layer, "set -e", Some("one"), 1.0);
        took(Share::Layer, "set -e", Some("two"), 2.0);
        took(Share::Layer, "boot", None, 10.0);
        took(Share::Layer, "boot", None, 11.0);
        took(Share::Layer, "power off", None, 0.5);
        took(Share::Seal, "seal", None, 3.0);
        let times = history.times("t");
        assert_eq!(times.step(Share::Layer, "set -e", "one"), Some(1.0));
        assert_eq!(times.step(Share::Layer, "set -e", "three"), Some(2.0));
        assert_eq!(times.step(Share::Seal, "set -e", "one"), None);
        assert_eq!((times.rest(Share::Layer, |_| true), times.rest(Share::Base, |_| true)), (Some(11.5), None));
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Cache::open(folder.path()).unwrap().history(elsewhere.path());
        assert_eq!(other.times("t"), times);
        assert_eq!(other.times("u"), Times::default());
    }

    #[test]
    fn a_torn_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let history = Cache::open(folder.path()).unwrap().history(folder.path());
        fs::write(history.path("records", "t"), "{\"version\":").unwrap();
        fs::write(history.path("times", "t"), "{").unwrap();
        assert!(history.newest("t").is_none());
        assert_eq!(history.times("t"), Times::default());
    }

    #[test]
    fn only_small_texts_are_kept_and_nobody_else_reads_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let history = Cache::open(folder.path()).unwrap().history(folder.path());
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            let sha256 = hex(&Sha256::digest(content));
            InputFile { name: name.to_owned(), sha256, executable: false, shown: name.to_owned(), path }
        };
        let text = file("text", b"echo\n");
        let (binary, large) = (file("binary", &[0, 1]), file("large", &vec![b'a'; 300_000]));
        for file in [&text, &binary, &large] {
            history.keep_content(file).unwrap();
        }
        assert_eq!(history.content(&text.sha256).as_deref(), Some("echo\n"));
        assert_eq!((history.content(&binary.sha256), history.content(&large.sha256)), (None, None));
        let mode = fs::metadata(history.blob(&text.sha256).unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(history.blob("../../etc/passwd").is_none());
    }
}
