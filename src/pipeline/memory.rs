//! The memory of a checkpoint's guest: where it is kept, and where it may be used again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{self, Layer, SavedMemory};
use crate::error::{Context as _, Error, Kind, Result};
use crate::guest::Key;
use crate::machine::qmp::Version;
use crate::machine::{self, Accelerator, Config, Firmware, Running, memory};
use crate::plan::{Fingerprint, Stage};

use super::{CheckpointMemory, Context, Settings};

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

    /// Gives the machine the size that it had, where nothing asks for another.
    pub(super) fn resize(&self, config: &mut Config, settings: &Settings, stage: &Stage) {
        let (cpus, memory) = self.saved.size;
        let asked = (settings.insisted.cpus.or(stage.machine.cpus), settings.insisted.memory.or(stage.machine.memory));
        if cpus > 0 && asked.0.is_none() && config.topology.is_none() {
            config.cpus = cpus;
        }
        if asked.1.is_none() && memory > 0 && machine::how_many_fit(memory) > 0 {
            config.memory = memory;
        }
    }

    /// Lets the guest go on, in a machine that waits for it.
    ///
    /// # Errors
    /// It ran on another machine, its file is not what it was, or QEMU refuses.
    pub(super) async fn load(&self, context: &Context<'_>, config: &Config, running: &Running) -> Result<()> {
        if self.saved.machine != name(config, running.version(), &context.work) {
            return Err(Error::build(format!(
                "it is of another machine than this one of QEMU {}: other arguments, another version or another processor",
                running.version().text
            )));
        }
        if digest(&self.file).await? != self.saved.blake3 {
            return Err(Error::build(format!("{} is not what was written there", self.file.display())));
        }
        running.load_memory(&self.file, context.cancel).await
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

/// Names the machine that a memory fits: QEMU's version and arguments, and under KVM the host's processor. Where the
/// build's folder `work` is in the arguments is not part of it.
pub(super) fn name(config: &Config, version: &Version, work: &Path) -> String {
    let cpuinfo = match config.accelerator {
        Accelerator::Kvm => fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        Accelerator::Tcg => String::new(),
    };
    let work = work.to_string_lossy();
    let arguments: Vec<String> = config.identity().iter().map(|argument| argument.replace(&*work, "")).collect();
    Fingerprint::of("machine", &(&version.text, arguments, processor(&cpuinfo))).to_string()
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
    use crate::machine::Extra;

    const VERSION: (u64, u64) = (10, 0);

    fn version(text: &str) -> Version {
        Version { number: VERSION, text: text.to_owned() }
    }

    #[test]
    fn a_machine_is_known_by_what_it_is_and_not_by_where_its_files_are() {
        let config = Config::new("x", Accelerator::Tcg, "/one/disk.qcow2");
        let elsewhere = Config { disk: "/other/disk.qcow2".into(), waits_for_memory: true, ..config.clone() };
        let named = |config: &Config, number: &str, work: &str| name(config, &version(number), Path::new(work));
        let name = named(&config, "10.0.2", "/one");
        assert_eq!(name, named(&elsewhere, "10.0.2", "/one"));
        assert_ne!(name, named(&config, "10.0.3", "/one"));
        assert_ne!(name, named(&Config { memory: 4096, ..config.clone() }, "10.0.2", "/one"));
        assert_ne!(name, named(&Config { cpu_model: Some("qemu64".into()), ..config.clone() }, "10.0.2", "/one"));
        let with = |value: &str| {
            let extra = vec![Extra { switch: "-fw_cfg".into(), value: Some(value.into()) }];
            Config { extra, ..config.clone() }
        };
        assert_eq!(named(&with("file=/one/a"), "10.0.2", "/one"), named(&with("file=/two/a"), "10.0.2", "/two"));
        assert_ne!(named(&with("file=/one/a"), "10.0.2", "/one"), named(&with("file=/two/b"), "10.0.2", "/two"));
    }

    #[test]
    fn a_processor_is_known_by_model_and_flags() {
        let text =
            "processor\t: 0\nvendor_id\t: A\nmodel name\t: M\ncpu MHz\t\t: 1\nflags\t\t: fpu\n\nprocessor\t: 1\n";
        assert_eq!(processor(text), ["vendor_id\t: A", "model name\t: M", "flags\t\t: fpu"]);
    }
}
