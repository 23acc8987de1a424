//! Publishing: private and hidden first, looked at in the cloud, and only then in the place of what was
//! there.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use reqwest::StatusCode;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::artifact::Artifact;
use super::cloud::{Cloud, Service};
use super::compute::BootTest;
use super::content::Content;
use super::failure::Failure;
use super::image::{Changes, Image, Store, Visibility};
use super::journal::{self, Begun, Entry};
use super::lineage::{NAME, Promotion, Pruned, Replaced, STATE, State, VISIBILITY};
use super::transfer::{Broken, ImportMethod, Way, transfer};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Events, Phase};

/// SHA-512 of the file that an image was made of, which is not what the cloud has where it was converted.
const FILE_HASH: &str = "visabuild_sha512";

/// Longest name of an image, characters (Glance's schema).
const LONGEST_NAME: usize = 255;

/// What is sent of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Raw where the store wants it (Ceph), or where the image that is replaced is; else as it is
    Auto,
    /// What a guest sees, byte by byte, unpacked while it is sent
    Raw,
    /// The file, which must be a qcow2
    Qcow2,
}

/// How an image is published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Its name; the template's if none.
    pub name: Option<String>,
    /// Least disk of a flavour, GiB; computed if none.
    pub min_disk: Option<u64>,
    /// Least memory of a flavour, MiB.
    pub min_ram: Option<u64>,
    /// What the format is called in Glance; what it is if none.
    pub disk_format: Option<String>,
    /// What it is wrapped in, `bare`.
    pub container_format: String,
    /// Properties that go before those of the manifest.
    pub properties: BTreeMap<String, String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What is sent.
    pub form: Form,
    /// How it is sent.
    pub method: ImportMethod,
    /// Where the cloud fetches it, with [`ImportMethod::WebDownload`].
    pub uri: Option<String>,
    /// The store that takes it.
    pub store: Option<String>,
    /// How it takes its place.
    pub promotion: Promotion,
    /// Stop before it does.
    pub candidate: bool,
    /// Try it on a server before it does.
    pub boot_test: Option<BootTest>,
    /// How many of those before it stay; all if none.
    pub keep: Option<usize>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Published {
    /// The image.
    pub image: Image,
    /// Whether the very same data were in the cloud already.
    pub was_there: bool,
    /// What it replaced.
    pub replaced: Vec<Replaced>,
    /// What was pruned after it, or could not be.
    pub pruned: Vec<Pruned>,
}

/// What is to happen to one image.
#[derive(Debug)]
pub struct Plan<'a> {
    artifact: &'a Artifact,
    wanted: &'a Publication,
    name: String,
    content: Content,
    way: Way,
    fields: Json,
    lineage: Vec<Image>,
    pub(super) there: Option<Image>,
}

