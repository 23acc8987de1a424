//! A finished image on this host, and what its manifest and its verification say of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::image::qemu_img;
use crate::image::record::Record;
use crate::verify::report::Report;

/// Formats that Glance knows and qemu-img reads (Glance, "Disk and Container Formats").
const FORMATS: [&str; 6] = ["qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc"];

/// What a disk consists of, bytes; qemu-img takes any file for a raw image.
const SECTOR: u64 = 512;

/// An image that can be published.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The file.
    pub path: PathBuf,
    /// The template's name, or the file's without its ending.
    pub name: String,
    /// Its format, as qemu-img names it.
    pub format: String,
    /// Size of the file, bytes.
    pub size: u64,
    /// Size that a guest sees, bytes.
    pub virtual_size: u64,
    /// What is known of an image that visabuild made.
    pub record: Option<Record>,
    /// What its verification found, in a few words.
    pub contract: Option<String>,
}

impl Artifact {
    /// Reads what is known of the image at `path`.
    ///
    /// # Errors
    /// It is no image, is incomplete, lies on another file, or does not belong to the manifest beside it.
    pub async fn read(path: &Path, cancel: &CancellationToken) -> Result<Self> {
        let usage = |message: String| Error::usage(message);
        let size =
            fs::metadata(path).map_err(|error| usage(format!("cannot read {}", path.display())).because(error))?.len();
        let info = qemu_img::info(path, cancel)
            .await
            .map_err(|error| error.context(format!("{} is no disk image", path.display())).of_kind(Kind::Usage))?;
        if let Some(other) = info.other_file() {
            return Err(usage(format!(
                "{} lies on another file ({other}), so it is no image by itself",
                path.display()
            ))
            .hint(format!("flatten it: `qemu-img convert -O qcow2 {} flat.qcow2`", path.display())));
        }
        if info.encrypted {
            return Err(usage(format!("{} is encrypted, and the cloud would have no key", path.display())));
        }
        if !FORMATS.contains(&info.format.as_str()) {
            return Err(usage(format!(
                "{} has the format {}, which Glance does not take",
                path.display(),
                info.format
            ))
            .hint(format!("it takes {}: convert it with qemu-img", FORMATS.join(", "))));
        }
        if info.format == "raw" && (size == 0 || size % SECTOR != 0) {
            return Err(usage(format!("{} is no disk image: its {size} bytes are not whole sectors", path.display())));
        }
        let record = Record::beside(path, size)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let contract = record.as_ref().and_then(|record| Some(Report::of(path, &record.image.sha256)?.summary()));
        Ok(Self {
            path: path.to_owned(),
            name: record.as_ref().map_or(stem, |record| record.template.clone()),
            format: info.format,
            size,
            virtual_size: info.virtual_size,
            record,
            contract,
        })
    }

    /// Least disk of a flavour that it boots on, GiB.
    pub fn min_disk(&self) -> u64 {
        self.virtual_size.div_ceil(1 << 30)
    }

    /// Whether it has a hash of a password, where that is known.
    pub fn has_password(&self) -> Option<bool> {
        self.record.as_ref().map(|record| record.inputs.root_password)
    }

