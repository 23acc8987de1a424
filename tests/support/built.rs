//! A project with a cache and results as a build leaves them, made without one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use visabuild::cache::{Cache, LayerInfo, SealedState, Secrets, Share};
use visabuild::image::{SEAL_SCRIPT, SESSION_SCRIPT};
use visabuild::plan::{Facts, OwnScripts, Plan, Record, Stage};
use visabuild::source::{boot_loader, bootstrap};
use visabuild::template::{Inputs, Value, load, resolve};

use super::{told, visabuild};

/// Sunday, 2026-11-22, 12:00 UTC.
pub const NOON: u64 = 1_795_348_800;

const CONFIG: &str = "templates:\n  tiny:\n  app:\n    extends: tiny\n";

const TINY: &str = "\
packer:
  builders:
    - type: bootstrap
      suite: trixie
      packages: [cloud-init]
  provisioners:
    - type: shell
      name: prepare
      inline: [\"echo one\"]
";

pub const APP: &str = "\
packer:
  variables:
    colour: blue
  provisioners:
    - type: shell
      script: install.sh
      env:
        LANG: C
    - type: file
      source: files/
      destination: /srv
    - type: shell
      name: finish
      inline:
        - echo {{ word }}
        - echo end
seal:
  provisioners:
    - type: shell
      name: last
      inline: [\"true\"]
";

/// A project with a cache of its own.
pub struct Built {
    pub folder: tempfile::TempDir,
    pub password: Option<&'static str>,
}

impl Built {
    pub fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), password: None };
        bench.write("config.yml", CONFIG);
        bench.write("templates/tiny/manifest.yml", TINY);
        bench.write("templates/tiny/environment.yml", "environment:\n  word: hello\n");
        bench.write("templates/app/manifest.yml", APP);
        bench.write("templates/app/environment.yml", "environment:\n");
        bench.write("templates/app/install.sh", "#!/bin/sh\napt-get update\napt-get install vim\nexit 0\n");
        bench.write("templates/app/files/a.txt", "a\n");
        bench.write("templates/app/files/tool", "#!/bin/sh\n");
        bench
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.path(path), text.replace(from, to)).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> (String, String, i32) {
        let mut command = visabuild();
        command.env("XDG_CACHE_HOME", self.path("cache")).env("SOURCE_DATE_EPOCH", NOON.to_string());
        command.args(arguments).arg("-C").arg(self.folder.path());
        if let Some(password) = self.password {
            command.args(["-rp", password]);
        }
        told(&command.output().unwrap())
    }

    /// Standard output of a run that succeeds.
    pub fn says(&self, arguments: &[&str]) -> String {
        let (out, err, code) = self.run(arguments);
        assert_eq!((err.as_str(), code), ("", 0), "{arguments:?}");
        out
    }

    pub fn cache(&self) -> Cache {
        Cache::open(&self.path("cache/visabuild")).unwrap()
    }

    pub fn plan(&self) -> Plan {
        let password = self.password.map(|password| Value::Secret(password.to_owned().into()));
        let values = password.into_iter().map(|value| ("root_password".to_owned(), value)).collect();
        let environment = BTreeMap::new();
        let inputs = Inputs { values, environment, now: NOON, ..Inputs::default() };
        let project = load(self.folder.path()).map_err(|error| error.chain()).unwrap();
        let resolved = resolve(&project, &[], &inputs).map_err(|error| format!("{error:?}")).unwrap();
        let scripts = OwnScripts {
            configure: bootstrap::CONFIGURE_SCRIPT,
            boot_loader: boot_loader::SCRIPTS,
            session: SESSION_SCRIPT,
            seal: SEAL_SCRIPT,
        };
        Plan::new(&resolved, scripts, false).unwrap()
    }

    /// Makes cache and results as a build leaves them, with a checkpoint after each step.
    pub fn built(&self) {
        let (cache, plan) = (self.cache(), self.plan());
        let history = cache.history(self.folder.path());
        let mut below: BTreeMap<String, String> = BTreeMap::new();
        for stage in &plan.stages {
            let parent = match &stage.base {
                Some(base) => {
                    self.put(&cache.bases(), base.fingerprint.as_str(), None);
                    history.took(&stage.name, Share::Base, ("bootstrap", None), 40.0).unwrap();
                    base.fingerprint.to_string()
                }
                None => below[stage.parent.as_ref().unwrap()].clone(),
            };
            for (index, step) in stage.steps.iter().enumerate() {
                self.put(&cache.checkpoints(), step.fingerprint.as_str(), Some(&parent));
                let name = (step.provisioner.label.as_str(), Some(step.identity()));
                history.took(&stage.name, Share::Layer, name, 60.0 + index as f64).unwrap();
            }
            self.put(&cache.layers(), stage.fingerprint.as_str(), Some(&parent));
            below.insert(stage.name.clone(), stage.fingerprint.to_string());
            history.took(&stage.name, Share::Layer, ("wait for SSH", None), 10.0).unwrap();
            history.took(&stage.name, Share::Seal, ("compress", None), 5.0).unwrap();
            for step in &stage.seal.steps {
                let name = (step.provisioner.label.as_str(), Some(step.identity()));
                history.took(&stage.name, Share::Seal, name, 1.0).unwrap();
            }
            self.publish(&cache, &plan, stage);
        }
    }

    pub fn put(&self, store: &visabuild::cache::LayerStore, key: &str, parent: Option<&str>) {
        if store.get(key, parent).unwrap().is_some() {
            return;
        }
        let disk = self.path("disk");
        let mut create = std::process::Command::new("qemu-img");
        create.args(["create", "-q", "-u", "-f", "qcow2"]);
        if let Some(parent) = parent {
            let cache = self.cache();
            let folders = ["bases", "layers"].map(|folder| cache.root().join(folder));
            let mut below = folders.iter().map(|folder| folder.join(format!("{parent}.{parent}.qcow2")));
            create.args(["-F", "qcow2", "-b"]).arg(below.find(|path| path.exists()).unwrap());
        }
        assert!(create.arg(&disk).arg("1M").status().unwrap().success());
        let info = LayerInfo {
            guest: None,
            fetched: Vec::new(),
            instance: key.to_owned(),
            parent: parent.map(str::to_owned),
            beneath: Vec::new(),
            template: "t".to_owned(),
            engine: None,
            created: 1,
            seconds: 1.0,
            phases: Vec::new(),
        };
        drop(store.put(key, &disk, &info).unwrap());
    }

    pub fn publish(&self, cache: &Cache, plan: &Plan, stage: &Stage) {
        let image = self.image(&stage.name);
        self.write(&format!("builds/{0}/{0}.qcow2", stage.name), "image");
        self.write(&format!("builds/{0}/{0}.manifest.json", stage.name), "{}");
        let mut secrets = Secrets::default();
        if let Some(password) = self.password {
            secrets.insert("root_password", password.into());
        }
        let tags = secrets.tags(cache, &stage.seal.secrets).unwrap();
        let settings = vec!["compression=zstd".to_owned()];
        let facts = Facts {
            secrets: tags.clone(),
            settings: settings.clone(),
            created: NOON,
            visabuild: "0.1".to_owned(),
            ..Facts::default()
        };
        let parent = stage.parent.as_deref().and_then(|name| plan.stage(name));
        let history = cache.history(self.folder.path());
        history.keep(&Record::of(stage, parent, facts), stage.files()).unwrap();
        let state = SealedState { fingerprint: stage.seal.fingerprint.to_string(), secrets: tags, settings };
        state.record(cache, &image).unwrap();
    }

    pub fn image(&self, template: &str) -> PathBuf {
        self.path(&format!("builds/{template}/{template}.qcow2"))
    }
}

pub fn built() -> Built {
    let bench = Built::new();
    bench.built();
    bench
}
