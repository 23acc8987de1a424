//! What a download must be: the checksum itself, or the line of a list that may be signed.

use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::checksum::{Checksum, Digest, Signature};
use super::checksum_list::ChecksumList;
use super::partial::Partial;
use super::place::Place;
use super::store::key;
use super::transfer::{Outcome, Transfer};
use super::{Downloader, Refusal, Request, Task, credentials_free};
use crate::error::{Context, Error, Kind, Result};
use crate::process::Run;

/// Lists are small; what is bigger is something else.
const LONGEST_LIST: u64 = 8 << 20;

impl Downloader {
    /// The checksum that the file must have; none if it may be anything.
    pub(super) async fn expected(&self, request: &Request, task: Task<'_>) -> Result<Option<Digest>> {
        match &request.checksum {
            Checksum::None => Ok(None),
            Checksum::Digest(digest) => Ok(Some(digest.clone())),
            Checksum::List { place, signature } => {
                self.listed(place, signature.as_ref(), &request.places, task).await.map(Some)
            }
        }
    }

    /// What the list says; if it cannot be had, what it said the last time.
    async fn listed(
        &self,
        list: &Place,
        signature: Option<&Signature>,
        files: &[Place],
        task: Task<'_>,
    ) -> Result<Digest> {
        // A list names files of many folders, and many of them alike.
        let named: Vec<String> =
            std::iter::once(list).chain(files).map(|place| credentials_free(&full(place))).collect();
        let record = key("list", &crate::checksum::hex(&sha2::Sha256::digest(named.join("\n"))));
        let text = match self.list_text(list, signature, task).await {
            Ok(text) => text,
            Err(Refusal::Fatal(error)) => return Err(error),
            Err(Refusal::Place(cause)) => {
                let known = self.store.read::<String>(&record).and_then(|text| Digest::parse(&text).ok());
                let Some(digest) = known else {
                    return Err(Error::host(format!("cannot get the checksum list {list}"))
                        .because(cause)
                        .hint("give the checksum itself as `sha256:HEX`"));
                };
                if !self.offline {
                    let text = format!("the checksum list {list} {cause}: `{}` must be what it said last", task.name);
                    task.phase.events().warn(Some(task.phase.template()), text);
                }
                return Ok(digest);
            }
        };
        let checksums = ChecksumList::parse(&text);
        let mut refused = None;
        for file in files {
            match checksums.checksum_of(file) {
                Ok(digest) => {
                    self.store.write(&record, &digest.to_string())?;
                    return Ok(digest);
                }
                Err(cause) => drop(refused.get_or_insert(cause)),
            }
        }
        let error = Error::usage(format!("the checksum list {list} does not tell the checksum of `{}`", task.name));
        Err(error.because(refused.unwrap_or_default()))
    }

    /// The text of the list, as far as it is signed where it must be.
    async fn list_text(&self, list: &Place, signature: Option<&Signature>, task: Task<'_>) -> Result<String, Refusal> {
        let file = self.small_file(list, task).await?;
        let Some(signature) = signature else { return Ok(read(&file.path)?) };
        let detached = match &signature.place {
            Some(place) => Some(self.small_file(place, task).await?),
            None => None,
        };
        let detached = detached.as_ref().map(|file| file.path.as_path());
        let text = verified(&file.path, detached, &signature.keyring, task).await;
        Ok(text.map_err(|error| error.context(format!("the checksum list {list} is not signed as it must be")))?)
    }

    async fn small_file(&self, place: &Place, task: Task<'_>) -> Result<SmallFile, Refusal> {
        let url = match place {
            Place::File(path) => {
                std::fs::metadata(path).map_err(|error| Refusal::because(error.to_string()))?;
                return Ok(SmallFile { path: path.clone(), temporary: None });
            }
            Place::Http(_) if self.offline => return Err(Refusal::offline()),
            Place::Http(url) => url,
        };
        let key = key("text", url.as_str());
        let lock = self.store.lock(&key, task).await?;
        let partial = self.store.partial(&key);
        // The server may have another one by now.
        partial.discard();
        let limit = Some(LONGEST_LIST);
        let (client, policy) = (&self.client, &self.policy);
        let transfer = Transfer { client, policy, url, partial: &partial, checked: false, known: None, limit, task };
        match transfer.run().await? {
            Outcome::Complete { .. } => {}
            Outcome::NotModified => return Err(Refusal::because("answers 304 unasked")),
        }
        Ok(SmallFile { path: partial.path().to_owned(), temporary: Some((partial, lock)) })
    }
}

/// A list or a signature; a downloaded one is removed with this value.
struct SmallFile {
    path: PathBuf,
    temporary: Option<(Partial, std::fs::File)>,
}

impl Drop for SmallFile {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.temporary {
            partial.discard();
        }
    }
}

fn full(place: &Place) -> String {
    place.url().map_or_else(|| place.to_string(), ToString::to_string)
}

fn read(path: &Path) -> Result<String> {
    // Names in old lists may have any encoding.
    let bytes = std::fs::read(path).context(Kind::Host, || format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of `list` that a key of `keyring` has signed, as gpgv(1) says: all of it with a detached signature, and
/// only what stands between the armour's lines without.
async fn verified(list: &Path, detached: Option<&Path>, keyring: &Path, task: Task<'_>) -> Result<String> {
    let folder = tempfile::tempdir().context(Kind::Host, || "cannot make a temporary folder")?;
    let signed = folder.path().join(crate::checksum::hex(&sha2::Sha256::digest(task.name)));
    let keyring = std::path::absolute(keyring).context(Kind::Usage, || "the keyring's path cannot be used")?;
    let mut arguments = vec!["--status-fd=1".into(), "--keyring".into(), keyring.into_os_string()];
    match detached {
        Some(signature) => arguments.push(signature.as_os_str().to_owned()),
        None => arguments.extend(["--output".into(), signed.as_os_str().to_owned()]),
    }
    arguments.push(list.as_os_str().to_owned());
    let (mut good, mut bad) = (false, false);
    let run = Run::new("gpgv", arguments).lines(task.cancel, |_, line| {
        good |= line.starts_with("[GNUPG:] GOODSIG ");
        bad |= line.starts_with("[GNUPG:] BADSIG ");
    });
    match run.await {
        Err(error) if error.kind() != Kind::Build => Err(error),
        // Signatures by further keys, which are not in the keyring, make gpgv fail.
        _ if good && !bad => read(if detached.is_some() { list } else { &signed }),
        Err(error) => Err(error.of_kind(Kind::Host)),
        Ok(()) => Err(Error::host("gpgv found no good signature")),
    }
}
