//! Which components (udebs) debian-installer will ask a mirror for, and which of them the mirror lacks.
//!
//! The installer's retriever, anna, finds out what it wants only when it runs, and then sits on an error message. Its
//! rules (anna 1.99: `anna.c`, `util.c`; libdebian-installer 0.125: `src/packages.c`) need no more than the dpkg status
//! in the initial file system, the kernel there, the mirror's index and three answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use cpio::newc;
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use futures_util::stream::{self, StreamExt};
use regex::Regex;
use reqwest::Client;
use secrecy::ExposeSecret;

use super::apt::Mirror;
use crate::error::{Context, Error, Kind, Result};

/// dpkg's status in the initial file system.
const STATUS: &str = "var/lib/dpkg/status";
/// Where the folder of the kernel's modules is, which has the kernel's release as its name.
const MODULES: &str = "lib/modules/";
/// How many files are asked for at once.
const AT_ONCE: usize = 8;
/// How long an answer may take, the index's with all that it brings.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest index, bytes; Debian's has some 500 KiB.
const LONGEST_INDEX: u64 = 64 << 20;

/// What an installer's initial file system says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Initrd {
    /// The kernel's release, `6.12.94+deb13-amd64`.
    pub kernel: String,
    /// dpkg's status.
    pub status: String,
}

impl Initrd {
    /// Reads the archives of an initial file system, gzip or plain, one behind the other.
    ///
    /// # Errors
    /// It cannot be read, or is compressed in another way (kind host).
    pub fn read(path: &Path) -> Result<Self> {
        let parse = || -> io::Result<Self> {
            let bytes = std::fs::read(path)?;
            let (mut rest, mut found) = (bytes.as_slice(), Self::default());
            loop {
                // Zero bytes may stand between archives.
                let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                rest = &rest[zeros..];
                match rest {
                    [] => return Ok(found),
                    [0x1f, 0x8b, ..] => {
                        let mut decoder = GzDecoder::new(&mut rest);
                        let mut archive = Vec::new();
                        decoder.read_to_end(&mut archive)?;
                        let mut archive = archive.as_slice();
                        while !archive.is_empty() {
                            found.archive(&mut archive)?;
                        }
                    }
                    [b'0', b'7', b'0', ..] => found.archive(&mut rest)?,
                    _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "neither gzip nor cpio")),
                }
            }
        };
        parse().context(Kind::Host, || format!("cannot read the initial file system {}", path.display()))
    }

    /// The full name of a component: those with kernel modules are called after the kernel.
    pub fn full_name(&self, name: &str) -> String {
        if name.ends_with("-modules") { format!("{name}-{}-di", self.kernel) } else { name.to_owned() }
    }

    /// Takes what counts out of one archive, and what stands behind it up to the next.
    fn archive(&mut self, input: &mut &[u8]) -> io::Result<()> {
        loop {
            let mut reader = newc::Reader::new(&mut *input)?;
            if reader.entry().is_trailer() {
                reader.finish()?;
                break;
            }
            let name = reader.entry().name().trim_start_matches("./").trim_start_matches('/').to_owned();
            if name == STATUS {
                self.status.clear();
                reader.read_to_string(&mut self.status)?;
            } else if let Some((_, below)) = name.split_once(MODULES)
                && let Some(release) = below.split('/').next().filter(|release| !release.is_empty())
            {
                self.kernel = release.to_owned();
            }
            reader.finish()?;
        }
        let zeros = input.iter().take_while(|byte| **byte == 0).count();
        *input = &input[zeros..];
        Ok(())
    }
}

/// The answers that decide about components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// `anna/standard_modules`.
    pub standard_modules: bool,
    /// `anna/choose_modules`; any component whose name is a part of it is wanted.
    pub choose_modules: String,
    /// Components that are left out unless another depends on them.
    pub exclude: Vec<String>,
}

/// Where anna looks for components to leave out: full names, one a line.
pub const EXCLUDE_FILE: &str = "/var/cache/anna/exclude";

