//! `visabuild upload`, `images`, `promote`, `rollback` and `prune`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};

use super::cloud_args::{CloudArgs, CloudCommand, ImagesArgs, PromoteArgs, PruneArgs, RollbackArgs, UploadArgs};
use super::signals::Signals;
use super::{Environment, cache_folder, print, subscribers, verify};
use crate::cache::Cache;
use crate::error::{Context, Error, Kind, Result};
use crate::event::{Events, Redactor};
use crate::glance::{Artifact, Cloud, Image, Login, Places, Plan, Publication, Published, Replaced, State};
use crate::pipeline::image_path;
use crate::report::size;
use crate::template;

/// Does one of them.
pub(super) async fn run(command: CloudCommand, environment: &Environment, signals: &Signals) -> Result<()> {
    match command {
        CloudCommand::Upload(args) => upload(*args, environment, signals).await,
        CloudCommand::Images(args) => images(args, environment, signals).await,
        CloudCommand::Promote(args) => promote(args, environment, signals).await,
        CloudCommand::Rollback(args) => rollback(args, environment, signals).await,
        CloudCommand::Prune(args) => prune(args, environment, signals).await,
    }
}

impl CloudCommand {
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Upload(args) => args.json,
            Self::Images(args) => args.json,
            Self::Promote(args) => args.json,
            Self::Rollback(args) => args.json,
            Self::Prune(args) => args.json,
        }
    }
}

/// Logs in; what must not be shown comes with it.
fn login(args: &CloudArgs, environment: &Environment) -> Result<(Login, Vec<SecretString>)> {
    let current = std::env::current_dir().context(Kind::Host, || "there is no current folder")?;
    let login = Login::find(&args.wanted(), environment, &Places::of(&current, environment))?;
    let auth = &login.auth;
    let secrets = [&auth.password, &auth.token, &auth.application_credential_secret];
    let secrets = secrets.into_iter().flatten().cloned().collect();
    Ok((login, secrets))
}

/// A session, and what must not be shown of it.
pub(super) async fn connect(
    args: &CloudArgs,
    environment: &Environment,
    signals: &Signals,
) -> Result<(Cloud, Vec<SecretString>)> {
    let (login, secrets) = login(args, environment)?;
    let connected = Cloud::connect(login, args.patience(), signals.cancel()).await;
    Ok((connected.map_err(|error| redacted(error, &secrets))?, secrets))
}

/// An error without the secrets that a service may have repeated.
fn redacted(error: Error, secrets: &[SecretString]) -> Error {
    let redactor = Redactor::new(secrets.iter().map(ExposeSecret::expose_secret));
    let chain = error.chain();
    let clean: Vec<_> = chain.iter().map(|text| redactor.redact(text)).collect();
    if clean == chain {
        return error;
    }
    let hints = error.hints().to_vec();
    let mut links = clean.into_iter();
    let first = Error::new(error.kind(), links.next().unwrap_or_default());
    let rest: Vec<_> = links.collect();
    let error = if rest.is_empty() { first } else { first.because(rest.join(": ")) };
    hints.into_iter().fold(error, Error::hint)
}

fn events(json: bool, secrets: &[SecretString]) -> Events {
    Events::new(subscribers(json), Redactor::new(secrets.iter().map(ExposeSecret::expose_secret)))
}

async fn upload(args: UploadArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let wanted = args.publish.publication()?;
    let paths = subjects(&args)?;
    if let (Some(name), 2..) = (&wanted.name, paths.len()) {
        return Err(Error::usage(format!("{} images cannot all be named `{name}`", paths.len()))
            .hint("upload them one by one, or leave --name out"));
    }
    let mut artifacts = Vec::new();
    for path in &paths {
        artifacts.push(Artifact::read(path, signals.cancel()).await?);
    }
    let cache = Cache::open(&cache_folder(environment)?)?;
    let (cloud, secrets) = connect(&args.cloud, environment, signals).await?;
    let events = events(args.json, &secrets);
    if args.dry_run {
        for artifact in &artifacts {
            let plan = cloud.plan(artifact, &wanted).await?;
            cloud.check_room(&wanted, artifact.size).await?;
            show_plan(&plan, &cloud, args.json);
        }
        return Ok(());
    }
    let published = publish(&cloud, &artifacts, &wanted, &cache, &events).await?;
    if !args.json {
        published.iter().for_each(|one| print(&summary(one, &cloud)));
    }
    Ok(())
}

