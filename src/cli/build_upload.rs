//! `visabuild build --upload`: what can go wrong in the cloud is found before anything is built.

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::args::BuildArgs;
use super::project::Prepared;
use super::signals::Signals;
use super::{Environment, cloud, print};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::glance::{self, Cloud, Publication};
use crate::pipeline::Artifact;
use crate::plan::Stage;

/// A session with the cloud that waits for the images.
#[derive(Debug)]
pub(super) struct Upload {
    cloud: Cloud,
    secrets: Vec<SecretString>,
    wanted: Publication,
    templates: Vec<String>,
}

impl Upload {
    /// Logs in, and looks at project, quota, store, method and names, if `--upload` is given.
    pub(super) async fn prepare(
        args: &BuildArgs,
        prepared: &Prepared,
        environment: &Environment,
        signals: &Signals,
    ) -> Result<Option<Self>> {
        if !args.upload {
            return Ok(None);
        }
        let wanted = args.publish.publication()?;
        let plan = &prepared.plan;
        let named = &args.project.templates;
        let chosen =
            |stage: &&Stage| if named.is_empty() { !plan.is_parent(&stage.name) } else { named.contains(&stage.name) };
        let chosen: Vec<_> = plan.stages.iter().filter(chosen).collect();
        let templates: Vec<_> = chosen.iter().map(|stage| stage.name.clone()).collect();
        if let (Some(name), 2..) = (&wanted.name, templates.len()) {
            return Err(Error::usage(format!("the images of {} cannot all be named `{name}`", templates.join(", ")))
                .hint("name one template, or leave --name out"));
        }
        let past = chosen.iter().find(|stage| stage.alternatives.values().any(|chosen| chosen.end_of_life));
        if let Some(stage) = past.filter(|_| !wanted.candidate && !wanted.promotion.allow_eol) {
            return Err(Error::usage(format!("`{}` would have content past its end of life", stage.name))
                .hint("--allow-eol publishes it all the same, --candidate uploads it without promoting it"));
        }
        let (cloud, secrets) = cloud::connect(&args.cloud, environment, signals).await?;
        let names = templates.iter().map(|name| wanted.name.as_deref().unwrap_or(name));
        cloud.check(&wanted, &names.collect::<Vec<_>>()).await?;
        Ok(Some(Self { cloud, secrets, wanted, templates }))
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> &[SecretString] {
        &self.secrets
    }

    /// Publishes the images.
    pub(super) async fn finish(
        self,
        artifacts: &[Artifact],
        cache: &Cache,
        events: &Events,
        (json, cancel): (bool, &CancellationToken),
    ) -> Result<()> {
        let mut images = Vec::new();
        for artifact in artifacts.iter().filter(|artifact| self.templates.contains(&artifact.template)) {
            images.push(glance::Artifact::read(&artifact.path, cancel).await?);
        }
        let published = cloud::publish(&self.cloud, &images, &self.wanted, cache, events).await?;
        if !json {
            published.iter().for_each(|one| print(&cloud::summary(one, &self.cloud)));
        }
        Ok(())
    }
}
