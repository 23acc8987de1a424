//! `visabuild verify`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::args::VerifyArgs;
use super::signals::Signals;
use super::{Environment, build, cache_folder, print, project, subscribers, watch};
use crate::cache::{Cache, WorkFolder, replace_file};
use crate::credentials;
use crate::error::{Context, Error, Kind, Result, read_to_string};
use crate::event::{Events, Redactor};
use crate::live::Live;
use crate::machine;
use crate::pipeline::image_path;
use crate::preflight::{self, accelerator};
use crate::report::verification::{self, Style};
use crate::template::Verification;
use crate::verify::contract::{Boot, Contract};
use crate::verify::disk::scan::Secret;
use crate::verify::{self, Options};

/// The contract where neither the call nor the image names one.
const CONTRACT: &str = "visa";

/// Columns of the table where nobody says how many there are.
const WIDTH: usize = 100;

/// Verifies one image.
pub(super) async fn run(args: VerifyArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    let mut live = watch::begin(args.watch).await?;
    let result = verify_image(args, &mut live, environment, signals).await;
    watch::end(live, &result, signals).await;
    result
}

async fn verify_image(
    args: VerifyArgs,
    live: &mut Option<Live>,
    environment: &Environment,
    signals: &Signals,
) -> Result<()> {
    let output = args.output.clone().unwrap_or_else(|| args.directory.join("builds"));
    let image = find(&args.subject, &output)?;
    let wanted = wanted(&image);
    let name = args
        .contract
        .as_deref()
        .or(wanted.as_ref().map(|wanted| wanted.contract.as_str()))
        .unwrap_or(CONTRACT)
        .to_owned();
    let contract = Contract::find(&name)?;
    // What the template leaves out was said for its own contract.
    let wanted = wanted.filter(|wanted| wanted.contract == name).unwrap_or_default();
    let skip: Vec<_> = args.skip.iter().chain(&wanted.skip).cloned().collect();
    let selected = contract.choose(&args.only, &skip)?;
    let required = contract.components(args.require.iter().chain(&wanted.require))?;
    let root_password = project::password(args.root_password.as_ref(), args.root_password_file.as_deref())?;
    let secrets = secrets(&args, root_password.as_ref())?;
    let boots = contract.checks.iter().filter(|check| selected.contains(&check.id)).filter_map(|check| check.boot);
    possible(boots.map(|index| &contract.boots[index]), environment)?;
    writable(&args)?;
    let accelerator = accelerator::choose(build::request(args.accel), &accelerator::detect())?;

    let cache = Cache::open(&cache_folder(environment)?)?;
    let (mut work, _) = WorkFolder::new(&cache)?;
    let events = events(&secrets, live.as_ref());
    if let Some(live) = live {
        live.follow(&events, work.path(), &[]);
    }
    let memory = args.memory.unwrap_or(verify::LEAST_MEMORY);
    let jobs = args.jobs.map_or_else(|| machine::how_many(memory), usize::from);
    let title = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let options = Options {
        image: &image,
        sha256: None,
        name: &title,
        contract: &contract,
        selected,
        required,
        secrets,
        root_password,
        accelerator,
        cpus: args.cpus,
        memory,
        jobs,
        work: work.path(),
        keep: args.keep,
        allow_backing: args.allow_backing,
    };
    let found = verify::verify(&options, &events, signals.cancel()).await;
    let kept = args.keep.then(|| work.path().to_owned());
    if args.keep {
        work.keep();
    }
    let (report, pictures) = found?;
    write(&args, &report, &pictures)?;
    if args.json {
        print(&verification::json(&report));
    } else {
        let style = Style { colour: io::stdout().is_terminal(), verbose: args.verbose, width: WIDTH };
        print(&verification::table(&report, style));
    }
    if let Some(folder) = kept {
        events.info(None, format!("overlays, metadata and serial logs are in {}", folder.display()));
    }
    if report.passed() { Ok(()) } else { Err(verification::problems(&report)) }
}

