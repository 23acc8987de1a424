//! Sending an image's data, and waiting until the cloud has them right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cloud::{Call, Cloud, Service, cancelled};
use super::content::Content;
use super::failure::{Failure, Refusal};
use super::image::Image;
use crate::event::Phase;

type Answered<T> = std::result::Result<T, Failure>;

/// Where a try to upload broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// With the data: sending them again may help.
    Data(Failure),
    /// In a request beside them, which was made again by itself where that could help.
    Request(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotWhole(_) => Self::Data(failure),
            other => Self::Request(other),
        }
    }
}

/// How an image's data get into Glance ("Interoperable image import").
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportMethod {
    /// Straight, or staged where the cloud takes nothing straight
    Auto,
    /// Straight into the store, in one request
    Put,
    /// Staged, then imported by the cloud, which may convert them
    GlanceDirect,
    /// Fetched by the cloud from --uri
    WebDownload,
}

/// How data are sent.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub method: ImportMethod,
    /// The store that takes them; the cloud's own choice if none.
    pub store: Option<String>,
    /// Where the cloud fetches them.
    pub uri: Option<String>,
}

/// How often the state of a transfer is looked at.
const TICK: Duration = Duration::from_millis(250);

/// Sends `content` into the image `id` and waits until it is active, with the data that were sent.
pub(super) async fn transfer(
    cloud: &Cloud,
    id: &str,
    content: &Content,
    way: &Way,
    phase: &Phase,
) -> std::result::Result<Image, Broken> {
    let (store, import) = (way.store.as_deref(), way.method);
    let sha512 = match import {
        ImportMethod::Auto | ImportMethod::Put => {
            send(cloud, id, "file", content, store, phase).await.map_err(Broken::Data)?
        }
        ImportMethod::GlanceDirect => {
            let sha512 = send(cloud, id, "stage", content, None, phase).await.map_err(Broken::Data)?;
            begin_import(cloud, id, &json!({"name": "glance-direct"}), store).await?;
            sha512
        }
        ImportMethod::WebDownload => {
            let uri = way.uri.as_deref().unwrap_or_default();
            begin_import(cloud, id, &json!({"name": "web-download", "uri": uri}), store).await?;
            content.sha512().await.map_err(Failure::Ours)?
        }
    };
    let imported = matches!(import, ImportMethod::GlanceDirect | ImportMethod::WebDownload);
    let image = active(cloud, id, imported, phase).await.map_err(|failure| match (failure, &way.uri) {
        (Failure::NotWhole(text), Some(uri)) => lost(&format!("{text} (the cloud was to fetch {uri})")),
        (failure, _) => failure,
    })?;
    compare(&image, content, &sha512, phase)?;
    Ok(image)
}

/// Lets the cloud import the image. One whose import runs already lost only the answer to the first try.
async fn begin_import(cloud: &Cloud, id: &str, method: &Json, store: Option<&str>) -> Answered<()> {
    let Err(failure) = cloud.import(id, method, store).await else { return Ok(()) };
    let runs = |image: Image| {
        let stores = image.property("os_glance_importing_to_stores").unwrap_or_default();
        !stores.is_empty() || matches!(image.status.as_str(), "importing" | "active")
    };
    if failure.status() == Some(StatusCode::CONFLICT) && cloud.image(id).await?.is_some_and(runs) {
        return Ok(());
    }
    Err(failure)
}

