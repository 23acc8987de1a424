//! Files that answer an installer: of the web server, in its initial file system, on a CD or a floppy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use walkdir::WalkDir;

use super::fields::{Fields, Reader, entries};
use super::nearest::suggestion;
use super::paths::{Search, Want};
use super::yaml::{self, Node};
use super::{HostPath, Text, render};
use crate::answers::volume::VolumeFiles;
use crate::answers::{Content, password};
use crate::boot_command::Variable;
use crate::error::Problem;

/// The longest text that is rendered, bytes; longer files are taken as they are.
const LONGEST_TEXT: u64 = 1 << 20;

/// A file for an installer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerFile {
    /// Text, rendered.
    Content(Text),
    /// A file of the host, as it is.
    File(HostPath),
}

impl AnswerFile {
    /// Its text, where it is one.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Self::Content(text) => Some(text),
            Self::File(_) => None,
        }
    }

    /// Whether its owner may execute it: as on the host.
    pub fn is_executable(&self) -> bool {
        use std::os::unix::fs::PermissionsExt;
        match self {
            Self::Content(text) => text.plain().starts_with("#!"),
            Self::File(path) => fs::metadata(&path.path).is_ok_and(|data| data.permissions().mode() & 0o100 != 0),
        }
    }
}

/// A CD or a floppy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    /// Its label.
    pub label: String,
    /// Its files, by path.
    pub files: BTreeMap<String, AnswerFile>,
}

/// The keys of a volume.
#[derive(Debug)]
pub(super) struct Keys {
    files: &'static [&'static str],
    content: &'static str,
    label: &'static str,
    default_label: &'static str,
}

pub(super) const CD: Keys =
    Keys { files: &["cd_files"], content: "cd_content", label: "cd_label", default_label: "packer" };
pub(super) const FLOPPY: Keys = Keys {
    files: &["floppy_files", "floppy_dirs"],
    content: "floppy_content",
    label: "floppy_label",
    default_label: "packer",
};

/// What the web server has.
#[derive(Debug, Default)]
pub(super) struct Http {
    /// By path.
    pub(super) files: BTreeMap<String, AnswerFile>,
    /// `http_directory`, without links.
    folder: Option<PathBuf>,
}

/// `http_directory` and `http_content`: the files of the web server.
pub(super) fn http(reader: &mut Reader<'_>, fields: &mut Fields<'_>, search: &Search) -> Option<Http> {
    let (folder, content) = (fields.get("http_directory"), fields.get("http_content"));
    let (mut files, mut own) = (BTreeMap::new(), None);
    let mut good = true;
    if let Some(node) = folder {
        match search.find(reader, node, Want::Any) {
            Some(folder) if folder.path.is_dir() => {
                good &= add_folder(reader, &folder, &mut files).is_some();
                own = folder.path.canonicalize().ok();
            }
            Some(_) => {
                reader.at(node.location(), "`http_directory` is not a folder");
                good = false;
            }
            None => good = false,
        }
    }
    let content = reader.optional(content, contents)?;
    files.extend(content.into_iter().flatten().map(|(path, text)| (path.trim_start_matches('/').to_owned(), text)));
    good.then_some(Http { files, folder: own })
}

/// All files below a folder, at their paths in it.
fn add_folder(reader: &mut Reader<'_>, folder: &HostPath, files: &mut BTreeMap<String, AnswerFile>) -> Option<()> {
    let mut good = true;
    for entry in WalkDir::new(&folder.path).follow_links(true).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) if entry.file_type().is_file() => entry,
            Ok(_) => continue,
            Err(error) => {
                reader.problems.add(Problem::new(error.to_string()));
                good = false;
                continue;
            }
        };
        let inside = entry.path().strip_prefix(&folder.path).unwrap_or(entry.path());
        let shown = Path::new(&folder.shown).join(inside).to_string_lossy().into_owned();
        let path =
            HostPath { path: entry.path().to_owned(), shown, contents_only: false, secrets: folder.secrets.clone() };
        match load(reader, path) {
            Some(file) => drop(files.insert(inside.to_string_lossy().into_owned(), file)),
            None => good = false,
        }
    }
    good.then_some(())
}

/// A file of the host: text is rendered, anything else is taken as it is.
fn load(reader: &mut Reader<'_>, path: HostPath) -> Option<AnswerFile> {
    let size = fs::metadata(&path.path).map_or(0, |metadata| metadata.len());
    let bytes = if size > LONGEST_TEXT {
        return Some(AnswerFile::File(path));
    } else {
        fs::read(&path.path)
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            reader.problems.add(Problem::new(format!("{}: cannot be read: {error}", path.shown)));
            return None;
        }
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        _ => return Some(AnswerFile::File(path)),
    };
    let node = yaml::text_file(Path::new(&path.shown), text.clone());
    let rendered = reader.context.render(&node, &text, reader.problems)?;
    check(reader, &node, &rendered)?;
    Some(AnswerFile::Content(rendered))
}