impl Answers {
    /// Out of preseed files (debconf-set-selections(1)) and kernels' command lines, where `modules` is short for
    /// `anna/choose_modules` (rootskel's `S20-preseed-cmdline` and its aliases).
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut answers = Self { standard_modules: true, choose_modules: String::new(), exclude: Vec::new() };
        // A preseed's line: owner, question, type, value. A comment has no owner.
        let line = Regex::new(r"(?m)^[ \t]*[^#\s]\S*[ \t]+(anna/\w+)[ \t]+\w+(?:[ \t]+(.*))?$");
        let word = Regex::new(r"(?:^|\s)(anna/\w+|modules)=(\S*)");
        let patterns = [line, word].map(|pattern| pattern.expect("the pattern is right"));
        for text in texts {
            let joined = text.replace("\\\n", " ");
            for found in patterns.iter().flat_map(|pattern| pattern.captures_iter(&joined)) {
                let value = found.get(2).map_or("", |value| value.as_str().trim());
                match &found[1] {
                    "anna/standard_modules" => answers.standard_modules = value != "false",
                    "anna/choose_modules" | "modules" => value.clone_into(&mut answers.choose_modules),
                    _ => {}
                }
            }
        }
        answers
    }
}

/// A component of the index.
#[derive(Debug, Clone, Default)]
struct Udeb {
    name: String,
    version: String,
    priority: String,
    kernel: Option<String>,
    depends: Vec<String>,
    provides: Vec<String>,
    file: String,
}

/// A component that will be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version in the index.
    pub version: String,
    /// Its file, relative to the mirror.
    pub file: String,
}

/// The components that anna will ask for, in its order; `index` is the mirror's `Packages` of debian-installer.
pub fn components(index: &str, initrd: &Initrd, answers: &Answers) -> Vec<Component> {
    let anna = Anna::new(index, initrd);
    let wanted = anna.wanted(answers);
    let fetched = anna.index.iter().filter(|udeb| wanted.contains(udeb.name.as_str()) && !anna.has(udeb));
    fetched
        .map(|udeb| Component { name: udeb.name.clone(), version: udeb.version.clone(), file: udeb.file.clone() })
        .collect()
}

struct Anna<'a> {
    index: Vec<Udeb>,
    kernel: &'a str,
    /// What is in the initial file system: version, and whether it is unpacked.
    there: BTreeMap<String, (String, bool)>,
}

impl<'a> Anna<'a> {
    fn new(index: &str, initrd: &'a Initrd) -> Self {
        // Of an index that names a package twice the later counts.
        let mut udebs: Vec<Udeb> = Vec::new();
        for udeb in index.split("\n\n").filter_map(udeb) {
            match udebs.iter_mut().find(|other| other.name == udeb.name) {
                Some(other) => *other = udeb,
                None => udebs.push(udeb),
            }
        }
        let there = initrd.status.split("\n\n").filter_map(|paragraph| {
            let status = field(paragraph, "Status").unwrap_or_default();
            let unpacked = matches!(status.split_whitespace().last(), Some("unpacked" | "installed"));
            let version = field(paragraph, "Version").unwrap_or_default();
            Some((field(paragraph, "Package")?.to_owned(), (version.to_owned(), unpacked)))
        });
        Self { index: udebs, kernel: &initrd.kernel, there: there.collect() }
    }

    /// In this version or a later one: it is not fetched.
    fn has(&self, udeb: &Udeb) -> bool {
        let there = self.there.get(&udeb.name);
        there.is_some_and(|(version, _)| deb_version::compare_versions(version, &udeb.version).is_ge())
    }

    fn is_for_this_kernel(&self, udeb: &Udeb) -> bool {
        udeb.kernel.as_ref().is_none_or(|kernel| kernel == self.kernel)
    }

    fn wanted(&self, answers: &Answers) -> BTreeSet<&str> {
        let mut wanted = BTreeSet::new();
        for udeb in &self.index {
            let standard = matches!(udeb.priority.as_str(), "standard" | "important" | "required");
            // Kernel modules of these priorities are loaded whatever is answered.
            let marked = standard && (answers.standard_modules || udeb.kernel.is_some());
            let excluded = answers.exclude.contains(&udeb.name);
            if marked && !excluded && !self.has(udeb) && self.is_for_this_kernel(udeb) {
                wanted.insert(udeb.name.as_str());
            }
        }
        self.add_dependencies(&mut wanted);
        // strstr(3): of every kernel, and whatever stands around the name.
        wanted.extend(
            self.index.iter().map(|udeb| udeb.name.as_str()).filter(|name| answers.choose_modules.contains(name)),
        );
        self.add_dependencies(&mut wanted);
        wanted
    }