    /// Whether content of it is past its end of life, as far as is known.
    pub fn end_of_life(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.end_of_life)
    }

    /// Properties that follow from what is in it, by their names in Glance (Glance, "Useful image
    /// properties"; os_distro is libosinfo's short id).
    pub fn properties(&self) -> BTreeMap<String, String> {
        let mut properties: BTreeMap<&str, String> = BTreeMap::new();
        let Some(record) = &self.record else { return BTreeMap::new() };
        properties.insert("architecture", "x86_64".into());
        properties.insert("os_type", "linux".into());
        if let Some(os) = &record.os {
            properties.insert("os_distro", os.id.clone());
            properties.insert("os_version", os.version.clone());
        }
        // What the guests that visabuild boots are made of, and so what is known to work.
        properties.insert("hw_disk_bus", "virtio".into());
        properties.insert("hw_vif_model", "virtio".into());
        properties.insert("hw_rng_model", "virtio".into());
        if record.packages.contains_key("qemu-guest-agent") {
            properties.insert("hw_qemu_guest_agent", "yes".into());
        }
        properties.insert("visabuild_version", record.visabuild.clone());
        properties.insert("visabuild_created", record.created.clone());
        properties.insert("visabuild_fingerprint", record.inputs.seal_fingerprint.clone());
        if let Some(commit) = &record.commit {
            properties.insert("visabuild_commit", commit.clone());
        }
        if let Some(contract) = &self.contract {
            properties.insert("visabuild_contract", contract.clone());
        }
        if record.end_of_life {
            properties.insert(END_OF_LIFE, "yes".into());
        }
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Marks an image with content that nobody mends any more.
pub(super) const END_OF_LIFE: &str = "visabuild_end_of_life";

#[cfg(test)]
mod tests {
    use super::*;

    async fn image(folder: &Path) -> PathBuf {
        let path = folder.join("t.qcow2");
        let args = ["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "1025M"];
        crate::process::Run::new("qemu-img", args).output(&CancellationToken::new()).await.unwrap();
        path
    }

    async fn read(path: &Path) -> Result<Artifact> {
        Artifact::read(path, &CancellationToken::new()).await
    }

    fn manifest_of(size: u64) -> String {
        serde_json::json!({
            "version": 1, "template": "visa-apps", "created": "2026-11-21T11:50:00Z", "visabuild": "0.1.0",
            "commit": "abc", "image": {"file": "t.qcow2", "size": size, "sha256": "a", "sha512": "b"},
            "inputs": {"seal_fingerprint": "f", "root_password": true}, "end_of_life": true,
            "os": {"id": "debian", "version": "13"}, "packages": {"qemu-guest-agent": "1"},
        })
        .to_string()
    }

    #[tokio::test]
    async fn an_image_without_a_manifest_says_what_qemu_img_does() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = read(&image(folder.path()).await).await.unwrap();
        assert_eq!((artifact.name.as_str(), artifact.format.as_str(), artifact.min_disk()), ("t", "qcow2", 2));
        assert!(artifact.properties().is_empty() && artifact.has_password().is_none());
    }

    #[tokio::test]
    async fn properties_come_from_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path()).await;
        let size = fs::metadata(&path).unwrap().len();
        fs::write(folder.path().join("t.manifest.json"), manifest_of(size)).unwrap();
        let artifact = read(&path).await.unwrap();
        let properties = artifact.properties();
        let of = |name: &str| properties.get(name).map(String::as_str);
        assert_eq!(
            (of("os_distro"), of("os_version"), of("hw_qemu_guest_agent")),
            (Some("debian"), Some("13"), Some("yes"))
        );
        assert_eq!(
            (of("visabuild_fingerprint"), of("visabuild_commit"), of(END_OF_LIFE)),
            (Some("f"), Some("abc"), Some("yes"))
        );
        assert_eq!(
            (artifact.name.as_str(), artifact.has_password(), artifact.contract),
            ("visa-apps", Some(true), None)
        );
    }

    #[tokio::test]
    async fn what_does_not_belong_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path()).await;
        let manifest = folder.path().join("t.manifest.json");
        fs::write(&manifest, manifest_of(1)).unwrap();
        assert!(read(&path).await.unwrap_err().chain()[0].contains("is not the image that"));
        fs::write(&manifest, "{").unwrap();
        assert!(read(&path).await.unwrap_err().chain()[0].contains("is no manifest"));
        fs::write(&manifest, manifest_of(1).replace("\"version\":1", "\"version\":9")).unwrap();
        assert!(read(&path).await.unwrap_err().chain()[0].contains("has the form 9"));
        assert!(read(&folder.path().join("none")).await.is_err());
        let overlay = folder.path().join("o.qcow2");
        let args =
            ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path.to_str().unwrap(), overlay.to_str().unwrap()];
        crate::process::Run::new("qemu-img", args).output(&CancellationToken::new()).await.unwrap();
        assert!(read(&overlay).await.unwrap_err().chain()[0].contains("lies on another file"));
    }
}
