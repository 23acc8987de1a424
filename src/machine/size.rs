//! How large a machine may be on this host.

use super::Accelerator;

/// Memory that a build's machine gets at least and at most, MiB, when nothing says otherwise.
const MEMORY: std::ops::RangeInclusive<u64> = 2048..=4096;

/// What of `cpus` and `memory` (MiB) is not given is sized to the host: all its CPUs, and half of
/// the memory that it has available, between 2048 and 4096 MiB.
pub fn size_to_host(cpus: Option<u32>, memory: Option<u64>) -> (u32, u64) {
    let cpus = cpus.unwrap_or_else(|| {
        std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok()).unwrap_or(1)
    });
    let memory = memory.unwrap_or_else(|| {
        memory_for(std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)).unwrap_or(0))
    });
    (cpus, memory)
}

/// How many machines of `memory` MiB each this host can run at a time, at least one: as many as it
/// has CPUs and memory for.
pub fn how_many(memory: u64) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cpus.min(how_many_fit(memory)).max(1)
}

/// How many machines of `memory` MiB each this host has memory for.
pub fn how_many_fit(memory: u64) -> usize {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)).unwrap_or(0);
    usize::try_from(available / memory.max(1)).unwrap_or(usize::MAX)
}

/// Virtual CPUs of one of `jobs` machines that run at a time: emulated ones share the host's, because more threads
/// than CPUs only wait for each other.
pub fn cpus_of_one(accelerator: Accelerator, jobs: usize) -> u32 {
    let (all, _) = size_to_host(None, Some(0));
    match accelerator {
        Accelerator::Kvm => all,
        Accelerator::Tcg => (all / u32::try_from(jobs).unwrap_or(u32::MAX).max(1)).max(1),
    }
}

fn memory_for(available: u64) -> u64 {
    (available / 2).clamp(*MEMORY.start(), *MEMORY.end())
}

/// `MemAvailable` of /proc/meminfo (proc_meminfo(5)), MiB.
fn available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_available_within_bounds() {
        for (available, expected) in [(0, 2048), (3000, 2048), (6000, 3000), (100_000, 4096)] {
            assert_eq!(memory_for(available), expected);
        }
    }

    #[test]
    fn meminfo_is_read_in_mebibytes() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:   4194304 kB\n"), Some(4096));
        assert_eq!(available("MemTotal:  9 kB\n"), None);
    }

    #[test]
    fn what_is_given_is_kept() {
        assert_eq!(size_to_host(Some(3), Some(1000)), (3, 1000));
        assert!(size_to_host(None, None).0 >= 1);
    }
}
