//! APT's source lists: the one-line style and deb822 style of sources.list(5).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Context, Kind, Result};

/// One binary suite at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As written; may hold credentials.
    pub uri: String,
    /// For example `trixie` or `trixie-security`.
    pub suite: String,
    /// For example `main`.
    pub components: Vec<String>,
    /// Keyring paths or key ids that verify it; empty when any trusted key does.
    pub signed_by: String,
}

/// All sources below `etc_apt` (`/etc/apt`), in APT's order. `mirror+file:` lists are looked up and
/// stand for their first mirror.
///
/// # Errors
/// A list that is there cannot be read (kind host).
pub fn read_sources(etc_apt: &Path) -> Result<Vec<Source>> {
    let mut sources = read(&etc_apt.join("sources.list"))?.map(|text| parse_list(&text)).unwrap_or_default();
    for path in parts(&etc_apt.join("sources.list.d"))? {
        let Some(text) = read(&path)? else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    for source in &mut sources {
        let Some(list) = source.uri.strip_prefix("mirror+file:") else { continue };
        let list = read(Path::new(list.trim_start_matches("//")))?;
        if let Some(uri) = list.as_deref().and_then(first_mirror) {
            source.uri = uri.to_owned();
        }
    }
    sources.retain(|source| source.uri.starts_with("http://") || source.uri.starts_with("https://"));
    Ok(sources)
}

fn first_mirror(list: &str) -> Option<&str> {
    list.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| line.split_whitespace().next())
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(Kind::Host, || format!("reading {}", path.display())),
    }
}

fn parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing,
    };
    let paths = listing.and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut paths: Vec<_> = paths.context(Kind::Host, || format!("reading {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// Sources in one-line style: `deb [option=value …] URI suite component…`.
/// Lines that APT would refuse are passed over; judging them is APT's business.
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().filter_map(|option| option.split_once('='));
    let signed_by =
        signed_by.filter(|(name, _)| name.eq_ignore_ascii_case("signed-by")).map(|(_, value)| value).collect();
    Some(Source { uri, suite, components: words.collect(), signed_by })
}

/// Sources in deb822 style; each URI and suite of a paragraph is one [`Source`].
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).flat_map(parse_paragraph).collect()
}

fn parse_paragraph(lines: &[&str]) -> Vec<Source> {
    let fields = fields(lines);
    let words = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(field, _)| field == name).flat_map(|(_, value)| value.split_whitespace()).collect()
    };
    let disabled = words("enabled").first().is_some_and(|value| is_no(value));
    if disabled || !words("types").contains(&"deb") {
        return Vec::new();
    }
    let components: Vec<_> = words("components").into_iter().map(str::to_owned).collect();
    let signed_by = words("signed-by").join(" ");
    let (uris, suites) = (words("uris"), words("suites"));
    let pairs = uris.iter().flat_map(|uri| suites.iter().map(move |suite| (*uri, *suite)));
    pairs
        .map(|(uri, suite)| Source {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
            components: components.clone(),
            signed_by: signed_by.clone(),
        })
        .collect()
}

/// Field names in lower case with their values, continuation lines joined.
fn fields(lines: &[&str]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.to_owned()));
        }
    }
    fields
}

/// The words that APT takes for no (StringToBool).
fn is_no(value: &str) -> bool {
    ["no", "false", "without", "off", "disable", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(uri: &str, suite: &str, components: &[&str], signed_by: &str) -> Source {
        Source {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
            components: components.iter().map(|component| (*component).to_owned()).collect(),
            signed_by: signed_by.to_owned(),
        }
    }

    #[test]
    fn one_line_style_with_options_comments_and_source_packages() {
        let text = "# deb http://no.example.org/debian trixie main\n\
                    deb [ arch=amd64 signed-by=/k.gpg ] http://mirror.example.org/debian trixie main contrib # ours\n\
                    deb-src http://mirror.example.org/debian trixie main\n\
                    deb\thttp://mirror.example.org/debian-security\ttrixie-security\tmain\n\
                    deb broken";
        let expected = [
            source("http://mirror.example.org/debian", "trixie", &["main", "contrib"], "/k.gpg"),
            source("http://mirror.example.org/debian-security", "trixie-security", &["main"], ""),
        ];
        assert_eq!(parse_list(text), expected);
    }

    #[test]
    fn deb822_style_with_comments_continuations_and_disabled_paragraphs() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example.org/debian\nSuites: trixie\n trixie-updates\n\
                    Components: main\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://off.example.org/debian\nSuites: trixie\nComponents: main\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://src.example.org/debian\nSuites: trixie\nComponents: main\n";
        let expected = [
            source("http://mirror.example.org/debian", "trixie", &["main"], "/k.gpg"),
            source("http://mirror.example.org/debian", "trixie-updates", &["main"], "/k.gpg"),
        ];
        assert_eq!(parse_deb822(text), expected);
    }

    #[test]
    fn a_folder_is_read_in_order_and_mirror_lists_are_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let mirrors = folder.path().join("debian.mirrors");
        fs::write(&mirrors, "# ours\nhttp://listed.example.org/debian\tpriority:1\n").unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("sources.list", "deb http://first.example.org/debian trixie main".to_owned());
        let listed = format!("Types: deb\nURIs: mirror+file://{}\nSuites: trixie\nComponents: main", mirrors.display());
        write("sources.list.d/b.sources", listed);
        write("sources.list.d/a.list", "deb cdrom:[Debian]/ trixie main".to_owned());
        write("sources.list.d/c.save", "deb http://old.example.org/debian trixie main".to_owned());
        let uris: Vec<_> = read_sources(folder.path()).unwrap().into_iter().map(|source| source.uri).collect();
        assert_eq!(uris, ["http://first.example.org/debian", "http://listed.example.org/debian"]);
    }

    #[test]
    fn a_host_without_apt_has_no_sources() {
        assert_eq!(read_sources(Path::new("/nonexistent")).unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(deb|Types:|URIs:|[\\[\\]# :\\n\\t/a-z])*", other in any::<String>()) {
            for text in [&text, &other] {
                for source in parse_list(text).into_iter().chain(parse_deb822(text)) {
                    prop_assert!(!source.uri.contains(char::is_whitespace) && !source.suite.is_empty());
                }
            }
        }
    }
}
