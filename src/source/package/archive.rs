//! The files in a .deb (deb(5)): dpkg-deb undoes its compression, the tar in it is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, PipeReader};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Kind, Result};
use crate::process::spawn;

/// How many links may stand between a name and its file, as in Linux' path_resolution(7).
const MOST_LINKS: usize = 40;

/// Writes files of the package `deb` to new places: `wanted` has the path in the package and the path outside of each.
/// Links in the package are followed.
///
/// # Errors
/// dpkg-deb is missing (kind host); a file is not in the package (kind usage), the package is damaged or a file cannot
/// be written (kind host); or `cancel` fires.
pub async fn extract(deb: &Path, wanted: &[(PathBuf, PathBuf)], cancel: &CancellationToken) -> Result<()> {
    let places: Vec<PathBuf> = wanted.iter().map(|(inside, _)| normal(inside)).collect();
    let listing = read(deb, cancel, listing).await?;
    let mut copies: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for (place, (_, outside)) in places.iter().zip(wanted) {
        let file = listing.resolve(place).ok_or_else(|| listing.missing(place, deb))?;
        copies.entry(file).or_default().push(outside.clone());
    }
    read(deb, cancel, move |archive| copy(archive, &copies)).await
}

/// What is in a package.
#[derive(Debug, Default)]
struct Listing {
    files: BTreeSet<PathBuf>,
    /// Symbolic and hard links and what they are of.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Listing {
    /// The file that `path` names, links followed.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            if self.files.contains(&path) {
                return Some(path);
            }
            let link = path.ancestors().find(|ancestor| self.links.contains_key(*ancestor))?;
            let rest = path.strip_prefix(link).ok()?;
            path = normal(&self.links[link].join(rest));
        }
        None
    }

    fn missing(&self, path: &Path, deb: &Path) -> Error {
        let error = Error::usage(format!("the package has no file /{}", path.display())).because(format!(
            "{} has {} files",
            deb.display(),
            self.files.len()
        ));
        let known = self.files.iter().chain(self.links.keys());
        let same_name = known.filter(|file| file.file_name() == path.file_name());
        let names: Vec<String> = same_name.take(5).map(|file| format!("/{}", file.display())).collect();
        if names.is_empty() { error } else { error.hint(format!("it has {}", names.join(", "))) }
    }
}

fn listing(archive: &mut Archive<PipeReader>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in archive.entries()? {
        let entry = entry?;
        let path = normal(&entry.path()?);
        let target = entry.link_name()?;
        match (entry.header().entry_type(), target) {
            (EntryType::Symlink, Some(target)) => {
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                listing.links.insert(path, normal(&folder.join(target)));
            }
            // A hard link's target is a path from the root of the archive.
            (EntryType::Link, Some(target)) => drop(listing.links.insert(path, normal(&target))),
            (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => {
                listing.files.insert(path);
            }
            _ => {}
        }
    }
    Ok(listing)
}

fn copy(archive: &mut Archive<PipeReader>, copies: &BTreeMap<PathBuf, Vec<PathBuf>>) -> io::Result<()> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some([first, others @ ..]) = copies.get(&normal(&entry.path()?)).map(Vec::as_slice) else { continue };
        let mut file = File::create_new(first)?;
        io::copy(&mut entry, &mut file)?;
        file.sync_all()?;
        others.iter().try_for_each(|other| std::fs::copy(first, other).map(drop))?;
    }
    Ok(())
}

/// Lets `work` read the file system archive of `deb` on a thread of its own.
async fn read<T: Send + 'static>(
    deb: &Path,
    cancel: &CancellationToken,
    work: impl FnOnce(&mut Archive<PipeReader>) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let (reader, writer) = io::pipe().context(Kind::Host, || "cannot make a pipe")?;
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(deb).env("LC_ALL", "C").stdin(std::process::Stdio::null());
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let mut child = spawn(command)
        .await
        .map_err(|error| Error::host("cannot run `dpkg-deb`").because(error).hint("the package `dpkg` has it"))?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut archive = Archive::new(reader);
        let result = work(&mut archive);
        // dpkg-deb must not meet a closed pipe.
        io::copy(&mut archive.into_inner(), &mut io::sink()).and(result)
    });
    let mut said = String::new();
    let stderr = child.stderr.take();
    let ended = async {
        if let Some(mut stderr) = stderr {
            // What dpkg-deb says helps, but is not needed.
            let _ = stderr.read_to_string(&mut said).await;
        }
        (child.wait().await, reading.await)
    };
    let (status, result) = tokio::select! {
        biased;
        // Dropping the child kills it, which ends the pipe and the thread.
        () = cancel.cancelled() => {
            return Err(Error::new(Kind::Interrupted, "taking files out of a package was stopped"));
        }
        ended = ended => ended,
    };
    let status = status.context(Kind::Host, || "cannot wait for `dpkg-deb`")?;
    let result = result.context(Kind::Host, || "cannot read a package")?;
    if !status.success() {
        let error = Error::host(format!("{} cannot be unpacked", deb.display()));
        return Err(error.because(format!("`dpkg-deb` failed: {status}: {}", said.trim_end())));
    }
    result.context(Kind::Host, || format!("cannot take files out of {}", deb.display()))
}

/// `path` from the root of the package, without `.`; `..` goes up, but not out.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir => normal = PathBuf::new(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}