/// Whatever builds, QEMU verifies, and by UEFI where the contract wants it.
pub(super) fn possible<'a>(boots: impl Iterator<Item = &'a Boot>, environment: &Environment) -> Result<()> {
    let mut boots = boots.peekable();
    if boots.peek().is_none() {
        return Ok(());
    }
    let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let missing = if preflight::tools::find(machine::PROGRAM, search.as_ref()).is_none() {
        format!("`{}`", machine::PROGRAM)
    } else if boots.any(|boot| boot.uefi) && !machine::has_uefi() {
        "UEFI firmware (package `ovmf` on Debian and Ubuntu, `edk2-ovmf` on Fedora and Arch)".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::host(format!("images are verified in QEMU, and this host has no {missing}"))
        .hint("install it; a build publishes images without verifying them with --no-verify"))
}

/// A report that cannot be written is told before it is made.
fn writable(args: &VerifyArgs) -> Result<()> {
    for path in [&args.junit, &args.html].into_iter().flatten() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() || path.is_dir() {
            return Err(Error::usage(format!("cannot write {}: {} is no folder", path.display(), folder.display())));
        }
    }
    Ok(())
}

/// The image of a call: a file, or a template's in the folder of the results.
pub(super) fn find(subject: &Path, output: &Path) -> Result<PathBuf> {
    if subject.is_file() {
        return std::path::absolute(subject).context(Kind::Usage, || "the image has no usable name");
    }
    let name = subject.to_string_lossy();
    let looks_like_file = name.contains('/') || subject.extension().is_some();
    let built = image_path(output, &name);
    if !looks_like_file && built.is_file() {
        return std::path::absolute(&built).context(Kind::Usage, || "the image has no usable name");
    }
    if subject.is_dir() {
        return Err(Error::usage(format!("{name} is a folder")).hint("name the image in it"));
    }
    let error = Error::usage(format!("there is no image {name}"));
    Err(if looks_like_file {
        error
    } else {
        error
            .hint(format!("a template's image is looked for at {}; `visabuild build {name}` makes it", built.display()))
    })
}

/// What the manifest beside the image says that it must keep.
fn wanted(image: &Path) -> Option<Verification> {
    let text = fs::read(image.with_extension("manifest.json")).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&text).ok()?;
    serde_json::from_value(manifest.get("verification")?.clone()).ok()
}

/// Everything that must not be on the disk.
fn secrets(args: &VerifyArgs, root_password: Option<&SecretString>) -> Result<Vec<Secret>> {
    let secret = |name: String, value: SecretString| Secret { name, value };
    let mut secrets: Vec<Secret> =
        root_password.map(|password| secret("root password".to_owned(), password.clone())).into_iter().collect();
    if let Some(url) = &args.http_proxy
        && let Some(pair) = credentials::split(url).1
    {
        let password = pair.split_once(':').map_or(pair, |(_, password)| password);
        secrets.push(secret("proxy password".to_owned(), password.to_owned().into()));
    }
    if let Some(path) = &args.secrets_file {
        let text = read_to_string(Kind::Usage, path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
        let name = |number: usize| format!("line {} of {}", number + 1, path.display());
        secrets.extend(lines.map(|(number, line)| secret(name(number), line.to_owned().into())));
    }
    Ok(secrets)
}

fn events(secrets: &[Secret], live: Option<&Live>) -> Events {
    // Standard output is the report's.
    let mut subscribers = subscribers(false);
    subscribers.extend(live.map(Live::subscriber));
    let hidden = secrets.iter().map(|secret| &secret.value).chain(live.map(Live::secret));
    Events::new(subscribers, Redactor::new(hidden.map(ExposeSecret::expose_secret)))
}

/// The files that were asked for.
fn write(args: &VerifyArgs, report: &verify::report::Report, pictures: &[(String, Vec<u8>)]) -> Result<()> {
    let put = |path: &Path, bytes: &[u8]| {
        replace_file(path, bytes, 0o644).context(Kind::Host, || format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.junit {
        put(path, verification::junit(report)?.as_bytes())?;
    }
    if let Some(path) = &args.html {
        put(path, verification::html(report, pictures)?.as_bytes())?;
    }
    if let Some(folder) = &args.pictures {
        fs::create_dir_all(folder).context(Kind::Host, || format!("cannot make {}", folder.display()))?;
        for (number, (_, png)) in pictures.iter().enumerate() {
            put(&folder.join(format!("{}.png", number + 1)), png)?;
        }
    }
    Ok(())
}