/// Publishes all of them, after all of them were looked at.
pub(super) async fn publish(
    cloud: &Cloud,
    artifacts: &[Artifact],
    wanted: &Publication,
    cache: &Cache,
    events: &Events,
) -> Result<Vec<Published>> {
    let mut plans = Vec::new();
    for artifact in artifacts {
        plans.push(cloud.plan(artifact, wanted).await?);
    }
    cloud.clean_up(&plans, cache, events).await?;
    let mut published = Vec::new();
    for plan in plans {
        published.push(cloud.publish(plan, cache, events).await?);
    }
    Ok(published)
}

fn show_plan(plan: &Plan<'_>, cloud: &Cloud, json: bool) {
    let lines = plan.describe(&cloud.project().name);
    if json {
        print(&format!("{}\n", json!({"event": "dry_run", "name": plan.name(), "would": lines})));
        return;
    }
    for (index, line) in lines.iter().enumerate() {
        print(&format!("{}{line}\n", if index == 0 { "" } else { "  " }));
    }
}

/// What the user sees of a published image, on standard output.
pub(super) fn summary(published: &Published, cloud: &Cloud) -> String {
    let image = &published.image;
    let note = if published.was_there { ", was there already" } else { "" };
    let mut text = format!(
        "{}  {}  ({}, {}, project {}{note})\n",
        image.title(),
        image.id,
        image.state().word(),
        image.visibility,
        cloud.project().name
    );
    // Writing to a String cannot fail.
    for old in &published.replaced {
        let _ = writeln!(text, "  replaces {}  now `{}`, hidden", old.id, old.name);
    }
    for old in &published.pruned {
        let _ = match &old.kept {
            None => writeln!(text, "  deleted {}  {}", old.id, old.name),
            Some(why) => writeln!(text, "  kept {}  {}: {why}", old.id, old.name),
        };
    }
    text
}

/// The images of the call: files, templates' results, or every leaf's.
fn subjects(args: &UploadArgs) -> Result<Vec<PathBuf>> {
    let output = args.output.clone().unwrap_or_else(|| args.directory.join("builds"));
    if !args.subjects.is_empty() {
        return args.subjects.iter().map(|subject| verify::find(subject, &output)).collect();
    }
    let project = template::load(&args.directory)?;
    let leaves = project.leaves();
    let found: Vec<_> = leaves.iter().map(|name| image_path(&output, name)).filter(|path| complete(path)).collect();
    if found.is_empty() {
        return Err(Error::usage(format!("no image is finished in {}", output.display()))
            .hint(format!("`visabuild build` makes those of {}; --output names another folder", leaves.join(", "))));
    }
    Ok(found)
}

/// A result counts once its manifest is there, which is written last.
fn complete(image: &Path) -> bool {
    image.is_file() && image.with_extension("manifest.json").is_file()
}

async fn images(args: ImagesArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let (cloud, _) = connect(&args.cloud, environment, signals).await?;
    let mut all = Vec::new();
    if args.names.is_empty() {
        all = cloud.own_images().await?;
    }
    for name in &args.names {
        all.extend(cloud.lineage(name).await?);
    }
    let mut rows = Vec::new();
    for image in &all {
        rows.push((image, cloud.shared_with(image).await?));
    }
    if args.json {
        let list: Vec<_> = rows.iter().map(|(image, members)| as_json(image, members)).collect();
        let text = serde_json::to_string_pretty(&list).context(Kind::Cloud, || "an answer cannot be shown")?;
        print(&format!("{text}\n"));
        return Ok(());
    }
    if rows.is_empty() {
        print(&format!("no image of visabuild is in the project {}\n", cloud.project().name));
        return Ok(());
    }
    print(&table(&rows));
    Ok(())
}

fn as_json(image: &Image, members: &[String]) -> Json {
    json!({
        "name": image.wanted_name(),
        "id": image.id,
        "title": image.title(),
        "state": image.state(),
        "status": image.status,
        "visibility": image.visibility,
        "hidden": image.os_hidden,
        "protected": image.protected,
        "created": image.created_at,
        "size": image.size,
        "shared_with": members,
        "properties": image.more,
    })
}

