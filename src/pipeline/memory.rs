//! The memory of a checkpoint's guest: where it is kept, and where it may be used again.

use std::fs;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::cache::{self, Layer, SavedMemory};
use crate::error::{Context as _, Error, Kind, Result};
use crate::guest::Key;
use crate::machine::qmp::Version;
use crate::machine::{Accelerator, Config, Firmware, Running, memory};
use crate::plan::Fingerprint;

use super::{CheckpointMemory, Settings};

/// A guest that can go on.
pub(super) struct Restorable {
    /// Its memory.
    pub file: PathBuf,
    /// What it lets in.
    pub key: Key,
    /// The machine that it ran on, and what the file must be.
    saved: SavedMemory,
}

impl Restorable {
    /// The guest of a checkpoint, if its memory was kept for this machine.
    ///
    /// # Errors
    /// Its key cannot be read.
    pub(super) fn of(checkpoint: &Layer) -> Result<Option<Self>> {
        let (file, key) = checkpoint.memory();
        let saved = checkpoint.info.guest.as_ref().and_then(|guest| guest.memory.clone());
        match saved {
            Some(saved) if file.exists() && key.exists() => Ok(Some(Self { file, key: Key::read(&key)?, saved })),
            _ => Ok(None),
        }
    }

    /// Lets the guest go on, in a machine that waits for it.
    ///
    /// # Errors
    /// It ran on another machine, its file is not what it was, or QEMU refuses.
    pub(super) async fn load(&self, config: &Config, running: &Running, cancel: &CancellationToken) -> Result<()> {
        if self.saved.machine != machine(config, running.version()) {
            return Err(Error::build(format!(
                "it is of another machine than this one of QEMU {}: other arguments, another version or another processor",
                running.version().text
            )));
        }
        if digest(&self.file).await? != self.saved.blake3 {
            return Err(Error::build(format!("{} is not what was written there", self.file.display())));
        }
        running.load_memory(&self.file, cancel).await
    }
}

/// BLAKE3 of a memory's file, which is large, hexadecimal.
///
/// # Errors
/// It cannot be read (kind host).
pub(super) async fn digest(file: &Path) -> Result<String> {
    let path = file.to_owned();
    let read = || format!("reading {}", file.display());
    let digest = tokio::task::spawn_blocking(move || cache::digest(&path)).await.context(Kind::Host, read)?;
    digest.context(Kind::Host, read)
}

/// Whether the memory of a machine is kept with its checkpoints. The state of firmware variables, a TPM and additional
/// disks is in files of their own, which are not.
pub(super) fn is_kept(settings: &Settings, config: &Config) -> bool {
    settings.checkpoint_memory == CheckpointMemory::Auto
        && config.tpm.is_none()
        && config.drives.is_empty()
        && !matches!(config.firmware, Firmware::Uefi { .. })
}

/// Names the machine that a memory fits: QEMU's version and arguments, and under KVM the host's processor.
pub(super) fn machine(config: &Config, version: &Version) -> String {
    let cpuinfo = match config.accelerator {
        Accelerator::Kvm => fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        Accelerator::Tcg => String::new(),
    };
    Fingerprint::of("machine", &(&version.text, config.identity(), processor(&cpuinfo))).to_string()
}

/// Whether this QEMU can write the memory to a file.
pub(super) fn can_be_written(version: &Version) -> bool {
    version.number >= memory::FIRST_QEMU
}

/// What of proc_pid_cpuinfo(5) says what a processor can do.
fn processor(cpuinfo: &str) -> Vec<&str> {
    let first = cpuinfo.lines().take_while(|line| !line.is_empty());
    let wanted = ["vendor_id", "model name", "stepping", "microcode", "flags"];
    first.filter(|line| wanted.contains(&line.split(':').next().unwrap_or_default().trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: (u64, u64) = (10, 0);

    fn version(text: &str) -> Version {
        Version { number: VERSION, text: text.to_owned() }
    }

    #[test]
    fn a_machine_is_known_by_what_it_is_and_not_by_where_its_files_are() {
        let config = Config::new("x", Accelerator::Tcg, "/one/disk.qcow2");
        let elsewhere = Config { disk: "/other/disk.qcow2".into(), waits_for_memory: true, ..config.clone() };
        let name = machine(&config, &version("10.0.2"));
        assert_eq!(name, machine(&elsewhere, &version("10.0.2")));
        assert_ne!(name, machine(&config, &version("10.0.3")));
        assert_ne!(name, machine(&Config { memory: 4096, ..config.clone() }, &version("10.0.2")));
        assert_ne!(name, machine(&Config { cpu_model: Some("qemu64".into()), ..config }, &version("10.0.2")));
    }

    #[test]
    fn a_processor_is_known_by_model_and_flags() {
        let text =
            "processor\t: 0\nvendor_id\t: A\nmodel name\t: M\ncpu MHz\t\t: 1\nflags\t\t: fpu\n\nprocessor\t: 1\n";
        assert_eq!(processor(text), ["vendor_id\t: A", "model name\t: M", "flags\t\t: fpu"]);
    }
}