impl Cloud {
    /// Looks at all that can be looked at before anything is built: the names can be some, Glance answers, the
    /// store is there, the method is offered, and the quota is not used up.
    ///
    /// # Errors
    /// One of these is not so (kind cloud), or the call is wrong (kind usage).
    pub async fn check(&self, wanted: &Publication, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| check_name(name))?;
        self.way(wanted).await?;
        // Nobody knows yet how large the images will be.
        self.check_room(wanted, 0).await
    }

    /// Looks whether the cloud has what an image of `bytes` needs beside a store: quota, and Nova where it is to be
    /// tried.
    ///
    /// # Errors
    /// It has not, or it refuses or is not reachable (kind cloud).
    pub async fn check_room(&self, wanted: &Publication, bytes: u64) -> Result<()> {
        let usage = self.image_usage().await.map_err(|failure| failure.explain("asking Glance"))?;
        // Its sizes are in MiB (Glance, "Per-Tenant Quotas").
        let need = [("image_size_total", bytes.div_ceil(1 << 20)), ("image_count_total", 1)];
        for (limit, needed) in need {
            let Some(usage) = usage.get(limit).filter(|usage| usage.limit >= 0) else { continue };
            let left = usage.limit.saturating_sub(usage.usage);
            if left < i64::try_from(needed).unwrap_or(i64::MAX) {
                return Err(Error::new(
                    Kind::Cloud,
                    format!("the project's quota `{limit}` has {left} left of {}, and {needed} is needed", usage.limit),
                )
                .hint("`visabuild prune` removes old images; the cloud's administrator can raise the quota"));
            }
        }
        if let Some(test) = &wanted.boot_test
            && !self.has(Service::Compute)
        {
            let flavor = test.flavor.as_deref().unwrap_or("any");
            return Err(Error::new(
                Kind::Cloud,
                format!("--boot-test (flavour {flavor}) needs Nova, which the catalogue does not have"),
            ));
        }
        Ok(())
    }

    async fn way(&self, wanted: &Publication) -> Result<Way> {
        let explain = |failure: Failure| failure.explain("asking Glance how it takes images");
        let offered = self.import_methods().await.map_err(explain)?;
        let needs = match wanted.method {
            ImportMethod::GlanceDirect => Some("glance-direct"),
            ImportMethod::WebDownload => Some("web-download"),
            ImportMethod::Auto | ImportMethod::Put => None,
        };
        if let Some(name) = needs.filter(|name| !offered.iter().any(|offer| offer == name)) {
            let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
            return Err(Error::new(Kind::Cloud, format!("the cloud does not offer the import method `{name}`"))
                .hint(format!("it offers {offered}; --method put sends the data straight")));
        }
        if let Some(name) = &wanted.store {
            let stores = self.stores().await.map_err(explain)?;
            if Store::taking(&stores, Some(name)).is_none() {
                let names: Vec<_> = stores.iter().map(|store| store.id.as_str()).collect();
                let names = if names.is_empty() { "no stores to choose from".to_owned() } else { names.join(", ") };
                return Err(
                    Error::new(Kind::Cloud, format!("the cloud has no store `{name}`")).hint(format!("it has {names}"))
                );
            }
        }
        Ok(Way { method: wanted.method, store: wanted.store.clone(), uri: wanted.uri.clone() })
    }

    /// What publishing the artifact would do.
    ///
    /// # Errors
    /// The call is wrong (kind usage), or the cloud refuses or is not reachable.
    pub async fn plan<'a>(&self, artifact: &'a Artifact, wanted: &'a Publication) -> Result<Plan<'a>> {
        let name = wanted.name.clone().unwrap_or_else(|| artifact.name.clone());
        check_name(&name)?;
        let way = self.way(wanted).await?;
        let lineage = self.lineage(&name).await?;
        let raw = self.raw_is_wanted(artifact, wanted, &lineage).await?;
        let content = if raw {
            Content::of_guest(artifact.path.clone(), artifact.format.clone(), artifact.virtual_size)
        } else {
            Content::of_file(artifact.path.clone(), artifact.format.clone(), artifact.size)
        };
        let fields = fields(artifact, wanted, &name, raw);
        let there = same(&lineage, &content, fields["disk_format"].as_str().unwrap_or_default()).await?;
        Ok(Plan { artifact, wanted, name, content, way, fields, lineage, there })
    }

    async fn raw_is_wanted(&self, artifact: &Artifact, wanted: &Publication, lineage: &[Image]) -> Result<bool> {
        match wanted.form {
            Form::Raw => return Ok(true),
            Form::Qcow2 if artifact.format == "qcow2" => return Ok(false),
            Form::Qcow2 => {
                return Err(Error::usage(format!("{} is {}, not qcow2", artifact.path.display(), artifact.format))
                    .hint("`qemu-img convert -c -O qcow2` makes one; --format raw sends what a guest sees"));
            }
            Form::Auto if artifact.format == "raw" || wanted.method == ImportMethod::WebDownload => return Ok(false),
            Form::Auto => {}
        }
        let stores = self.stores().await.map_err(|failure| failure.explain("asking Glance for its stores"))?;
        match Store::taking(&stores, wanted.store.as_deref()).and_then(|store| store.kind.as_deref()) {
            Some(kind) => Ok(kind == "rbd"),
            // Only administrators may know: the image that is replaced tells what was found right.
            None => {
                let current = lineage.iter().find(|image| image.state() == State::Current);
                Ok(current.is_some_and(|image| image.disk_format.as_deref() == Some("raw")))
            }
        }
    }

    /// Publishes the artifact.
    ///
    /// # Errors
    /// The call is wrong (kind usage), the file has changed, or the cloud refuses or is not reachable. What
    /// was begun is then taken back, by the next run at the latest.
    pub async fn publish(&self, plan: Plan<'_>, cache: &Cache, events: &Events) -> Result<Published> {
        let wanted = plan.wanted;
        plan.tell(events);
        if plan.artifact.end_of_life() && !wanted.candidate && !wanted.promotion.allow_eol {
            return Err(Error::usage(format!("`{}` has content past its end of life, which nobody mends any more", plan.name))
                .hint("its manifest says which under `warnings`; --allow-eol publishes it all the same, --candidate uploads it without promoting it"));
        }
        plan.check_file().await?;
        let (image, was_there) = match self.take_over(&plan, cache, events).await? {
            Some(image) => (image, true),
            None => (self.upload(&plan, cache, events).await?, false),
        };
        let promoted = !wanted.candidate || (was_there && image.state() == State::Current);
        let replaced =
            if wanted.candidate { Vec::new() } else { self.promote(&image, &wanted.promotion, events).await? };
        let pruned = match wanted.keep {
            Some(keep) if promoted => self.prune(&plan.name, keep, false).await?,
            _ => Vec::new(),
        };
        let image =
            self.image(&image.id).await.map_err(|failure| failure.explain("looking at the image"))?.unwrap_or(image);
        events.emit(Event::Published {
            template: plan.artifact.name.clone(),
            image: image.id.clone(),
            name: image.title().to_owned(),
            state: image.state().word(),
            visibility: image.visibility.to_string(),
            was_there,
            replaced: replaced.iter().map(|old| old.id.clone()).collect(),
        });
        Ok(Published { image, was_there, replaced, pruned })
    }

    /// Uses the image that has the same data, where there is one and nobody is at work on it.
    async fn take_over(&self, plan: &Plan<'_>, cache: &Cache, events: &Events) -> Result<Option<Image>> {
        let Some(image) = &plan.there else { return Ok(None) };
        let name = &plan.artifact.name;
        let left = journal::abandoned(cache, &image.id);
        if image.state() == State::Uploading && left.is_none() {
            // Its run may yet take it back.
            events.info(Some(name), format!("the same data are being uploaded by another run as {}", image.id));
            return Ok(None);
        }
        events.info(Some(name), format!("the same data are in the cloud already: {}", image.id));
        let explain = |failure: Failure| failure.explain("trying the image");
        if left.is_some() {
            self.remove_test_server(&image.id).await.map_err(explain)?;
        }
        if image.state() != State::Current {
            self.try_out(image, plan, events).await.map_err(explain)?;
        }
        let image = self.adopt(image, plan).await?;
        if let Some(left) = left {
            left.done();
        }
        Ok(Some(image))
    }

    /// The boot test, where it is asked for.
    async fn try_out(&self, image: &Image, plan: &Plan<'_>, events: &Events) -> std::result::Result<(), Failure> {
        let Some(test) = &plan.wanted.boot_test else { return Ok(()) };
        let phase = events.phase(&plan.artifact.name, "boot test");
        let needs = (plan.fields["min_disk"].as_u64().unwrap_or(0), plan.wanted.min_ram.unwrap_or(0));
        self.boot_test(image, test, needs, &phase).await.map_err(Failure::Ours)?;
        phase.finish();
        Ok(())
    }

    /// Uses an image that is there: its properties become what is asked for.
    async fn adopt(&self, image: &Image, plan: &Plan<'_>) -> Result<Image> {
        let mut changes = Changes::default();
        for (name, value) in properties(plan.artifact, plan.wanted, &plan.name) {
            if image.property(&name) != Some(value.as_str()) && name != STATE {
                changes = changes.set(&name, value);
            }
        }
        for field in ["min_disk", "min_ram", "tags"] {
            if let Some(value) = plan.fields.get(field)
                && image.more.get(field) != Some(value)
            {
                changes = changes.set(field, value.clone());
            }
        }
        if matches!(image.state(), State::Uploading) {
            changes = changes.set(STATE, State::Candidate.word());
        }
        let changed = self.change_image(&image.id, &changes).await;
        changed.map_err(|failure| failure.explain(&format!("changing the image {}", image.id)))
    }

    /// Sends the data as often as it takes, and looks at what arrived.
    async fn upload(&self, plan: &Plan<'_>, cache: &Cache, events: &Events) -> Result<Image> {
        self.check_room(plan.wanted, plan.content.length).await?;
        let doing = format!("uploading `{}`", plan.name);
        let mut attempt = 0;
        let mut renewed = false;
        let mut way = plan.way.clone();
        loop {
            self.freshen().await?;
            let phase = events.phase(&plan.artifact.name, "upload");
            let failure = match self.upload_once(plan, &way, cache, &phase).await {
                Ok(image) => {
                    phase.finish();
                    return Ok(image);
                }
                Err(Broken::Request(failure)) => return Err(failure.explain(&doing)),
                Err(Broken::Data(failure)) => failure,
            };
            let status = failure.status();
            if status == Some(StatusCode::UNAUTHORIZED) && !renewed {
                renewed = true;
                self.renew().await?;
                continue;
            }
            if way.method == ImportMethod::Auto && self.wants_staged(status).await {
                let text = "the cloud takes no data straight: staging them for an import";
                events.info(Some(&plan.artifact.name), text);
                way.method = ImportMethod::GlanceDirect;
                continue;
            }
            let may_heal = failure.may_heal() || status == Some(StatusCode::CONFLICT);
            if !may_heal || attempt >= self.patience().retries {
                let tries = if attempt > 0 { format!("{doing}, at try {}", attempt + 1) } else { doing };
                return Err(failure.explain(&tries));
            }
            let (next, retries) = (attempt + 1, self.patience().retries);
            let text = format!("the upload broke ({failure}); trying again, {next} of {retries}");
            events.warn(Some(&plan.artifact.name), text);
            self.pause(attempt, &failure).await.map_err(|failure| failure.explain(&doing))?;
            attempt = next;
        }
    }

    /// Whether a cloud that answers data so takes them for an import: some take them no other way.
    async fn wants_staged(&self, status: Option<StatusCode>) -> bool {
        let refused = matches!(status, Some(StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE));
        refused && self.import_methods().await.unwrap_or_default().iter().any(|method| method == "glance-direct")
    }

    /// One try, which leaves nothing behind when it fails.
    async fn upload_once(
        &self,
        plan: &Plan<'_>,
        way: &Way,
        cache: &Cache,
        phase: &Phase,
    ) -> std::result::Result<Image, Broken> {
        let id = Uuid::new_v4().to_string();
        let begun = Begun { auth_url: self.auth_url().to_owned(), project: self.project().id, image: id.clone() };
        let entry = Entry::begin(cache, &begun).map_err(Failure::Ours)?;
        let mut fields = plan.fields.clone();
        fields["id"] = json!(id);
        let created = self.create_image(&fields).await.map(drop);
        // The cloud may come to it later, when it is too late to delete it.
        let certain = !matches!(&created, Err(Failure::Unreachable(_) | Failure::Ours(_)));
        let result = match created {
            Ok(()) => self.upload_as(&id, plan, way, phase).await,
            Err(failure) => Err(failure.into()),
        };
        if result.is_ok() {
            entry.done();
            return result;
        }
        // Also after Ctrl-C, and as a matter of courtesy: the next run would do it as well.
        match self.take_back(&id).await {
            Ok(()) if certain => entry.done(),
            Ok(()) => {}
            Err(error) => phase.events().warn(
                Some(phase.template()),
                format!(
                    "what was begun of {id} is still in the cloud ({}); the next upload from this host removes it",
                    error.chain().join(": ")
                ),
            ),
        }
        result
    }

    async fn upload_as(
        &self,
        id: &str,
        plan: &Plan<'_>,
        way: &Way,
        phase: &Phase,
    ) -> std::result::Result<Image, Broken> {
        let image = transfer(self, id, &plan.content, way, phase).await?;
        if let Some(record) = plan.artifact.record.as_ref().filter(|_| !plan.content.as_raw)
            && image.os_hash_algo.as_deref() == Some("sha512")
            && image.os_hash_value.as_deref() != Some(record.image.sha512.as_str())
        {
            return Err(Failure::Ours(changed(&plan.artifact.path)).into());
        }
        self.try_out(&image, plan, phase.events()).await?;
        Ok(self.change_image(id, &Changes::default().set(STATE, State::Candidate.word())).await?)
    }
}