    fn add_dependencies<'s>(&'s self, wanted: &mut BTreeSet<&'s str>) {
        let mut open: Vec<&str> = wanted.iter().copied().collect();
        while let Some(name) = open.pop() {
            let Some(udeb) = self.index.iter().find(|udeb| udeb.name == name) else { continue };
            for dependency in &udeb.depends {
                if self.there.get(dependency).is_some_and(|(_, unpacked)| *unpacked) {
                    continue;
                }
                if let Some(found) = self.resolve(dependency, wanted)
                    && wanted.insert(found)
                {
                    open.push(found);
                }
            }
        }
    }

    /// The component of that name, or the best of those that provide it; what nobody provides is ignored.
    fn resolve(&self, name: &str, wanted: &BTreeSet<&str>) -> Option<&str> {
        if let Some(udeb) = self.index.iter().find(|udeb| udeb.name == name) {
            return Some(&udeb.name);
        }
        let rank = |udeb: &Udeb| {
            let priority = ["extra", "optional", "standard", "important", "required"];
            let priority = priority.iter().position(|word| *word == udeb.priority).unwrap_or_default();
            (priority, self.has(udeb), wanted.contains(udeb.name.as_str()))
        };
        let provides = |udeb: &&Udeb| udeb.provides.iter().any(|it| it == name) && self.is_for_this_kernel(udeb);
        let mut best: Option<&Udeb> = None;
        for udeb in self.index.iter().filter(provides) {
            if best.is_none_or(|best| rank(udeb) > rank(best)) {
                best = Some(udeb);
            }
        }
        best.map(|udeb| udeb.name.as_str())
    }
}

