//! A host with finished images, and what of them is in a cloud.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use tempfile::TempDir;

use crate::openstack::Cloud;

/// What a run said.
#[derive(Debug)]
pub struct Told {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// A host of `builder` in the project `visa`.
#[derive(Debug)]
pub struct Host {
    folder: std::sync::Arc<TempDir>,
    environment: Vec<(String, String)>,
}

impl Host {
    pub fn new(cloud: &Cloud) -> Self {
        Self::of(cloud.environment("builder", "visa"))
    }

    pub fn of(environment: Vec<(String, String)>) -> Self {
        Self { folder: TempDir::new().unwrap().into(), environment }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The same host with other variables.
    pub fn with(&self, environment: Vec<(String, String)>) -> Self {
        Self { folder: self.folder.clone(), environment }
    }

    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self.environment.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        self.with(kept.cloned().collect())
    }

    pub fn and(&self, name: &str, value: &str) -> Self {
        let mut environment = self.without(&[name]).environment;
        environment.push((name.to_owned(), value.to_owned()));
        self.with(environment)
    }

    /// An image of `template` with its manifest, as a build leaves them; `seed` makes its content.
    pub fn image(&self, template: &str, seed: u8) -> PathBuf {
        let folder = self.path().join("builds").join(template);
        fs::create_dir_all(&folder).unwrap();
        let raw = folder.join("raw");
        let mut bytes = vec![0; 3 << 20];
        for (index, byte) in bytes[1 << 20..(1 << 20) + 700_000].iter_mut().enumerate() {
            *byte = u8::try_from((index * 7 + index / 251) % 256).unwrap() ^ seed;
        }
        fs::write(&raw, bytes).unwrap();
        let image = folder.join(format!("{template}.qcow2"));
        let convert = ["convert", "-f", "raw", "-O", "qcow2"];
        assert!(Command::new("qemu-img").args(convert).arg(&raw).arg(&image).status().unwrap().success());
        self.describe(&image, &json!({"inputs": {"seal_fingerprint": format!("f{seed}"), "root_password": true}}));
        image
    }

    /// Writes the image's manifest, with `more` in it.
    pub fn describe(&self, image: &Path, more: &Value) {
        let bytes = fs::read(image).unwrap();
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut manifest = json!({
            "version": 1, "template": image.file_stem().unwrap().to_str().unwrap(), "created": "2026-11-21T11:50:00Z",
            "visabuild": "0.1.0", "commit": "abc", "os": {"id": "debian", "version": "13"}, "end_of_life": false,
            "image": {"file": image.file_name().unwrap().to_str().unwrap(), "size": bytes.len(),
                "sha256": hex(&Sha256::digest(&bytes)), "sha512": hex(&Sha512::digest(&bytes))},
            "inputs": {"seal_fingerprint": "f", "root_password": true}, "packages": {}, "warnings": [],
        });
        for (name, value) in more.as_object().unwrap() {
            manifest[name] = value.clone();
        }
        fs::write(image.with_extension("manifest.json"), manifest.to_string()).unwrap();
    }

    /// A project whose leaves are `visa-apps` and `notebook`.
    pub fn project(&self) {
        fs::write(
            self.path().join("config.yml"),
            "templates:\n  base:\n  visa-apps: {extends: base}\n  notebook: {extends: base}\n",
        )
        .unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visabuild"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("VISA") || name.starts_with("OS_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("HOME", self.path().join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs visabuild to its end.
    pub async fn run(&self, arguments: &[&str]) -> Told {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.kill_on_drop(true).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Told { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
    }

    /// No record of something begun is left.
    pub fn nothing_is_left(&self) {
        let records = self.records();
        assert!(records.is_empty(), "{records:?}");
    }

    /// What is written down as begun.
    pub fn records(&self) -> Vec<String> {
        let folder = self.path().join("cache/visabuild/uploads");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The names of all images, hidden ones too.
pub async fn names(cloud: &Cloud) -> Vec<String> {
    cloud.images().await.iter().map(|image| image["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The only image of that name.
pub async fn one(cloud: &Cloud, name: &str) -> Value {
    let found = cloud.images_named(name).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}