impl Plan<'_> {
    /// The name that the image gets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the user should know before anything is sent.
    fn tell(&self, events: &Events) {
        let template = Some(self.artifact.name.as_str());
        let public = self.wanted.promotion.visibility == Some(Visibility::Public);
        match self.artifact.has_password() {
            Some(true) if public => events.warn(
                template,
                "everybody can read the hash of root's password in a public image, and guess at it; \
                 `--lock-root` builds an image without one",
            ),
            None if public => {
                events.warn(
                    template,
                    "nothing is known of this image: everybody can read what passwords and keys are in it",
                );
            }
            _ => {}
        }
        for warning in self.artifact.record.iter().flat_map(|record| &record.warnings) {
            events.warn(template, warning);
        }
    }

    /// Whether the file is still what was built, where what the cloud gets or has does not say it by itself.
    async fn check_file(&self) -> Result<()> {
        let Some(record) = &self.artifact.record else { return Ok(()) };
        let hash = match &self.there {
            _ if self.content.as_raw => {
                let artifact = self.artifact;
                let file = Content::of_file(artifact.path.clone(), artifact.format.clone(), artifact.size);
                Some(file.sha512().await?)
            }
            Some(image) => image.os_hash_value.clone(),
            None => None,
        };
        match hash {
            Some(hash) if hash != record.image.sha512 => Err(changed(&self.artifact.path)),
            _ => Ok(()),
        }
    }

    /// What would happen, as lines.
    pub fn describe(&self, project: &str) -> Vec<String> {
        let visibility = self.wanted.promotion.visibility.unwrap_or(Visibility::Shared);
        let mut lines = vec![format!("{} to `{}` in project `{project}`", self.artifact.path.display(), self.name)];
        match &self.there {
            Some(image) => {
                lines.push(format!("no upload: the same data are there as {} ({})", image.id, image.state().word()));
            }
            None => lines.push(format!(
                "upload {} bytes as {}, private and hidden",
                self.content.length,
                self.fields["disk_format"].as_str().unwrap_or_default()
            )),
        }
        let current: Vec<_> = self
            .lineage
            .iter()
            .filter(|image| {
                image.state() == State::Current && self.there.as_ref().is_none_or(|there| there.id != image.id)
            })
            .collect();
        if self.wanted.candidate {
            lines.push("stop before promoting it (--candidate)".to_owned());
        } else {
            lines.push(format!("promote it: {visibility}, named `{}`", self.name));
            lines.extend(
                current
                    .iter()
                    .map(|old| format!("replace {}: renamed `{} {}`, hidden", old.id, self.name, old.created_at)),
            );
        }
        if let Some(fields) = self.fields.as_object() {
            let shown =
                fields.iter().filter(|(name, _)| !["name", "visibility", "os_hidden", STATE].contains(&name.as_str()));
            lines.extend(shown.map(|(name, value)| {
                format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }));
        }
        lines
    }
}