/// A mapping of paths to texts.
fn contents(reader: &mut Reader<'_>, node: &Node) -> Option<BTreeMap<String, AnswerFile>> {
    let entries = entries(node, reader.problems)?;
    let read = entries.iter().map(|entry| {
        let text = if entry.value.is_null() { Text::public("") } else { reader.text(&entry.value)? };
        check(reader, &entry.value, &text)?;
        Some((entry.key.clone(), AnswerFile::Content(text)))
    });
    read.collect::<Vec<_>>().into_iter().collect()
}

/// Files by their path in the guest, of a mapping to the host's files and of one to texts.
pub(super) fn files(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    [files, content]: [&'static str; 2],
    search: &Search,
) -> Option<BTreeMap<String, AnswerFile>> {
    let (files, content) = (fields.get(files), fields.get(content));
    let mut all = BTreeMap::new();
    if let Some(node) = files {
        let read: Vec<_> = entries(node, reader.problems)?
            .iter()
            .map(|entry| {
                let path = search.find(reader, &entry.value, Want::File)?;
                Some((entry.key.clone(), load(reader, path)?))
            })
            .collect();
        all.extend(read.into_iter().collect::<Option<Vec<_>>>()?);
    }
    all.extend(reader.optional(content, contents)?.into_iter().flatten());
    Some(all)
}

/// A volume's files, as Packer collects them: those that patterns name as they are, unless the web server has them, too;
/// texts rendered.
pub(super) fn volume(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    keys: &Keys,
    (search, http): (&Search, Option<&Http>),
) -> Option<Option<Volume>> {
    let nodes: Vec<_> = keys.files.iter().filter_map(|key| fields.get(key)).collect();
    let (content, label) = (fields.get(keys.content), fields.get(keys.label));
    let mut patterns = Vec::new();
    for node in &nodes {
        patterns.extend(reader.list(node, Reader::public)?);
    }
    let mut files = BTreeMap::new();
    if let Some(node) = nodes.first().filter(|_| !patterns.is_empty()) {
        match VolumeFiles::collect(&patterns, &BTreeMap::new(), search.own()) {
            Ok(collected) => {
                let folder = http.and_then(|http| http.folder.as_deref());
                let found = collected.iter().filter_map(|(name, content)| match content {
                    Content::File(path) => Some((name.to_owned(), named(reader, search.host_path(path), folder))),
                    Content::Bytes(_) => None,
                });
                let found: Vec<_> = found.collect();
                files.extend(found.into_iter().map(|(name, file)| Some((name, file?))).collect::<Option<Vec<_>>>()?);
            }
            Err(error) => {
                for problem in error.problem_list() {
                    reader.at(node.location(), problem.message.clone());
                }
                return None;
            }
        }
    }
    files.extend(reader.optional(content, contents)?.into_iter().flatten());
    let label = reader.optional(label, Reader::public)?;
    if files.is_empty() {
        return Some(None);
    }
    Some(Some(Volume { label: label.unwrap_or_else(|| keys.default_label.to_owned()), files }))
}

/// A file that a pattern names: the same as the web server's where it is in that `folder`.
fn named(reader: &mut Reader<'_>, path: HostPath, folder: Option<&Path>) -> Option<AnswerFile> {
    let whole = path.path.canonicalize().ok();
    match folder.zip(whole) {
        Some((folder, whole)) if whole.starts_with(folder) => load(reader, path),
        _ => Some(AnswerFile::File(path)),
    }
}

/// What is in a text for an installer must be allowed there, and have a value. Other braces than those of a boot
/// command's variables are the installer's own.
fn check(reader: &mut Reader<'_>, node: &Node, text: &Text) -> Option<()> {
    refuse_secrets(reader, node, text)?;
    let unknown = go_variables(text.plain()).into_iter().filter(|name| Variable::named(name).is_none());
    for name in unknown {
        if let Some(hint) = suggestion(&name, Variable::names()) {
            let problem = Problem::at(node.location(), format!("unknown variable `{{{{ .{name} }}}}`"));
            reader.problems.add(problem.hint(hint));
            return None;
        }
    }
    Some(())
}

/// Whatever is served to an installer may stay on its disk: no secret but a password's hash may be in it.
fn refuse_secrets(reader: &mut Reader<'_>, node: &Node, text: &Text) -> Option<()> {
    let Some(secret) = text.secrets().iter().find(|name| *name != password::HASH_VARIABLE) else { return Some(()) };
    let problem = Problem::at(node.location(), format!("the secret `{secret}` cannot be used here"));
    reader.problems.add(match secret.as_str() {
        "root_password" => problem.hint(format!("installers take its hash: `{{{{ {} }}}}`", password::HASH_VARIABLE)),
        _ => problem,
    });
    None
}

/// The names in `{{ .Name }}` of `text`.
pub(super) fn go_variables(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("{{") {
        let Some(inner) = text[at + 2..].find("}}").map(|end| &text[at + 2..at + 2 + end]) else { continue };
        if render::is_go_variable(inner) {
            let name = inner.trim().trim_start_matches('.').split(['|', ' ']).next().unwrap_or_default();
            names.push(name.to_owned());
        }
    }
    names
}
