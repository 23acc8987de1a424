//! How events and errors are shown: on a terminal, as plain lines, as JSON lines, in log files.

pub use errors::{render, render_json};
pub use json::JsonLines;
pub use log::TemplateLogs;
pub use plain::PlainLines;
pub use release_note::release_note;
pub use terminal::Terminal;

mod errors;
mod json;
mod log;
mod plain;
mod release_note;
mod terminal;
pub mod verification;

/// Seconds for people: `8.3 s`, `2 min 05 s`, `1 h 02 min`.
pub fn duration(seconds: f64) -> String {
    // Only whole seconds matter above a minute, and negative or huge times do not occur.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Bytes for people, in the binary units that qemu-img uses.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.2} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        assert_eq!(duration(8.31), "8.3 s");
        assert_eq!(duration(125.2), "2 min 05 s");
        assert_eq!(duration(3720.0), "1 h 02 min");
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1_610_612_736), "1.5 GiB");
        assert_eq!(size(3 << 40), "3.00 TiB");
    }
}
