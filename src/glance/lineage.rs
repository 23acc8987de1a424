//! The images of one name: which one counts, which were before it, and how one takes another's place.
//!
//! Each image carries its part as properties, so that every visabuild, on whatever host, knows it.
//!
//! | `visabuild_state` | is |
//! |---|---|
//! | `uploading` | not known to be whole yet |
//! | `candidate` | whole; private and hidden |
//! | `current` | what the name stands for |
//! | `previous` | what it stood for before: renamed with its date, hidden |
//! | `withdrawn` | taken back by a rollback |

use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::ValueEnum;
use serde::Serialize;

use super::artifact::END_OF_LIFE;
use super::cloud::Cloud;
use super::compute::Use;
use super::failure::Failure;
use super::image::{Changes, Image, Visibility};
use super::login::is_id;
use crate::error::{Error, Kind, Result};
use crate::event::Events;

/// The name that an image has, had or is to have.
pub(super) const NAME: &str = "visabuild_name";
/// What it is among those of that name.
pub(super) const STATE: &str = "visabuild_state";
/// The visibility that it is to have once it is promoted.
pub(super) const VISIBILITY: &str = "visabuild_visibility";
/// When its place was taken, RFC 3339 to the millisecond: two may be replaced within a second.
const REPLACED: &str = "visabuild_replaced";
/// The image that took it.
const REPLACED_BY: &str = "visabuild_replaced_by";

/// What an image is among those of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not known to be whole yet.
    Uploading,
    /// Whole, not promoted.
    Candidate,
    /// What the name stands for.
    Current,
    /// What it stood for before.
    Previous,
    /// Taken back by a rollback.
    Withdrawn,
}

impl State {
    /// Its word in the property.
    pub fn word(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Candidate => "candidate",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Image {
    /// What it is; an image that others made counts by its name.
    pub fn state(&self) -> State {
        match self.property(STATE) {
            Some("uploading") => State::Uploading,
            Some("candidate") => State::Candidate,
            Some("previous") => State::Previous,
            Some("withdrawn") => State::Withdrawn,
            _ => State::Current,
        }
    }

    /// The name that it has, had or is to have.
    pub fn wanted_name(&self) -> &str {
        self.property(NAME).or(self.name.as_deref()).unwrap_or_default()
    }
}

/// How an image is promoted.
#[derive(Debug, Clone, Default)]
pub struct Promotion {
    /// Who may see it; what it was uploaded for if none, else `shared` as the openstack client has it.
    pub visibility: Option<Visibility>,
    /// Whether lists leave it out.
    pub hidden: bool,
    /// Whether nobody may delete it.
    pub protected: bool,
    /// Promote it though content of it is past its end of life.
    pub allow_eol: bool,
    /// Projects to share it with, by name or id.
    pub share_with: Vec<String>,
}

/// An image that lost its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Its id.
    pub id: String,
    /// Its name now.
    pub name: String,
}

impl Cloud {
    /// The project's images of a name, newest first: those that visabuild made for it, and those that
    /// others gave that name.
    ///
    /// # Errors
    /// The cloud refuses or is not reachable.
    pub async fn lineage(&self, name: &str) -> Result<Vec<Image>> {
        let project = self.project().id;
        let explain = |failure: Failure| failure.explain(&format!("listing the images of `{name}`"));
        let mut all = self.images(&[("owner", &project), (NAME, name)]).await.map_err(explain)?;
        let known: BTreeSet<_> = all.iter().map(|image| image.id.clone()).collect();
        let named = self.images(&[("owner", &project), ("name", name)]).await.map_err(explain)?;
        let foreign = named.into_iter().filter(|image| !known.contains(&image.id));
        // One whose property names another lineage belongs there, whatever it is called.
        all.extend(foreign.filter(|image| image.wanted_name() == name));
        all.sort_by(|one, other| (&other.created_at, &other.id).cmp(&(&one.created_at, &one.id)));
        Ok(all)
    }

    /// Every image of the project that visabuild knows, and who they are shared with.
    ///
    /// # Errors
    /// As [`Cloud::lineage`].
    pub async fn own_images(&self) -> Result<Vec<Image>> {
        let project = self.project().id;
        let listed = self.images(&[("owner", &project)]).await;
        let mut all = listed.map_err(|failure| failure.explain("listing the project's images"))?;
        all.retain(|image| image.property(STATE).is_some());
        all.sort_by(|one, other| {
            one.wanted_name().cmp(other.wanted_name()).then_with(|| other.created_at.cmp(&one.created_at))
        });
        Ok(all)
    }