fn field<'t>(paragraph: &'t str, name: &str) -> Option<&'t str> {
    paragraph.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn udeb(paragraph: &str) -> Option<Udeb> {
    let names = |name: &str| {
        let relation = field(paragraph, name).unwrap_or_default();
        let first = |item: &str| item.trim().split([' ', '(', ':', '[', '|']).next().unwrap_or_default().to_owned();
        relation.split(',').map(first).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    Some(Udeb {
        name: field(paragraph, "Package")?.to_owned(),
        version: field(paragraph, "Version")?.to_owned(),
        priority: field(paragraph, "Priority").unwrap_or("extra").to_owned(),
        kernel: field(paragraph, "Kernel-Version").map(str::to_owned),
        depends: [names("Depends"), names("Pre-Depends")].concat(),
        provides: names("Provides"),
        file: field(paragraph, "Filename")?.to_owned(),
    })
}

/// The mirror's index of components.
async fn index(client: &Client, mirror: &str, suite: &str) -> Result<String> {
    let url = format!("{mirror}/dists/{suite}/main/debian-installer/binary-amd64/Packages.gz");
    let failed = || format!("cannot get the index of the installer's components, {}", crate::credentials::strip(&url));
    let fetched = async { client.get(&url).timeout(PATIENCE).send().await?.error_for_status()?.bytes().await };
    let bytes = fetched.await.map_err(|error| Error::host(failed()).because(error.without_url()))?;
    let mut text = String::new();
    MultiGzDecoder::new(bytes.as_ref()).take(LONGEST_INDEX).read_to_string(&mut text).context(Kind::Host, failed)?;
    Ok(text)
}

/// That the mirror has every component that the installer will ask for, of which `initrd` is the initial file system.
///
/// # Errors
/// It lacks some, all of which are named, or does not answer (kind host).
pub async fn check(client: &Client, mirror: &Mirror, suite: &str, initrd: &Path, answers: &Answers) -> Result<usize> {
    let initrd = Initrd::read(initrd)?;
    let url = mirror.full_url();
    let components = components(&index(client, url.expose_secret(), suite).await?, &initrd, answers);
    let missing = missing(client, url.expose_secret(), &components).await?;
    if missing.is_empty() {
        return Ok(components.len());
    }
    let count = format!("{} of the {} components", missing.len(), components.len());
    Err(Error::host(format!("the mirror lacks {count} that the installer will ask for"))
        .because(missing.join("\n"))
        .hint("name a complete mirror with --mirror, or make the disk natively with `--base bootstrap`"))
}

/// The component with what the mirror answers, if it does not have it.
fn ask(
    client: Client,
    mirror: &str,
    component: Component,
) -> impl Future<Output = reqwest::Result<Option<String>>> + Send + use<> {
    let url = format!("{mirror}/{}", component.file);
    async move {
        let head = async || client.head(&url).timeout(PATIENCE).send().await;
        let told = head().await;
        // A mirror may stumble once.
        let again = told.as_ref().map_or(true, |told| told.status().is_server_error());
        let told = if again { head().await } else { told };
        let status = told.map_err(reqwest::Error::without_url)?.status();
        let Component { name, version, .. } = component;
        Ok((!status.is_success()).then(|| format!("{name} {version} ({})", status.as_u16())))
    }
}

/// Those of `components` that the mirror does not have, with what it answers.
async fn missing(client: &Client, mirror: &str, components: &[Component]) -> Result<Vec<String>> {
    let asked: Vec<_> = components.iter().map(|component| ask(client.clone(), mirror, component.clone())).collect();
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let found: std::result::Result<Vec<_>, _> = found.into_iter().collect();
    let failed = || "cannot ask the mirror for the installer's components";
    Ok(found.context(Kind::Host, failed)?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::answers::site::Site;
    use crate::answers::web::{BoundServer, WebServer};
    use crate::event::Events;

    const INDEX: &str = "Package: anna\nVersion: 1.99\nPriority: standard\nFilename: pool/anna.udeb\nDescription: x\n y\n\n\
        Package: partman\nVersion: 3\nDepends: disk (>= 1), libfoo | bar, virtual:any\nFilename: pool/partman.udeb\n\n\
        Package: disk\nVersion: 2\nPriority: optional\nFilename: pool/disk.udeb\n\n\
        Package: libfoo\nVersion: 1:2\nFilename: pool/libfoo.udeb\n\n\
        Package: one\nVersion: 1\nPriority: optional\nProvides: virtual\nFilename: pool/one.udeb\n\n\
        Package: two\nVersion: 1\nPriority: important\nProvides: virtual, x\nFilename: pool/two.udeb\n\n\
        Package: sata-modules-6.1-di\nVersion: 6.1\nPriority: standard\nKernel-Version: 6.1\nFilename: pool/sata.udeb\n\n\
        Package: sata-modules-6.2-di\nVersion: 6.2\nPriority: standard\nKernel-Version: 6.2\nFilename: pool/sata2.udeb\n";

    fn names(status: &str, standard_modules: bool, choose_modules: &str) -> Vec<String> {
        excluding(&[], status, standard_modules, choose_modules)
    }

    fn excluding(names: &[&str], status: &str, standard_modules: bool, choose_modules: &str) -> Vec<String> {
        let initrd = Initrd { kernel: "6.1".into(), status: status.into() };
        let exclude = names.iter().map(|name| initrd.full_name(name)).collect();
        let answers = Answers { standard_modules, choose_modules: choose_modules.into(), exclude };
        components(INDEX, &initrd, &answers).into_iter().map(|component| component.name).collect()
    }

    #[test]
    fn annas_rules() {
        // Kernel modules of this kernel come whatever is answered, important ones only when standard ones do.
        assert_eq!(names("", false, ""), ["sata-modules-6.1-di"]);
        assert_eq!(names("", true, ""), ["anna", "two", "sata-modules-6.1-di"]);
        // A chosen one brings what it depends on, of the providers the one with the highest priority.
        let chosen = ["partman", "disk", "libfoo", "two", "sata-modules-6.1-di"];
        assert_eq!(names("", false, "partman, other"), chosen);
        // What is there in any version satisfies; what is there in an older one is fetched when it is wanted itself.
        let there = "Package: disk\nStatus: install ok unpacked\nVersion: 1\n\nPackage: anna\nVersion: 2.0\n";
        assert_eq!(names(there, true, "partman"), ["partman", "libfoo", "two", "sata-modules-6.1-di"]);
        assert_eq!(names(there, false, "disk"), ["disk", "sata-modules-6.1-di"]);
        // What is left out comes all the same when another depends on it, or it is chosen.
        assert_eq!(excluding(&["sata-modules", "two"], "", true, ""), ["anna"]);
        assert_eq!(excluding(&["sata-modules", "two"], "", true, "one"), ["anna", "one"]);
        assert_eq!(excluding(&["sata-modules", "disk"], "", false, "partman"), ["partman", "disk", "libfoo", "two"]);
    }

    #[test]
    fn answers_are_found_in_preseeds_and_on_command_lines() {
        let preseed =
            "# anna\nd-i anna/standard_modules boolean false\nd-i anna/choose_modules multiselect a, b-udeb\n";
        let answers = Answers::of([preseed]);
        assert_eq!(
            answers,
            Answers { standard_modules: false, choose_modules: "a, b-udeb".into(), exclude: Vec::new() }
        );
        let of = |standard_modules, choose_modules: &str| Answers {
            standard_modules,
            choose_modules: choose_modules.into(),
            exclude: Vec::new(),
        };
        assert_eq!(
            Answers::of(["anna/choose_modules=ssh auto=true", "x anna/standard_modules=false y"]),
            of(false, "ssh")
        );
        assert_eq!(Answers::of(["auto=true modules=a,b"]), of(true, "a,b"));
        let commented =
            "#d-i anna/choose_modules string network-console\n  # d-i anna/standard_modules boolean false\n";
        assert_eq!(Answers::of([commented]), of(true, ""));
        assert_eq!(Answers::of(["d-i anna/choose_modules string a, \\\n  b\nd-i x/y string\n"]), of(true, "a,    b"));
        assert!(Answers::of(["d-i debian-installer/locale string C"]).standard_modules);
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let files = files.iter().map(|(name, text)| {
            let entry = newc::Builder::new(name).mode(0o100_644);
            (entry, io::Cursor::new(text.as_bytes().to_vec()))
        });
        cpio::write_cpio(files, Vec::new()).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[tokio::test]
    async fn what_the_mirror_lacks_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), archive(&[("lib/modules/6.1/x", "")])).unwrap();
        let mut site = Site::new();
        site.add("debian/dists/trixie/main/debian-installer/binary-amd64/Packages.gz", gzip(INDEX.as_bytes())).unwrap();
        for name in ["partman", "libfoo", "sata"] {
            site.add(&format!("debian/pool/{name}.udeb"), "x").unwrap();
        }
        let serve = async |site: Site| BoundServer::bind().await.unwrap().serve(site, &Events::none(), "t");
        let answers = Answers { standard_modules: false, choose_modules: "partman".into(), exclude: Vec::new() };
        let check = async |server: &WebServer| {
            let mirror = Mirror::parse(&format!("http://{}/debian", server.address())).unwrap();
            let client = Client::builder().no_proxy().build().unwrap();
            check(&client, &mirror, "trixie", file.path(), &answers).await
        };
        let error = check(&serve(site.clone()).await).await.unwrap_err();
        let told =
            ["the mirror lacks 2 of the 5 components that the installer will ask for", "disk 2 (404)\ntwo 1 (404)"];
        assert_eq!((error.kind(), error.chain()), (Kind::Host, told.map(str::to_owned).to_vec()));
        for name in ["disk", "two"] {
            site.add(&format!("debian/pool/{name}.udeb"), "x").unwrap();
        }
        assert_eq!(check(&serve(site).await).await.unwrap(), 5);
        let error = check(&serve(Site::new()).await).await.unwrap_err();
        assert!(error.chain()[0].starts_with("cannot get the index of the installer's components"), "{error:?}");
    }

    #[test]
    fn the_last_archive_of_an_initrd_counts() {
        let first = archive(&[("./usr/lib/modules/6.1-amd64/modules.dep", ""), (STATUS, "Package: a\n")]);
        let mut bytes = gzip(&first);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(archive(&[("x", "y"), (STATUS, "Package: b\n")]));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let wanted = Initrd { kernel: "6.1-amd64".into(), status: "Package: b\n".into() };
        assert_eq!(Initrd::read(file.path()).unwrap(), wanted);
        std::fs::write(file.path(), b"BZh9").unwrap();
        assert_eq!(Initrd::read(file.path()).unwrap_err().kind(), Kind::Host);
    }
}
