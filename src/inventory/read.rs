//! What the script in the guest said, read without trust.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Entry, Inventory, licence};

/// Longest text that is kept, characters.
const LONGEST: usize = 300;

/// Most entries of one kind that are kept.
const MOST: usize = 50_000;

/// Longest package.json that is read, bytes; the script leaves out longer ones.
const LARGEST_JSON: usize = 128 * 1024;

impl Inventory {
    /// Reads what [`super::SCRIPT`] says. Lines that are none of its form are left out.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut reading = Reading::default();
        lines.into_iter().for_each(|line| reading.line(line));
        reading.end()
    }
}

#[derive(Default)]
struct Reading {
    found: Inventory,
    /// Packages by the paths of metadata that came with them.
    owners: BTreeMap<String, String>,
    /// Python and npm with the paths of their metadata.
    python: Vec<(String, Entry)>,
    npm: Vec<(String, Entry)>,
    open: Option<Open>,
}

/// The file whose lines are being read.
enum Open {
    Python { path: String, fields: Vec<(String, String)> },
    Npm { path: String, json: String },
}

impl Reading {
    fn line(&mut self, line: &str) {
        let (tag, rest) = line.split_once('\t').unwrap_or((line, ""));
        match (tag, &mut self.open) {
            ("f", Some(Open::Python { fields, .. })) => {
                if let Some((name, value)) = rest.split_once('\t').filter(|_| fields.len() < 64) {
                    fields.push((name.to_owned(), text(value)));
                }
                return;
            }
            ("j", Some(Open::Npm { json, .. })) => {
                if json.len() <= LARGEST_JSON {
                    json.push_str(rest);
                }
                return;
            }
            _ => self.close(),
        }
        match tag {
            "deb" => self.debian(rest),
            "rpm" => self.rpm(rest),
            "python" => self.open = Some(Open::Python { path: text(rest), fields: Vec::new() }),
            "npm" => self.open = Some(Open::Npm { path: text(rest), json: String::new() }),
            "owner" => {
                if let Some((package, path)) = rest.split_once('\t') {
                    let package = package.split(':').next().unwrap_or_default();
                    self.owners.insert(text(path), text(package));
                }
            }
            "cut" => self.found.is_cut = true,
            _ => {}
        }
    }

    fn debian(&mut self, rest: &str) {
        let fields: Vec<String> = rest.split('\t').map(text).collect();
        let [status, name, version, architecture, source, source_version, supplier, homepage] = fields.as_slice()
        else {
            return;
        };
        if status != "installed" || name.is_empty() || version.is_empty() {
            return;
        }
        let entry = Entry {
            name: name.clone(),
            version: version.clone(),
            architecture: said(architecture),
            source: said(source).filter(|source| source != name),
            source_version: said(source_version).filter(|source| source != version),
            supplier: said(supplier),
            homepage: page(homepage),
            ..Entry::default()
        };
        self.found.debian.push(entry);
    }

    fn rpm(&mut self, rest: &str) {
        let fields: Vec<String> = rest.split('\t').map(text).collect();
        let [_, name, version, architecture, source, supplier, homepage, license] = fields.as_slice() else { return };
        // rpm keeps keys among its packages; they are of no architecture.
        if name.is_empty() || version.is_empty() || said(architecture).is_none() {
            return;
        }
        let entry = Entry {
            name: name.clone(),
            version: version.clone(),
            architecture: said(architecture),
            source: said(source),
            supplier: said(supplier),
            homepage: page(homepage),
            license: said(license),
            ..Entry::default()
        };
        self.found.rpm.push(entry);
    }

    fn close(&mut self) {
        match self.open.take() {
            Some(Open::Python { path, fields }) => self.python.extend(python(&path, &fields).map(|one| (path, one))),
            Some(Open::Npm { path, json }) => self.npm.extend(npm(&path, &json).map(|one| (path, one))),
            None => {}
        }
    }

    fn end(mut self) -> Inventory {
        self.close();
        let owners = &self.owners;
        let owned = |list: Vec<(String, Entry)>| {
            let own = |(path, entry): (String, Entry)| Entry { owner: owners.get(&path).cloned(), ..entry };
            list.into_iter().map(own).collect::<Vec<_>>()
        };
        let mut found = Inventory { python: owned(self.python), npm: owned(self.npm), ..self.found };
        for list in [&mut found.debian, &mut found.rpm, &mut found.python, &mut found.npm] {
            list.sort();
            list.dedup();
            found.is_cut |= list.len() > MOST;
            list.truncate(MOST);
        }
        found
    }
}

