//! Boot commands.

use visabuild::boot_command::{BootCommand, Values};

/// Each line is a string of the list. What is parsed is the same when it is written and parsed again, and every fault
/// has a place that is there.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let strings: Vec<&str> = text.split('\n').collect();
    match BootCommand::parse(&strings) {
        Ok(command) => {
            let written = command.to_strings();
            let again = BootCommand::parse(&written).map(|again| again.to_strings());
            assert_eq!(again.as_ref(), Ok(&written), "of {strings:?}");
            let _ = command.bind(&Values::default());
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                let length = strings.get(fault.string).map(|string| string.chars().count());
                assert!(
                    length.is_some_and(|length| (1..=length + 1).contains(&fault.column)),
                    "{fault} of {strings:?}"
                );
            }
        }
    }
}
