//! How a finished qcow2 is compressed.

use std::fmt;
use std::str::FromStr;

/// Compression of a qcow2's clusters (QEMU's docs/interop/qcow2.txt, "Compression type").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Read by QEMU 5.1 and newer.
    Zstd,
    /// Read by every QEMU.
    Zlib,
}

impl Compression {
    /// Its name in `qemu-img convert -o compression_type=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Zlib => "zlib",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "zstd" => Ok(Self::Zstd),
            "zlib" => Ok(Self::Zlib),
            _ => Err("expected `zstd` or `zlib`".to_owned()),
        }
    }
}
