//! How large a machine may be on this host.

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
