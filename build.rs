//! Lists the files of the projects that `visabuild init` writes, so that they are in the program itself.
//!
//! What is listed is what is in the folders, with the executable bit: a list by hand would have to be kept, and
//! `include_bytes!` knows no modes. What editors and interpreters leave there is not; a test compares with what git has.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut visa = vec![root.join("config.yml")];
    // Scripts for guests; what else is in the folder is for this repository.
    visa.extend(entries(&root.join("scripts"))?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "sh")));
    for folder in ["templates", "packages"] {
        add_files(&root.join(folder), &mut visa)?;
    }
    let minimal_root = root.join("examples/minimal");
    let mut minimal = Vec::new();
    add_files(&minimal_root, &mut minimal)?;

    let mut list = String::new();
    add_list("VISA", &root, visa, &mut list)?;
    add_list("MINIMAL", &minimal_root, minimal, &mut list)?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("starter_files.rs"), list)?;
    for path in ["build.rs", "config.yml", "templates", "packages", "scripts", "examples/minimal"] {
        println!("cargo::rerun-if-changed={path}");
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_left = name.starts_with('.') || name.ends_with('~') || name == "__pycache__";
        if !is_left && !entry.file_type()?.is_symlink() {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn add_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            add_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// A constant with the files, by path.
fn add_list(name: &str, root: &Path, mut files: Vec<PathBuf>, list: &mut String) -> Result<()> {
    files.sort();
    writeln!(list, "const {name}: &[File] = &[")?;
    for file in files {
        let path = file.strip_prefix(root)?.to_str().ok_or("a path is not UTF-8")?;
        let is_executable = fs::metadata(&file)?.permissions().mode() & 0o100 != 0;
        let whole = file.to_str().ok_or("a path is not UTF-8")?;
        writeln!(
            list,
            "    File {{ path: {path:?}, is_executable: {is_executable}, content: include_bytes!({whole:?}) }},"
        )?;
    }
    writeln!(list, "];")?;
    Ok(())
}
