//! Glance as its administrator sees it: not through the proxy, all projects, and the files below it.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::Cloud;

/// An image's data without the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// In hexadecimal digits, as `os_hash_value` has it.
    pub sha512: String,
    pub size: u64,
}

impl Content {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha512: hexadecimal(&Sha512::digest(bytes)), size: bytes.len() as u64 }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Cloud {
    /// All images of all projects, hidden ones too, the newest first.
    pub async fn images(&self) -> Vec<Value> {
        let mut images = Vec::new();
        for hidden in ["false", "true"] {
            let mut page = Some(format!("/v2/images?limit=100&visibility=all&member_status=all&os_hidden={hidden}"));
            while let Some(path) = page {
                let listed = json_of(self.glance_request(Method::GET, &path).await).await;
                images.extend(listed["images"].as_array().unwrap().iter().cloned());
                page = listed["next"].as_str().map(str::to_owned);
            }
        }
        images
    }

    /// Images of this name.
    pub async fn images_named(&self, name: &str) -> Vec<Value> {
        let mut images = self.images().await;
        images.retain(|image| image["name"] == name);
        images
    }

    /// An image; none where there is none.
    pub async fn image(&self, id: &str) -> Option<Value> {
        let answer = self.glance_request(Method::GET, &format!("/v2/images/{id}")).await.send().await.unwrap();
        if answer.status() == 404 {
            return None;
        }
        Some(read_json(answer).await)
    }

    /// An image's data.
    pub async fn download(&self, id: &str) -> Vec<u8> {
        self.data(id).await.bytes().await.unwrap().to_vec()
    }

    /// Digest and size of an image's data, of which little is held at once.
    pub async fn content(&self, id: &str) -> Content {
        let (mut data, mut hash, mut size) = (self.data(id).await, Sha512::new(), 0);
        while let Some(piece) = data.chunk().await.unwrap() {
            hash.update(&piece);
            size += piece.len() as u64;
        }
        Content { sha512: hexadecimal(&hash.finalize()), size }
    }

    async fn data(&self, id: &str) -> Response {
        let answer = self.glance_request(Method::GET, &format!("/v2/images/{id}/file")).await.send().await.unwrap();
        assert_eq!(answer.status(), 200, "image {id} has no data");
        answer
    }

    /// Deletes an image, a protected one too.
    pub async fn delete(&self, id: &str) {
        self.change(id, json!([{"op": "replace", "path": "/protected", "value": false}])).await;
        let answer = self.glance_request(Method::DELETE, &format!("/v2/images/{id}")).await.send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }

    /// Changes an image by a JSON patch, as somebody else might while visabuild runs.
    pub async fn change(&self, id: &str, patch: Value) -> Value {
        let request = self.glance_request(Method::PATCH, &format!("/v2/images/{id}")).await;
        let kind = "application/openstack-images-v2.1-json-patch";
        json_of(request.header("content-type", kind).body(patch.to_string())).await
    }

    /// Ids of the projects with which an image is shared, with what they said to it.
    pub async fn members(&self, id: &str) -> Vec<(String, String)> {
        let listed = json_of(self.glance_request(Method::GET, &format!("/v2/images/{id}/members")).await).await;
        let member = |item: &Value| {
            (item["member_id"].as_str().unwrap().to_owned(), item["status"].as_str().unwrap().to_owned())
        };
        listed["members"].as_array().unwrap().iter().map(member).collect()
    }

    /// An active image of a project, made by somebody else. `properties` may be of Glance (`visibility`) or free.
    pub async fn create_by_hand(&self, name: &str, project: &str, bytes: &[u8], properties: Value) -> Value {
        let mut image = json!({"name": name, "owner": self.project_id(project), "disk_format": "raw",
                               "container_format": "bare"});
        image.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        let request = self.glance_request(Method::POST, "/v2/images").await;
        let created = json_of(request.header("content-type", "application/json").body(image.to_string())).await;
        let id = created["id"].as_str().unwrap();
        let request = self.glance_request(Method::PUT, &format!("/v2/images/{id}/file")).await;
        let request = request.header("content-type", "application/octet-stream").body(bytes.to_vec());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 204);
        self.image(id).await.unwrap()
    }

    /// Waits until an image is in this status.
    pub async fn wait_for_status(&self, id: &str, status: &str) -> Value {
        let deadline = tokio::time::Instant::now() + super::fault_proxy::PATIENCE;
        loop {
            let image = self.image(id).await.unwrap();
            if image["status"] == status {
                return image;
            }
            assert!(tokio::time::Instant::now() < deadline, "not {status}: {image:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Bytes in Glance's store.
    pub fn bytes_stored(&self) -> u64 {
        size_of(self.glance_folder().join("store"))
    }

    /// Waits until nothing is staged: Glance tidies up after an image has become active.
    pub async fn staging_empties(&self) {
        let deadline = tokio::time::Instant::now() + super::fault_proxy::PATIENCE;
        while !self.staging_is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "something stays staged");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether Glance has neither staged data nor data of tasks.
    pub fn staging_is_empty(&self) -> bool {
        ["staging", "tasks"].into_iter().all(|folder| size_of(self.glance_folder().join(folder)) == 0)
    }

    /// A request to Glance itself with the rights of its administrator.
    pub async fn glance_request(&self, method: Method, path: &str) -> RequestBuilder {
        let token = self.admin_token().await;
        let url = format!("http://{}{path}", self.glance_address());
        self.http().request(method, url).header("x-auth-token", token)
    }
}

fn size_of(folder: PathBuf) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

async fn json_of(request: RequestBuilder) -> Value {
    read_json(request.send().await.unwrap()).await
}

/// The JSON of an answer that must be good.
pub(super) async fn read_json(answer: Response) -> Value {
    let (status, url) = (answer.status(), answer.url().clone());
    let body = answer.bytes().await.unwrap();
    assert!(status.is_success(), "{url}: {status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}
