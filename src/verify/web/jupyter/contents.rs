//! Files, by the contents API and as the browser downloads them.

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Jupyter, expect, header};
use crate::error::Result;

/// JupyterLab sends files in pieces of this many bytes (`CHUNK_SIZE` in its file browser's model), which in
/// base64 stay below the 2 MB that the platform's proxy lets through.
const CHUNK: usize = 1024 * 1024;

/// What stands for itself in a path (RFC 3986, section 2.3), and the slash between names.
const NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl Jupyter {
    /// Uploads `bytes` to `path`, which is relative to the server's root, as JupyterLab does: more than 1 MiB
    /// in numbered pieces.
    ///
    /// # Errors
    /// The server refuses a piece (kind verification), or does not answer.
    pub async fn upload(&self, path: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= CHUNK {
            return self.put(path, bytes, None).await;
        }
        let last = bytes.len().div_ceil(CHUNK);
        for (number, piece) in (1..).zip(bytes.chunks(CHUNK)) {
            let number = if number == last { json!(-1) } else { json!(number) };
            self.put(path, piece, Some(number)).await?;
        }
        Ok(())
    }

    async fn put(&self, path: &str, bytes: &[u8], chunk: Option<Value>) -> Result<()> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let content = BASE64_STANDARD.encode(bytes);
        let mut model = json!({ "type": "file", "format": "base64", "name": name, "content": content });
        if let Some(chunk) = chunk {
            model["chunk"] = chunk;
        }
        self.change(Method::PUT, &contents(path), Some(&model), &[200, 201]).await.map(drop)
    }

    /// Downloads the file `path`, of at most [`BODY_LIMIT`](crate::verify::web::http::BODY_LIMIT) bytes, as a link in JupyterLab does.
    ///
    /// # Errors
    /// The server answers another status than 200 (kind verification), or not at all.
    pub async fn download(&self, path: &str) -> Result<Vec<u8>> {
        let what = format!("/files/{}", encoded(path));
        let xsrf = self.xsrf_cookie().await?;
        // The server gives files only to pages of its own.
        let referer = format!("{}{}", self.origin(), self.below("/lab"));
        let answer = self.get(&what, &[header("Referer", &referer), self.cookie(xsrf)]).await?;
        Ok(expect(&format!("GET {what}"), answer, &[200])?.body)
    }

    /// Deletes the file `path`.
    ///
    /// # Errors
    /// The server answers another status than 204 (kind verification), or not at all.
    pub async fn delete_file(&self, path: &str) -> Result<()> {
        self.change(Method::DELETE, &contents(path), None, &[204]).await.map(drop)
    }
}

fn encoded(path: &str) -> String {
    utf8_percent_encode(path.trim_start_matches('/'), NAMES).to_string()
}

fn contents(path: &str) -> String {
    format!("/api/contents/{}", encoded(path))
}