    /// Lets `image` stand for its name. At every moment an image of that name is there: the new one gets
    /// it before the old ones lose it.
    ///
    /// # Errors
    /// The cloud refuses, or the image is past its end of life and nobody allows that.
    pub async fn promote(&self, image: &Image, wanted: &Promotion, events: &Events) -> Result<Vec<Replaced>> {
        let name = image.wanted_name().to_owned();
        let explain = |failure: Failure| failure.explain(&format!("promoting {} to `{name}`", image.id));
        if image.status != "active" {
            return Err(Error::new(Kind::Cloud, format!("the image {} is {}, not active", image.id, image.status)));
        }
        if image.property(END_OF_LIFE).is_some() && !wanted.allow_eol {
            return Err(Error::usage(format!(
                "`{name}` has content past its end of life, which nobody mends any more"
            ))
            .hint("its manifest says which under `warnings`; --allow-eol promotes it all the same"));
        }
        let recorded = image.property(VISIBILITY).and_then(|word| Visibility::from_str(word, false).ok());
        let visibility = wanted.visibility.or(recorded).unwrap_or(Visibility::Shared);
        let olds: Vec<_> = self.lineage(&name).await?.into_iter().filter(|old| loses(old, image, &name)).collect();
        if visibility == Visibility::Shared {
            self.share(image, &olds, &wanted.share_with, events).await?;
        } else if !wanted.share_with.is_empty() {
            return Err(Error::usage(format!(
                "an image that is {visibility} cannot be shared with projects one by one"
            ))
            .hint("leave --public, --private or --community out: --shared is for that"));
        }
        let mut changes = Changes::default()
            .set("name", name.as_str())
            .set("visibility", visibility.to_string())
            .set("os_hidden", wanted.hidden)
            .set(NAME, name.as_str())
            .set(STATE, State::Current.word());
        if wanted.protected {
            changes = changes.set("protected", true);
        }
        self.change_image(&image.id, &changes).await.map_err(|failure| {
            let forbidden = failure.status() == Some(reqwest::StatusCode::FORBIDDEN);
            let error = explain(failure);
            if forbidden && visibility == Visibility::Public {
                return error.hint(format!(
                    "the image is in the cloud as {}, private and hidden; who may make images public promotes it with \
                     `visabuild promote {} --public`",
                    image.id, image.id
                ));
            }
            error
        })?;
        let mut replaced = Vec::new();
        for old in &olds {
            replaced.push(self.retire(old, &image.id, State::Previous).await.map_err(explain)?);
        }
        replaced.extend(self.settle(image, &name, events).await?);
        Ok(replaced)
    }

    /// Two runs may promote at the same time, and neither has seen the other's image. Whichever looks last sees
    /// both, and all agree that the newest stays.
    async fn settle(&self, image: &Image, name: &str, events: &Events) -> Result<Vec<Replaced>> {
        let explain = |failure: Failure| failure.explain(&format!("promoting {} to `{name}`", image.id));
        let age = |image: &Image| (image.created_at.clone(), image.id.clone());
        let mut others: Vec<_> = self.lineage(name).await?.into_iter().filter(|one| loses(one, image, name)).collect();
        let newest = others.iter().max_by_key(|one| age(one)).filter(|one| age(one) > age(image)).cloned();
        if let Some(newest) = &newest {
            let text = format!("another run has promoted {}, which is newer: {} stays behind it", newest.id, image.id);
            events.warn(None, text);
            others.retain(|one| one.id != newest.id);
            others.push(image.clone());
        }
        let mut replaced = Vec::new();
        for other in &others {
            let by = newest.as_ref().unwrap_or(image);
            let retired = self.retire(other, &by.id, State::Previous).await.map_err(explain)?;
            replaced.extend((other.id != image.id).then_some(retired));
        }
        Ok(replaced)
    }

    /// Takes an image's name away, and hides it.
    async fn retire(&self, old: &Image, by: &str, state: State) -> std::result::Result<Replaced, Failure> {
        let name = old.wanted_name();
        let dated = format!("{name} {}", old.created_at);
        let changes = Changes::default()
            .set("name", dated.as_str())
            .set("os_hidden", true)
            .set(NAME, name)
            .set(STATE, state.word())
            .set(REPLACED, humantime::format_rfc3339_millis(SystemTime::now()).to_string())
            .set(REPLACED_BY, by);
        self.change_image(&old.id, &changes).await?;
        Ok(Replaced { id: old.id.clone(), name: dated })
    }

    /// Shares the image with the projects that are named and with those that the old ones are shared with,
    /// before it has its name.
    async fn share(&self, image: &Image, olds: &[Image], named: &[String], events: &Events) -> Result<()> {
        let explain = |failure: Failure| failure.explain(&format!("sharing {}", image.id));
        let mut projects: BTreeSet<(String, bool)> = BTreeSet::new();
        for old in olds.iter().filter(|old| old.visibility == Visibility::Shared) {
            let members = self.members(&old.id).await.map_err(explain)?;
            projects.extend(members.into_iter().map(|member| (member.member_id, member.status == "accepted")));
        }
        for name in named {
            projects.insert((self.project_id(name).await?, true));
        }
        if projects.is_empty() {
            return Ok(());
        }
        let changes = Changes::default().set("visibility", Visibility::Shared.to_string());
        self.change_image(&image.id, &changes).await.map_err(explain)?;
        for (project, accept) in projects {
            self.add_member(&image.id, &project).await.map_err(explain)?;
            if accept && let Err(error) = self.accept_for(&image.id, &project).await {
                events.warn(
                    None,
                    format!(
                        "the project {project} has to accept the image itself ({}): \
                         `openstack image set --accept {}`",
                        error.chain().join(": "),
                        image.id
                    ),
                );
            }
        }
        Ok(())
    }

