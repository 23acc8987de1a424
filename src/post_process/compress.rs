//! The `compress` post-processor: one file of the artifact, in formats that the ordinary programs read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::background::{self, Meter};
use super::codec::Encoder;
use super::new_file::{Place, failed};
use super::{Given, Outcome};
use crate::error::{Error, Result};
use crate::template::post_processor::{Archive, Compress};

pub(super) async fn run(given: &Given<'_>, compress: &Compress) -> Result<Outcome> {
    let files = given.artifact.files.clone();
    check(&files, compress)?;
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let place = Place::new(given.image, &compress.output)?;
    let file = place.create()?;
    let (how, path) = (compress.clone(), place.path.clone());
    background::run(given, total, move |meter| write(file, &files, &how, (&path, meter))).await?;
    let path = place.publish()?;
    Ok(Outcome { outputs: vec![path.clone()], artifact: Some(vec![path]), holds: None })
}

/// What the manifest alone could not tell.
fn check(files: &[PathBuf], compress: &Compress) -> Result<()> {
    if files.len() > 1 && compress.format.archive == Archive::None {
        return Err(Error::build(format!("`{}` is no archive, and there are {} files", compress.format, files.len())));
    }
    let mut names = BTreeSet::new();
    match files.iter().find(|file| !names.insert(file.file_name())) {
        Some(file) => Err(Error::build(format!("two files of the archive would be called {}", name(file)))),
        None => Ok(()),
    }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn write(file: File, files: &[PathBuf], how: &Compress, (path, meter): (&Path, &Meter)) -> Result<()> {
    let format = how.format;
    let written = |error: io::Error| failed(path, error);
    match format.archive {
        Archive::Zip => return zip(file, files, how.level, (path, meter)),
        Archive::Tar => {
            let mut tar = tar::Builder::new(Encoder::new(file, format.compression, how.level));
            for source in files {
                entry(&mut tar, source, meter)?;
            }
            tar.into_inner().and_then(Encoder::finish).map_err(written)?;
        }
        Archive::None => {
            let mut encoder = Encoder::new(file, format.compression, how.level);
            for source in files {
                let opened = File::open(source).map_err(|error| failed(source, error))?;
                io::copy(&mut meter.count(opened), &mut encoder).map_err(written)?;
            }
            encoder.finish().map_err(written)?;
        }
    }
    Ok(())
}

/// Adds a file to a tar archive, without owner and with the mode that others may read.
fn entry<W: Write>(tar: &mut tar::Builder<W>, source: &Path, meter: &Meter) -> Result<()> {
    let fail = |error| failed(source, error);
    let file = File::open(source).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut header = tar::Header::new_gnu();
    header.set_size(metadata.len());
    header.set_mode(0o644);
    header.set_mtime(modified.unwrap_or_default().as_secs());
    tar.append_data(&mut header, name(source), meter.count(file)).map_err(fail)
}

fn zip(file: File, files: &[PathBuf], level: Option<u32>, (path, meter): (&Path, &Meter)) -> Result<()> {
    let failed_zip = |error: zip::result::ZipError| failed(path, error.into());
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for source in files {
        let fail = |error| failed(source, error);
        let opened = File::open(source).map_err(fail)?;
        let size = opened.metadata().map_err(fail)?.len();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(level.map(i64::from))
            .unix_permissions(0o644)
            // What deflate cannot make smaller is a little larger.
            .large_file(size > u64::from(u32::MAX) / 2);
        zip.start_file(name(source), options).map_err(failed_zip)?;
        io::copy(&mut meter.count(opened), &mut zip).map_err(|error| failed(path, error))?;
    }
    let mut file = zip.finish().map_err(failed_zip)?;
    file.flush().map_err(|error| failed(path, error))
}
