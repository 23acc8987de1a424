//! What boots the guests of a build.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What boots a guest (`--engine`). It does not shape the result: layers of both may lie on each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A virtual machine: works everywhere, slow without KVM
    #[default]
    Qemu,
    /// A systemd-nspawn container on the same disk: the host's full speed without KVM; needs root
    Nspawn,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "qemu",
            Self::Nspawn => "nspawn",
        })
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "qemu" => Ok(Self::Qemu),
            "nspawn" => Ok(Self::Nspawn),
            _ => Err(format!("`{text}` is not an engine (qemu, nspawn)")),
        }
    }
}
