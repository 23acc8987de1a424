//! `visabuild packme`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::FromArgMatches;

use super::args::{BuildArgs, Cli, Command};
use super::packer::{values, warn};
use super::packme_args::PackmeArgs;
use super::project::Failures;
use super::signals::Signals;
use super::{Environment, build, command_line, print};
use crate::error::{Context, Error, Kind, Problem, Result};
use crate::packme::{Layout, Manifest, Project};

/// The version of packme that this follows.
const PACKME: &str = "0.8.0";
/// Fewest milliseconds between keys that packme takes.
const LOWEST_KEY_RATE: i64 = 10;
/// What packme's templates leave in their folders.
const LEFT_FOLDERS: [&str; 2] = ["builds", "packer_cache"];

/// Writes manifests as packme does, and builds where `-r` asks for it.
pub(super) async fn run(args: PackmeArgs, environment: &Environment, signals: &Signals) -> Result<()> {
    if args.version {
        print(&format!("{PACKME} (visabuild {})\n", env!("CARGO_PKG_VERSION")));
        return Ok(());
    }
    if args.run && args.key_rate < LOWEST_KEY_RATE {
        return Err(Error::usage(format!("`-k {}` is too low a key rate", args.key_rate))
            .hint(format!("keys are lost below {LOWEST_KEY_RATE} ms")));
    }
    if let (true, Some(folder)) = (args.clean, &args.templates_base_dir) {
        clean(folder)?;
    }
    let Some(input) = &args.input else {
        if !args.clean {
            tell("nothing to do: `-i FILE` names the input file, such as config.yml");
        }
        return Ok(());
    };
    let project = Project::load(layout(input, &args))?;
    let (selected, unknown) = project.select(&args.selected_templates)?;
    warn(&unknown);
    let manifests = manifests(&project, &selected, environment)?;
    for manifest in &manifests {
        warn(&manifest.warnings);
        manifest.write()?;
    }
    if args.run { build(&project, input, &selected, (environment, signals)).await } else { Ok(()) }
}

fn layout(input: &Path, args: &PackmeArgs) -> Layout {
    let folder = |given: &Option<PathBuf>, usual: &str| given.clone().unwrap_or_else(|| usual.into());
    Layout {
        base: PathBuf::new(),
        input: input.to_owned(),
        templates: folder(&args.templates_base_dir, "templates"),
        packages: folder(&args.packages_base_dir, "packages"),
    }
}

/// All manifests, before one is written.
fn manifests(project: &Project, names: &[String], environment: &Environment) -> Result<Vec<Manifest>> {
    // packme has none of visabuild's options, so none of them is over what it sees.
    let args = build_args(Path::new("."), &[])?;
    let values = values(&args.project, environment, false)?;
    let mut failures = Failures::default();
    let manifests = names.iter().filter_map(|name| failures.take(project.manifest(name, &values))).collect();
    failures.end()?;
    Ok(manifests)
}

/// Options of `visabuild build` in `folder`, as they would be without an option.
fn build_args(folder: &Path, names: &[String]) -> Result<BuildArgs> {
    let words = ["visabuild".into(), "build".into(), "--directory".into(), folder.as_os_str().to_owned(), "--".into()];
    let words = words.into_iter().chain(names.iter().map(Into::into));
    let parsed = command_line().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed.map(|cli| cli.command) {
        Ok(Command::Build(args)) => Ok(*args),
        Ok(_) => Err(Error::usage("not a build")),
        // One of the variables of the environment that stand for options is wrong.
        Err(error) => Err(Error::usage(error.render().to_string().trim_start_matches("error: ").trim_end().to_owned())),
    }
}

