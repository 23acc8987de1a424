//! Contracts as data.

use serde::{Deserialize, Serialize};

/// What a check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The image's files and bytes.
    Static,
    /// A booted instance.
    Boot,
    /// A connection from outside.
    Net,
    /// Power cuts, restarts, shutdowns.
    Life,
}