/// The image of this lineage that has the very same data, where there is one.
async fn same(lineage: &[Image], content: &Content, disk_format: &str) -> Result<Option<Image>> {
    let alike = |image: &&Image| {
        image.status == "active"
            && image.size == Some(content.length)
            && image.disk_format.as_deref() == Some(disk_format)
            && image.os_hash_algo.as_deref() == Some("sha512")
    };
    let mut alike: Vec<_> = lineage.iter().filter(alike).collect();
    if alike.is_empty() {
        return Ok(None);
    }
    let hash = content.sha512().await?;
    alike.retain(|image| image.os_hash_value.as_deref() == Some(hash.as_str()));
    // The one that counts already, if it is among them.
    Ok(alike.iter().find(|image| image.state() == State::Current).or(alike.first()).map(|image| (*image).clone()))
}

fn changed(path: &Path) -> Error {
    Error::usage(format!("{} has changed since it was built", path.display()))
        .hint("build it again: what is in it now is not what was verified")
}

fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Error::usage(format!("`{name}` cannot be the name of an image"))
            .hint(format!("it has 1 to {LONGEST_NAME} characters, none of them a control character (--name)")));
    }
    Ok(())
}

/// The image as it is created: private, hidden, and under a name that nobody looks for.
fn fields(artifact: &Artifact, wanted: &Publication, name: &str, raw: bool) -> Json {
    let format = if raw { "raw" } else { artifact.format.as_str() };
    // Glance calls this format by Virtual PC's ending.
    let format = if format == "vpc" { "vhd" } else { format };
    let mut fields = json!({
        "name": format!("{name} (candidate)"),
        "disk_format": wanted.disk_format.as_deref().unwrap_or(format),
        "container_format": wanted.container_format,
        "visibility": "private",
        "os_hidden": true,
        "min_disk": wanted.min_disk.unwrap_or_else(|| artifact.min_disk()),
        "tags": wanted.tags,
    });
    if let Some(memory) = wanted.min_ram {
        fields["min_ram"] = json!(memory);
    }
    for (name, value) in properties(artifact, wanted, name) {
        fields[name] = json!(value);
    }
    fields
}

fn properties(artifact: &Artifact, wanted: &Publication, name: &str) -> BTreeMap<String, String> {
    let mut properties = artifact.properties();
    if let Some(record) = &artifact.record {
        properties.insert(FILE_HASH.to_owned(), record.image.sha512.clone());
    }
    properties.extend(wanted.properties.clone());
    properties.insert(NAME.to_owned(), name.to_owned());
    properties.insert(STATE.to_owned(), State::Uploading.word().to_owned());
    let visibility = wanted.promotion.visibility.unwrap_or(Visibility::Shared);
    properties.insert(VISIBILITY.to_owned(), visibility.to_string());
    properties
}
