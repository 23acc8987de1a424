//! Images as Glance keeps them, and the calls that read and change them (Image service API v2).

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::cloud::{Call, Cloud, Service};
use super::failure::Failure;
use super::login::is_id;
use crate::error::Result;

type Answered<T> = std::result::Result<T, Failure>;

/// Media type of changes to an image.
const PATCH: &str = "application/openstack-images-v2.1-json-patch";

/// Images a page when listing.
const PAGE: &str = "100";

/// Who may see an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody, in everybody's list; a right of administrators in most clouds
    Public,
    /// The project only
    Private,
    /// The project and those that it shares the image with
    Shared,
    /// Everybody, but only in the lists of those who ask for it
    Community,
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Community => "community",
        })
    }
}

/// An image.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Image {
    /// Its id, a UUID.
    pub id: String,
    /// Its name, which need not be its own.
    #[serde(default)]
    pub name: Option<String>,
    /// `queued`, `saving`, `uploading`, `importing`, `active`, `deactivated`, `killed` …
    pub status: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Whether lists leave it out.
    #[serde(default)]
    pub os_hidden: bool,
    /// Whether nobody may delete it.
    #[serde(default)]
    pub protected: bool,
    /// The project that it belongs to.
    #[serde(default)]
    pub owner: Option<String>,
    /// Size of its data, bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// Size that a guest sees, bytes, where Glance knows it.
    #[serde(default)]
    pub virtual_size: Option<u64>,
    /// `qcow2`, `raw` …
    #[serde(default)]
    pub disk_format: Option<String>,
    /// Algorithm of `os_hash_value`, `sha512` unless the cloud says otherwise.
    #[serde(default)]
    pub os_hash_algo: Option<String>,
    /// Hash of its data, hexadecimal.
    #[serde(default)]
    pub os_hash_value: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// All else: its properties.
    #[serde(flatten)]
    pub more: BTreeMap<String, Json>,
}

impl Image {
    /// A property's value.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.more.get(name).and_then(Json::as_str)
    }

    /// Its name, or its id where it has none.
    pub fn title(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }

    /// Whether data of it may still come.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.status.as_str(), "queued" | "saving" | "uploading" | "importing")
    }
}

/// What changes in an image.
#[derive(Debug, Default, Clone)]
pub(super) struct Changes(Vec<Json>);

impl Changes {
    /// Sets a field or a property; `add` of RFC 6902 replaces what is there.
    pub fn set(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.0.push(json!({"op": "add", "path": format!("/{name}"), "value": value.into()}));
        self
    }
}

/// A project that an image is shared with.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Member {
    /// The project's id.
    pub member_id: String,
    /// `pending`, `accepted` or `rejected`.
    pub status: String,
}

/// One of a cloud's stores.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Store {
    pub id: String,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Glance says `"true"`.
    #[serde(default)]
    pub default: Option<Json>,
}

impl Store {
    fn is_default(&self) -> bool {
        matches!(&self.default, Some(Json::Bool(true))) || self.default == Some(json!("true"))
    }

    /// The store that takes an image, of all and the one that was named.
    pub fn taking<'a>(stores: &'a [Self], named: Option<&str>) -> Option<&'a Self> {
        match named {
            Some(name) => stores.iter().find(|store| store.id == name),
            None => {
                stores.iter().find(|store| store.is_default()).or_else(|| stores.first().filter(|_| stores.len() == 1))
            }
        }
    }
}

/// A limit of the project and how much of it is used.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Usage {
    /// Below 0 where there is none.
    pub limit: i64,
    pub usage: i64,
}

#[derive(Deserialize)]
struct List {
    images: Vec<Image>,
    #[serde(default)]
    next: Option<String>,
}

impl Cloud {
    fn image_call(method: Method, id: &str) -> Call {
        Call::new(Service::Image, method, format!("images/{id}"))
    }