/// Builds what packme would run Packer for, by visabuild itself.
async fn build(
    project: &Project,
    input: &Path,
    selected: &[String],
    (environment, signals): (&Environment, &Signals),
) -> Result<()> {
    let folder = project_folder(project, input)?;
    let builds = |name: &str| project.templates_folder().join(name).join("builds");
    let (there, missing): (Vec<&str>, Vec<&str>) =
        project.hierarchy(selected).into_iter().partition(|name| builds(name).exists());
    for name in there {
        tell(&format!("{name}: {} is there, so it is not built again", builds(name).display()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|name| (*name).to_owned()).collect();
    let mut args = build_args(&folder, &names)?;
    let shown = folder.to_string_lossy();
    let words = ["visabuild", "build", "-C", &*shown].into_iter().chain(names.iter().map(String::as_str));
    args.again = crate::shell_word::line(words);
    let output = build::output_folder(args.output.clone(), &folder)?;
    build::run(args, environment, signals).await.map_err(|error| match error.kind() {
        Kind::Usage => error.hint("manifest.json is written: what visabuild does not know, `packer build` may"),
        _ => error,
    })?;
    for manifest in manifests(project, &names, environment)? {
        offer(&manifest, &output)?;
    }
    Ok(())
}

/// The folder of the project as `visabuild build` knows projects.
fn project_folder(project: &Project, input: &Path) -> Result<PathBuf> {
    let refused = || {
        Error::usage("visabuild builds projects with config.yml, templates/ and packages/ in one folder")
            .hint("manifest.json is written: `packer build` takes it wherever it is")
    };
    let folder = input.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let usual = Project::load(Layout::of(folder)).map_err(|_| refused())?;
    let same = usual.templates_folder() == project.templates_folder()
        && (usual.packages_folder() == project.packages_folder() || !usual.packages_folder().exists())
        && input.file_name().is_some_and(|name| name == "config.yml");
    if same { Ok(folder.to_owned()) } else { Err(refused()) }
}

/// Puts the image where packme's users look for it, under packme's name. It takes no more room: it is the same file.
fn offer(manifest: &Manifest, output: &Path) -> Result<()> {
    let builder = &manifest.json["builders"][0];
    let template = &manifest.template;
    let Some(kind) = builder["type"].as_str() else { return Ok(()) };
    // A builder that only the parent has gets no name from packme: it gets that of the others here.
    let usual = manifest.file.parent().unwrap_or(Path::new(".")).join(LEFT_FOLDERS[0]);
    let folder = builder["output_directory"].as_str().map_or(usual, PathBuf::from);
    let name = builder["vm_name"].as_str().map_or_else(|| format!("{template}-{kind}.iso"), str::to_owned);
    let image = output.join(template).join(format!("{template}.qcow2"));
    let offered = folder.join(name);
    let context = || format!("cannot write {}", offered.display());
    fs::create_dir_all(&folder).context(Kind::Host, context)?;
    match fs::hard_link(&image, &offered) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            std::os::unix::fs::symlink(&image, &offered).context(Kind::Host, context)
        }
        linked => linked.context(Kind::Host, context),
    }
}

/// Removes what packme's `-c` removes, and nothing that packme would not: what is no folder or file of this name stays.
fn clean(templates: &Path) -> Result<()> {
    let entries = fs::read_dir(templates).context(Kind::Usage, || format!("cannot read {}", templates.display()))?;
    let mut problems = Vec::new();
    for folder in entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")) {
        let mut remove = |path: PathBuf, remove: fn(&Path) -> io::Result<()>| match remove(&path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                problems.push(Problem::new(format!("cannot remove {}: {error}", path.display())));
            }
            _ => {}
        };
        remove(folder.path().join("manifest.json"), |path| fs::remove_file(path));
        for name in LEFT_FOLDERS {
            remove(folder.path().join(name), remove_folder);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::problems(Kind::Host, problems)) }
}

/// Removes a folder; a link to one stays, as Python's `shutil.rmtree` has it.
fn remove_folder(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::Error::other("it is a link, which packme does not follow either"));
    }
    fs::remove_dir_all(path)
}

fn tell(text: &str) {
    // Printing can only fail when nobody reads.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_offered_under_packmes_name() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("builds/a/a.qcow2");
        fs::create_dir_all(folder.path().join("builds/a")).unwrap();
        fs::write(&image, "disk").unwrap();
        let elsewhere = folder.path().join("elsewhere");
        let own = json!({ "type": "qemu", "output_directory": elsewhere, "vm_name": "b.iso" });
        // One that only the parent has gets no name from packme.
        let inherited = json!({ "name": "qemu", "type": "qemu" });
        for (builder, offered) in [(own, "elsewhere/b.iso"), (inherited, "templates/a/builds/a-qemu.iso")] {
            let manifest = Manifest {
                template: "a".to_owned(),
                file: folder.path().join("templates/a/manifest.json"),
                json: json!({ "builders": [builder] }),
                warnings: Vec::new(),
            };
            offer(&manifest, &folder.path().join("builds")).unwrap();
            let inode = |path: &Path| fs::metadata(path).unwrap().ino();
            assert_eq!(inode(&folder.path().join(offered)), inode(&image));
        }
    }
}
