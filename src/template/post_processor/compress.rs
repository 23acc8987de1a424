//! The `compress` post-processor.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Own, output};
use crate::error::Problem;
use crate::template::fields::{Fields, Reader};
use crate::template::nearest::suggestion;
use crate::template::scalar::Expected;

/// Makes one file of the artifact.
#[derive(Debug, Clone, Serialize)]
pub struct Compress {
    /// The file.
    pub output: String,
    /// What it is.
    pub format: Format,
    /// How hard it tries; none is the format's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
}

/// A format of a file: what holds the artifact, and how that is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What holds the artifact's files.
    pub archive: Archive,
    /// How that is compressed.
    pub compression: Compression,
}

/// What holds the artifact's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// Nothing: there is one file.
    None,
    /// tar.
    Tar,
    /// ZIP, which compresses by itself.
    Zip,
}

/// How data are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// gzip in blocks that can be read from any of them (SAM specification, section 4.1).
    Bgzf,
    /// LZ4 frames.
    Lz4,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Endings with what they stand for; the first of a compression is what it is called.
const COMPRESSIONS: [(&str, Compression); 9] = [
    ("gz", Compression::Gzip),
    ("bgzf", Compression::Bgzf),
    ("lz4", Compression::Lz4),
    ("xz", Compression::Xz),
    ("bz2", Compression::Bzip2),
    ("bzip2", Compression::Bzip2),
    ("zst", Compression::Zstd),
    ("zstd", Compression::Zstd),
    ("", Compression::None),
];

impl Format {
    /// What Packer makes where nothing says what.
    const DEFAULT: Self = Self { archive: Archive::Tar, compression: Compression::Gzip };

    /// The format of that name: `gz`, `tar`, `tar.gz`, `zip` …
    fn named(name: &str) -> Option<Self> {
        let compression = |name: &str| COMPRESSIONS.iter().find(|(known, _)| *known == name).map(|(_, found)| *found);
        Some(match name {
            "zip" => Self { archive: Archive::Zip, compression: Compression::None },
            "tar" => Self { archive: Archive::Tar, compression: Compression::None },
            "tgz" => Self::DEFAULT,
            "" => return None,
            name => match name.strip_prefix("tar.") {
                Some("") => return None,
                Some(name) => Self { archive: Archive::Tar, compression: compression(name)? },
                None => Self { archive: Archive::None, compression: compression(name)? },
            },
        })
    }

    /// The names that there are.
    pub(crate) fn names() -> Vec<&'static str> {
        vec![
            "gz",
            "bgzf",
            "lz4",
            "xz",
            "bz2",
            "bzip2",
            "zst",
            "zstd",
            "zip",
            "tar",
            "tgz",
            "tar.gz",
            "tar.bgzf",
            "tar.lz4",
            "tar.xz",
            "tar.bz2",
            "tar.bzip2",
            "tar.zst",
            "tar.zstd",
        ]
    }

    /// The format that the end of a file's name says; none where it says nothing.
    fn of_name(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let (stem, last) = name.rsplit_once('.')?;
        let is_tar = stem.rsplit_once('.').is_some_and(|(_, before)| before == "tar");
        Self::named(&if is_tar { format!("tar.{last}") } else { last.to_owned() }).or_else(|| Self::named(last))
    }

    /// The same in an archive.
    pub(super) fn as_archive(self) -> Self {
        Self { archive: Archive::Tar, ..self }
    }

    /// The highest level.
    fn highest(self) -> u32 {
        if self.compression == Compression::Zstd { 22 } else { 9 }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = COMPRESSIONS.iter().find(|(_, known)| *known == self.compression).map_or("", |(name, _)| name);
        match (self.archive, name) {
            (Archive::Zip, _) => f.write_str("zip"),
            (Archive::Tar, "") => f.write_str("tar"),
            (Archive::Tar, name) => write!(f, "tar.{name}"),
            (Archive::None, name) => f.write_str(name),
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>, own: Own<'_>) -> Option<Compress> {
    let (output, format, level) = (fields.get("output"), fields.get("format"), fields.get("compression_level"));
    fields.finish_as(own.table, reader.problems);
    let format = reader.optional(format, |reader, node| {
        let name = reader.public(node)?;
        let found = Format::named(&name);
        if found.is_none() {
            let problem = Problem::at(node.location(), format!("unknown format `{name}`"));
            reader.problems.add(match suggestion(&name, Format::names()) {
                Some(hint) => problem.hint(hint),
                None => problem.hint(format!("known are {}", Format::names().join(", "))),
            });
        }
        found
    });
    let level = reader.optional(level, |reader, node| reader.parse(node, self::level));
    let default =
        format!("packer_{{{{.BuildName}}}}_{{{{.BuilderType}}}}.{}", format.flatten().unwrap_or(Format::DEFAULT));
    let output = output::read(reader, (output, &default), own.node, &[])?;
    let format = format?.or_else(|| Format::of_name(&output)).unwrap_or(Format::DEFAULT);
    let level = level?.and_then(|level| u32::try_from(level).ok()).filter(|level| *level > 0);
    let level = level.map(|level| level.min(format.highest()));
    Some(Compress { output, format, level })
}

fn level(text: &str) -> Result<i64, Expected> {
    let expected =
        Expected { what: "a level", hint: "write a number from 1 (fast) to 9 (small), or -1 for the default" };
    text.trim().parse().ok().filter(|level| *level >= -1).ok_or(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_names_that_they_are_known_by() {
        for name in Format::names() {
            let format = Format::named(name).unwrap();
            assert_eq!(Format::named(&format.to_string()), Some(format), "{name}");
        }
        for name in ["", "tar.", "7z", "tar.7z", "tar.tar", "tar.zip"] {
            assert_eq!(Format::named(name), None, "{name}");
        }
    }

    #[test]
    fn the_end_of_a_name_says_the_format() {
        for (name, expected) in [
            ("x.gz", "gz"),
            ("a.b/x.tar.xz", "tar.xz"),
            ("x.qcow2.zst", "zst"),
            ("x.zip", "zip"),
            ("x.tar", "tar"),
            ("x.tgz", "tar.gz"),
        ] {
            assert_eq!(Format::of_name(name).unwrap().to_string(), expected);
        }
        assert_eq!((Format::of_name("x"), Format::of_name("a.gz/x"), Format::of_name("x.qcow2")), (None, None, None));
    }
}
