//! A file from elsewhere that a template names: where it can be had, and what it must be.

use std::path::PathBuf;

use serde::Serialize;

use super::fields::{Fields, Reader};
use super::paths::{Search, Want};
use super::{HostPath, Text};
use crate::download::{Checksum, Place, Request, Signature};
use crate::error::{Error, Problem, Result};

/// A file from elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remote {
    /// URLs or paths, tried in this order.
    pub urls: Vec<Text>,
    /// In one of Packer's forms.
    pub checksum: String,
    /// A keyring with the key that must have signed the list of checksums.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyring: Option<HostPath>,
    /// Where the list's signature is, if it is not in the list itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Text>,
    /// Folder that relative paths are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The keys of a file from elsewhere.
pub(super) struct RemoteKeys {
    url: &'static str,
    urls: &'static str,
    checksum: &'static str,
    keyring: &'static str,
    signature: &'static str,
}

pub(super) const ISO: RemoteKeys = RemoteKeys {
    url: "iso_url",
    urls: "iso_urls",
    checksum: "iso_checksum",
    keyring: "iso_checksum_keyring",
    signature: "iso_checksum_signature",
};
pub(super) const KERNEL: RemoteKeys = RemoteKeys {
    url: "kernel",
    urls: "kernel_urls",
    checksum: "kernel_checksum",
    keyring: "kernel_checksum_keyring",
    signature: "kernel_checksum_signature",
};
pub(super) const INITRD: RemoteKeys = RemoteKeys {
    url: "initrd",
    urls: "initrd_urls",
    checksum: "initrd_checksum",
    keyring: "initrd_checksum_keyring",
    signature: "initrd_checksum_signature",
};

/// A file from elsewhere.
pub(super) fn remote(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    keys: &RemoteKeys,
    search: &Search,
) -> Option<Option<Remote>> {
    let checksum = keys.checksum;
    let (url, urls) = (fields.entry(keys.url), fields.entry(keys.urls));
    let (keyring, signature) = (fields.get(keys.keyring), fields.get(keys.signature));
    let checksum_node = fields.get(checksum);
    if url.is_none() && urls.is_none() {
        if let Some(node) = checksum_node {
            reader.at(node.location(), format!("`{checksum}` is the checksum of nothing: no URL is given"));
            return None;
        }
        return Some(None);
    }
    let place = url.or(urls)?.location();
    let list = match (url, urls) {
        (Some(url), Some(urls)) => {
            reader.at(urls.location(), format!("`{}` cannot stand beside `{}`", urls.key, url.key));
            return None;
        }
        (Some(url), None) => reader.text(&url.value).map(|url| vec![url]),
        (None, urls) => reader.some(&urls?.value, Reader::text),
    };
    let checksum = match checksum_node {
        Some(node) => reader.public(node),
        None => {
            let hint = "give the file's SHA-256, `file:URL` of a list of checksums, or `none` to trust whatever comes";
            reader.problems.add(Problem::at(place.clone(), format!("`{checksum}` is missing")).hint(hint));
            None
        }
    };
    if let Some(node) = signature.filter(|_| keyring.is_none()) {
        reader.at(node.location(), format!("a signature says nothing without the key: `{}` is missing", keys.keyring));
        return None;
    }
    let keyring = reader.optional(keyring, |reader, node| search.find(reader, node, Want::File));
    let signature = reader.optional(signature, Reader::text);
    let folder = search.own().to_owned();
    let remote = Remote { urls: list?, checksum: checksum?, keyring: keyring?, signature: signature?, folder };
    if let Err(error) = remote.request() {
        reader.at(place, error.chain().join(": "));
        return None;
    }
    Some(Some(remote))
}

impl Remote {
    /// The first of its places that is a file of this host and there, unless its checksum is given.
    pub(super) fn unchecked_file(&self) -> Option<(PathBuf, String)> {
        let request = self.request().ok()?;
        if matches!(request.checksum, Checksum::Digest(_)) {
            return None;
        }
        request.places.iter().zip(&self.urls).find_map(|(place, url)| match place {
            Place::File(path) if path.is_file() => Some((path.clone(), url.masked().to_owned())),
            _ => None,
        })
    }

    /// What is to be downloaded.
    ///
    /// # Errors
    /// A URL or the checksum cannot be understood (kind usage).
    pub fn request(&self) -> Result<Request> {
        let urls: Vec<&str> = self.urls.iter().map(Text::plain).collect();
        let mut request = Request::parse(&urls, &self.checksum, &self.folder)?;
        let Some(keyring) = &self.keyring else { return Ok(request) };
        let Checksum::List { signature, .. } = &mut request.checksum else {
            return Err(Error::usage("only a list of checksums can be signed (`file:URL`)"));
        };
        let place = self.signature.as_ref().map(|url| Place::parse(url.plain(), &self.folder)).transpose()?;
        *signature = Some(Signature { place, keyring: keyring.path.clone() });
        Ok(request)
    }
}
