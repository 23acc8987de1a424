//! Names of users and groups, from an image's own files.

use std::collections::BTreeMap;

/// What of `/etc/passwd` and `/etc/group` is read, bytes.
pub(super) const LONGEST: usize = 4 << 20;

/// Names by number.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<u32, String>);

impl Names {
    /// Reads passwd(5) or group(5), which both have the name first and the number third. The first of
    /// several names counts, as for getpwuid(3).
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut names = BTreeMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            let mut fields = line.split(':');
            let (name, number) = (fields.next(), fields.nth(1).and_then(|number| number.parse().ok()));
            if let (Some(name), Some(number)) = (name, number) {
                names.entry(number).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    pub(super) fn of(&self, id: u32) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }
}