/// A distribution of which the metadata are at `path`; its folder's name says what the metadata do not.
fn python(path: &str, fields: &[(String, String)]) -> Option<Entry> {
    let all =
        |name: &'static str| fields.iter().filter(move |(field, _)| field == name).map(move |(_, value)| value.clone());
    let one = |name: &'static str| all(name).find(|value| !value.is_empty());
    let (holder, folder) = holder(path)?;
    let stem = folder.trim_end_matches(".dist-info").trim_end_matches(".egg-info").trim_end_matches(".egg");
    let named = stem.split_once('-');
    let name = one("Name").or_else(|| named.map(|(name, _)| name.to_owned()))?;
    let version = one("Version").or_else(|| {
        let (_, rest) = named?;
        rest.split('-').next().map(str::to_owned)
    })?;
    let classifiers: Vec<String> = all("Classifier").collect();
    let license = licence::of_python(one("License-Expression").as_deref(), one("License").as_deref(), &classifiers);
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (is_word(&name) && is_word(&version)).then(|| Entry {
        name,
        version,
        license,
        path: Some(environment(holder)),
        ..Entry::default()
    })
}

/// The folder that holds a distribution's own, and the name of that: `/x/site-packages` and `a-1.dist-info`.
fn holder(path: &str) -> Option<(&str, &str)> {
    let (folder, file) = path.rsplit_once('/')?;
    if file.ends_with(".egg-info") {
        return Some((folder, file));
    }
    folder.trim_end_matches("/EGG-INFO").rsplit_once('/')
}

/// The environment of `/opt/x/lib/python3.13/site-packages`, which is `/opt/x`; a folder that is laid out otherwise is
/// its own.
fn environment(holder: &str) -> String {
    let of = |lib: &str| {
        let (prefix, rest) = holder.rsplit_once(lib)?;
        let (_, last) = rest.split_once('/')?;
        matches!(last, "site-packages" | "dist-packages").then_some(prefix)
    };
    let prefix = of("/lib/python").or_else(|| of("/lib64/python")).unwrap_or(holder);
    if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() }
}

/// The package whose package.json is at `path`; one without name or version is part of another package.
fn npm(path: &str, json: &str) -> Option<Entry> {
    let package: Value = serde_json::from_str(json.trim_start_matches('\u{feff}')).ok()?;
    let word = |name: &str| {
        let value = text(package.get(name)?.as_str()?);
        Some(value).filter(|value| !value.is_empty() && !value.contains(char::is_whitespace))
    };
    let (outermost, _) = path.split_once("/node_modules/")?;
    Some(Entry {
        name: word("name")?,
        version: word("version")?,
        license: licence::of_npm(&package).map(|license| text(&license)),
        path: Some(if outermost.is_empty() { "/".to_owned() } else { outermost.to_owned() }),
        ..Entry::default()
    })
}

/// A text that can be shown: one line, no control characters, not too long.
fn text(raw: &str) -> String {
    let shown: String = raw.chars().map(|char| if char.is_control() { ' ' } else { char }).take(LONGEST).collect();
    // What stands for half a character that was cut off.
    shown.trim().trim_end_matches('\u{fffd}').to_owned()
}

/// A value; rpm writes `(none)`.
fn said(value: &str) -> Option<String> {
    (!value.is_empty() && value != "(none)").then(|| value.to_owned())
}

/// An address of a page that holds nobody's credentials, as RFC 3986 writes it and on a host with a domain: what others
/// say is wrong would make a whole bill of materials so.
fn page(value: &str) -> Option<String> {
    let is_page = |url: &reqwest::Url| {
        let has_nobody = url.username().is_empty() && url.password().is_none();
        let is_label =
            |label: &str| !label.is_empty() && label.chars().all(|char| char.is_ascii_alphanumeric() || char == '-');
        let is_domain = |host: &str| host.contains('.') && host.split('.').all(is_label);
        url.host_str().is_some_and(is_domain) && has_nobody
    };
    let is_written = |value: &String| {
        let has_scheme = ["http://", "https://"].iter().any(|scheme| value.starts_with(scheme));
        has_scheme && value.chars().all(|char| char.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(char))
    };
    said(value).filter(|value| is_written(value) && value.parse().is_ok_and(|url| is_page(&url)))
}