/// One request with all data; returns their SHA-512.
async fn send(
    cloud: &Cloud,
    id: &str,
    what: &str,
    content: &Content,
    store: Option<&str>,
    phase: &Phase,
) -> Answered<String> {
    let (body, taken, hashing) = content.read().await.map_err(Failure::Ours)?.into_body();
    let call = Call::new(Service::Image, Method::PUT, format!("images/{id}/{what}"));
    let request = cloud.request(&call).map_err(Failure::Ours)?;
    let request = with_headers(request, content.length, store).body(body);
    let exchange = async {
        let response = request.send().await.map_err(|error| {
            // Everything may have left us already: then the kernel, which holds it, gives up.
            let gave_up = error.is_timeout() && !error.is_connect();
            if gave_up { stalled(&taken, content.length, cloud.patience().unacknowledged()) } else { error.into() }
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await.unwrap_or_default();
        Err(Failure::Refused(Refusal::new(status, &headers, &text)))
    };
    let watched = watch(cloud, id, &taken, content.length, phase);
    let result = tokio::select! {
        result = exchange => result,
        result = watched => result,
        () = cloud.cancel().cancelled() => Err(Failure::Ours(cancelled())),
    };
    let complete = taken.load(Ordering::Relaxed) == content.length;
    match result {
        Ok(()) if complete => hashing.finish().await,
        Ok(()) => Err(lost("the cloud said that it had all data before they were sent")),
        // All data went out and only the answer is missing.
        Err(failure) if complete && failure.leaves_open() => {
            arrived(cloud, id, failure).await?;
            hashing.finish().await
        }
        Err(failure @ Failure::Unreachable(_)) => {
            // What was being read may be the reason, rather than the cloud.
            Err(hashing.reason().await.unwrap_or(failure))
        }
        Err(failure) => Err(failure),
    }
}

/// What the cloud should know of the data before they come.
fn with_headers(request: RequestBuilder, length: u64, store: Option<&str>) -> RequestBuilder {
    let length = HeaderValue::from(length);
    let request = request
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length.clone())
        // Some stores make room before the data come, and are much faster then.
        .header("x-openstack-image-size", length);
    match store.and_then(|store| HeaderValue::from_str(store).ok()) {
        Some(store) => request.header("x-image-meta-store", store),
        None => request,
    }
}

/// Whether data arrived whose sending ended in `failure`: the image itself says it. The cloud may still be busy
/// with them.
async fn arrived(cloud: &Cloud, id: &str, failure: Failure) -> Answered<()> {
    let began = Instant::now();
    // A 500 is Glance's own and its last word; what stands between us and Glance says 502 to 504.
    let given_up = failure.status() == Some(StatusCode::INTERNAL_SERVER_ERROR);
    let patience = if given_up { Duration::ZERO } else { cloud.patience().stall };
    loop {
        match cloud.image(id).await {
            Ok(Some(image)) if image.status == "active" => return Ok(()),
            Ok(Some(image)) if image.status == "saving" && began.elapsed() < patience => {}
            Err(Failure::Ours(error)) => return Err(Failure::Ours(error)),
            _ => return Err(failure),
        }
        cloud.sleep(TICK).await?;
    }
}

/// Tells how far it is; ends well when the image is active though no answer came, and badly when nothing has
/// moved for too long.
async fn watch(cloud: &Cloud, id: &str, taken: &Arc<AtomicU64>, length: u64, phase: &Phase) -> Answered<()> {
    let patience = cloud.patience();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut moved) = (0, Instant::now());
    let mut asked = moved;
    loop {
        ticks.tick().await;
        let now = taken.load(Ordering::Relaxed);
        if now != before {
            (before, moved) = (now, Instant::now());
            asked = moved;
            phase.progress(now, Some(length), "bytes");
        }
        if now == length && asked.elapsed() > patience.stall {
            // What is between us and the cloud may have forgotten the connection.
            if cloud.image(id).await.is_ok_and(|image| image.is_some_and(|image| image.status == "active")) {
                return Ok(());
            }
            asked = Instant::now();
        }
        // Once all is sent the store may need long to make it safe.
        let limit = if now == length { patience.active } else { patience.stall };
        if moved.elapsed() > limit {
            return Err(stalled(taken, length, limit));
        }
    }
}

/// Nothing of what is sent has moved for `limit`.
fn stalled(taken: &AtomicU64, length: u64, limit: Duration) -> Failure {
    let taken = taken.load(Ordering::Relaxed);
    Failure::stalled(&format!("the cloud took nothing after byte {taken} of {length}"), limit)
}