    /// The image, where there is one by that id.
    pub(super) async fn image(&self, id: &str) -> Answered<Option<Image>> {
        match self.call(Self::image_call(Method::GET, id)).await {
            Ok(answer) => answer.json().map(Some),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Images with these values, hidden ones too; pages are followed.
    pub(super) async fn images(&self, filters: &[(&str, &str)]) -> Answered<Vec<Image>> {
        let mut all = Vec::new();
        // A list has either the hidden ones or the others.
        for hidden in ["false", "true"] {
            let mut marker: Option<String> = None;
            loop {
                let mut call = Call::get(Service::Image, "images").query("limit", PAGE).query("os_hidden", hidden);
                for (name, value) in filters {
                    call = call.query(name, *value);
                }
                if let Some(marker) = marker {
                    call = call.query("marker", marker);
                }
                let page: List = self.call(call).await?.json()?;
                marker = page.next.and(page.images.last().map(|image| image.id.clone()));
                all.extend(page.images);
                if marker.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// The image by that id; none for what is no id.
    ///
    /// # Errors
    /// The cloud refuses or is not reachable.
    pub async fn find_image(&self, id: &str) -> Result<Option<Image>> {
        if !is_id(id) {
            return Ok(None);
        }
        self.image(id).await.map_err(|failure| failure.explain(&format!("looking at the image {id}")))
    }

    /// Ids of the projects that the image is shared with; those that have not accepted it say so.
    ///
    /// # Errors
    /// As [`Cloud::find_image`].
    pub async fn shared_with(&self, image: &Image) -> Result<Vec<String>> {
        if image.visibility != Visibility::Shared {
            return Ok(Vec::new());
        }
        let members = self.members(&image.id).await;
        let members = members.map_err(|failure| failure.explain("asking who shares an image"))?;
        let shown = |member: Member| match member.status.as_str() {
            "accepted" => member.member_id,
            status => format!("{} ({status})", member.member_id),
        };
        Ok(members.into_iter().map(shown).collect())
    }

    /// Makes an image without data. Its id is ours, so that trying again makes no second one.
    pub(super) async fn create_image(&self, fields: &Json) -> Answered<Image> {
        let id = fields["id"].as_str().unwrap_or_default().to_owned();
        match self.call(Call::new(Service::Image, Method::POST, "images").json(fields)).await {
            Ok(answer) => answer.json(),
            // The first try had worked, and only its answer was lost.
            Err(failure) if failure.status() == Some(StatusCode::CONFLICT) => self.image(&id).await?.ok_or(failure),
            Err(failure) => Err(failure),
        }
    }

    /// Changes an image, all at once or not at all.
    pub(super) async fn change_image(&self, id: &str, changes: &Changes) -> Answered<Image> {
        let call = Self::image_call(Method::PATCH, id).body(PATCH, &Json::Array(changes.0.clone()));
        self.call(call).await?.json()
    }

    /// Deletes an image; one that is not there is no failure.
    pub(super) async fn delete_image(&self, id: &str) -> Answered<()> {
        match self.call(Self::image_call(Method::DELETE, id)).await {
            Err(failure) if !failure.is_missing() => Err(failure),
            _ => Ok(()),
        }
    }

    /// The projects that an image is shared with; none for one that is not shared.
    pub(super) async fn members(&self, id: &str) -> Answered<Vec<Member>> {
        #[derive(Deserialize)]
        struct Members {
            members: Vec<Member>,
        }
        match self.call(Call::get(Service::Image, format!("images/{id}/members"))).await {
            Ok(answer) => answer.json().map(|list: Members| list.members),
            Err(failure) if matches!(failure.status(), Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)) => {
                Ok(Vec::new())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Shares an image with a project; one that it is shared with already is no failure.
    pub(super) async fn add_member(&self, id: &str, project: &str) -> Answered<()> {
        let call = Call::new(Service::Image, Method::POST, format!("images/{id}/members"));
        match self.call(call.json(&json!({"member": project}))).await {
            Err(failure) if failure.status() != Some(StatusCode::CONFLICT) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Accepts an image in the session's own project.
    pub(super) async fn accept_image(&self, id: &str, project: &str) -> Answered<()> {
        let call = Call::new(Service::Image, Method::PUT, format!("images/{id}/members/{project}"));
        self.call(call.json(&json!({"status": "accepted"}))).await.map(drop)
    }

    /// The ways to import that the cloud offers; none where it cannot import.
    pub(super) async fn import_methods(&self) -> Answered<Vec<String>> {
        match self.call(Call::get(Service::Image, "info/import")).await {
            Ok(answer) => {
                let info: Json = answer.json()?;
                let methods = info["import-methods"]["value"].as_array().cloned().unwrap_or_default();
                Ok(methods.iter().filter_map(Json::as_str).map(str::to_owned).collect())
            }
            Err(failure) if failure.is_missing() => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// The stores, with their kinds where the user may know them; none of a cloud with only one.
    pub(super) async fn stores(&self) -> Answered<Vec<Store>> {
        #[derive(Deserialize)]
        struct Stores {
            stores: Vec<Store>,
        }
        for path in ["info/stores/detail", "info/stores"] {
            match self.call(Call::get(Service::Image, path)).await {
                Ok(answer) => return answer.json().map(|list: Stores| list.stores),
                Err(failure) if matches!(failure.status(), Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Vec::new())
    }

    /// The project's limits by name; none where the cloud keeps none in Keystone.
    pub(super) async fn image_usage(&self) -> Answered<BTreeMap<String, Usage>> {
        #[derive(Deserialize)]
        struct Usages {
            usage: BTreeMap<String, Usage>,
        }
        match self.call(Call::get(Service::Image, "info/usage")).await {
            Ok(answer) => Ok(answer.json::<Usages>().map(|usages| usages.usage).unwrap_or_default()),
            Err(failure) if matches!(failure.status(), Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)) => {
                Ok(BTreeMap::new())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Begins an import: of what was staged, or of what lies at a URL.
    pub(super) async fn import(&self, id: &str, method: &Json, store: Option<&str>) -> Answered<()> {
        let mut body = json!({"method": method});
        if let Some(store) = store {
            body["stores"] = json!([store]);
        }
        let call = Call::new(Service::Image, Method::POST, format!("images/{id}/import")).json(&body);
        self.call(call).await.map(drop)
    }

    /// What Glance says of an image's tasks, such as a failed import; best effort.
    pub(super) async fn task_message(&self, id: &str) -> Option<String> {
        let tasks: Json = self.call(Call::get(Service::Image, format!("images/{id}/tasks"))).await.ok()?.json().ok()?;
        let messages = tasks["tasks"].as_array()?.iter().filter_map(|task| task["message"].as_str());
        messages.rev().find(|text| !text.trim().is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_keeps_what_is_not_known_here_as_properties() {
        let text = r#"{"id": "i", "name": null, "status": "active", "visibility": "shared", "os_hidden": false,
            "size": 5, "os_distro": "debian", "visabuild_name": "visa-apps", "stores": "file"}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        assert_eq!((image.property("os_distro"), image.title()), (Some("debian"), "i"));
        assert!(!image.is_unfinished());
    }

    #[test]
    fn the_store_is_the_named_the_default_or_the_only_one() {
        let stores: Vec<Store> = serde_json::from_str(
            r#"[{"id": "fast", "type": "rbd", "default": "true"}, {"id": "slow", "type": "file"}]"#,
        )
        .unwrap();
        assert_eq!(Store::taking(&stores, None).unwrap().kind.as_deref(), Some("rbd"));
        assert_eq!(Store::taking(&stores, Some("slow")).unwrap().kind.as_deref(), Some("file"));
        assert!(Store::taking(&stores, Some("none")).is_none() && Store::taking(&stores[1..], None).is_some());
    }

    #[test]
    fn changes_are_a_json_patch() {
        let changes = Changes::default().set("name", "new").set("os_hidden", false);
        let expected = json!([{"op": "add", "path": "/name", "value": "new"},
            {"op": "add", "path": "/os_hidden", "value": false}]);
        assert_eq!(Json::Array(changes.0), expected);
    }
}
