//! New projects: the files are in the program itself, and are written so that nothing is lost or half there.

use clap::ValueEnum;

pub use write::write;

mod write;

include!(concat!(env!("OUT_DIR"), "/starter_files.rs"));

/// Which project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Starter {
    /// The images of VISA: a base system, the desktop, JupyterLab
    Visa,
    /// One template: a base system and a step
    Minimal,
}

/// A file of a new project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its path in the project.
    pub path: &'static str,
    /// Its owner may execute it.
    pub is_executable: bool,
    /// What it holds.
    pub content: &'static [u8],
}

impl Starter {
    /// Its files, by path.
    pub fn files(self) -> &'static [File] {
        match self {
            Self::Visa => VISA,
            Self::Minimal => MINIMAL,
        }
    }
}

/// The file that makes a folder a project; it is written when all others are there.
const CONFIG: &str = "config.yml";
