//! Options of `visabuild packme`: packme's own.

use std::path::PathBuf;

use clap::Args;

pub(super) const HELP: &str = "\
Options are those of packme 0.8.0. For each selected template manifest.json is written, and kept with
and without -d. With -r they are then built, parents first, by visabuild instead of Packer; one that
has a folder builds/ is left out. The image is builds/TEMPLATE/TEMPLATE.qcow2 and, under packme's name,
templates/TEMPLATE/builds/TEMPLATE-TYPE.iso. docs/packme.md lists what differs from packme.
Exit codes: those of `visabuild build`.";

/// Options of `packme`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub struct PackmeArgs {
    /// Input file that says which templates there are (config.yml); without it nothing is written
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Templates to take; `*` means all
    #[arg(short, long, value_name = "TEMPLATE", num_args = 0.., default_value = "*")]
    pub selected_templates: Vec<String>,
    /// Folder of the templates [default: templates]
    #[arg(short, long, value_name = "DIR")]
    pub templates_base_dir: Option<PathBuf>,
    /// Folder of the packages [default: packages]
    #[arg(short, long, value_name = "DIR")]
    pub packages_base_dir: Option<PathBuf>,
    /// Build the templates and those they extend afterwards
    #[arg(short, long)]
    pub run: bool,
    /// First remove manifest.json, builds/ and packer_cache/ of every folder in the templates' folder; needs -t
    #[arg(short, long, requires = "templates_base_dir")]
    pub clean: bool,
    /// Keep what was written, which visabuild always does
    #[arg(short, long)]
    pub debug: bool,
    /// Milliseconds between typed keys, at least 10; visabuild types as fast as the guest shows it reads
    #[arg(short, long, value_name = "MS", default_value_t = 10)]
    pub key_rate: i64,
    /// Log what Packer does; visabuild always writes build.log
    #[arg(short, long)]
    pub log: bool,
    /// Print the version of packme whose ways these are, and visabuild's
    #[arg(short, long = "version", id = "packme_version")]
    pub version: bool,
}
