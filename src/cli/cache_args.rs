//! Options of `visabuild cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do with it
    #[command(subcommand)]
    pub command: CacheCommand,
}

const GC_HELP: &str = "\
Without an option, only what nothing can use any more is removed: layers whose parent was replaced,
files that no record names, working folders of killed builds, old locks. Each of --older-than,
--max-size, --unreachable and --all alone is a reason to remove more. Never removed is what a running
build uses, what --on-error keep has kept (but with --kept), what the projects of -C need, and
whatever one of these lies on. Images in builds/ are flat and never touched.
Exit codes: 0 done; 2 the call or a project is wrong; 3 another visabuild collects, or a file cannot be removed.";

const VERIFY_HELP: &str = "\
Reads every base disk, layer, checkpoint and download: records, chains of backing files, qemu-img check,
and the digest that was recorded when the file was put there.
Exit codes: 0 all is whole, or was made so by --repair; 3 something is broken.";

/// What is done with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List what is in it: size, age, who uses it
    Ls(LsArgs),
    /// Throw away what is not needed
    #[command(after_help = GC_HELP)]
    Gc(GcArgs),
    /// Prove that nothing in it is broken
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
}

/// Options of `cache ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Project whose images are shown as users of what they were made from [default: .]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Vec<PathBuf>,
    /// JSON with everything that is known instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of `cache gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Remove what no build has taken for this long, such as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub older_than: Option<u64>,
    /// Remove what was used longest ago until the cache takes at most this, such as 50G or 800M (units of 1024)
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_size: Option<u64>,
    /// Remove base disks, layers and checkpoints that the project does not need
    #[arg(long)]
    pub unreachable: bool,
    /// Project whose templates' disks are kept, and those that its images were made from; may be repeated
    /// [default with --unreachable: .]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Vec<PathBuf>,
    /// Remove all that is not in use, kept or needed
    #[arg(long)]
    pub all: bool,
    /// Remove working folders that --on-error keep has kept; with --older-than, only those that are as old
    #[arg(long)]
    pub kept: bool,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Options of `cache verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Remove what is broken, with all that lies on it; the next build makes it anew
    #[arg(long)]
    pub repair: bool,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// A time, seconds.
fn time(text: &str) -> Result<u64, String> {
    humantime::parse_duration(text).map(|time| time.as_secs()).map_err(|error| format!("{error}, such as 30d or 12h"))
}

/// A size with qemu-img's suffixes, bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "not a size, such as 50G or 800M".to_owned();
    let text = text.trim();
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text[number.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1_u64,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * unit as f64;
    // All sizes below are exact enough; a negative or endless one is none.
    if (0.0..=9.0e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_understood_or_refused() {
        assert_eq!(bytes("50G"), Ok(50 << 30));
        assert_eq!(bytes("1.5 MiB"), Ok(3 << 19));
        assert_eq!(bytes("7"), Ok(7));
        for wrong in ["", "G", "-1G", "infG", "1X", "NaN", "1e400", "ß"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("30d"), Ok(30 * 86400));
        assert_eq!(time("0s"), Ok(0));
        assert!(time("soon").is_err());
    }
}