fn table(rows: &[(&Image, Vec<String>)]) -> String {
    let head = ["NAME", "STATE", "ID", "AGE", "SIZE", "VISIBILITY"].map(str::to_owned);
    let cells = rows.iter().map(|(image, members)| {
        let state = if image.status == "active" {
            image.state().word().to_owned()
        } else {
            format!("{} ({})", image.state().word(), image.status)
        };
        let shared = match members.len() {
            0 => image.visibility.to_string(),
            count => format!("{} with {count}: {}", image.visibility, members.join(", ")),
        };
        let protected = if image.protected { ", protected" } else { "" };
        [
            image.wanted_name().to_owned(),
            state,
            image.id.clone(),
            age(&image.created_at),
            image.size.map_or_else(|| "-".to_owned(), size),
            format!("{shared}{protected}"),
        ]
    });
    let lines: Vec<_> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..6).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// How long ago, in the largest unit that makes sense.
fn age(created: &str) -> String {
    let Ok(then) = humantime::parse_rfc3339(created) else { return "-".to_owned() };
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    let units = [(86400, "d"), (3600, "h"), (60, "min")];
    units
        .into_iter()
        .find(|(length, _)| seconds >= *length)
        .map_or_else(|| format!("{seconds} s"), |(length, unit)| format!("{} {unit}", seconds / length))
}

async fn promote(args: PromoteArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let promotion = args.promotion.promotion()?;
    let (cloud, secrets) = connect(&args.cloud, environment, signals).await?;
    let events = events(args.json, &secrets);
    let image = match cloud.find_image(&args.image).await? {
        Some(image) => image,
        None => candidate(&cloud, &args.image).await?,
    };
    let replaced = cloud.promote(&image, &promotion, &events).await?;
    let image = cloud.find_image(&image.id).await?.unwrap_or(image);
    show_change(&cloud, &image, &replaced, args.json);
    Ok(())
}

/// The newest candidate of a name.
async fn candidate(cloud: &Cloud, name: &str) -> Result<Image> {
    let all = cloud.lineage(name).await?;
    let found = all.into_iter().find(|image| image.status == "active" && image.state() == State::Candidate);
    found.ok_or_else(|| {
        Error::new(Kind::Cloud, format!("`{name}` is neither an image's id nor a name with a candidate"))
            .hint("`visabuild images` lists what there is; `visabuild upload --candidate` makes one")
    })
}

async fn rollback(args: RollbackArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let (cloud, _) = connect(&args.cloud, environment, signals).await?;
    let (image, withdrawn) = cloud.rollback(&args.name).await?;
    show_change(&cloud, &image, &withdrawn, args.json);
    Ok(())
}

fn show_change(cloud: &Cloud, image: &Image, replaced: &[Replaced], json: bool) {
    if json {
        print(&format!(
            "{}\n",
            json!({"event": "promoted", "image": image.id, "name": image.title(),
            "visibility": image.visibility, "replaced": replaced})
        ));
        return;
    }
    let published =
        Published { image: image.clone(), was_there: false, replaced: replaced.to_vec(), pruned: Vec::new() };
    print(&summary(&published, cloud));
}

async fn prune(args: PruneArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let (cloud, secrets) = connect(&args.cloud, environment, signals).await?;
    let events = events(args.json, &secrets);
    let cache = Cache::open(&cache_folder(environment)?)?;
    if !args.dry_run {
        cloud.clean_up(&[], &cache, &events).await?;
    }
    let names: BTreeSet<String> = if args.names.is_empty() {
        cloud.own_images().await?.iter().map(|image| image.wanted_name().to_owned()).collect()
    } else {
        args.names.into_iter().collect()
    };
    for name in names {
        for old in cloud.prune(&name, args.keep, args.dry_run).await? {
            if args.json {
                print(&format!("{}\n", json!({"event": "pruned", "lineage": name, "image": old})));
                continue;
            }
            let done = if args.dry_run { "would delete" } else { "deleted" };
            print(&match &old.kept {
                None => format!("{done}  {}  {}\n", old.id, old.name),
                Some(why) => format!("kept  {}  {}: {why}\n", old.id, old.name),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        let ago = |seconds: u64| {
            let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
            age(&humantime::format_rfc3339_seconds(then).to_string())
        };
        assert_eq!((ago(3 * 86400 + 5), ago(7205), ago(65)), ("3 d".into(), "2 h".into(), "1 min".into()));
        assert_eq!(age("nonsense"), "-");
    }

    #[test]
    fn secrets_that_a_service_repeats_are_taken_out_of_the_error() {
        let error = Error::new(Kind::Cloud, "outer").because("said s3cret-pw back").hint("h");
        let clean = redacted(error, &["s3cret-pw".into()]);
        assert!(!clean.chain().join(" ").contains("s3cret-pw"));
        assert_eq!((clean.kind(), clean.hints()), (Kind::Cloud, &["h".to_owned()][..]));
    }
}
