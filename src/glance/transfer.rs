//! Sending an image's data, and waiting until the cloud has them right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cloud::{Call, Cloud, Service};
use super::content::Content;
use super::failure::{Failure, Refusal};
use super::image::{Image, store_header};
use crate::error::{Error, Kind};
use crate::event::Phase;

type Answered<T> = std::result::Result<T, Failure>;

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

/// What a transfer of data has come to.
#[derive(Debug)]
pub(super) struct Sent {
    /// SHA-512 of what was sent.
    pub sha512: String,
}

/// Sends `content` into the image `id` and waits until it is active, with the data that were sent.
pub(super) async fn transfer(cloud: &Cloud, id: &str, content: &Content, way: &Way, phase: &Phase) -> Answered<Image> {
    let (store, import) = (way.store.as_deref(), way.method);
    let sent = match import {
        ImportMethod::Auto | ImportMethod::Put => send(cloud, id, "file", content, store, phase).await?,
        ImportMethod::GlanceDirect => {
            let sent = send(cloud, id, "stage", content, None, phase).await?;
            cloud.import(id, &json!({"name": "glance-direct"}), store).await?;
            sent
        }
        ImportMethod::WebDownload => {
            let uri = way.uri.as_deref().unwrap_or_default();
            cloud.import(id, &json!({"name": "web-download", "uri": uri}), store).await?;
            Sent { sha512: content.sha512().await.map_err(Failure::Ours)? }
        }
    };
    let imported = matches!(import, ImportMethod::GlanceDirect | ImportMethod::WebDownload);
    let image = active(cloud, id, imported, phase).await?;
    compare(&image, content, &sent, phase)?;
    Ok(image)
}

/// One request with all data.
async fn send(
    cloud: &Cloud,
    id: &str,
    what: &str,
    content: &Content,
    store: Option<&str>,
    phase: &Phase,
) -> Answered<Sent> {
    let (body, taken, hashing) = content.read().await.map_err(Failure::Ours)?.into_body();
    let call = Call::new(Service::Image, Method::PUT, format!("images/{id}/{what}"));
    let length = HeaderValue::from(content.length);
    let mut request = cloud
        .request(&call)
        .map_err(Failure::Ours)?
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length.clone())
        // Some stores make room before the data come, and are much faster then.
        .header("x-openstack-image-size", length)
        .body(body);
    if let Some(store) = store.and_then(store_header) {
        request = request.header("x-image-meta-store", store);
    }
    let exchange = async {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await.unwrap_or_default();
        Err(Failure::Refused(Refusal::new(status, &headers, &text)))
    };
    let watched = watch(cloud, &taken, content.length, phase);
    let result = tokio::select! {
        result = exchange => result,
        stalled = watched => Err(stalled),
        () = cloud.cancel().cancelled() => Err(Failure::Ours(Error::new(Kind::Interrupted, "interrupted"))),
    };
    let complete = taken.load(Ordering::Relaxed) == content.length;
    match result {
        Ok(()) if complete => Ok(Sent { sha512: hashing.finish().await? }),
        Ok(()) => Err(lost("the cloud said that it had all data before they were sent")),
        // All data went out and only the answer is missing: the image itself says how it went.
        Err(Failure::Unreachable(_)) if complete => Ok(Sent { sha512: hashing.finish().await? }),
        Err(failure) if !complete && matches!(failure, Failure::Unreachable(_)) => {
            // What was being read may be the reason, rather than the cloud.
            drop(taken);
            Err(hashing.reason().await.unwrap_or(failure))
        }
        Err(failure) => Err(failure),
    }
}

/// Tells how far it is; ends when nothing has moved for too long.
async fn watch(cloud: &Cloud, taken: &Arc<AtomicU64>, length: u64, phase: &Phase) -> Failure {
    let patience = cloud.patience();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        ticks.tick().await;
        let now = taken.load(Ordering::Relaxed);
        if now != before {
            (before, moved) = (now, Instant::now());
            phase.progress(now, Some(length), "bytes");
        }
        // Once all is sent the store may need long to make it safe.
        let limit = if now == length { patience.active } else { patience.stall };
        if moved.elapsed() > limit {
            return Failure::stalled(&format!("the cloud took nothing after byte {now} of {length}"), limit);
        }
    }
}

/// Waits until the image is active.
async fn active(cloud: &Cloud, id: &str, imported: bool, phase: &Phase) -> Answered<Image> {
    let patience = cloud.patience().active;
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    let mut told = String::new();
    loop {
        let Some(image) = cloud.image(id).await? else { return Err(lost("the image is gone")) };
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
        if started.elapsed() > patience {
            return Err(Failure::stalled(&format!("the image stayed `{}`", image.status), patience));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            () = cloud.cancel().cancelled() => {
                return Err(Failure::Ours(Error::new(Kind::Interrupted, "interrupted")));
            }
        }
    }
}

/// A failure of the transfer that another try may mend.
fn lost(message: &str) -> Failure {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Failure::Refused(Refusal { status, message: message.to_owned(), request_id: None, retry_after: None })
}

/// Whether the cloud has what was sent.
fn compare(image: &Image, content: &Content, sent: &Sent, phase: &Phase) -> Answered<()> {
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
        (Some("sha512"), Some(value)) if value.eq_ignore_ascii_case(&sent.sha512) => Ok(()),
        (Some("sha512"), Some(value)) => {
            Err(lost(&format!("the cloud has other data (sha512 {value}) than were sent ({})", sent.sha512)))
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
        let sent = Sent { sha512: "ab".into() };
        let said = |image: &Image| {
            compare(image, &content, &sent, &phase).err().map(|failure| failure.explain("x").chain()[1].clone())
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
