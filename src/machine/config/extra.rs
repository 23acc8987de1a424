//! Arguments of the user's own, merged with ours.
//!
//! Packer drops all of its own arguments with a switch that the user's have too, so that one `-drive`
//! takes the disk away. Here they are added, and replace ours only where QEMU takes one of a kind.

use std::ffi::{OsStr, OsString};

use super::arguments::Arguments;

/// A switch with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// With its dash: `-device`.
    pub switch: String,
    /// None where it has none.
    pub value: Option<String>,
}

/// Switches of which the last, or an arbitrary one, counts (qemu(1)).
const SINGLE: [&str; 13] = [
    "-accel", "-action", "-append", "-bios", "-boot", "-cpu", "-display", "-initrd", "-kernel", "-m", "-machine",
    "-name", "-smp",
];

impl Extra {
    /// The switch under the name that ours have.
    fn name(&self) -> &str {
        // QEMU takes two dashes for one.
        match self.switch.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(&self.switch) {
            "-M" => "-machine",
            name => name,
        }
    }

    fn says(&self, part: &str) -> bool {
        self.value.as_deref().is_some_and(|value| value.split(',').any(|option| option.starts_with(part)))
    }

    /// The type of machine, where this is about it.
    pub(super) fn machine_type(&self) -> Option<&str> {
        let first = self.value.as_deref().filter(|_| self.name() == "-machine")?.split(',').next()?;
        let named = first.strip_prefix("type=").unwrap_or(first);
        (!named.contains('=')).then_some(named)
    }
}

/// Merges `extra` into `arguments`; says what was replaced, a sentence each.
pub(super) fn merge(arguments: &mut Arguments, extra: &[Extra]) -> Vec<String> {
    let mut told = Vec::new();
    let ours = arguments.0.len();
    let mut taken = Vec::new();
    for one in extra {
        let name = one.name();
        let mut value = one.value.clone().map(OsString::from);
        let same = |(switch, _): &(OsString, Option<OsString>)| switch == name;
        let place = arguments.0[..ours].iter().position(same).filter(|place| !taken.contains(place));
        match place.filter(|_| SINGLE.contains(&name)) {
            Some(place) => {
                let mut old = arguments.0[place].1.clone().unwrap_or_default();
                if name == "-machine" {
                    let kept = after_type(&old);
                    old = old.to_string_lossy().strip_suffix(kept.as_str()).unwrap_or_default().into();
                    value.get_or_insert_default().push(kept);
                }
                told.push(format!("{} replaces `{name} {}`", shown(one), old.display()));
                arguments.0[place].1 = value;
                taken.push(place);
            }
            None => arguments.0.push((one.switch.clone().into(), value)),
        }
        let beside = match name {
            // QEMU takes only one of them.
            "-machine" if one.says("accel=") => Some(("-accel", None)),
            "-vga" => Some(("-device", Some(OsStr::new("VGA")))),
            _ => None,
        };
        let Some((switch, wanted)) = beside else { continue };
        let goes = |(found, value): &(OsString, Option<OsString>)| {
            found == switch && (wanted.is_none() || value.as_deref() == wanted)
        };
        if let Some(place) = arguments.0[..ours].iter().position(goes) {
            let value = arguments.0[place].1.clone().unwrap_or_default();
            told.push(format!("{} takes the place of `{switch} {}`", shown(one), value.display()));
            arguments.0[place].0.clear();
        }
    }
    arguments.0.retain(|(switch, _)| !switch.is_empty());
    told
}

/// What stands behind the type of our own machine: its firmware, without which it would not boot.
fn after_type(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    text.find(',').map(|comma| text[comma..].to_owned()).unwrap_or_default()
}

fn shown(extra: &Extra) -> String {
    match &extra.value {
        Some(value) => format!("`{} {value}` of qemuargs", extra.switch),
        None => format!("`{}` of qemuargs", extra.switch),
    }
}
