//! One URL into a partial file: continued where it broke (RFC 9110, section 14), retried within reason.

use std::io;
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::partial::{Partial, Record, Validators};
use super::retry::{Retries, passing};
use super::store::{cancelled, url_key};
use super::{Policy, Refusal, Task};
use crate::disk_space;
use crate::error::{Error, Result};
use crate::preflight::reach;
use crate::report::size;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// One URL and the file that it goes to.
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) policy: &'a Policy,
    pub(super) url: &'a Url,
    pub(super) partial: &'a Partial,
    /// Whether a checksum is compared afterwards, so that pieces may be put together that only look alike.
    pub(super) checked: bool,
    /// The version that is in the cache already.
    pub(super) known: Option<&'a Validators>,
    /// The most that the file may have.
    pub(super) limit: Option<u64>,
    pub(super) task: Task<'a>,
}

/// What a transfer came to.
pub(super) enum Outcome {
    /// The partial file is complete; `continued` if it came in pieces.
    Complete { validators: Validators, continued: bool },
    /// The known version is the current one.
    NotModified,
}

/// Why an attempt failed.
enum Fault {
    /// Another one may do better: after so long, if the server said so.
    Passing(String, Option<Duration>),
    /// No attempt at this place will.
    Lasting(String),
    /// No place will.
    Fatal(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Transfer<'_> {
    /// Brings the whole file, in as many attempts as it takes and the policy allows.
    pub(super) async fn run(&self) -> Result<Outcome, Refusal> {
        let mut retries = Retries::new(self.policy);
        // A server without ranges begins anew each time: only what nobody had brought yet is progress.
        let mut most = self.partial.bytes();
        loop {
            let (cause, wish) = match self.attempt().await {
                Ok(outcome) => return Ok(outcome),
                Err(Fault::Fatal(error)) => return Err(Refusal::Fatal(error)),
                Err(Fault::Lasting(cause)) => return Err(Refusal::Place(cause)),
                Err(Fault::Passing(cause, wish)) => (cause, wish),
            };
            let came = self.partial.bytes().saturating_sub(most);
            most += came;
            let Some(pause) = retries.next(came, wish) else {
                let attempts = retries.failures();
                return Err(Refusal::Place(format!("{cause} (tried {attempts} times)")));
            };
            let events = self.task.phase.events();
            let text = format!("`{}`: {cause}; trying again in {:.1} s", self.task.name, pause.as_secs_f64());
            events.debug(Some(self.task.phase.template()), text);
            self.or_cancelled(tokio::time::sleep(pause)).await?;
        }
    }

    async fn attempt(&self) -> Result<Outcome, Fault> {
        let before = self.resumable();
        let request = self.request(before.as_ref());
        let answer = self.within_stall(request.send()).await?;
        let status = answer.status();
        let record = Record {
            url: url_key(self.url),
            validators: Validators::of(answer.headers()),
            total: answer.content_length(),
            continued: false,
        };
        match (status, before) {
            (StatusCode::PARTIAL_CONTENT, Some((at, before))) => {
                let total = self.continuation(answer.headers(), at, &before)?;
                self.receive(answer, at, Record { total: Some(total), continued: true, ..record }).await
            }
            (StatusCode::OK, _) => self.receive(answer, 0, record).await,
            (StatusCode::NOT_MODIFIED, _) if self.known.is_some() => Ok(Outcome::NotModified),
            (StatusCode::RANGE_NOT_SATISFIABLE, Some((at, before))) if before.total == Some(at) => {
                Ok(Outcome::Complete { validators: before.validators, continued: true })
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                self.partial.discard();
                Err(Fault::Passing("has another file now".to_owned(), Some(Duration::ZERO)))
            }
            (status, _) if passing(status) => {
                Err(Fault::Passing(format!("answers {status}"), retry_after(answer.headers())))
            }
            (status, _) => Err(Fault::Lasting(format!("answers {status}"))),
        }
    }

    /// What is there and can be continued. Without a checksum only what a strong entity tag vouches for.
    fn resumable(&self) -> Option<(u64, Record)> {
        let record = self.partial.record()?;
        let vouched = record.url == url_key(self.url) && record.validators.strong_etag().is_some();
        (self.checked || vouched).then(|| (self.partial.bytes(), record))
    }

    fn request(&self, before: Option<&(u64, Record)>) -> RequestBuilder {
        // Anything but the file's own bytes would make ranges and sizes wrong.
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((at, record)) = before {
            request = request.header(RANGE, format!("bytes={at}-"));
            // Tags and dates are one server's own (RFC 9110, section 13.1.5).
            let own = record.url == url_key(self.url);
            let validator = record.validators.strong_etag().or(record.validators.last_modified.as_deref());
            if let Some(validator) = validator.filter(|_| own) {
                request = request.header(IF_RANGE, validator);
            }
        } else if let Some(known) = self.known {
            if let Some(tag) = &known.etag {
                request = request.header(IF_NONE_MATCH, tag);
            } else if let Some(date) = &known.last_modified {
                request = request.header(IF_MODIFIED_SINCE, date);
            }
        }
        request
    }

    /// The size of the whole, if the answer continues what is there.
    fn continuation(&self, headers: &HeaderMap, at: u64, before: &Record) -> Result<u64, Fault> {
        let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(content_range);
        match range {
            Some((start, total)) if start == at && before.total.is_none_or(|known| known == total) => Ok(total),
            _ => {
                self.partial.discard();
                Err(Fault::Passing("does not continue the file that it began".to_owned(), Some(Duration::ZERO)))
            }
        }
    }

    async fn receive(&self, mut answer: Response, at: u64, record: Record) -> Result<Outcome, Fault> {
        self.check_room(record.total, at)?;
        let mut file = self.open(at).await?;
        self.partial.write_record(&record)?;
        let mut done = at;
        let mut told: Option<Instant> = None;
        let ended = loop {
            match self.within_stall(answer.chunk()).await {
                Ok(Some(bytes)) => {
                    file.write_all(&bytes).await.map_err(|error| self.disk_fault(error))?;
                    done += bytes.len() as u64;
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
            if self.limit.is_some_and(|limit| done > limit) {
                return Err(Fault::Lasting(format!("has more than {}", size(self.limit.unwrap_or_default()))));
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.task.phase.progress(done, record.total, "bytes");
                told = Some(Instant::now());
            }
        };
        file.flush().await.map_err(|error| self.disk_fault(error))?;
        self.task.phase.progress(done, record.total, "bytes");
        ended?;
        match record.total {
            Some(total) if total != done => {
                Err(Fault::Passing(format!("broke off after {done} of {total} bytes"), None))
            }
            _ => Ok(Outcome::Complete { validators: record.validators, continued: record.continued }),
        }
    }

    /// The partial file, cut to `at` bytes.
    async fn open(&self, at: u64) -> Result<File, Fault> {
        let open = async {
            let path = self.partial.path();
            let mut file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path).await?;
            file.set_len(at).await?;
            io::Result::map(tokio::io::AsyncSeekExt::seek(&mut file, io::SeekFrom::End(0)).await, |_| file)
        };
        open.await.map_err(|error| self.disk_fault(error))
    }

    fn check_room(&self, total: Option<u64>, at: u64) -> Result<(), Fault> {
        if let (Some(limit), Some(total)) = (self.limit, total)
            && total > limit
        {
            return Err(Fault::Lasting(format!("has {}, which is too much", size(total))));
        }
        let folder = self.partial.path().parent();
        let Some(free) = folder.and_then(disk_space::free) else { return Ok(()) };
        let wanted = total.unwrap_or_default().saturating_sub(at);
        if wanted <= free {
            return Ok(());
        }
        let because = format!("{} are wanted, {} are free", size(wanted), size(free));
        Err(Fault::Fatal(self.no_room().because(because)))
    }

    fn no_room(&self) -> Error {
        let folder = self.partial.path().parent().unwrap_or(self.partial.path());
        Error::host(format!("there is no room for `{}` in {}", self.task.name, folder.display()))
            .hint("make room, or set XDG_CACHE_HOME to a folder on a bigger disk; what is there is continued")
    }

    fn disk_fault(&self, error: io::Error) -> Fault {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let path = self.partial.path().display();
        Fault::Fatal(if full { self.no_room() } else { Error::host(format!("cannot write {path}")) }.because(error))
    }

    /// What `future` brings, unless nothing comes for too long.
    async fn within_stall<T>(&self, future: impl Future<Output = reqwest::Result<T>>) -> Result<T, Fault> {
        let limit = self.policy.stall;
        match self.or_cancelled(tokio::time::timeout(limit, future)).await? {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.is_builder() => Err(Fault::Lasting(reach::innermost(error))),
            Ok(Err(error)) => Err(Fault::Passing(reach::innermost(error), None)),
            Err(_) => Err(Fault::Passing(format!("sent nothing for {} s", limit.as_secs_f64()), None)),
        }
    }

    async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.task.cancel.cancelled() => Err(cancelled(self.task.name)),
            value = future => Ok(value),
        }
    }
}

/// First byte and size of the whole in `bytes 100-199/200` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// Seconds that the server asks to wait (RFC 9110, section 10.2.3); dates are not understood.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, 200)));
        for bad in ["bytes */200", "bytes 100-199/*", "items 0-1/2", "bytes 1/2", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