    /// Accepts the image for a project, in which the user has to be at home.
    async fn accept_for(&self, image: &str, project: &str) -> Result<()> {
        let there = self.in_project(project).await?;
        there.accept_image(image, project).await.map_err(|failure| failure.explain("accepting the image"))
    }

    /// A project's id, of its name or id.
    async fn project_id(&self, name: &str) -> Result<String> {
        if is_id(name) {
            return Ok(name.to_owned());
        }
        let found = self.find_projects(name).await.map_err(|failure| failure.explain("looking for a project"))?;
        match found.as_slice() {
            [project] => Ok(project.id.clone()),
            [] => Err(Error::new(Kind::Cloud, format!("there is no project `{name}` that the user may see"))
                .hint("name it by its id: `openstack project show NAME` in that project tells it")),
            _ => Err(Error::new(Kind::Cloud, format!("there are {} projects `{name}`", found.len()))
                .hint("name it by its id")),
        }
    }

    /// Lets the image before the current one stand for the name again.
    ///
    /// # Errors
    /// There is none, or the cloud refuses.
    pub async fn rollback(&self, name: &str) -> Result<(Image, Vec<Replaced>)> {
        let explain = |failure: Failure| failure.explain(&format!("rolling `{name}` back"));
        let all = self.lineage(name).await?;
        let usable = |image: &&Image| image.status == "active" && image.state() == State::Previous;
        let replaced = |image: &Image| image.property(REPLACED).unwrap_or_default().to_owned();
        let Some(back) = all.iter().filter(usable).max_by_key(|image| replaced(image)) else {
            return Err(Error::new(Kind::Cloud, format!("no image was `{name}` before the current one"))
                .hint("`visabuild images` lists what there is; `visabuild promote ID` takes any of them"));
        };
        let changes = Changes::default()
            .set("name", name)
            .set("os_hidden", false)
            .set(NAME, name)
            .set(STATE, State::Current.word());
        let back = self.change_image(&back.id, &changes).await.map_err(explain)?;
        let mut withdrawn = Vec::new();
        for image in all.iter().filter(|image| loses(image, &back, name)) {
            withdrawn.push(self.retire(image, &back.id, State::Withdrawn).await.map_err(explain)?);
        }
        Ok((back, withdrawn))
    }

    /// Deletes what was before, but for the newest `keep`; what is protected, in use, or may be, stays.
    ///
    /// # Errors
    /// The cloud refuses, but for images that are in use.
    pub async fn prune(&self, name: &str, keep: usize, dry_run: bool) -> Result<Vec<Pruned>> {
        let mut old = self.lineage(name).await?;
        old.retain(|image| matches!(image.state(), State::Previous | State::Withdrawn));
        old.sort_by_key(|image| std::cmp::Reverse(image.property(REPLACED).unwrap_or_default().to_owned()));
        let mut pruned = Vec::new();
        for image in old.into_iter().skip(keep) {
            let kept = if image.protected {
                Some("it is protected".to_owned())
            } else {
                match self.image_use(&image).await {
                    Use::InUse(why) => Some(why),
                    Use::Free if dry_run => None,
                    Use::Free => match self.delete_image(&image.id).await {
                        Ok(()) => None,
                        Err(failure) if failure.status() == Some(reqwest::StatusCode::CONFLICT) => {
                            Some("Glance says that it is in use".to_owned())
                        }
                        Err(failure) => return Err(failure.explain(&format!("deleting {}", image.id))),
                    },
                }
            };
            pruned.push(Pruned { id: image.id.clone(), name: image.title().to_owned(), kept });
        }
        Ok(pruned)
    }
}

/// What became of an old image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why it is still there; it is deleted where there is no reason.
    pub kept: Option<String>,
}

/// Whether `old` stands for the name that `image` gets.
fn loses(old: &Image, image: &Image, name: &str) -> bool {
    old.id != image.id
        && !old.is_unfinished()
        && old.state() == State::Current
        && (old.name.as_deref() == Some(name) || old.property(STATE) == Some(State::Current.word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, name: &str, more: &str) -> Image {
        let text = format!(
            r#"{{"id": "{id}", "name": "{name}", "status": "active", "visibility": "shared", "x": "y"{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn only_what_stands_for_the_name_loses_it() {
        let new = image("new", "visa (candidate)", r#", "visabuild_name": "visa", "visabuild_state": "candidate""#);
        assert_eq!((new.wanted_name(), new.state()), ("visa", State::Candidate));
        assert!(loses(&image("hand", "visa", ""), &new, "visa"));
        assert!(loses(&image("old", "visa", r#", "visabuild_state": "current""#), &new, "visa"));
        assert!(!loses(&image("older", "visa 2026", r#", "visabuild_state": "previous""#), &new, "visa"));
        assert!(!loses(&image("new", "visa", ""), &new, "visa"));
        let unfinished = Image { status: "saving".into(), ..image("up", "visa", "") };
        assert!(!loses(&unfinished, &new, "visa"));
    }
}