/// Waits until the image is active.
async fn active(cloud: &Cloud, id: &str, imported: bool, phase: &Phase) -> Answered<Image> {
    let patience = cloud.patience();
    let started = Instant::now();
    let mut answered = started;
    let mut pause = Duration::from_millis(100);
    let mut told = String::new();
    loop {
        let image = match cloud.image(id).await {
            Ok(image) => image.ok_or_else(|| lost("the image is gone"))?,
            // All data are there: a cloud that is silent for a while is no reason to send them again.
            Err(failure) if failure.may_heal() && answered.elapsed() < patience.stall => {
                cloud.sleep(pause).await?;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        answered = Instant::now();
        if image.status == "active" {
            return Ok(image);
        }
        if told != image.status {
            told.clone_from(&image.status);
            phase.events().debug(Some(phase.template()), format!("image {id} is {told}"));
        }
        let failed_import = image.property("os_glance_failed_import").is_some_and(|stores| !stores.is_empty());
        // Glance takes an image back to `queued` when its data did not all come.
        let ended = matches!(image.status.as_str(), "killed" | "deleted" | "pending_delete" | "deactivated");
        if ended || failed_import || (image.status == "queued" && !imported) {
            let said = cloud.task_message(id).await.map(|text| format!(": {text}")).unwrap_or_default();
            return Err(lost(&format!("the image became `{}` instead of active{said}", image.status)));
        }
        if started.elapsed() > patience.active {
            return Err(lost(&format!("the image stayed `{}` for {} s", image.status, patience.active.as_secs())));
        }
        cloud.sleep(pause).await?;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// A failure of the transfer that another try may mend.
fn lost(message: &str) -> Failure {
    Failure::NotWhole(message.to_owned())
}

/// Whether the cloud has what was sent.
fn compare(image: &Image, content: &Content, sha512: &str, phase: &Phase) -> Answered<()> {
    let warn = |text: String| phase.events().warn(Some(phase.template()), text);
    let wanted = if content.as_raw { "raw" } else { content.format.as_str() };
    if image.disk_format.as_deref() != Some(wanted) {
        warn(format!(
            "the cloud has converted the image from {wanted} to {}: what it has cannot be compared with what was sent",
            image.disk_format.as_deref().unwrap_or("another format")
        ));
        return Ok(());
    }
    if image.size != Some(content.length) {
        return Err(lost(&format!("the cloud has {} bytes of {}", image.size.unwrap_or_default(), content.length)));
    }
    match (image.os_hash_algo.as_deref(), image.os_hash_value.as_deref()) {
        (Some("sha512"), Some(value)) if value.eq_ignore_ascii_case(sha512) => Ok(()),
        (Some("sha512"), Some(value)) => {
            Err(lost(&format!("the cloud has other data (sha512 {value}) than were sent ({sha512})")))
        }
        (Some(algorithm), Some(_)) => {
            warn(format!("the cloud hashes with {algorithm}, so only the size was compared with what was sent"));
            Ok(())
        }
        _ => {
            warn("the cloud tells no hash, so only the size was compared with what was sent".to_owned());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Events;

    fn image(more: &str) -> Image {
        let text = format!(r#"{{"id": "i", "status": "active", "visibility": "private", "size": 9, {more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn other_data_than_were_sent_are_found() {
        let phase = Events::none().phase("t", "upload");
        let content = Content::of_file("x".into(), "qcow2".into(), 9);
        let said = |image: &Image| {
            compare(image, &content, "ab", &phase).err().map(|failure| failure.explain("x").chain()[1].clone())
        };
        let hash =
            |value: &str| format!(r#""disk_format": "qcow2", "os_hash_algo": "sha512", "os_hash_value": "{value}""#);
        assert_eq!(said(&image(&hash("AB"))), None);
        assert!(said(&image(&hash("cd"))).unwrap().starts_with("the cloud has other data (sha512 cd)"));
        assert!(
            said(&Image { size: Some(8), ..image(&hash("ab")) }).unwrap().starts_with("the cloud has 8 bytes of 9")
        );
        assert_eq!(said(&image(r#""disk_format": "raw""#)), None);
        assert_eq!(said(&image(r#""disk_format": "qcow2", "os_hash_algo": "sha256", "os_hash_value": "x""#)), None);
    }
}
